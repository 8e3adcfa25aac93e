# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""A better link comes back: new connections take it at once, and those of before go on as the policy says."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from lab import impair
from lab.balance import policy
from lab.clients import Clients
from lab.impair import Moment
from lab.prober import Prober
from lab.seen import breaks
from lab.topology import Topology
from lab.traffic import fetch_many
from lab.watched import watched

FAST: dict[str, Any] = {"profile": "fast", "flush_delay": 0}
A, B = "5.5.5.5", "6.6.6.6"
TCP = 3
FLOWS: dict[str, Any] = {"tcp": TCP, "udp": 3, "icmp": 2}
# seconds: until all have moved, and until one may say that none will
SOON, CALM = 5.0, 0.5


@contextmanager
def returned(net: Topology, backend: str, failback: Mapping[str, Any]) -> Iterator[tuple[Prober, Clients, Moment]]:
    """Clients of the first link have gone to the second, and the first is back since that moment."""
    tiers = {**policy(("isp_a", 1, 1), ("isp_b", 1, 2)), "failback": dict(failback)}
    with watched(net, backend, FAST, mwan_policies=[tiers]) as prober, Clients(net.client, **FLOWS) as clients:
        with impair.inject(impair.cable_pulled, net, "isp_a") as cut:
            assert {outage.after for outage in clients.outages(cut.moment, patience=SOON)} == {B}
        prober.wait_for("isp_a", "up")
        prober.wait_settled()
        assert dict(fetch_many(net.client, 30).sources) == {A: 30}, "new ones first"
        assert cut.over is not None
        yield prober, clients, cut.over


def whereabouts(clients: Clients) -> dict[str, set[str | None]]:
    """The address that the server saw last of the flows of each protocol."""
    found: dict[str, set[str | None]] = {}
    now = time.monotonic()
    for flow in clients.flows():
        found.setdefault(flow.protocol, set()).add(flow.source_at(now))
    return found


def wait_moved(clients: Clients, *protocols: str) -> None:
    """Until these protocols' flows are on the first link, and the others have had the time."""
    wanted = {protocol: {A if protocol in protocols else B} for protocol in FLOWS}
    deadline = time.monotonic() + SOON
    while whereabouts(clients) != wanted:
        assert time.monotonic() < deadline, whereabouts(clients)
        time.sleep(0.05)
    time.sleep(CALM)
    assert whereabouts(clients) == wanted


def test_by_default_connections_stay_where_they_are(two_links: Topology) -> None:
    with returned(two_links, "nftables", {}) as (prober, clients, moment):
        wait_moved(clients)
        assert breaks(clients.outages(moment)) == {}
        assert prober.status()["links"]["isp_b"]["released"] is None
        assert "keeps its connections" in prober.ask("failback", link="isp_b")["error"]


def test_after_a_while_all_go_back(two_links: Topology) -> None:
    with returned(two_links, "nftables", {"tcp": "reset", "other": "reroute", "after": 3}) as (prober, clients, moment):
        time.sleep(CALM)
        assert whereabouts(clients) == {protocol: {B} for protocol in FLOWS}, "not yet"
        wait_moved(clients, *FLOWS)
        assert breaks(clients.outages(moment)) == {"tcp": ["ECONNRESET"] * TCP}
        assert prober.changes("isp_b") == ["up"]


@pytest.mark.parametrize("protocols", [("tcp",), ("udp", "icmp")], ids=lambda protocols: protocols[0])
def test_what_shall_stay_stays(two_links: Topology, protocols: tuple[str, ...]) -> None:
    failback = {"tcp": "reset"} if "tcp" in protocols else {"other": "reroute"}
    with returned(two_links, "nftables", failback) as (_prober, clients, moment):
        wait_moved(clients, *protocols)
        assert breaks(clients.outages(moment)) == ({"tcp": ["ECONNRESET"] * TCP} if "tcp" in protocols else {})


def test_the_operator_says_when(two_links: Topology, backend: str) -> None:
    failback = {"tcp": "reset", "other": "reroute", "manual": True}
    with returned(two_links, backend, failback) as (prober, clients, _moment):
        wait_moved(clients)
        assert prober.ask("failback", link="isp_b") == {"done": True}
        wait_moved(clients, *FLOWS)
