# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Clients that keep their link: while they talk, through reloads and new weights, and until it fails."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from lab import topology
from lab.balance import policy
from lab.engine import Engine, RefusedError
from lab.own import Own
from lab.talk import Talk
from lab.topology import Topology
from lab.traffic import EchoServer

A, B, C = "5.5.5.5", "6.6.6.6", "4.4.4.4"
CLIENTS = 32
# that chance alone keeps all of them on their link is less likely than one in ten thousand
WEIGHTS = (2, 2, 1)


def sticky(seconds: int, by: str = "source", algorithm: str = "random", weights: tuple[int, ...] = WEIGHTS) -> Any:
    listed = zip(("isp_a", "isp_b", "isp_c"), weights, strict=True)
    return [policy(*listed, algorithm=algorithm, sticky={"timeout": seconds, "by": by})]


@contextmanager
def router(backend: str, policies: Any) -> Iterator[tuple[Topology, Engine, Own]]:
    with topology.three_links(CLIENTS) as net, Engine(net, backend) as engine, EchoServer(net.server):
        engine.settle(mwan_classify="marks", mwan_policies=policies)
        with Own(net.client) as own:
            yield net, engine, own
        assert net.spoofed() == 0


def places(own: Own, number: int = 1, **more: Any) -> dict[int, str]:
    """The one link of each client, over so many connections."""
    seen = {n: own.seen(number, source=f"192.168.101.{n}", protocol="udp", **more) for n in range(1, CLIENTS + 1)}
    assert all(len(found) == 1 for found in seen.values()), seen
    return {n: next(iter(found)) for n, found in seen.items()}


def report(net: Topology, **states: str) -> None:
    links = {name: {"state": state} for name, state in states.items()}
    net.router.run(["tee", "/run/mwan/health.json"], input=json.dumps({"links": links}))


@pytest.mark.parametrize("algorithm", ["random", "multipath"])
def test_client_stays_until_its_link_fails(backend: str, algorithm: str) -> None:
    with router(backend, sticky(600, algorithm=algorithm)) as (net, engine, own):
        before = places(own, 3)
        assert {A, B} <= set(before.values()), "chance leaves one of them out in one of six million"
        assert places(own, destination="7.7.7.8") == before
        # other weights, other time, another rule: the firewall is loaded anew each time
        rules = [{"name": "aside", "destination": "9.9.9.9", "link": "isp_c"}]
        engine.settle(mwan_policies=sticky(500, algorithm=algorithm, weights=(1, 9, 9)), mwan_rules=rules)
        assert places(own, 2) == before
        report(net, isp_a="down")
        engine.settle()
        during = places(own, 2)
        assert set(during.values()) <= {B, C}
        assert {n for n in before if during[n] != before[n]} == {n for n in before if before[n] == A}
        # who has moved stays where it is now
        report(net, isp_a="up")
        engine.settle()
        assert places(own, 2) == during
        # nobody is left where nobody is any more
        assert own.seen(1, source="192.168.101.1", protocol="udp", destination="9.9.9.9") == {C: 1}


def test_silent_clients_are_forgotten_and_one_that_talks_is_not(backend: str) -> None:
    with router(backend, sticky(2)) as (net, _engine, own):
        before = places(own)
        with Talk(net.client, source="192.168.101.1", protocol="udp") as talking:
            place = talking.ask()
            assert place == before[1]
            for _unused in range(9):
                time.sleep(0.4)
                assert talking.ask() == place
            # its one connection alone has kept it there, whereas the others have begun anew
            assert own.seen(20, source="192.168.101.1", protocol="udp") == {place: 20}
        assert places(own) != before


def test_pair_of_addresses(backend: str) -> None:
    try:
        check_pairs(backend)
    except RefusedError as error:
        if backend == "nftables" or "load the module" not in str(error):
            raise
        pytest.skip(str(error))


def check_pairs(backend: str) -> None:
    with router(backend, sticky(600, "source_destination")) as (_net, engine, own):
        before = {last: places(own, 2, destination=f"7.7.7.{last}") for last in (7, 8, 9)}
        assert len({tuple(found.values()) for found in before.values()}) == 3, "destinations are told apart"
        engine.settle(mwan_policies=sticky(600, "source_destination", weights=(1, 1, 9)))
        assert {last: places(own, destination=f"7.7.7.{last}") for last in before} == before
        # what a client is can change; everybody begins anew
        engine.settle(mwan_policies=sticky(600))
        places(own, 3)
