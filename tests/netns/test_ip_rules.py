# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Policy routing rules of every kind, in the kernel: added, read back, deleted, printed by `ip`, and followed."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from typing import Any

import pytest
from _mwan.kernel import IpRule
from lab.engine import LIBRARY
from lab.host import HELPERS, Host
from lab.topology import Topology

MARKED: dict[str, Any] = {"mark": 0x100, "mask": 0x3F00}
JUMP: dict[str, Any] = {"table": 0, "action": "goto"}
KINDS = (
    IpRule(900, target=2000, **JUMP, **MARKED),
    IpRule(900, target=2000, **JUMP, **{**MARKED, "mark": 0x200}),
    IpRule(901, target=1500, **JUMP, device="lo", inverted=True),
    IpRule(902, target=2222, **JUMP),
    IpRule(1500, 0, action="nop"),
    IpRule(2000, 0, action="nop"),
    IpRule(1100, 100, out_device="wan1"),
    IpRule(1100, 100, out_device="wan2"),
    IpRule(1100, 100, out_device="gone0"),
    IpRule(1200, 100, device="lo", user=(13, 13)),
    IpRule(1200, 100, device="lo", user=(0, 4000000000)),
    IpRule(
        1201,
        100,
        source="192.168.101.0/24",
        destination="7.7.7.0/24",
        device="lo",
        source_port=(1, 2),
        destination_port=(5, 5),
        suppress_default=True,
        out_device="wan1",
        user=(13, 20),
        inverted=True,
        **MARKED,
    ),
)
# what others have at the same places, some of it with conditions and actions that cannot be followed
OTHERS = (
    "pref 900 fwmark 0x100/0x3f00 goto 2000",
    "pref 901 not iif lo goto 1500",
    "pref 902 fwmark 0/0x3f00 nop",
    "pref 1100 oif wan1 lookup 100",
    "pref 1200 iif lo uidrange 13-13 dport 5 lookup 100",
    "pref 2000 nop",
)
UNCLEAR = ("pref 3000 prohibit", "pref 3001 tos 0x10 lookup 100", "pref 3002 suppress_ifgroup 3 lookup 100")


def configure(net: Topology, lines: list[str]) -> None:
    net.lab.configure(net.router, lines)
    net.lab.settle()


def library(router: Host, **wanted: Any) -> dict[str, Any]:
    command = [sys.executable, "-I", str(HELPERS / "rules.py"), str(LIBRARY)]
    return dict(json.loads(router.run(command, input=json.dumps(wanted)).stdout))


def as_read(*rules: IpRule) -> list[dict[str, Any]]:
    return sorted((json.loads(json.dumps(asdict(rule))) for rule in rules), key=str)


def test_every_kind_is_added_read_back_and_deleted_beside_those_of_others(two_links: Topology) -> None:
    router = two_links.router
    configure(two_links, [f"rule add {words}" for words in (*OTHERS, *UNCLEAR)])
    before = router.ip("rule show")

    added = library(router, add=as_read(*KINDS))
    assert added["refusal"] is None
    assert sorted(added["ours"], key=str) == as_read(*KINDS)
    assert {rule.partition(":")[0] for rule in added["unclear"]} == {"3000", "3001", "3002"}
    printed = re.sub(r" \[(detached|unresolved)\]", "", router.ip("rule show"))
    for rule in KINDS:
        words = f"{rule.priority}:\t{rule.words(str(rule.table))} proto 77"
        assert words in printed.splitlines(), (words, printed)
        assert router.ip(f"rule del pref {rule.priority} {rule.words(str(rule.table))} proto 77") == ""
    assert router.ip("rule show") == before

    for order in (KINDS, KINDS[::-1]):
        assert library(router, add=as_read(*KINDS))["refusal"] is None
        for number, rule in enumerate(order):
            left = library(router, delete=as_read(rule))
            assert left["refusal"] is None
            assert sorted(left["ours"], key=str) == as_read(*order[number + 1 :])
    assert router.ip("rule show") == before


def test_what_somebody_else_does_meanwhile_is_done(two_links: Topology) -> None:
    """The prober and a playbook may add, or delete, the same in one instant; something else in its place is refused."""
    router = two_links.router
    rules = as_read(*KINDS)
    route, other = ({"table": 1001, "kind": kind, "metric": 5} for kind in ("unreachable", "blackhole"))
    for _time in range(2):
        assert library(router, add=rules, routes=[[None, route]])["refusal"] is None
    assert router.ip("route show table 1001").splitlines() == ["unreachable default proto 77 metric 5 "]
    assert "EEXIST" in library(router, routes=[[None, other]])["refusal"]
    for _time in range(2):
        assert library(router, delete=rules, routes=[[route, None]])["ours"] == []


