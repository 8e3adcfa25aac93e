# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What happens to links, as the sequence of states they go through."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from _mwan.watch.damping import Penalty
from _mwan.watch.judge import Watch
from _mwan.watch.settings import ProbeSettings
from unit.watch.scenes import DEFAULT, FOREVER, UNPROBED, settings, simulate, with_dead_targets
from unit.watch.simulator import Bursts, Path, Simulation

FAST, CALM, METERED = (settings(profile=name) for name in ("fast", "calm", "metered"))
ONE_TARGET = settings(targets=["192.0.2.1"])
OUTAGE = ["suspect", "down", "up"]


@dataclass(frozen=True)
class Scene:
    """Link a goes through `states`; link b, sound unless told, through `other`."""

    name: str
    a: Path
    states: list[str]
    b: Path = field(default_factory=Path)
    other: list[str] = field(default_factory=list)
    probe: ProbeSettings = DEFAULT
    until: float = 200.0
    stops: tuple[tuple[float, float], ...] = ()


def dark(*spans: tuple[float, float]) -> Path:
    return Path(dark=list(spans))


SCENES = [
    Scene("nothing happens", Path(), []),
    Scene("more than half a second without an answer", dark((50.03, 50.6)), []),
    Scene("a second and a half without an answer", dark((50.03, 51.6)), ["suspect", "up"]),
    Scene("a black hole", dark((50.03, 120)), OUTAGE),
    Scene("a black hole that stays", dark((50.03, FOREVER)), ["suspect", "down"]),
    Scene("a black hole, fast", dark((50.03, 120)), OUTAGE, probe=FAST),
    Scene("a black hole, calm", dark((50.03, 120)), OUTAGE, probe=CALM),
    Scene("a black hole, metered", dark((50.03, 120)), OUTAGE, probe=METERED, until=300),
    Scene("a black hole with one target", dark((50.03, 120)), OUTAGE, probe=ONE_TARGET),
    Scene("unreachables from the gateway", Path(refused=[(50.03, 120)]), OUTAGE),
    Scene("a quarter second of unreachables", Path(refused=[(50.03, 50.28)]), []),
    Scene("another outage while returning", dark((50.03, 60), (70, 80)), OUTAGE),
    Scene("both links dark", dark((50.03, 120)), [], b=dark((50.01, 120))),
    Scene("both links dark, one returns a moment earlier", dark((50.03, 120.1)), [], b=dark((50.01, 120))),
    Scene("both links dark, one stays dark", dark((50.03, FOREVER)), ["suspect", "down"], b=dark((50.01, 120))),
    Scene("one dark after the other", dark((50, 120)), OUTAGE, b=dark((60, 110)), other=[]),
    Scene(
        "one dark after the other, the first returns", dark((50, 100)), OUTAGE, dark((60, FOREVER)), ["suspect", "down"]
    ),
    Scene("one target dead everywhere", Path(dead_targets=frozenset({1})), [], b=Path(dead_targets=frozenset({1}))),
    Scene("one target dead on one link", Path(dead_targets=frozenset({1})), []),
    Scene(
        "two targets dead everywhere", Path(dead_targets=frozenset({0, 1})), [], b=Path(dead_targets=frozenset({0, 1}))
    ),
    Scene("a queue that is full at once", Path(queue=[(50, 90, 1.0)]), ["suspect", "up"], until=120),
    Scene(
        "a queue that fills and drains", Path(queue=[(t, t + 0.1, (t - 50) / 10) for t in range(50, 60)]), [], until=120
    ),
    Scene("the process stands still", Path(), [], stops=((50.0, 5.0),)),
    Scene("the process stands still for a minute", Path(), [], stops=((50.0, 60.0),)),
    Scene("the process is late again and again", Path(), [], stops=tuple((50.0 + t, 0.4) for t in range(30))),
    Scene(
        "the process stands still in a black hole", dark((50.03, FOREVER)), ["suspect", "down"], stops=((50.6, 5.0),)
    ),
    Scene("30 % loss", Path(loss=0.3), ["degraded"], until=60),
    Scene("2 % loss", Path(loss=0.02), []),
    Scene("bursts of loss of 0.1 s", Path(bursts=Bursts(10, 0.1)), [], until=600),
]


