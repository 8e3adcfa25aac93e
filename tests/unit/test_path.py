# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Where the firewall leads a new connection: which rule it meets, held against a plain reading of the declaration."""

from __future__ import annotations

import ipaddress
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
from _mwan.rules import DAY, DSCP, Rule
from hypothesis import given
from hypothesis import strategies as st
from unit.test_explain import surroundings
from unit.worlds import TWO_LINKS, facts

USERS, GROUPS = {"proxy": 13, "backup": 34}, {"proxy": 13, "staff": 50}
CGROUPS = {"system.slice": 3, "system.slice/squid.service": 7}
SETS = [
    {"name": "games", "networks": ["7.7.7.0/28", "9.9.0.0/16"]},
    {"name": "lists", "files": ["/etc/nets"]},
    {"name": "others", "external": True},
]
SETS_NAMED: dict[str, tuple[str, ...]] = {
    "games": ("7.7.7.0/28", "9.9.0.0/16"),
    "lists": ("7.7.7.64/26",),
    "others": (),
}
AHEAD = 90  # minutes of local time
HOST = HostFacts(USERS, GROUPS, CGROUPS, {"/etc/nets": "7.7.7.64/26 # one\n"}, AHEAD)
MACS = ("02:00:00:00:00:11", "02:00:00:00:00:12")
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


# a plain reading


def meets(rule: Rule, asked: Mapping[str, Any]) -> bool:
    """Whether a rule is for a connection, read off the rule as it is declared."""
    own = "source" not in asked or bool(asked.get("local"))
    if (own and (rule.mac or rule.device not in (None, "lo"))) or (not own and rule.device == "lo"):
        return False
    wanted = {
        "source": lambda: _in(asked.get("source"), rule.source),
        "destination": lambda: _in(asked["destination"], rule.destination),
        "device": lambda: own or rule.device == "lan0",
        "protocol": lambda: rule.protocol == asked.get("protocol"),
        "source_port": lambda: _between(asked.get("source_port"), rule.source_port),
        "destination_port": lambda: _between(asked.get("destination_port"), rule.destination_port),
        "dscp": lambda: rule.dscp == DSCP[asked.get("dscp", "cs0")],
        "mac": lambda: rule.mac == asked.get("mac"),
        "mark": lambda: rule.mark is not None and int(asked.get("mark", "0"), 0) & rule.mark[1] == rule.mark[0],
        "time": lambda: _at(rule, asked.get("at")),
        "user": lambda: own and rule.user == asked.get("user"),
        "group": lambda: own and rule.group == asked.get("group"),
        "cgroup": lambda: own and f"{asked.get('cgroup')}/".startswith(f"{rule.cgroup}/"),
    }
    return all(holds() for name, holds in wanted.items() if getattr(rule, name) not in (None, ()))


def _in(address: str | None, listed: tuple[str, ...]) -> bool:
    networks = [net for item in listed for net in (SETS_NAMED[item[1:]] if item[0] == "@" else (item,))]
    return address is not None and any(ipaddress.ip_address(address) in ipaddress.ip_network(net) for net in networks)


def _between(port: int | None, ranges: tuple[tuple[int, int], ...]) -> bool:
    return port is not None and any(low <= port <= high for low, high in ranges)


def _at(rule: Rule, at: str | None) -> bool:
    """2026-11-02 is a Monday."""
    if at is None or rule.time is None:
        return False
    day, minute = int(at[8:10]) - 2, int(at[11:13]) * 60 + int(at[14:16])
    low, high = rule.time.hours or (0, DAY)
    began = (day - 1) % 7 if rule.time.hours and high <= low and minute < high else day
    inside = low <= minute < high if low < high else minute >= low or minute < high
    return inside and (not rule.time.days or began in rule.time.days)


# random declarations and connections

SOURCES = ("192.168.101.1", "192.168.101.70", "192.168.101.200")
matches = st.fixed_dictionaries({}, optional={
    "source": st.sampled_from(("192.168.101.0/26", ["192.168.101.1", "192.168.101.64/26"], "5.5.5.5", "@others")),
    "destination": st.sampled_from(("7.7.7.0/29", "@games", "@lists", ["8.0.0.0/8", "9.9.9.9"])),
    "device": st.sampled_from(("lan0", "lo", "wan1")),
    "dscp": st.sampled_from(("ef", "cs0", 8)),
    "mark": st.sampled_from(("0x10000/0xff0000", "0x20001/0xff00ff")),
    "time": st.sampled_from(({"days": ["mon", "sat"]}, {"hours": "08:00-18:00"}, {"hours": "22:30-06:15"},
                             {"days": ["sun"], "hours": "22:00-02:00"})),
})  # fmt: skip
ports = st.fixed_dictionaries({}, optional={
    "protocol": st.sampled_from(("tcp", "udp")),
    "destination_port": st.sampled_from(("443", "80,443,5000-6000", "1-1023")),
    "source_port": st.sampled_from(("1024-40000", "40001")),
}).map(lambda found: {"protocol": "tcp", **found} if found else {})  # fmt: skip
sides = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"mac": st.sampled_from(MACS)}),
    st.fixed_dictionaries({}, optional={"user": st.sampled_from(("proxy", "backup")), "group": st.just("staff"),
                                        "cgroup": st.sampled_from(tuple(CGROUPS))}),
)  # fmt: skip


