# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""From the watch's changes to the health document, and when connections are given up."""

from __future__ import annotations

import json
from typing import Any

import pytest
from _mwan.document import Document
from _mwan.health import RESTING
from _mwan.resolve import resolve
from _mwan.service.overlay import Overlay, within
from _mwan.serving import Serving
from _mwan.watch.judge import Change
from _mwan.watch.machine import TABLE
from hypothesis import given
from hypothesis import strategies as st
from unit.worlds import facts

NAMES = ("isp_a", "isp_b")
NOON, WALL = 720, 1_700_000_000.0
STEPS = sorted({(row.before.value, row.after.value) for row in TABLE})


def document(flush_delay: float = 1.0, rule: bool = False, **failback: Any) -> Document:
    """isp_a before isp_b."""
    data: dict[str, Any] = {
        "settings": {"probe": {"flush_delay": flush_delay}},
        "links": [
            {"name": "isp_a", "device": "wan1", "gateway": "5.5.5.1"},
            {"name": "isp_b", "device": "wan2", "gateway": "6.6.6.1"},
        ],
        "policies": [
            {
                "name": "backup",
                "members": [{"link": "isp_a", "tier": 1}, {"link": "isp_b", "tier": 2}],
                **({"failback": failback} if failback else {}),
            }
        ],
        "default_policy": "backup",
        "rules": [{"name": "voip", "link": "isp_b"}] if rule else [],
    }
    return Document.parse(data)


class Life:
    """An overlay and its clock."""

    def __init__(self, declared: Document, found: Any = None) -> None:
        self.declared, self.now, self.minute = declared, 0.0, NOON
        self.drained: frozenset[str] = frozenset()
        self.overlay = Overlay(found, 0.0, WALL)
        self.overlay.configure(declared, 0.0, WALL)
        self.follow()

    def follow(self) -> None:
        self.overlay.resolved(resolve(self.declared, facts()), self.drained)
        self.overlay.settle(self.now, self.minute)

    def drain(self, *links: str) -> None:
        self.drained = frozenset(links)
        self.follow()

    def change(self, link: str, after: str, immediate: bool = False) -> None:
        change = Change(link, self.overlay.entry(link).state, after, "because", {"loss": 0.0}, immediate)
        self.overlay.change(change, self.now, WALL + self.now)
        self.overlay.settle(self.now, self.minute)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.overlay.settle(self.now, self.minute)

    def released(self, link: str = "isp_b") -> str | None:
        return self.overlay.entry(link).released

    def serving(self) -> Serving:
        return Serving(self.declared, self.overlay.health(), resolve(self.declared, facts()))

    def again(self) -> Life:
        """The next process finds the document of this one."""
        return Life(self.declared, json.loads(json.dumps(self.overlay.dump(WALL))))

    def outage(self) -> None:
        """isp_a fails, so that isp_b serves, and comes back."""
        for state in ("up", "suspect", "down", "up"):
            self.change("isp_a", state)
            self.change("isp_b", "up")


MOVING = {"tcp": "reset", "other": "reroute"}


def test_silence_is_given_a_moment_before_connections_are_released() -> None:
    life = Life(document(flush_delay=3))
    life.change("isp_a", "down")
    assert (life.released("isp_a"), life.overlay.next_deadline()) == (None, 3.0)
    life.wait(2.9)
    assert life.released("isp_a") is None
    life.wait(0.1)
    assert life.released("isp_a") == "down"
    life.change("isp_a", "up")
    assert life.released("isp_a") is None


@pytest.mark.parametrize(("delay", "immediate"), [(5.0, True), (0.0, False)])
def test_where_there_is_no_doubt_there_is_no_delay(delay: float, immediate: bool) -> None:
    life = Life(document(flush_delay=delay))
    life.change("isp_a", "down", immediate)
    assert life.released("isp_a") == "down"


def test_a_device_that_goes_while_its_link_is_down_ends_the_delay() -> None:
    life = Life(document(flush_delay=5))
    life.overlay.gone("isp_a", 0.0)
    life.change("isp_a", "down")
    life.wait(1)
    assert life.released("isp_a") is None
    life.overlay.gone("isp_a", 1.0)
    life.wait(0)
    assert life.released("isp_a") == "down"


