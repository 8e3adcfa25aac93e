# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Where a connection would go: shares, source addresses, and the reasons of those that take none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from _mwan.console import explain as words
from _mwan.desired import compile_state
from _mwan.document import Document
from _mwan.errors import InputError
from _mwan.explain import Question, View, explain
from _mwan.health import Health
from _mwan.kernel import LOCAL, MAIN, Facts, IpRule, Nexthop, Route, Surroundings
from unit.worlds import ADDRESSES, TWO_LINKS, facts

KERNELS_RULES = (IpRule(0, LOCAL), IpRule(32766, MAIN), IpRule(32767, 253))
THREE = {
    **TWO_LINKS,
    "links": [*TWO_LINKS["links"], {"name": "lte", "device": "ppp0"}],
    "policies": [
        {"name": "balanced", "members": [{"link": "isp_a"}, {"link": "isp_b"}, {"link": "lte", "tier": 2}]},
        {"name": "spare", "members": [{"link": "lte"}], "last_resort": "main"},
    ],
}


def surroundings(*more: Route, unclear: tuple[IpRule, ...] = ()) -> Surroundings:
    """What the kernel makes of the addresses, and other routes."""
    local = [Route(LOCAL, f"{item.address}/32", kind="local", nexthops=(Nexthop("lo"),)) for item in ADDRESSES]
    near = [Route(MAIN, item.network, nexthops=(Nexthop(item.device),)) for item in ADDRESSES if not item.peer]
    return Surroundings((*local, *near, *more), (*KERNELS_RULES, *unclear), frozenset(unclear))


def view(
    wish: Mapping[str, Any] = TWO_LINKS,
    states: Mapping[str, str] | None = None,
    machine: Facts | None = None,
    others: Surroundings | None = None,
    reasons: Mapping[str, str] | None = None,
) -> View:
    document, health, seen = Document.parse(wish), Health(states or {}), machine or facts()
    desired = compile_state(document, seen, health)
    return View(document, desired, seen, health, others or surroundings(), reasons or {})


def ask(seen: View, **asked: Any) -> dict[str, Any]:
    return explain(Question.parse({"destination": "7.7.7.7", **asked}), seen)


def shares(answer: Mapping[str, Any]) -> dict[str, float]:
    return {way["link"]: way["share"] for way in answer["ways"]}


def seen_as(answer: Mapping[str, Any]) -> dict[str, str]:
    return {way["link"]: way["seen_as"] for way in answer["ways"]}


CLIENT = {"source": "192.168.101.1"}


def test_a_client_goes_by_the_default_policy() -> None:
    answer = ask(view(), **CLIENT, destination_port=443)
    assert answer["policy"] == "balanced"
    assert answer["outcome"] == "forwarded"
    assert shares(answer) == {"isp_a": 0.75, "isp_b": 0.25}
    assert seen_as(answer) == {"isp_a": "5.5.5.5", "isp_b": "6.6.6.6"}, "source NAT, and masquerading"
    assert [way["nat"] for way in answer["ways"]] == ["snat", "masquerade"]
    assert [rule["priority"] for rule in answer["rules"] if rule["decides"]] == [1999]


def test_a_rule_that_matches_decides_and_one_that_does_not_says_why() -> None:
    voip = {**CLIENT, "protocol": "udp", "destination_port": 5060}
    assert shares(ask(view(), **{**voip, "source": "192.168.101.70"})) == {"isp_b": 1.0}
    missed = ask(view(), **voip)
    assert missed["classified"] == [
        {"name": "voip", "position": 1, "result": "asks for from 192.168.101.64/26", "matches": False}
    ]
    assert shares(missed) == {"isp_a": 0.75, "isp_b": 0.25}


@pytest.mark.parametrize(
    ("states", "machine", "taking", "reasons"),
    [
        ({}, {}, {"isp_a": 0.75, "isp_b": 0.25}, {"lte": "tier 2 serves when no link of tier 1 can"}),
        ({"isp_a": "down"}, {}, {"isp_b": 1.0}, {"isp_a": "down: it is silent"}),
        (
            {"isp_a": "drained", "isp_b": "suspect"},
            {},
            {"lte": 1.0},
            {"isp_a": "drained: it is silent", "isp_b": "suspect"},
        ),
        ({}, {"wan2": {"carrier": False}}, {"isp_a": 1.0}, {"isp_b": "wan2 has no carrier"}),
        ({}, {"wan2": {"up": False}}, {"isp_a": 1.0}, {"isp_b": "device wan2 is down"}),
    ],
)
def test_links_that_take_none_are_told_with_the_reason(
    states: dict[str, str], machine: dict[str, Any], taking: dict[str, float], reasons: dict[str, str]
) -> None:
    answer = ask(view(THREE, states, facts(**machine), reasons={"isp_a": "it is silent"}), **CLIENT)
    assert shares(answer) == taking
    assert {link: answer["passed_over"][link] for link in reasons} == reasons


