# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What holds for every sequence of answers, silences and kernel messages."""

from __future__ import annotations

import ast
import pickle
from collections.abc import Sequence
from pathlib import Path as FilePath

import _mwan.watch
from _mwan.watch.judge import Change, Watch
from _mwan.watch.machine import TABLE, State
from _mwan.watch.settings import ProbeSettings
from hypothesis import given
from hypothesis import strategies as st
from unit.watch.scenes import DEFAULT, FOREVER, UNPROBED, settings, simulate, with_dead_targets
from unit.watch.simulator import Path, Simulation, Span

NO_ADDRESS = "address lost"
SERVING = {state.value for state in State if state.serves}
STEPS = {(row.before.value, row.after.value) for row in TABLE}
NAMES = ("a", "b", "c")
PROBES = [
    DEFAULT,
    settings(profile="fast"),
    settings(profile="metered"),
    settings(targets=["1.1.1.1"]),
    settings(targets=["1.1.1.1", "192.0.2.1"], quorum=2),
]
# by how many times T_dead; probes as far apart as half of it leave little to judge by
FOUND_IN = [
    (DEFAULT, 1.5),
    (settings(profile="fast"), 1.5),
    (settings(profile="calm"), 1.5),
    (settings(interval=1, dead=2), 4.0),
    (settings(profile="metered"), 4.0),
]
# a link serves again so long after a target answers: an only link's rest, two rounds of its probes, and the round trip
RESCUED = 1.5


def spans(until: float, at_most: int = 6) -> st.SearchStrategy[list[Span]]:
    """Up to `at_most` spans of time that do not overlap, in order."""
    moments = st.lists(st.floats(0.1, until), max_size=2 * at_most, unique=True).map(sorted)
    return moments.map(lambda times: list(zip(times[::2], times[1::2], strict=False)))


@st.composite
def paths(draw: st.DrawFn, until: float) -> Path:
    return Path(
        rtt=draw(st.sampled_from((0.005, 0.1, 0.6))),
        loss=draw(st.sampled_from((0.0, 0.0, 0.1, 0.5, 0.9))),
        dark=draw(spans(until)),
        refused=draw(spans(until, 2)),
        queue=[(*span, 1.0) for span in draw(spans(until, 2))],
        dead_targets=draw(st.sampled_from((frozenset(), frozenset({0}), frozenset({0, 1}), frozenset({0, 1, 2})))),
    )


@st.composite
def worlds(draw: st.DrawFn, until: float = 20.0) -> Simulation:
    """Two or three links in all kinds of trouble, run until then."""
    names = NAMES[: draw(st.integers(2, 3))]
    probes = {name: draw(st.sampled_from(PROBES)) for name in names}
    states = {name: draw(st.sampled_from(sorted(SERVING | {"down", "suspect"}))) for name in names}
    stops = [(start, min(end - start, 5.0)) for start, end in draw(spans(until - 6, 2))]
    simulation = Simulation(
        probes, {name: draw(paths(until)) for name in names}, draw(st.integers(0, 99)), states, stops
    )
    for name in names:
        for start, end in draw(spans(until, 3)):
            simulation.kernel(start, name, False)
            simulation.kernel(end, name, True, "")
        for start, end in draw(spans(until, 2)):
            simulation.kernel(start, name, False, NO_ADDRESS, passing=True)
            simulation.kernel(end, name, True, "")
    return simulation.run(until)


def states_after(changes: Sequence[Change], before: dict[str, str]) -> dict[str, str]:
    """Follow the changes, which must fit together and be rows of the table."""
    states = dict(before)
    for change in changes:
        assert states[change.link] == change.before
        assert (change.before, change.after) in STEPS
        assert change.reason
        states[change.link] = change.after
    return states


def adopted(simulation: Simulation) -> dict[str, str]:
    first: dict[str, str] = {name: entry["state"] for name, entry in simulation.watch.snapshot(simulation.now).items()}
    for item in reversed(simulation.seen):
        first[item.change.link] = item.change.before
    return first


