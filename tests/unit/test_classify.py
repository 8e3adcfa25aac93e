# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""From declared rules, sets and policies to choices of the firewall, and to rules of policy routing."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import replace
from typing import Any

import pytest
from _mwan import layout, report
from _mwan.classify import QUEUES, check_files, queues
from _mwan.desired import Desired, compile_state
from _mwan.document import MOST_COMBINED, Document
from _mwan.errors import InputError
from _mwan.firewall.choices import Choice, Classification, Condition, NetworkSet, Way
from _mwan.firewall.model import SourceNat
from _mwan.health import Health
from _mwan.hostfacts import HostFacts, Wanted
from _mwan.rules import DAY, Times
from hypothesis import given
from hypothesis import strategies as st
from unit.worlds import facts

A, B, BALANCED, SPREAD, MAIN, UNREACHABLE = (number << 8 for number in range(1, 7))
HOST = HostFacts(
    users={"proxy": 13, "nobody": None, "4711": 4711},
    groups={"crew": 4713, "nogroup": None},
    cgroups={"system.slice/squid.service": 77, "gone.slice": None},
    files={"/etc/office": "198.51.100.0/25 # first half\nnonsense\n198.51.100.128/25\n", "/etc/missing": None},
)
LINKS = [
    {"name": "isp_a", "device": "wan1", "gateway": "5.5.5.1", "weight": 3},
    {"name": "isp_b", "device": "wan2", "gateway": "6.6.6.1"},
]
MEMBERS = [{"link": "isp_a"}, {"link": "isp_b"}]
IDS = {"link:isp_a": 1, "link:isp_b": 2, "policy:balanced": 3, "policy:spread": 4, "target:main": 5,
       "target:unreachable": 6}  # fmt: skip


def compiled(*rules: Any, host: HostFacts = HOST, classify: str = "marks", **more: Any) -> Desired:
    """The state for these rules, which are called r1, r2 and so on; `health` is of links."""
    health = Health(more.pop("health", {}))
    data = {
        "settings": {"classify": classify},
        "links": LINKS,
        "policies": [
            {"name": "balanced", "members": MEMBERS},
            *({"name": "spread", "members": MEMBERS, "algorithm": "random"} for _unused in range(classify == "marks")),
        ],
        "default_policy": "balanced",
        "rules": [{"name": f"r{number}", **rule} for number, rule in enumerate(rules, 1)],
        "ids": {key: number for key, number in IDS.items() if classify == "marks" or key != "policy:spread"},
        **more,
    }
    return compile_state(Document.parse(data), replace(facts(), host=host), health)


def classification(*rules: Any, **more: Any) -> Classification:
    return compiled(*rules, **more).firewall.classification


def routed(*rules: Any, **more: Any) -> list[str]:
    """The ip rules that are there because of declared ones."""
    desired = compiled(*rules, **more)
    names = {1000 + number: key.partition(":")[2] for key, number in IDS.items()}
    lines = report.rules_text(desired.state, names).splitlines()
    return [line for line in lines if 1002 <= int(line.split(":")[0]) != 1100 and not line.startswith("1999")]


# policy routing


def test_what_routing_can_tell_of_the_routers_own_traffic_is_a_rule_for_it() -> None:
    marks = ["1002: from all fwmark 0x300/0x3f00 lookup balanced", "1002: from all fwmark 0x400/0x3f00 lookup spread"]
    assert routed(
        {"user": "proxy", "link": "isp_b"},
        {"protocol": "udp", "destination_port": [53, "5060-5061"], "policy": "spread"},
        {"source": ["5.5.5.6", "10.0.0.0/8"], "mark": "0x10000/0xff0000", "link": "isp_a"},
        {"device": "lo", "policy": "balanced"},
    ) == [
        *marks,
        "1199: not from all iif lo goto 1998",
        "1200: from all iif lo uidrange 13-13 lookup isp_b",
        "1201: from all iif lo ipproto 17 dport 5060-5061 lookup spread",
        "1201: from all iif lo ipproto 17 dport 53 lookup spread",
        "1202: from 10.0.0.0/8 fwmark 0x10000/0xff0000 iif lo lookup isp_a",
        "1202: from 5.5.5.6/32 fwmark 0x10000/0xff0000 iif lo lookup isp_a",
        "1203: from all iif lo lookup balanced",
        "1998: from all nop",
    ]
    assert routed() == marks, "nothing is passed over where there is nothing"


