# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The x_tables rules that make up a `Firewall`, as values, and their text.

Pure; `iptables.py` brings them into the kernel.

Only packets of connections that have no pin yet reach the linear chains (arrive, save, choose), so the cost of a packet
of an established connection does not grow with the number of links, unless clients keep to them (sticky).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from . import iptables_choices, iptables_dnat, iptables_sets
from .choices import Classification
from .model import Firewall, FirewallLink, Reset, SourceNat
from .xtables import Extension, Rule, connmark, set_connmark

PREFIX = "MWAN_"

# The rule lists are linear and CONNMARK is not a terminal target, hence the order of chains here and of rules below.
CHAINS: dict[str, tuple[str, ...]] = {
    "mangle": ("MWAN_PREROUTING", "MWAN_ARRIVE", "MWAN_OUTPUT", "MWAN_POSTROUTING", "MWAN_UNKNOWN", "MWAN_SAVE"),
    "nat": ("MWAN_SNAT", "MWAN_DNAT", "MWAN_HAIRPIN"),
    # only here can be answered with a reset
    "filter": ("MWAN_FORWARD", "MWAN_OUTPUT"),
}
JUMPS: dict[str, tuple[tuple[str, str], ...]] = {
    "mangle": (
        ("PREROUTING", "MWAN_PREROUTING"),
        ("OUTPUT", "MWAN_OUTPUT"),
        ("POSTROUTING", "MWAN_POSTROUTING"),
    ),
    "nat": (("POSTROUTING", "MWAN_SNAT"), ("PREROUTING", "MWAN_DNAT"), ("OUTPUT", "MWAN_HAIRPIN")),
    "filter": (("FORWARD", "MWAN_FORWARD"), ("OUTPUT", "MWAN_OUTPUT")),
}


def table_rules(firewall: Firewall) -> dict[str, tuple[Rule, ...]]:
    """Return the rules of each table; a table that needs none of ours has an empty tuple."""
    if not firewall:
        return dict.fromkeys(CHAINS, ())
    return {
        "mangle": tuple(_mangle(firewall)),
        "nat": (*iptables_dnat.destinations(firewall), *iptables_dnat.sources(firewall), *_snat(firewall)),
        "filter": tuple(_resets(firewall)),
    }


def render(firewall: Firewall) -> str:
    """Return text in the form of iptables-save, which `iptables-restore --noflush` would accept; '' for none.

    Sets come before it, in the form of `ipset save`, and control groups with their numbers: one made anew has the same
    path, but the rules must be loaded again.
    """
    if not firewall:
        return ""
    classification = firewall.classification
    lines = [*iptables_sets.set_lines(iptables_sets.sets(classification)), *_groups(classification)]
    tables = (_table_text(table, rules) for table, rules in table_rules(firewall).items() if rules)
    return "".join([*(line + "\n" for line in lines), *tables])


def _groups(classification: Classification) -> list[str]:
    found = {choice.condition.cgroup for choice in classification.own if choice.condition.cgroup}
    return ["# {} is {}".format(*group) for group in sorted(found)]


def chains(table: str, rules: Iterable[Rule]) -> tuple[str, ...]:
    """All chains that are ours with these rules."""
    named = (name for rule in rules for name in (rule.chain, rule.target.name) if name.startswith(PREFIX))
    return tuple(dict.fromkeys((*CHAINS[table], *named)))


