# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Drills: when one is refused, the black hole and the switch behind it, and what is reported."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from _mwan.console import control
from _mwan.document import Document
from _mwan.drill import course, verdict
from _mwan.drill.hole import Hole, disarm
from _mwan.drill.verdict import Look, Order
from _mwan.errors import InputError, KernelError
from _mwan.kernel import IpRule
from unit.model_kernel import ModelRouter
from unit.worlds import TWO_LINKS, apply, facts

NOW = 1_800_000_000.0
ORDER = Order("isp_b", 20.0, 60.0)
DOCUMENT = Document.parse(TWO_LINKS)
LINK: Mapping[str, Any] = {"state": "up", "connections": 5}
PROBER: Mapping[str, Any] = {"running": True, "silent": None, "stuck": None, "problem": ""}


def look(shares: Mapping[str, float] | None = None, drift: tuple[str, ...] = (), **states: str) -> Look:
    """Both links up and serving, but for what is given."""
    links = {name: {**LINK, "state": states.get(name, "up")} for name in ("isp_a", "isp_b")}
    spread = {"isp_a": 0.5, "isp_b": 0.5} if shares is None else shares
    return Look({"prober": PROBER, "links": links, "policies": {"balanced": {"shares": spread}}}, drift)


# when it is refused


def stopped(**prober: Any) -> Look:
    return Look({**look().status, "prober": {**PROBER, **prober}})


REFUSED = [
    (stopped(running=False), ORDER, (), "the prober is not running"),
    (stopped(running=False, silent="does not answer"), ORDER, (), "the prober does not answer"),
    (stopped(stuck="nft failed"), ORDER, (), r"not as declared \(nft failed\)"),
    (look(drift=("ip rule add priority 1999",)), ORDER, (), "1 difference, such as: ip rule add priority 1999"),
    (look(isp_b="drained"), ORDER, (), "is drained. Only of a link that is up"),
    (look(isp_a="down"), ORDER, (), "is the only one that is up"),
    (look(isp_a="unknown"), ORDER, (), "is the only one that is up"),
    (look(), ORDER, ("voice", "mail"), "the last that takes new connections of voice and mail"),
    (look(), replace(ORDER, seconds=2.5), (), "too short or too long. Give 3 to 600"),
    (look(), replace(ORDER, seconds=601.0), (), "too short or too long"),
]


@pytest.mark.parametrize(("seen", "order", "stranded", "message"), REFUSED)
def test_a_drill_that_would_harm_or_show_nothing_is_refused(
    seen: Look, order: Order, stranded: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        verdict.refuse(order, DOCUMENT, seen, stranded)


def test_one_that_is_safe_is_not_refused() -> None:
    verdict.refuse(ORDER, DOCUMENT, look(isp_b="degraded"), ())
    verdict.refuse(replace(ORDER, force=True), DOCUMENT, look(), ["voice"])


# what is reported


def event(after: str, seconds: float, link: str = "isp_b") -> dict[str, Any]:
    time = datetime.fromtimestamp(NOW + seconds, UTC).isoformat()
    return {"time": time, "event": "state", "link": link, "after": after, "reason": f"why {after}"}


USUAL = (event("suspect", 1.0), event("down", 2.0), event("down", 3.0, "isp_a"), event("up", 41.5))
DURING = look({"isp_a": 1.0}, isp_b="down")


def report(
    events: Sequence[dict[str, Any]] = USUAL,
    during: Look = DURING,
    after: Look | None = None,
) -> dict[str, Any]:
    return verdict.report(ORDER, (look(), during, after or look()), events, (NOW, NOW + 20))


def test_a_drill_as_it_should_be() -> None:
    found = report()
    assert {key: found[key] for key in ("suspect", "down", "up", "reason", "seconds", "problems")} == {
        "suspect": 1.0, "down": 2.0, "up": 21.5, "reason": "why down", "seconds": 20.0, "problems": []
    }  # fmt: skip
    assert json.loads(json.dumps(found)) == found
    assert found["summary"] == [
        "isp_b was cut off for 20 s",
        "  suspect after  1 s",
        "  down after     2 s",
        "  up again       21 s after the end",
        "  balanced: isp_a 50 %, isp_b 50 %; meanwhile isp_a 100 %; then isp_a 50 %, isp_b 50 %",
        "  connections: isp_a 5, isp_b 5; meanwhile isp_a 5, isp_b 5; then isp_a 5, isp_b 5",
        "  all is as before",
    ]


def test_shares_may_follow_connections_but_links_must_be_the_same() -> None:
    assert report(after=look({"isp_a": 0.3, "isp_b": 0.7}))["problems"] == []
    assert report(after=look({"isp_a": 1.0}))["problems"] == ["not the same links take new connections as before"]


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (report(()), "isp_b was not found down: it was not even suspect"),
        (report(USUAL[:1]), "isp_b was not found down: it did not get further than suspect"),
        (report(during=look()), "new connections of balanced still went to isp_b at the end of the black hole"),
        (report(during=look({})), "no link took new connections of balanced meanwhile"),
        (report(during=Look(DURING.status, ("add", "del"))), "the router did not follow: 2 differences, such as: add"),
        (report(after=DURING), "isp_b is down still, 1 min after the end of the black hole"),
        (report(after=Look({**look().status, "links": {}})), "isp_b is not declared any more"),
        (report(after=stopped(running=False)), "the prober is not running any more"),
        (report(after=look(drift=("add",))), "the router is not as declared: 1 difference, such as: add"),
    ],
)
def test_what_is_not_as_it_should_be_is_told(found: dict[str, Any], problem: str) -> None:
    assert found["problems"] == [problem]
    assert f"  PROBLEM: {problem}" in found["summary"]
    assert "  all is as before" not in found["summary"]