@st.composite
def rules(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = []
    for number in range(draw(st.integers(0, 6))):
        wanted = {**draw(matches), **draw(ports), **draw(sides)}
        clash = wanted.get("device") == ("lo" if "mac" in wanted else wanted.get("device"))
        if wanted.keys() & {"mac", "user", "group", "cgroup"} and clash:
            wanted.pop("device", None)
        found.append({"name": f"rule{number}", **wanted, **draw(st.sampled_from(TARGETS))})
    return found


@st.composite
def connections(draw: st.DrawFn) -> dict[str, Any]:
    forwarded = draw(st.booleans())
    asked: dict[str, Any] = {"destination": draw(st.sampled_from(("7.7.7.7", "7.7.7.70", "8.8.8.8", "9.9.9.9")))}
    asked |= draw(st.fixed_dictionaries({}, optional={
        "dscp": st.sampled_from(("ef", "cs1")), "mark": st.sampled_from(("0x10000", "0x110055", "0x20001")),
        "protocol": st.sampled_from(("tcp", "udp", "icmp")),
    }))  # fmt: skip
    day, hour, minute = draw(st.integers(2, 8)), draw(st.integers(0, 23)), draw(st.sampled_from((0, 14, 15, 30, 59)))
    asked["at"] = f"2026-11-{day:02} {hour:02}:{minute:02}"
    if asked.get("protocol") in ("tcp", "udp"):
        asked["destination_port"] = draw(st.sampled_from((22, 443, 5060)))
        asked["source_port"] = draw(st.sampled_from((40000, 40001)))
    if forwarded:
        return {**asked, "source": draw(st.sampled_from(SOURCES)), "mac": draw(st.sampled_from(MACS))}
    owner = draw(st.fixed_dictionaries({}, optional={
        "user": st.sampled_from(("proxy", "backup")), "group": st.sampled_from(("proxy", "staff")),
        "cgroup": st.sampled_from(("system.slice/squid.service", "system.slice/cron.service", "user.slice")),
    }))  # fmt: skip
    return {**asked, "source": "5.5.5.5", "local": True, **owner}


@given(rules(), connections())
def test_the_first_rule_that_reads_as_matching_is_met(wish: list[dict[str, Any]], asked: dict[str, Any]) -> None:
    seen = view({"rules": wish})
    declared = seen.document.rules
    answer = ask(seen, asked)
    naive = next((rule for rule in declared if meets(rule, asked)), None)
    met = [step["name"] for step in answer["classified"] if step["matches"]]
    assert met == ([naive.name] if naive else [])
    assert [step["name"] for step in answer["classified"]] == [
        rule.name for rule in declared[: declared.index(naive) + 1 if naive else None] if on_side(rule, asked)
    ]
    if naive and "local" not in asked:
        assert answer["rule"]["position"] == declared.index(naive) + 1
        check_target(naive, answer)


def on_side(rule: Rule, asked: Mapping[str, Any]) -> bool:
    return rule.own if "local" in asked else rule.forwarded


@given(rules(), connections())
def test_what_the_router_itself_sends_without_an_address_follows_the_first_rule(
    wish: list[dict[str, Any]], asked: dict[str, Any]
) -> None:
    """But for what is refused before a rule that takes the firewall could be asked."""
    unbound = {**asked, "local": True, "source": None, "mac": None}
    seen = view({"rules": [{key: value for key, value in rule.items() if key != "source"} for rule in wish]})
    naive = next((rule for rule in seen.document.rules if meets(rule, unbound)), None)
    answer = ask(seen, unbound)
    if answer["outcome"] == "unreachable" and not answer["classified"]:
        naive = next(rule for rule in seen.document.routed_rules() if meets(rule, unbound))
        assert naive.target == "unreachable"
    assert answer["rule"] == (told(seen, naive) if naive else None)
    if naive:
        check_target(naive, answer)


def told(seen: View, rule: Rule) -> dict[str, Any]:
    where = {key: value for key, value in rule.dump().items() if key in Rule.WHERE}
    return {"name": rule.name, "position": seen.document.rules.index(rule) + 1, "target": where}


def check_target(rule: Rule, answer: Mapping[str, Any]) -> None:
    if rule.link:
        assert shares(answer) == {rule.link: 1.0}
    elif rule.policy:
        assert answer["policy"] == rule.policy
        assert sum(shares(answer).values()) == pytest.approx(1)
    else:
        assert answer["outcome"] == ("unreachable" if rule.target == "unreachable" else "forwarded")
        assert shares(answer) == ({None: 1.0} if rule.target == "main" else {})


# the answer


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
