# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What the process tells others: the journal, the service manager, the file of events, hooks; and what it hears."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from _mwan.errors import KernelError
from _mwan.service.eventlog import EventLog
from _mwan.service.hooks import programs, run
from _mwan.service.journal import Journal, encoded
from _mwan.service.main import Mistakes
from _mwan.service.notify import Manager
from _mwan.service.ruleset import of_ours


def listener(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(path))
    sock.settimeout(2)
    return sock


# the journal


def test_lines_get_fields_where_the_journal_listens(tmp_path: Path) -> None:
    said: list[str] = []
    journal = Journal(str(tmp_path / "journal"), stream=True, write=said.append)
    journal.log(4, "isp_a: down", {"link": "isp_a", "reason": None})
    assert said == ["<4>isp_a: down\n"], "nobody listens yet"
    with listener(tmp_path / "journal") as sock:
        journal.log(4, "isp_a: down", {"link": "isp_a", "reason": None, "after": "two\nlines"})
        received = sock.recv(65536)
    assert received.startswith(
        b"MESSAGE=isp_a: down\nPRIORITY=4\nSYSLOG_IDENTIFIER=mwand\nMWAN_LINK=isp_a\nMWAN_AFTER\n"
    )
    assert b"MWAN_REASON" not in received
    assert said == ["<4>isp_a: down\n"]
    Journal(stream=False, write=said.append).error("plainly")
    assert said[1:] == ["plainly\n"]


def test_a_full_journal_holds_nothing_up_and_what_it_lost_is_counted(tmp_path: Path) -> None:
    said: list[str] = []
    with listener(tmp_path / "journal") as sock:
        journal = Journal(str(tmp_path / "journal"), stream=True, write=said.append)
        for number in range(1000):
            journal.info(f"line {number}")
        room = number_waiting(sock)
        journal.info("there is room again")
        lost = 1000 - room
        assert lost > 0
        assert f"({lost} lines before this one were lost)".encode() in sock.recv(65536)
    assert said == []


def number_waiting(sock: socket.socket) -> int:
    """Read all there is."""
    sock.setblocking(False)
    for number in range(1000):
        try:
            sock.recv(65536)
        except BlockingIOError:
            return number
    return 1000


def test_a_field_of_several_lines_has_its_length_before_it() -> None:
    assert encoded("MESSAGE", "one\ntwo") == b"MESSAGE\n" + struct.pack("<Q", 7) + b"one\ntwo\n"


def test_a_mistake_is_told_once_with_its_place() -> None:
    said: list[str] = []

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(Mistakes(Journal(stream=False, write=said.append)))
        for _time in range(3):
            loop.call_soon(int, "five")
        await asyncio.sleep(0)

    asyncio.run(serve())
    assert len(said) == 1
    assert "invalid literal for int()" in said[0]
    assert "Traceback" in said[0]


# the service manager


@pytest.mark.parametrize("abstract", [False, True])
def test_the_manager_is_told(tmp_path: Path, abstract: bool) -> None:
    name = f"@mwan-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0"))
        sock.settimeout(2)
        Manager({"NOTIFY_SOCKET": name}).say(READY=1, STATUS="all well")
        assert sock.recv(1000) == b"READY=1\nSTATUS=all well"


