# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""A link fails under the prober: that it is noticed, and what the clients of the LAN see of it.

The times are those that an overloaded machine keeps, too; the benchmark measures the ones that are promised.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from lab import impair, topology
from lab.clients import Attempt, Clients, Newcomers, outage_of
from lab.impair import Flapping, Moment
from lab.prober import Prober
from lab.seen import FLOWS, breaks, disturbed, slowest, sources
from lab.topology import Direction, Topology
from lab.traffic import fetch_many
from lab.watched import happened, watched

A, B = "5.5.5.5", "6.6.6.6"
FAST = {"profile": "fast"}
RESET = {"tcp": ["ECONNRESET"] * FLOWS["tcp"]}  # once each
IN_FLIGHT = 0.2  # seconds; the kernel tells of a carrier within some milliseconds, a busy machine adds to them
REFUSED = "EHOSTUNREACH"  # what a packet is told that comes after the kernel knows and before it is led away
# seconds
AT_ONCE, SUSPECTED, DOWN, ANSWERED = 2.0, 3.0, 6.0, 8.0


def failed_for(newcomers: Newcomers, moment: Moment) -> float:
    """Seconds after which no new connection failed any more."""
    attempts: Sequence[Attempt] = newcomers.told()
    seconds = outage_of(attempts, moment)
    assert seconds is not None, f"new connections still fail: {attempts[-10:]}"
    return seconds


def assert_new_connections(net: Topology, *expected: str) -> None:
    fetched = fetch_many(net.client, 60)
    assert (set(fetched.sources), fetched.failures) == (set(expected), [])


def assert_moved(clients: Clients, moment: Moment) -> None:
    """The kernel said so: all are answered by way of the other link."""
    seen = clients.outages(moment, patience=ANSWERED)
    met = breaks(seen)
    assert (sources(seen), met.pop("tcp")) == ({B}, RESET["tcp"])
    assert {why for errors in met.values() for why in errors} <= {REFUSED}
    assert slowest(seen) < SUSPECTED


def wait_back(prober: Prober, net: Topology, link: str) -> None:
    """Until it takes new connections again beside the other one."""
    prober.wait_for(link, "up")
    prober.wait_settled()
    assert_new_connections(net, A, B)


def test_carrier_loss(two_links: Topology, backend: str) -> None:
    net = two_links
    with (
        watched(net, backend) as prober,
        Clients(net.client, **FLOWS, want=A) as clients,
        Clients(net.client, **FLOWS, want=B) as neighbours,
        Newcomers(net.client) as newcomers,
        impair.inject(impair.cable_pulled, net, "isp_a") as cut,
    ):
        prober.wait_for("isp_a", "down", AT_ONCE)
        assert_moved(clients, cut.moment)
        cut.undo()
        wait_back(prober, net, "isp_a")
        assert cut.over is not None
        assert sources(clients.outages(cut.over, patience=AT_ONCE)) == {B}, "what has moved stays"
        assert disturbed(neighbours, cut.moment) == []
        assert failed_for(newcomers, cut.moment) < AT_ONCE
        assert happened(prober) == ["isp_a up down", "isp_a down up"]


def test_carrier_loss_that_the_kernel_tells_of_late() -> None:
    """Of some devices it does so only once a second, and only then takes the way out of service itself."""
    with (
        topology.two_links(slow_carrier=True) as net,
        watched(net) as prober,
        Clients(net.client, **FLOWS, want=A) as clients,
        Newcomers(net.client) as newcomers,
        impair.inject(impair.cable_pulled, net, "isp_a") as cut,
    ):
        prober.wait_for("isp_a", "down", SUSPECTED)
        assert_moved(clients, cut.moment)
        assert failed_for(newcomers, cut.moment) < SUSPECTED


def test_black_hole(two_links: Topology, backend: str) -> None:
    """The gateway goes on answering, and the carrier stays; the settings are the default ones."""
    net = two_links
    with (
        watched(net, backend) as prober,
        Clients(net.client, **FLOWS, want=A) as clients,
        Clients(net.client, **FLOWS, want=B) as neighbours,
        Newcomers(net.client) as newcomers,
        impair.inject(impair.black_hole, net, "isp_a") as hole,
    ):
        prober.wait_for("isp_a", "suspect", SUSPECTED)
        prober.wait_settled()
        assert_new_connections(net, B)
        assert sources(clients.outages(hole.moment)) == {None}, "what is only suspected is not moved"
        prober.wait_for("isp_a", "down", DOWN)
        seen = clients.outages(hole.moment, patience=ANSWERED)
        assert (sources(seen), breaks(seen)) == ({B}, RESET)
        assert slowest(seen) < ANSWERED
        hole.undo()
        wait_back(prober, net, "isp_a")
        assert hole.over is not None
        assert sources(clients.outages(hole.over, patience=AT_ONCE)) == {B}, "what has moved stays"
        assert disturbed(neighbours, hole.moment) == []
        assert failed_for(newcomers, hole.moment) < SUSPECTED
        assert happened(prober) == ["isp_a up suspect", "isp_a suspect down", "isp_a down up"]
        assert "gateway answers" in next(event["reason"] for event in prober.events() if event["after"] == "down")


@pytest.mark.parametrize("direction", ["up", "down"])
def test_one_way_loss(two_links: Topology, direction: Direction) -> None:
    net = two_links
    with (
        watched(net, probe=FAST) as prober,
        Clients(net.client, **FLOWS, want=A) as clients,
        Newcomers(net.client) as newcomers,
        impair.inject(impair.one_way_loss, net, "isp_a", direction) as loss,
    ):
        prober.wait_for("isp_a", "down", DOWN)
        seen = clients.outages(loss.moment, patience=ANSWERED)
        assert (sources(seen), breaks(seen)) == ({B}, RESET)
        assert failed_for(newcomers, loss.moment) < SUSPECTED
        assert happened(prober) == ["isp_a up suspect", "isp_a suspect down"]