def test_targets_lead_behind_all_or_nowhere() -> None:
    desired = compiled(
        {"mark": "0x80000/0xff0000", "target": "main"}, {"destination": "7.7.7.9", "target": "unreachable"}
    )
    assert routed({"mark": "0x80000/0xff0000", "target": "main"}, {"destination": "7.7.7.9", "target": "unreachable"})[
        2:
    ] == [
        "1002: from all fwmark 0x500/0x3f00 goto 2000",
        "1002: from all fwmark 0x600/0x3f00 lookup unreachable",
        "1199: not from all iif lo goto 1998",
        "1200: from all fwmark 0x80000/0xff0000 iif lo goto 2000",
        "1201: from all to 7.7.7.9/32 iif lo lookup unreachable",
        "1998: from all nop",
        "2000: from all nop",
    ]
    assert [str(route) for route in desired.state.routes if route.table == 1006] == [
        f"unreachable default metric {layout.LAST_RESORT}"
    ]


@pytest.mark.parametrize(
    "match",
    [
        {"device": "lan0"},
        {"mac": "02:00:00:00:00:01"},
        {"dscp": "ef"},
        {"group": "crew"},
        {"cgroup": "system.slice/squid.service"},
        {"time": {"days": "mon"}},
        {"destination": "@office"},
        {"user": "nobody"},
    ],
    ids=lambda match: next(iter(match)),
)
def test_what_routing_cannot_tell_is_no_rule_of_it(match: Any) -> None:
    found = routed({**match, "link": "isp_b"}, sets=[{"name": "office", "networks": ["10.9.0.0/16"]}])
    assert [line for line in found if "1200" in line] == []


def test_without_marks_each_rule_is_one_of_routing() -> None:
    rules = (
        {"source": "192.168.101.0/24", "link": "isp_b"},
        {"device": "lan0", "protocol": "tcp", "policy": "balanced"},
        {"user": "proxy", "link": "isp_a"},
    )
    assert routed(*rules, classify="routing") == [
        "1200: from 192.168.101.0/24 lookup isp_b",
        "1201: from all iif lan0 ipproto 6 lookup balanced",
        # without a device this would be for all that is forwarded, too, where the user is root
        "1202: from all iif lo uidrange 13-13 lookup isp_a",
    ]
    assert not classification(*rules, classify="routing")


def test_what_is_bound_to_a_device_passes_over_marks_that_own_packets_may_have() -> None:
    def bound(*rules: Any) -> list[str]:
        lines = report.rules_text(compiled(*rules).state, {1001: "a", 1002: "b"}).splitlines()
        return [line for line in lines if "oif" in line or line.startswith(("1000", "1099"))]

    main, devices = ["1000: from all lookup main suppress_prefixlength 0"], ["wan1 lookup a", "wan2 lookup b"]
    last = [f"1100: from all oif {words}" for words in devices]
    assert bound({"user": "proxy", "link": "isp_b"}) == [*main, *last]
    jumps = [f"1000: from all oif {device} goto 1099" for device in ("wan1", "wan2")]
    again = [line.replace("1000", "1099") for line in main]
    assert bound({"group": "crew", "link": "isp_b"}) == [*main, *jumps, *again, *last]


# the firewall


def test_own_choices_leave_alone_what_routing_has_led() -> None:
    found = classification(
        {"user": "proxy", "link": "isp_b"},
        {"cgroup": "system.slice/squid.service", "policy": "spread"},
        {"group": "crew", "target": "unreachable"},
        {"device": "lan0", "link": "isp_a"},
        {"dscp": "ef", "policy": "balanced"},
    )
    assert found.own == (
        Choice("r1", Condition(user=13), own=True),
        # never by the chooser: a source address was found by routing, and the policy's own route suits it best
        Choice("r2", Condition(cgroup=("system.slice/squid.service", 77)), SPREAD, own=True),
        Choice("r3", Condition(group=4713), UNREACHABLE, own=True),
        Choice("r5", Condition(dscp=46), BALANCED, own=True),
    )
    assert found.forwarded == (
        Choice("r4", Condition(device="lan0"), A),
        Choice("r5", Condition(dscp=46), BALANCED),
    )
    assert found.counted() == ("r4", "r5", "r1", "r2", "r3")


