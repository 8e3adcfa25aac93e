# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fixed numbers of the kernel layout (docs/architecture.md draws it)."""

from __future__ import annotations

# rtnetlink protocol number of our routes and rules, named "mwan" in rt_protos.d; rtnetlink.h reserves values up to
# RTPROT_STATIC for the kernel and leaves the rest to user space.
PROTOCOL = 77
PROTOCOL_NAME = "mwan"
TABLE_PREFIX = "mwan_"

# Offsets from Settings.rule_priority.
SUPPRESS = 0  # main without its default routes: connected and static networks first
MARK = 1  # pinned connections
CHOSEN = 2  # what the firewall sends to a policy, or elsewhere than to a link
BOUND = 99  # main again, for what is bound to a link's device and so passes over marks
SOURCE = 100  # sockets bound to a link's address, or device
SKIP = 199  # what is forwarded passes over the rules for the router's own traffic
RULES = 200  # declared rules, in order
PASSED = 998  # where it lands
DEFAULT_POLICY = 999  # everything else
BEYOND = 1000  # where what is left alone lands

# Metrics. A tier's route has its tier as metric, so the kernel itself falls through to the next tier when every
# nexthop of a tier has lost its carrier.
FALLBACK = (
    10000  # times tier, plus the link's id: plain defaults which survive when a device of the multipath route goes
)
LAST_RESORT = 2000000
PROHIBIT = 1000000

RT_TABLES = "/etc/iproute2/rt_tables.d/mwan.conf"
RT_PROTOS = "/etc/iproute2/rt_protos.d/mwan.conf"
SYSCTL_D = "/etc/sysctl.d/90-mwan.conf"
FILES = (RT_TABLES, RT_PROTOS, SYSCTL_D)
# What is known of the connections of each link; they are gone with the next boot, and so is it.
PINS = "/run/mwan/pins.json"
# Which links take new connections of the policies that a helper is asked for (balance/roster.py reads it), and the
# weights by which others follow their counts of connections.
BALANCE = "/run/mwan/balance.json"
WEIGHTS = "/run/mwan/weights.json"