# the black hole

SPARED = ("203.0.113.7", "198.51.100.0/24")
PLAIN = Hole("nft", "wan2", spared=SPARED)
SHARED = Hole("nft", "wan0", "192.168.100.2", "02:00:00:00:00:02", 2, SPARED)
HOLES = [PLAIN, SHARED, *(replace(hole, tool="iptables-legacy") for hole in (PLAIN, SHARED))]


def test_the_link_is_told_by_its_device_and_where_that_is_shared_by_its_gateway() -> None:
    assert 'arriving iifname "wan2" drop' in PLAIN.dig()
    assert 'leaving oifname "wan2" drop' in PLAIN.dig()
    assert 'arriving iifname "wan0" ether saddr 02:00:00:00:00:02 drop' in SHARED.dig()
    assert 'leaving oifname "wan0" rt ip nexthop 192.168.100.2 drop' in SHARED.dig()
    legacy = HOLES[3].dig()
    assert "-t raw -I PREROUTING -i wan0 -m mac --mac-source 02:00:00:00:00:02 -j mwan_drill" in legacy
    assert "-t mangle -A FORWARD -o wan0 -m realm --realm 0x2 -j mwan_drill" in legacy


@pytest.mark.parametrize("hole", HOLES)
def test_who_is_spared_comes_before_who_is_dropped(hole: Hole) -> None:
    script = hole.dig()
    for side in ("saddr", "daddr") if hole.tool == "nft" else ("-s 203.0.113.7", "-d 203.0.113.7"):
        assert script.index(side) < script.rindex("drop" if hole.tool == "nft" else "-j DROP")
    bare = replace(hole, spared=()).dig()
    assert "accept" not in bare
    assert "RETURN" not in bare


@pytest.mark.parametrize("hole", HOLES)
def test_the_switch_holds_all_it_takes_to_fill_the_hole(hole: Hole) -> None:
    """systemd expands dollar signs, and nothing of ours has to live."""
    armed, fill = hole.arm(35.0), hole.fill()
    assert "$" not in fill
    assert "%" not in fill
    assert "--on-active=35 " in armed
    assert "sleep 35; " in armed
    assert armed.count("mwan_drill'") + armed.count("mwan_drill ") >= 2
    assert "mwanctl" not in armed


def disarmed(process: str, path: str = "/usr/bin:/bin") -> bool:
    return subprocess.run(["/bin/sh", "-c", disarm(process)], env={"PATH": path}, check=False).returncode == 0


def test_a_process_that_lives_on_is_a_failure() -> None:
    kill = disarm(str(os.getpgrp())).replace("kill -- ", "false ")
    assert subprocess.run(["/bin/sh", "-c", kill], check=False).returncode != 0


def test_a_waiting_process_is_ended_and_one_that_is_gone_already_is_no_failure() -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as waiting:
        assert disarmed(str(waiting.pid))
        assert waiting.wait(10) < 0
    assert disarmed(str(waiting.pid))


@pytest.mark.parametrize(("stopped", "active", "expected"), [(0, 3, True), (5, 3, True), (1, 0, False)])
def test_a_timer_that_has_fired_is_unknown_to_systemd_and_no_failure(
    tmp_path: Path, stopped: int, active: int, expected: bool
) -> None:
    script = (
        f'case "$*" in "stop mwan_drill.timer") exit {stopped};; *" mwan_drill.timer") exit {active};; esac; exit 9'
    )
    (tmp_path / "systemctl").write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (tmp_path / "systemctl").chmod(0o755)
    assert disarmed("", str(tmp_path)) is expected