def test_addresses_are_mended_only_where_a_mark_can_lead_elsewhere() -> None:
    def mends(*rules: Any) -> list[SourceNat]:
        return [nat for nat in compiled(*rules).firewall.snat if nat.sources]

    assert mends({"user": "proxy", "link": "isp_b"}, {"device": "lan0", "dscp": "ef", "link": "isp_a"}) == []
    assert mends({"group": "crew", "link": "isp_b"}) == [
        SourceNat(A, "wan1", ("6.6.6.6/32",), "5.5.5.5"),
        SourceNat(B, "wan2", ("5.5.5.5/32", "5.5.5.6/32"), "6.6.6.6"),
    ]


def test_mended_addresses_come_before_declared_source_nat() -> None:
    snat = [{"link": "isp_b", "to": "masquerade"}]
    found = compiled({"group": "crew", "link": "isp_b"}, snat=snat).firewall.snat
    assert [nat.to for nat in found] == ["5.5.5.5", "6.6.6.6", None]


@pytest.mark.parametrize("match", [{"user": "nobody"}, {"group": "nogroup"}, {"cgroup": "gone.slice"}, {"user": "new"}])
def test_who_does_not_exist_matches_nothing_and_is_told(match: Any) -> None:
    found = compiled({**match, "link": "isp_b"})
    assert not found.firewall.classification
    ((kind, name),) = match.items()
    warning = f"rule r1: there is no {kind} {name}, so it matches nothing until a run finds one"
    assert [line for line in found.warnings if line == warning] == [warning]


def test_a_rule_behind_one_that_matches_nothing_keeps_its_place() -> None:
    found = routed({"user": "nobody", "link": "isp_b"}, {"user": "4711", "link": "isp_a"})
    assert [line for line in found if "uidrange" in line] == ["1201: from all iif lo uidrange 4711-4711 lookup isp_a"]


def test_sets_have_the_networks_of_list_and_files_and_bad_lines_are_told() -> None:
    sets = [
        {"name": "office", "networks": ["10.0.0.0/9", "10.128.0.0/9"], "files": ["/etc/office", "/etc/missing"]},
        {"name": "films", "external": True},
    ]
    found = compiled({"destination": "@office", "link": "isp_b"}, {"source": "@films", "link": "isp_a"}, sets=sets)
    assert found.firewall.classification.sets == (
        NetworkSet("office", ("10.0.0.0/8", "198.51.100.0/24")),
        NetworkSet("films", (), True),
    )
    assert [choice.condition for choice in found.firewall.classification.forwarded] == [
        Condition(destination_set="office"),
        Condition(source_set="films"),
    ]
    told = [line for line in found.warnings if line.startswith("set office: ")]
    assert len(told) == 2
    assert "/etc/office:2" in told[0]
    assert told[1] == "set office: /etc/missing cannot be read, and counts as empty"


@pytest.mark.parametrize("item", [{"networks": ["0.0.0.0/0"]}, {"files": "/etc/everything"}], ids=str)
def test_a_set_of_everything_is_not_one_of_nothing(item: Any) -> None:
    host = replace(HOST, files={"/etc/everything": "0.0.0.0/1\n128.0.0.0/1\n"})
    found = classification({"destination": "@all", "link": "isp_b"}, host=host, sets=[{"name": "all", **item}])
    assert found.sets == (NetworkSet("all", ("0.0.0.0/1", "128.0.0.0/1")),)


