# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The nftables backend: one table of ours, replaced in one transaction. The only file that runs nft."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator

from ..errors import KernelError
from . import nftables_dnat
from .model import Firewall, FirewallLink, Reset, SourceNat

TABLE = "inet mwan"
SBIN = ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
INDENT = "    "
ONLY_IPV4 = "meta nfproto != ipv4 return"
TO_BE_RESET = "tcp flags & rst == 0x0 ct direction original ct status seen-reply"

Runner = Callable[[list[str], str], "tuple[int, str, str]"]


class Nftables:
    """`run(command, stdin)` returns exit status, output and error output; the caller brings it, because
    Ansible modules run programs by `AnsibleModule.run_command` and the prober by other means."""

    name = "nftables"

    def __init__(self, run: Runner) -> None:
        self._run = run
        self._nft = shutil.which("nft", path=SBIN)

    def unavailable(self) -> str | None:
        if not self._nft:
            return "the nft command is missing (package nftables)"
        status, _out, err = self._run([self._nft, "list", "tables"], "")
        return None if status == 0 else f"nft cannot list tables: {err.strip()}"

    def render(self, firewall: Firewall) -> str:
        return render(firewall)

    def listing(self) -> str:
        if not self._nft:
            return ""
        status, out, err = self._run([self._nft, "--stateless", "list", "table", *TABLE.split()], "")
        if status == 0:
            return out
        if "No such file or directory" in err:
            return ""
        raise KernelError("nft list table", TABLE, err.strip())

    def replace(self, firewall: Firewall) -> None:
        # "add" makes the "delete" of a table that may not exist succeed; all three are one transaction.
        self._load(f"add table {TABLE}\ndelete table {TABLE}\n{render(firewall)}")

    def remove(self) -> None:
        if self._nft:
            self._load(f"add table {TABLE}\ndelete table {TABLE}\n")

    def _load(self, text: str) -> None:
        if not self._nft:
            raise KernelError("nft -f", f"table {TABLE}", str(self.unavailable()))
        status, _out, err = self._run([self._nft, "-f", "-"], text)
        if status:
            raise KernelError("nft -f", f"table {TABLE}", err.strip())


def render(firewall: Firewall) -> str:
    """The table as nft reads it. Every chain writes constants, so that foreign bits of both marks survive."""
    if not firewall:
        return ""
    chains = [
        *_hooks(firewall),
        *_dispatch(firewall),
        *_link_chains(firewall),
        *_source_nat(firewall),
        *(_chain(chain.name, chain.rules, chain.hook) for chain in nftables_dnat.chains(firewall)),
        *_reset_chains(firewall),
    ]
    return "table {} {{\n{}}}\n".format(TABLE, "\n".join(chains))


def _chain(name: str, lines: Iterable[str], hook: str = "") -> str:
    body = ([hook] if hook else []) + list(lines)
    text = "".join(f"{INDENT}{INDENT}{line}\n" for line in body)
    return f"{INDENT}chain {name} {{\n{text}{INDENT}}}\n"


def _hooks(firewall: Firewall) -> Iterator[str]:
    unpinned = f"ct mark & 0x{firewall.mask:08x} == 0x0"
    restore = "ct mark & 0x{:08x} vmap {{ {} }}".format(
        firewall.mask, _elements((f"0x{mark:08x}", f"goto restore_{name}") for mark, name in _marks(firewall))
    )
    yield _chain(
        "prerouting",
        [ONLY_IPV4, f"{unpinned} jump arrive", *_unmarked_forwarded(firewall), restore],
        "type filter hook prerouting priority mangle; policy accept;",
    )
    # only a chain of type route has the kernel look the route up again after the mark changed
    yield _chain(
        "output",
        [ONLY_IPV4, *_unmarked_own(firewall), restore],
        "type route hook output priority mangle; policy accept;",
    )
    yield _chain(
        "postrouting",
        [ONLY_IPV4, f"ct state new {unpinned} jump save"],
        "type filter hook postrouting priority mangle; policy accept;",
    )


def _dispatch(firewall: Firewall) -> Iterator[str]:
    """Which link a connection without a pin belongs to: by device, and on a shared device by the gateway.

    A connection older than our rules belongs to the link whose address source NAT has given it (a new one cannot look
    so: its replies go to the client), or to which it was begun.
    """
    own = ", ".join(f'"{device}" . {network}' for device, network in firewall.neighbourhoods())
    exclusive = [(link, f'"{link.device}"') for link in firewall.exclusive()]
    by_mac = [(link, f'"{link.device}" . {link.mac}') for link in firewall.shared() if link.mac]
    by_gateway = [(link, f'"{link.device}" . {link.gateway}') for link in firewall.shared()]
    fallbacks = [(link, f'"{link.device}"') for link in firewall.shared_fallbacks()]
    yield _chain(
        "arrive",
        [
            *_pin_map("ct reply ip daddr", firewall.addressed()),
            *_pin_map("ct state established ct original ip daddr", firewall.addressed()),
            *([f"iifname . ip saddr {{ {own} }} return"] if own else []),
            *_pin_map("iifname", exclusive),
            *_pin_map("iifname . ether saddr", by_mac),
        ],
    )
    yield _chain(
        "save",
        [
            *_pin_map("oifname", exclusive),
            *_pin_map("oifname . rt ip nexthop", by_gateway),
            *_pin_map("oifname", fallbacks),
        ],
    )


