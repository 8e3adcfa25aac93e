# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a new connection would go, and why: the rules in order, the policy, its links and their shares, source NAT."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from . import layout, values
from .desired import Desired, table_names
from .document import Document
from .errors import InputError
from .firewall.model import Firewall, FirewallLink
from .health import Health
from .kernel import LOCAL, MAIN, Facts, IpRule, Nexthop, Surroundings
from .model import Policy
from .plan import table_name
from .rules import PORT_PROTOCOLS, PROTOCOLS
from .serving import Serving
from .shares import routing, tier_of
from .trace import ITSELF, Packet, Step, Trace

# the answer for a rule of others with conditions or actions that are not known here
UNCLEAR = "not followed"
# rules of one purpose, and why all of them are passed
PINNED, OWN = "pinned connections", "sent from a link's address"
KERNELS = {(0, LOCAL): "local addresses", (32766, MAIN): "main table", (32767, 253): "default table"}
UNMET = {PINNED: "it is new, and has no pin", OWN: "it comes from none of them"}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}


@dataclass(frozen=True)
class Question:
    """A connection somebody asks about; what is left out is filled in as far as the router tells."""

    destination: str
    source: str | None = None
    device: str | None = None
    protocol: str | None = None
    source_port: int | None = None
    destination_port: int | None = None

    @classmethod
    def parse(cls, asked: Mapping[str, Any]) -> Question:
        """From the command line's options; raises InputError in their names. Ports are of TCP unless it says more."""
        ports = {name: _port("--" + name, asked[name]) for name in ("source-port", "port") if asked.get(name)}
        protocol = asked.get("protocol") or ("tcp" if ports else None)
        if protocol is not None:
            values.choice("--protocol", protocol, PROTOCOLS)
        if ports and protocol not in PORT_PROTOCOLS:
            remedy = "Leave the ports out, or give one of {}".format(", ".join(PORT_PROTOCOLS))
            raise InputError("--protocol", protocol, "has no ports", remedy)
        return cls(
            destination=values.address("--to", asked["to"]),
            source=values.address("--from", asked["from"]) if asked.get("from") else None,
            device=values.device("--in", asked["in"]) if asked.get("in") else None,
            protocol=protocol,
            source_port=ports.get("source-port"),
            destination_port=ports.get("port"),
        )


def _port(option: str, value: Any) -> int:
    return values.integer(option, value, 1, 65535)


@dataclass(frozen=True)
class View:
    """The router as the question is asked of it; `reasons` say why a link is in its state."""

    document: Document
    desired: Desired
    facts: Facts
    health: Health
    surroundings: Surroundings = field(default_factory=Surroundings)
    reasons: Mapping[str, str] = field(default_factory=dict)