def _mangle(firewall: Firewall) -> Iterator[Rule]:
    unpinned = connmark(0, firewall.mask)
    pinned = connmark(0, firewall.mask, invert=True)
    mask = hex(firewall.mask)
    restore = Extension("CONNMARK", (("restore-mark", ""), ("nfmask", mask), ("ctmask", mask)))
    yield Rule("MWAN_PREROUTING", Extension("MWAN_ARRIVE"), (unpinned,))
    to_be_reset = list(_forwarded_to_be_reset(firewall, "MWAN_PREROUTING", Extension("RETURN")))
    yield from iptables_choices.again(firewall, to_be_reset)
    yield from to_be_reset
    # Packets that arrive from a link are marked too: with src_valid_mark a strict reverse path filter then looks
    # into the table of that link and accepts them.
    yield Rule("MWAN_PREROUTING", restore, (pinned,))
    yield from iptables_choices.prerouting(firewall)
    yield from _arrive(firewall)
    yield from _own_to_be_reset(firewall, "MWAN_OUTPUT", Extension("RETURN"))
    # Mangle OUTPUT routes a packet again by itself when its mark has changed.
    yield Rule("MWAN_OUTPUT", restore, (pinned,))
    yield from iptables_choices.output(firewall)
    yield Rule("MWAN_POSTROUTING", Extension("MWAN_UNKNOWN"), (iptables_choices.NEW, pinned))
    yield Rule("MWAN_POSTROUTING", Extension("MWAN_SAVE"), (iptables_choices.NEW, unpinned))
    yield from iptables_choices.postrouting(firewall)
    yield from _unknown(firewall)
    yield from _save(firewall)
    yield from iptables_choices.saved(firewall)
    yield from iptables_choices.chains(firewall)


def _arrive(firewall: Firewall) -> Iterator[Rule]:
    """CONNMARK goes on to the next rule, so what is pinned by its address leaves before the devices.

    What came through an IPsec tunnel is seen a second time, as if the device that carries the tunnel had brought it.
    """
    yield Rule("MWAN_ARRIVE", Extension("RETURN"), (_tunnelled("in"),))
    older = {"ctrepldst": (), "ctorigdst": (("ctstate", "ESTABLISHED"),)}
    for side, state in older.items():
        for link, address in firewall.addressed():
            match = Extension("conntrack", (*state, (side, address)))
            yield Rule("MWAN_ARRIVE", _pin(link, firewall.mask), (match,))
    if firewall.addressed():
        yield Rule("MWAN_ARRIVE", Extension("RETURN"), (connmark(0, firewall.mask, invert=True),))
    for device, network in firewall.neighbourhoods():
        yield Rule("MWAN_ARRIVE", Extension("RETURN"), source=network, in_device=device)
    for link in firewall.exclusive():
        yield Rule("MWAN_ARRIVE", _pin(link, firewall.mask), in_device=link.device)
    for link in firewall.shared():
        if link.mac is not None:
            router = Extension("mac", (("mac-source", link.mac),))
            yield Rule("MWAN_ARRIVE", _pin(link, firewall.mask), (router,), in_device=link.device)


def _unknown(firewall: Firewall) -> Iterator[Rule]:
    """The mark of a policy by rules that were replaced while the packet was on its way is none."""
    begun = (chooser.mark for chooser in firewall.classification.sticky())
    for mark in (*begun, *firewall.lasting()):
        yield Rule("MWAN_UNKNOWN", Extension("RETURN"), (connmark(mark, firewall.mask),))
    yield Rule("MWAN_UNKNOWN", set_connmark(0, firewall.mask))


def _save(firewall: Firewall) -> Iterator[Rule]:
    yield Rule("MWAN_SAVE", Extension("RETURN"), (_tunnelled("out"),))
    for link in firewall.exclusive():
        yield Rule("MWAN_SAVE", _pin(link, firewall.mask), out_device=link.device)
    for link in firewall.shared():
        if link.realm is not None:
            nexthop = Extension("realm", (("realm", hex(link.realm)),))
            yield Rule("MWAN_SAVE", _pin(link, firewall.mask), (nexthop,), out_device=link.device)
    for link in firewall.shared_fallbacks():
        still_unpinned = connmark(0, firewall.mask)
        yield Rule("MWAN_SAVE", _pin(link, firewall.mask), (still_unpinned,), out_device=link.device)


def _tunnelled(direction: str) -> Extension:
    return Extension("policy", (("dir", direction), ("pol", "ipsec")))


def _snat(firewall: Firewall) -> Iterator[Rule]:
    """An IPsec tunnel knows its own by their addresses, so these stay."""
    if firewall.snat:
        yield Rule("MWAN_SNAT", Extension("RETURN"), (_tunnelled("out"),))
    for nat in firewall.snat:
        for source in nat.sources or (None,):
            pinned = connmark(nat.mark, firewall.mask)
            yield Rule("MWAN_SNAT", _translation(nat), (pinned,), source=source, out_device=nat.device)