def test_who_is_spared_is_checked_and_joined() -> None:
    found = course.spared(["203.0.113.7", "198.51.100.1/24", "198.51.100.9", "2001:db8::1"])
    assert found == ("198.51.100.0/24", "203.0.113.7")
    with pytest.raises(InputError, match="--spare: 'somebody' is not an address"):
        course.spared(["somebody"])


# from the beginning to the end


class Shell:
    """Stands for the kernel: knows whether there is a hole and an armed switch; fails where it is told to."""

    def __init__(self, failing: str = "") -> None:
        self.failing, self.done = failing, list[str]()

    def __call__(self, command: list[str], _text: str) -> tuple[int, str, str]:
        script = command[-1]
        name = next(name for name, word in WORDS.items() if word in script)
        if name != "there":
            self.done.append(name)
        return (1, "", "no") if name in ("there", self.failing) else (0, "4711\n" if name == "arm" else "", "")


WORDS = {"arm": "setsid", "dig": "create table", "fill": "delete table", "there": "list table", "disarm": "kill --"}


@pytest.fixture
def router(monkeypatch: pytest.MonkeyPatch) -> ModelRouter:
    """With a prober that says all is well."""
    made = ModelRouter(facts())
    apply(made, TWO_LINKS)
    states = {name: {"state": "up"} for name in ("isp_a", "isp_b")}
    made.files.texts["/run/mwan/health.json"] = json.dumps({"links": states})
    answer = {"links": states, "held": False, "converge": {}, "settled": True}
    monkeypatch.setattr(control, "ask", lambda _request: answer)
    return made


def hold(router: ModelRouter, shell: Shell, during: Any = None, **order: Any) -> dict[str, Any]:
    def sleep(seconds: float) -> None:
        if during and seconds == ORDER.seconds:
            raise during

    drill = course.Drill(router.ports, shell, replace(ORDER, **order), sleep, lambda: NOW)
    return drill.hold()


ALL = ["arm", "dig", "fill", "disarm"]


def test_the_switch_is_armed_before_the_hole_is_dug_and_disarmed_when_it_is_filled(router: ModelRouter) -> None:
    shell = Shell()
    assert hold(router, shell)["problems"] == ["isp_b was not found down: it was not even suspect"]
    assert shell.done == ALL


@pytest.mark.parametrize("problem", [KeyboardInterrupt, SystemExit, KernelError("look", "at it", "gone")])
def test_the_hole_is_filled_whatever_happens_meanwhile(router: ModelRouter, problem: Any) -> None:
    shell = Shell()
    with pytest.raises(problem if isinstance(problem, type) else KernelError):
        hold(router, shell, problem)
    assert shell.done == ALL


@pytest.mark.parametrize(("failing", "done"), [("arm", ["arm"]), ("dig", ["arm", "dig", "disarm"]), ("fill", ALL[:3])])
def test_the_switch_stays_armed_where_the_hole_stays(router: ModelRouter, failing: str, done: list[str]) -> None:
    shell = Shell(failing)
    with pytest.raises(KernelError, match=f"{failing} the black hole of the drill: no"):
        hold(router, shell)
    assert shell.done == done


def test_nothing_is_done_where_it_is_refused(router: ModelRouter) -> None:
    shell = Shell()
    with pytest.raises(InputError, match="The links are isp_a, isp_b"):
        hold(router, shell, link="isp_x")
    with pytest.raises(InputError, match="too short"):
        hold(router, shell, seconds=1.0)
    assert shell.done == []


def test_what_the_prober_is_about_to_do_is_no_difference(router: ModelRouter) -> None:
    """It takes its time to follow what it has found; what stays is refused."""
    original = router.routing.rules
    missing = 2

    def rules() -> frozenset[IpRule]:
        nonlocal missing
        missing -= 1
        return original() if missing < 0 else frozenset()

    router.routing.rules = rules  # type: ignore[method-assign]
    shell = Shell()
    hold(router, shell)
    assert shell.done == ALL
    missing = 1000
    with pytest.raises(InputError, match="not as declared"):
        hold(router, shell)


def test_a_link_that_is_removed_meanwhile_is_waited_for_as_any_other(
    router: ModelRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"links": {"isp_a": {"state": "up"}}, "held": False, "converge": {}, "settled": True}
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        monkeypatch.setattr(control, "ask", lambda _request: answer)

    shell = Shell()
    course.Drill(router.ports, shell, ORDER, sleep, lambda: NOW + sum(slept)).hold()
    assert sum(slept) >= ORDER.seconds + ORDER.wait
    assert shell.done == ALL
