# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the rules of policy routing are for, and what came of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .. import layout
from ..asked import PROTOCOL_NAMES
from ..desired import table_names
from ..kernel import LOCAL, MAIN, IpRule
from ..plan import table_name
from ..rules import Rule
from ..trace import Step, Trace
from .question import View

# the answer for a rule of others with conditions or actions that are not known here
UNCLEAR = "not followed"
# rules of one purpose, and why all of them are passed
PINNED, CHOSEN, OWN = "pinned connections", "chosen by the firewall", "sent from a link's address or device"
BOUND = "bound to a link's device"
KERNELS = {(0, LOCAL): "local addresses", (32766, MAIN): "main table", (32767, 253): "default table"}
UNMET = {
    PINNED: "it is new, and has no pin",
    CHOSEN: "the firewall has not sent it there",
    OWN: "it comes from none of them",
    BOUND: "it is bound to none of them",
}
LANDINGS = (layout.SKIP, layout.PASSED, layout.BEYOND)


class RuleWords:
    """`desired` rules are told by their priorities (layout.py)."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.document = view.document
        self.names = table_names(view.document)
        self.routed = view.desired.routed

    def entries(self, traces: Iterable[Trace], destination: str) -> Iterator[dict[str, Any]]:
        """Every rule asked, with what it is for; those of one purpose that all pass are told as one."""
        steps = merged(traces)
        told: dict[str, dict[str, Any]] = {}
        for step in steps:
            group, name = self._purpose(step.rule)
            entry = self._entry(step.rule, name, _result(step, destination), step.decides)
            if group and step.refusal:
                same = {**entry, "name": group, "rule": None, "count": 0, "result": UNMET[group]}
                told.setdefault(group, same)["count"] += 1
            else:
                told[f"{len(told)}"] = entry
        unclear = [self._entry(rule, "of others", UNCLEAR, False) for rule in self.unclear(steps)]
        yield from sorted([*told.values(), *unclear], key=lambda entry: int(entry["priority"]))

    def unclear(self, steps: list[Step]) -> list[IpRule]:
        """Rules of others before the decision that cannot be followed."""
        last = max((step.rule.priority for step in steps), default=0)
        return [rule for rule in self.view.surroundings.unclear if rule.priority <= last]

    def words(self, rule: IpRule) -> str:
        return rule.words(table_name(rule.table, self.names))

    def declared(self, trace: Trace) -> Rule | None:
        """The declared rule that decides by itself."""
        last = [step for step in trace.steps if step.decides or (step.rule.action == "goto" and not step.refusal)]
        found = [self._declared(step.rule) for step in last]
        return found[-1] if found else None

    def _declared(self, rule: IpRule) -> Rule | None:
        place = self._offset(rule) - layout.RULES
        ours = rule in self.view.desired.state.rules and place in range(len(self.routed))
        return self.routed[place] if ours else None

    def _offset(self, rule: IpRule) -> int:
        return rule.priority - self.document.settings.rule_priority

    def _entry(self, rule: IpRule, name: str, result: str, decides: bool) -> dict[str, Any]:
        return {
            "priority": rule.priority,
            "rule": self.words(rule),
            "name": name,
            "result": result,
            "decides": decides,
        }

    def _purpose(self, rule: IpRule) -> tuple[str | None, str]:
        """What a rule is for: the group it belongs to, if any, and its own name."""
        if rule not in self.view.desired.state.rules:
            return None, KERNELS.get((rule.priority, rule.table), "of others")
        offset, declared = self._offset(rule), self._declared(rule)
        if declared:
            return None, f"rule {declared.name}"
        if offset == layout.MARK:
            return PINNED, f"marked for {self._owner(rule)}"
        if offset == layout.CHOSEN:
            return CHOSEN, f"marked for {self._owner(rule)}"
        if rule.out_device and offset == layout.SUPPRESS:
            return BOUND, f"bound to {rule.out_device}"
        if offset == layout.SOURCE:
            held = "bound to the device" if rule.out_device else "from an address"
            return OWN, f"{held} of {self._owner(rule)}"
        return None, self._alone(offset)

    def _alone(self, offset: int) -> str:
        if offset in LANDINGS:
            return "past the rules for the router itself" if offset != layout.BEYOND else "left alone"
        return "connected and static networks" if offset in (layout.SUPPRESS, layout.BOUND) else "default policy"

    def _owner(self, rule: IpRule) -> str:
        return self.names.get(rule.table, "main").replace(layout.TABLE_PREFIX, "", 1)


def merged(traces: Iterable[Trace]) -> list[Step]:
    """The steps of all of them, a rule once: as it was where it matched, if it did anywhere."""
    found: dict[IpRule, Step] = {}
    for trace in traces:
        for step in trace.steps:
            known = found.get(step.rule)
            if known is None or (not known.decides and not step.refusal):
                found[step.rule] = step
    return sorted(found.values(), key=lambda step: step.rule.priority)


def _result(step: Step, destination: str) -> str:
    if step.refusal:
        return "asks for " + _named_protocol(step.refusal)
    if step.decides:
        return "decides"
    if step.rule.action != "lookup":
        return f"goes on at {step.rule.target}" if step.rule.action == "goto" else "does nothing"
    if step.found is None:
        return f"no route to {destination}"
    return "says to look further" if step.found.kind == "throw" else "only a default route, which does not count"


def _named_protocol(refusal: str) -> str:
    word, _space, number = refusal.partition(" ")
    return f"{word} {PROTOCOL_NAMES.get(int(number), number)}" if word == "protocol" else refusal