@pytest.mark.parametrize("scene", SCENES, ids=[scene.name for scene in SCENES])
def test_scene(scene: Scene) -> None:
    simulation = simulate({"a": scene.a, "b": scene.b}, scene.until, scene.probe, stops=scene.stops)
    assert simulation.states("a") == scene.states
    assert simulation.states("b") == scene.other


def kernel_says(*words: tuple[float, bool, str], until: float = 200.0, **links: Path) -> Simulation:
    simulation = simulate({"a": Path(), "b": Path(), **links}, 0)
    for at, ready, reason in words:
        simulation.kernel(at, "a", ready, reason)
    return simulation.run(until)


def test_carrier_loss_is_acted_on_at_once_and_its_return_waited_for() -> None:
    simulation = kernel_says((50, False, "no carrier"), (60, True, ""))
    assert [(item.at, item.change.after, item.change.immediate) for item in simulation.seen[:1]] == [(50, "down", True)]
    assert simulation.seen[0].change.reason == "no carrier"
    assert simulation.states("a") == ["down", "up"]
    assert 80 <= simulation.seen[1].at < 80.5


def test_silence_is_no_reason_to_act_at_once() -> None:
    simulation = simulate({"a": dark((50, FOREVER)), "b": Path()}, 60)
    assert [item.change.immediate for item in simulation.seen] == [False, False]


def test_a_suspect_stays_one_when_a_returning_link_takes_over_from_a_broken_one() -> None:
    paths = {"a": dark((50, FOREVER)), "b": dark((20, 40)), "c": Path()}
    simulation = simulate(paths, 0)
    simulation.kernel(51.3, "c", False)
    assert simulation.run(51.5).seen[-3].change.link == "a"
    assert [(item.change.link, item.change.after) for item in simulation.seen[-2:]] == [("c", "down"), ("b", "up")]
    assert simulation.run(60).states("a") == ["suspect", "down"]


def test_unreachables_halve_the_time_to_decide() -> None:
    simulation = simulate({"a": Path(refused=[(50.03, FOREVER)]), "b": Path()}, 60)
    suspect, down = simulation.seen
    assert suspect.at <= 50.03 + 0.55
    assert 50.03 + 0.5 <= down.at <= 50.03 + 1.1
    assert "network unreachable" in down.change.reason
    assert down.change.evidence["unanswered"] >= 4


def test_what_is_said_of_a_dead_link() -> None:
    simulation = simulate({"a": dark((50.03, FOREVER)), "b": Path()}, 60, settings(targets=["192.0.2.1", "192.0.2.2"]))
    change = simulation.seen[-1].change
    assert change.reason == "no answer for 2.0 s from 192.0.2.1, 192.0.2.2, gateway is silent"
    assert [item["target"] for item in change.evidence["targets"]] == ["192.0.2.1", "192.0.2.2"]
    assert 2.0 <= change.evidence["silence"] < 2.1
    assert change.evidence["rtt"] == pytest.approx(0.0225, abs=0.003)
    assert json.loads(json.dumps(simulation.watch.snapshot(60)))["a"]["reason"] == change.reason


def test_answers_read_after_the_process_knows_that_it_was_late() -> None:
    simulation = simulate({"a": Path(), "b": Path()}, 50)
    simulation.watch.lag(5, 55.0)
    assert simulation.watch.decide(55.0) == []
    simulation.now = 55.0
    assert simulation.run(60).seen == []


def test_after_all_were_down_the_first_to_answer_serves() -> None:
    simulation = simulate({"a": dark((0, 10)), "b": Path()}, 100, adopted={"a": "down", "b": "down"})
    assert [(item.change.link, item.change.after, round(item.at)) for item in simulation.seen] == [
        ("b", "up", 1),
        ("a", "up", 30),
    ]


