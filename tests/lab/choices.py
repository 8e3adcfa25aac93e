# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What others do to the choices of a router's firewall, and what its rules have counted, whichever backend it has."""

from __future__ import annotations

import sys

from .console import told
from .topology import Topology

# the ipset program may not be there
ADD = """
import sys, pyroute2
with pyroute2.IPSet() as sets:
    for network in sys.argv[2:]:
        sets.add(sys.argv[1], network, etype="net")
"""


def taken(net: Topology) -> dict[str, int]:
    """Packets by rule."""
    return {rule["name"]: rule["packets"] for rule in told(net.router, "rules")}


def fill(net: Topology, backend: str, name: str, *networks: str) -> None:
    """Put networks into an external set, as a name server or a fail2ban would."""
    if backend == "nftables":
        net.router.nft(f"add element inet mwan set_{name} {{ {', '.join(networks)} }}")
    else:
        net.router.run([sys.executable, "-c", ADD, f"mwan_{name}", *networks])