def _translation(nat: SourceNat) -> Extension:
    if nat.to is None:
        return Extension("MASQUERADE")
    return Extension("SNAT", (("to-source", nat.to),))


def _resets(firewall: Firewall) -> Iterator[Rule]:
    answer = Extension("REJECT", (("reject-with", "tcp-reset"),))
    yield from _near(firewall, "MWAN_FORWARD", firewall.resets)
    for device in firewall.devices():
        yield from _forwarded_to_be_reset(firewall, "MWAN_FORWARD", answer, device)
    yield from _near(firewall, "MWAN_OUTPUT", firewall.own_resets())
    for device in firewall.devices():
        yield from _own_to_be_reset(firewall, "MWAN_OUTPUT", answer, device)


def _near(firewall: Firewall, chain: str, resets: tuple[Reset, ...]) -> Iterator[Rule]:
    for reset in resets:
        for network in reset.networks:
            pinned = connmark(reset.mark, firewall.mask)
            yield Rule(chain, Extension("RETURN"), (pinned,), destination=network)


def _forwarded_to_be_reset(firewall: Firewall, chain: str, target: Extension, out: str | None = None) -> Iterator[Rule]:
    """`out`: and led to that device, but not to the same link again, as far as that is known."""
    for reset in firewall.resets:
        matches = _to_be_reset(reset, firewall.mask)
        if out == reset.device and not reset.gateway:
            continue
        if out == reset.device and reset.realm is not None:
            matches = (*matches, Extension("realm", (("realm", f"!{hex(reset.realm)}"),)))
        yield Rule(chain, target, matches, "tcp", in_device="!" + reset.device, out_device=out)
        for network in reset.networks:
            yield Rule(chain, target, matches, "tcp", network, in_device=reset.device, out_device=out)


def _own_to_be_reset(firewall: Firewall, chain: str, target: Extension, out: str | None = None) -> Iterator[Rule]:
    unmarked = Extension("mark", (("mark", f"0x0/0x{firewall.mask:x}"),))
    for reset in firewall.own_resets():
        yield Rule(chain, target, (unmarked, *_to_be_reset(reset, firewall.mask)), "tcp", out_device=out)


def _to_be_reset(reset: Reset, mask: int) -> tuple[Extension, ...]:
    return (
        connmark(reset.mark, mask),
        Extension("tcp", (("tcp-flags", "RST NONE"),)),
        Extension("conntrack", (("ctstatus", "SEEN_REPLY"), ("ctdir", "ORIGINAL"))),
    )


def _pin(link: FirewallLink, mask: int) -> Extension:
    return set_connmark(link.mark, mask)


def _table_text(table: str, rules: tuple[Rule, ...]) -> str:
    lines = ["*" + table]
    lines += [f":{chain} - [0:0]" for chain in chains(table, rules)]
    lines += [f"-I {hook} 1 -j {chain}" for hook, chain in JUMPS[table]]
    lines += [_rule_text(rule) for rule in rules]
    return "\n".join([*lines, "COMMIT", ""])


def _rule_text(rule: Rule) -> str:
    words = ["-A " + rule.chain]
    conditions = (("-p", rule.protocol), ("-s", rule.source), ("-d", rule.destination))
    devices = (("-i", rule.in_device), ("-o", rule.out_device))
    words += [_condition_text(flag, value) for flag, value in (*conditions, *devices) if value is not None]
    words += ["-m " + _extension_text(match) for match in rule.matches]
    return " ".join([*words, "-g" if rule.goto else "-j", _extension_text(rule.target)])


def _condition_text(flag: str, value: str) -> str:
    return f"! {flag} {value[1:]}" if value.startswith("!") else f"{flag} {value}"


def _extension_text(extension: Extension) -> str:
    return " ".join([extension.name, *(_option_text(name, value) for name, value in extension.options)])


def _option_text(name: str, value: str) -> str:
    if value.startswith("!"):
        return f"! --{name} {value[1:]}"
    return f"--{name} {value}".rstrip()
