# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what is declared, what is there, and how the links are, to the kernel state it takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from . import layout
from .classify import Classifier
from .document import Document, target_id
from .errors import InputError
from .firewall.model import Firewall, FirewallLink, SourceNat
from .health import Health
from .inbound import Inbound
from .kernel import MAIN, Facts, IpRule, Nexthop, Route, State
from .model import AUTO, MASQUERADE, RP_MODES, Member, Policy, Settings
from .released import Release, own_resets, releases
from .resolve import ResolvedLink, resolve
from .rules import Rule
from .serving import Serving


@dataclass(frozen=True)
class Desired:
    """`state` lacks the firewall's text, which only a backend can write from `firewall`."""

    state: State
    firewall: Firewall
    links: dict[str, ResolvedLink]
    warnings: tuple[str, ...]
    releases: dict[str, Release]
    # the declared rules that policy routing has rules for, in the order of their priorities
    routed: tuple[Rule, ...] = ()


def compile_state(document: Document, facts: Facts, health: Health, realms: bool = False) -> Desired:
    """The whole kernel state for `document`.

    `realms` puts a realm on nexthops that share a device (iptables needs it).
    """
    compiler = _Compiler(document, facts, health, realms)
    given_up = releases(document, health, compiler.serving)
    firewall = compiler.firewall().resetting(own_resets(document, given_up))
    return Desired(
        compiler.state(), firewall, compiler.links, tuple(compiler.warnings()), given_up, compiler.classifier.routed
    )