def test_without_a_manager_nothing_is_said(tmp_path: Path) -> None:
    Manager({}).say(READY=1)
    Manager({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).say(READY=1)


def test_what_the_manager_waits_for_is_said_until_it_is_taken(tmp_path: Path) -> None:
    with listener(tmp_path / "notify") as sock:
        manager, noise = (Manager({"NOTIFY_SOCKET": str(tmp_path / "notify")}) for _one in range(2))
        for _time in range(1000):
            noise.say(STATUS="noise")
        manager.say(READY=1)
        manager.say(STATUS="not worth repeating")
        number_waiting(sock)
        manager.again()
        manager.again()
        assert sock.recv(1000) == b"READY=1"
        assert number_waiting(sock) == 0


def test_the_watchdog_gets_a_sign_of_life_twice_in_its_time() -> None:
    assert Manager({"WATCHDOG_USEC": "30000000"}).watchdog == 15.0
    assert Manager({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}).watchdog == 15.0
    assert Manager({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}).watchdog is None
    assert Manager({}).watchdog is None


# events


def test_events_are_kept_in_two_bounded_files(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(str(path), most=10000)
    for number in range(5000):
        log.add({"number": number})
    assert path.stat().st_size < 10100
    assert (tmp_path / "events.jsonl.1").stat().st_size < 10100
    assert [event["number"] for event in log.recent] == list(range(4000, 5000))
    with path.open("a", encoding="utf-8") as out:
        out.write('{"number": 5000, "cut sh')
    heir = EventLog(str(path), most=10000)
    heir.load()
    assert heir.recent[-1] == {"number": 4999}
    assert len(heir.recent) > 500


def test_an_event_that_cannot_be_written_is_at_hand_all_the_same(tmp_path: Path) -> None:
    log = EventLog(str(tmp_path / "missing" / "events.jsonl"))
    with pytest.raises(KernelError, match="No such file"):
        log.add({"event": "state"})
    assert list(log.recent) == [{"event": "state"}]


# hooks


def hook(directory: Path, name: str, text: str, mode: int = 0o755) -> str:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(mode)
    return str(path)


def ended(path: str, event: dict[str, Any], limit: float = 10.0) -> str:
    return asyncio.run(run(path, event, limit))


def test_hooks_are_the_executable_files_in_order(tmp_path: Path) -> None:
    wanted = [hook(tmp_path, name, "exit 0") for name in ("10-first", "20-second")]
    hook(tmp_path, "15-off", "exit 0", 0o644)
    hook(tmp_path, "30-old~", "exit 0")
    hook(tmp_path, ".hidden", "exit 0")
    (tmp_path / "40-directory").mkdir()
    assert programs(str(tmp_path)) == wanted
    assert programs(str(tmp_path / "missing")) == []


def test_a_hook_gets_the_event_twice(tmp_path: Path) -> None:
    event = {"event": "state", "link": "isp_a", "before": "up", "after": "down", "reason": None}
    path = hook(tmp_path, "tell", f"cat > {tmp_path}/stdin; env | grep ^MWAN_ | sort > {tmp_path}/environment")
    assert ended(path, event) == ""
    assert json.loads((tmp_path / "stdin").read_text(encoding="utf-8")) == event
    assert (tmp_path / "environment").read_text(encoding="utf-8").splitlines() == [
        "MWAN_AFTER=down", "MWAN_BEFORE=up", "MWAN_EVENT=state", "MWAN_LINK=isp_a", "MWAN_REASON="
    ]  # fmt: skip


def test_what_is_wrong_with_a_hook_is_said(tmp_path: Path) -> None:
    assert ended(hook(tmp_path, "fails", "exit 3"), {}).endswith("ended with status 3")
    assert ended(hook(tmp_path, "dies", "kill -9 $$"), {}).endswith("ended by signal 9")
    assert "No such file" in ended(str(tmp_path / "missing"), {})


def test_a_slow_hook_is_killed_with_its_children(tmp_path: Path) -> None:
    path = hook(tmp_path, "slow", f"sleep 60 & echo $! > {tmp_path}/child; wait")
    began = time.monotonic()
    assert ended(path, {}, limit=1.0).endswith("killed after 1 s")
    assert time.monotonic() - began < 5
    child = (tmp_path / "child").read_text(encoding="utf-8").strip()
    deadline = time.monotonic() + 5
    while _alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _alive(pid: str) -> bool:
    """Whether it runs, and is no zombie that waits for somebody to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# our ruleset


def message(kind: int, *attributes: tuple[int, bytes], subsystem: int = 10) -> bytes:
    """An nfnetlink message as the kernel makes one (linux/netfilter/nfnetlink.h)."""
    payload = struct.pack("!BBH", 1, 0, 0)
    for number, value in attributes:
        padding = b"\0" * (-len(value) % 4)
        payload += struct.pack("=HH", len(value) + 4, number) + value + padding
    return struct.pack("=IHHII", 16 + len(payload), subsystem << 8 | kind, 0, 1, 0) + payload


def test_messages_about_our_table_are_told_from_others() -> None:
    rule = message(7, (1, b"mwan\0"), (2, b"output\0"))
    foreign = message(7, (1, b"mwan2\0"), (2, b"mwan\0"))
    generation = message(15, (1, b"mwan\0"))
    conntrack = message(0, (1, b"mwan\0"), subsystem=1)
    elements = message(12, (1, b"mwan\0")) + message(14, (1, b"mwan\0"))  # clients that come, those of others that go
    table_last = message(0, (6, b"\0" * 5), (1, b"mwan\0"))
    assert list(of_ours(foreign + rule + generation + elements + conntrack + table_last + message(1))) == [
        False, True, True, False
    ]  # fmt: skip
