# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation shared by the modules that change a router."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  mark_mask:
    description:
      - The bits of packet mark and connection mark that carry a link's id, as one run of set bits.
      - The default V(0x3f00) holds 63 ids and stays clear of the marks of kube-proxy and tailscale. V(0xff00) holds
        255.
      - No other bit is ever written.
      - Left out, the stored value stays; so do the other settings.
    type: str
  table_base:
    description: Routing tables are numbered from here, one for each id. V(1000) by default.
    type: int
  rule_priority:
    description: The first of the 1001 policy rule priorities that are used. V(1000) by default.
    type: int
  firewall_backend:
    description:
      - What carries marks and source NAT. V(auto), the default, keeps the one in use on the router, else takes
        V(nftables), or V(iptables) where the host's firewall is legacy iptables or the C(nft) command is missing.
      - V(iptables) goes through python-iptables, which speaks to legacy x_tables only.
    type: str
    choices: [auto, nftables, iptables]
  assume:
    description:
      - Objects that earlier tasks of the same play declare, as a dictionary with the keys C(links), C(probe),
        C(policies), C(rules), C(sets), C(classify), C(default_policy), C(snat), C(dnat), C(rp_filter) and C(purge).
      - Only looked at in check mode, where those earlier tasks have written nothing. It lets every task of a play be
        checked on a router that was never configured.
    type: dict
  validate:
    description:
      - Everything the play declares, with the keys of O(assume). Where its parts do not fit together, it is refused
        as a whole before this task changes anything.
    type: dict
notes:
  - The whole router is converged by each module, so a change by hand to any object is repaired by whichever runs first.
  - Only objects of ours are changed or removed. They are routes and rules with protocol number 77, the nftables
    table C(inet mwan) or the C(MWAN_*) chains, and the files named in the role's documentation.
  - Failover is not drift. A link that is out of service stays out, and the module reports no change.
requirements:
  - python >= 3.9
  - pyroute2 >= 0.7.2 (C(python3-pyroute2) on Debian 12, Ubuntu 24.04, EPEL 10 and newer)
  - nftables >= 0.9.8, or python-iptables >= 1.0.1 for O(firewall_backend=iptables)
"""
