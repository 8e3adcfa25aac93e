# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""All that the process has of the world, so that a test can give it another one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import random

from ..ports import FilePort, RoutingPort
from .configuration import Configuration
from .control import CONTROL
from .eventlog import EventLog
from .ground import OpenMonitor
from .hooks import Hooks
from .journal import Journal
from .notify import Manager
from .passes import Perform
from .probing import MakeProbe
from .reweighting import Count


@dataclass(frozen=True)
class Equipment:
    """`eyes` read the kernel's facts and are nobody else's; `perform` makes the passes over the router elsewhere.

    `steer` leads new connections, and stores the health, beside a pass that runs. For least_connections, `balancer` is
    the command that starts the helper, and `count` counts connections elsewhere.
    """

    files: FilePort
    eyes: RoutingPort
    open_monitor: OpenMonitor
    make_probe: MakeProbe
    perform: Perform
    steer: Perform
    configuration: Configuration
    journal: Journal
    manager: Manager
    events: EventLog
    hooks: Callable[[Callable[[str], None]], Hooks]
    version: str
    balancer: Sequence[str] = ()
    count: Count | None = None
    control: str = CONTROL
    wall: Callable[[], float] = time.time
    random: Callable[[], float] = random
