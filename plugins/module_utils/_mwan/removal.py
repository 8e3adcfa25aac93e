# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take everything of ours out of the kernel: by a plan, or by hand where what a plan needs is gone.

All of it raises KernelError.
"""

from __future__ import annotations

import shutil
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from . import layout, local, rtnl, store
from .conntrack import Conntrack
from .document import Document
from .errors import InputError, KernelError
from .firewall.ipsets import Ipsets
from .firewall.iptables_rules import CHAINS, PREFIX
from .firewall.nftables import SBIN, Nftables, Runner
from .flow import Outcome, converge
from .nfnetlink import parsed
from .ports import Router

# linux/rtnetlink.h, linux/fib_rules.h
RTM_DELROUTE, RTM_GETROUTE, RTM_DELRULE, RTM_GETRULE = 25, 26, 33, 34
BODY = struct.Struct("=B11x")  # struct rtmsg and struct fib_rule_hdr begin with the family
ATTRIBUTES = rtnl.HEADER.size + BODY.size
ROUTE_PROTOCOL = rtnl.HEADER.size + 5
FRA_PROTOCOL = 21
LEGACY_TABLES = "/proc/net/ip_tables_names"


@dataclass(frozen=True)
class Step:
    """One thing that is to be done, as a person would."""

    words: str
    work: Callable[[], object]


def remembered() -> Document:
    """What is declared, an empty document where that cannot be read."""
    try:
        return store.load_document(local.Files())
    except (InputError, KernelError):
        return Document()


def by_plan(router: Router, check: bool) -> Outcome:
    """Converge to nothing; raises as `converge` does."""
    return converge(router, lambda stored: Document(settings=stored.settings), check=check, strict=False)


def forgotten_rules(router: Router) -> Iterator[Step]:
    """Firewall rules of ours that no document speaks of.

    Looking at iptables loads its modules, so that is done only where a table of it has been used.
    """
    for name in ("nftables", "iptables") if router.legacy_firewall else ("nftables",):
        port = router.firewalls[name]
        if not port.unavailable() and port.listing():
            yield Step(f"{name}: delete rules that nothing was declared for", port.remove)


def pins(document: Document) -> Iterator[Step]:
    """Connections keep what source NAT they have, so they go on where routing leads them the same way."""
    mask = document.settings.mark_mask
    with closing(Conntrack()) as connections:
        marked = connections.marked([document.settings.mark(ident) for ident in document.ids.values()], mask)
    if marked:
        yield Step(f"conntrack: clear the mark of {len(marked)} connections", partial(_unmark, marked, mask))


def _unmark(marked: list[dict[int, bytes]], mask: int) -> None:
    with closing(Conntrack()) as connections:
        connections.unmark(marked, mask)


def by_hand(run: Runner, document: Document) -> Iterator[Step]:
    """The same without pyroute2, python-iptables, or a document that can be read."""
    rules = [rule for rule in _dumped(RTM_GETRULE) if _attributes(rule).get(FRA_PROTOCOL) == bytes([layout.PROTOCOL])]
    if rules:
        yield Step("ip rule flush proto mwan", partial(_delete, RTM_DELRULE, rules))
    yield from _nftables(Nftables(run))
    yield from _iptables(run)
    routes = [route for route in _dumped(RTM_GETROUTE) if route[ROUTE_PROTOCOL] == layout.PROTOCOL]
    if routes:
        yield Step("ip route flush table all proto mwan", partial(_delete, RTM_DELROUTE, routes))
    for key, value in local.Sysctl().read(document.originals).items():
        original = document.originals[key]
        if value != original:
            yield Step(f"sysctl {key} = {original} (was {value})", partial(local.Sysctl().write, key, original))


def _dumped(kind: int) -> list[bytes]:
    with closing(rtnl.Channel()) as channel:
        return channel.dump(kind, bytes(rtnl.HEADER.size) + BODY.pack(socket.AF_INET))


def _attributes(message: bytes) -> dict[int, bytes]:
    return parsed(message[ATTRIBUTES:])


def _delete(kind: int, objects: list[bytes]) -> None:
    """What the kernel has told of an object tells it which to delete, as `ip route flush` does."""
    with closing(rtnl.Channel()) as channel:
        for item in objects:
            channel.request(kind, 0, item)


def _nftables(port: Nftables) -> Iterator[Step]:
    if not port.unavailable() and port.listing():
        yield Step("nft delete table inet mwan", port.remove)


def _iptables(run: Runner) -> Iterator[Step]:
    """By the programs of iptables, for each table that has been used."""
    program = shutil.which("iptables-legacy", path=SBIN) or shutil.which("iptables", path=SBIN)
    try:
        with open(LEGACY_TABLES, encoding="ascii") as names:
            live = CHAINS.keys() & set(names.read().split())
    except FileNotFoundError:
        return
    for table in ("mangle", "filter", "nat"):
        text = removal_text(table, run([program, "-t", table, "-S"], "")[1]) if program and table in live else ""
        if text:
            yield Step(f"iptables -t {table}: delete MWAN_*", partial(_restore, run, text))
    if live and Ipsets().listing():
        yield Step("ipset: destroy mwan_*", Ipsets().discard)


def removal_text(table: str, listed: str) -> str:
    """What iptables-restore takes our jumps and chains away with, by what `iptables -S` lists; '' where none is ours.

    Chains refer to each other, so all are emptied before any goes.
    """
    lines = listed.splitlines()
    chains = [line.split()[1] for line in lines if line.startswith("-N " + PREFIX)]
    jumps = [line for line in lines if f" -j {PREFIX}" in line and not line.startswith("-A " + PREFIX)]
    orders = ["-D" + line[2:] for line in jumps] + [f"-{verb} {chain}" for verb in "FX" for chain in chains]
    return "\n".join(["*" + table, *orders, "COMMIT", ""]) if orders else ""


def _restore(run: Runner, text: str) -> None:
    program = shutil.which("iptables-legacy-restore", path=SBIN) or "iptables-restore"
    status, _out, err = run([program, "--noflush"], text)
    if status:
        raise KernelError("iptables-restore", "what is ours", err.strip())