def test_the_only_link_returns_with_its_first_answer() -> None:
    simulation = kernel_says((50, False, "no carrier"), (60, True, ""), b=dark((30, FOREVER)))
    assert [(item.change.link, item.change.after) for item in simulation.seen] == [
        ("b", "suspect"), ("b", "down"), ("a", "down"), ("a", "up")
    ]  # fmt: skip
    assert simulation.seen[-1].at < 60.3


def test_a_return_is_damped_the_more_the_more_outages_there_were() -> None:
    spans = [(1000.0 * number, 1000.0 * number + 10) for number in range(1, 3)]
    spans += [(3000.0, 3010), (3040.0, 3050), (3110.0, 3120), (3230, 3240)]
    simulation = simulate({"a": dark(*spans), "b": Path()}, 3400)
    ups = [item for item in simulation.seen if item.change.after == "up"]
    # 20 s doubled for each earlier outage, which counts half after 300 s; stable since up to 0.5 s after the end
    waits = [round(item.at - end) for item, (_start, end) in zip(ups, spans, strict=True)]
    assert waits == [20, 22, 22, 40, 66, 83]


def test_flapping_carrier_takes_a_link_out_until_it_is_over() -> None:
    words = [(50 + number / 10, bool(number % 2), "no carrier") for number in range(600)]
    assert kernel_says(*words, until=180).states("a") == ["down", "up"]


def test_a_flapping_only_link_rests_a_second_each_time() -> None:
    words = [(50 + number / 2, bool(number % 2), "no carrier") for number in range(120)]
    simulation = kernel_says(*words, b=dark((0, FOREVER)))
    ups = [item.at for item in simulation.seen if item.change.link == "a" and item.change.after == "up"]
    assert ups
    assert min(later - earlier for earlier, later in pairwise(ups)) >= 1.0


@pytest.mark.parametrize("state", ["up", "degraded", "suspect", "unknown", "drained", "nonsense"])
def test_a_sound_link_is_never_taken_out_at_start(state: str) -> None:
    simulation = simulate({"a": Path(), "b": Path()}, 90, adopted={"a": state, "b": "up"})
    assert simulation.states("a") == ([] if state == "up" else ["up"])


def test_a_link_that_was_degraded_stays_so_until_it_is_fine_for_a_while() -> None:
    simulation = simulate({"a": Path(), "b": Path()}, 90, adopted={"a": "degraded", "b": "up"})
    assert simulation.states("a") == ["up"]
    assert simulation.seen[0].at > 30


def test_a_link_that_was_down_stays_down_until_it_is_stable() -> None:
    simulation = simulate({"a": Path(), "b": Path()}, 60, adopted={"a": "down", "b": "up"})
    assert simulation.states("a") == ["up"]
    assert 20 <= simulation.seen[0].at < 20.5


def test_a_link_that_was_down_and_is_changes_nothing() -> None:
    assert not simulate({"a": dark((0, FOREVER)), "b": Path()}, 60, adopted={"a": "down", "b": "up"}).seen


def test_a_dead_link_is_found_at_start() -> None:
    simulation = simulate({"a": dark((0, FOREVER)), "b": Path()}, 60, adopted={})
    assert simulation.states("a") == ["suspect", "down"]
    assert simulation.states("b") == ["up"]


def test_a_link_without_targets_is_what_the_kernel_says() -> None:
    simulation = simulate({"a": Path(), "b": Path()}, 0, UNPROBED, adopted={})
    simulation.kernel(50, "a", False)
    simulation.kernel(60, "a", True)
    assert simulation.run(100).states("a") == ["up", "down", "up"]
    assert simulation.states("b") == ["up"]
    assert simulation.probes == 0


def test_a_link_without_targets_is_trusted_when_another_dies() -> None:
    simulation = simulate({"a": dark((50, FOREVER)), "b": Path()}, 60, {"a": DEFAULT, "b": UNPROBED})
    assert simulation.states("a") == ["suspect", "down"]


