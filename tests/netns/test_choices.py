# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""New connections that the firewall sends their way: every match, every target, every algorithm, and what stays."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from lab import topology
from lab.balance import about, policy
from lab.choices import fill, taken
from lab.engine import Engine
from lab.own import Own
from lab.topology import Topology
from lab.traffic import AccessLogServer, EchoServer, UdpFlood, fetch_many

A, B, C = "5.5.5.5", "6.6.6.6", "4.4.4.4"
BY_LINK = {"isp_a": A, "isp_b": B, "isp_c": C}
POLICIES = [policy("isp_c"), policy("isp_a", name="only_a"), policy("isp_b", name="only_b")]
LISTED = "/etc/mwan-listed.txt"


@contextmanager
def router(backend: str, clients: int = 1, **variables: Any) -> Iterator[tuple[Topology, Engine, Own]]:
    """A router over three links whose default policy uses isp_c only; and what opens connections from its LAN."""
    with topology.three_links(clients) as net, Engine(net, backend) as engine, EchoServer(net.server):
        engine.settle(**{"mwan_classify": "marks", "mwan_policies": POLICIES, **variables})
        with Own(net.client) as client:
            yield net, engine, client
        assert net.spoofed() == 0


def client(number: int) -> str:
    return f"192.168.101.{number}"


def of(name: str, link: str, **match: Any) -> dict[str, Any]:
    return {"name": name, "link": link, **match}


class Times(NamedTuple):
    near: list[str]
    far: list[str]
    hours: str
    other_hours: str


def around_now() -> Times:
    """Days and hours of which it is one, and others, also when they change meanwhile."""
    now = time.localtime()
    days = [("mon", "tue", "wed", "thu", "fri", "sat", "sun")[(now.tm_wday + later) % 7] for later in range(-1, 6)]
    first, last, far, farther = (f"{(now.tm_hour + later) % 24:02}:00" for later in (-1, 2, 4, 6))
    return Times(days[:3], days[3:5], f"{first}-{last}", f"{far}-{farther}")


