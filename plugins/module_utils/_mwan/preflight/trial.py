# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Try what the kernel has to do, each time in a network namespace that is made for it and gone with it.

Nothing of the host changes, but that its kernel loads the modules it is asked for, as it would when configured.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any, Optional

from ..desired import compile_state
from ..document import Document
from ..errors import KernelError
from ..firewall import iptables_rules
from ..firewall.model import Firewall
from ..firewall.nftables import SBIN, Nftables, Runner
from ..health import Health
from ..kernel import Address, Device
from ..kernel import Facts as Network
from .facts import IPTABLES, NFTABLES, Kernel
from .findings import CHOICES

# by util-linux, which every distribution has at its base
ALONE = ["unshare", "--net", "--"]
RESTORE = "iptables-legacy-restore"
# tells why a firewall is refused
Load = Callable[[Firewall], Optional[str]]
# Ends with the number of what failed; unshare itself, with 1. The loopback device needs no other for its gateways.
NO_RULES, NO_MULTIPATH, NO_PROGRAM = 11, 12, 13
ROUTING = f"""\
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
command -v ip >/dev/null && ip link set lo up || exit {NO_PROGRAM}
ip rule add priority 1000 lookup main suppress_prefixlength 0 protocol 77 || exit {NO_RULES}
ip rule add priority 1001 fwmark 0x100/0x3f00 lookup 1001 protocol 77 || exit {NO_RULES}
ip route add table 1001 default proto 77 nexthop via 192.0.2.1 dev lo onlink weight 3 \
    nexthop via 192.0.2.2 dev lo onlink || exit {NO_MULTIPATH}
"""
SAMPLE: dict[str, Any] = {
    "links": [
        {"name": "one", "device": "mwan1", "gateway": "192.0.2.1", "address": "192.0.2.2"},
        {"name": "two", "device": "mwan2", "gateway": "198.51.100.1", "address": "198.51.100.2"},
    ],
    "snat": [{"link": "one", "source": "10.0.0.0/8"}, {"link": "two", "source": "10.0.0.0/8", "to": "masquerade"}],
}
NETWORK = Network(
    devices={name: Device(name) for name in ("mwan1", "mwan2")},
    addresses=(Address("mwan1", "192.0.2.2", 24), Address("mwan2", "198.51.100.2", 24)),
)
_MEMBERS = [{"link": "one"}, {"link": "two"}]


def _policy(name: str, source: str, **options: Any) -> dict[str, Any]:
    return {
        "policies": [{"name": name, "members": _MEMBERS, **options}],
        "rules": [{"name": name, "source": source, "policy": name}],
    }


# what each of the CHOICES needs, and what is needed only where it is asked for
ASKED_FOR = "least_connections"
PARTS: dict[str, dict[str, Any]] = {
    "random": _policy("random", "10.1.0.0/16", algorithm="random"),
    "round_robin": _policy("round_robin", "10.2.0.0/16", algorithm="round_robin"),
    "source_hash": _policy("source_hash", "10.3.0.0/16", algorithm="source_hash"),
    "sticky": _policy("sticky", "10.4.0.0/16", sticky=600),
    "port_forwards": {"dnat": [{"name": "web", "protocol": "tcp", "port": 80, "to": "10.0.0.1", "hairpin": True}]},
    ASKED_FOR: _policy(ASKED_FOR, "10.5.0.0/16", algorithm=ASKED_FOR),
}
# iptables-restore cannot make the sets that these have
NOT_BY_RESTORE = ("sticky",)


def try_kernel(run: Runner, backend: str, programs: Container[str]) -> Kernel:
    """What works here, with the programs that are here; what needs others is left out."""
    try:
        status, _out, err = run([*ALONE, "sh"], ROUTING)
    except OSError as error:
        return Kernel(untried=f"unshare (util-linux): {error}")
    if status not in (0, NO_RULES, NO_MULTIPATH, NO_PROGRAM):
        return Kernel(untried=err.strip() or f"unshare ended with status {status}")
    routing = _routing(status, err.strip() or "no reason given")
    if backend == IPTABLES and RESTORE in programs:
        return Kernel({**routing, **dict(_try_firewall(_by_iptables(run), NOT_BY_RESTORE))})
    if backend == NFTABLES and "nft" in programs:
        return Kernel({**routing, **dict(_try_firewall(_by_nft(run), ()))})
    return Kernel(routing)


def _routing(status: int, said: str) -> dict[str, str | None]:
    told: dict[int, dict[str, str | None]] = {
        NO_PROGRAM: {},
        NO_RULES: {"rules": said},
        NO_MULTIPATH: {"rules": None, "multipath": said},
    }
    return told.get(status, {"rules": None, "multipath": None})


def _try_firewall(load: Load, left_out: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """All at once, and less only where that is refused: each load takes 10 ms."""
    names = [name for name in CHOICES if name not in left_out]
    said = load(sample([*names, ASKED_FOR]))
    if said and load(sample(names)):
        yield "firewall", load(sample([]))
        yield from ((name, load(sample([name]))) for name in (*names, ASKED_FOR))
    else:
        yield from dict.fromkeys(("firewall", *names)).items()
        yield ASKED_FOR, said


def _by_nft(run: Runner) -> Load:
    nftables = Nftables(lambda command, text: run([*ALONE, *command], text))

    def load(firewall: Firewall) -> str | None:
        try:
            nftables.install(firewall)
        except KernelError as error:
            return error.reason
        return None

    return load


def _by_iptables(run: Runner) -> Load:
    program = shutil.which(RESTORE, path=SBIN) or RESTORE

    def load(firewall: Firewall) -> str | None:
        status, _out, err = run([*ALONE, program], iptables_rules.render(firewall))
        return (err.strip() or f"status {status}") if status else None

    return load


def sample(names: Iterable[str]) -> Firewall:
    """The firewall of a router with two links and these parts; with resets, as if a link had failed."""
    parts = [SAMPLE, *(PARTS[name] for name in names)]
    keys = {key for part in parts for key in part}
    document = Document.parse({key: [item for part in parts for item in part.get(key, ())] for key in keys})
    firewall = compile_state(document, NETWORK, Health()).firewall
    return firewall.resetting({link.mark: True for link in firewall.links[:1]})
