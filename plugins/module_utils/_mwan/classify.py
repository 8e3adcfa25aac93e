# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""From declared rules to what decides over new connections: choices of the firewall, and rules of policy routing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import product

from . import layout
from .balancing import HASHES, LEAST_CONNECTIONS, MULTIPATH, PER_PACKET, buckets
from .covered import covered
from .document import Document
from .errors import InputError
from .firewall.choices import (
    BROADCAST,
    LINK_LOCAL,
    MULTICAST,
    Choice,
    Chooser,
    Classification,
    Condition,
    NetworkSet,
    Way,
)
from .firewall.model import Firewall
from .hostfacts import HostFacts
from .kernel import Facts, IpRule, Route
from .model import Policy
from .networks import collapsed, span
from .resolve import ResolvedLink
from .rules import ITSELF, PROTOCOLS, SET, AddressSet, Rule, read_networks
from .serving import Serving
from .values import EVERYWHERE

# the first NFQUEUE number, to which a policy's id is added; others begin at 0
QUEUES = 7700
HALVES = ("0.0.0.0/1", "128.0.0.0/1")


class Classifier:
    def __init__(self, document: Document, facts: Facts, links: Mapping[str, ResolvedLink], serving: Serving) -> None:
        self.document = document
        self.settings = document.settings
        self.facts = facts
        self.host: HostFacts = facts.host
        self.links = links
        self.serving = serving
        self.routed = tuple(self._routed_rules())
        self._routed_names = frozenset(rule.name for rule in self.routed)

    def _routed_rules(self) -> list[Rule]:
        """The declared rules that policy routing has rules for, in order; what is beyond them is left to marks."""
        if not self.settings.by_marks:
            return self.document.routed_rules()
        own = filter(self._may_be_own, self.document.routed_rules())
        return list(own)[: layout.PASSED - layout.RULES]

    def _may_be_own(self, rule: Rule) -> bool:
        """Whether the router itself sends what it matches: a source that is none of its addresses tells that not."""
        spans = [span(item) for item in rule.source]
        if not rule.own or not all(spans):
            return rule.own
        return not spans or any(low <= own <= high for low, high in filter(None, spans) for own in self._addresses)

    @cached_property
    def _addresses(self) -> list[int]:
        found = (span(item.address) for item in self.facts.addresses)
        return [low for low, _high in filter(None, found)]

    # the firewall's part

    def classification(self) -> Classification:
        """Empty where rules are told apart by policy routing, or there is nothing to tell apart."""
        if not self.settings.by_marks or not self.links:
            return Classification()
        rules = [(rule, self._condition(rule)) for rule in self.document.rules]
        forwarded = [self._choice(rule, condition) for rule, condition in rules if rule.forwarded and condition]
        own = [self._own_choice(rule, condition) for rule, condition in rules if self._may_be_own(rule) and condition]
        forwarded += self._default()
        if not forwarded and not own:
            return Classification()
        named = {choice.chooser for choice in forwarded}
        return Classification(
            tuple(forwarded),
            tuple(own),
            tuple(self._chooser(policy) for policy in self.document.policies if policy.name in named),
            tuple(self._set(item) for item in self.document.sets),
            self._excluded(),
            self._main((*forwarded, *own)),
        )

    def _main(self, choices: Iterable[Choice]) -> int | None:
        marks = {self.document.mark_of(rule) for rule in self.document.rules if rule.target == "main"}
        return next((choice.mark for choice in choices if choice.mark in marks), None)

    def _choice(self, rule: Rule, condition: Condition) -> Choice:
        policy = self._policy(rule.policy)
        if policy is None or policy.by_routing:
            return Choice(rule.name, condition, self.document.mark_of(rule))
        return Choice(rule.name, condition, chooser=policy.name)

    def _own_choice(self, rule: Rule, condition: Condition) -> Choice:
        """What routing tells by itself is only counted; the rest goes by the multipath route of its policy."""
        mark = None if rule.name in self._routed_names else self.document.mark_of(rule)
        return Choice(rule.name, condition, mark, own=True)

    def _default(self) -> Iterator[Choice]:
        policy = self._policy(self.document.default_policy)
        if policy and not policy.by_routing:
            yield Choice("", chooser=policy.name)

    def _policy(self, name: str | None) -> Policy | None:
        return next((policy for policy in self.document.policies if policy.name == name), None)

    def _condition(self, rule: Rule) -> Condition | None:
        """None where it cannot hold, because what it names does not exist."""
        owner = self._owner(rule)
        if owner is None:
            return None
        return replace(
            owner,
            sources=_networks(rule.source),
            source_set=_set_name(rule.source),
            destinations=_networks(rule.destination),
            destination_set=_set_name(rule.destination),
            device=None if rule.device == ITSELF else rule.device,
            protocol=PROTOCOLS[rule.protocol] if rule.protocol else None,
            source_ports=rule.source_port,
            destination_ports=rule.destination_port,
            dscp=rule.dscp,
            mac=rule.mac,
            mark=rule.mark,
            times=rule.time.spans(self.host.ahead) if rule.time else (),
        )

    def _owner(self, rule: Rule) -> Condition | None:
        user, group = self._user(rule), self.host.groups.get(rule.group) if rule.group else None
        cgroup = self.host.cgroups.get(rule.cgroup) if rule.cgroup else None
        unknown = [
            named and found is None for named, found in ((rule.user, user), (rule.group, group), (rule.cgroup, cgroup))
        ]
        if any(unknown):
            return None
        return Condition(user=user, group=group, cgroup=(rule.cgroup, cgroup) if rule.cgroup and cgroup else None)

    def _user(self, rule: Rule) -> int | None:
        return self.host.users.get(rule.user) if rule.user else None

    def _set(self, item: AddressSet) -> NetworkSet:
        networks = _content(item.networks, tuple((path, self.host.files.get(path) or "") for path in item.files))
        # an ipset of networks takes none without a prefix
        return NetworkSet(item.name, HALVES if networks == (EVERYWHERE,) else networks, item.external)

    def _excluded(self) -> tuple[str, ...]:
        connected = {f"{item.peer}/32" if item.peer else item.network for item in self.facts.addresses}
        return collapsed({*connected, LINK_LOCAL, MULTICAST, BROADCAST})

    def _chooser(self, policy: Policy) -> Chooser:
        taking = self.serving.tier(policy)
        weights = self.serving.weights(policy, taking) if taking else []
        ways = tuple(Way(item.link, self._mark(item.link), weight) for item, weight in zip(taking, weights))
        declared = {member.link: self.document.weight(policy, member.link) for member in policy.members}
        tier = {taking[0].tier} if taking else set()
        homes = {item.link: declared[item.link] for item in policy.members if item.tier in tier and declared[item.link]}
        divided = buckets(homes, [way.name for way in ways]) if policy.algorithm in HASHES else []
        return Chooser(
            policy.name,
            self.settings.mark(self.document.policy_ident(policy.name)),
            # there the route chooses
            MULTIPATH if policy.follows_counts else policy.algorithm,
            ways,
            tuple((low, high, self._mark(link)) for low, high, link in divided),
            self._queue(policy),
            policy.sticky.timeout,
            policy.sticky.by,
            tuple((member.link, self._mark(member.link)) for member in policy.members) if policy.sticky else (),
        )

    def _queue(self, policy: Policy) -> int | None:
        asked = policy.algorithm == LEAST_CONNECTIONS and policy.least_connections.method == "queue"
        return QUEUES + self.document.policy_ident(policy.name) if asked else None

    def _mark(self, link: str) -> int:
        return self.settings.mark(self.document.link_ident(link))

    # the part of policy routing

    def rules(self) -> Iterator[IpRule]:
        """The declared rules, and what leads marks of policies and other targets to where they belong."""
        base = self.settings.rule_priority
        if self.settings.by_marks:
            yield from self._marked(base)
            if self.routed:
                yield IpRule(
                    base + layout.SKIP, 0, device=ITSELF, inverted=True, action="goto", target=base + layout.PASSED
                )
                yield IpRule(base + layout.PASSED, 0, action="nop")
        for position, rule in enumerate(self.routed):
            yield from self._routed(base + layout.RULES + position, rule)
        if any(rule.target == "main" for rule in self.document.rules):
            yield IpRule(base + layout.BEYOND, 0, action="nop")

    def _marked(self, base: int) -> Iterator[IpRule]:
        mask = self.settings.mark_mask
        for policy in self.document.policies:
            ident = self.document.policy_ident(policy.name)
            yield IpRule(base + layout.CHOSEN, self.settings.table(ident), mark=self.settings.mark(ident), mask=mask)
        for target in {rule.target: rule for rule in self.document.rules if rule.target}.values():
            yield replace(self._leads(base + layout.CHOSEN, target), mark=self.document.mark_of(target), mask=mask)

    def _leads(self, priority: int, rule: Rule) -> IpRule:
        """To the table of its policy or link; what is left alone goes on behind our rules, to those of others."""
        if rule.target == "main":
            return IpRule(priority, 0, action="goto", target=self.settings.rule_priority + layout.BEYOND)
        return IpRule(priority, self.settings.table(self.document.mark_of(rule) >> self.settings.mark_shift))

    def _routed(self, priority: int, rule: Rule) -> Iterator[IpRule]:
        """One for each combination of what the rule lists; none where the user it names does not exist."""
        user = self._user(rule)
        if rule.user and user is None:
            return
        # what is forwarded counts as root's (ip_route_input_slow), so a user alone would not tell the router's own
        own = self.settings.by_marks or user is not None
        alike = replace(
            self._leads(priority, rule),
            device=ITSELF if own else rule.device,
            protocol=PROTOCOLS[rule.protocol] if rule.protocol else None,
            user=None if user is None else (user, user),
            mark=rule.mark[0] if rule.mark else None,
            mask=rule.mark[1] if rule.mark else None,
        )
        lists = [
            listed or (None,) for listed in (rule.source, rule.destination, rule.source_port, rule.destination_port)
        ]
        for source, destination, source_port, destination_port in product(*lists):
            yield replace(
                alike,
                source=source,  # type: ignore[arg-type]
                destination=destination,  # type: ignore[arg-type]
                source_port=source_port,  # type: ignore[arg-type]
                destination_port=destination_port,  # type: ignore[arg-type]
            )

    def routes(self) -> Iterator[Route]:
        """What refuses connections that a rule declares unreachable."""
        for rule in {rule.target: rule for rule in self.document.rules if rule.target == "unreachable"}.values():
            table = self.settings.table(self.document.mark_of(rule) >> self.settings.mark_shift)
            yield Route(table, metric=layout.LAST_RESORT, kind="unreachable")

    # remarks

    def warnings(self) -> Iterator[str]:
        yield from _covered(self.document.rules)
        for rule in self.document.rules:
            if rule.device not in (None, ITSELF, *self.facts.devices):
                yield f"rule {rule.name}: there is no device {rule.device}, so it matches nothing until there is one"
            found = (
                ("user", rule.user, self.host.users),
                ("group", rule.group, self.host.groups),
                ("cgroup", rule.cgroup, self.host.cgroups),
            )
            for kind, name, known in found:
                if name and known.get(name) is None:
                    yield f"rule {rule.name}: there is no {kind} {name}, so it matches nothing until a run finds one"
        for item in self.document.sets:
            for path in item.files:
                yield from self._remarks(item, path)
        for policy in self.document.policies:
            if policy.algorithm == PER_PACKET:
                yield (
                    f"policy {policy.name}: packets leave over its links in turn, with the source address they have, "
                    "also where source NAT is declared for a link, and overtake each other; only for links of one "
                    "provider that takes the same addresses on each of them"
                )

    def _remarks(self, item: AddressSet, path: str) -> Iterator[str]:
        text = self.host.files.get(path)
        if text is None:
            yield f"set {item.name}: {path} cannot be read, and counts as empty"
        else:
            yield from (f"set {item.name}: {problem}; the line is left out" for problem in read_networks(path, text)[1])