def test_every_match_of_forwarded_packets(backend: str) -> None:
    """Each of the rules is asked by packets that match it, and by some that miss it in one thing only."""
    times = around_now()
    with topology.three_links(9) as net, Engine(net, backend) as engine, EchoServer(net.server):
        net.router.run(["tee", LISTED], input=f"# ours\n{client(6)}  # a remark\n{client(8)}/31\n")
        mac = net.client.ip_json("link show eth0")[0]["address"]
        net.router.nft(
            """table inet foreign { chain c { type filter hook prerouting priority -200;
              udp dport 20 meta mark set meta mark | 0x00a50002
              udp dport 22 meta mark set meta mark | 0x00a40002
            }
            }"""
        )
        rules = [
            of("listed", "isp_a", source=[client(2), client(3)], protocol="tcp", destination_port=[7, "9-11"]),
            of("both", "isp_b", source=f"{client(2)}/31", destination="7.7.7.64/26"),
            of("ranges", "isp_b", source=client(4), protocol="udp", source_port="30000-30010", destination_port="7"),
            of("named", "isp_a", source="@office"),
            of("file", "isp_b", source="@listed", destination="@servers"),
            of("filled", "isp_a", destination="@others"),
            of("marked", "isp_b", mark="0xa50000/0xff0000"),
            of("quick", "isp_a", dscp="ef", protocol="udp"),
            of("not_today", "isp_b", source=client(9), time={"days": times.far}),
            of("not_now", "isp_b", source=client(9), time={"days": times.near, "hours": times.other_hours}),
            of("now", "isp_a", source=client(9), time={"days": times.near, "hours": times.hours}),
            of("elsewhere", "isp_b", device="wan1"),
            of("card", "isp_b", mac=mac, protocol="udp", destination_port=53),
            of("no_card", "isp_b", mac="02:00:00:00:00:77"),
        ]
        sets = [
            {"name": "office", "networks": [client(5)]},
            {"name": "listed", "files": [LISTED]},
            {"name": "servers", "networks": ["7.7.7.16/28", "7.7.7.40"]},
            {"name": "others", "external": True},
        ]
        engine.settle(mwan_classify="marks", mwan_policies=POLICIES, mwan_rules=rules, mwan_sets=sets)
        fill(net, backend, "others", "7.7.7.99", "7.7.7.192/28")
        with Own(net.client) as own, EchoServer(net.server, 53), EchoServer(net.server, 20), EchoServer(net.server, 22):

            def seen(number: int, **more: Any) -> str:
                (found,) = own.seen(2, source=client(number), **more)
                return {address: name for name, address in BY_LINK.items()}.get(found, found)

            def everything() -> list[str]:
                return [
                    *(seen(2), seen(3), seen(2, protocol="udp"), seen(4)),
                    *(seen(2, destination="7.7.7.65"), seen(3, destination="7.7.7.66", protocol="udp")),
                    *(seen(4, destination="7.7.7.66", protocol="udp"), seen(5), seen(5, protocol="udp")),
                    *(seen(6, destination="7.7.7.20"), seen(8, destination="7.7.7.40"), seen(6), seen(7)),
                    *(
                        seen(7, destination="7.7.7.40"),
                        seen(1, destination="7.7.7.99"),
                        seen(1, destination="7.7.7.200"),
                    ),
                    *(seen(1, protocol="udp", port=20), seen(1, protocol="udp", port=22)),
                    *(seen(1, protocol="udp", tos=0xB8), seen(1, tos=0xB8), seen(1, protocol="udp", tos=0xB0)),
                    *(seen(9), seen(1, protocol="udp", port=53), seen(1)),
                ]

            expected = [
                *("isp_a", "isp_a", "isp_c", "isp_c"),
                *("isp_a", "isp_b"),
                *("isp_c", "isp_a", "isp_a"),
                *("isp_b", "isp_b", "isp_c", "isp_c"),
                *("isp_c", "isp_a", "isp_a"),
                *("isp_b", "isp_c"),
                *("isp_a", "isp_c", "isp_c"),
                *("isp_a", "isp_b", "isp_c"),
            ]
            assert everything() == expected
            # what counts goes on, what others filled in stays, and nothing is lost by another load
            before = taken(net)
            assert {name for name, packets in before.items() if not packets} == {
                *("ranges", "not_today", "not_now", "elsewhere", "no_card")
            }
            engine.settle(mwan_rules=[*rules, of("late", "isp_a", destination="9.9.9.9")])
            assert taken(net) == {**before, "late": 0}
            assert everything() == expected
            after = taken(net)
            assert all(after[name] == 2 * before[name] for name in before)
            assert own.seen(2, source=client(1), destination="9.9.9.9") == {A: 2}
            engine.settle(mwan_rules=rules[1:])
            assert seen(2) == "isp_c"
            assert "listed" not in taken(net)
        assert net.spoofed() == 0


def test_targets(backend: str) -> None:
    """What is left alone goes by table main; what is unreachable is refused at once."""
    rules = [
        {"name": "aside", "destination": "9.9.9.9", "target": "main"},
        {"name": "closed", "destination": "7.7.7.21", "target": "unreachable"},
        {"name": "spread", "destination": "7.7.7.22", "policy": "only_b"},
    ]
    with router(backend, mwan_rules=rules) as (net, _engine, own):
        net.router.ip("route add default via 5.5.5.1 dev wan1")
        assert own.seen(1, destination="7.7.7.21") == {"EHOSTUNREACH": 1}
        assert own.seen(destination="7.7.7.22") == {B: 4}
        assert own.seen(destination="9.9.9.9") == {A: 4}
        assert own.seen() == {C: 4}


def spreading(algorithm: str, **more: Any) -> list[dict[str, Any]]:
    return [policy(("isp_a", 3), ("isp_b", 2), ("isp_c", 1), algorithm=algorithm, **more)]


def test_shares(backend: str) -> None:
    """By chance, and exactly in turn."""
    with router(backend, mwan_policies=spreading("random")) as made, AccessLogServer(made[0].server):
        net, engine, own = made
        assert about(fetch_many(net.client, 600).sources, {A: 3, B: 2, C: 1})
        engine.settle(mwan_policies=spreading("round_robin"))
        own.seen(1)
        assert own.seen(60) == {A: 30, B: 20, C: 10}
        turns = [address for _unused in range(12) for address in own.seen(1)]
        assert turns[:6] == turns[6:], "the order of turns repeats itself"
        engine.settle(mwan_policies=[policy(("isp_a", 3), ("isp_b", 0), algorithm="random")])
        assert own.seen(10) == {A: 10}


