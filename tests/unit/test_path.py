# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Where the firewall leads a new connection, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from _mwan.console import explain as words
from _mwan.desired import compile_state
from _mwan.document import Document
from _mwan.explain import Question, View, explain
from _mwan.hashing import bucket_of
from _mwan.health import Health
from _mwan.hostfacts import HostFacts
from _mwan.kernel import MAIN, Facts, Nexthop, Route
from unit.test_explain import surroundings
from unit.worlds import TWO_LINKS, facts

USERS, GROUPS = {"proxy": 13, "backup": 34}, {"proxy": 13, "staff": 50}
CGROUPS = {"system.slice": 3, "system.slice/squid.service": 7}
SETS = [
    {"name": "games", "networks": ["7.7.7.0/28", "9.9.0.0/16"]},
    {"name": "lists", "files": ["/etc/nets"]},
    {"name": "others", "external": True},
]
AHEAD = 90  # minutes of local time
HOST = HostFacts(USERS, GROUPS, CGROUPS, {"/etc/nets": "7.7.7.64/26 # one\n"}, AHEAD)
TARGETS = ({"link": "isp_a"}, {"link": "isp_b"}, {"policy": "balanced"}, {"policy": "turns"}, {"policy": "clients"},
           {"target": "main"}, {"target": "unreachable"})  # fmt: skip
POLICIES = [
    *TWO_LINKS["policies"],
    {"name": "turns", "algorithm": "round_robin", "members": [{"link": "isp_a"}, {"link": "isp_b"}]},
    {"name": "clients", "algorithm": "source_hash", "members": [{"link": "isp_a", "weight": 1}, {"link": "isp_b"}]},
]
CLIENT = {"source": "192.168.101.1", "destination": "7.7.7.7"}


def machine() -> Facts:
    return replace(facts(), host=HOST)


def view(wish: Mapping[str, Any], states: Mapping[str, str] | None = None, backend: str | None = None) -> View:
    declared = {**TWO_LINKS, "policies": POLICIES, "settings": {"classify": "marks"}, "sets": SETS, **wish}
    document = replace(Document.parse(declared), backend=backend)
    health, seen = Health(states or {}), machine()
    learned = Route(MAIN, nexthops=(Nexthop("lan0", "192.168.101.200"),))
    return View(document, compile_state(document, seen, health), seen, health, surroundings(learned), accounts=HOST)


def ask(seen: View, asked: Mapping[str, Any]) -> dict[str, Any]:
    return explain(Question.parse(asked), seen)


def shares(answer: Mapping[str, Any]) -> dict[str | None, float]:
    return {way["link"]: way["share"] for way in answer["ways"]}


def spread(algorithm: str, **more: Any) -> dict[str, Any]:
    members = [{"link": "isp_a", "weight": 3}, {"link": "isp_b", "weight": 1}, {"link": "lte", "tier": 2}]
    links = [*TWO_LINKS["links"], {"name": "lte", "device": "ppp0"}]
    policies = [{"name": "balanced", "algorithm": algorithm, "members": members, **more}]
    return {"links": links, "policies": policies, "rules": [], "sets": []}


@pytest.mark.parametrize("algorithm", ["random", "round_robin", "source_hash", "least_connections", "per_packet"])
def test_each_algorithm_has_the_shares_of_its_weights_and_tiers(algorithm: str) -> None:
    wish = spread(algorithm)
    answer = ask(view(wish), CLIENT)
    assert shares(answer) == {"isp_a": pytest.approx(0.75, abs=0.001), "isp_b": pytest.approx(0.25, abs=0.001)}
    assert (answer["rule"], answer["policy"], answer["algorithm"], answer["tier"]) == (None, "balanced", algorithm, 1)
    assert answer["passed_over"] == {"lte": "tier 2 serves when no link of tier 1 can"}
    assert shares(ask(view(wish, {"isp_a": "down"}), CLIENT)) == {"isp_b": 1.0}
    reserve = ask(view(wish, {"isp_a": "down", "isp_b": "drained"}), CLIENT)
    assert shares(reserve) == {"lte": 1.0}
    assert reserve["tier"] == 2
    assert reserve["passed_over"] == {"isp_a": "down", "isp_b": "drained"}
    nobody = ask(view(wish, dict.fromkeys(("isp_a", "isp_b", "lte"), "down")), CLIENT)
    assert (nobody["outcome"], nobody["ways"]) == ("unreachable", [])


