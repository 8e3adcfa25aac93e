# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What goes wrong on a link of the lab goes wrong as said, on that link only, and is taken back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from math import sqrt

import pytest
from lab import impair, topology
from lab.balance import DEVIATIONS
from lab.clients import Clients
from lab.engine import Engine
from lab.host import LabError
from lab.monitor import SOON, Monitor
from lab.probes import Prober, Seen, bindings
from lab.topology import TARGETS, Direction, Topology
from lab.traffic import AccessLogServer, EchoServer, UdpFlood, fetch_many, saturated

BUILDERS = [topology.two_links, topology.shared_segment, topology.same_gateway, topology.point_to_point]
by_name = pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)


@contextmanager
def managed(net: Topology) -> Iterator[Prober]:
    """A balanced router, an echo server, and a probe "LINK TARGET" for every pair of them."""
    with ExitStack() as stack:
        stack.enter_context(net)
        links = bindings(net, stack.enter_context(Engine(net)))
        stack.enter_context(EchoServer(net.server))
        prober = stack.enter_context(Prober(net.router))
        for link, binding in links.items():
            for target in TARGETS:
                prober.make(f"{link} {target}", {"kind": "icmp", "address": target}, binding)
        yield prober


def answering(prober: Prober, net: Topology, *silent: str) -> set[str]:
    """Not much patience is had with targets that are expected to be silent."""
    return {
        probe
        for target in TARGETS
        for probe in (f"{link} {target}" for link in net.uplinks)
        if prober.ask(probe, 0.2 if target in silent else 2.0)["what"] == "replied"
    }


@pytest.mark.parametrize("build", [*BUILDERS, topology.three_links], ids=lambda build: build.__name__)
def test_targets_answer_over_every_link_and_can_be_silenced(build: Callable[[], Topology]) -> None:
    net = build()
    with managed(net) as prober:
        everything = answering(prober, net)
        assert len(everything) == len(TARGETS) * len(net.uplinks)
        with impair.targets_dead(net, "8.8.8.8"):
            others = {probe for probe in everything if not probe.endswith(" 8.8.8.8")}
            assert answering(prober, net, "8.8.8.8") == others
            with impair.targets_dead(net), Clients(net.client, tcp=1, udp=1, icmp=1) as clients:
                assert answering(prober, net, *TARGETS) == set()
                assert len(clients.flows()) == 3
        assert answering(prober, net) == everything


def round_trips(clients: Clients, since: float) -> dict[str, list[float]]:
    """Source address -> seconds of what was asked after that time."""
    found: dict[str, list[float]] = {}
    for flow in clients.flows(since):
        for answer in flow.answers:
            if answer.asked > since:
                found.setdefault(answer.source, []).append(answer.came - answer.asked)
    return found


@by_name
def test_delay_comes_and_goes_while_the_line_is_in_use(build: Callable[[], Topology]) -> None:
    net = build()
    slow, quick = net.sources.values()
    link = next(iter(net.uplinks))
    with managed(net), Clients(net.client, tcp=2, udp=2, icmp=1, want=slow) as clients:
        with Clients(net.client, udp=2, want=quick) as others, impair.delay(net, link) as line:
            for up, down in ((120, 0), (0, 150), (0, 0)):
                line.change(up, down)
                time.sleep(0.3)  # what was under way arrives
                began = time.monotonic()
                time.sleep(1.0)
                assert up + down <= min(round_trips(clients, began)[slow]) * 1000 < up + down + 20
                assert min(round_trips(others, began)[quick]) < 0.05
        time.sleep(0.3)
        began = time.monotonic()
        time.sleep(1.0)
        assert {source: min(times) < 0.02 for source, times in round_trips(clients, began).items()} == {slow: True}
        assert all(flow.breaks == [] for flow in clients.flows())
        assert net.spoofed() == 0


@pytest.mark.parametrize("direction", ["up", "down"])
def test_delay_is_in_the_direction_that_is_named(two_links: Topology, direction: str) -> None:
    """Seen from where the packets arrive: the questions are 0.6 s late at the server, or the answers are."""
    with managed(two_links), Clients(two_links.client, udp=1, want="5.5.5.5") as clients:
        two_links.server.nft("table ip when { chain c { type filter hook input priority 0; udp dport 7 drop; }; }")
        with impair.delay(two_links, "isp_a", **{f"{direction}_ms": 600}):
            time.sleep(0.5)
            two_links.server.nft("delete table ip when")
            ended = time.monotonic()
            time.sleep(1.4)
            (flow,) = clients.flows(ended)
            first = next(answer for answer in flow.answers if answer.came > ended)
            # up: what was asked before is still under way, and arrives once the server listens again
            assert (first.asked < ended - 0.1) == (direction == "up")