@given(worlds())
def test_silence_takes_no_link_out_that_is_the_last_and_none_goes_to_and_fro_at_once(simulation: Simulation) -> None:
    states = adopted(simulation)
    left: set[tuple[float, str, str]] = set()
    for item in simulation.seen:
        change = item.change
        states = states_after([change], states)
        left.add((item.at, change.link, change.before))
        # the kernel may say two things at once
        if not change.immediate and change.reason != NO_ADDRESS:
            assert (item.at, change.link, change.after) not in left
            assert change.after in SERVING or SERVING & {states[name] for name in states if name != change.link}


@given(worlds(), st.data())
def test_never_all_out_while_a_target_answers(simulation: Simulation, data: st.DataObject) -> None:
    alive = data.draw(st.sampled_from(sorted(simulation.paths)))
    path, probe = simulation.paths[alive], simulation.settings[alive]
    simulation.paths[alive] = Path(rtt=path.rtt, dead_targets=path.dead_targets if probe.quorum == 1 else frozenset())
    if len(simulation.paths[alive].dead_targets) >= len(probe.targets):
        simulation.paths[alive].dead_targets = frozenset(range(1, len(probe.targets)))
    for name in simulation.paths:
        simulation.kernel(simulation.now, name, True, "")
    # a probe's interval, so that it answers at all; more for one that was just silent, whose table waits for others
    simulation.run(simulation.now + RESCUED + 2 * probe.interval)
    watched = simulation.watch.snapshot(simulation.now)
    assert SERVING & {entry["state"] for entry in watched.values()}, simulation.seen


@given(spans(100, 8), spans(100, 8), spans(100, 8) | spans(10, 8))
def test_no_return_is_faster_than_damping_allows(
    darkness: list[Span], unplugged: list[Span], unnumbered: list[Span]
) -> None:
    simulation = Simulation({"a": DEFAULT, "b": UNPROBED}, {"a": Path(dark=darkness), "b": Path()})
    for start, end in unplugged:
        simulation.kernel(start, "a", False)
        simulation.kernel(end, "a", True, "")
    for start, end in unnumbered:
        simulation.kernel(start, "a", False, NO_ADDRESS, passing=True)
        simulation.kernel(end, "a", True, "")
    simulation.run(160)
    downs: list[float] = []
    forgiven: list[float] = []
    before = ""
    for item in simulation.seen:
        if item.change.after == "down":
            downs.append(item.at)
            before = item.change.reason
        elif item.change.before == "down" and "answers again" in item.change.reason:
            assert before == NO_ADDRESS
            assert item.at < downs.pop() + 1
            assert not downs, "no earlier outage counts"
            forgiven.append(item.at)
            assert len(forgiven) == 1, "one in a half-life"
        elif item.change.before == "down":
            earlier = sum(0.5 ** ((downs[-1] - down) / 300) for down in downs[:-1])
            assert item.at - downs[-1] >= min(900, 20 * 2**earlier) - 1e-6


EVENTS = st.lists(
    st.tuples(
        st.floats(0, 1.5),
        st.sampled_from(NAMES[:2]),
        st.integers(0, 2),
        st.sampled_from(
            ("reply", "reply", "lost", "lost", "lost", "refused", "error", "alive", "negative", "lag", "off", "on")
        ),
    ),
    max_size=120,
)


@given(EVENTS, st.sampled_from(PROBES[:2]))
def test_an_answer_ends_every_suspicion(events: list[tuple[float, str, int, str]], probe: ProbeSettings) -> None:
    watch = Watch(dict.fromkeys(NAMES[:2], probe), {}, 0.0)
    now, states, ready = 0.0, dict.fromkeys(NAMES[:2], "unknown"), dict.fromkeys(NAMES[:2], True)
    for seq, (passed, link, target, what) in enumerate(events):
        now += passed
        report(watch, link, target, seq, now, what)
        ready[link] = {"off": False, "on": True}.get(what, ready[link])
        suspected = states[link] == "suspect"
        states = states_after(watch.decide(now), states)
        if suspected and what == "reply" and ready[link]:
            assert states[link] in SERVING
        assert ready[link] or states[link] == "down"
        assert states == {name: entry["state"] for name, entry in watch.snapshot(now).items()}
        assert watch.next_deadline(now) >= now