def test_a_link_that_is_named_is_used_though_it_is_down_and_that_is_told() -> None:
    wish = {**TWO_LINKS, "rules": [{"name": "web", "protocol": "tcp", "destination_port": "80", "link": "isp_b"}]}
    seen = view(wish, {"isp_b": "down"}, reasons={"isp_b": "no answer"})
    answer = ask(seen, **CLIENT, destination_port=80)
    assert shares(answer) == {"isp_b": 1.0}
    assert "isp_b is down: no answer; it goes there all the same" in answer["notes"]
    assert not any("isp_b" in note for note in ask(seen, **CLIENT, destination_port=443)["notes"])


def test_a_weight_of_nothing_is_a_reason() -> None:
    members = [{"link": "isp_a"}, {"link": "isp_b", "weight": 0}]
    answer = ask(view({**TWO_LINKS, "policies": [{"name": "balanced", "members": members}]}), **CLIENT)
    assert answer["passed_over"] == {"isp_b": "its weight is 0"}


@pytest.mark.parametrize("kind", ["unreachable", "blackhole"])
def test_without_a_link_the_last_resort_answers(kind: str) -> None:
    policy = {**TWO_LINKS["policies"][0], "last_resort": kind}
    answer = ask(view({**TWO_LINKS, "policies": [policy]}, {"isp_a": "down", "isp_b": "drained"}), **CLIENT)
    assert (answer["outcome"], answer["policy"], answer["ways"]) == (kind, "balanced", [])
    assert "last resort: " + kind in "\n".join(words.lines(answer))


def test_last_resort_main_goes_on_to_the_main_table() -> None:
    wish = {**THREE, "default_policy": "spare"}
    learned = Route(MAIN, nexthops=(Nexthop("lan0", "192.168.101.200"),))
    seen = view(wish, {"lte": "down"}, others=surroundings(learned))
    answer = ask(seen, **CLIENT)
    assert [(way["link"], way["device"]) for way in answer["ways"]] == [(None, "lan0")]
    assert next(rule for rule in answer["rules"] if rule["decides"])["priority"] == 32766
    assert answer["passed_over"] == {"lte": "down"}
    assert ask(view(wish, {"lte": "down"}), **CLIENT)["outcome"] == "none"


def test_the_router_itself_is_asked_again_with_the_address_it_chose() -> None:
    answer = ask(view())
    assert answer["packet"]["device"] == "lo"
    assert seen_as(answer) == {"isp_a": "5.5.5.5", "isp_b": "6.6.6.6"}
    assert answer["notes"] == []
    # both lines have one address: its rule leads all to the first of them
    lines = [{"name": "one", "device": "ppp0"}, {"name": "two", "device": "ppp1"}]
    members = [{"link": "one"}, {"link": "two", "tier": 2}]
    same = {"links": lines, "policies": [{"name": "p", "members": members}], "default_policy": "p"}
    answer = ask(view(same, {"one": "suspect", "two": "suspect"}))
    assert list(shares(answer)) == ["one"]


def test_the_second_look_is_told_where_it_leads_elsewhere() -> None:
    foreign = Route(900, nexthops=(Nexthop("wan1", "5.5.5.1"),), source="6.6.6.6")
    others = surroundings(foreign)
    only_without_address = IpRule(900, 900, source="0.0.0.0/32")
    answer = ask(view(others=replace(others, rules=(*others.rules, only_without_address))))
    assert [(way["link"], way["source"]) for way in answer["ways"]] == [("isp_b", "6.6.6.6")]
    assert "asks again" in answer["notes"][0]
    assert "from 6.6.6.6/32 lookup mwan_isp_b" in answer["notes"][0]


