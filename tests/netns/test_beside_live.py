# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Playbooks, operators and the prober on one router: none of them undoes what another one did."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lab import impair
from lab.balance import about, policy
from lab.clients import Clients
from lab.console import ctl
from lab.engine import Engine
from lab.prober import Prober
from lab.seen import FLOWS, disturbed
from lab.state import snapshot
from lab.topology import Topology
from lab.traffic import AccessLogServer, EchoServer, fetch_many
from lab.watched import BRISK

FAST: dict[str, Any] = {**BRISK, "profile": "fast", "flush_delay": 0}
A, B = "5.5.5.5", "6.6.6.6"
LOOK = 3.0  # seconds in which the prober finds what an operator wrote


@contextmanager
def managed(net: Topology, backend: str, **probe: Any) -> Iterator[tuple[Engine, Prober]]:
    """A router whose links are up, the prober on it, and who runs playbooks for it."""
    with Engine(net, backend) as engine, EchoServer(net.server), AccessLogServer(net.server):
        engine.apply(mwan_probe={**FAST, **probe})
        with Prober(net.router) as prober:
            settle(prober)
            yield engine, prober


def settle(prober: Prober) -> None:
    for link in ("isp_a", "isp_b"):
        prober.wait_for(link, "up")
    prober.wait_settled()


def test_playbook_in_an_outage_changes_nothing(two_links: Topology, backend: str) -> None:
    """Whatever the prober has made of it, down to the connections that it gave up."""
    net = two_links
    # suspect for long enough for a run
    with managed(net, backend, dead=4) as (engine, prober), Clients(net.client, **FLOWS, want=A) as clients:
        with impair.inject(impair.black_hole, net, "isp_a") as hole:
            prober.wait_for("isp_a", "suspect")
            prober.wait_settled()
            assert engine.apply().actions == []
            prober.wait_for("isp_a", "down")
            prober.wait_settled()
            assert prober.status()["links"]["isp_a"]["released"] == "down"
            before = snapshot(net.router)
            assert engine.apply(check=True).actions == engine.apply().actions == engine.apply().actions == []
            assert snapshot(net.router) == before
            assert {outage.after for outage in clients.outages(hole.moment, patience=LOOK)} == {B}
            assert dict(fetch_many(net.client, 30).sources) == {B: 30}
        settle(prober)
        assert engine.apply().actions == []
        assert set(fetch_many(net.client, 40).sources) == {A, B}


def test_playbooks_and_the_prober_take_turns(two_links: Topology) -> None:
    """New weights again and again, while a cable comes and goes: both arrive at the same, and neither goes on after."""
    net = two_links
    with managed(net, "nftables") as (engine, prober), Clients(net.client, **FLOWS, want=B) as neighbours:
        before = prober.status()["converge"]
        with impair.Flapping(lambda: impair.cable_pulled(net, "isp_a"), 4, 8) as flapping:
            for weight in (2, 4, 6, 8, 3):
                engine.apply(mwan_policies=[policy(("isp_a", weight), ("isp_b", 1))])
            flapping.wait()
        settle(prober)
        after = prober.status()["converge"]
        assert after["failed"] == before["failed"]
        assert after["runs"] - before["runs"] <= 40
        assert engine.apply().actions == []
        assert about(fetch_many(net.client, 200).sources, {A: 3, B: 1})
        assert disturbed(neighbours, flapping.moments[0]) == []
        assert prober.status()["converge"]["changed"] == after["changed"]


def test_drained_link_stays_so_when_the_prober_is_killed(two_links: Topology) -> None:
    net = two_links
    with managed(net, "nftables") as (engine, prober), Clients(net.client, **FLOWS, want=A) as clients:
        _said, moment = impair.timed(lambda: ctl(net.router, "drain", "isp_a", "--why", "works"))
        assert dict(fetch_many(net.client, 30).sources) == {B: 30}, "at once, not when the prober looks"
        prober.wait_for("isp_a", "drained", LOOK)
        prober.wait_settled()
        prober.kill()
        assert dict(fetch_many(net.client, 30).sources) == {B: 30}
        with Prober(net.router) as second:
            assert second.states()["isp_a"] == "drained"
            assert engine.apply().actions == []
            second.wait_settled()
            assert dict(fetch_many(net.client, 30).sources) == {B: 30}
            assert disturbed(clients, moment) == [], "it keeps its connections"
            ctl(net.router, "undrain", "isp_a")
            second.wait_for("isp_a", "up", LOOK)
            second.wait_settled()
            assert set(fetch_many(net.client, 40).sources) == {A, B}
            assert disturbed(clients, moment) == []
            assert second.changes("isp_a") == ["up", "drained", "up"]
            assert second.status()["converge"]["changed"] == 0