def test_gateway_dead_while_the_carrier_stays(two_links: Topology) -> None:
    net = two_links
    with (
        watched(net, probe=FAST) as prober,
        Clients(net.client, **FLOWS, want=A) as clients,
        Newcomers(net.client) as newcomers,
        impair.inject(impair.gateway_dead, net, "isp_a") as dead,
    ):
        prober.wait_for("isp_a", "down", DOWN)
        seen = clients.outages(dead.moment, patience=ANSWERED)
        assert (sources(seen), breaks(seen)) == ({B}, RESET)
        assert failed_for(newcomers, dead.moment) < SUSPECTED
        assert "gateway is silent" in next(event["reason"] for event in prober.events() if event["after"] == "down")
        dead.undo()
        wait_back(prober, net, "isp_a")


def test_provider_that_says_it_has_no_way_on(two_links: Topology) -> None:
    """Then half the silence is enough."""
    net = two_links
    with (
        watched(net) as prober,
        Clients(net.client, **FLOWS, want=A) as clients,
        impair.inject(impair.unreachable, net, "isp_a") as told,
    ):
        prober.wait_for("isp_a", "down", DOWN)
        event = next(event for event in prober.events() if event["after"] == "down")
        assert "negative: No route to host (says 5.5.5.1), gateway answers" in event["reason"]
        assert event["evidence"]["limit"] == 1.0
        seen = clients.outages(told.moment, patience=ANSWERED)
        assert (sources(seen), breaks(seen)["tcp"]) == ({B}, RESET["tcp"])


def test_on_down_keep_touches_no_connection(two_links: Topology) -> None:
    """Who would rather wait for the link to come back goes on where it was."""
    net = two_links
    (policy,) = net.variables["mwan_policies"]
    kept = [{**policy, "on_down": {"tcp": "keep", "other": "keep"}}]
    with (
        watched(net, probe={**FAST, "flush_delay": 0}, mwan_policies=kept) as prober,
        Clients(net.client, **FLOWS, want=A) as clients,
        impair.inject(impair.black_hole, net, "isp_a") as hole,
    ):
        prober.wait_for("isp_a", "down", DOWN)
        prober.wait_settled()
        assert_new_connections(net, B)
        time.sleep(0.5)
        waiting = clients.outages(hole.moment)
        assert (sources(waiting), breaks(waiting)) == ({None}, {})
        hole.undo()
        seen = clients.outages(hole.moment, patience=ANSWERED)
        assert (sources(seen), breaks(seen), {outage.reconnects for outage in seen}) == ({A}, {}, {0})


def test_blackout_that_is_over_before_flush_delay_kills_nothing(two_links: Topology) -> None:
    net = two_links
    with (
        watched(net, probe={**FAST, "flush_delay": 10}) as prober,
        Clients(net.client, **FLOWS, want=A) as clients,
        impair.inject(impair.black_hole, net, "isp_a") as hole,
    ):
        prober.wait_for("isp_a", "down", DOWN)
        prober.wait_settled()
        assert_new_connections(net, B)
        hole.undo()
        seen = clients.outages(hole.moment, patience=ANSWERED)
        assert (sources(seen), breaks(seen)) == ({A}, {})
        wait_back(prober, net, "isp_a")
        assert sources(clients.outages(hole.moment)) == {A}


def test_flapping_carrier_is_damped(two_links: Topology) -> None:
    """Ten times a second: the first loss counts at once, a return only when it lasts, and longer the second time."""
    net = two_links
    with (
        watched(net, probe={**FAST, "damping": {"longest": 60}}) as prober,
        Clients(net.client, **FLOWS, want=B) as neighbours,
        Newcomers(net.client) as newcomers,
    ):
        waited, lost_at = [], []
        for _unused in range(2):
            with Flapping(lambda: impair.cable_pulled(net, "isp_a"), hz=10, times=20) as flapping:
                flapping.wait()
            lost_at.append(flapping.moments[0].time)
            prober.wait_for("isp_a", "up")
            waited.append(time.monotonic() - flapping.moments[-1].time)
        assert happened(prober) == ["isp_a up down", "isp_a down up"] * 2
        assert 0.9 < waited[0] < 3
        assert 1.9 < waited[1] < 4
        assert disturbed(neighbours, flapping.moments[0]) == []
        # what was on its way when the link was first lost; afterwards it is not used
        failed = [attempt.began for attempt in newcomers.told() if not attempt.answered]
        assert all(any(abs(began - lost) < IN_FLIGHT for lost in lost_at) for began in failed)
        assert len(failed) <= len(lost_at)


def test_flapping_provider_is_a_bad_link(two_links: Topology) -> None:
    """It is dark for half the time, never for long, and not in step with the probes, which would hide it."""
    net = two_links
    with (
        watched(net, probe={"interval": 0.1, "dead": 1, "degraded": "out"}) as prober,
        Clients(net.client, **FLOWS, want=B) as neighbours,
        Flapping(lambda: impair.black_hole(net, "isp_a"), hz=7, times=60) as flapping,
    ):
        prober.wait_for("isp_a", "degraded", 8)
        prober.wait_settled()
        assert_new_connections(net, B)
        assert happened(prober) == ["isp_a up degraded"]
        assert disturbed(neighbours, flapping.moments[0]) == []
