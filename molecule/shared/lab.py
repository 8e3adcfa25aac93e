# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What the tests of every scenario use to look at its containers; the only place that knows testinfra and podman."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any

import testinfra
from testinfra.host import Host

SHARED = Path(__file__).parent
TRAFFIC = SHARED / "files" / "traffic.py"
STEADY = "side-effect"  # the tag of its requests
ACCESS_LOG = "/var/log/nginx/access.log"
ACCESS_LINE = re.compile(
    r'^(?P<source>\S+) - - \[[^]]*\] "GET /(?P<tag>[^/ ]+)/\S* \S+" 200 connection=(?P<connection>\d+)$'
)


@dataclass(frozen=True)
class Access:
    """One request as the server logged it."""

    source: str
    connection: int


def container(name: str) -> Host:
    """The testinfra host of an inventory name of the scenario, such as `router`."""
    return testinfra.get_host(f"podman://{os.environ['MWAN_MOLECULE_PREFIX']}-{name}")


def process(name: str) -> int:
    """The first process of a container, as the machine counts it: the holder of its namespaces."""
    command = ["podman", "inspect", "--format", "{{ .State.Pid }}", f"{os.environ['MWAN_MOLECULE_PREFIX']}-{name}"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def run(name: str, command: str, *arguments: str) -> str:
    """Standard output of a shell command in a container; each `%s` of it takes one argument, quoted.

    Raises AssertionError with all that the command said when it fails.
    """
    result = container(name).run(command, *arguments)
    assert result.rc == 0, f"{name}: {result}"
    return str(result.stdout)


def run_json(name: str, command: str, *arguments: str) -> Any:
    return json.loads(run(name, command, *arguments))


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> float:
    """Seconds it took until the condition held; raises AssertionError when it does not in time."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() < begun + seconds, f"not in {seconds} s: {inspect.getsource(condition).strip()}"
        time.sleep(0.1)
    return time.monotonic() - begun


def states() -> dict[str, str]:
    """What the prober last said of each link of the router; fails while it has said nothing."""
    health = run_json("router", "cat /run/mwan/health.json")
    return {name: entry["state"] for name, entry in health["links"].items()}


@contextmanager
def dark(provider: str) -> Iterator[None]:
    """It forwards nothing and says nothing of it; cable and neighbour are as they were."""
    run(provider, "nft %s", "table inet dark { chain lost { type filter hook prerouting priority raw; drop; }; }")
    try:
        yield
    finally:
        run(provider, "nft delete table inet dark")


def play(playbook: str, *options: str) -> str:
    """What ansible-playbook says of a playbook, a file or one of the collection, on the hosts of the scenario.

    Raises AssertionError with all of that when the playbook fails.
    """
    command = ["ansible-playbook", playbook, *options]
    command += [f"--inventory={path}" for path in (SHARED / "inventory", Path.cwd() / "inventory")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def reboot(name: str) -> None:
    """Reboot one host as a machine is: nothing is kept but its disk; returns when it is up."""
    play(str(SHARED / "reboot.yml"), f"--extra-vars=lab_rebooted={name}")


def new_tag() -> str:
    """A word no other request in the access log has."""
    return uuid.uuid4().hex


def connections(name: str, host: str, tag: str, count: int) -> list[str]:
    """What `count` connections from a container to the web server `host` brought back, see files/traffic.py."""
    return _traffic(name, "connections", host, tag, count)


def requests(name: str, host: str, tag: str, count: int) -> list[str]:
    """The same for `count` requests over each of eight connections that live for `count` fifths of a second."""
    return _traffic(name, "requests", host, tag, count)


def steady(name: str) -> list[list[str]]:
    """What the steady traffic of a side effect brought back to a container (see tasks/traffic_begin.yml), by round.

    In each from eight connections that are kept open, and from a new one.
    """
    rounds: list[list[str]] = run_json(name, "cat /run/traffic.json")
    return rounds


def accesses(name: str, tag: str) -> list[Access]:
    """What the web server in a container logged of the requests made with `tag`."""
    return list(_parsed(run(name, "cat %s", ACCESS_LOG), tag))


def binomial_bounds(count: int, share: float, false_alarm: float = 1e-7) -> tuple[int, int]:
    """Lowest and highest number of hits in `count` independent draws that are not told apart from `share`.

    A fair sample is outside on either side with a probability under `false_alarm`.
    """
    masses = [comb(count, hits) * share**hits * (1 - share) ** (count - hits) for hits in range(count + 1)]
    return _tail(masses, false_alarm), count - _tail(masses[::-1], false_alarm)


def _traffic(name: str, kind: str, host: str, tag: str, count: int) -> list[str]:
    answers: list[str] = run_json(
        name, "timeout 120 python3 -c %s %s %s %s %s", TRAFFIC.read_text(), kind, host, tag, str(count)
    )
    return answers


def _parsed(log: str, tag: str) -> Iterator[Access]:
    for line in log.splitlines():
        match = ACCESS_LINE.match(line)
        if match and match["tag"] == tag:
            yield Access(match["source"], int(match["connection"]))


def _tail(masses: list[float], limit: float) -> int:
    """How many of the first outcomes together are less likely than `limit`."""
    total = 0.0
    for outcome, mass in enumerate(masses):
        total += mass
        if total >= limit:
            return outcome
    return len(masses)
