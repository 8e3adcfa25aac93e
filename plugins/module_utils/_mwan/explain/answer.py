# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a new connection would go, and why: the rules in order, the policy, its links and their shares, source NAT."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..asked import within
from ..balancing import PER_PACKET
from ..errors import InputError
from ..firewall.choices import Chooser
from ..firewall.model import Firewall, FirewallLink
from ..kernel import Nexthop
from ..model import Policy
from ..rules import Rule
from ..serving import Serving
from ..shares import routing, tier_of
from ..trace import ITSELF
from .question import Question, View
from .remarks import Remarks
from .rules import RuleWords
from .walk import Path, Walk, address_near, own_address


def explain(question: Question, view: View) -> dict[str, Any]:
    """The answer as plain data; `console.explain` puts it in words. Raises InputError when the question lacks a part.

    `rule` is the declared rule that decides, None where none does; `classified` are those that the firewall asked, and
    `rules` those of policy routing. `outcome` is forwarded, local or the kind of the route that refuses, `ways` are the
    nexthops with their share (0 to 1) and the source address the far end sees.
    """
    return _Explainer(question, view).answer()


class _Explainer:
    def __init__(self, question: Question, view: View) -> None:
        self.view = view
        self.question = question
        self.document = view.document
        self.firewall: Firewall = view.desired.firewall
        self.fib = routing(view.desired, view.facts, view.surroundings)
        self.serving = Serving(view.document, view.health, view.desired.links)
        self.words = RuleWords(view)
        self.notes: list[str] = []
        self.device = self._arrival()
        self.pinned = self._pinned()
        mark = question.mark & ~self.firewall.mask | self.pinned.mark if self.pinned else question.mark
        flow = question.flow(self.device, mark, view)
        self.walk = Walk(view, self.fib, flow, self.pinned.mark if self.pinned else None)
        self.paths = self.walk.paths()

    def answer(self) -> dict[str, Any]:
        policy, tier = self._policy(), self._tier()
        ways = list(self._ways())
        rule = self._rule()
        traces = dict.fromkeys([self.paths[0].first, *(path.trace for path in self.paths)])
        return {
            "packet": {**self.question.words(), "device": self.device, "local": self.device == ITSELF},
            "pinned": self.pinned.name if self.pinned else None,
            "forwarded_to": self._forwarded_to(),
            "rule": self._told(rule) if rule else None,
            "classified": list(self._classified()),
            "rules": list(self.words.entries(traces, self.paths[0].packet.destination)),
            "policy": policy.name if policy else None,
            "algorithm": policy.algorithm if policy else None,
            "sticky": policy.sticky.dump() if policy and policy.sticky and self._chooser() else None,
            "tier": tier if policy else None,
            "last_resort": policy.last_resort if policy else None,
            "outcome": self._outcome(),
            "ways": ways,
            "passed_over": self._passed_over(policy, tier, {way["link"] for way in ways}) if policy else {},
            "notes": [*self.notes, *self._remarks(ways)],
        }

    def _remarks(self, ways: list[dict[str, Any]]) -> Iterator[str]:
        remarks = Remarks(self.view, self.fib, self.walk, self.words)
        return remarks.about(self.paths, self.pinned, self._chooser(), self._policy(), ways)

    # the packet

    def _arrival(self) -> str:
        """The device it comes in on: as asked, the loopback device for the router's own, or where its source lives."""
        source, asked = self.question.source, self.question.device
        option = self.question.options["device"]
        if asked and asked not in self.view.facts.devices:
            known = ", ".join(sorted(self.view.facts.devices))
            raise InputError(option, asked, "does not exist", f"This router has {known}")
        own = source is None or self.fib.local(source)
        if self.question.local and not own:
            remedy = "Leave it out, and the router chooses"
            raise InputError(self.question.options["source"], source, "is no address of this router", remedy)
        if asked or own:
            return asked or ITSELF
        found = [item.device for item in self.view.facts.addresses if item.covers(str(source))]
        if not found:
            raise InputError(
                self.question.options["source"],
                source,
                "is in no network of this router",
                f"Say with {option} on which device it arrives",
            )
        self.notes.append(f"{source} is taken to arrive on {found[0]}, which has its network")
        return found[0]

    def _pinned(self) -> FirewallLink | None:
        """The link a packet from beyond a link's own networks is pinned to as it arrives (docs/packet.md)."""
        source = self.question.source
        near = [net for device, net in self.firewall.neighbourhoods() if device == self.device]
        if source is None or within(source, near):
            return None
        links = [link for link in self.firewall.links if link.device == self.device]
        if len(links) > 1:
            names = " or ".join(link.name for link in links)
            self.notes.append(f"it is pinned to {names}, by the router it comes through; here: {links[0].name}")
        return links[0] if links else None

    def _forwarded_to(self) -> dict[str, Any] | None:
        """The host that a port forward leads it to."""
        packet = self.paths[0].packet
        return {"address": packet.destination, "port": packet.destination_port} if self.walk.forward else None

    # what decides

    def _rule(self) -> Rule | None:
        path = self.paths[0]
        if path.chosen:
            return next((rule for rule in self.document.rules if rule.name == path.chosen.rule), None)
        return self.words.declared(path.trace) or self.words.declared(path.first)

    def _told(self, rule: Rule) -> dict[str, Any]:
        kind = next(key for key in Rule.WHERE if getattr(rule, key))
        return {"name": rule.name, "position": self._position(rule.name), "target": {kind: getattr(rule, kind)}}

    def _position(self, name: str) -> int | None:
        """Counted from 1, in the order of the declared rules; the default policy has none."""
        return next((at for at, rule in enumerate(self.document.rules, start=1) if rule.name == name), None)

    def _classified(self) -> Iterator[dict[str, Any]]:
        for step in self.paths[0].asked:
            name = step.choice.rule
            yield {
                "name": name or "default policy",
                "position": self._position(name),
                "result": f"asks for {step.refusal}" if step.refusal else "matches",
                "matches": step.refusal is None,
            }

    def _chooser(self) -> Chooser | None:
        choice = self.paths[0].chosen
        return self.firewall.classification.chooser(choice.chooser) if choice and choice.chooser else None

    def _policy(self) -> Policy | None:
        """The policy that decided, or would have if it had a way out."""
        settings, chooser = self.document.settings, self._chooser()
        if chooser:
            return next(policy for policy in self.document.policies if policy.name == chooser.name)
        tables = {settings.table(self.document.policy_ident(policy.name)): policy for policy in self.document.policies}
        steps = self.paths[0].deciding.steps
        asked = [tables[step.rule.table] for step in steps if not step.refusal and step.rule.table in tables]
        return asked[-1] if asked else None

    def _tier(self) -> int | None:
        chooser, found = self._chooser(), self.paths[0].deciding.found
        if chooser and chooser.ways:
            policy = self._policy()
            return self.serving.tier(policy)[0].tier if policy else None
        return tier_of(found)

    # the ways out

    def _ways(self) -> Iterator[dict[str, Any]]:
        """Those that differ only in the source before source NAT are one."""
        found: dict[tuple[str | None, ...], dict[str, Any]] = {}
        for path in self.paths:
            for hop, share in path.trace.ways().items():
                way = self._way(path, hop)
                place = way["link"], way["device"], way["gateway"], way["seen_as"]
                known = found.setdefault(place, {**way, "share": 0.0})
                known["share"] += path.share * share
        yield from found.values()

    def _way(self, path: Path, hop: Nexthop) -> dict[str, Any]:
        link = self._link(hop)
        source = path.packet.source or own_address(self.view, path.trace, hop)
        return {
            "link": link.name if link else None,
            "device": hop.device,
            "gateway": hop.gateway,
            "share": None,
            "source": source,
            **self._translated(link, hop, source),
        }

    def _link(self, hop: Nexthop) -> FirewallLink | None:
        """The link that what leaves by this nexthop is pinned to (the save chain), unless it is pinned already."""
        if self.pinned:
            return self.pinned if self.pinned.device == hop.device else None
        links = [link for link in self.firewall.links if link.device == hop.device]
        exact = [link for link in links if not link.shared or link.gateway == hop.gateway]
        return next(iter([*exact, *links]), None)

    def _translated(self, link: FirewallLink | None, hop: Nexthop, source: str | None) -> dict[str, Any]:
        """The source address after source NAT, and by which kind of it: snat, masquerade or None."""
        chooser, forward = self._chooser(), self.walk.forward
        if forward and within(source, forward.networks):
            return {"seen_as": address_near(self.view, hop), "nat": "masquerade"}
        # what has no pin to a link has no address of one
        pinned = link if chooser is None or chooser.algorithm != PER_PACKET else None
        for rule in self.firewall.snat:
            met = not rule.sources or within(source, rule.sources)
            if pinned and (rule.mark, rule.device) == (pinned.mark, hop.device) and met:
                to = rule.to or address_near(self.view, hop)
                return {"seen_as": to, "nat": "snat" if rule.to else "masquerade"}
        return {"seen_as": source, "nat": None}

    def _outcome(self) -> str:
        found = [path.trace.found for path in self.paths]
        if any(path.trace.ways() for path in self.paths):
            return "forwarded"
        return found[0].kind if found[0] else "none"

    # who takes none

    def _passed_over(self, policy: Policy, tier: int | None, serving: set[str | None]) -> dict[str, str]:
        """Why the other members of the policy take none of these connections."""
        others = [member for member in policy.members if member.link not in serving]
        return {member.link: self._why_not(policy, member.link, member.tier, tier) for member in others}

    def _why_not(self, policy: Policy, name: str, tier: int, serving: int | None) -> str:
        link, state = self.view.desired.links[name], self.view.health.state(name)
        reason, chooser = self.view.reasons.get(name), self._chooser()
        if link.pending:
            return link.pending
        if not self.document.weight(policy, name):
            return "its weight is 0"
        if all(member.link != name for member in self.serving.members(policy)):
            return f"{state}: {reason}" if reason else state
        if not self.fib.alive(link.device):
            return f"{link.device} has no carrier"
        if chooser and any(way.name == name for way in chooser.ways):
            return "the hash of its addresses leads to another link" if chooser.buckets else "its table has no way out"
        return f"tier {tier} serves when no link of tier {serving} can"
