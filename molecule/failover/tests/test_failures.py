# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""A link fails, or both do, or who watches them: what the LAN's clients and the server see of it.

Failures and clients are those of tests/netns/test_failover.py. Times are those that an overloaded machine keeps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from contained import Container, Service
from lab import accesses, connections, new_tag, run, wait_until

from tests.lab import impair
from tests.lab.clients import Clients, Newcomers, outage_of
from tests.lab.impair import Impairment, Injection, Moment, inject, timed
from tests.lab.lab import Lab, Port, Wire
from tests.lab.seen import FLOWS, breaks, disturbed, slowest, sources
from tests.lab.topology import SERVER, SERVER_PREFIX, Topology, Uplink
from tests.lab.traffic import EchoServer
from tests.lab.watched import happened

A, B = "5.5.5.5", "6.6.6.6"
RESET_ONCE = {"tcp": ["ECONNRESET"] * FLOWS["tcp"]}
# what a packet is told that comes after the kernel knows and before it is led away
REFUSED = {"udp", "icmp"}
KEPT = ("ip rule", "ip route show table all proto mwan", "nft list table inet mwan")
# seconds
AT_ONCE, DARK, DOWN, ANSWERED = 2.0, 1.5, 6.0, 8.0

Failure = Callable[[Topology, str], Impairment]


@pytest.fixture(scope="module")
def net() -> Iterator[Topology]:
    """The containers as a network of tests/lab, with what answers there on the server, at any address it may have."""
    router, client, server = (Container(name) for name in ("router", "client", "server"))
    server.ip(f"route replace local {SERVER_PREFIX} dev lo")
    with Topology(Lab("failover"), router, client, server, ["192.168.101.1"]) as built, EchoServer(server):
        built.uplinks = {
            "isp_a": uplink(router, "isp_a", "wan1", A, "5.5.5.1"),
            "isp_b": uplink(router, "isp_b", "wan2", B, "6.6.6.1"),
        }
        yield built


def uplink(router: Container, name: str, device: str, address: str, gateway: str) -> Uplink:
    provider = Container(name)
    wire = Wire(Port(router, device), Port(provider, "cust0"))
    return Uplink(name, device, address, gateway, address, 1, provider, "cust0", wire, wire, None)


@pytest.fixture
def prober(net: Topology) -> Iterator[Service]:
    """Both links are up before and after."""
    wait_up(Service(net.router))
    service = Service(net.router)
    yield service
    wait_up(service)
    assert service.unit("ActiveState") == "active"


def wait_up(prober: Service) -> None:
    for link in ("isp_a", "isp_b"):
        prober.wait_for(link, "up")
    prober.wait_settled()


def assert_served_by(*expected: str) -> None:
    """By what came back, and by the access log of the web server."""
    tag = new_tag()
    assert set(connections("client", SERVER, tag, 40)) == set(expected)
    assert {access.source for access in accesses("server", tag)} == set(expected)


def kept() -> list[str]:
    return [run("router", command) for command in KEPT]


@contextmanager
def both(net: Topology, failure: Failure) -> Iterator[list[Injection]]:
    with ExitStack() as stack:
        yield [stack.enter_context(inject(failure, net, link)) for link in net.uplinks]


def one_way_loss(net: Topology, link: str) -> Impairment:
    """What comes back is lost; what is sent arrives."""
    return impair.one_way_loss(net, link, "down")


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (impair.cable_pulled, ["isp_a up down"]),
        (impair.black_hole, ["isp_a up suspect", "isp_a suspect down"]),
        (one_way_loss, ["isp_a up suspect", "isp_a suspect down"]),
    ],
    ids=["cable pulled", "black hole", "one-way loss"],
)
def test_one_link_fails_and_returns(net: Topology, prober: Service, failure: Failure, told: list[str]) -> None:
    with (
        Clients(net.client, **FLOWS, want=A) as clients,
        Clients(net.client, **FLOWS, want=B) as neighbours,
        Newcomers(net.client) as newcomers,
        inject(failure, net, "isp_a") as failed,
    ):
        prober.wait_for("isp_a", "down", DOWN)
        moved = clients.outages(failed.moment, patience=ANSWERED)
        assert (sources(moved), slowest(moved) < ANSWERED) == ({B}, True)
        met = breaks(moved)
        assert met.pop("tcp") == RESET_ONCE["tcp"]
        assert met.keys() <= REFUSED
        assert_served_by(B)
        failed.undo()
        wait_up(prober)
        assert_served_by(A, B)
        assert failed.over is not None
        assert sources(clients.outages(failed.over, patience=AT_ONCE)) == {B}, "what has moved stays"
        assert disturbed(neighbours, failed.moment) == []
        assert happened(prober) == [*told, "isp_a down up"]
        attempts = newcomers.told()
        outage = outage_of(attempts, failed.moment)
        assert outage is not None
        assert outage < AT_ONCE


