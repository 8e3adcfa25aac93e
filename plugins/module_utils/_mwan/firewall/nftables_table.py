# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The content of our table. Every chain writes constants, so that foreign bits of both marks survive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from . import nftables_choices, nftables_dnat, nftables_sticky
from .model import Firewall, FirewallLink, Reset, SourceNat
from .nftables_live import Contents
from .nftables_text import COUNTER, ONLY_IPV4, SET, USUAL, Chain, Means, elements, written

# Behind others at mangle, of which the newest would go first: wg-quick(8) sets the whole packet mark of all UDP there.
MARKING = "mangle + 1"
TO_BE_RESET = "tcp flags & rst == 0x0 ct direction original ct status seen-reply"
# Others may fill in networks, and addresses for a time.
# merged, because others put a network in, and later an address of it, which else is refused
EXTERNAL = ("type ipv4_addr", "flags interval,timeout", "auto-merge")


def render(firewall: Firewall, means: Means = USUAL) -> str:
    """The table as nft reads it."""
    return contents(firewall, means).text() if firewall else ""


def contents(firewall: Firewall, means: Means) -> Contents:
    classification = firewall.classification
    external = {f"{SET}{item.name}": EXTERNAL for item in classification.sets if item.external}
    chains = (
        *_hooks(firewall),
        *_dispatch(firewall, means.ipsec),
        *_link_chains(firewall),
        *nftables_choices.chains(firewall, means),
        *nftables_sticky.chains(firewall),
        *_source_nat(firewall, means.ipsec),
        *nftables_dnat.chains(firewall),
        *_reset_chains(firewall),
    )
    counters = tuple(f"{COUNTER}{name}" for name in classification.counted())
    return Contents({**external, **dict(nftables_sticky.sets(firewall))}, counters, chains)


def _hooks(firewall: Firewall) -> Iterator[Chain]:
    mask = f"ct mark & 0x{firewall.mask:08x}"
    unpinned = f"{mask} == 0x0"
    pins = [(f"0x{mark:08x}", f"goto restore_{name}") for mark, name in _marks(firewall)]
    pins += nftables_choices.left_alone(firewall)
    yield Chain(
        "prerouting",
        (
            ONLY_IPV4,
            f"{unpinned} jump arrive",
            *_unmarked_forwarded(firewall),
            f"{mask} vmap {{ {elements((*pins, *nftables_choices.every_packet(firewall)))} }}",
            *nftables_choices.forwarded(firewall),
        ),
        f"type filter hook prerouting priority {MARKING}; policy accept;",
    )
    # only a chain of type route has the kernel look the route up again after the mark changed
    yield Chain(
        "output",
        (
            ONLY_IPV4,
            *_unmarked_own(firewall),
            f"{mask} vmap {{ {elements(pins)} }}",
            *nftables_choices.own(firewall),
        ),
        f"type route hook output priority {MARKING}; policy accept;",
    )
    known = [(f"0x{mark:08x}", "accept") for mark in firewall.lasting()]
    saves = [("0x0", "goto save"), *nftables_sticky.saves(firewall), *known]
    yield Chain(
        "postrouting",
        (
            ONLY_IPV4,
            "ct state != new accept",
            f"{mask} vmap {{ {elements(saves)} }}",
            # the mark of a policy, by rules that were replaced while the packet was on its way
            written("ct", 0, firewall.mask),
            "goto save",
        ),
        f"type filter hook postrouting priority {MARKING}; policy accept;",
    )


def _dispatch(firewall: Firewall, ipsec: bool) -> Iterator[Chain]:
    """Which link a connection without a pin belongs to: by device, and on a shared device by the gateway.

    A connection older than our rules belongs to the link whose address source NAT has given it (a new one cannot look
    so: its replies go to the client), or to which it was begun. What comes or goes encrypted belongs to none: only its
    shell does, which is another packet.
    """
    own = ", ".join(f'"{device}" . {network}' for device, network in firewall.neighbourhoods())
    exclusive = [(link, f'"{link.device}"') for link in firewall.exclusive()]
    by_mac = [(link, f'"{link.device}" . {link.mac}') for link in firewall.shared() if link.mac]
    by_gateway = [(link, f'"{link.device}" . {link.gateway}') for link in firewall.shared()]
    fallbacks = [(link, f'"{link.device}"') for link in firewall.shared_fallbacks()]
    yield Chain(
        "arrive",
        (
            *(("meta ipsec exists return",) if ipsec else ()),
            *_pin_map("ct reply ip daddr", firewall.addressed()),
            *_pin_map("ct state established ct original ip daddr", firewall.addressed()),
            *((f"iifname . ip saddr {{ {own} }} return",) if own else ()),
            *_pin_map("iifname", exclusive),
            *_pin_map("iifname . ether saddr", by_mac),
        ),
    )
    yield Chain(
        "save",
        (
            *_encrypted(ipsec),
            *_pin_map("oifname", exclusive),
            *_pin_map("oifname . rt ip nexthop", by_gateway),
            *_pin_map("oifname", fallbacks),
            *nftables_choices.kept(firewall),
        ),
    )


def _encrypted(ipsec: bool) -> tuple[str, ...]:
    return ("rt ipsec exists return",) if ipsec else ()


