# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The prober, in virtual time, with policies of least_connections: the route follows the counts, and outlives it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from _mwan.kernel import Route
from _mwan.service.equipment import Equipment
from unit.service.world import World
from unit.watch.simulator import Path
from unit.worlds import TWO_LINKS

FOLLOWS = {"algorithm": "least_connections", "least_connections": {"method": "weights", "interval": 2}}
EVEN = [{"link": "isp_a", "weight": 1}, {"link": "isp_b", "weight": 1}]
WISH = {**TWO_LINKS, "policies": [{"name": "balanced", "members": EVEN, **FOLLOWS}]}


class Counting(World):
    """Connections by link, of which a tenth is young whenever they are counted."""

    def __init__(self, wish: Mapping[str, Any], **counts: int) -> None:
        super().__init__(wish, {"isp_a": Path(), "isp_b": Path()})
        self.counts, self.looks = counts, 0

    def _equipment(self) -> Equipment:
        return replace(super()._equipment(), count=self.count)

    def count(self, _mask: int) -> asyncio.Future[Mapping[int, int]]:
        self.looks += 1
        marks = {name: mark for mark, name in self.links.items()}
        each = [marks[name] for name, number in self.counts.items() for _unused in range(number)]
        young = len(each) - len(each) // 10
        work: asyncio.Future[Mapping[int, int]] = self.loop.create_future()
        found = {ident + (1000 * self.looks if ident >= young else 0): mark for ident, mark in enumerate(each)}
        self.loop.call_later(0.1, work.set_result, found)
        return work

    def weights(self) -> list[int]:
        """Of the policy's route, in the order of the links."""
        return [hop.weight for hop in sorted(self.best().nexthops, key=lambda hop: hop.device)]

    def best(self) -> Route:
        """The one that the policy's connections take."""
        table = self.policy_tables["balanced"]
        return min((route for route in self.router.routing.routes() if route.table == table), key=lambda it: it.metric)


def test_the_route_follows_the_counts_and_no_other_run_takes_that_back() -> None:
    with Counting(WISH, isp_a=300, isp_b=100) as world:
        world.start().run(1)
        assert world.weights() == [1, 1]
        world.run(6)
        few, many = world.weights()
        assert 8 * few < many
        assert world.drift() == []
        world.restart().run(0.5)
        assert world.weights() == [few, many], "the next process goes on where this one was"
        world.counts = {"isp_a": 200, "isp_b": 200}
        world.run(6)
        assert (world.weights(), world.drift()) == ([1, 1], [])


def test_a_policy_that_is_not_to_follow_any_more_has_its_own_weights() -> None:
    with Counting(WISH, isp_a=300, isp_b=100) as world:
        world.start().run(7)
        assert world.weights() != [1, 1]
        world.declare({**WISH, "policies": [{"name": "balanced", "members": EVEN}]})
        world.run(3)
        looks = world.looks
        world.run(5)
        assert (world.weights(), world.drift(), world.looks) == ([1, 1], [], looks)


def test_a_link_that_dies_is_left_whatever_the_counts_say() -> None:
    with Counting(WISH, isp_a=300, isp_b=100) as world:
        world.start().run(7)
        world.device("wan2", carrier=False)
        world.run(3)
        assert {hop.device for hop in world.best().nexthops} == {"wan1"}
        assert world.drift() == []
