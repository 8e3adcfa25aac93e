# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Silence that is no link's fault, or everybody's: targets that die, links that all fail, a process that stops."""

from __future__ import annotations

import time
from typing import Any

from lab import impair
from lab.clients import Clients, Newcomers
from lab.prober import Prober
from lab.seen import FLOWS, HAPPY, breaks, slowest, sources
from lab.topology import TARGETS, Topology
from lab.traffic import fetch_many
from lab.wait import wait_until
from lab.watched import happened, watched

A, B = "5.5.5.5", "6.6.6.6"
FAST = {"profile": "fast"}
# A link that is the only one to answer returns at once all the same.
PATIENT = {**FAST, "up_after": 60, "damping": {"longest": 60}}
# seconds; fast finds a link down after 1
DEAD_FOR, ANSWERED = 2.5, 8.0


def of_targets(prober: Prober, what: str) -> dict[str, list[Any]]:
    """What is told of each target, by link."""
    links = prober.status()["links"]
    return {name: [target[what] for target in link["targets"]] for name, link in links.items()}


def assert_served_by(net: Topology, *expected: str) -> None:
    fetched = fetch_many(net.client, 60)
    assert (set(fetched.sources), fetched.failures) == (set(expected), [])


def longest_gap(clients: Clients, began: float) -> float:
    """Of any flow; none has met an error."""
    flows, now = clients.flows(began), time.monotonic()
    assert [flow.breaks for flow in flows if flow.breaks] == []
    return max(flow.longest_gap(began, now) for flow in flows)


def test_dead_targets_are_no_outage(two_links: Topology) -> None:
    net = two_links
    with watched(net, probe=FAST) as prober, Clients(net.client, **FLOWS) as clients:
        began = time.monotonic()
        with impair.targets_dead(net, TARGETS[1]):
            time.sleep(DEAD_FOR)
            assert of_targets(prober, "excluded") == {link: [False, True, False] for link in net.uplinks}
        assert happened(prober) == []
        with impair.targets_dead(net):
            time.sleep(DEAD_FOR)
            assert prober.status()["held"]
            assert_served_by(net, A, B)
        wait_until(lambda: not prober.status()["held"], 5)
        assert happened(prober) == ["hold", "hold_ended"]
        assert not prober.status()["held"]
        assert prober.status()["converge"]["changed"] == 0
        assert longest_gap(clients, began) < HAPPY


def test_all_links_dark_and_one_back(two_links: Topology) -> None:
    """While nothing answers everything stays where it is: any link may come back first."""
    net = two_links
    with (
        watched(net, probe=PATIENT) as prober,
        Clients(net.client, **FLOWS, want=A) as there,
        Clients(net.client, **FLOWS, want=B) as elsewhere,
        impair.inject(impair.black_hole, net, "isp_a") as hole,
        impair.inject(impair.black_hole, net, "isp_b") as other,
    ):
        time.sleep(DEAD_FOR)
        assert happened(prober) == ["hold"]
        assert prober.status()["converge"]["changed"] == 0
        hole.undo()
        assert hole.over is not None
        prober.wait_for("isp_b", "down")
        prober.wait_settled()
        assert_served_by(net, A)
        seen = there.outages(hole.over, patience=ANSWERED)
        assert (sources(seen), breaks(seen)) == ({A}, {}), "it was never moved"
        seen = elsewhere.outages(hole.over, patience=ANSWERED)
        assert (sources(seen), breaks(seen)) == ({A}, {"tcp": ["ECONNRESET"] * FLOWS["tcp"]})
        assert slowest(seen) < ANSWERED
        assert happened(prober) == ["hold", "hold_ended", "isp_b up suspect", "isp_b suspect down"]
        other.undo()


def test_all_cables_pulled_and_one_back(two_links: Topology) -> None:
    net = two_links
    with (
        watched(net, probe=PATIENT) as prober,
        Clients(net.client, **FLOWS, want=A) as there,
        Clients(net.client, **FLOWS, want=B) as elsewhere,
        impair.inject(impair.cable_pulled, net, "isp_a") as cut,
        impair.inject(impair.cable_pulled, net, "isp_b"),
    ):
        for link in net.uplinks:
            prober.wait_for(link, "down")
        time.sleep(1)
        cut.undo()
        assert cut.over is not None
        prober.wait_for("isp_a", "up", 5)
        prober.wait_settled()
        assert_served_by(net, A)
        for clients in (there, elsewhere):
            seen = clients.outages(cut.over, patience=ANSWERED)
            assert sources(seen) == {A}
            assert slowest(seen) < ANSWERED
        assert happened(prober)[2:] == ["isp_a down up"]
        assert prober.status()["links"]["isp_a"]["reason"] == "answers, and no other link does"


def test_process_that_stands_still_blames_nobody(two_links: Topology) -> None:
    net = two_links
    with (
        watched(net) as prober,
        Clients(net.client, **FLOWS) as clients,
        Newcomers(net.client) as newcomers,
    ):
        began = time.monotonic()
        with prober.stopped():
            time.sleep(5)
        time.sleep(2.5)
        assert happened(prober) == []
        assert prober.status()["converge"]["changed"] == 0
        assert longest_gap(clients, began) < HAPPY
        assert [attempt for attempt in newcomers.told() if not attempt.answered] == []
