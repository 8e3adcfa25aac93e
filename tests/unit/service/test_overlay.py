# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Which connections are released when: that looking only where something is due misses nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from _mwan.document import Document
from _mwan.resolve import resolve
from _mwan.service.overlay import Overlay
from _mwan.watch.judge import Change
from hypothesis import given
from hypothesis import strategies as st
from unit.worlds import facts

LINKS = ("isp_a", "isp_b", "line")
NOON, LAST_MINUTE = 720, 1439


def declared(window: str | None = None, **failback: Any) -> Document:
    devices = {"isp_a": ("wan1", "5.5.5.1"), "isp_b": ("wan2", "6.6.6.1"), "line": ("ppp0", None)}
    links = [{"name": name, "device": device, "gateway": gateway} for name, (device, gateway) in devices.items()]
    members = [{"link": name, "tier": tier} for tier, name in enumerate(LINKS, 1)]
    failback = {"tcp": "reset", **failback, **({"window": window} if window else {})}
    policies = [{"name": "ordered", "members": members, "failback": failback}]
    return Document.parse({"links": links, "policies": policies, "default_policy": "ordered"})


class Shown:
    """An overlay over three links, of which each is preferred to the next."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.overlay = Overlay(None, 0.0, 0.0)
        self.overlay.configure(document, 0.0, 0.0)
        self.links = resolve(document, facts())
        self.overlay.resolved(self.links, frozenset())

    def change(self, link: str, after: str, immediate: bool, now: float) -> None:
        self.overlay.change(Change(link, "", after, "so it is", {}, immediate), now, now)

    def released(self, now: float, minute: int = NOON, held: bool = False) -> dict[str, str | None]:
        self.overlay.settle(now, minute, held)
        return {name: self.overlay.entry(name).released for name in LINKS}


STEPS = st.lists(
    st.tuples(
        st.floats(0.0, 3.0),
        st.sampled_from(LINKS),
        st.sampled_from(("up", "degraded", "suspect", "down", "drain", "undrain", "pending")),
        st.booleans(),
    ),
    max_size=20,
)


@given(STEPS, st.sampled_from((0.0, 1.0, 4.0)))
def test_nothing_that_is_due_is_missed(steps: list[tuple[float, str, str, bool]], after: float) -> None:
    """One of two is made to look at everything each time, by another minute of the day."""
    document = declared(after=after)
    lazy, busy = Shown(document), Shown(document)
    drained: frozenset[str] = frozenset()
    now = 0.0
    for pause, link, what, immediate in steps:
        for tick in range(1, 4):
            at = now + pause * tick / 3
            assert lazy.released(at) == busy.released(at, tick % 2 + 1)
        now += pause
        for shown in (lazy, busy):
            if what == "pending":
                shown.links = {**shown.links, link: replace(shown.links[link], pending="gone" if immediate else None)}
            elif what.endswith("drain"):
                drained = drained | {link} if what == "drain" else drained - {link}
            else:
                shown.change(link, what, immediate, now)
            shown.overlay.resolved(shown.links, drained)
        assert lazy.released(now) == busy.released(now, 3)
        assert lazy.overlay.version == busy.overlay.version


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.booleans(), st.sampled_from(("", "up", "down"))), max_size=20))
def test_nothing_is_given_up_while_no_target_answers_anywhere(steps: list[tuple[float, bool, str]]) -> None:
    shown = Shown(declared())
    now, down_at, given_up = 0.0, float("inf"), False
    for pause, held, word in steps:
        now += pause
        if word:
            shown.change("isp_a", word, False, now)
            down_at, given_up = now if word == "down" else float("inf"), False
        given_up = given_up or (not held and now >= down_at + 1.0)
        assert shown.released(now, held=held)["isp_a"] == ("down" if given_up else None)
        waits = not given_up and not held and down_at < float("inf")
        assert shown.overlay.next_deadline() == (down_at + 1.0 if waits else float("inf"))


def test_the_next_moment_is_known() -> None:
    shown = returned(declared(after=5))
    assert shown.overlay.next_deadline() == 6.0, "those on the line, which the second replaced first"
    shown.change("isp_a", "down", False, 3.0)
    shown.released(3.0)
    assert shown.overlay.next_deadline() == 4.0, "flush_delay"
    assert shown.released(4.0) == {"isp_a": "down", "isp_b": None, "line": None}
    assert shown.overlay.next_deadline() == 6.0
    assert shown.released(6.0) == {"isp_a": "down", "isp_b": None, "line": "failback"}
    assert shown.overlay.next_deadline() == float("inf")


def returned(document: Document) -> Shown:
    """At 1.0 only the last link serves, at 2.0 the first one is back, and the second, too."""
    shown = Shown(document)
    for name in ("isp_a", "isp_b"):
        shown.change(name, "down", True, 0.5)
        shown.released(0.5)
    shown.change("isp_b", "up", False, 1.0)
    shown.released(1.0)
    shown.change("isp_a", "up", False, 2.0)
    shown.released(2.0)
    return shown


def test_the_time_of_day_is_enough() -> None:
    shown = returned(declared("23:59-00:01"))
    assert set(shown.released(3.0, LAST_MINUTE - 1).values()) == {None}
    assert shown.overlay.next_deadline() == float("inf")
    assert shown.released(3.5, LAST_MINUTE) == {"isp_a": None, "isp_b": "failback", "line": "failback"}


def test_the_last_health_waits_for_a_document_that_can_be_read() -> None:
    document = declared()
    found = {"links": {document.links[0].name: {"state": "down", "reason": "silent", "released": "down"}}}
    overlay = Overlay(found, 0.0, 0.0)
    overlay.configure(Document(), 0.0, 0.0)
    overlay.configure(document, 5.0, 5.0)
    entry = overlay.entry(document.links[0].name)
    assert (entry.state, entry.reason, entry.released) == ("down", "silent", "down")