def _pin_map(selector: str, links: Iterable[tuple[FirewallLink, str]]) -> Iterator[str]:
    """The rule that looks `selector` up among the values which tell the links; none where there are no links."""
    verdicts: dict[str, str] = {}
    for link, value in links:
        verdicts.setdefault(value, f"goto pin_{link.name}")
    if verdicts:
        yield f"{selector} vmap {{ {elements(verdicts.items())} }}"


def _link_chains(firewall: Firewall) -> Iterator[Chain]:
    for mark, name in _marks(firewall):
        refreshing = nftables_sticky.refreshing(firewall, mark)
        yield Chain(f"pin_{name}", (written("ct", mark, firewall.mask),))
        yield Chain(f"restore_{name}", (*refreshing, written("meta", mark, firewall.mask)))


def _source_nat(firewall: Firewall, ipsec: bool) -> Iterator[Chain]:
    if not firewall.snat:
        return
    names = dict(_marks(firewall))
    by_mark: dict[int, list[SourceNat]] = {}
    for rule in firewall.snat:
        by_mark.setdefault(rule.mark, []).append(rule)
    mask = f"ct mark & 0x{firewall.mask:08x}"
    dispatch = elements((f"0x{mark:08x}", f"goto snat_{names[mark]}") for mark in sorted(by_mark))
    yield Chain(
        "source_nat",
        (*_encrypted(ipsec), f"{mask} vmap {{ {dispatch} }}"),
        "type nat hook postrouting priority srcnat; policy accept;",
    )
    for mark, rules in sorted(by_mark.items()):
        yield Chain(f"snat_{names[mark]}", tuple(map(_source_nat_rule, rules)))


def _source_nat_rule(rule: SourceNat) -> str:
    sources = "ip saddr {{ {} }} ".format(", ".join(rule.sources)) if rule.sources else "meta nfproto ipv4 "
    return 'oifname "{}" {}{}'.format(rule.device, sources, f"snat ip to {rule.to}" if rule.to else "masquerade")


def _unmarked_forwarded(firewall: Firewall) -> Iterator[str]:
    if firewall.resets:
        yield f"{TO_BE_RESET} {_reset_map(firewall, 'jump unmarked')}"


def _unmarked_own(firewall: Firewall) -> Iterator[str]:
    if firewall.own_resets():
        yield f"{_own_to_be_reset(firewall)} accept"


def _reset_chains(firewall: Firewall) -> Iterator[Chain]:
    """They come before the filter chains of the host, which may accept what is answered here."""
    hook = "type filter hook {} priority filter - 10; policy accept;"
    reject = "meta l4proto tcp reject with tcp reset"
    ways_out = ", ".join(f'"{device}"' for device in firewall.devices())
    if firewall.resets:
        answer = f"{TO_BE_RESET} {_reset_map(firewall, 'goto reset')}"
        yield Chain("forward_reset", (ONLY_IPV4, answer), hook.format("forward"))
    if firewall.own_resets():
        mask = f"ct mark & 0x{firewall.mask:08x}"
        near = [f"{mask} 0x{reset.mark:08x} {_near(reset)}" for reset in firewall.own_resets() if reset.networks]
        answer = f"oifname {{ {ways_out} }} {_own_to_be_reset(firewall)} {reject}"
        yield Chain("output_reset", (ONLY_IPV4, *near, answer), hook.format("output"))
    names = dict(_marks(firewall))
    for reset in firewall.resets:
        neighbours = "ip saddr != {{ {} }} ".format(", ".join(reset.networks)) if reset.networks else ""
        beyond = f'iifname "{reset.device}" {neighbours}return'
        gateway = f"rt ip nexthop {reset.gateway} " if reset.gateway else ""
        the_same = f'oifname "{reset.device}" {gateway}return'
        near = [_near(reset)] if reset.networks else []
        inside = [f"oifname != {{ {ways_out} }} return"]
        again = nftables_choices.again(firewall)
        yield Chain(f"unmarked_{names[reset.mark]}", (beyond, *again, "accept"))
        yield Chain(f"reset_{names[reset.mark]}", (beyond, *near, *inside, the_same, reject))


def _near(reset: Reset) -> str:
    return f"ip daddr {{ {', '.join(reset.networks)} }} return"


def _reset_map(firewall: Firewall, verdict: str) -> str:
    names = dict(_marks(firewall))
    chains = ((f"0x{reset.mark:08x}", f"{verdict}_{names[reset.mark]}") for reset in firewall.resets)
    return f"ct mark & 0x{firewall.mask:08x} vmap {{ {elements(chains)} }}"


def _own_to_be_reset(firewall: Firewall) -> str:
    mask = f"0x{firewall.mask:08x}"
    marks = ", ".join(f"0x{reset.mark:08x}" for reset in firewall.own_resets())
    return f"meta mark & {mask} == 0x0 {TO_BE_RESET} ct mark & {mask} {{ {marks} }}"


def _marks(firewall: Firewall) -> list[tuple[int, str]]:
    """Each link once, also while it is kept on a second device in a transition."""
    names: dict[int, FirewallLink] = {}
    for link in firewall.links:
        names.setdefault(link.mark, link)
    return [(mark, link.name) for mark, link in sorted(names.items())]
