# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The desired state of one router: everything declared, the ids given to names, and what we replaced of the host's.

A document is plain data at its edges (`parse`, `dump`; JSON on the router) and value objects inside. Changing it
returns a new one; `check` holds for every document that is planned or stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from . import ids, layout, values
from .errors import InputError
from .forwards import Dnat
from .forwards import check as check_forwards
from .model import FIREWALLS, Link, Policy, RpFilter, Settings, Snat
from .reactions import Failback, OnDown
from .rules import AddressSet, Rule
from .watch.settings import ProbeSettings

SCHEMA = 1
# routing rules for what one declared rule lists: every one of them is asked in turn
MOST_COMBINED = 64
KEYS = (
    *("schema", "settings", "links", "policies", "default_policy", "rules", "sets", "snat", "dnat", "rp_filter"),
    *("ids", "originals", "backend"),
)

Item = TypeVar("Item", Link, Policy, Rule, AddressSet, Snat, Dnat)


@dataclass(frozen=True)
class Document:
    settings: Settings = field(default_factory=Settings)
    links: tuple[Link, ...] = ()
    policies: tuple[Policy, ...] = ()
    default_policy: str | None = None
    rules: tuple[Rule, ...] = ()
    sets: tuple[AddressSet, ...] = ()
    snat: tuple[Snat, ...] = ()
    dnat: tuple[Dnat, ...] = ()
    rp_filter: RpFilter = field(default_factory=RpFilter)
    ids: Mapping[str, int] = field(default_factory=dict)
    # sysctl key -> the host's value before we first set it; given back when we no longer need the key
    originals: Mapping[str, str] = field(default_factory=dict)
    # the backend that carries our rules on this router, once "auto" was decided
    backend: str | None = None

    @classmethod
    def parse(cls, data: Mapping[str, Any], option: str = "document") -> Document:
        values.only_keys(option, data, KEYS)
        if data.get("schema", SCHEMA) != SCHEMA:
            raise InputError(
                option + ".schema",
                data.get("schema"),
                f"is not schema {SCHEMA}",
                "Use the release that wrote it, or a newer one",
            )
        return cls(
            settings=Settings.parse("settings", data.get("settings") or {}),
            links=parse_list(Link, "links", data.get("links")),
            policies=parse_list(Policy, "policies", data.get("policies")),
            default_policy=data.get("default_policy"),
            rules=parse_list(Rule, "rules", data.get("rules")),
            sets=parse_list(AddressSet, "sets", data.get("sets")),
            snat=parse_list(Snat, "snat", data.get("snat")),
            dnat=parse_list(Dnat, "dnat", data.get("dnat")),
            rp_filter=RpFilter.parse("rp_filter", data.get("rp_filter") or {}),
            ids=_numbers("ids", data.get("ids") or {}),
            originals=_sysctls("originals", data.get("originals") or {}),
            backend=values.choice("backend", data["backend"], FIREWALLS) if data.get("backend") else None,
        ).check()

    def dump(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "settings": self.settings.dump(),
            "links": [item.dump() for item in self.links],
            "policies": [item.dump() for item in self.policies],
            "default_policy": self.default_policy,
            "rules": [item.dump() for item in self.rules],
            "sets": [item.dump() for item in self.sets],
            "snat": [item.dump() for item in self.snat],
            "dnat": [item.dump() for item in self.dnat],
            "rp_filter": self.rp_filter.dump(),
            "ids": dict(self.ids),
            "originals": dict(self.originals),
            "backend": self.backend,
        }

    def check(self) -> Document:
        """Return this document with ids for every name; raises InputError where its parts do not fit together."""
        values.unique("rules", (item.name for item in self.rules))
        values.unique("sets", (item.name for item in self.sets))
        self._check_marks()
        self._check_room()
        values.unique("snat", ("{} from {}".format(item.link, ", ".join(item.sources) or "all") for item in self.snat))
        # routing tables are named after both
        values.unique(
            "links and policies", [link.name for link in self.links] + [policy.name for policy in self.policies]
        )
        self._check_references()
        self._check_forwards()
        self._check_links()
        self._check_weights()
        self._check_reactions()
        self.probe_settings()
        return replace(self, ids=ids.allocate(self.ids, self._names(), self.settings.capacity, "mark_mask"))

    def _names(self) -> list[str]:
        targets = dict.fromkeys(target_id(rule.target) for rule in self.rules if rule.target)
        return [
            *(link_id(link.name) for link in self.links),
            *(policy_id(policy.name) for policy in self.policies),
            *targets,
        ]

    def _check_room(self) -> None:
        """By marks there is no limit: what policy routing has no room for, marks tell."""
        if self.settings.by_marks:
            return
        room, number = layout.PASSED - layout.RULES, len(self.rules)
        if number > room:
            remedy = f"Give {room} at most, one for each rule priority, or choose classify: marks"
            raise InputError("rules", number, "are too many for policy routing", remedy)
        for rule in self.rules:
            if rule.combinations > MOST_COMBINED:
                problem = "is the number of routing rules that its lists come to"
                remedy = f"Keep to {MOST_COMBINED}, or choose classify: marks"
                raise InputError(f"rules.{rule.name}", rule.combinations, problem, remedy)

    def _check_marks(self) -> None:
        """Refuse what policy routing cannot do alone, and marks of others that are ours."""
        for rule in self.rules:
            if rule.mark and rule.mark[1] & self.settings.mark_mask:
                shared = f"shares bits with mark_mask 0x{self.settings.mark_mask:x}, which are ours"
                remedy = (
                    "Give only the bits that the other software uses, such as 0x10000/0xff0000, or another mark_mask"
                )
                raise InputError(f"rules.{rule.name}.mark", rule.dump()["mark"], shared, remedy)
        if self.settings.by_marks:
            return
        remedy = "Choose classify: marks"
        for rule in self.rules:
            for key in rule.needs_marks():
                problem = "cannot be told by policy routing alone"
                raise InputError(f"rules.{rule.name}.{key}", rule.dump()[key], problem, remedy)
        for policy in self.policies:
            if not policy.by_routing:
                key = "sticky" if policy.sticky else "algorithm"
                problem = "cannot be had of policy routing alone"
                raise InputError(f"policies.{policy.name}.{key}", policy.dump()[key], problem, remedy)

    def _check_references(self) -> None:
        links = {link.name for link in self.links}
        policies = {policy.name for policy in self.policies}
        for policy in self.policies:
            for member in policy.members:
                _known(f"policies.{policy.name}.members.link", member.link, links, "link")
        for rule in self.rules:
            if rule.link:
                _known(f"rules.{rule.name}.link", rule.link, links, "link")
            if rule.policy:
                _known(f"rules.{rule.name}.policy", rule.policy, policies, "policy")
            for name in rule.sets:
                key = "source" if rule.source == ("@" + name,) else "destination"
                _known(f"rules.{rule.name}.{key}", name, {item.name for item in self.sets}, "set")
        for snat in self.snat:
            _known("snat.link", snat.link, links, "link")
        if self.default_policy is not None:
            _known("default_policy", self.default_policy, policies, "policy")

    def _check_forwards(self) -> None:
        values.unique("dnat", (forward.name for forward in self.dnat))
        for forward in self.dnat:
            if forward.link:
                _known(f"dnat.{forward.name}.link", forward.link, {link.name for link in self.links}, "link")
        check_forwards(self.dnat, self.links)

    def _check_links(self) -> None:
        """Links on one device are told apart by their gateways; only one of them may do without a fixed one."""
        seen: dict[tuple[str, str | None], str] = {}
        for link in self.links:
            others = [other.name for other in self.links if other.device == link.device and other is not link]
            if others and link.gateway in (None, "auto"):
                raise InputError(
                    f"links.{link.name}.gateway",
                    link.gateway,
                    "does not tell it from {} on the same device {}".format(", ".join(others), link.device),
                    "Give each link on a shared device the address of its gateway",
                )
            twin = seen.setdefault((link.device, link.gateway), link.name)
            if twin != link.name:
                raise InputError(
                    f"links.{link.name}.gateway",
                    link.gateway,
                    f"is also the gateway of {twin} on {link.device}",
                    "Two links are two ways: give each its own device or gateway; to rename one, take it away first",
                )

    def _check_weights(self) -> None:
        for policy in self.policies:
            if not any(self.weight(policy, member.link) for member in policy.members):
                raise InputError(
                    f"policies.{policy.name}.members",
                    [member.link for member in policy.members],
                    "all have weight 0",
                    f"Give at least one member a weight from 1 to {values.MAX_WEIGHT}",
                )

    def _check_reactions(self) -> None:
        """Connections carry the mark of their link and none of a policy, so one link has one answer."""
        for link in self.links:
            sharing = self._policies_with(link.name)
            for other in sharing[1:]:
                _agree(link.name, sharing[0], other)

    def _policies_with(self, link: str) -> list[Policy]:
        return [policy for policy in self.policies if any(member.link == link for member in policy.members)]

    def routed_rules(self) -> list[Rule]:
        """The rules that policy routing has a rule for."""
        return [rule for rule in self.rules if self.is_routed(rule)]

    def is_routed(self, rule: Rule) -> bool:
        """By marks, only rules for the router's own traffic are, and of those what policy routing can tell.

        Its source address is chosen when it is first routed, so what is known by then decides best there.
        """
        if not self.settings.by_marks:
            return True
        return rule.own and not rule.needs_marks() and rule.combinations <= MOST_COMBINED

    def probe_settings(self) -> dict[str, ProbeSettings]:
        """How each link is watched, by name: what it declares, over what all do, over the defaults.

        Raises InputError where that does not fit together.
        """
        general = self.settings.probe
        general.settings("settings.probe")
        return {link.name: link.probe.over(general).settings(f"links.{link.name}.probe") for link in self.links}

    def on_down(self, link: str) -> OnDown:
        """What becomes of a link's connections when it goes down."""
        policies = self._policies_with(link)
        return policies[0].on_down if policies else OnDown()

    def failback(self, link: str) -> Failback | None:
        """What becomes of a link's connections when better links are back.

        None where that cannot be said: those that a rule sends to this very link belong there, and look the same.
        """
        policies = self._policies_with(link)
        named = any(rule.link == link for rule in self.rules)
        return policies[0].failback if policies and not named else None

    def weight(self, policy: Policy, link: str) -> int:
        """The weight a member has in a policy: its own, or else the link's."""
        own = next(member.weight for member in policy.members if member.link == link)
        return self.link(link).weight if own is None else own

    def link(self, name: str) -> Link:
        return next(link for link in self.links if link.name == name)

    def link_ident(self, name: str) -> int:
        return self.ids[link_id(name)]

    def policy_ident(self, name: str) -> int:
        return self.ids[policy_id(name)]

    def mark_of(self, rule: Rule) -> int:
        """The packet mark of what a rule matches: of its policy, its link, or what else it names."""
        if rule.target:
            return self.settings.mark(self.ids[target_id(rule.target)])
        ident = self.policy_ident(rule.policy) if rule.policy else self.link_ident(str(rule.link))
        return self.settings.mark(ident)

    def shares_device(self, link: Link) -> bool:
        return any(other.device == link.device and other.name != link.name for other in self.links)