class _Compiler:
    def __init__(self, document: Document, facts: Facts, health: Health, realms: bool) -> None:
        self.document = document
        self.settings: Settings = document.settings
        self.facts = facts
        self.health = health
        self.realms = realms
        self.links = resolve(document, facts)
        self.serving = Serving(document, health, self.links)
        self.classifier = Classifier(document, facts, self.links, self.serving)
        self.inbound = Inbound(document, facts, self.links)

    def state(self) -> State:
        rules = frozenset(self._rules()) if self.links else frozenset()
        return State(
            routes=frozenset(
                (*self._link_routes(), *self._policy_routes(), *self.classifier.routes(), *self._blackholes())
            ),
            rules=rules,
            sysctls=self._sysctls(),
            files=self._files(),
        )

    # routes

    def _link_routes(self) -> Iterator[Route]:
        for link in self.links.values():
            table = self.settings.table(link.ident)
            if not link.pending:
                yield Route(table, nexthops=(self._nexthop(link),), source=link.address)
            yield Route(table, kind="prohibit", metric=layout.PROHIBIT)

    def _nexthop(self, link: ResolvedLink, weight: int = 1) -> Nexthop:
        return Nexthop(link.device, link.gateway, weight, link.onlink, self._realm(link))

    def _realm(self, link: ResolvedLink) -> int | None:
        return link.ident if self.realms and self.document.shares_device(link.link) else None

    def _policy_routes(self) -> Iterator[Route]:
        for policy in self.document.policies:
            table = self.settings.table(self.document.policy_ident(policy.name))
            members = self.serving.members(policy)
            yield from self._tiers(policy, table, members)
            for member in members:
                link = self.links[member.link]
                metric = layout.FALLBACK * member.tier + link.ident
                yield Route(table, metric=metric, nexthops=(self._nexthop(link),), source=link.address)
            if policy.last_resort != "main":
                yield Route(table, metric=layout.LAST_RESORT, kind=policy.last_resort)

    def _tiers(self, policy: Policy, table: int, members: list[Member]) -> Iterator[Route]:
        for tier in sorted({member.tier for member in members}):
            serving = [member for member in members if member.tier == tier]
            if len(serving) == 1:
                link = self.links[serving[0].link]
                yield Route(table, metric=tier, nexthops=(self._nexthop(link),), source=link.address)
            else:
                links = [self.links[member.link] for member in serving]
                hops = tuple(map(self._nexthop, links, self.serving.weights(policy, serving)))
                yield Route(table, metric=tier, nexthops=hops)

    def _blackholes(self) -> Iterator[Route]:
        for prefix in self.document.rp_filter.blackhole:
            yield Route(MAIN, prefix, kind="blackhole")

    # rules

    def _rules(self) -> Iterator[IpRule]:
        base = self.settings.rule_priority
        yield IpRule(base + layout.SUPPRESS, MAIN, suppress_default=True)
        for link in self.links.values():
            yield IpRule(
                base + layout.MARK,
                self.settings.table(link.ident),
                mark=self.settings.mark(link.ident),
                mask=self.settings.mark_mask,
            )
        for address, table in self._sources():
            yield IpRule(base + layout.SOURCE, table, source=f"{address}/32")
        yield from self._bound(base)
        yield from self.classifier.rules()
        if self.document.default_policy:
            ident = self.document.policy_ident(self.document.default_policy)
            yield IpRule(base + layout.DEFAULT_POLICY, self.settings.table(ident))

    def _bound(self, base: int) -> Iterator[IpRule]:
        """What is bound to a link's device goes by that link.

        Past the marks where the firewall gives own packets any: that of another link leads into its table, which has
        no way by this device and refuses, and the kernel would take the destination to be on the device's network
        (ip_route_output_key_hash_rcu). Main comes first all the same.
        """
        exclusive = [link for link in self.links.values() if not self.document.shares_device(link.link)]
        for link in exclusive:
            yield IpRule(base + layout.SOURCE, self.settings.table(link.ident), out_device=link.device)
        if not self.classifier.classification().marks_own():
            return
        jump = IpRule(base + layout.SUPPRESS, 0, action="goto", target=base + layout.BOUND)
        yield from (replace(jump, out_device=link.device) for link in exclusive)
        yield IpRule(base + layout.BOUND, MAIN, suppress_default=True)

    def _sources(self) -> Iterator[tuple[str, int]]:
        """The table that packets from each of our addresses go by.

        An address of links goes by the first of them, one that takes new connections before others. The kernel asks
        again with the address it has chosen (ip_route_connect), so such a rule would take all of the router's own
        connections to that one: where the default policy spreads over these links and no others, there is none.
        An uplink that is no link of ours answers by the main table, as it did before.
        """
        default = [policy for policy in self.document.policies if policy.name == self.document.default_policy]
        spread = {member.link for policy in default for member in self.serving.members(policy)}
        for address, links in self._holders().items():
            if len(spread) < 2 or not spread <= {link.name for link in links}:
                yield address, self.settings.table(links[0].ident)
        for device in self._foreign_uplinks():
            yield from ((item.address, MAIN) for item in self.facts.addresses_of(device))

    def _holders(self) -> dict[str, list[ResolvedLink]]:
        """The links by source address; a link that has its device to itself holds all of the device's addresses."""
        holders: dict[str, list[ResolvedLink]] = {}
        ready = [link for link in self.links.values() if link.address and not link.pending]
        for link in sorted(ready, key=lambda item: (self.serving.rank(item.name), item.ident)):
            alone = not self.document.shares_device(link.link)
            others = [item.address for item in self.facts.addresses_of(link.device) if alone]
            for address in dict.fromkeys([str(link.address), *others]):
                holders.setdefault(address, []).append(link)
        return holders

    def _foreign_uplinks(self) -> list[str]:
        """Devices with a default route of others that are no link, once the default policy takes what used it."""
        if not self.document.default_policy:
            return []
        return sorted(self.facts.defaults.keys() - {link.device for link in self.links.values()})

    # sysctls and files

    def _sysctls(self) -> dict[str, str]:
        return {key: value for key, value in self._all_sysctls().items() if self._exists(key)}

    def _exists(self, key: str) -> bool:
        device = conf_device(key)
        return device in (None, "all", "default") or device in self.facts.devices

    def _all_sysctls(self) -> dict[str, str]:
        return {**self._forwarding_sysctls(), **self._rp_filter_sysctls()}

    def _forwarding_sysctls(self) -> dict[str, str]:
        """What makes the kernel spread and forward: forwarding comes with the first policy, when source NAT is there.

        fib_multipath_use_neigh and ignore_routes_with_linkdown make the kernel itself skip dead nexthops
        (ip-sysctl.rst).
        """
        wanted = {f"net/ipv4/conf/{link.device}/ignore_routes_with_linkdown": "1" for link in self.links.values()}
        if self.document.policies:
            wanted["net/ipv4/fib_multipath_hash_policy"] = str(Settings.HASHES[self.settings.multipath_hash])
            wanted["net/ipv4/fib_multipath_use_neigh"] = "1"
            # the router's own errors and resets leave by the link of the packet they answer
            wanted["net/ipv4/fwmark_reflect"] = "1"
        if self.document.policies and self.settings.ip_forward:
            wanted["net/ipv4/ip_forward"] = "1"
        return wanted

    def _rp_filter_sysctls(self) -> dict[str, str]:
        declared = self.document.rp_filter
        if not declared.declared:
            return {}
        default = declared.default or declared.mode
        modes = {"all": declared.all or "none", **({"default": default} if default else {})}
        if declared.mode:
            modes.update(dict.fromkeys(self.facts.devices, declared.mode))
        modes.update(declared.devices)
        wanted = {f"net/ipv4/conf/{name}/rp_filter": str(RP_MODES[mode]) for name, mode in modes.items()}
        if declared.src_valid_mark:
            wanted["net/ipv4/conf/all/src_valid_mark"] = "1"
        return wanted

    def _files(self) -> dict[str, str | None]:
        texts: dict[str, str | None] = dict.fromkeys(layout.FILES)
        if self.links:
            texts[layout.RT_TABLES] = _lines(
                f"{number} {name}" for number, name in sorted(table_names(self.document).items())
            )
            texts[layout.RT_PROTOS] = _lines([f"{layout.PROTOCOL} {layout.PROTOCOL_NAME}"])
        persistent = self._persistent_sysctls()
        if persistent:
            texts[layout.SYSCTL_D] = _lines(persistent)
        return texts

    def _persistent_sysctls(self) -> list[str]:
        """What sysctl.d sets at boot.

        Devices that come and go are covered by a glob, so the file does not follow them. Forwarding is left to the
        restore, which switches it on when source NAT is in place.
        """
        declared = self.document.rp_filter
        named = {"all", "default"} | {device for device, _mode in declared.devices}
        lines = [
            "{} = {}".format(*item)
            for item in sorted(self._all_sysctls().items())
            if item[0] != "net/ipv4/ip_forward"
            and (not item[0].endswith("/rp_filter") or conf_device(item[0]) in named)
        ]
        if declared.mode:
            # A glob never touches a key which the same file sets by its full name (sysctl.d(5)).
            lines.append(f"net/ipv4/conf/*/rp_filter = {RP_MODES[declared.mode]}")
        return lines

    # firewall

    def firewall(self) -> Firewall:
        own, classification = self._own_addresses(), self.classifier.classification()
        mends = self._mends(own) if classification.marks_own() else ()
        return Firewall(
            self.settings.mark_mask,
            tuple(self._firewall_link(link, own) for link in self.links.values()),
            (*mends, *self._source_nat()),
            classification=classification,
            dnat=self.inbound.destination_nat(),
        )

    def _mends(self, own: Mapping[str, tuple[str, ...]]) -> Iterator[SourceNat]:
        """For what the router itself sends: its source was chosen before a mark led it to another link.

        It may be the address of an uplink of others, where the main table leads.
        """
        devices = {link.device for link in self.links.values()}
        uplinks = [item for item in self.facts.addresses if item.device in self.facts.defaults.keys() - devices]
        chosen = {**own, "": tuple(item.address for item in uplinks)}
        for link in self.links.values():
            others = tuple(f"{item}/32" for name, listed in chosen.items() if name != link.name for item in listed)
            if link.address and not link.pending and others:
                yield SourceNat(self.settings.mark(link.ident), link.device, others, link.address)

    def _firewall_link(self, link: ResolvedLink, own: Mapping[str, tuple[str, ...]]) -> FirewallLink:
        shared = self.document.shares_device(link.link)
        gateway = link.link.gateway if shared else None
        return FirewallLink(
            name=link.name,
            mark=self.settings.mark(link.ident),
            device=link.device,
            gateway=gateway,
            mac=self.facts.neighbours.get((link.device, gateway)) if gateway else None,
            realm=self._realm(link),
            addresses=own.get(link.name, ()),
            networks=tuple(item.network for item in self.facts.addresses_of(link.device) if not item.peer),
        )

    def _own_addresses(self) -> dict[str, tuple[str, ...]]:
        """The addresses that no two links hold, by link."""
        own: dict[str, tuple[str, ...]] = {}
        for address, links in self._holders().items():
            if len(links) == 1:
                own[links[0].name] = (*own.get(links[0].name, ()), address)
        return own

    def _source_nat(self) -> Iterator[SourceNat]:
        for snat in self.document.snat:
            link = self.links[snat.link]
            to = {AUTO: link.address, MASQUERADE: None}.get(snat.to, snat.to)
            if to or snat.to == MASQUERADE:
                yield SourceNat(self.settings.mark(link.ident), link.device, snat.sources, to)

    # remarks

    def warnings(self) -> Iterator[str]:
        yield from self.classifier.warnings()
        yield from self.inbound.warnings()
        for device in self._foreign_uplinks():
            yield (
                f"{device} has a default route in the main table and is no link: the router itself answers over it, "
                "but what it forwards from there is answered over the links; declare it, with weight 0 if need be"
            )
        for link in self.links.values():
            if link.pending:
                yield f"link {link.name} is declared but not in service: {link.pending}; a later run takes it in"
            elif link.onlink:
                where = f"is in no network of {link.device}; it is reached onlink"
                yield f"link {link.name}: gateway {link.gateway} {where}"
        for entry in self.firewall().shared():
            if entry.mac is None:
                yield (
                    f"link {entry.name}: the link-layer address of its gateway {entry.gateway} is not known yet, "
                    "so connections that come in through it cannot be told from those of the other links on "
                    f"{entry.device}; the next run looks again"
                )


