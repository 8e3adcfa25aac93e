# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The same router built by hand: one command per object, or one batch; and everything taken away again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..lab.topology import LAN, Topology, Uplink

# ip(8), lib/utils.c: a line of a batch has at most this many words; a route with more nexthops takes an ip of its own.
MOST_WORDS = 511
# The layout of docs/architecture.md.
PROTOCOL, TABLE_BASE = 77, 1000
SUPPRESS, MARK, CHOSEN, SOURCE, DEFAULT_POLICY = 1000, 1001, 1002, 1100, 1999
SHIFT = 8

WIPE = """
ip rule flush; ip rule add pref 32766 lookup main; ip rule add pref 32767 lookup default
ip route flush table all proto 77
nft flush ruleset
for table in mangle nat; do
    if grep -qsx $table /proc/net/ip_tables_names; then iptables-legacy -t $table -F; iptables-legacy -t $table -X; fi
done
rm -rf /etc/mwan /run/mwan /etc/sysctl.d/90-mwan.conf
rm -f /etc/iproute2/rt_tables.d/mwan.conf /etc/iproute2/rt_protos.d/mwan.conf
for key in ip_forward fib_multipath_hash_policy fib_multipath_use_neigh; do echo 0 >/proc/sys/net/ipv4/$key; done
for key in /proc/sys/net/ipv4/conf/*/ignore_routes_with_linkdown; do echo 0 >$key; done
"""


@dataclass(frozen=True)
class ByHand:
    """The arguments of ip(8), the sysctls, and the arguments of iptables(8) that make a topology a router."""

    ip: list[str]
    sysctls: list[str]
    iptables: list[str]

    @classmethod
    def of(cls, topology: Topology, mask: int) -> ByHand:
        uplinks = list(topology.uplinks.values())
        return cls([*_routes(uplinks), *_rules(uplinks, mask)], _sysctls(uplinks), list(_iptables(uplinks, mask)))

    def one_by_one(self) -> str:
        """A shell script with a process per object."""
        lines = [f"ip {arguments}" for arguments in self.ip]
        lines += [f"iptables-legacy -w {arguments}" for arguments in self.iptables]
        return "\n".join(["set -e", *self._writes(), *lines, ""])

    def batch(self, ip_file: str, nft_file: str) -> str:
        """A shell script with one ip and one nft; the files hold their input."""
        single = [f"ip {arguments}" for arguments in self.ip if len(arguments.split()) > MOST_WORDS]
        return "\n".join(["set -e", *self._writes(), f"ip -batch {ip_file}", *single, f"nft -f {nft_file}", ""])

    def ip_input(self) -> str:
        """The input of `ip -batch`."""
        return "".join(f"{arguments}\n" for arguments in self.ip if len(arguments.split()) <= MOST_WORDS)

    def _writes(self) -> Iterator[str]:
        return (f"echo 1 >/proc/sys/net/ipv4/{key}" for key in self.sysctls)


def _routes(uplinks: list[Uplink]) -> Iterator[str]:
    policy = TABLE_BASE + len(uplinks) + 1
    hops = []
    for number, link in enumerate(uplinks, 1):
        way = f"via {link.gateway} dev {link.device}"
        table = TABLE_BASE + number
        yield f"route add default {way} src {link.address} table {table} proto {PROTOCOL}"
        yield f"route add prohibit default table {table} metric 1000000 proto {PROTOCOL}"
        yield f"route add default {way} src {link.address} table {policy} metric {10000 + number} proto {PROTOCOL}"
        hops.append(f"nexthop {way} weight {link.weight}")
    yield f"route add default table {policy} metric 1 proto {PROTOCOL} {' '.join(hops)}"
    yield f"route add unreachable default table {policy} metric 2000000 proto {PROTOCOL}"


def _rules(uplinks: list[Uplink], mask: int) -> Iterator[str]:
    yield f"rule add pref {SUPPRESS} lookup main suppress_prefixlength 0 protocol {PROTOCOL}"
    for number, link in enumerate(uplinks, 1):
        to = f"lookup {TABLE_BASE + number} protocol {PROTOCOL}"
        yield f"rule add pref {MARK} fwmark {number << SHIFT:#x}/{mask:#x} {to}"
        yield f"rule add pref {SOURCE} from {link.address} {to}"
        yield f"rule add pref {SOURCE} oif {link.device} {to}"
    policy = len(uplinks) + 1
    to = f"lookup {TABLE_BASE + policy} protocol {PROTOCOL}"
    yield f"rule add pref {CHOSEN} fwmark {policy << SHIFT:#x}/{mask:#x} {to}"
    yield f"rule add pref {DEFAULT_POLICY} {to}"


def _sysctls(uplinks: list[Uplink]) -> list[str]:
    devices = [f"conf/{link.device}/ignore_routes_with_linkdown" for link in uplinks]
    return [*devices, "fib_multipath_hash_policy", "fib_multipath_use_neigh", "ip_forward"]


def _iptables(uplinks: list[Uplink], mask: int) -> Iterator[str]:
    """What administrators write for this: restore, mark by device, save, translate."""
    unpinned, pinned = f"-m connmark --mark 0/{mask:#x}", f"-m connmark ! --mark 0/{mask:#x}"
    restore = f"{pinned} -j CONNMARK --restore-mark --nfmask {mask:#x} --ctmask {mask:#x}"
    for chain in ("MWAN_ARRIVE", "MWAN_SAVE"):
        yield f"-t mangle -N {chain}"
    yield "-t nat -N MWAN_SNAT"
    for number, link in enumerate(uplinks, 1):
        pin = f"-j CONNMARK --set-xmark {number << SHIFT:#x}/{mask:#x}"
        yield f"-t mangle -A MWAN_ARRIVE -i {link.device} {pin}"
        yield f"-t mangle -A MWAN_SAVE -o {link.device} {pin}"
        connmark = f"-m connmark --mark {number << SHIFT:#x}/{mask:#x}"
        yield f"-t nat -A MWAN_SNAT -s {LAN} -o {link.device} {connmark} -j SNAT --to-source {link.address}"
    yield f"-t mangle -A PREROUTING {unpinned} -j MWAN_ARRIVE"
    yield f"-t mangle -A PREROUTING {restore}"
    yield f"-t mangle -A OUTPUT {restore}"
    yield f"-t mangle -A POSTROUTING -m conntrack --ctstate NEW {unpinned} -j MWAN_SAVE"
    yield "-t nat -A POSTROUTING -j MWAN_SNAT"
