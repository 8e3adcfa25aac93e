# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What else is to be known of an answer."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Any

from ..balancing import LEAST_CONNECTIONS, PER_PACKET
from ..firewall.choices import Chooser
from ..firewall.model import FirewallLink
from ..model import Policy
from ..trace import Fib, Trace
from .question import View
from .rules import RuleWords, merged
from .walk import Path, Walk

ALGORITHMS = {
    LEAST_CONNECTIONS: "each goes to the link with the fewest established connections for its weight; the shares are "
    "what that comes to in the end",
    PER_PACKET: "each packet goes to the next link in turn, with its own source address",
}


class Remarks:
    def __init__(self, view: View, fib: Fib, walk: Walk, words: RuleWords) -> None:
        self.view = view
        self.fib = fib
        self.walk = walk
        self.words = words

    def about(
        self,
        paths: list[Path],
        pinned: FirewallLink | None,
        chooser: Chooser | None,
        policy: Policy | None,
        ways: list[dict[str, Any]],
    ) -> Iterator[str]:
        if self.words.unclear(merged(path.trace for path in paths)):
            yield "rules of others with conditions that are not known here were passed over; `ip rule` shows them"
        if pinned:
            yield f"it came in on {pinned.name} and is pinned to it: replies leave by {pinned.name}"
        yield from self._forwarded()
        yield from self._classified(paths, chooser)
        if policy and not policy.by_routing and not self.walk.forwards:
            yield f"what the router itself sends is spread by the multipath route of {policy.name}"
        yield from self._looked_up_again(paths, any(way["nat"] for way in ways))
        yield from self._ailing(ways)
        yield from self._bare(ways)

    def _forwarded(self) -> Iterator[str]:
        forward = self.walk.forward
        if forward and forward.to[0] != forward.to[1]:
            yield f"its host is one of {forward.to[0]} to {forward.to[1]}, by the client's address; here: the first"

    def _classified(self, paths: list[Path], chooser: Chooser | None) -> Iterator[str]:
        spared = self.walk.spared()
        if spared and self.view.desired.firewall.classification and not self.walk.forward:
            yield f"the firewall does not choose for it: {spared}"
        for name in dict.fromkeys(self._sets_of_others(paths)):
            yield f"set {name} is filled by others, and what is in it now is not known here: taken as not in it"
        if chooser and chooser.algorithm in ALGORITHMS:
            yield ALGORITHMS[chooser.algorithm]
        if chooser and chooser.sticky:
            what = "client" if chooser.sticky_by == "source" else "client that has talked to the same address"
            yield f"a {what} in the last {chooser.sticky} s may be on another link, and stays there while it serves"
        lost = sum(path.share for path in paths if not path.trace.ways())
        if 0 < lost < 1:
            yield f"{lost:.0%} of it is refused: a link that is chosen has no way out now"

    def _sets_of_others(self, paths: list[Path]) -> Iterator[str]:
        others = {item.name for item in self.walk.classes.sets if item.external}
        for path in paths:
            for step in path.asked:
                for name in (step.choice.condition.source_set, step.choice.condition.destination_set):
                    if name in others and step.refusal:
                        yield str(name)

    def _looked_up_again(self, paths: list[Path], mended: bool) -> Iterator[str]:
        """Of the router's own."""
        if self.walk.forwards:
            return
        if any(path.chosen for path in paths):
            if mended:
                yield "its source address was chosen before a rule marked it; source NAT mends that"
        elif _places(path.trace for path in paths) != _places([paths[0].first]):
            rules = [self.words.words(path.trace.decision.rule) for path in paths if path.trace.decision]
            yield "the router asks again with the address it has chosen, and then decides: " + "; ".join(rules)

    def _ailing(self, ways: list[dict[str, Any]]) -> Iterator[str]:
        for name in dict.fromkeys(way["link"] for way in ways):
            state = self.view.health.state(name) if name else "unknown"
            if state in ("suspect", "down"):
                reason = self.view.reasons.get(str(name))
                yield f"{name} is {state}{': ' if reason else ''}{reason or ''}; it goes there all the same"

    def _bare(self, ways: list[dict[str, Any]]) -> Iterator[str]:
        """Sources that the far end, or the provider, can do nothing with."""
        addresses = {item.address: item.device for item in self.view.facts.addresses}
        for way in ways:
            source = str(way["source"] or "")
            if way["nat"] or not source:
                continue
            if way["link"] and ipaddress.IPv4Address(source).is_private and not self.fib.local(source):
                yield f"no source NAT of {way['link']} is for {source}: it leaves with this address"
            if not way["link"] and way["gateway"] and addresses.get(source, way["device"]) != way["device"]:
                yield f"it leaves by {way['device']} with {source}, an address of {addresses[source]}"


def _places(traces: Iterable[Trace]) -> set[tuple[str, str | None]]:
    return {(hop.device, hop.gateway) for trace in traces for hop in trace.ways()}