def report(watch: Watch, link: str, target: int, seq: int, now: float, what: str) -> None:
    if what in ("reply", "lost", "refused", "error"):
        watch.sent(link, target, seq, now - 0.01)
    if what == "reply":
        watch.replied(link, target, seq, now)
    elif what == "refused":
        watch.refused(link, target, seq, now, "host unreachable")
    elif what == "error":
        watch.local_error(link, target, seq, now, "No buffer space available")
    elif what == "alive":
        watch.alive(link, now)
    elif what == "negative":
        watch.negative(link, now, "neighbour failed")
    elif what == "lag":
        watch.lag(0.5, now)
    elif what in ("off", "on"):
        watch.kernel(link, what == "on", "no carrier", now)


@given(st.integers(0, 3000), st.sampled_from(PROBES[:2]), st.integers(0, 99))
def test_a_single_lost_probe_changes_nothing(phase: int, probe: ProbeSettings, seed: int) -> None:
    """An interval's third holds one probe of the three targets."""
    start = 5 + phase / 1000
    lost = Path(dark=[(start, start + probe.interval / 3)])
    assert simulate({"a": lost, "b": Path()}, start + 5, probe, seed).seen == []


@given(st.floats(10, 20), st.floats(0.001, 30), st.sampled_from(PROBES[:2]), st.integers(0, 99))
def test_a_stopped_process_blames_no_link(start: float, stop: float, probe: ProbeSettings, seed: int) -> None:
    assert simulate({"a": Path(), "b": Path()}, 70, probe, seed, stops=[(start, stop)]).seen == []


@given(
    st.lists(st.tuples(st.sampled_from((0.7, 1.5, 4.0)), st.frozensets(st.integers(0, 2))), max_size=8),
    st.sampled_from([DEFAULT, settings(profile="fast"), settings(quorum=2)]),
    st.integers(0, 99),
)
def test_targets_that_come_and_go_for_all_links_take_none_down(
    deaths: list[tuple[float, frozenset[int]]], probe: ProbeSettings, seed: int
) -> None:
    """Whichever of them answer, each time for longer than from one probe to the next."""
    simulation = simulate({"a": Path(), "b": Path()}, 20, probe, seed)
    for seconds, dead in deaths:
        with_dead_targets(simulation, dead, simulation.now + seconds)
    assert "down" not in simulation.states("a") + simulation.states("b")


@given(
    st.lists(st.tuples(st.sampled_from((0.1, 0.6, 1.4, 3.0, 8.0)), st.frozensets(st.integers(0, 1))), max_size=8),
    st.sampled_from(FOUND_IN),
    st.integers(0, 99),
)
def test_a_dead_link_is_found_whatever_becomes_of_the_other_targets(
    deaths: list[tuple[float, frozenset[int]]], case: tuple[ProbeSettings, float], seed: int
) -> None:
    probe, times = case
    until = 20 + times * probe.dead
    simulation = simulate({"a": Path(), "b": Path(dark=[(20, FOREVER)])}, 20, probe, seed)
    for seconds, dead in deaths:
        with_dead_targets(simulation, dead, min(simulation.now + seconds * probe.interval, until))
    assert simulation.run(until).states("b")[-1:] == ["down"]
    assert "down" not in simulation.states("a")


def test_there_is_no_clock_and_no_environment_to_depend_on() -> None:
    """So that the wall clock cannot matter."""
    imported: set[str] = set()
    for file in FilePath(_mwan.watch.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported.update(item.name for item in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(str(node.module))
    pure = {"__future__", "collections", "collections.abc", "dataclasses", "enum", "math", "re", "shlex", "typing"}
    assert imported <= pure | {"urllib.parse"}


def test_all_links_dark_moves_nothing_and_takes_no_memory() -> None:
    simulation = simulate({name: Path(dark=[(50, FOREVER)]) for name in NAMES[:2]}, 300)
    before = len(pickle.dumps(simulation.watch))
    simulation.run(900)
    assert simulation.seen == []
    assert simulation.watch.held
    assert len(pickle.dumps(simulation.watch)) < 1.05 * before


def test_a_link_that_stays_down_takes_no_memory() -> None:
    simulation = simulate({"a": Path(dark=[(50, FOREVER)], refused=[(400, 500)]), "b": Path()}, 300)
    before = len(pickle.dumps(simulation.watch))
    assert len(pickle.dumps(simulation.run(900).watch)) < 1.05 * before
