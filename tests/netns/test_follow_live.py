# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Links move under the prober, by DHCP, by dialling, by unplugging: what LAN clients with long-lived flows see of it.

The times are those that an overloaded machine keeps, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from lab import impair
from lab.balance import policy
from lab.clients import Clients
from lab.impair import Impairment
from lab.prober import Prober
from lab.seen import FLOWS, RESET_ONCE, disturbed, resets, slowest, sources
from lab.state import forget_everything
from lab.talk import Talk
from lab.topology import Topology, learned
from lab.traffic import EchoServer, fetch_many
from lab.watched import watched

Failure = Callable[[Topology, str], Impairment]
FAST: dict[str, Any] = {"profile": "fast", "flush_delay": 0}
A, B = "5.5.5.5", "6.6.6.6"
# seconds: after what the kernel tells, and after silence
SOON, LATER = 2.0, 5.0


def test_lease_with_another_address_and_gateway(dhcp: Topology, backend: str) -> None:
    net = dhcp
    with (
        watched(net, backend, probe=FAST) as prober,
        Clients(net.client, **FLOWS, want=A) as clients,
        Clients(net.client, **FLOWS, want=B) as neighbours,
    ):
        before = prober.status()["converge"]["changed"]
        moment = impair.lease_changed(net, "isp_a", "5.5.5.77", "5.5.5.2")
        seen = clients.outages(moment, patience=LATER)
        datagrams = [outage for outage in seen if outage.protocol != "tcp"]
        assert sources(datagrams) <= {"5.5.5.77", B}, "B: in the instant without an address the link is down"
        assert slowest(seen) < SOON
        assert resets(seen) == RESET_ONCE
        prober.wait_for("isp_a", "up")
        prober.wait_settled()
        fetched = fetch_many(net.client, 60)
        assert (set(fetched.sources), fetched.failures) == ({"5.5.5.77", B}, [])
        assert disturbed(neighbours, moment) == []
        assert 1 <= prober.status()["converge"]["changed"] - before <= 3
        assert net.spoofed() == 0


def test_address_that_is_gone_for_an_instant(two_links: Topology, backend: str) -> None:
    """With the times that nobody set: as after a link's first outage, it would else be out for 20 s."""
    net = two_links
    usual: dict[str, Any] = {"up_after": 20, "damping": {}}
    with watched(net, backend, probe=usual) as prober, Clients(net.client, **FLOWS, want=A) as clients:
        moment = impair.address_lost(net, "isp_a", 0.2)
        prober.wait_for("isp_a", "up", 3.0)
        assert prober.changes("isp_a") == ["up", "down", "up"]
        seen = clients.outages(moment, patience=LATER)
        assert [outage for outage in seen if outage.protocol == "tcp" and outage.breaks] == []
        assert sources(seen) == {A}
        assert slowest(seen) < SOON
        assert prober.changes("isp_b") == ["up"]
        assert net.spoofed() == 0


@pytest.mark.parametrize("away", [False, True], ids=["removed", "address first"])
def test_device_that_is_gone_does_not_wait(two_links: Topology, backend: str, away: bool) -> None:
    """Connections are given up at once, whether or not the address went before."""
    net = two_links
    with watched(net, backend, probe={"flush_delay": 30}) as prober, Clients(net.client, **FLOWS, want=A) as clients:
        if away:
            net.router.ip("addr flush dev wan1")
            prober.wait_for("isp_a", "down")
            assert prober.status()["links"]["isp_a"]["released"] is None
        with impair.inject(impair.device_removed, net, "isp_a") as removed:
            seen = clients.outages(removed.moment, patience=LATER)
            assert (sources(seen), resets(seen)) == ({B}, RESET_ONCE)
            assert slowest(seen) < SOON
            assert prober.changes("isp_a") == ["up", "down"]


def test_only_line_gets_another_address(point_to_point: Topology, backend: str) -> None:
    """Nothing else could take its connections, so they wait for the address, however short it is away."""
    net = point_to_point
    learned(net.variables)
    with (
        watched(net, backend, probe=FAST, mwan_policies=[policy("line_x")]) as prober,
        Clients(net.client, **FLOWS) as clients,
    ):
        moment = impair.lease_changed(net, "line_x", "11.1.1.9", "11.1.1.253")
        seen = clients.outages(moment, patience=LATER)
        assert sources(seen) == {"11.1.1.9"}
        assert slowest(seen) < SOON
        assert resets(seen) == RESET_ONCE
        prober.wait_for("line_x", "up")
        prober.wait_settled()
        assert dict(fetch_many(net.client, 30).sources) == {"11.1.1.9": 30}


def test_line_that_is_dialled_anew_with_another_address(point_to_point: Topology) -> None:
    net = point_to_point
    learned(net.variables)
    with (
        watched(net, probe=FAST) as prober,
        Clients(net.client, **FLOWS, want="11.1.1.1") as clients,
        Clients(net.client, **FLOWS, want="22.2.2.2") as neighbours,
    ):
        with impair.inject(impair.hung_up, net, "line_x") as hung:
            seen = clients.outages(hung.moment, patience=LATER)
            assert (sources(seen), resets(seen)) == ({"22.2.2.2"}, RESET_ONCE)
            assert slowest(seen) < SOON
            impair.lease_changed(net, "line_x", "11.1.1.33", "11.1.1.250")
        prober.wait_for("line_x", "up")
        prober.wait_settled()
        fetched = fetch_many(net.client, 60)
        assert (set(fetched.sources), fetched.failures) == ({"11.1.1.33", "22.2.2.2"}, [])
        assert disturbed(neighbours, hung.moment) == []
        assert prober.changes("line_x") == ["up", "down", "up"]
        assert prober.changes("line_y") == ["up"]