def _numbers(option: str, data: Any) -> dict[str, int]:
    listed = values.only_keys(option, data, data)
    return {key: values.integer(f"{option}.{key}", number, 1, 0xFFFFFFFF) for key, number in listed.items()}


def _sysctls(option: str, data: Any) -> dict[str, str]:
    """They are written as they stand, so none may lead out of the directory ours are in."""
    for key in values.only_keys(option, data, data):
        if not key.startswith("net/ipv4/") or ".." in key.split("/"):
            raise InputError(
                f"{option}.{key}", data[key], "is not an IPv4 sysctl", "Take it out of the stored document"
            )
    return {key: str(value) for key, value in data.items()}


def link_id(name: str) -> str:
    return "link:" + name


def policy_id(name: str) -> str:
    return "policy:" + name


def target_id(name: str) -> str:
    return "target:" + name


def _known(option: str, name: str, names: set[str], kind: str) -> None:
    if name not in names:
        remedy = "Known are: {}".format(", ".join(sorted(names))) if names else f"No {kind} is declared yet"
        raise InputError(option, name, f"is not a declared {kind}", remedy + "; declare it first, or take it out here")


def _agree(link: str, first: Policy, other: Policy) -> None:
    for key in ("on_down", "failback"):
        if getattr(first, key) != getattr(other, key):
            raise InputError(
                f"policies.{other.name}.{key}",
                getattr(other, key).dump(),
                f"is not that of policy {first.name}, and link {link} is in both",
                f"Connections carry the mark of their link only: give both policies the same {key}, "
                f"or take {link} out of one of them",
            )


def parse_list(kind: type[Item], option: str, data: Iterable[Any] | None) -> tuple[Item, ...]:
    return tuple(kind.parse(f"{option}[{index}]", item) for index, item in enumerate(data or ()))


def merge(current: Sequence[Item], listed: Sequence[Item], purge: bool) -> tuple[Item, ...]:
    """The listed objects alone with `purge`; else each in the place of one it replaces, in their order, new ones last.

    So two tasks that list one object each do not take turns in moving theirs to the front.
    """
    if purge:
        return tuple(listed)
    keys = {item.key for item in listed}
    coming = iter(listed)
    places = tuple(next(coming) if item.key in keys else item for item in current)
    return places + tuple(coming)


def without(current: Sequence[Item], gone: Iterable[Any]) -> tuple[Item, ...]:
    """The current objects whose key is not among `gone`."""
    keys = set(gone)
    return tuple(item for item in current if item.key not in keys)
