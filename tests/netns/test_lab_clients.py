# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What the lab's clients tell of an outage is what happened."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from lab import impair, topology
from lab.clients import Answer, Clients, Flow, Outage
from lab.engine import Engine
from lab.host import LabError
from lab.impair import Moment
from lab.topology import Topology
from lab.traffic import EchoServer

KINDS = {"tcp": 4, "udp": 4, "icmp": 2}
INTERVAL = 0.05


@pytest.fixture
def net(two_links: Topology) -> Iterator[Topology]:
    with Engine(two_links) as engine, EchoServer(two_links.server):
        engine.apply()
        yield two_links


def told(outages: list[Outage]) -> list[tuple[str, str | None, str | None]]:
    return [(outage.protocol, outage.before, outage.after) for outage in outages]


@pytest.mark.parametrize(
    ("asked", "came", "looks", "counts"),
    [
        (0.95, 1.05, 0, False),
        (0.95, 1.05, 1, False),
        (0.95, 1.25, 0, False),
        (0.75, 0.98, 4, False),
        (0.95, 1.18, 4, True),
        (1.05, 1.06, 0, True),
    ],
)
def test_answers_that_were_on_their_way_tell_nothing(asked: float, came: float, looks: int, counts: bool) -> None:
    """Of something that was done at 1; over TCP, one that was looked for in vain for long was asked for again."""
    flow = Flow("tcp", "7.7.7.1", [Answer(asked, came, "5.5.5.5", looks)], [], [])
    assert (flow.first_after(Moment(0.99, 1.0)) is not None) == counts


def test_flows_start_on_the_link_that_is_wanted(net: Topology) -> None:
    with Clients(net.client, tcp=4, udp=4, icmp=2, want="6.6.6.6") as clients:
        flows = clients.flows()
        assert Counter(flow.protocol for flow in flows) == KINDS
        assert {answer.source for flow in flows for answer in flow.answers} == {"6.6.6.6"}
        clients.renew("5.5.5.5")
        assert {answer.source for flow in clients.flows() for answer in flow.answers} == {"5.5.5.5"}
        with pytest.raises(LabError, match=r"only 0 of 10 flows .* saw 7\.7\.7\.7"):
            clients.renew("7.7.7.7")


def test_black_hole_is_seen_for_as_long_as_it_lasts(net: Topology) -> None:
    with Clients(net.client, tcp=4, udp=4, icmp=2, want="5.5.5.5") as clients:
        hole = impair.inject(impair.black_hole, net, "isp_a")
        time.sleep(0.4)
        silent = clients.outages(hole.moment)
        assert told(silent) == [(kind, "5.5.5.5", None) for kind, number in KINDS.items() for _unused in range(number)]
        assert all(outage.seconds is None and 0.35 <= outage.longest_gap < 1.0 for outage in silent)
        hole.undo()
        assert hole.over is not None
        least, lasted = hole.over.began - hole.moment.ended, hole.over.time - hole.moment.time
        seen = clients.outages(hole.moment, "5.5.5.5", patience=3)
        assert told(seen) == [(kind, "5.5.5.5", "5.5.5.5") for kind, _unused, _unused in told(silent)]
        for outage in seen:
            late = 0.8 if outage.protocol == "tcp" else INTERVAL  # TCP repeats after 0.2, 0.6 and 1.4 s
            assert outage.seconds is not None
            assert least < outage.seconds < lasted + late + 0.5
            assert outage.longest_gap > least
            assert outage.breaks == []


def test_answers_under_way_are_not_taken_for_the_end(net: Topology) -> None:
    with Clients(net.client, tcp=4, udp=4, icmp=2, want="5.5.5.5") as clients:
        for _unused in range(5):
            with impair.inject(impair.black_hole, net, "isp_a") as hole:
                time.sleep(0.1)
                assert {outage.after for outage in clients.outages(hole.moment)} == {None}
            clients.renew("5.5.5.5")


def test_flows_on_the_other_link_see_nothing(net: Topology) -> None:
    with Clients(net.client, tcp=4, udp=4, icmp=2, want="6.6.6.6") as clients:
        with impair.inject(impair.black_hole, net, "isp_a") as hole:
            time.sleep(0.2)
            assert clients.outages(hole.moment, "5.5.5.5") == []
            seen = clients.outages(hole.moment, "6.6.6.6", patience=1)
        assert len(seen) == 10
        assert all(outage.seconds is not None and outage.seconds < 10 * INTERVAL for outage in seen)


def test_resets_are_counted_and_followed_by_a_new_connection(net: Topology) -> None:
    match = "tcp dport 7 tcp flags & psh == psh reject with tcp reset"
    reset = f"table ip resets {{ chain c {{ type filter hook forward priority 0; {match}; }}; }}"
    with Clients(net.client, tcp=3) as clients:
        _unused, moment = impair.timed(lambda: net.uplinks["isp_a"].provider.nft(reset))
        net.uplinks["isp_b"].provider.nft(reset)
        time.sleep(0.5)
        seen = clients.outages(moment)
        assert all(outage.resets >= 2 and outage.reconnects >= 2 for outage in seen)
        assert {why for outage in seen for why in outage.breaks} == {"ECONNRESET"}


def test_patience_ends_a_connection_that_hangs(net: Topology) -> None:
    with (
        Clients(net.client, tcp=3, want="5.5.5.5", patience=0.3, connect_patience=0.2) as clients,
        impair.inject(impair.black_hole, net, "isp_a") as hole,
    ):
        seen = clients.outages(hole.moment, patience=5)
    assert {outage.after for outage in seen} == {"6.6.6.6"}  # the kernel's choice, sooner or later
    assert all(outage.breaks and set(outage.breaks) == {"timeout"} and outage.resets == 0 for outage in seen)


def test_refusals_are_told_of(net: Topology) -> None:
    with Clients(net.client, udp=2) as clients:
        _unused, moment = impair.timed(lambda: net.router.ip("rule add iif lan0 prohibit priority 900"))
        time.sleep(0.3)
        assert {why for outage in clients.outages(moment) for why in outage.breaks} == {"EHOSTUNREACH"}


@pytest.mark.parametrize("build", [topology.shared_segment, topology.point_to_point], ids=lambda build: build.__name__)
def test_ports_and_ids_stay_through_translation(build: Callable[[], Topology]) -> None:
    with build() as net, Engine(net) as engine, EchoServer(net.server):
        engine.apply()
        for source in net.sources.values():
            with Clients(net.client, tcp=4, udp=4, icmp=2, want=source) as clients:
                time.sleep(0.2)
                assert {answer.source for flow in clients.flows() for answer in flow.answers} == {source}
