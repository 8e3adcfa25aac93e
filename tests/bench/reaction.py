# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""From the kernel's message that a link cannot be used to its message that the multipath route avoids the link.

Both are heard by one listener beside the prober, on the same kind of socket, by one clock.
"""

from __future__ import annotations

import queue
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..lab.engine import LIBRARY
from ..lab.host import Host, LabError
from ..lab.impair import inject
from ..lab.prober import Prober
from ..lab.topology import many_links
from ..lab.traffic import Teller
from ..lab.watched import BRISK
from .failures import FAILURES, SILENT
from .figures import Load, Table, spread
from .sites import Changes, managed

LISTENER = Path(__file__).with_name("listener.py")
TRIALS = 50
KINDS = tuple(kind for kind in FAILURES if kind not in SILENT)
LINK, POLICY = "link1", "mwan_balanced"
FEW, MANY = 2, 60
WITHIN = 5.0
# After a link's return the router is quiet again.
QUIET = 0.3


Told = dict[str, Any]


class Listener(Teller):
    """What the kernel of a router tells of a device and a table."""

    def __init__(self, router: Host, device: str, table: int) -> None:
        super().__init__(router, str(LISTENER), str(LIBRARY), device, str(table))

    def forget(self) -> None:
        """What was told so far."""
        while not self.told.empty():
            self.told.get()


@dataclass
class Reactions:
    """Seconds of each trial: from the failure to the kernel's message, and from there to the replaced route."""

    message: list[float] = field(default_factory=list)
    route: list[float] = field(default_factory=list)


def measure(quick: bool) -> list[Table]:
    trials = 3 if quick else TRIALS
    with Load() as load:
        # three routers at a time, each of which is idle but for some ten milliseconds of a trial
        with ThreadPoolExecutor(len(KINDS)) as executor:
            few = list(executor.map(lambda kind: react(FEW, kind, trials), KINDS))
        many = react(MANY, KINDS[0], trials)
    rows = [row(kind, FEW, found) for kind, found in zip(KINDS, few, strict=True)]
    rows.append(row(KINDS[0], MANY, many))
    columns = ("failure", "links", "trials", "message heard", "route replaced")
    notes = [
        "Milliseconds: p50 / p95 / max. The message: from the middle of the call that injects the failure to the"
        " kernel's word of it, as a process of the router hears it. The route: from there to the kernel's word that"
        " the policy's multipath route has been replaced by one without the link.",
        f"All links in one policy, nftables; {load.told()}.",
    ]
    return [Table("From the kernel's message to the replaced route", columns, rows, notes)]


def row(kind: str, links: int, found: Reactions) -> list[str]:
    cells = [" / ".join(spread(values, 1000, 1)) for values in (found.message, found.route)]
    return [kind, str(links), str(len(found.message)), *cells]


def react(number: int, kind: str, trials: int) -> Reactions:
    found = Reactions()
    with many_links(number) as net, managed(net, mwan_probe=BRISK), Prober(net.router) as prober:
        device, table = net.uplinks[LINK].device, table_of(net.router, POLICY)
        with closing(Changes(prober)) as changes, Listener(net.router, device, table) as listener:
            prober.wait_for(LINK, "up")
            for _unused in range(trials):
                prober.wait_settled()
                time.sleep(QUIET)
                listener.forget()
                with inject(FAILURES[kind], net, LINK) as failure:
                    heard, replaced = until_avoided(listener, device, table)
                    prober.wait_settled()
                found.message.append(max(0.0, heard - failure.moment.time))
                found.route.append(replaced - heard)
                assert failure.over is not None
                if changes.wait(LINK, "up", failure.over.began, WITHIN) is None:
                    raise LabError(f"{LINK} did not come back\n{prober.log()}")
    return found


def table_of(router: Host, name: str) -> int:
    """From the names that ip(8) uses."""
    lines = router.run(["cat", "/etc/iproute2/rt_tables.d/mwan.conf"]).stdout.splitlines()
    return next(int(line.split()[0]) for line in lines if line.split()[1:] == [name])


def until_avoided(listener: Listener, device: str, table: int) -> tuple[float, float]:
    """When the kernel told of the failure, and when of the first route there without the device."""
    heard = None
    deadline = time.monotonic() + WITHIN
    while True:
        try:
            told = listener.told.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise LabError(f"{device}: failure heard at {heard}, and no route in table {table} without it") from None
        if heard is None and told["what"] in ("LinkEvent", "AddressEvent"):
            heard = float(told["when"])
        elif heard is not None and avoids(told, device, table):
            return heard, float(told["when"])


def avoids(told: Told, device: str, table: int) -> bool:
    if told["what"] != "OwnRouteEvent" or not told["present"] or told["route"]["table"] != table:
        return False
    hops: list[dict[str, Any]] = told["route"]["nexthops"]
    return bool(hops) and all(hop["device"] != device for hop in hops)