def test_device_that_is_pulled_out_and_back(two_links: Topology) -> None:
    """It has another index afterwards: routes, rules, sockets of the prober and firewall rules know the new one."""
    net = two_links
    with (
        watched(net, probe=FAST) as prober,
        Clients(net.client, **FLOWS, want=A) as clients,
        Clients(net.client, **FLOWS, want=B) as neighbours,
    ):
        with impair.inject(impair.device_removed, net, "isp_a") as gone:
            seen = clients.outages(gone.moment, patience=LATER)
            assert (sources(seen), resets(seen)) == ({B}, RESET_ONCE)
            assert slowest(seen) < SOON
        prober.wait_for("isp_a", "up")
        prober.wait_settled()
        clients.renew(A)
        assert dict(fetch_many(net.client, 60).sources).keys() == {A, B}
        with impair.inject(impair.cable_pulled, net, "isp_a") as pulled:
            assert sources(clients.outages(pulled.moment, patience=LATER)) == {B}
        prober.wait_for("isp_a", "up")
        with impair.black_hole(net, "isp_a"):
            prober.wait_for("isp_a", "suspect", LATER)
        assert disturbed(neighbours, gone.moment) == []
        assert prober.changes("isp_b") == ["up"]


def test_device_that_comes_late_at_boot(point_to_point: Topology) -> None:
    net = point_to_point
    learned(net.variables)
    with watched(net, probe=FAST) as before:
        before.stop()
        forget_everything(net.router)
        line = impair.hung_up(net, "line_x")
        with Prober(net.router) as prober:
            prober.wait_for("line_y", "up")
            assert prober.status()["links"]["line_x"]["pending"] == "device ppp0 does not exist"
            fetched = fetch_many(net.client, 30)
            assert (dict(fetched.sources), fetched.failures) == ({"22.2.2.2": 30}, [])
            line.undo()
            assert prober.wait_for("line_x", "up") < LATER
            prober.wait_settled()
            fetched = fetch_many(net.client, 60)
            assert (set(fetched.sources), fetched.failures) == ({"11.1.1.1", "22.2.2.2"}, [])


@pytest.mark.parametrize(
    ("backend", "failure"),
    [("nftables", impair.gateway_dead), ("iptables", impair.device_removed)],
    ids=["nftables", "iptables"],
    indirect=["backend"],
)
def test_one_of_two_links_with_the_same_gateway_address(same_gateway: Topology, backend: str, failure: Failure) -> None:
    net = same_gateway
    with (
        watched(net, backend, probe=FAST) as prober,
        Clients(net.client, **FLOWS, want=A) as clients,
        Clients(net.client, **FLOWS, want=B) as neighbours,
    ):
        with impair.inject(failure, net, "modem_a") as dead:
            seen = clients.outages(dead.moment, patience=LATER)
            assert (sources(seen), resets(seen)) == ({B}, RESET_ONCE)
            assert slowest(seen) < LATER
            fetched = fetch_many(net.client, 30)
            assert (dict(fetched.sources), fetched.failures) == ({B: 30}, [])
        prober.wait_for("modem_a", "up")
        prober.wait_settled()
        fetched = fetch_many(net.client, 60)
        assert (set(fetched.sources), fetched.failures) == ({A, B}, [])
        assert disturbed(neighbours, dead.moment) == []
        assert prober.changes("modem_b") == ["up"]


def test_one_of_two_routers_on_one_device(shared_segment: Topology, backend: str) -> None:
    """The carrier stays; connections are told apart by the router's link-layer address, or its realm."""
    net = shared_segment
    one, two = net.sources.values()
    with (
        watched(net, backend, probe=FAST) as prober,
        EchoServer(net.router),
        Clients(net.client, **FLOWS, want=one) as clients,
        Clients(net.client, **FLOWS, want=two) as neighbours,
        Talk(net.server, two, source="7.7.7.71") as inbound,
    ):
        with impair.inject(impair.gateway_dead, net, "router1") as dead:
            prober.wait_for("router1", "suspect")
            prober.wait_settled()
            assert dict(fetch_many(net.client, 30).sources) == {two: 30}, "no new ones on the silent router"
            prober.wait_for("router1", "down")
            seen = clients.outages(dead.moment, patience=LATER)
            assert (sources(seen), resets(seen)) == ({two}, RESET_ONCE)
            assert slowest(seen) < LATER
            assert inbound.ask() == "7.7.7.71"
        prober.wait_for("router1", "up")
        prober.wait_settled()
        fetched = fetch_many(net.client, 60)
        assert (set(fetched.sources), fetched.failures) == ({one, two}, [])
        with Talk(net.server, one, source="7.7.7.71") as anew:
            assert (anew.ask(), inbound.ask()) == ("7.7.7.71", "7.7.7.71")
        assert disturbed(neighbours, dead.moment) == []
        assert prober.changes("router2") == ["up"]