@pytest.mark.parametrize("algorithm", ["source_hash", "source_destination_hash"])
def test_hash_keeps_clients_where_they_are(backend: str, algorithm: str) -> None:
    """Those of a dead link are divided among the others, and come back; nobody else moves."""
    with router(backend, 64, mwan_policies=spreading(algorithm)) as (net, engine, own):

        def places(**more: Any) -> dict[int, str]:
            return {
                number: "".join(own.seen(1, source=client(number), protocol="udp", **more)) for number in range(1, 65)
            }

        before = places()
        assert set(before.values()) == {A, B, C}
        assert places() == before
        elsewhere = places(destination="7.7.7.8")
        assert (elsewhere == before) == (algorithm == "source_hash")
        net.router.run(["tee", "/run/mwan/health.json"], input='{"links": {"isp_a": {"state": "down"}}}')
        engine.settle()
        during = places()
        assert set(during.values()) == {B, C}
        assert [number for number in before if before[number] != A and during[number] != before[number]] == []
        net.router.run("rm /run/mwan/health.json")
        engine.settle()
        assert places() == before


def test_foreign_bits_survive(backend: str) -> None:
    """Of packets and connections, whoever sets the mark, through a choice, its pin and its return."""
    with router(backend, mwan_policies=spreading("random", sticky=60)) as (net, _engine, own):
        net.router.nft(
            """table inet foreign {
              chain early { type filter hook prerouting priority -190;
                iifname lan0 meta mark set 0x00a50002 ct mark set ct mark | 0x00010000
              }
              chain late { type filter hook postrouting priority 50;
                oifname "wan*" meta mark & 0xffffc0ff == 0x00a50002 ct mark & 0xffffc0ff == 0x00010000 counter
                oifname "wan*" meta mark & 0xffffc0ff != 0x00a50002 counter drop
                oifname "wan*" ct mark & 0xffffc0ff != 0x00010000 counter drop
              }
            }"""
        )
        assert sum(own.seen(20).values()) == 20
        assert set(own.seen(20)) <= {A, B, C}


def test_reload_under_traffic(backend: str) -> None:
    """Rules come, move and go while packets of new and old connections pass: none is lost, none goes astray."""
    rules = [of("one", "isp_a", destination="7.7.7.7"), of("two", "isp_b", source="192.168.101.0/24")]
    with router(backend, mwan_rules=rules) as (net, engine, _own):
        flood = UdpFlood(net.client, net.server, pps=8000, seconds=2.5, flows=10)
        for number in range(4):
            more = [of(f"more{index}", "isp_b", destination=f"9.9.{number}.{index}") for index in range(number * 20)]
            engine.settle(mwan_rules=[*more, *rules])
        result = flood.wait()
        assert result.lost <= result.dropped_by_machine
        assert {source for flow in result.sources for source in flow} == {A}


def test_what_packets_and_others_change_is_no_drift(backend: str) -> None:
    sets = [{"name": "others", "external": True}]
    rules = [of("filled", "isp_a", destination="@others")]
    variables = {"mwan_rules": rules, "mwan_sets": sets, "mwan_policies": spreading("random", sticky=60)}
    with router(backend, **variables) as (net, engine, own):
        fill(net, backend, "others", "7.7.7.9")
        assert own.seen(destination="7.7.7.9") == {A: 4}
        own.seen(4)
        assert engine.apply().actions == []


def test_new_connections_keep_their_policy_through_loads() -> None:
    """Also those that miss in a lookup of the rules that go."""

    def policies(weight: int) -> list[dict[str, Any]]:
        return [policy("isp_c"), policy(("isp_a", weight), "isp_b", name="both", algorithm="random")]

    rules = [{"name": "spread", "destination": "7.7.7.0/24", "policy": "both"}]
    with router("nftables", mwan_policies=policies(2), mwan_rules=rules) as (net, engine, own):
        for name in ("udp_timeout", "udp_timeout_stream"):
            # ports are used again, for connections that are new
            net.router.run(f"sysctl -w net.netfilter.nf_conntrack_{name}=1")
        seen: Counter[str] = Counter()
        done = threading.Event()

        def flood() -> None:
            while not done.is_set():
                seen.update(own.seen(200, protocol="udp"))

        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            for number in range(50):
                engine.settle(mwan_policies=policies(3 - number % 2))
        finally:
            done.set()
            flooding.join()
        assert min(seen[A], seen[B]) > 1000
        assert seen[C] == 0
