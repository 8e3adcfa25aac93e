# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Weights that follow the counts: when they are reckoned, for which links, and what the next process finds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from _mwan.document import Document
from _mwan.health import Health
from _mwan.layout import WEIGHTS
from _mwan.resolve import ResolvedLink, resolve
from _mwan.service.overlay import Overlay
from _mwan.service.reweighting import Reweighting
from unit.model_kernel import Faults, Files, ModelRouter
from unit.worlds import TWO_LINKS, apply, facts

INTERVAL = 5.0


FOLLOWS = {"algorithm": "least_connections", "least_connections": {"method": "weights", "interval": INTERVAL}}


def declared(*names: str, algorithm: Mapping[str, Any] | None = None) -> Document:
    members = [{"link": name, "weight": 1} for name in names]
    policy = {"name": "balanced", "members": members, **(FOLLOWS if algorithm is None else algorithm)}
    links = [*TWO_LINKS["links"], {"name": "isp_c", "device": "ppp0"}]
    return apply(ModelRouter(facts()), {"links": links, "policies": [policy]}).document


class Stage:
    def __init__(self, document: Document, files: Files | None = None) -> None:
        self.loop = asyncio.new_event_loop()
        self.document, self.files = document, files or Files(Faults())
        self.links: dict[str, ResolvedLink] = dict(resolve(document, facts()))
        self.overlay = Overlay(None, 0.0, 0.0)
        self.overlay.configure(document, 0.0, 0.0)
        self.overlay.resolved(self.links, frozenset())
        self.open: dict[int, int] = {}
        self.counted = self.moved = 0
        self.said: list[str] = []
        self.problem: OSError | None = None
        self.reweighting = Reweighting(self.files, self._count, self.overlay, self._move, self._trouble)
        self.reweighting.load()

    def _count(self, mask: int) -> asyncio.Future[Any]:
        assert mask == self.document.settings.mark_mask
        self.counted += 1
        work: asyncio.Future[Any] = self.loop.create_future()
        if self.problem:
            work.set_exception(self.problem)
        else:
            work.set_result(dict(self.open))
        return work

    def _move(self) -> None:
        self.moved += 1

    def _trouble(self, _kind: str, text: str) -> None:
        self.said.append(text)

    def look(self, now: float) -> None:
        self.reweighting.look(self.document, self.links, now)
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(asyncio.sleep(0))

    def fill(self, first: int, **counts: int) -> None:
        for name, number in counts.items():
            mark = self.document.settings.mark(self.links[name].ident)
            self.open.update(dict.fromkeys(range(first, first + number), mark))
            first += number

    @property
    def stored(self) -> Any:
        return json.loads(self.files.texts.get(WEIGHTS, "null"))


@pytest.fixture
def stage() -> Stage:
    return Stage(declared("isp_a", "isp_b"))


def test_link_with_too_few_connections_gets_more_until_it_has_them(stage: Stage) -> None:
    stage.fill(0, isp_a=90, isp_b=10)
    stage.look(0.0)
    stage.fill(1000, isp_a=10, isp_b=10)
    stage.look(INTERVAL)
    found = stage.overlay.weights["balanced"]
    assert found["isp_a"] * 100 < found["isp_b"]
    assert stage.stored == {"schema": 1, "policies": {"balanced": found}}
    assert (stage.moved, stage.overlay.health().weights) == (1, stage.overlay.weights)
    stage.fill(2000, isp_b=80)
    stage.look(2 * INTERVAL)
    assert (stage.overlay.weights, stage.stored, stage.moved) == ({}, None, 2)


def test_it_looks_once_an_interval_and_only_where_it_is_asked_to(stage: Stage) -> None:
    for second in range(11):
        stage.look(float(second))
    assert stage.counted == 3
    asked = Stage(declared("isp_a", "isp_b", algorithm={}))
    asked.look(0.0)
    assert asked.counted == 0


def test_next_process_goes_on_with_what_is_stored(stage: Stage) -> None:
    stage.fill(0, isp_a=90)
    stage.look(0.0)
    stage.fill(1000, isp_a=10)
    stage.look(INTERVAL)
    after = Stage(stage.document, stage.files)
    assert after.overlay.weights == stage.overlay.weights != {}
    after.document = declared("isp_a", "isp_b", algorithm={})
    after.look(0.0)
    assert (after.overlay.weights, after.stored, after.moved) == ({}, None, 1)


def test_link_that_does_not_serve_gets_a_weight_to_come_back_with() -> None:
    stage = Stage(declared("isp_a", "isp_b", "isp_c"))
    stage.links["isp_c"] = replace(stage.links["isp_c"], pending="gone")
    stage.fill(0, isp_a=90, isp_b=10)
    stage.look(0.0)
    stage.fill(1000, isp_a=5, isp_b=5)
    stage.look(INTERVAL)
    found = stage.overlay.weights["balanced"]
    assert found["isp_a"] < found["isp_c"] < found["isp_b"]


def test_what_keeps_us_from_counting_is_told_and_changes_nothing(stage: Stage) -> None:
    stage.problem = OSError(1, "Operation not permitted")
    stage.look(0.0)
    assert stage.said == ["connections cannot be counted: Operation not permitted"]
    assert (stage.moved, stage.overlay.health().weights) == (0, Health().weights)