def test_choices_ask_for_all_that_a_rule_does() -> None:
    rule = {
        "source": ["192.168.101.0/24"], "destination": "7.7.7.0/24", "device": "lan0", "protocol": "udp",
        "source_port": "1-9", "destination_port": [53, 54], "dscp": "af41", "mac": "02:00:00:00:00:01",
        "mark": "0x10000/0xff0000", "time": {"days": ["sun"], "hours": "22:00-02:00"}, "target": "main",
    }  # fmt: skip
    (choice,) = classification(rule, host=replace(HOST, ahead=60)).forwarded
    assert choice == Choice(
        "r1",
        Condition(
            sources=("192.168.101.0/24",),
            destinations=("7.7.7.0/24",),
            device="lan0",
            protocol=17,
            source_ports=((1, 9),),
            destination_ports=((53, 54),),
            dscp=34,
            mac="02:00:00:00:00:01",
            mark=(0x10000, 0xFF0000),
            times=((0, 0, 60), (6, 1260, 1440)),
        ),
        MAIN,
    )


def test_nothing_is_chosen_where_nothing_is_to_be_told_apart() -> None:
    assert not classification()
    assert classification(default_policy="spread").forwarded == (Choice("", chooser="spread"),)
    assert not classification({"device": "lan0", "link": "isp_a"}, links=[], policies=[], rules=[], default_policy=None)


def test_excluded_are_connected_networks_and_those_never_routed() -> None:
    found = [ipaddress.IPv4Network(network) for network in classification({"dscp": "ef", "link": "isp_a"}).excluded]

    def excluded(address: str) -> bool:
        return any(ipaddress.IPv4Address(address) in network for network in found)

    assert all(
        map(excluded, ("192.168.101.1", "5.5.5.9", "169.254.1.1", "224.0.0.251", "239.1.1.1", "255.255.255.255"))
    )
    assert [excluded(address) for address in ("10.64.0.1", "10.64.9.1", "10.64.0.2")] == [True, True, False], "peers"
    assert not any(map(excluded, ("7.7.7.7", "192.168.102.1", "5.5.6.1", "223.255.255.255", "240.0.0.1")))


def test_choosers_have_the_links_that_serve() -> None:
    (spread,) = classification({"device": "lan0", "policy": "spread"}).choosers
    assert spread.ways == (Way("isp_a", A, 3), Way("isp_b", B, 1))
    (without,) = classification({"device": "lan0", "policy": "spread"}, health={"isp_a": "down"}).choosers
    assert without.ways == (Way("isp_b", B, 1),)
    (empty,) = classification(
        {"device": "lan0", "policy": "spread"}, health={"isp_a": "down", "isp_b": "down"}
    ).choosers
    assert (empty.ways, empty.buckets, empty.mark) == ((), (), SPREAD)


def test_a_second_tier_is_chosen_only_when_the_first_is_gone() -> None:
    for algorithm in ("random", "round_robin", "source_hash", "least_connections"):
        tiers = [{"link": "isp_a", "tier": 1}, {"link": "isp_b", "tier": 2}]
        policies = [{"name": "spread", "members": tiers, "algorithm": algorithm}]
        given_ = {"policies": policies, "default_policy": "spread", "ids": IDS}
        for health, link in (({}, "isp_a"), ({"isp_b": "down"}, "isp_a"), ({"isp_a": "down"}, "isp_b")):
            (chooser,) = classification(health=health, **given_).choosers
            assert [way.name for way in chooser.ways] == [link]
            assert {mark for _low, _high, mark in chooser.buckets} <= {A if link == "isp_a" else B}


def test_queues_are_listed_for_the_helper() -> None:
    policies = [{"name": "spread", "members": MEMBERS, "algorithm": "least_connections"}]
    firewall = compiled(policies=policies, default_policy="spread").firewall
    assert json.loads(queues(firewall) or "") == {
        "schema": 1,
        "mask": "0x3f00",
        "queues": [
            {
                "queue": QUEUES + 4,
                "policy": "spread",
                "links": [
                    {"name": "isp_a", "mark": "0x100", "weight": 3},
                    {"name": "isp_b", "mark": "0x200", "weight": 1},
                ],
            }
        ],
    }
    assert queues(compiled(default_policy="spread").firewall) is None


# time


