# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Port forwards in the language of nft: one lookup for all that differ in values only.

A map holds what `dnat` is given, so the number of rules does not grow with that of forwards. What is in one map must be
of one form: all addresses or all ranges of them, all with a port or all without. The kernel picks a port of a range by
hash (nf_nat_l4proto_unique_tuple), so ports that change one to one have an element each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .inbound import DestinationNat, Return, returns
from .model import Firewall
from .nftables_text import ONLY_IPV4, Chain

ANYONE = "0.0.0.0/0"
# dstnat is a name in prerouting only
OUTPUT_PRIORITY = -100


class _Form(NamedTuple):
    """What all the elements of a map have in common."""

    device: bool
    protocol: str | None
    sources: bool
    hosts: bool
    port: bool


def chains(firewall: Firewall) -> Iterator[Chain]:
    """The chains of ours that translate destinations; they see the first packet of each connection only."""
    if not firewall.dnat:
        return
    elsewhere = [forward for forward in firewall.dnat if forward.device is None]
    hook = "type nat hook {}; policy accept;"
    arriving = (ONLY_IPV4, *_arriving(firewall), *_inside(firewall))
    yield Chain("port_forwards", arriving, hook.format("prerouting priority dstnat"))
    if elsewhere:
        own = (ONLY_IPV4, *_maps("", elsewhere))
        yield Chain("own_forwards", own, hook.format(f"output priority {OUTPUT_PRIORITY}"))
    if returned := returns(elsewhere):
        yield Chain("hairpin", (ONLY_IPV4, *_sources(returned)), hook.format("postrouting priority srcnat"))


def _arriving(firewall: Firewall) -> Iterator[str]:
    pinned: dict[tuple[str, int], list[DestinationNat]] = {}
    for forward in firewall.dnat:
        if forward.device and forward.mark is not None:
            pinned.setdefault((forward.device, forward.mark), []).append(forward)
    for (device, mark), forwards in pinned.items():
        guard = f'iifname "{device}" ct mark & 0x{firewall.mask:08x} == 0x{mark:08x} '
        yield from _maps(guard, forwards, device=False)
    yield from _maps("", [forward for forward in firewall.dnat if forward.device and forward.mark is None])


def _inside(firewall: Firewall) -> Iterator[str]:
    links = ", ".join(f'"{device}"' for device in firewall.devices())
    yield from _maps(f"iifname != {{ {links} }} ", [forward for forward in firewall.dnat if forward.device is None])


def _maps(guard: str, forwards: Iterable[DestinationNat], device: bool = True) -> Iterator[str]:
    """A rule for each form; `device`: it is told by the map where there is one."""
    maps: dict[_Form, list[str]] = {}
    for forward in forwards:
        form = _Form(
            device and forward.device is not None,
            forward.protocol,
            bool(forward.sources),
            forward.to[0] != forward.to[1],
            forward.to_ports is not None,
        )
        maps.setdefault(form, []).extend(_elements(forward, form))
    for form, elements in maps.items():
        yield f"{guard}dnat ip to {_selector(form)} map {{ {', '.join(elements)} }}"


def _selector(form: _Form) -> str:
    parts = ["iifname"] if form.device else []
    parts += ["ip saddr"] if form.sources else []
    parts += ["ip daddr"]
    parts += [f"{form.protocol} dport"] if form.protocol else []
    return " . ".join(parts)


def _elements(forward: DestinationNat, form: _Form) -> Iterator[str]:
    hosts = _range(forward.to)
    before = [f'"{forward.device}"'] if form.device else []
    for source in forward.sources or (ANYONE,):
        key = [*before, *([source] if form.sources else []), forward.address]
        for ports, to_port in _ports(forward):
            yield f"{' . '.join([*key, *ports])} : {' . '.join([hosts, *to_port])}"


def _ports(forward: DestinationNat) -> Iterator[tuple[list[str], list[str]]]:
    """The ports of a key, and the port they become, each a list of one or none."""
    if forward.ports is None:
        yield [], []
    elif forward.to_ports is None:
        yield [_range(forward.ports)], []
    elif forward.to_ports[0] == forward.to_ports[1]:
        yield [_range(forward.ports)], [str(forward.to_ports[0])]
    else:
        pairs = zip(range(forward.ports[0], forward.ports[1] + 1), range(forward.to_ports[0], forward.to_ports[1] + 1))
        yield from (([str(port)], [str(to_port)]) for port, to_port in pairs)


def _range(pair: tuple[object, object]) -> str:
    low, high = pair
    return str(low) if low == high else f"{low}-{high}"


def _sources(returned: tuple[Return, ...]) -> Iterator[str]:
    begun = "ct status dnat "
    own = [f"{item.address} . {_range(item.to)}" for item in returned if item.network is None]
    near = [f"{item.network} . {item.address} . {_range(item.to)}" for item in returned if item.network]
    yield f"{begun}fib saddr type local ct original ip daddr . ip daddr {{ {', '.join(own)} }} masquerade"
    yield f"{begun}ip saddr . ct original ip daddr . ip daddr {{ {', '.join(near)} }} masquerade"
