# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ordered operations that take the observed kernel to the desired state without a gap.

The order is the product: at every step each new connection finds a way out, every connection leaving by a link is
pinned and gets its source address, and pinned connections of links that stay keep their table. Therefore what
traffic will use is built first (tables, mark rules, firewall), then traffic is led to it (policy routes, rules), and
only then is the old taken away. Links that go keep their pins until nothing leads to them any more (`transition`).
Connections that are given up are broken only when new ones find another way, and no longer when they find this one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Union

from . import layout, pins
from .firewall.model import Firewall
from .kernel import MAIN, TABLE_NAMES, IpRule, Marked, Route, State
from .model import Settings


@dataclass(frozen=True)
class LoadedFirewall:
    """A firewall and its text in the backend's language."""

    model: Firewall
    text: str


Value = Union[Route, IpRule, LoadedFirewall, Marked, str, None]


@dataclass(frozen=True)
class Operation:
    """One step: `before` becomes `after`; None means absent. `subject` is a sysctl key or a file's path.

    Swapping the two gives the step that undoes this one, but for conntrack entries, which stay deleted.
    """

    kind: str
    before: Value
    after: Value
    subject: str = ""

    @property
    def verb(self) -> str:
        if self.before is None:
            return "add"
        return "delete" if self.after is None else "replace"

    def inverse(self) -> Operation:
        return replace(self, before=self.after, after=self.before)

    def describe(self, names: Mapping[int, str]) -> str:
        """The operation as the command an administrator would type, or close to it."""
        value = self.before if self.after is None else self.after
        if isinstance(value, Route):
            return f"ip route {self.verb} {route_words(value, names)}"
        if isinstance(value, IpRule):
            words = value.words(table_name(value.table, names))
            return f"ip rule {self.verb} priority {value.priority} {words} protocol {layout.PROTOCOL_NAME}"
        if isinstance(value, Marked):
            return f"conntrack -D {value.words()}"
        if self.kind == "sysctl":
            return f"sysctl {self.subject} = {self.after} (was {self.before})"
        if self.kind in ("document", "pins", "balance"):
            return f"store {self.subject}"
        if self.kind == "file":
            return f"{self.verb} file {self.subject}"
        return f"{self.verb} {self.subject} rules"


def table_name(table: int, names: Mapping[int, str]) -> str:
    return names.get(table) or TABLE_NAMES.get(table) or str(table)


def route_words(route: Route, names: Mapping[int, str]) -> str:
    return route.words(f"table {table_name(route.table, names)} proto {layout.PROTOCOL_NAME}")


def make_plan(
    desired: State,
    observed: State,
    settings: Settings,
    firewall: LoadedFirewall,
    live: LoadedFirewall,
    transition: LoadedFirewall,
    preparing: LoadedFirewall | None = None,
) -> tuple[Operation, ...]:
    """Return the operations in order; empty exactly when `observed` is as `desired`.

    `firewall` is the one to end with, `live` the one observed (its text is the drifted listing after drift), and
    `transition` equals `firewall` plus the links of the former document on devices no longer used. Where a link moves
    to another device, `preparing` is the same with the former choices: the new ones may lead to the link only when its
    route is there, and the route may be only when the firewall knows the device.
    """
    planner = _Planner(desired, observed, settings)
    return tuple(planner.steps(firewall, live, transition, preparing or transition))