def test_wanted_is_what_rules_and_sets_name() -> None:
    document = Document.parse({
        "links": LINKS,
        "settings": {"classify": "marks"},
        "sets": [{"name": "office", "files": ["/etc/office"]}],
        "rules": [
            {"name": "one", "user": "proxy", "group": "crew", "cgroup": "a/b", "time": {"days": "mon"}, "link": "isp_a"}
        ],
    })  # fmt: skip
    assert Wanted.of(document.rules, document.sets) == Wanted(
        frozenset({"proxy"}), frozenset({"crew"}), frozenset({"a/b"}), frozenset({"/etc/office"}), True
    )
    assert not Wanted.of((), ())


def minutes_of(times: Times, ahead: int) -> set[int]:
    """The minutes of a week, in local time, that the spans hold."""
    spans = times.spans(ahead)
    assert all(0 <= first < last <= DAY and day in range(7) for day, first, last in spans)
    utc = {day * DAY + minute for day, first, last in spans for minute in range(first, last)}
    return {(minute + ahead) % (7 * DAY) for minute in utc}


hours = st.none() | st.tuples(st.integers(0, DAY - 1), st.integers(0, DAY - 1)).filter(lambda pair: pair[0] != pair[1])


@given(st.lists(st.integers(0, 6), unique=True).map(sorted), hours, st.integers(-720, 840))
def test_spans_are_the_same_minutes_in_utc(days: list[int], listed: tuple[int, int] | None, ahead: int) -> None:
    begins, length = (listed[0], (listed[1] - listed[0]) % DAY) if listed else (0, DAY)
    expected = {(day * DAY + begins + minute) % (7 * DAY) for day in days or range(7) for minute in range(length)}
    assert minutes_of(Times(tuple(days), listed), ahead) == expected


def test_a_source_that_is_none_of_the_routers_is_not_asked_of_its_own_traffic() -> None:
    lan, own = {"source": "192.168.101.7", "link": "isp_b"}, {"source": "5.5.5.0/24", "link": "isp_b"}
    found = compiled(lan, own)
    assert [rule.name for rule in found.routed] == ["r2"]
    assert [choice.rule for choice in found.firewall.classification.own] == ["r2"]
    assert [choice.rule for choice in found.firewall.classification.forwarded] == ["r1", "r2"]


def test_what_routing_has_no_room_for_is_left_to_marks() -> None:
    room = layout.PASSED - layout.RULES
    found = compiled(*({"destination": f"7.{n >> 8}.{n & 255}.1", "link": "isp_b"} for n in range(room + 2)))
    assert len(found.routed) == room
    assert [choice.rule for choice in found.firewall.classification.own if choice.mark is not None] == [
        f"r{room + 1}",
        f"r{room + 2}",
    ]


def test_lists_that_combine_to_many_rules_are_left_to_marks() -> None:
    lists = {"destination": [f"7.{n}.0.0/24" for n in range(MOST_COMBINED // 2)], "protocol": "tcp", "link": "isp_b"}
    few, many = compiled({**lists, "destination_port": "80,443"}), compiled({**lists, "destination_port": "80,90,443"})
    assert [len(few.routed), len(many.routed)] == [1, 0]
    assert [choice.mark for choice in many.firewall.classification.own] == [B]


def test_files_that_cannot_be_read_are_refused_and_so_are_those_the_prober_cannot_read() -> None:
    document = Document.parse({"sets": [{"name": "office", "files": ["/etc/office"]}]})
    check_files(document, replace(facts(), host=HOST))
    with pytest.raises(InputError, match=r"sets\.office\.files: '/etc/office' cannot be read by the prober"):
        check_files(document, replace(facts(), host=replace(HOST, hidden=frozenset(["/etc/office"]))))
    with pytest.raises(InputError, match=r"cannot be read\. Put it into /etc/mwan"):
        check_files(document, replace(facts(), host=HostFacts()))


def test_packets_that_take_turns_are_warned_of() -> None:
    policy = {"name": "balanced", "members": MEMBERS, "algorithm": "per_packet"}
    warnings = compiled(policies=[policy]).warnings
    assert [warning.split(":")[0] for warning in warnings] == ["policy balanced"]
    assert "with the source address they have, also where source NAT is declared" in warnings[0]
