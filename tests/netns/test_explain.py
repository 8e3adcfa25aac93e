# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What `mwanctl explain` goes by agrees with the kernel: the same packets, asked of both, over random declarations."""

from __future__ import annotations

import itertools
import json
import random
import re
import sys
from typing import Any

import pytest
from lab import topology
from lab.engine import LIBRARY, Engine
from lab.host import HELPERS, Host
from lab.impair import cable_pulled, wait_noticed
from lab.topology import Topology

# what `ip route get` is told instead of a route, and the kinds of route that say so
REFUSALS = {
    "No route to host": "unreachable",
    "Invalid argument": "blackhole",
    "Permission denied": "prohibit",
    "Network is unreachable": None,
}
DESTINATIONS = ("7.7.7.7", "7.7.7.200", "8.8.8.8", "5.5.5.1", "6.6.6.9", "10.9.1.1", "192.168.101.1", "192.168.50.50")
OWN = ("5.5.5.5", "6.6.6.6", "192.168.101.254")
PORTS = (22, 80, 443, 5060, 5500)
MARKS = (0, 0, 0, 0x100, 0x200, 0x300)
PORTS_PER_PACKET = 40  # source ports tried, to see all nexthops of a multipath route
NAMES = ("isp_a", "isp_b")


def declared(choose: random.Random) -> dict[str, Any]:
    """Links' weights, policies and rules."""
    policies = [
        {
            "name": name,
            "members": [
                {"link": link, "weight": choose.randint(1, 4), "tier": choose.choice((1, 1, 1, 2))}
                for link in choose.sample(NAMES, choose.choice((1, 2, 2)))
            ],
            "last_resort": choose.choice(("unreachable", "blackhole", "main")),
        }
        for name in ("one", "two")
    ]
    return {
        "mwan_policies": policies,
        "mwan_default_policy": choose.choice(("one", "two", "")),
        "mwan_rules": [rule(choose, f"rule{number}") for number in range(choose.randint(0, 6))],
        "mwan_blackhole": ["10.9.0.0/16"] if choose.random() < 0.3 else [],
    }


def rule(choose: random.Random, name: str) -> dict[str, Any]:
    matches: dict[str, Any] = {
        "source": choose.choice(("192.168.101.0/24", "192.168.101.1", "5.5.5.5", "0.0.0.0/0")),
        "destination": choose.choice(("7.7.7.0/24", "7.7.7.7", "8.0.0.0/8")),
        "device": choose.choice(("lan0", "lo", "wan1")),
    }
    kept = {key: value for key, value in matches.items() if choose.random() < 0.4}
    if choose.random() < 0.6:
        kept["protocol"] = choose.choice(("tcp", "udp"))
        for port in ("destination_port", "source_port"):
            if choose.random() < 0.4:
                kept[port] = choose.choice(("443", "5000-6000", "1-1023", "40000-40019"))
    target = choose.choice([{"link": name} for name in NAMES] + [{"policy": name} for name in ("one", "two")])
    return {"name": name, **kept, **target}


def packets(choose: random.Random, number: int) -> list[dict[str, Any]]:
    found = []
    for _unused in range(number):
        forwarded = choose.random() < 0.6
        found.append(
            {
                "destination": choose.choice(DESTINATIONS),
                "source": choose.choice(("192.168.101.1", "192.168.101.77"))
                if forwarded
                else choose.choice((None, *OWN)),
                "device": "lan0" if forwarded else "lo",
                "mark": choose.choice(MARKS),
                "protocol": choose.choice((6, 17)),
                "destination_port": choose.choice(PORTS),
            }
        )
    return each_port(found)


def to_the_server() -> list[dict[str, Any]]:
    packet = {"destination": "7.7.7.7", "source": "192.168.101.1", "device": "lan0", "mark": 0}
    return each_port([{**packet, "protocol": 6, "destination_port": 80}])


def each_port(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**packet, "source_port": 40000 + port} for packet in found for port in range(PORTS_PER_PACKET)]