def check_files(document: Document, facts: Facts) -> None:
    """Refuse files of sets that cannot be read, here or by the prober: what they list would go another way."""
    for item in document.sets:
        for path in item.files:
            option, why = f"sets.{item.name}.files", None
            if facts.host.files.get(path) is None:
                why = "cannot be read"
            elif path in facts.host.hidden:
                why = "cannot be read by the prober, which runs as a user of its own"
            if why:
                remedy = "Put it into /etc/mwan, with mode 0644, or elsewhere where every user can read it"
                raise InputError(option, path, why, remedy)


@lru_cache(maxsize=8)
def _covered(rules: tuple[Rule, ...]) -> tuple[str, ...]:
    """One remark for each rule that takes all of later ones; remembered, as no change of health alters it."""
    by_earlier: dict[str, list[str]] = {}
    for rule, earlier in covered(rules):
        by_earlier.setdefault(earlier.name, []).append(rule.name)
    return tuple(
        (f"rule {never[0]} never matches" if len(never) == 1 else f"rules {', '.join(never)} never match")
        + f": {earlier}, which comes before, takes all that is asked for there"
        for earlier, never in by_earlier.items()
    )


def queues(firewall: Firewall) -> str | None:
    """What the helper of least_connections reads of the queues it is asked by (balance/roster.py); None without any."""
    asked = [chooser for chooser in firewall.classification.choosers if chooser.queue is not None]
    entries = [
        {
            "queue": chooser.queue,
            "policy": chooser.name,
            "links": [{"name": way.name, "mark": f"0x{way.mark:x}", "weight": way.weight} for way in chooser.ways],
        }
        for chooser in asked
    ]
    data = {"schema": 1, "mask": f"0x{firewall.mask:x}", "queues": entries}
    return json.dumps(data, indent=2) + "\n" if entries else None


@lru_cache(maxsize=64)
def _content(listed: tuple[str, ...], files: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    """What a set holds; remembered, because each run asks for it again and again."""
    read = [network for path, text in files for network in read_networks(path, text)[0]]
    return collapsed([*listed, *read])


def _set_name(listed: tuple[str, ...]) -> str | None:
    return next((item[len(SET) :] for item in listed if item.startswith(SET)), None)


def _networks(listed: tuple[str, ...]) -> tuple[str, ...]:
    return () if _set_name(listed) else listed