def test_what_came_back_in_time_keeps_its_connections() -> None:
    life = Life(document())
    life.change("isp_a", "down")
    life.wait(0.5)
    life.change("isp_a", "up")
    life.wait(10)
    assert life.released("isp_a") is None


def test_the_next_process_takes_over_what_was_released_and_since_when() -> None:
    life = Life(document())
    life.change("isp_a", "down", immediate=True)
    life.wait(100)
    heir = life.again()
    assert (heir.overlay.states["isp_a"], heir.released("isp_a")) == ("down", "down")
    assert heir.overlay.entry("isp_a").since == pytest.approx(WALL, abs=0.001)
    assert heir.overlay.entry("isp_a").reason == "because"


def test_the_next_process_keeps_the_delay_that_had_begun() -> None:
    life = Life(document())
    life.change("isp_a", "down")
    heir = life.again()
    assert heir.released("isp_a") is None
    heir.wait(1.0)
    assert heir.released("isp_a") == "down"


@pytest.mark.parametrize(
    "found",
    [None, 5, [], {"links": 5}, {"links": {"isp_a": 5}}, {"links": {"isp_a": {"state": "bored"}}},
     {"links": {"isp_a": {"state": "drained"}}}],
)  # fmt: skip
def test_what_makes_no_sense_is_not_taken_over(found: Any) -> None:
    assert Life(document(), found).overlay.states == {"isp_a": "unknown", "isp_b": "unknown"}


@pytest.mark.parametrize(
    ("entry", "released"),
    [
        ({"state": "up", "released": "down"}, None),
        ({"state": "down", "released": "failback", "since": "yesterday"}, None),
        ({"state": "down", "released": 5}, None),
        ({"state": "down", "released": "down", "evidence": 7}, "down"),
    ],
)
def test_only_a_release_that_fits_the_state_is_taken_over(entry: dict[str, Any], released: str | None) -> None:
    assert Life(document(), {"links": {"isp_a": entry}}).released("isp_a") == released


def test_only_declared_links_are_written() -> None:
    life = Life(document(), {"links": {"gone": {"state": "up"}, "isp_a": {"state": "up"}}})
    dumped = life.overlay.dump(WALL)
    assert list(dumped["links"]) == ["isp_a", "isp_b"]
    assert (dumped["schema"], dumped["written"]) == (1, "2023-11-14T22:13:20.000+00:00")


# failback


def test_connections_fail_back_when_better_links_have_served_for_a_while() -> None:
    life = Life(document(**MOVING, after=30))
    life.outage()
    life.wait(29)
    assert life.released() is None
    life.wait(1)
    assert life.released() == "failback"
    life.change("isp_a", "down")
    assert life.released() is None, "it serves again"


def test_a_link_that_never_served_has_nothing_to_give_back() -> None:
    life = Life(document(**MOVING))
    for link in NAMES:
        life.change(link, "up")
    life.wait(1000)
    assert life.released() is None


def test_nothing_fails_back_by_itself_where_it_shall_be_kept_or_cannot_be_told() -> None:
    for declared in (document(), document(rule=True, **MOVING), document(manual=True, **MOVING)):
        life = Life(declared)
        life.outage()
        life.wait(10000)
        assert life.released() is None


def test_failback_waits_for_its_hours() -> None:
    life = Life(document(**MOVING, window="02:00-04:00"))
    life.outage()
    life.wait(1)
    assert life.released() is None
    life.minute = 150
    life.wait(1)
    assert life.released() == "failback"
    life.minute = NOON
    life.wait(1)
    assert life.released() == "failback", "begun is begun"


def test_failback_by_hand() -> None:
    life = Life(document(manual=True, **MOVING))
    assert "no better link" in life.overlay.fail_back("isp_b")
    life.outage()
    assert life.overlay.fail_back("isp_b") == ""
    assert life.released() == "failback"
    assert "no better link" in life.overlay.fail_back("isp_a")
    assert "is not a declared link" in life.overlay.fail_back("isp_z")
    kept = Life(document())
    kept.outage()
    assert "keeps its connections" in kept.overlay.fail_back("isp_b")
    named = Life(document(rule=True, **MOVING))
    named.outage()
    assert "a rule names it" in named.overlay.fail_back("isp_b")