def test_a_metered_link_is_asked_when_another_dies() -> None:
    simulation = simulate({"a": dark((50.03, FOREVER)), "b": Path()}, 60, {"a": DEFAULT, "b": METERED})
    assert simulation.states("a") == ["suspect", "down"]
    assert simulation.seen[-1].at < 52.3


def test_a_link_whose_only_target_died_is_not_blamed() -> None:
    probe = {"a": settings(targets=["192.0.2.1"]), "b": settings(targets=["192.0.2.1", "192.0.2.2"])}
    simulation = simulate({"a": dark((50, 90)), "b": Path()}, 49.9, probe)
    simulation.paths["b"].dead_targets = frozenset({0})
    simulation.run(80)
    assert "down" not in simulation.states("a")
    assert simulation.watch.snapshot(80)["a"]["held"] == "its targets answer on no link"


def test_a_target_found_faulty_between_two_looks_at_a_link_counts_there_at_once() -> None:
    one, two = settings(targets=["192.0.2.1"]), settings(targets=["192.0.2.1", "192.0.2.2"])
    watch = Watch({"a": one, "b": two, "c": UNPROBED}, dict.fromkeys("abc", "up"), 0.0)
    for seq, moment in enumerate((0.0, 0.1, 0.2, 0.3)):
        watch.sent("a", 0, seq, moment)
    for target, sent, replied in ((0, 0.89, 0.9), (0, 1.0, None), (1, 1.19, 1.2), (0, 1.25, None)):
        watch.sent("b", target, int(100 * sent), sent)
        if replied:
            watch.replied("b", target, int(100 * sent), replied)
    assert [(change.link, change.after) for change in watch.decide(1.3)] == [("a", "suspect")]
    watch.sent("b", 1, 180, 1.8)
    watch.replied("b", 1, 180, 1.81)
    assert watch.decide(1.89) == []
    watch.negative("b", 1.91, "neighbour failed")
    watch.kernel("c", False, "no carrier", 1.91)
    assert [(change.link, change.after) for change in watch.decide(1.91)] == [("a", "up"), ("c", "down")]


@pytest.mark.parametrize("probe", [DEFAULT, FAST, settings(quorum=2)])
@pytest.mark.parametrize(("target", "share"), [(0, 0.06), (1, 0.4)])
def test_a_target_that_answers_for_a_moment_before_all_are_silent_is_no_outage(
    probe: ProbeSettings, target: int, share: float
) -> None:
    """It was silent for long, and in that share of an interval it need not answer on every link."""
    for seed in range(20):
        simulation = simulate({"a": Path(), "b": Path()}, 20, probe, seed)
        for seconds, dead in ((6, {target}), (share * probe.interval, set()), (6, {0, 1, 2})):
            with_dead_targets(simulation, dead, simulation.now + seconds)
        assert "down" not in simulation.states("a") + simulation.states("b")
        assert simulation.watch.held


def test_a_target_that_is_asked_again_is_given_time_to_answer() -> None:
    """By a link that needs two of them, and has heard nothing of it since it was left out."""
    probe = settings(profile="fast", quorum=2)
    for seed in range(60):
        simulation = simulate({"a": Path(), "b": Path()}, 20, probe, seed)
        for dead in ({1, 2}, set[int]()):
            with_dead_targets(simulation, dead, simulation.now + 6)
        assert simulation.states("a") + simulation.states("b") == []


def test_the_only_target_of_a_link_is_given_time_to_answer_when_it_is_asked_again() -> None:
    """It is heard over another link first, and a third one that returns has the watch decide just then."""
    probe = {"a": DEFAULT, "b": DEFAULT, "c": settings(targets=["8.8.8.8"])}
    for seed in range(40):
        simulation = simulate({"a": Path(), "b": dark((5, 28)), "c": Path()}, 30, probe, seed)
        for seconds, dead in ((12 + seed / 100, True), (10, False)):
            for name, path in simulation.paths.items():
                path.dead_targets = frozenset({0 if name == "c" else 1} if dead else ())
            simulation.run(simulation.now + seconds)
        assert "down" not in simulation.states("c")