def _lines(lines: Iterable[str]) -> str:
    return "# Written by multiwan.linux; changes are overwritten.\n" + "".join(line + "\n" for line in lines)


def conf_device(key: str) -> str | None:
    """The device a net/ipv4/conf sysctl belongs to."""
    parts = key.split("/")
    return parts[3] if parts[:3] == ["net", "ipv4", "conf"] else None


def table_names(document: Document) -> dict[int, str]:
    """Table number -> name, as written to rt_tables.d."""
    return {
        document.settings.table(number): layout.TABLE_PREFIX + key.partition(":")[2]
        for key, number in document.ids.items()
        if key != target_id("main")
    }


def check_default_kept(desired: State, observed: State, document: Document) -> None:
    """Refuse to take over new connections for the first time with a default policy that has no way out.

    A router whose devices are misnamed would cut itself off. Once the default policy serves, an outage of all
    links is a state like any other.
    """
    priority = document.settings.rule_priority + layout.DEFAULT_POLICY
    if any(rule.priority == priority for rule in observed.rules):
        return
    tables = {rule.table for rule in desired.rules if rule.priority == priority}
    ways = [route for route in desired.routes if route.table in tables and route.kind == "unicast"]
    last_resort = [route for route in desired.routes if route.table in tables and route.kind != "unicast"]
    if tables and last_resort and not ways:
        raise InputError(
            "default_policy",
            document.default_policy,
            "has no link in service, so the router would lose its way out",
            "Bring a member link's device and address up first, or set last_resort: main on the policy",
        )
