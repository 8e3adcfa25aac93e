# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Which rule a new connection meets, held against a plain reading of the declaration."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

import pytest
from _mwan.explain import View
from _mwan.rules import DAY, DSCP, Rule
from hypothesis import given
from hypothesis import strategies as st
from unit.test_path import CGROUPS, TARGETS, ask, shares, view

IN_SETS: dict[str, tuple[str, ...]] = {
    "games": ("7.7.7.0/28", "9.9.0.0/16"),
    "lists": ("7.7.7.64/26",),
    "others": (),
}
MACS = ("02:00:00:00:00:11", "02:00:00:00:00:12")


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
    networks = [net for item in listed for net in (IN_SETS[item[1:]] if item[0] == "@" else (item,))]
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
        rule.name for rule in declared[: declared.index(naive) + 1 if naive else None] if on_side(rule, asked, seen)
    ]
    if naive and "local" not in asked:
        assert answer["rule"]["position"] == declared.index(naive) + 1
        check_target(naive, answer)


def on_side(rule: Rule, asked: Mapping[str, Any], seen: View) -> bool:
    """A source that is no address of the router is not asked of what it sends itself."""
    if "local" not in asked:
        return rule.forwarded
    named = rule.source and not rule.source[0].startswith("@")
    present = [ipaddress.IPv4Address(item.address) for item in seen.facts.addresses]
    return rule.own and (
        not named or any(address in ipaddress.IPv4Network(item) for item in rule.source for address in present)
    )


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
        naive = next(rule for rule in seen.desired.routed if meets(rule, unbound))
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
