# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Lines that fail: what the kernel does at once with the routes it has, and what is there when nothing is left."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest
from lab import impair, topology
from lab.balance import about, policy
from lab.engine import Engine
from lab.talk import Talk
from lab.topology import Topology
from lab.traffic import AccessLogServer, EchoServer, fetch_many


def test_second_tier_serves_only_when_the_first_is_gone(backend: str) -> None:
    with topology.many_links(3) as net, Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle(mwan_policies=[policy(("link1", 3, 1), ("link2", 1, 1), ("link3", 1, 2))])
        seen = fetch_many(net.client, 200)
        assert seen.failures == []
        assert about(seen.sources, {"20.0.1.2": 3, "20.0.2.2": 1})
        with impair.cable_pulled(net, "link1"):
            seen = fetch_many(net.client, 100)
            assert (dict(seen.sources), seen.failures) == ({"20.0.2.2": 100}, [])
            with impair.cable_pulled(net, "link2"):
                seen = fetch_many(net.client, 100)
                assert (dict(seen.sources), seen.failures) == ({"20.0.3.2": 100}, [])
                assert engine.apply().actions == [], "an outage is no drift"
        seen = fetch_many(net.client, 200)
        assert seen.failures == []
        assert set(seen.sources) == {"20.0.1.2", "20.0.2.2"}
        assert net.spoofed() == 0


@pytest.mark.parametrize("name", ["two_links", "dhcp"])
def test_no_new_connection_fails_when_a_cable_is_pulled(
    request: pytest.FixtureRequest, backend: str, name: str
) -> None:
    net: Topology = request.getfixturevalue(name)
    with Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle()
        for link, other in (("isp_a", "isp_b"), ("isp_b", "isp_a")):
            with impair.cable_pulled(net, link):
                fetched = fetch_many(net.client, 200)
                assert (dict(fetched.sources), fetched.failures) == ({net.sources[other]: 200}, [])
            fetched = fetch_many(net.client, 50)
            assert (set(fetched.sources), fetched.failures) == (set(net.sources.values()), [])


def test_dead_gateway_is_avoided_once_its_neighbour_entry_failed(two_links: Topology, backend: str) -> None:
    net = two_links
    net.router.sysctl("net.ipv4.neigh.wan1.retrans_time_ms", 50)
    net.router.sysctl("net.ipv4.neigh.wan1.base_reachable_time_ms", 200)
    net.router.sysctl("net.ipv4.neigh.wan1.delay_first_probe_time", 0)
    with Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle()
        with impair.gateway_dead(net, "isp_a"):
            net.router.run(["ping", "-c2", "-i0.2", "-W1", "5.5.5.1"], check=False)
            deadline = time.monotonic() + 3
            while "FAILED" not in net.router.ip("neigh show to 5.5.5.1") and time.monotonic() < deadline:
                time.sleep(0.05)
            fetched = fetch_many(net.client, 100)
            assert (dict(fetched.sources), fetched.failures) == ({"6.6.6.6": 100}, [])


def last_resort(net: Topology, engine: Engine, what: str) -> str:
    """The answer to a new connection when no member link has a carrier."""
    engine.settle(mwan_policies=[policy("isp_a", last_resort=what)])
    with impair.cable_pulled(net, "isp_a"):
        (trial,) = fetch_many(net.client, 1, timeout=0.7).trials
        return str(trial.get("source_seen") or trial["error"])


def test_last_resort(two_links: Topology, backend: str) -> None:
    net = two_links
    with Engine(net, backend) as engine, AccessLogServer(net.server):
        net.router.ip("route add default via 6.6.6.1 dev wan2 metric 50")
        assert "Errno 113" in last_resort(net, engine, "unreachable")
        assert last_resort(net, engine, "blackhole") == "timeout"
        assert last_resort(net, engine, "main") == "6.6.6.6"
        engine.settle(mwan_policies=[policy("isp_a", last_resort="unreachable")])
        assert dict(fetch_many(net.client, 10).sources) == {"5.5.5.5": 10}