def test_what_comes_in_by_a_link_is_pinned_to_it() -> None:
    answer = ask(view(), source="7.7.7.9", device="wan2", destination="192.168.101.1", destination_port=80)
    assert answer["pinned"] == "isp_b"
    assert [(way["link"], way["device"]) for way in answer["ways"]] == [(None, "lan0")]
    assert "replies leave by isp_b" in answer["notes"][0]
    near = ask(view(), source="6.6.6.9", device="wan2", destination="192.168.101.1", destination_port=80)
    assert near["pinned"] is None, "a neighbour on the link's own network is answered directly"


def test_a_shared_device_is_told_apart_by_the_gateway() -> None:
    routers = [{"name": f"r{n}", "device": "seg0", "gateway": f"192.168.100.{n}"} for n in (1, 2)]
    wish = {"links": routers, "policies": [{"name": "p", "members": [{"link": "r1"}, {"link": "r2"}]}],
            "default_policy": "p", "snat": [{"link": "r2", "source": [], "to": "192.168.100.100"}]}  # fmt: skip
    answer = ask(view(wish), **CLIENT)
    assert {way["link"]: way["gateway"] for way in answer["ways"]} == {"r1": "192.168.100.1", "r2": "192.168.100.2"}
    assert seen_as(answer) == {"r1": "192.168.101.1", "r2": "192.168.100.100"}
    assert answer["notes"][1:] == ["no source NAT of r1 is for 192.168.101.1: it leaves with this address"]
    assert "r1 or r2" in ask(view(wish), source="7.7.7.9", device="seg0", destination="192.168.101.1")["notes"][0]


def test_rules_of_others_that_cannot_be_followed_are_named() -> None:
    unclear = IpRule(500, 500, mark=0x1)
    answer = ask(view(others=surroundings(unclear=(unclear,))), **CLIENT)
    assert ("of others", "not followed") in [(rule["name"], rule["result"]) for rule in answer["rules"]]
    assert any("passed over" in note for note in answer["notes"])
    late = view(others=surroundings(unclear=(IpRule(5000, 500),)))
    assert "not followed" not in [rule["result"] for rule in ask(late, **CLIENT)["rules"]]


def test_rules_of_one_purpose_are_told_as_one() -> None:
    rules = ask(view(THREE), **CLIENT)["rules"]
    assert [(rule["name"], rule["count"]) for rule in rules if "count" in rule] == [
        ("pinned connections", 3),
        ("chosen by the firewall", 2),
        ("sent from a link's address or device", 7),
    ]
    own = ask(view(THREE), source="6.6.6.6")["rules"]
    assert own[-1]["name"] == "from an address of isp_b"


@pytest.mark.parametrize(
    ("asked", "option"),
    [
        ({"destination": "7.7.7"}, "--to"),
        ({"destination": None}, "--to"),
        ({"source": "x"}, "--from"),
        ({"source": "8.8.4.4"}, "--from"),
        ({"source": "8.8.4.4", "device": "eth9"}, "--in"),
        ({"source": "8.8.4.4", "local": True}, "--from"),
        ({"device": "lan0", "user": "proxy"}, "--in"),
        ({"mac": "02:00:00:00:00:01", "local": True}, "--mac"),
        ({"protocol": "ipx"}, "--protocol"),
        ({"protocol": "icmp", "destination_port": 8}, "--protocol"),
        ({"destination_port": "http"}, "--port"),
        ({"source_port": "70000"}, "--source-port"),
        ({"user": "nobody_here"}, "--user"),
        ({"at": "noon"}, "--at"),
        ({"dscp": "gold"}, "--dscp"),
    ],
)
def test_bad_questions_are_refused_in_the_words_of_the_command_line(asked: dict[str, Any], option: str) -> None:
    with pytest.raises(InputError) as refused:
        ask(view(), **asked)
    assert refused.value.option == option


def test_the_answer_in_words() -> None:
    text = "\n".join(words.lines(ask(view(THREE, {"isp_a": "down"}), **CLIENT, destination_port=443), 120))
    for part in (
        "from 192.168.101.1 to 7.7.7.7 (tcp to port 443), arriving on lan0",
        "1999  default policy",
        "Policy balanced, multipath, tier 1:",
        "isp_b  100 %  wan2    6.6.6.1  6.6.6.6",
        "isp_a takes none: down",
        "lte takes none: tier 2",
    ):
        assert part in text
    assert "It is for the router itself." in words.lines(ask(view(), destination="6.6.6.6"))
