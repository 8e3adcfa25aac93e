# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The helper is kept running while there is something to answer for; these stand in for it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable

import pytest
from _mwan.layout import BALANCE
from _mwan.service import balancing
from _mwan.service.balancing import Balancing
from _mwan.service.journal import Journal
from unit.model_kernel import Faults, Files

LISTED = json.dumps({"schema": 1, "mask": "0x3f00", "queues": [{"queue": 7710, "policy": "balanced", "links": []}]})
ANSWERS = """
import json, socket
heard = []
with socket.socket(fileno=0) as channel:
    while said := channel.recv(100):
        if said == b"?":
            channel.send(json.dumps({"policies": {}, "heard": heard}).encode())
        else:
            heard.append(json.loads(said))
"""
IS_SILENT = "import time; time.sleep(60)"
STAYS = "import os; os.close(0); import time; time.sleep(60)"
DIES = "raise SystemExit(3)"


class Stage:
    """A helper that is this program, and a router whose files are these."""

    def __init__(self, program: str) -> None:
        self.files = Files(Faults())
        self.said: list[str] = []
        journal = Journal(stream=False, write=self.said.append)
        command = [sys.executable, "-I", "-S", "-c", program] if program else []
        self.balancing = Balancing(command, self.files, journal, asyncio.get_running_loop())
        self.list(LISTED)

    def list(self, text: str | None) -> None:
        self.files.texts.pop(BALANCE, None)
        if text is not None:
            self.files.texts[BALANCE] = text
        self.balancing.look()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)

    def running(self) -> bool:
        return bool((self.balancing.status() or {}).get("running"))


def on_stage(program: str, play: Callable[[Stage], Awaitable[None]]) -> list[str]:
    """What was logged."""

    async def whole() -> list[str]:
        stage = Stage(program)
        try:
            await play(stage)
        finally:
            await stage.balancing.close()
        return stage.said

    return asyncio.run(whole())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balancing, "ASK", 0.02)
    monkeypatch.setattr(balancing, "PATIENCE", 10.0)
    monkeypatch.setattr(balancing, "FAREWELL", 0.3)
    monkeypatch.setattr(balancing, "PAUSE", 0.01)


def gone(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}")


def test_it_runs_while_a_queue_is_listed() -> None:
    async def play(stage: Stage) -> None:
        await stage.until(stage.running)
        status = stage.balancing.status()
        assert status
        assert (status["restarts"], status["policies"]) == (0, {})
        stage.list("{")
        stage.list(LISTED)
        assert (stage.balancing.status() or {})["pid"] == status["pid"], "what cannot be read changes nothing"
        stage.list(None)
        assert stage.balancing.status() is None
        await stage.until(lambda: gone(status["pid"]))

    assert on_stage(ANSWERS, play) == []


def test_it_is_told_which_links_to_shun_and_so_is_the_next_one() -> None:
    async def play(stage: Stage) -> None:
        def heard() -> object:
            return (stage.balancing.status() or {}).get("heard")

        await stage.until(lambda: heard() == [[]])
        stage.balancing.shun(["isp_b", "isp_a"])
        stage.balancing.shun({"isp_a", "isp_b"})
        await stage.until(lambda: heard() == [[], ["isp_a", "isp_b"]])
        os.kill((stage.balancing.status() or {})["pid"], 9)
        await stage.until(lambda: heard() == [["isp_a", "isp_b"]])

    on_stage(ANSWERS, play)


def test_without_a_queue_or_a_command_nothing_is_started() -> None:
    async def play(stage: Stage) -> None:
        await asyncio.sleep(0.05)
        assert stage.balancing.status() is None

    assert on_stage("", play) == []


def test_it_ends_with_the_prober() -> None:
    pids = []

    async def play(stage: Stage) -> None:
        await stage.until(stage.running)
        pids.append((stage.balancing.status() or {})["pid"])

    assert on_stage(ANSWERS, play) == []
    assert gone(pids[0])


def test_one_that_does_not_hang_up_is_killed() -> None:
    pids = []

    async def play(stage: Stage) -> None:
        await asyncio.sleep(0.1)
        pids.append((stage.balancing.status() or {})["pid"])

    assert on_stage(STAYS, play) == []
    assert gone(pids[0])


def test_one_that_was_killed_is_back() -> None:
    async def play(stage: Stage) -> None:
        await stage.until(stage.running)
        first = (stage.balancing.status() or {})["pid"]
        os.kill(first, 9)
        await stage.until(lambda: stage.running() and (stage.balancing.status() or {})["pid"] != first)
        assert (stage.balancing.status() or {})["restarts"] == 1

    (said,) = on_stage(ANSWERS, play)
    assert said.startswith("mwan-balance was ended by signal 9; ")


def test_one_that_does_not_answer_is_killed_and_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balancing, "PATIENCE", 0.3)

    async def play(stage: Stage) -> None:
        await stage.until(lambda: len(stage.said) == 2)
        assert not stage.running()

    for said in on_stage(IS_SILENT, play):
        assert said.startswith("mwan-balance did not answer for 0 s and was killed; ")


def test_the_pauses_grow_and_it_is_told_why() -> None:
    async def play(stage: Stage) -> None:
        await stage.until(lambda: len(stage.said) == 4)

    said = on_stage(DIES, play)
    assert [line.split("mwan-balance ")[1].split(";")[0] for line in said] == ["ended with status 3"] * 4
    assert [line.split()[-2] for line in said] == ["0.01", "0.02", "0.04", "0.08"]


def test_a_program_that_is_not_there_is_tried_again() -> None:
    async def play(stage: Stage) -> None:
        stage.balancing._command = ["/nowhere/mwan-balance"]
        stage.list(None)
        stage.list(LISTED)
        await stage.until(lambda: len(stage.said) == 2)

    for said in on_stage("", play):
        assert said.startswith("mwan-balance could not be started: No such file or directory; ")