@pytest.mark.parametrize("backend", ["nftables", "iptables"])
@pytest.mark.parametrize("algorithm", ["source_hash", "source_destination_hash"])
def test_a_hash_names_the_one_link_and_others_keep_their_clients(backend: str, algorithm: str) -> None:
    wish = {**spread(algorithm), "rules": [{"name": "all", "policy": "balanced"}]}
    whole, without = view(wish, {}, backend), view(wish, {"isp_a": "down"}, backend)
    found: dict[str | None, int] = {"isp_a": 0, "isp_b": 0}
    for number in range(1, 60):
        asked = {"source": f"192.168.101.{number}", "destination": "7.7.7.7"}
        answer = ask(whole, asked)
        (link, share), *others = shares(answer).items()
        assert (share, others) == (1.0, [])
        other = "isp_a" if link == "isp_b" else "isp_b"
        assert answer["passed_over"][other] == "the hash of its addresses leads to another link"
        assert shares(ask(without, asked)) == {"isp_b": 1.0}
        found[link] += 1
    assert 30 < found["isp_a"] < 55


# what a kernel (6.18) put into a set beside the addresses; seed 0x6d77616e, mod 4096
@pytest.mark.parametrize(
    ("source", "alone", "to_loopback", "to_private"),
    [
        ("192.168.101.1", 0x3F7, 0x36D, 0xB3F),
        ("10.1.2.3", 0x57C, 0x4B2, 0x89F),
        ("172.16.254.9", 0x85A, 0x2C7, 0x253),
        ("5.5.5.5", 0x8BE, 0x333, 0xAE1),
        ("100.64.0.200", 0x138, 0x904, 0xCD1),
    ],
)
def test_the_hash_of_nftables_is_the_kernels(source: str, alone: int, to_loopback: int, to_private: int) -> None:
    assert bucket_of("nftables", "source_hash", source, "9.9.9.9") == alone
    assert bucket_of("nftables", "source_destination_hash", source, "127.0.0.7") == to_loopback
    assert bucket_of("nftables", "source_destination_hash", source, "10.1.2.3") == to_private
    assert bucket_of(None, "source_hash", source, "9.9.9.9") is None


def test_sticky_clients_may_be_elsewhere() -> None:
    wish = spread("random", sticky={"timeout": 600, "by": "source_destination"})
    answer = ask(view(wish), CLIENT)
    assert answer["sticky"] == {"timeout": 600, "by": "source_destination"}
    assert any("in the last 600 s may be on another link" in note for note in answer["notes"])
    own = ask(view(wish), {"destination": "7.7.7.7"})
    assert own["sticky"] is None
    assert "what the router itself sends is spread by the multipath route of balanced" in own["notes"]


def test_packets_in_turn_keep_their_source() -> None:
    answer = ask(view(spread("per_packet")), CLIENT)
    assert {way["seen_as"] for way in answer["ways"]} == {"192.168.101.1"}
    assert any("each packet goes to the next link" in note for note in answer["notes"])


def test_what_a_rule_marks_late_gets_the_source_of_its_link() -> None:
    answer = ask(view({"rules": [{"name": "squid", "cgroup": "system.slice", "link": "isp_b"}]}),
                 {"destination": "7.7.7.7", "cgroup": "system.slice/squid.service"})  # fmt: skip
    assert shares(answer) == {"isp_b": 1.0}
    assert [way["seen_as"] for way in answer["ways"]] == ["6.6.6.6"]
    assert "source NAT mends that" in " ".join(answer["notes"])
    assert answer["rule"] == {"name": "squid", "position": 1, "target": {"link": "isp_b"}}


def test_it_also_gets_it_where_the_source_was_of_an_uplink_of_others() -> None:
    only = [TWO_LINKS["links"][1]]
    wish = {"links": only, "policies": [], "default_policy": None, "snat": [],
            "rules": [{"name": "calls", "dscp": "ef", "link": "isp_b"}]}  # fmt: skip
    learned = Route(MAIN, nexthops=(Nexthop("wan1", "5.5.5.1"),))
    seen = replace(view(wish), surroundings=surroundings(learned))
    assert [way["seen_as"] for way in ask(seen, {"destination": "7.7.7.7"})["ways"]] == ["5.5.5.5"]
    answer = ask(seen, {"destination": "7.7.7.7", "dscp": "ef"})
    assert [(way["link"], way["seen_as"]) for way in answer["ways"]] == [("isp_b", "6.6.6.6")]


@pytest.mark.parametrize(
    ("asked", "because"),
    [
        ({"destination": "5.5.5.77"}, "5.5.5.77 is this router's, or on a network that is connected to it"),
        ({"destination": "192.168.101.254"}, "192.168.101.254 is this router's, or on a network"),
        ({"mark": "0x100"}, "it has a packet mark within 0x3f00"),
        ({"source": "8.8.4.4", "device": "wan2"}, "it is pinned"),
    ],
)
def test_what_the_firewall_does_not_choose_for(asked: dict[str, Any], because: str) -> None:
    answer = ask(view({"rules": [{"name": "all", "link": "isp_b"}]}), {**CLIENT, **asked})
    assert answer["classified"] == []
    assert any(f"does not choose for it: {because}" in note for note in answer["notes"])


