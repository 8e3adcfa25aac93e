# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Changes under traffic: no packet is lost, and no connection of a link that stays is broken or moved."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from lab import topology
from lab.balance import policy
from lab.engine import Engine
from lab.topology import Topology
from lab.traffic import AccessLogServer, EchoServer, LongLivedTcp, LongLivedUdp, UdpFlood, fetch_many

PPS = 15_000
Change = Callable[[Engine], object]


@contextmanager
def long_flows(net: Topology, number: int = 16, leaving: str | None = None) -> Iterator[None]:
    """Flows over all links, in and out, that must not notice what happens meanwhile; those of `leaving` may.

    With a leaving link none is the router's own: one bound to an address which is nobody's link any more goes on
    from that address, and this is no business of ours.
    """
    with (
        LongLivedTcp(net.client, number=number) as tcp,
        LongLivedUdp(net.client, number=number) as udp,
        LongLivedTcp(net.client if leaving else net.router, number=number) as own,
        LongLivedTcp(net.server, net.uplinks["link2"].address, number=4) as inbound,
    ):
        yield
        flows = tcp.stop() + udp.stop() + own.stop()
        entered = inbound.stop()
    assert {source for flow in flows for source in flow.sources} >= {net.sources["link1"], net.sources["link2"]}
    for flow in flows + entered:
        if leaving not in flow.sources:
            assert (flow.missing, flow.error, len(flow.sources)) == ([], None, 1)


def declared(net: Topology, *numbers: int, **weights: int) -> dict[str, object]:
    names = [f"link{n}" for n in numbers]
    return {
        "mwan_links": [link for link in net.variables["mwan_links"] if link["name"] in names],
        "mwan_snat": [snat for snat in net.variables["mwan_snat"] if snat["link"] in names],
        "mwan_policies": [policy(*((name, weights.get(name, 1)) for name in names))],
    }


def change_weights(engine: Engine) -> object:
    return engine.settle(**declared(engine.topology, 1, 2, link1=5, link2=1))


def add_a_link(engine: Engine) -> object:
    return engine.settle(**declared(engine.topology, 1, 2, 3))


def change_policy(engine: Engine) -> object:
    return engine.settle(mwan_policies=[policy(("link1", 1, 1), ("link2", 1, 2), last_resort="blackhole")])


def new_default_policy(engine: Engine) -> object:
    policies = [policy("link2", "link1"), policy("link2", name="second")]
    return engine.settle(mwan_policies=policies, mwan_default_policy="second")


def change_snat(engine: Engine) -> object:
    """Of another source, then the way it is done."""
    more = [{"link": "link2", "source": "192.168.77.0/24", "to": "masquerade"}]
    engine.settle(mwan_snat=engine.variables["mwan_snat"] + more)
    return engine.settle(mwan_snat=[{**snat, "to": "auto"} for snat in engine.variables["mwan_snat"]])


def switch_rules(engine: Engine) -> object:
    engine.settle(mwan_rules=[{"name": "all", "source": "192.168.101.0/24", "link": "link2"}])
    engine.settle(mwan_rules=[{"name": "all", "source": "192.168.101.0/24", "link": "link1"}])
    return engine.settle(mwan_rules=[])


def filter_reverse_paths(engine: Engine) -> object:
    return engine.settle(mwan_rp_filter={"mode": "strict"}, mwan_blackhole=["10.99.0.0/16"])


@pytest.mark.parametrize(
    "change",
    [change_weights, add_a_link, change_policy, new_default_policy, change_snat, switch_rules, filter_reverse_paths],
    ids=lambda change: change.__name__,
)
def test_change_loses_nothing(backend: str, change: Change) -> None:
    with topology.many_links(3) as net, Engine(net, backend) as engine:
        engine.settle(**declared(net, 1, 2))
        with EchoServer(net.server), EchoServer(net.router), long_flows(net):
            flood = UdpFlood(net.client, net.server, pps=PPS, seconds=1.0, flows=12)
            change(engine)
            result = flood.wait()
        assert (result.lost <= result.dropped_by_machine, result.duplicates) == (True, 0)
        assert all(len(sources) == 1 for sources in result.sources), "a flow changed its link"
        assert net.spoofed() == 0


def test_connections_begun_during_a_change_all_succeed(backend: str) -> None:
    with topology.many_links(3) as net, Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle(**declared(net, 1, 2))
        for change in (change_weights, add_a_link, change_policy, switch_rules, change_snat):
            with begun(net) as failures:
                change(engine)
            assert failures() == [], change.__name__
        assert net.spoofed() == 0


@contextmanager
def begun(net: Topology) -> Iterator[Callable[[], list[object]]]:
    """New connections one after the other, from before to after the block; returns the failures."""
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(fetch_many, net.client, 400, concurrency=4)
        yield lambda: list(fetching.result().failures)