def question(packet: dict[str, Any]) -> str:
    words = [f"route get {packet['destination']}"]
    words += [f"from {packet['source']}"] if packet["source"] else []
    words += [f"iif {packet['device']}"] if packet["device"] != "lo" else []
    words += [f"mark {packet['mark']}"] if packet["mark"] else []
    return " ".join(
        [*words, f"ipproto {packet['protocol']} sport {packet['source_port']} dport {packet['destination_port']}"]
    )


def kernel(router: Host, asked: list[dict[str, Any]]) -> list[tuple[str | None, list[str | None] | None]]:
    """Kind of the route and its nexthop, by `ip route get`; refusals are told by line number."""
    done = router.run(
        ["ip", "-force", "-oneline", "-batch", "-"], check=False, input="\n".join(map(question, asked)) + "\n"
    )
    refused = {
        int(line): REFUSALS[reason]
        for reason, line in re.findall(r"answers: (.*)\nCommand failed -:(\d+)", done.stderr)
    }
    routes = iter(done.stdout.splitlines())
    return [
        (refused[number], None) if number in refused else route(next(routes)) for number in range(1, len(asked) + 1)
    ]


def route(line: str) -> tuple[str, list[str | None]]:
    kind = line.split()[0] if line.split()[0] in ("local", "broadcast") else "unicast"
    device, gateway = re.search(r" dev (\S+)", line), re.search(r" via (\S+)", line)
    assert device, line
    return kind, [device[1], gateway[1] if gateway else None]


def library(router: Host, asked: list[dict[str, Any]]) -> list[list[Any]]:
    command = [sys.executable, "-I", str(HELPERS / "trace.py"), str(LIBRARY)]
    return list(json.loads(router.run(command, input=json.dumps(asked)).stdout))


def compare(net: Topology, asked: list[dict[str, Any]]) -> int:
    """All packets agree in kind and nexthop; those that differ by source port only use all nexthops. How many did."""
    answers = list(zip(asked, kernel(net.router, asked), library(net.router, asked), strict=True))
    for packet, (kind, hop), (traced, _table, hops) in answers:
        assert traced == kind, (packet, kind, hop, traced, hops)
        if kind == "unicast":
            assert hop in hops, (packet, hop, hops)
    spread = 0
    for _key, group in itertools.groupby(answers, key=lambda item: {**item[0], "source_port": None}):
        same = list(group)
        # a socket with an address keeps to the nexthop that has it, with kernels from 6.15 on (fib_select_multipath)
        if same[0][0]["device"] == "lo" and same[0][0]["source"]:
            continue
        wanted = {json.dumps(answer[2]) for _packet, _kernel, answer in same}
        if len(wanted) == 1 and len(same[0][2][2]) > 1:
            used = [hop for hop in same[0][2][2] if any(found == hop for _packet, (_kind, found), _answer in same)]
            assert used == same[0][2][2], (same[0][0], used)
            spread += 1
    return spread


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_kernel(seed: int) -> None:
    choose = random.Random(seed)
    with topology.two_links() as net, Engine(net) as engine:
        net.router.ip("route add 192.168.50.0/24 via 192.168.101.1")
        net.router.ip("route add default via 192.168.101.1 metric 900")
        engine.apply()
        assert compare(net, [*packets(choose, 12), *to_the_server()]), "no multipath route was looked at"
        for _unused in range(4):
            net.router.run("rm -f /run/mwan/health.json")
            engine.apply(**declared(choose))
            states = {name: choose.choice(("up", "up", "down", "suspect", "drained")) for name in NAMES}
            health = {"links": {name: {"state": state} for name, state in states.items()}}
            net.router.run(["tee", "/run/mwan/health.json"], input=json.dumps(health))
            engine.apply()
            compare(net, packets(choose, 12))
            pulled = choose.choice(NAMES)
            with cable_pulled(net, pulled):
                wait_noticed(net, pulled)
                compare(net, packets(choose, 6))
