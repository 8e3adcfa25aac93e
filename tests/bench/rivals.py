# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Other ways to watch a link, beside ours on the same router: loops of ping and of fping, and dpinger's rule."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from ..lab.host import Host, close_quietly
from ..lab.topology import TARGETS, Topology
from .rules import MWAN3_BRISK, dpinger_alarm

DOWN = "down"
ANSWERED = "bytes from"
FPING_ROUNDS = 4


@dataclass(frozen=True)
class Way:
    """What a ping must be bound to so that it leaves by a link."""

    device: str
    address: str
    mark: int

    @classmethod
    def of(cls, topology: Topology, link: str, links: Mapping[str, Mapping[str, Any]]) -> Way:
        """`links` are what an Engine's outcome tells of them."""
        uplink = topology.uplinks[link]
        return cls(uplink.device, uplink.address, int(links[link]["mark"], 16))


# In the manner of mwan3track: a ping to one target after the other until one answers, then a pause.
PING_LOOP = """
failed=0
while :; do
    answered=
    for target in {targets}; do
        if ping -n -q -c 1 -W {timeout:g} -I {way.device} -m {way.mark} "$target" >/dev/null 2>&1; then
            answered=1
            break
        fi
    done
    if [ "$answered" ]; then failed=0; else failed=$((failed + 1)); fi
    if [ "$failed" -eq {rounds} ]; then echo down; fi
    sleep {interval:g}
done
"""
# All targets at once, twice a second where they answer.
FPING_LOOP = """
failed=0
while :; do
    if [ -n "$(fping -a -q -r 0 -t 500 -I {way.device} -S {way.address} {targets} 2>/dev/null)" ]; then
        failed=0
    else
        failed=$((failed + 1))
    fi
    if [ "$failed" -eq {rounds} ]; then echo down; fi
    sleep 0.5
done
"""


def ping_loop(way: Way) -> str:
    settings = MWAN3_BRISK
    return PING_LOOP.format(
        way=way, targets=" ".join(TARGETS), timeout=settings.timeout, interval=settings.interval, rounds=settings.down
    )


def fping_loop(way: Way) -> str:
    return FPING_LOOP.format(way=way, targets=" ".join(TARGETS), rounds=FPING_ROUNDS)


def ping_stream(way: Way) -> str:
    """What dpinger would send: one target, twice a second."""
    return f"exec ping -n -i 0.5 -I {way.device} -m {way.mark} {TARGETS[0]}"


class Lines:
    """A shell script on a host, and what it printed: the monotonic time at which each line was read, and the line."""

    def __init__(self, host: Host, script: str) -> None:
        self.heard: list[tuple[float, str]] = []
        self._process: subprocess.Popen[str] = host.popen(script)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.heard.append((time.monotonic(), line))

    def first(self, words: str, since: float) -> float | None:
        return next((when for when, line in self.heard if words in line and when >= since), None)

    def last(self, words: str) -> float | None:
        return next((when for when, line in reversed(self.heard) if words in line), None)

    def end(self) -> None:
        """With all that it started, which is a session of its own."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._listener.join()
        close_quietly(self._process.stdout)


class Rivals:
    """All of them on one link, from now on, in a state in which the link is up."""

    NAMES = ("ping loop", "fping loop", "dpinger's rule")

    def __init__(self, router: Host, way: Way, random: Random) -> None:
        self._loop = Lines(router, ping_loop(way))
        self._fping = Lines(router, fping_loop(way))
        self._stream = Lines(router, ping_stream(way))
        self._phase = random.random()

    def __enter__(self) -> Rivals:
        return self

    def __exit__(self, *_: object) -> None:
        for lines in (self._loop, self._fping, self._stream):
            lines.end()

    def alarms(self, since: float) -> dict[str, float | None]:
        """When each found the link down; dpinger's time may be yet to come."""
        answered = self._stream.last(ANSWERED)
        return {
            "ping loop": self._loop.first(DOWN, since),
            "fping loop": self._fping.first(DOWN, since),
            "dpinger's rule": dpinger_alarm(answered, self._phase) if answered else None,
        }

    def wait(self, since: float, until: float) -> dict[str, float | None]:
        """The alarms once both loops have given theirs, or at a time."""
        while None in (found := self.alarms(since)).values() and time.monotonic() < until:
            time.sleep(0.1)
        return found