def _pin_map(selector: str, links: Iterable[tuple[FirewallLink, str]]) -> Iterator[str]:
    """The rule that looks `selector` up among the values which tell the links; none where there are no links."""
    verdicts: dict[str, str] = {}
    for link, value in links:
        verdicts.setdefault(value, f"goto pin_{link.name}")
    if verdicts:
        yield f"{selector} vmap {{ {_elements(verdicts.items())} }}"


def _link_chains(firewall: Firewall) -> Iterator[str]:
    keep = 0xFFFFFFFF & ~firewall.mask
    for mark, name in _marks(firewall):
        yield _chain(f"pin_{name}", [f"ct mark set ct mark & 0x{keep:08x} | 0x{mark:08x}"])
        yield _chain(f"restore_{name}", [f"meta mark set meta mark & 0x{keep:08x} | 0x{mark:08x}"])


def _source_nat(firewall: Firewall) -> Iterator[str]:
    if not firewall.snat:
        return
    names = dict(_marks(firewall))
    by_mark: dict[int, list[SourceNat]] = {}
    for rule in firewall.snat:
        by_mark.setdefault(rule.mark, []).append(rule)
    dispatch = _elements((f"0x{mark:08x}", f"goto snat_{names[mark]}") for mark in sorted(by_mark))
    yield _chain(
        "source_nat",
        [f"ct mark & 0x{firewall.mask:08x} vmap {{ {dispatch} }}"],
        "type nat hook postrouting priority srcnat; policy accept;",
    )
    for mark, rules in sorted(by_mark.items()):
        yield _chain(f"snat_{names[mark]}", map(_source_nat_rule, rules))


def _source_nat_rule(rule: SourceNat) -> str:
    sources = "ip saddr {{ {} }} ".format(", ".join(rule.sources)) if rule.sources else "meta nfproto ipv4 "
    return 'oifname "{}" {}{}'.format(rule.device, sources, f"snat ip to {rule.to}" if rule.to else "masquerade")


def _unmarked_forwarded(firewall: Firewall) -> Iterator[str]:
    if firewall.resets:
        yield f"{TO_BE_RESET} {_reset_map(firewall, 'jump unmarked')}"


def _unmarked_own(firewall: Firewall) -> Iterator[str]:
    if firewall.own_resets():
        yield f"{_own_to_be_reset(firewall)} accept"


def _reset_chains(firewall: Firewall) -> Iterator[str]:
    """They come before the filter chains of the host, which may accept what is answered here."""
    hook = "type filter hook {} priority filter - 10; policy accept;"
    reject = "meta l4proto tcp reject with tcp reset"
    ways_out = ", ".join(f'"{device}"' for device in firewall.devices())
    if firewall.resets:
        answer = f"{TO_BE_RESET} {_reset_map(firewall, 'goto reset')}"
        yield _chain("forward_reset", [ONLY_IPV4, answer], hook.format("forward"))
    if firewall.own_resets():
        mask = f"ct mark & 0x{firewall.mask:08x}"
        near = [f"{mask} 0x{reset.mark:08x} {_near(reset)}" for reset in firewall.own_resets() if reset.networks]
        answer = f"oifname {{ {ways_out} }} {_own_to_be_reset(firewall)} {reject}"
        yield _chain("output_reset", [ONLY_IPV4, *near, answer], hook.format("output"))
    names = dict(_marks(firewall))
    for reset in firewall.resets:
        neighbours = "ip saddr != {{ {} }} ".format(", ".join(reset.networks)) if reset.networks else ""
        beyond = f'iifname "{reset.device}" {neighbours}return'
        gateway = f"rt ip nexthop {reset.gateway} " if reset.gateway else ""
        again = f'oifname "{reset.device}" {gateway}return'
        near = [_near(reset)] if reset.networks else []
        inside = [f"oifname != {{ {ways_out} }} return"]
        yield _chain(f"unmarked_{names[reset.mark]}", [beyond, "accept"])
        yield _chain(f"reset_{names[reset.mark]}", [beyond, *near, *inside, again, reject])


def _near(reset: Reset) -> str:
    return f"ip daddr {{ {', '.join(reset.networks)} }} return"


def _reset_map(firewall: Firewall, verdict: str) -> str:
    names = dict(_marks(firewall))
    chains = ((f"0x{reset.mark:08x}", f"{verdict}_{names[reset.mark]}") for reset in firewall.resets)
    return f"ct mark & 0x{firewall.mask:08x} vmap {{ {_elements(chains)} }}"


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


def _elements(pairs: Iterable[tuple[str, str]]) -> str:
    return ", ".join("{} : {}".format(*pair) for pair in pairs)