FORWARDS = [
    {"name": "web", "protocol": "tcp", "port": 443, "to": "192.168.101.10", "to_port": 8443, "hairpin": True},
    {"name": "many", "link": "isp_b", "protocol": "udp", "port": "6000-6003", "to": "192.168.101.11-192.168.101.12",
     "to_port": "7000-7003", "source": ["8.8.0.0/16"]},
]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "to"),
    [
        ({"source": "8.8.4.4", "device": "wan2", "destination": "6.6.6.6", "destination_port": 443},
         ("192.168.101.10", 8443, "8.8.4.4")),
        ({"source": "8.8.4.4", "device": "wan2", "destination": "6.6.6.6", "protocol": "udp", "destination_port": 6002},
         ("192.168.101.11", 7002, "8.8.4.4")),
        ({**CLIENT, "destination": "6.6.6.6", "destination_port": 443}, ("192.168.101.10", 8443, "192.168.101.254")),
        ({"source": "9.9.9.9", "device": "wan2", "destination": "6.6.6.6", "protocol": "udp", "destination_port": 6002},
         None),
        ({"source": "8.8.4.4", "device": "wan2", "destination": "6.6.6.6", "destination_port": 444}, None),
        ({**CLIENT, "destination": "6.6.6.6", "protocol": "udp", "destination_port": 6002}, None),
    ],
)  # fmt: skip
def test_port_forwards_are_followed(asked: dict[str, Any], to: tuple[str, int, str] | None) -> None:
    answer = ask(view({"dnat": FORWARDS}), asked)
    if to is None:
        assert (answer["outcome"], answer["forwarded_to"]) == ("local", None)
        return
    address, port, seen_as = to
    assert answer["forwarded_to"] == {"address": address, "port": port}
    assert [(way["device"], way["seen_as"]) for way in answer["ways"]] == [("lan0", seen_as)]
    assert f"A port forward leads it to {address}, port {port}" in words.lines(answer)
    assert any("here: the first" in note for note in answer["notes"]) == (address == "192.168.101.11")


def test_sets_of_others_are_not_known() -> None:
    answer = ask(view({"rules": [{"name": "listed", "destination": "@others", "link": "isp_b"}]}), CLIENT)
    assert answer["classified"][0]["result"] == "asks for to set others, which others fill"
    assert any("set others is filled by others" in note for note in answer["notes"])


def test_long_lists_are_not_told_in_full() -> None:
    networks = [f"10.{number}.0.0/16" for number in range(0, 12, 2)]
    answer = ask(view({"rules": [{"name": "many", "destination": networks, "link": "isp_b"}]}), CLIENT)
    assert answer["classified"][0]["result"] == "asks for to 10.0.0.0/16 or 10.2.0.0/16 or 10.4.0.0/16 or 3 more"


def test_the_answer_in_words() -> None:
    wish = {"rules": [{"name": "calls", "dscp": "ef", "policy": "clients"}, {"name": "rest", "target": "unreachable"}]}
    text = "\n".join(words.lines(ask(view(wish, backend="nftables"), {**CLIENT, "dscp": 46}), 120))
    for part in (
        "from 192.168.101.1 to 7.7.7.7 (any protocol, dscp 46), arriving on lan0",
        " 1  calls  matches",
        "Rule calls: policy clients",
        "Policy clients, source_hash, tier 1:",
        "takes none: the hash of its addresses leads to another link",
    ):
        assert part in text
    refused = "\n".join(words.lines(ask(view(wish), {**CLIENT, "mark": "0x10000"}), 120))
    assert "(any protocol, mark 0x10000)" in refused
    assert " 1  calls  asks for dscp ef\n 2  rest   matches" in refused
    assert "Rule rest: target unreachable" in refused
    own = "\n".join(words.lines(ask(view(wish), {"destination": "7.7.7.7", "user": "proxy"}), 120))
    assert "the router itself to 7.7.7.7 (any protocol, user proxy)" in own


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ({"source": "192.168.101.9", "target": "main"}, True),
        ({"group": "staff", "target": "main"}, True),
        ({"user": "proxy", "target": "main"}, False),
        ({"source": "192.168.101.9", "target": "unreachable"}, False),
    ],
)
def test_only_what_the_firewall_leaves_to_main_keeps_its_mark(rule: dict[str, Any], kept: bool) -> None:
    seen = view({"rules": [{"name": "one", **rule}]})
    wanted = seen.document.mark_of(seen.document.rules[0]) if kept else None
    assert seen.desired.firewall.classification.main == wanted