class _Planner:
    def __init__(self, desired: State, observed: State, settings: Settings) -> None:
        self.desired = desired
        self.observed = observed
        self.settings = settings
        self.pin_priority = settings.rule_priority + layout.MARK
        self.link_tables = {rule.table for rule in desired.rules | observed.rules if self._is_pin(rule)}
        self.live_tables = {rule.table for rule in desired.rules}
        # tables that will have a way out; what leads to the others is led away before they lose theirs
        self.serving = {route.table for route in desired.routes if route.kind == "unicast"}
        come, gone = desired.rules - observed.rules, observed.rules - desired.rules
        self.clashing = {rule for rule in gone if any(rule.clashes(other) for other in come)}
        self.led_to = {rule.table for rule in observed.rules}
        self.pinned_tables = {rule.table for rule in observed.rules if self._is_pin(rule)}

    def steps(
        self, firewall: LoadedFirewall, live: LoadedFirewall, transition: LoadedFirewall, preparing: LoadedFirewall
    ) -> Iterator[Operation]:
        # what new connections will use; a mark that comes anew may still be on connections of a link long gone
        yield from self._flushes(self.desired, self._marks(self.observed) | {link.mark for link in live.model.links})
        yield from self._files()
        yield from self._sysctls(closing=False)
        unknown = {link.device for link in transition.model.links} - {link.device for link in live.model.links}
        yield from self._put_routes(lambda route: self._is_link_route(route) and not self._moves(route, unknown))
        yield from self._put_routes(lambda route: not self._is_link_route(route) and route.table not in self.led_to)
        yield from self._add_rules(self._is_base)
        yield from _load_firewall(live, preparing)
        yield from self._put_routes(lambda route: self._is_link_route(route) and self._moves(route, unknown))
        yield from _load_firewall(preparing, transition)
        yield from self._balance()
        # what leads them there, and away from what goes
        yield from self._put_routes(
            lambda route: self._is_led_to(route) and not self._is_link_route(route) and not self._refuses(route)
        )
        yield from self._delete_routes(self._goes_early)
        yield from self._add_rules(lambda rule: not self._is_base(rule))
        yield from self._delete_rules(lambda rule: not self._is_base(rule))
        yield from self._put_routes(
            lambda route: self._is_led_to(route) and not self._is_link_route(route) and self._refuses(route)
        )
        yield from self._delete_routes(lambda route: route.table in self.live_tables and not self._goes_early(route))
        # connections that are given up begin anew, now that the way of new ones is another
        yield from self._forgotten()
        # links that go: their connections begin anew over the others while late packets still find their pins
        yield from self._leaving()
        yield from _load_firewall(transition, firewall)
        yield from self._delete_rules(self._is_base)
        yield from self._delete_routes(lambda route: route.table not in self.live_tables)
        # and what those late packets began is forgotten, so that a later link with the same id does not inherit it
        yield from self._leaving()
        yield from self._sysctls(closing=True)
        yield from self._pins()

    def _is_link_route(self, route: Route) -> bool:
        return route.table in self.link_tables or route.table == MAIN

    def _goes_early(self, route: Route) -> bool:
        """Old routes of policies that stay go before rules lead there, but for the last way out of a policy."""
        stays = not self._is_link_route(route) and route.table in self.live_tables
        return stays and (route.kind != "unicast" or route.table in self.serving)

    def _refuses(self, route: Route) -> bool:
        """Whether it would refuse what is still led to its table, and will be led elsewhere."""
        return route.kind != "unicast" and route.table in self.led_to and route.table not in self.serving

    def _moves(self, route: Route, unknown: set[str]) -> bool:
        """Whether a link in use goes to a device that the firewall does not know before it is loaded."""
        return route.table in self.pinned_tables and any(hop.device in unknown for hop in route.nexthops)

    def _is_led_to(self, route: Route) -> bool:
        return route.table in self.led_to

    def _is_pin(self, rule: IpRule) -> bool:
        return rule.priority == self.pin_priority and rule.mark is not None

    def _is_base(self, rule: IpRule) -> bool:
        """Rules that lead nothing anywhere new: main's networks, marks, bound sources, and where others jump to."""
        return rule.priority <= self.settings.rule_priority + layout.SOURCE or rule.action == "nop"

    def _marks(self, state: State) -> set[int]:
        return {rule.mark for rule in state.rules if rule.mark is not None and self._is_pin(rule)}

    def _flushes(self, state: State, kept: set[int]) -> Iterator[Operation]:
        """Delete the connections of every link's mark in `state` that is not among `kept`."""
        for rule in _ordered_rules(state.rules):
            if self._is_pin(rule) and rule.mark is not None and rule.mark not in kept:
                yield Operation("conntrack", Marked(rule.mark, rule.mask or 0xFFFFFFFF), None)

    def _put_routes(self, wanted: Any) -> Iterator[Operation]:
        """Add and replace, best metric first, so that a table that is in use serves before it refuses."""
        present = {route.key: route for route in self.observed.routes}
        for route in _ordered_routes(filter(wanted, self.desired.routes - self.observed.routes)):
            yield Operation("route", present.get(route.key), route)

    def _delete_routes(self, wanted: Any) -> Iterator[Operation]:
        """Delete what no desired route replaces; refusals first: where none is to stay, the next table serves."""
        kept = {route.key for route in self.desired.routes}
        gone = (route for route in self.observed.routes if route.key not in kept)
        for route in sorted(_ordered_routes(filter(wanted, gone)), key=lambda route: route.kind == "unicast"):
            yield Operation("route", route, None)

    def _add_rules(self, wanted: Any) -> Iterator[Operation]:
        """Add; what the kernel cannot hold beside a new rule goes right before it."""
        for rule in _ordered_rules(filter(wanted, self.desired.rules - self.observed.rules)):
            for gone in _ordered_rules(self.clashing):
                if gone.clashes(rule):
                    yield Operation("rule", gone, None)
            yield Operation("rule", None, rule)

    def _delete_rules(self, wanted: Any) -> Iterator[Operation]:
        """Last priority first: traffic is led away before what it rested on goes."""
        gone = self.observed.rules - self.desired.rules - self.clashing
        for rule in reversed(_ordered_rules(filter(wanted, gone))):
            yield Operation("rule", rule, None)

    def _leaving(self) -> Iterator[Operation]:
        """Forget the connections of links that go.

        Not when no link is left: then the host's own routing carries on what it can.
        """
        kept = self._marks(self.desired)
        return self._flushes(self.observed, kept) if kept else iter(())

    def _forgotten(self) -> Iterator[Operation]:
        for which in pins.forgotten(self.observed.pins, self.desired.pins, self.settings.mark_mask):
            yield Operation("conntrack", which, None)

    def _pins(self) -> Iterator[Operation]:
        if self.desired.pins != self.observed.pins:
            yield Operation("pins", pins.text(self.observed.pins), pins.text(self.desired.pins), layout.PINS)

    def _balance(self) -> Iterator[Operation]:
        """The helper may choose a link when its table and pin are there, and those that go no longer."""
        if self.desired.balance != self.observed.balance:
            yield Operation("balance", self.observed.balance, self.desired.balance, layout.BALANCE)

    def _files(self) -> Iterator[Operation]:
        for path, text in sorted(self.desired.files.items()):
            if self.observed.files.get(path) != text:
                yield Operation("file", self.observed.files.get(path), text, path)

    def _sysctls(self, closing: bool) -> Iterator[Operation]:
        for key, value in sorted(self.desired.sysctls.items()):
            before = self.observed.sysctls.get(key)
            if before != value and _closes(key, before, value) == closing:
                yield Operation("sysctl", before, value, key)


