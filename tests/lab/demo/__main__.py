# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""A small Internet, the playbook run on the router in it, and what a network engineer wants to see of it.

Settings come from the environment:

  DEMO              two-links (default): two providers, a cable each
                    shared-segment: two provider routers on one device
  BACKEND           nftables (default) or iptables
  DEMO_CONNECTIONS  connections counted at a time, 100 to 10000 (default 1000)
  NO_COLOR          no colours

Needs root. Exit status: 0 everything as expected, 1 something was not, 2 it could not run
or broke off, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType

from .. import hostguard
from ..host import LabError
from .acts import Acts
from .scenes import SCENES, UP_AFTER, Scene
from .show import Screen

BACKENDS = ("nftables", "iptables")
FEWEST, MOST = 100, 10_000
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class RefusedError(Exception):
    """The settings make no sense, or this user cannot run it."""


@dataclass(frozen=True)
class Settings:
    scene: Scene
    backend: str
    connections: int


def settings(environment: Mapping[str, str]) -> Settings:
    return Settings(
        scene=SCENES[_choice(environment, "DEMO", tuple(SCENES))],
        backend=_choice(environment, "BACKEND", BACKENDS),
        connections=_connections(environment.get("DEMO_CONNECTIONS") or "1000"),
    )


def _choice(environment: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    value = environment.get(name) or choices[0]
    if value not in choices:
        raise RefusedError(f"{name} is {' or '.join(choices)}, not {value!r}")
    return value


def _connections(value: str) -> int:
    if not value.isascii() or not value.isdigit() or not FEWEST <= int(value) <= MOST:
        raise RefusedError(f"DEMO_CONNECTIONS is a number from {FEWEST} to {MOST}, not {value!r}")
    return int(value)


def interrupted(_number: int, _frame: FrameType | None) -> None:
    """The first signal ends the demo; more of them must not end the removal of what it made."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def play(wanted: Settings, screen: Screen) -> bool:
    """All acts; whether everything was as expected. Nothing is left of the lab, whatever happens."""
    started = time.monotonic()
    scene = wanted.scene
    screen.line(f"multiwan.linux: {scene.title}, {wanted.backend}", "bold")
    screen.text(
        "A client, a router, two providers and an Internet server, each a network namespace of its own. "
        "Nothing of this machine's network is changed; Ctrl-C removes everything."
    )
    machine = hostguard.machine_state()
    weights = (3, 1)
    with scene.build(clients=9, weights=weights) as topology:
        topology.variables["mwan_firewall_backend"] = wanted.backend
        topology.variables["mwan_probe"] = {"up_after": UP_AFTER}
        topology.variables["mwan_python"] = sys.executable
        acts = Acts(topology, scene, screen, wanted.connections)
        acts.play()
    left = topology.lab.leftovers()
    changed = hostguard.differences(machine, hostguard.machine_state())
    acts.removal(left, changed)
    acts.summary(time.monotonic() - started)
    return acts.passed


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    for number in STOPPING:
        signal.signal(number, interrupted)
    screen = Screen()
    try:
        wanted = settings(os.environ)
        if os.geteuid() != 0:
            raise RefusedError("network namespaces take root; run it with sudo")
        return 0 if play(wanted, screen) else 1
    except RefusedError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except LabError as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ndemo: interrupted; everything it made is removed", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
