# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The doors between the pure core and the kernel: tests put a model kernel behind the same protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from .document import Document
from .firewall.model import Firewall
from .hostfacts import HostFacts, Wanted
from .kernel import Facts, IpRule, Marked, Route, Surroundings


class RoutingPort(Protocol):
    """rtnetlink and the connection tracking table. Only objects with our protocol number are ours."""

    def facts(self) -> Facts:
        """Devices, addresses and neighbours as they are now, and the default routes of others by device."""

    def routes(self) -> frozenset[Route]:
        """Our routes."""

    def rules(self) -> frozenset[IpRule]:
        """Our rules."""

    def foreign_rules(self) -> tuple[IpRule, ...]:
        """Everybody else's rules."""

    def surroundings(self) -> Surroundings:
        """Everybody else's rules and routes, of all tables."""

    def change_route(self, before: Route | None, after: Route | None) -> None:
        """Add, replace (without a gap) or delete one route; raises KernelError."""

    def change_rule(self, before: IpRule | None, after: IpRule | None) -> None:
        """Add or delete one rule; raises KernelError."""

    def flush_connections(self, which: Marked) -> None:
        """Forget these tracked connections; raises KernelError."""

    def learn_neighbours(self, wanted: Iterable[tuple[str, str]], seconds: float) -> None:
        """Have the kernel look up the link-layer address of each (device, address), waiting so long at most."""


class SysctlPort(Protocol):
    def read(self, keys: Iterable[str]) -> Mapping[str, str]:
        """The values of those keys that exist, by key in slash form."""

    def write(self, key: str, value: str) -> None:
        """Set one key; raises KernelError."""


class FilePort(Protocol):
    def read(self, path: str) -> str | None:
        """The file's text, None where there is no file."""

    def write(self, path: str, text: str | None, mode: int = 0o644) -> None:
        """Replace the file atomically, making its directory; None removes it; raises KernelError."""


class FirewallPort(Protocol):
    """One netfilter front end (nftables or legacy iptables)."""

    name: str

    def unavailable(self) -> str | None:
        """Why this host cannot use it, or None."""

    def render(self, firewall: Firewall) -> str:
        """Return the text a person reads in a diff; equal firewalls give equal text; '' for an empty firewall. Pure."""

    def listing(self) -> str:
        """Return our live objects as text without counters, '' when there are none.

        The same kernel state always gives the same text; any change by hand to any of our objects (a rule deleted,
        altered, added, moved, a hook or jump displaced from the first place) changes it.
        """

    def counters(self) -> Mapping[str, tuple[int, int]]:
        """Packets and octets of new connections that each rule has decided about, by its name; raises KernelError.

        They outlive `replace`. Empty where nothing of ours is live.
        """

    def replace(self, firewall: Firewall) -> None:
        """Make `firewall` the live state; raises KernelError.

        There is no moment in which neither old nor new rules apply.
        """

    def remove(self) -> None:
        """Take every object of ours away, and nothing else; does nothing where there is none; raises KernelError."""


@dataclass(frozen=True)
class Router:
    """Everything a run needs of the machine it runs on."""

    routing: RoutingPort
    sysctl: SysctlPort
    files: FilePort
    firewalls: Mapping[str, FirewallPort]
    # whether the host's own firewall is legacy iptables, so that "auto" follows it
    legacy_firewall: bool = False
    # a context manager factory: one run at a time on a router
    lock: Any = None
    # whether files that name tables, or matter at boot only, are kept too: in /etc, where only root may write
    boot_files: bool = True
    # whether the prober runs, whose word on health would otherwise be its last one
    prober_runs: Callable[[], bool] = lambda: True
    # what rules name that is none of the kernel's objects
    look_up: Callable[[Wanted], HostFacts] = lambda _wanted: HostFacts()

    def facts(self, *documents: Document) -> Facts:
        """What is there now, with all that these documents name; raises KernelError."""
        rules = [rule for document in documents for rule in document.rules]
        wanted = Wanted.of(rules, [item for document in documents for item in document.sets])
        found = self.routing.facts()
        return replace(found, host=self.look_up(wanted)) if wanted else found