def test_a_link_that_is_down_stays_so_when_its_targets_answer_on_no_link() -> None:
    probe = {"a": DEFAULT, "b": settings(targets=["8.8.8.8"])}
    simulation = simulate({"a": Path(), "b": dark((20, FOREVER))}, 60, probe)
    simulation.paths["a"].dead_targets = frozenset({1})
    assert simulation.run(200).states("b") == ["suspect", "down"]
    assert simulation.watch.snapshot(200)["b"]["held"] == "its targets answer on no link"


def test_other_settings_are_no_answer_of_a_link_that_is_down() -> None:
    simulation = simulate({"a": Path(), "b": dark((20, FOREVER))}, 60)
    simulation.kernel(61, "a", False)
    simulation.run(62)
    simulation.watch.configure({"a": DEFAULT, "b": METERED}, 62)
    assert simulation.watch.decide(62) == []


def test_a_target_that_answers_again_in_the_moment_of_a_reload_counts() -> None:
    simulation = simulate({name: Path(dead_targets=frozenset({1})) for name in "ab"}, 20)
    assert [target["excluded"] for target in simulation.watch.snapshot(20)["a"]["targets"]] == [False, True, False]
    simulation.watch.configure(simulation.settings, 20)
    for name in "ab":
        for target in range(3):
            simulation.watch.replied(name, target, 1_000_000, 20)
    simulation.paths.update({name: Path() for name in "ab"})
    simulation.run(30)
    assert [target["excluded"] for target in simulation.watch.snapshot(30)["a"]["targets"]] == [False] * 3


def test_hold_is_reported_while_it_lasts() -> None:
    simulation = simulate({"a": dark((50, 70)), "b": dark((50, 70))}, 60)
    assert simulation.watch.held
    assert simulation.watch.snapshot(60)["a"]["held"] == "no target answers on any link"
    simulation.run(80)
    assert not simulation.watch.held
    assert simulation.watch.snapshot(80)["a"]["held"] == ""


def test_two_of_three_must_answer_where_the_quorum_says_so() -> None:
    probe = settings(quorum=2)
    paths = {"a": Path(), "b": Path()}
    simulation = simulate(paths, 50, probe)
    simulation.paths["a"].dead_targets = frozenset({0})
    assert simulation.run(100).states("a") == []
    simulation.paths["a"].dead_targets = frozenset({0, 2})
    assert simulation.run(150).states("a") == ["suspect", "down"]


def test_a_latency_step_degrades_where_a_limit_is_set() -> None:
    path = Path(queue=[(100, 200, 0.2)])
    simulation = simulate({"a": path, "b": Path()}, 300, settings(rtt={"enter": "100ms", "leave": "80ms"}))
    assert simulation.states("a") == ["degraded", "up"]
    assert simulation.seen[0].change.reason.startswith("round trip 1")
    # the mean over 30 s crosses 100 ms after 12 s, and is fine 18 s after the step back, for 30 s
    assert 110 < simulation.seen[0].at < 115
    assert 245 < simulation.seen[1].at < 255


def test_a_full_link_is_not_degraded_for_being_slow() -> None:
    simulation = simulate({"a": Path(queue=[(10, 200, 0.2)]), "b": Path()}, 5, settings(rtt="100ms"))
    simulation.watch.load("a", 0.9)
    assert simulation.run(100).states("a") == []


def test_what_a_full_link_was_slow_at_is_not_held_against_it_afterwards() -> None:
    """That it is full is known a little late, and a full buffer is slow from the first moment on."""
    simulation = simulate({"a": Path(queue=[(100, 160, 0.8)]), "b": Path()}, 102, settings(rtt="150ms"))
    simulation.watch.load("a", 0.9)
    simulation.run(161)
    simulation.watch.load("a", 0.5)
    assert simulation.run(300).states("a") == []