def test_connections_are_told_apart_anew_without_a_gap(backend: str) -> None:
    """Each step allows these links only, before it or after it, and no connection fails or takes another."""
    lan = {"name": "lan", "source": "192.168.101.0/24"}
    only = [policy(f"link{n}", name=f"only{n}") for n in (1, 2, 3)]
    spread = policy("link1", "link2", name="spread", algorithm="random", sticky=60)
    steps: list[tuple[set[int], dict[str, object]]] = [
        ({1}, {"mwan_classify": "routing", "mwan_policies": only, "mwan_rules": [{**lan, "policy": "only1"}]}),
        ({1}, {"mwan_classify": "marks"}),
        ({2}, {"mwan_rules": [{**lan, "policy": "only2"}]}),
        ({1, 2}, {"mwan_policies": [*only, spread], "mwan_rules": [{**lan, "policy": "spread"}]}),
        ({1}, {"mwan_policies": only[:1], "mwan_rules": [{**lan, "dscp": 0, "link": "link1"}]}),
        ({3}, {"mwan_policies": only, "mwan_default_policy": "only3", "mwan_rules": []}),
        ({1}, {"mwan_rules": [{**lan, "policy": "only1"}]}),
        ({1}, {"mwan_classify": "routing"}),
    ]
    with topology.many_links(3) as net, Engine(net, backend) as engine, AccessLogServer(net.server):
        allowed, first = steps[0]
        engine.settle(mwan_default_policy="only1", **first)
        for links, change in steps[1:]:
            with ThreadPoolExecutor(1) as pool:
                fetching = pool.submit(fetch_many, net.client, 400, concurrency=4)
                engine.settle(**change)
                seen = fetching.result()
            expected = {net.sources[f"link{n}"] for n in allowed | links}
            assert (seen.failures, seen.sources.keys() <= expected) == ([], True), (change, seen.sources)
            after = fetch_many(net.client, 20)
            assert after.sources.keys() <= {net.sources[f"link{n}"] for n in links}, (change, after.sources)
            allowed = links
        assert net.spoofed() == 0


def test_who_is_on_the_way_when_a_policy_goes_is_translated_and_pinned(backend: str) -> None:
    """A packet that was given the mark of a policy by rules that are gone before it leaves."""
    unknown = 'type filter hook prerouting priority mangle + 2; iifname "lan0" ct state new ct mark set 0x3e00;'
    with topology.two_links() as net, Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle()
        net.router.nft(f"table inet before {{ chain begun {{ {unknown} }}; }}")
        with EchoServer(net.server), LongLivedTcp(net.client, number=8) as flows:
            seen = fetch_many(net.client, 60)
            ended = flows.stop()
        assert (seen.failures, seen.sources.keys()) == ([], set(net.sources.values()))
        assert [(flow.missing, flow.error, len(flow.sources)) for flow in ended] == [([], None, 1)] * 8
        assert net.spoofed() == 0


def test_removed_link_takes_only_its_own_connections(backend: str) -> None:
    with topology.many_links(3) as net, Engine(net, backend) as engine:
        engine.settle()
        gone = net.sources["link3"]
        with EchoServer(net.server), EchoServer(net.router), long_flows(net, leaving=gone):
            engine.settle(**declared(net, 1, 2))
        with AccessLogServer(net.server):
            fetched = fetch_many(net.client, 100)
        assert (set(fetched.sources), fetched.failures) == ({net.sources["link1"], net.sources["link2"]}, [])


def test_datagrams_of_a_removed_link_go_on_over_the_others_with_their_address(backend: str) -> None:
    with topology.many_links(3) as net, Engine(net, backend) as engine:
        engine.settle()
        flood = UdpFlood(net.client, net.server, pps=PPS, seconds=1.5, flows=100)
        time.sleep(0.5)
        engine.settle(**declared(net, 1, 2))
        result = flood.wait()
        before = [sources for sources in result.sources if net.sources["link3"] in sources]
        assert before
        assert all(len(sources) == 2 for sources in before)
        assert net.spoofed() == 0


def test_removing_a_link_loses_no_new_connection(backend: str) -> None:
    with topology.many_links(3) as net, Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle()
        with begun(net) as failures:
            engine.settle(**declared(net, 1, 2))
        assert failures() == []
        assert net.spoofed() == 0


def test_switching_the_firewall_and_back_keeps_connections() -> None:
    with topology.many_links(2) as net, Engine(net, "nftables") as engine:
        engine.settle()
        engine.settle(mwan_firewall_backend="iptables")
        engine.settle(mwan_firewall_backend="nftables")
        with EchoServer(net.server), EchoServer(net.router), long_flows(net):
            flood = UdpFlood(net.client, net.server, pps=PPS, seconds=2.0, flows=12)
            assert engine.settle(mwan_firewall_backend="iptables").has("nftables")
            assert "mwan" not in net.router.run("nft list tables").stdout
            engine.settle(mwan_firewall_backend="nftables")
            assert "MWAN" not in net.router.run("iptables-legacy-save").stdout
            result = flood.wait()
        assert (result.lost <= result.dropped_by_machine, result.duplicates) == (True, 0)
        assert all(len(sources) == 1 for sources in result.sources)
        assert net.spoofed() == 0


def test_connections_older_than_the_first_run_survive_it(two_links: Topology, backend: str) -> None:
    """A router in use, masquerading out of its one default route, is taken over without breaking what runs."""
    net = two_links
    net.router.sysctl("net.ipv4.ip_forward", 1)
    net.router.ip("route add default via 5.5.5.1 dev wan1")
    net.router.nft('table ip old { chain out { type nat hook postrouting priority 100; oifname "wan*" masquerade; }; }')
    with (
        Engine(net, backend) as engine,
        EchoServer(net.server),
        LongLivedTcp(net.client, number=8) as tcp,
        LongLivedUdp(net.client, number=8) as udp,
    ):
        engine.settle()
        flows = tcp.stop() + udp.stop()
    assert [(list(flow.sources), flow.missing, flow.error) for flow in flows] == [(["5.5.5.5"], [], None)] * 16
    assert net.spoofed() == 0