def test_a_doubt_about_a_link_that_is_being_left_changes_nothing() -> None:
    life = Life(document(**MOVING))
    life.outage()
    assert life.released() == "failback"
    life.change("isp_b", "suspect")
    assert life.released() == "failback"
    life.change("isp_b", "down")
    assert life.released() is None
    life.wait(1)
    assert life.released() == "down"


def test_nothing_fails_back_while_every_link_is_in_doubt() -> None:
    life = Life(document(**MOVING, after=5))
    life.outage()
    life.change("isp_b", "suspect")
    life.change("isp_a", "suspect")
    life.wait(100)
    assert life.released() is None


def test_draining_keeps_connections() -> None:
    life = Life(document(**MOVING))
    life.outage()
    life.drain("isp_b")
    assert life.released() is None
    life.drain()
    assert life.released() == "failback"


def test_the_next_process_goes_on_failing_back() -> None:
    life = Life(document(**MOVING, after=30))
    life.outage()
    life.wait(20)
    heir = life.again()
    heir.wait(29)
    assert heir.released() is None
    heir.wait(1)
    assert heir.released() == "failback"
    assert heir.again().released() == "failback"


@pytest.mark.parametrize(
    ("window", "minute", "inside"),
    [
        (None, 5, True),
        ((120, 240), 120, True),
        ((120, 240), 240, False),
        ((1320, 120), 1400, True),
        ((1320, 120), 0, True),
        ((1320, 120), 120, False),
        ((1320, 120), 700, False),
    ],
)
def test_windows_of_the_day(window: tuple[int, int] | None, minute: int, inside: bool) -> None:
    assert within(window, minute) is inside


# whatever happens

HAPPENING = st.one_of(
    st.tuples(st.just("wait"), st.floats(0, 5)),
    st.tuples(st.just("change"), st.tuples(st.sampled_from(NAMES), st.integers(0, 20), st.booleans())),
    st.tuples(st.just("drain"), st.lists(st.sampled_from(NAMES), unique=True)),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("minute"), st.integers(0, 1439)),
)
FAILBACKS = st.sampled_from(({}, MOVING, {**MOVING, "after": 3}, {**MOVING, "window": "02:00-04:00"}))


@given(st.sampled_from((0.0, 2.0)), FAILBACKS, st.lists(HAPPENING, max_size=30))
def test_releases(delay: float, failback: dict[str, Any], steps: list[tuple[str, Any]]) -> None:
    """Down only while down, and on silence not before its time; failback only where the link serves nothing."""
    life = Life(document(flush_delay=delay, **failback))
    silent: dict[str, float] = {}
    for kind, what in steps:
        before, version = life.overlay.dump(WALL), life.overlay.version
        if kind == "wait":
            life.wait(what)
        elif kind == "change":
            name, choice, immediate = what
            state = life.overlay.entry(name).state
            after = [step for start, step in STEPS if start == state]
            life.change(name, after[choice % len(after)], immediate)
            silent.pop(name, None)
            if life.overlay.entry(name).state == "down" and not immediate:
                silent[name] = life.now
        elif kind == "drain":
            life.drain(*what)
        elif kind == "restart":
            moment, life = life.now, life.again()
            silent = {name: since - moment for name, since in silent.items()}
            version = life.overlay.version
        else:
            life.minute = what
        if kind != "restart" and life.overlay.dump(WALL) != before:
            assert life.overlay.version > version, "what is written anew is told"
        check(life, silent, delay)


def check(life: Life, silent: dict[str, float], delay: float) -> None:
    health, serving = life.overlay.health(), life.serving()
    for name in NAMES:
        entry = life.overlay.entry(name)
        if entry.released == "down":
            assert entry.state == "down"
            assert name not in silent or life.now >= silent[name] + delay - 1e-9
        if entry.released == "failback":
            assert entry.state != "down"
            assert health.state(name) != "drained"
            assert not serving.serves(name) or health.state(name) in RESTING