def test_a_link_that_is_slow_without_being_full_is_found_to_be_after_it_was_full() -> None:
    simulation = simulate({"a": Path(queue=[(100, 200, 0.2)]), "b": Path()}, 102, settings(rtt="150ms"))
    simulation.watch.load("a", 0.9)
    assert simulation.run(161).states("a") == []
    simulation.watch.load("a", 0.8)
    assert simulation.run(180).states("a") == ["degraded"]
    assert 170 < simulation.seen[0].at < 173, "after as many probes as it takes"


@pytest.mark.parametrize("adopted", [{}, {"a": "down", "b": "up"}], ids=["unknown", "adopted"])
def test_a_link_that_never_answered_is_asked_no_more_often_than_others(adopted: dict[str, str]) -> None:
    simulation = simulate({"a": dark((0, FOREVER)), "b": Path()}, 60, adopted=adopted)
    assert simulation.watch.snapshot(60)["a"]["state"] == "down"
    assert simulation.watch.pace("a", 60) == simulation.watch.pace("b", 60)
    assert simulation.watch.pace("a", 60).interval == DEFAULT.interval


def test_losses_of_an_outage_do_not_degrade_the_link_that_returns() -> None:
    simulation = simulate({"a": dark((50, 100)), "b": Path()}, 400)
    assert simulation.states("a") == OUTAGE


def test_a_lossy_link_returns_as_degraded() -> None:
    simulation = simulate({"a": Path(loss=0.15, dark=[(60, 100)]), "b": Path()}, 160)
    assert simulation.states("a") == ["degraded", "suspect", "down", "degraded"]


def test_errors_of_this_host_are_no_path_loss() -> None:
    simulation = simulate({"a": Path(), "b": Path()}, 50)
    watch = simulation.watch
    for number in range(60):
        moment = 50 + number / 6
        watch.sent("a", number % 3, 10**6 + number, moment)
        watch.local_error("a", number % 3, 10**6 + number, moment, "Operation not permitted")
        watch.sent("b", 0, 10**6 + number, moment)
        watch.replied("b", 0, 10**6 + number, moment)
        assert watch.decide(moment) == []
    snapshot = watch.snapshot(60)["a"]
    assert (snapshot["state"], snapshot["loss"]) == ("up", 0.0)
    assert snapshot["targets"][0]["error"] == "Operation not permitted"


def test_other_proof_of_life_keeps_a_link_that_only_loses() -> None:
    simulation = simulate({"a": dark((50, FOREVER)), "b": Path()}, 50)
    for tenth in range(500, 600):
        simulation.watch.alive("a", tenth / 10)
        simulation.run(tenth / 10 + 0.1)
    assert simulation.states("a") == ["degraded"]


def test_reload_keeps_states_and_what_is_known() -> None:
    simulation = simulate({"a": dark((50, FOREVER)), "b": Path()}, 60)
    before = simulation.watch.snapshot(60)
    simulation.watch.configure({"a": DEFAULT, "b": settings(up_after=30), "c": UNPROBED}, 60.0)
    after = simulation.watch.snapshot(60)
    assert after["a"] == before["a"]
    assert after["b"]["rtt"] == before["b"]["rtt"]
    assert after["c"]["state"] == "unknown"
    simulation.watch.configure({"a": DEFAULT}, 60.0)
    assert list(simulation.watch.snapshot(60)) == ["a"]


def test_what_an_earlier_process_said_waits_for_a_document_that_can_be_read() -> None:
    watch = Watch({}, {"a": "down"}, 0.0)
    watch.configure({}, 1.0)
    watch.configure({"a": DEFAULT, "b": DEFAULT}, 2.0)
    assert {name: entry["state"] for name, entry in watch.snapshot(3.0).items()} == {"a": "down", "b": "unknown"}


def test_thousands_of_outages_that_all_count_are_no_more_than_the_longest_wait() -> None:
    probe = settings(damping={"half_life": "24h", "longest": "15min"})
    penalty = Penalty()
    assert [penalty.outage(probe, moment / 10) for moment in range(2000)][-1] == 900.0