def test_delay_keeps_the_order_when_it_shrinks(two_links: Topology) -> None:
    with (
        managed(two_links),
        Clients(two_links.client, udp=1, interval=0.01, want="5.5.5.5") as clients,
        impair.delay(two_links, "isp_a", up_ms=300) as line,
    ):
        time.sleep(0.4)
        line.change(0, 0)
        time.sleep(0.5)
        (flow,) = clients.flows()
    asked = [answer.asked for answer in flow.answers]
    assert asked == sorted(asked)
    assert len(asked) > 60
    assert min(answer.came - answer.asked for answer in flow.answers[-10:]) < 0.02


def test_delay_combines_with_a_black_hole(two_links: Topology) -> None:
    with managed(two_links), Clients(two_links.client, udp=1, want="5.5.5.5") as clients:
        with impair.delay(two_links, "isp_a", down_ms=50), impair.black_hole(two_links, "isp_a"):
            time.sleep(0.2)
            began = time.monotonic()
            time.sleep(0.3)
            assert round_trips(clients, began) == {}
        with impair.black_hole(two_links, "isp_a"), impair.delay(two_links, "isp_a", down_ms=50):
            began = time.monotonic()
            time.sleep(0.3)
            assert round_trips(clients, began) == {}


@pytest.mark.parametrize("percent", [2, 10, 30])
def test_one_way_loss_is_the_share_that_was_asked(two_links: Topology, percent: int) -> None:
    with managed(two_links), impair.one_way_loss(two_links, "isp_a", "up", percent):
        flood = UdpFlood(two_links.router, two_links.server, pps=4000, seconds=1.0, flows=1, source="5.5.5.5")
        result = flood.wait()
    (sent,), share = result.sent, percent / 100
    assert abs(result.lost - sent * share) <= DEVIATIONS * sqrt(sent * share * (1 - share)) + result.dropped_by_machine


SATURATED: list[tuple[Callable[[], Topology], Direction]] = [
    (topology.two_links, "up"),
    (topology.two_links, "down"),
    (topology.shared_segment, "down"),
]


@pytest.mark.parametrize(("build", "direction"), SATURATED, ids=lambda item: getattr(item, "__name__", item))
def test_saturated_line_has_a_deep_buffer(build: Callable[[], Topology], direction: Direction) -> None:
    net = build()
    link, uplink = next(iter(net.uplinks.items()))
    with managed(net) as prober, impair.rate(net, link, kbit=10_000, latency_ms=1000):
        probe = f"{link} {TARGETS[0]}"
        assert min(prober.ask(probe)["after"] for _unused in range(3)) < 0.1
        flood = saturated(net, link, 10_000, seconds=2.5, direction=direction)
        time.sleep(1.8)
        verdict = prober.ask(probe, timeout=3)
        assert verdict["what"] == "replied"
        assert 0.7 < verdict["after"] < 1.3
        assert flood.wait().sources == [[uplink.source if direction == "up" else topology.SERVER]]


def test_unreachable_is_said_every_time(two_links: Topology) -> None:
    with managed(two_links) as prober, impair.unreachable(two_links, "isp_a"):
        said = [prober.ask(f"isp_a {target}")["what"] for target in TARGETS]
        assert said == ["refused"] * 3
        assert prober.ask("isp_b 1.1.1.1")["what"] == "replied"


@pytest.mark.parametrize("build", [*BUILDERS, topology.dhcp], ids=lambda build: build.__name__)
def test_device_is_removed_and_made_anew(build: Callable[[], Topology]) -> None:
    with (
        build() as net,
        AccessLogServer(net.server),
        Monitor(net.router, devices=[net.variables["mwan_links"][0]["device"]]) as monitor,
    ):
        device = next(iter(net.uplinks.values())).device
        before = net.router.ip_json(f"addr show dev {device}")[0], net.router.ip("route show default")
        with impair.device_removed(net, next(iter(net.uplinks))):
            monitor.wait("LinkEvent", device=device, present=False)
            assert device not in net.router.ip("-br link")
        after = net.router.ip_json(f"addr show dev {device}")[0], net.router.ip("route show default")
        assert [item["local"] for item in after[0]["addr_info"]] == [item["local"] for item in before[0]["addr_info"]]
        assert (after[0].get("address"), after[1]) == (before[0].get("address"), before[1])
        assert net.uplinks[next(iter(net.uplinks))].tun or after[0]["ifindex"] != before[0]["ifindex"]
        with Engine(net) as engine:
            engine.apply()
            assert set(fetch_many(net.client, 60).sources) == set(net.sources.values())


@pytest.mark.parametrize("build", [topology.two_links, topology.point_to_point], ids=lambda build: build.__name__)
def test_lease_leads_to_another_prefix(build: Callable[[], Topology]) -> None:
    with build() as net, AccessLogServer(net.server), Engine(net) as engine:
        link = next(iter(net.uplinks))
        old = net.sources[link]
        moment = impair.lease_changed(net, link, "44.4.4.9", "44.4.4.1")
        assert moment.began < moment.ended
        assert net.sources[link] == net.uplinks[link].address == "44.4.4.9"
        assert old not in net.router.ip("addr show")
        topology.learned(net.variables)
        for item in net.variables["mwan_links"]:
            if "gateway" in item:
                item["gateway"] = net.uplinks[item["name"]].gateway
        engine.apply(**net.variables)
        assert fetch_many(net.client, 60).failures == []
        assert fetch_many(net.router, 3, sources=["44.4.4.9"]).sources == {"44.4.4.9": 3}
        assert net.spoofed() == 0
        net.router.ip(f"addr add {old} dev lo")
        assert fetch_many(net.router, 2, sources=[old], timeout=0.3).answered == 0