def explain(question: Question, view: View) -> dict[str, Any]:
    """The answer as plain data; `console.explain` puts it in words. Raises InputError when the question lacks a part.

    `rules` are those asked, `outcome` is forwarded, local or the kind of the route that refuses, `ways` are the
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
        self.names = table_names(view.document)
        self.notes: list[str] = []
        self.device = self._arrival()
        self.pinned = self._pinned()
        self.packet = Packet(
            question.destination,
            question.source,
            self.device,
            self.pinned.mark if self.pinned else 0,
            PROTOCOLS[question.protocol] if question.protocol else None,
            question.source_port,
            question.destination_port,
        )

    def answer(self) -> dict[str, Any]:
        trace = self.fib.trace(self.packet)
        again = self._asked_again(trace)
        policy = self._policy(trace)
        ways = [way for each, share in again.items() for way in self._ways(each, share)]
        return {
            "packet": {**vars(self.question), "device": self.device},
            "pinned": self.pinned.name if self.pinned else None,
            "rules": list(self._rules(trace)),
            "policy": policy.name if policy else None,
            "tier": tier_of(trace.found) if policy else None,
            "last_resort": policy.last_resort if policy else None,
            "outcome": self._outcome(trace),
            "ways": ways,
            "passed_over": self._passed_over(policy, trace, {way["link"] for way in ways}) if policy else {},
            "notes": [*self.notes, *self._remarks(trace, again, ways)],
        }

    # the packet

    def _arrival(self) -> str:
        """The device it comes in on: as asked, the loopback device for the router's own, or where its source lives."""
        source, asked = self.question.source, self.question.device
        if asked and asked not in self.view.facts.devices:
            known = ", ".join(sorted(self.view.facts.devices))
            raise InputError("--in", asked, "does not exist", f"This router has {known}")
        if asked or source is None or self.fib.local(source):
            return asked or ITSELF
        found = [item.device for item in self.view.facts.addresses if item.covers(source)]
        if not found:
            raise InputError(
                "--from", source, "is in no network of this router", "Say with --in on which device it arrives"
            )
        self.notes.append(f"{source} is taken to arrive on {found[0]}, which has its network")
        return found[0]

    def _pinned(self) -> FirewallLink | None:
        """The link a packet from beyond a link's own networks is pinned to as it arrives (docs/packet.md)."""
        source = self.question.source
        near = [net for device, net in self.firewall.neighbourhoods() if device == self.device]
        if source is None or any(_within(source, net) for net in near):
            return None
        links = [link for link in self.firewall.links if link.device == self.device]
        if len(links) > 1:
            names = " or ".join(link.name for link in links)
            self.notes.append(f"it is pinned to {names}, by the router it comes through; here: {links[0].name}")
        return links[0] if links else None

    # the routing

    def _asked_again(self, first: Trace) -> dict[Trace, float]:
        """The traces that decide in the end, and which part of new connections each is for.

        What the router itself sends without an address of its own is looked up again with the address that the first
        route gives it (ip_route_connect), and that may lead elsewhere.
        """
        if self.device != ITSELF or self.packet.source or not first.ways():
            return {first: 1.0}
        found: dict[Trace, float] = {}
        for hop, share in first.ways().items():
            trace = self.fib.trace(replace(self.packet, source=self._own_address(first, hop)))
            found[trace] = found.get(trace, 0.0) + share
        return found

    def _own_address(self, trace: Trace, hop: Nexthop) -> str | None:
        """The source the kernel gives: the route's, else the device's address near the gateway (inet_select_addr)."""
        chosen = trace.found.route.source if trace.found else None
        return chosen or self._address_near(hop)

    def _address_near(self, hop: Nexthop) -> str | None:
        present = self.view.facts.addresses_of(hop.device)
        near = [item.address for item in present if hop.gateway and item.covers(hop.gateway)]
        return next(iter([*near, *(item.address for item in present)]), None)

    def _policy(self, trace: Trace) -> Policy | None:
        """The policy that decided, or would have if it had a way out."""
        settings = self.document.settings
        tables = {settings.table(self.document.policy_ident(policy.name)): policy for policy in self.document.policies}
        asked = [tables[step.rule.table] for step in trace.steps if not step.refusal and step.rule.table in tables]
        return asked[-1] if asked else None

    def _ways(self, trace: Trace, whole: float) -> Iterator[dict[str, Any]]:
        for hop, share in trace.ways().items():
            link = self._link(hop)
            source = self.packet.source or self._own_address(trace, hop)
            yield {
                "link": link.name if link else None,
                "device": hop.device,
                "gateway": hop.gateway,
                "share": whole * share,
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
        for rule in self.firewall.snat:
            if link and (rule.mark, rule.device) == (link.mark, hop.device) and _covers_any(rule.sources, source):
                to = rule.to or self._address_near(hop)
                return {"seen_as": to, "nat": "snat" if rule.to else "masquerade"}
        return {"seen_as": source, "nat": None}

    def _outcome(self, trace: Trace) -> str:
        if trace.found is None:
            return "none"
        return "forwarded" if trace.found.kind == "unicast" else trace.found.kind

    # the words

    def _rules(self, trace: Trace) -> Iterator[dict[str, Any]]:
        """Every rule asked, with what it is for; those of one purpose that all pass are told as one."""
        told: dict[str, dict[str, Any]] = {}
        for step in trace.steps:
            group, name = self._purpose(step.rule)
            entry = self._entry(step.rule, name, _result(step, self.packet.destination), step.decides)
            if group and step.refusal:
                same = {**entry, "name": group, "rule": None, "count": 0, "result": UNMET[group]}
                told.setdefault(group, same)["count"] += 1
            else:
                told[f"{len(told)}"] = entry
        unclear = [self._entry(rule, "of others", UNCLEAR, False) for rule in self._unclear(trace)]
        yield from sorted([*told.values(), *unclear], key=lambda entry: int(entry["priority"]))

    def _unclear(self, trace: Trace) -> list[IpRule]:
        """Rules of others before the decision that cannot be followed."""
        last = trace.steps[-1].rule.priority if trace.steps else 0
        return [rule for rule in self.view.surroundings.unclear if rule.priority <= last]

    def _entry(self, rule: IpRule, name: str, result: str, decides: bool) -> dict[str, Any]:
        return {
            "priority": rule.priority,
            "rule": self._words(rule),
            "name": name,
            "result": result,
            "decides": decides,
        }

    def _words(self, rule: IpRule) -> str:
        return rule.words(table_name(rule.table, self.names))

    def _purpose(self, rule: IpRule) -> tuple[str | None, str]:
        """What a rule is for: the group it belongs to, if any, and its own name."""
        if rule not in self.view.desired.state.rules:
            return None, KERNELS.get((rule.priority, rule.table), "of others")
        offset = rule.priority - self.document.settings.rule_priority
        if offset == layout.SUPPRESS:
            return None, "connected and static networks"
        if offset == layout.MARK:
            return PINNED, f"pinned to {self._owner(rule)}"
        if offset == layout.SOURCE:
            return OWN, f"from an address of {self._owner(rule)}"
        if offset == layout.DEFAULT_POLICY:
            return None, "default policy"
        return None, "rule " + self.document.rules[offset - layout.RULES].name

    def _owner(self, rule: IpRule) -> str:
        return self.names.get(rule.table, "main").replace(layout.TABLE_PREFIX, "", 1)

    def _passed_over(self, policy: Policy, trace: Trace, serving: set[str | None]) -> dict[str, str]:
        """Why the other members of the policy take none of these connections."""
        others = [member for member in policy.members if member.link not in serving]
        return {member.link: self._why_not(policy, member.link, member.tier, tier_of(trace.found)) for member in others}

    def _why_not(self, policy: Policy, name: str, tier: int, serving: int | None) -> str:
        link, state = self.view.desired.links[name], self.view.health.state(name)
        reason = self.view.reasons.get(name)
        if link.pending:
            return link.pending
        if not self.document.weight(policy, name):
            return "its weight is 0"
        if all(member.link != name for member in self.serving.members(policy)):
            return f"{state}: {reason}" if reason else state
        if not self.fib.alive(link.device):
            return f"{link.device} has no carrier"
        return f"tier {tier} serves when no link of tier {serving} can"

    def _remarks(self, trace: Trace, again: Mapping[Trace, float], ways: list[dict[str, Any]]) -> Iterator[str]:
        if self._unclear(trace):
            yield "rules of others with conditions that are not known here were passed over; `ip rule` shows them"
        if self.pinned:
            yield f"it came in on {self.pinned.name} and is pinned to it: replies leave by {self.pinned.name}"
        if {(way["device"], way["gateway"]) for way in ways} != {(hop.device, hop.gateway) for hop in trace.ways()}:
            rules = [self._words(each.decision.rule) for each in again if each.decision]
            yield "the router asks again with the address it has chosen, and then decides: " + "; ".join(rules)
        for name in dict.fromkeys(way["link"] for way in ways):
            state = self.view.health.state(name) if name else "unknown"
            if state in ("suspect", "down"):
                reason = self.view.reasons.get(str(name))
                yield f"{name} is {state}{': ' if reason else ''}{reason or ''}; it goes there all the same"
        for way in ways:
            bare = way["link"] and not way["nat"] and way["source"]
            if bare and ipaddress.IPv4Address(bare).is_private and not self.fib.local(bare):
                yield f"no source NAT of {way['link']} is for {bare}: it leaves with this address"


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


def _within(address: str, prefix: str) -> bool:
    return ipaddress.IPv4Address(address) in ipaddress.IPv4Network(prefix)


def _covers_any(sources: tuple[str, ...], source: str | None) -> bool:
    return not sources or (source is not None and any(_within(source, prefix) for prefix in sources))
