# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What the whole prober takes of a router while nothing happens, and loops of ping and fping beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..lab.prober import Prober
from ..lab.topology import TARGETS, many_links
from .figures import Load, Table
from .rivals import PING_LOOP, Way, fping_loop, ping_loop
from .rules import MWAN3_BRISK, Mwan3Settings
from .sites import managed

SECONDS = 30.0
# Until the start is over and the memory stays what it is.
WARM_UP = 5.0
SAMPLES: dict[str, tuple[int, ...]] = {"default": (2, 8, 60), "fast": (2, 60)}
RIVAL_LINKS = 2


def measure(quick: bool) -> list[Table]:
    seconds = 3.0 if quick else SECONDS
    rows = []
    with Load() as load:
        for profile, numbers in SAMPLES.items():
            rows += [prober(number, profile, seconds) for number in (numbers[:1] if quick else numbers)]
        rows += loops(seconds)
    columns = ("what", "links", "probes/s", "share of a core", "CPU ms per probe", "MiB", "descriptors")
    notes = [
        f"Three targets a link, all answering; {seconds:.0f} s each, after the start; {load.told()}.",
        "mwand: the whole process with its watching of the kernel and its decisions; resident memory.",
        "Loops: one shell a link and all the processes it starts. A target that answers ends a round of the loop in"
        " mwan3track's manner, so that it sends one ping in 5 s.",
    ]
    return [Table("What probing costs", columns, rows, notes)]


def prober(number: int, profile: str, seconds: float) -> list[str]:
    with many_links(number) as net, managed(net, mwan_probe={"profile": profile}), Prober(net.router) as process:
        for link in net.uplinks:
            process.wait_for(link, "up")
        time.sleep(WARM_UP)
        before, asked = process.cost(), sent(process)
        began = time.monotonic()
        time.sleep(seconds)
        after, passed = process.cost(), time.monotonic() - began
        probes = sent(process) - asked
    cells = figures(after["cpu"] - before["cpu"], probes, passed)
    return [f"mwand, {profile}", str(number), *cells, f"{after['memory'] / 1024:.1f}", f"{after['descriptors']:.0f}"]


def sent(process: Prober) -> int:
    probes = process.status()["counters"]["probes"]
    return sum(target["sent"] for link in probes.values() for target in link.values())


def figures(cpu: float, probes: float, seconds: float) -> list[str]:
    return [f"{probes / seconds:.1f}", f"{cpu / seconds:.2%}", f"{1000 * cpu / probes:.2f}" if probes else ""]


def loops(seconds: float) -> list[list[str]]:
    brisk = replace(MWAN3_BRISK, interval=0.5)
    all_targets = RIVAL_LINKS * len(TARGETS) / brisk.interval
    # name -> its script, and how many targets it asks in a second at most
    kinds: dict[str, tuple[Callable[[Way], str], float]] = {
        "loop of ping, as mwan3track": (ping_loop, RIVAL_LINKS / MWAN3_BRISK.interval),
        "loop of ping, three targets every 0.5 s": (lambda way: each_target(way, brisk), all_targets),
        "loop of fping, three targets every 0.5 s": (fping_loop, all_targets),
    }
    with many_links(RIVAL_LINKS) as net, managed(net) as links:
        ways = [Way.of(net, name, links) for name in net.uplinks]
        return [
            [name, str(RIVAL_LINKS), f"{rate:.1f}", loop(net.router.popen, ways, make, seconds), "", "", ""]
            for name, (make, rate) in kinds.items()
        ]


def each_target(way: Way, settings: Mwan3Settings) -> str:
    """A loop for each target, which is how a shell asks all of them at once."""
    single = [
        PING_LOOP.format(
            way=way, targets=target, timeout=settings.timeout, interval=settings.interval, rounds=settings.down
        )
        for target in TARGETS
    ]
    return "\n".join(f"(\n{script}\n) &" for script in single) + "\nwait\n"


def loop(
    start: Callable[[str], subprocess.Popen[str]], ways: list[Way], make: Callable[[Way], str], seconds: float
) -> str:
    """Share of a core: of the shells and of everything they have waited for."""
    shells = [start(make(way)) for way in ways]
    try:
        time.sleep(2)
        before = sum(session_cpu(shell.pid) for shell in shells)
        began = time.monotonic()
        time.sleep(seconds)
        used = sum(session_cpu(shell.pid) for shell in shells) - before
        return f"{used / (time.monotonic() - began):.2%}"
    finally:
        for shell in shells:
            os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()


def session_cpu(leader: int) -> float:
    """CPU seconds of a session's processes, with those of their children that have ended."""
    total = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(encoding="ascii").rpartition(")")[2].split()
            except OSError:  # ended meanwhile
                continue
            if int(fields[3]) == leader:
                total += sum(int(field) for field in fields[11:15])
    return total / os.sysconf("SC_CLK_TCK")