def test_device_that_is_deleted_and_comes_back(point_to_point: Topology, backend: str) -> None:
    """The kernel drops the whole multipath route with one nexthop's device; the other line carries on without a run."""
    net = point_to_point
    with Engine(net, backend) as engine, AccessLogServer(net.server), EchoServer(net.server):
        engine.settle()
        with Talk(net.client, want="22.2.2.2") as staying:
            with impair.hung_up(net, "line_x"):
                fetched = fetch_many(net.client, 100)
                assert (dict(fetched.sources), fetched.failures) == ({"22.2.2.2": 100}, [])
                outcome = engine.apply()
                assert "ppp0 does not exist" in outcome.links["line_x"]["pending"]
                assert engine.apply().actions == []
                assert staying.ask() == "22.2.2.2"
            restored = engine.settle()
            assert restored.has("dev ppp0")
            assert restored.links["line_x"]["pending"] is None
            fetched = fetch_many(net.client, 100)
            assert (set(fetched.sources), fetched.failures) == ({"11.1.1.1", "22.2.2.2"}, [])
            assert staying.ask() == "22.2.2.2"
        assert net.spoofed() == 0


def test_device_that_is_deleted_and_back_before_a_run(point_to_point: Topology, backend: str) -> None:
    net = point_to_point
    with Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle()
        impair.hung_up(net, "line_x").undo()
        fetched = fetch_many(net.client, 50)
        assert (dict(fetched.sources), fetched.failures) == ({"22.2.2.2": 50}, [])
        engine.settle()
        assert set(fetch_many(net.client, 60).sources) == {"11.1.1.1", "22.2.2.2"}


MARKING = ("random", "round_robin", "source_hash")  # the firewall chooses the link


def report(net: Topology, **states: str) -> None:
    """As the prober does."""
    links = {link: {"state": state, "reason": "as written"} for link, state in states.items()}
    net.router.run(["tee", "/run/mwan/health.json"], input=json.dumps({"links": links}))


def test_second_tier_takes_nothing_while_the_first_lives(backend: str) -> None:
    """However often the health of its link changes meanwhile, and whoever chooses."""
    with topology.many_links(3) as net, Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle(mwan_classify="marks")
        first, second = {"20.0.1.2", "20.0.2.2"}, {"20.0.3.2"}
        tiers = [("link1", 3, 1), ("link2", 1, 1), ("link3", 1, 2)]
        for algorithm in MARKING:
            engine.settle(mwan_policies=[policy(*tiers, algorithm=algorithm)])
            with ThreadPoolExecutor(1) as pool:
                fetching = pool.submit(fetch_many, net.client, 300, concurrency=4)
                for state in ("down", "up", "suspect", "up"):
                    report(net, link3=state)
                    engine.apply()
                seen = fetching.result()
            assert (seen.failures, seen.sources.keys() <= first) == ([], True), (algorithm, seen.sources)
            report(net, link1="down", link2="down")
            engine.apply()
            assert fetch_many(net.client, 20).sources.keys() == second, algorithm
            report(net)
            engine.apply()
            assert fetch_many(net.client, 20).sources.keys() <= first, algorithm
        assert net.spoofed() == 0


def test_last_resort_of_every_algorithm(two_links: Topology, backend: str) -> None:
    net = two_links
    net.router.ip("route add default via 6.6.6.1 dev wan2 metric 50")
    net.router.sysctl("net.ipv4.icmp_ratelimit", 0)
    with Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.apply(mwan_classify="marks")
        answers = {"unreachable": "Errno 113", "blackhole": "timeout", "main": "6.6.6.6"}
        for algorithm, (what, answer) in product(MARKING, answers.items()):
            report(net)
            engine.apply(mwan_policies=[policy("isp_a", algorithm=algorithm, last_resort=what)])
            report(net, isp_a="down")
            engine.apply()
            (trial,) = fetch_many(net.client, 1, timeout=0.5).trials
            assert answer in str(trial.get("source_seen") or trial["error"]), (what, algorithm)