def test_both_providers_are_dark_and_back(net: Topology, prober: Service) -> None:
    """Any link may come back first, so nothing moves, and nothing is given up."""
    before = kept()
    with (
        Clients(net.client, **FLOWS, want=A) as clients,
        Clients(net.client, **FLOWS, want=B) as neighbours,
        both(net, impair.black_hole) as holes,
    ):
        time.sleep(DARK)
        assert kept() == before
        for hole in reversed(holes):
            hole.undo()
        for flows, source in ((clients, A), (neighbours, B)):
            seen = flows.outages(holes[0].moment, patience=ANSWERED)
            assert (sources(seen), breaks(seen)) == ({source}, {})
    assert_served_by(A, B)
    assert [event for event in happened(prober) if "suspect" not in event] == ["hold", "hold_ended"]


def test_both_cables_are_pulled_and_plugged_in_again(net: Topology, prober: Service) -> None:
    with Clients(net.client, **FLOWS) as clients, Newcomers(net.client) as newcomers:
        with both(net, impair.cable_pulled) as cut:
            for link in net.uplinks:
                prober.wait_for(link, "down", AT_ONCE)
        back = cut[0].over
        assert back is not None
        wait_up(prober)
        seen = clients.outages(back, patience=ANSWERED)
        assert sources(seen) <= {A, B}
        assert {why for errors in breaks(seen).values() for why in errors} <= {"ECONNRESET", "EHOSTUNREACH"}
        assert_served_by(A, B)
        outage = outage_of(newcomers.told(), back)
        assert outage is not None
        assert outage < AT_ONCE


def test_killing_the_prober_moves_nothing(net: Topology, prober: Service) -> None:
    before, process = kept(), prober.pid
    with (
        Clients(net.client, **FLOWS, want=A) as clients,
        Clients(net.client, **FLOWS, want=B) as neighbours,
        Newcomers(net.client) as newcomers,
    ):
        killed = kill(prober)
        assert_served_by(A, B)
        assert kept() == before
        assert disturbed(clients, killed) + disturbed(neighbours, killed) == []
        assert [attempt for attempt in newcomers.told() if not attempt.answered] == []
    assert prober.pid != process
    assert prober.unit("Result") == "success", "as systemd has it of the one that runs"
    assert happened(prober) == []


def test_killing_the_prober_in_an_outage_lets_nobody_in(net: Topology, prober: Service) -> None:
    with (
        inject(impair.black_hole, net, "isp_a"),
        Clients(net.client, **FLOWS, want=B) as clients,
    ):
        prober.wait_for("isp_a", "down", DOWN)
        prober.wait_settled()
        with Newcomers(net.client) as newcomers:
            killed = kill(prober)
            assert_served_by(B)
            assert [attempt for attempt in newcomers.told() if not attempt.answered] == []
        assert prober.states() == {"isp_a": "down", "isp_b": "up"}
        assert disturbed(clients, killed) == []


def kill(prober: Service) -> Moment:
    """With -9; returns when systemd has started another, and that has looked around."""
    process = prober.pid
    _unused, moment = timed(lambda: run("router", "systemctl kill --signal=KILL mwan.service"))
    wait_until(lambda: prober.pid not in (process, 0) and prober.unit("ActiveState") == "active")
    prober.wait_settled()
    return moment