def test_lease_is_changed_while_the_line_is_hung_up(point_to_point: Topology) -> None:
    with impair.hung_up(point_to_point, "line_x"):
        impair.lease_changed(point_to_point, "line_x", "11.1.1.7", "11.1.1.253")
    assert "11.1.1.7 peer 11.1.1.253" in point_to_point.router.ip("addr show dev ppp0")
    assert "11.1.1.1 " not in point_to_point.router.ip("addr show dev ppp0")


def test_lease_of_a_shared_device_is_refused(shared_segment: Topology) -> None:
    with pytest.raises(LabError, match="router1 shares its device"):
        impair.lease_changed(shared_segment, "router1", "192.168.100.101", "192.168.100.1")


def test_flapping_is_as_fast_and_as_often_as_asked(two_links: Topology) -> None:
    with Monitor(two_links.router, devices=["wan1"]) as monitor:
        flapping = impair.Flapping(lambda: impair.cable_pulled(two_links, "isp_a"), hz=10, times=10)
        flapping.wait()
        carriers = [told["carrier"] for told in monitor.rest(SOON) if told["what"] == "LinkEvent"]
    # a busy kernel says nothing of a carrier that is back before it has looked
    assert 8 <= carriers.count(False) <= 10
    assert carriers[-1] is True
    began, ended = flapping.moments[0].time, flapping.moments[-1].time
    assert 0.7 < ended - began < 1.5
    assert len(flapping.moments) == 20


def test_flapping_ends_undone_and_tells_what_went_wrong(two_links: Topology) -> None:
    with impair.Flapping(lambda: impair.cable_pulled(two_links, "isp_a"), hz=5, times=100):
        time.sleep(0.05)
    assert two_links.router.run("cat /sys/class/net/wan1/carrier").stdout == "1\n"
    flapping = impair.Flapping(lambda: impair.hung_up(two_links, "isp_a"))
    with pytest.raises(LabError, match="not a point-to-point line"):
        flapping.wait()
    with pytest.raises(ValueError, match="100 Hz"):
        impair.Flapping(lambda: impair.cable_pulled(two_links, "isp_a"), hz=100)


def test_injection_tells_when(two_links: Topology) -> None:
    with Monitor(two_links.router, devices=["wan1"]):
        before = time.monotonic()
        injection = impair.inject(impair.cable_pulled, two_links, "isp_a")
        after = time.monotonic()
    assert before < injection.moment.began < injection.moment.time < injection.moment.ended < after
    assert injection.moment.time == pytest.approx((injection.moment.began + injection.moment.ended) / 2)
    assert injection.over is None
    injection.undo()
    over = injection.over
    assert over is not None
    assert over.began > injection.moment.ended
    injection.undo()
    assert injection.over == over


@pytest.mark.parametrize("injure", [impair.device_removed, impair.cable_pulled])
def test_injection_is_timed_where_the_kernel_sees_it(
    two_links: Topology, injure: Callable[[Topology, str], impair.Impairment]
) -> None:
    """Not where it is prepared, which for a device that is removed takes longer."""
    with Monitor(two_links.router, devices=["wan1"]) as monitor, impair.inject(injure, two_links, "isp_a") as injection:
        told = monitor.wait("LinkEvent", device="wan1", carrier=False)
    assert injection.moment.began < told["when"] < injection.moment.ended + 0.3


@pytest.mark.parametrize("slow", [False, True])
def test_slow_carrier_is_told_late(slow: bool) -> None:
    with topology.two_links(slow_carrier=slow) as net, Monitor(net.router, devices=["wan1"]) as monitor:
        (device,) = net.router.ip_json("link show dev wan1")
        assert (device["ifindex"] == device["link_index"]) == slow
        waited = []
        for _unused in range(2):  # the first may come at once
            with impair.inject(impair.cable_pulled, net, "isp_a") as pulled:
                told = monitor.wait("LinkEvent", device="wan1", carrier=False)
                waited.append(told["when"] - pulled.moment.time)
            monitor.wait("LinkEvent", device="wan1", carrier=True)
        assert (waited[1] > 0.3) == slow


def test_same_gateway_is_another_one_on_each_device() -> None:
    net = topology.same_gateway()
    with managed(net), AccessLogServer(net.server):
        seen = Seen(net)
        for uplink in net.uplinks.values():
            net.router.run(f"ip neigh flush dev {uplink.device}")
            fetched = fetch_many(net.router, 2, sources=[uplink.address])
            assert fetched.sources == {uplink.source: 2}
            assert {link for link, number in seen.packets().items() if number} == {uplink.name}
        assert len({uplink.gateway for uplink in net.uplinks.values()}) == 1
