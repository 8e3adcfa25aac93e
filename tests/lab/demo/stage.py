# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What every act uses: the playbook, commands on the router, connections and their shares, expectations."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from ..ansible import PlaybookResult, run_playbook
from ..topology import Topology
from ..traffic import Fetched, fetch_many
from .plan import sections, show_plan
from .scenes import Scene
from .shares import binomial_bounds
from .show import INDENT, Screen

CONCURRENCY = 100
TIMEOUT = 2.0
TOLD = ("ok", "changed", "failed")


@dataclass(frozen=True)
class Check:
    act: int
    passed: bool
    text: str


class Stage:
    """One performance on one built network."""

    def __init__(self, net: Topology, scene: Scene, screen: Screen, connections: int) -> None:
        self.net = net
        self.scene = scene
        self.screen = screen
        self.connections = connections
        self.checks: list[Check] = []

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def check(self, passed: bool, text: str) -> None:
        """Record and show one expectation."""
        self.checks.append(Check(self.screen.number, passed, text))
        self.screen.verdict(passed, text)

    def summary(self, seconds: float) -> None:
        self.screen.line()
        self.screen.line("Summary", "bold", "cyan")
        self.screen.line("-" * self.screen.width, "dim")
        for act, title in self.screen.titles.items():
            mine = [check for check in self.checks if check.act == act]
            if mine:
                self.screen.verdict(all(check.passed for check in mine), title, act)
            self.screen.verbatim([f"         {check.text}" for check in mine if not check.passed], "red")
        failed, number = sum(not check.passed for check in self.checks), len(self.checks)
        self.screen.line()
        if failed:
            self.screen.line(f"{failed} of {number} expectations were not met. {seconds:.0f} s", "bold", "red")
        else:
            self.screen.line(f"All {number} expectations were met. {seconds:.0f} s", "bold", "green")

    # The playbook and the router

    def playbook(self, *, check: bool = False, diff: bool = False) -> PlaybookResult:
        """Run site.yml and show the command, the recap and the seconds; a failed run is a LabError."""
        options = " --check" * check + " --diff" * diff
        self.screen.command(f"ansible-playbook -i inventory.json playbooks/site.yml{options}")
        started = time.monotonic()
        result = run_playbook(self.net, check=check, diff=diff)
        seconds = time.monotonic() - started
        counts = "  ".join(f"{name}={number}" for name, number in result.recap.items() if number or name in TOLD)
        self.screen.line(f"  {self.net.router.name}: {counts}   ({seconds:.1f} s)")
        self.screen.line()
        return result

    def check_unchanged(self, which: str) -> None:
        result = self.playbook(diff=True)
        for task in result.tasks:
            if task.changed:
                self.screen.text(f"changed: {task.name}", "yellow")
        if result.changed:
            show_plan(self.screen, sections(result.stdout))
        self.check(result.changed == 0, f"{which} changes nothing: changed={result.changed}")

    def on_router(self, command: str) -> None:
        """A command and what it prints."""
        self.screen.command(command)
        terminal = f'COLUMNS={self.screen.width - len(INDENT)} PATH="$PATH:/usr/local/sbin"'
        printed = self.net.router.run(f"export {terminal}; {command}").stdout
        self.screen.verbatim(printed.expandtabs().splitlines())
        self.screen.line()

    # Connections and their shares

    def fetch(self) -> Fetched:
        clients = self.net.client_addresses
        return fetch_many(self.net.client, self.connections, sources=clients, concurrency=CONCURRENCY, timeout=TIMEOUT)

    def show_shares(self, fetched: Fetched, expected: dict[str, float]) -> None:
        """One row and bar per link, and the failures."""
        header = ("link", "source", "weight", "expected", "observed", "count")
        rows, bars = [], []
        for name, uplink in self.net.uplinks.items():
            hits = fetched.sources[uplink.source]
            share = hits / max(fetched.answered, 1)
            rows.append((name, uplink.source, str(uplink.weight), f"{expected[name]:.1%}", f"{share:.1%}", str(hits)))
            bars.append((share, expected[name]))
        self.screen.table(header, rows, bars)
        self.screen.text(f"{fetched.answered} answered, {failures(fetched)}")
        self.screen.line()

    def check_spread(self, fetched: Fetched) -> None:
        """No failures, and shares by weight."""
        total = sum(uplink.weight for uplink in self.net.uplinks.values())
        expected = {name: uplink.weight / total for name, uplink in self.net.uplinks.items()}
        self.show_shares(fetched, expected)
        self.check_failures(fetched)
        name, uplink = next(iter(self.net.uplinks.items()))
        least, most = binomial_bounds(fetched.answered, expected[name])
        hits = fetched.sources[uplink.source]
        self.check(
            least <= hits <= most and set(fetched.sources) <= set(self.net.sources.values()),
            f"shares follow the weights: {hits} over {name}; chance allows {least} to {most}",
        )

    def check_failures(self, fetched: Fetched) -> None:
        self.check(not fetched.failures, f"{len(fetched.failures)} of {self.connections} connections failed")


def failures(fetched: Fetched) -> str:
    errors = Counter(failure["error"] for failure in fetched.failures)
    reasons = ", ".join(f"{number} x {error}" for error, number in errors.most_common(3))
    return f"{len(fetched.failures)} failed" + f" ({reasons})" * bool(reasons)
