# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What several tests of a whole router have in common: spread by weight, DNAT of the test, counters, policies."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

from .host import Host
from .topology import Topology

DEVIATIONS = 5  # a fair draw is further away once in two million


def about(counted: Mapping[str, int], weights: Mapping[str, int]) -> bool:
    """Whether connections are spread by weight, as far as chance allows; no other source may occur."""
    number, total = sum(counted.values()), sum(weights.values())
    if set(counted) - set(weights):
        return False
    return all(
        abs(counted.get(source, 0) - number * weight / total)
        <= DEVIATIONS * sqrt(number * weight / total * (1 - weight / total))
        for source, weight in weights.items()
    )


def port_forward(net: Topology, backend: str, port: int, to: str) -> None:
    """The administrator's own DNAT: everything that arrives at `port` from outside goes to a LAN host."""
    if backend == "nftables":
        net.router.nft(
            f"""table ip forward{port} {{
              chain inbound {{
                type nat hook prerouting priority dstnat;
                iifname != "lan0" tcp dport {port} dnat to {to}
                iifname != "lan0" udp dport {port} dnat to {to}
              }}
            }}"""
        )
        return
    for protocol in ("tcp", "udp"):
        rule = f"PREROUTING ! -i lan0 -p {protocol} --dport {port} -j DNAT --to-destination {to}"
        net.router.run(f"iptables-legacy -t nat -A {rule}")


def counting(host: Host, name: str, hook: str, match: str, priority: int = -350) -> None:
    """Count packets that match in a table of the test's own; read with counted()."""
    host.nft(
        f"""table inet {name} {{
          counter seen {{ }}
          chain c {{ type filter hook {hook} priority {priority}; {match} counter name seen; }}
        }}"""
    )


def counted(host: Host, name: str) -> int:
    words = host.run(f"nft list counter inet {name} seen").stdout.split()
    return int(words[words.index("packets") + 1])


def members(*listed: str | tuple[str, int] | tuple[str, int, int]) -> list[dict[str, Any]]:
    """Policy members from names, (name, weight) or (name, weight, tier)."""
    items = [(item,) if isinstance(item, str) else item for item in listed]
    return [dict(zip(("link", "weight", "tier"), item, strict=False)) for item in items]


def policy(
    *listed: str | tuple[str, int] | tuple[str, int, int], name: str = "balanced", **more: Any
) -> dict[str, Any]:
    return {"name": name, "members": members(*listed), **more}