def _closes(key: str, before: str | None, value: str) -> bool:
    """Whether the change should wait until all else is in place: stricter filtering, and forwarding itself."""
    if key.endswith("/rp_filter"):
        # by what passes: 0 all, 2 (loose) most, 1 (strict) least
        openness = {"0": 2, "2": 1, "1": 0}
        return openness.get(value, 0) < openness.get(before or "", 0)
    return key == "net/ipv4/ip_forward" or value == "0"


def _load_firewall(before: LoadedFirewall, after: LoadedFirewall) -> Iterator[Operation]:
    if before.text != after.text:
        yield Operation("firewall", before if before.text else None, after if after.text else None)


def _ordered_routes(routes: Iterable[Route]) -> list[Route]:
    return sorted(routes, key=lambda route: (route.table, route.metric, route.destination))


def _ordered_rules(rules: Iterable[IpRule]) -> list[IpRule]:
    return sorted(rules, key=lambda rule: (rule.priority, rule.mark or 0, rule.words(str(rule.table))))


def step(state: State, operation: Operation) -> State:
    """The state after one operation, by the same rules the kernel follows. Predicts in check mode, and in tests."""
    before, after = operation.before, operation.after
    if operation.kind == "route":
        return state.with_routes(before, after)  # type: ignore[arg-type]
    if operation.kind == "rule":
        return state.with_rules(before, after)  # type: ignore[arg-type]
    if operation.kind == "sysctl":
        return replace(state, sysctls={**state.sysctls, operation.subject: str(after)})
    if operation.kind == "file":
        return replace(state, files={**state.files, operation.subject: after})  # type: ignore[dict-item]
    if operation.kind == "former firewall":
        return replace(state, former_firewall="")
    if operation.kind == "balance":
        return replace(state, balance=after)  # type: ignore[arg-type]
    if operation.kind == "pins":
        return replace(state, pins=pins.parse(after))  # type: ignore[arg-type]
    if operation.kind == "firewall":
        return replace(state, firewall=after.text if isinstance(after, LoadedFirewall) else "")
    return state


def predict(state: State, operations: Iterable[Operation]) -> State:
    for operation in operations:
        state = step(state, operation)
    return state