def test_what_clashes_is_refused(two_links: Topology) -> None:
    held = IpRule(901, target=1500, **JUMP, device="lo", inverted=True)
    assert library(two_links.router, add=as_read(held))["refusal"] is None
    twins = (
        IpRule(901, target=1500, **JUMP, device="lo"),
        IpRule(901, target=1600, **JUMP, device="lo", inverted=True),
    )
    for twin in twins:
        assert held.clashes(twin)
        assert "EEXIST" in library(two_links.router, add=as_read(twin))["refusal"]


ROUTES = (
    "route add table 100 default metric 1 "
    "nexthop via 5.5.5.1 dev wan1 nexthop via 5.5.5.9 dev wan1 nexthop via 6.6.6.1 dev wan2",
    "route add table 100 prohibit default metric 9",
    "route add table 200 default via 6.6.6.1 dev wan2",
    "route add table 300 prohibit default",
)
RULES = (
    "pref 50 lookup main suppress_prefixlength 0",
    "pref 60 fwmark 0x300/0x3f00 goto 400",
    "pref 61 fwmark 0x200/0x3f00 lookup 200",
    "pref 62 not fwmark 0/0x3f00 goto 400",
    "pref 63 goto 999",
    "pref 70 oif wan1 lookup 100",
    "pref 80 not iif lo goto 300",
    "pref 90 uidrange 13-13 lookup 200",
    "pref 91 uidrange 14-20 lookup 300",
    "pref 92 not uidrange 0-30 goto 400",
    "pref 93 iif lo to 8.0.0.0/8 lookup 200",
    "pref 300 nop",
    "pref 301 uidrange 0-0 iif lan0 ipproto udp lookup 300",
    "pref 302 lookup 100",
    "pref 400 nop",
    "pref 401 to 9.0.0.0/8 lookup 200",
)
OWN: dict[str, Any] = {"destination": "7.7.7.7", "user": 0}
FORWARDED: dict[str, Any] = {"destination": "7.7.7.7", "source": "192.168.101.1", "device": "lan0", "protocol": 6}
PACKETS: tuple[dict[str, Any], ...] = (
    OWN,
    *({**OWN, "user": user} for user in (13, 14, 20, 21, 31)),
    *({**OWN, "user": user, "destination": "9.9.9.9"} for user in (30, 31)),
    *({**OWN, "mark": mark} for mark in (0x100, 0x200, 0x300)),
    {**OWN, "mark": 0x300, "destination": "9.9.9.9"},
    {**OWN, "destination": "8.8.8.8"},
    *({**OWN, "out_device": device} for device in ("wan1", "wan2", "lan0")),
    *({**OWN, "out_device": device, "user": user} for device in ("wan1", "wan2") for user in (13, 14)),
    *({**OWN, "out_device": device, "mark": 0x200} for device in ("wan1", "wan2")),
    *({**OWN, "out_device": "wan1", "destination": to} for to in ("5.5.5.1", "6.6.6.1", "5.5.5.5", "192.168.101.254")),
    FORWARDED,
    {**FORWARDED, "protocol": 17},
    *({**FORWARDED, "mark": mark} for mark in (0x200, 0x300)),
)


def kernel(router: Host, packet: dict[str, Any]) -> list[Any]:
    """Kind of the route and its nexthop, by `ip route get`."""
    words = {
        "source": "from",
        "device": "iif",
        "out_device": "oif",
        "mark": "mark",
        "user": "uid",
        "protocol": "ipproto",
    }
    given = [f"{word} {packet[name]}" for name, word in words.items() if name in packet]
    done = router.run(["ip", "route", "get", *" ".join([packet["destination"], *given]).split()], check=False)
    if done.returncode:
        return ["prohibit" if "Permission denied" in done.stderr else None, None]
    device, gateway = (re.search(rf" {word} (\S+)", done.stdout) for word in ("dev", "via"))
    assert device, done.stdout
    kind = "local" if done.stdout.startswith("local") else "unicast"
    return [kind, [device[1], gateway[1] if gateway else None]]


@pytest.mark.parametrize("bare", [False, True], ids=["with routes", "with refusals only"])
def test_the_trace_goes_where_the_kernel_goes(two_links: Topology, bare: bool) -> None:
    router = two_links.router
    router.sysctl("net.ipv4.ip_forward", 1)
    configure(two_links, [*(ROUTES[1:2] if bare else ROUTES), *(f"rule add {words}" for words in RULES)])
    answers = zip(PACKETS, library(router, trace=PACKETS)["traced"], strict=True)
    for packet, (kind, hops) in answers:
        expected, hop = kernel(router, packet)
        assert kind == expected, packet
        ways = hops if "out_device" not in packet else [hop]
        assert kind != "unicast" or (hop in ways and hops == ways), (packet, hop, hops)
