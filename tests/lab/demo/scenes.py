# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The networks of the demo: how they are drawn, and how one of their links fails and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from .. import impair
from ..host import LabError
from ..topology import Topology, shared_segment, two_links
from .noticed import Allowed

POLICY_ROUTES = "ip route show table mwan_balanced"
LONGEST_WAIT = 60.0
UP_AFTER = 2
# With the prober's default profile, silence is down after 2 s, and connections are given up 1 s later. A TCP client
# then meets the reset with what it sends again, which may be as long after as it has waited before.
TOLD = Allowed(new=1.0, tcp=3.0, other=2.0)
SILENT = Allowed(new=2.0, tcp=8.0, other=5.0)

TWO_LINKS = """
 nine clients       +--------+ wan1 5.5.5.5 --- 5.5.5.1 [isp_a] --+
 192.168.101.1-9    |        |         weight 3                   |
 [client] ---- lan0 | router |                                    +-- [server]
    192.168.101.254 |        |         weight 1                   |    7.7.7.7
                    +--------+ wan2 6.6.6.6 --- 6.6.6.1 [isp_b] --+
"""

SHARED_SEGMENT = """
 nine clients     +--------+      +- .1 [router1] 192.168.122.65 -+
 192.168.101.1-9  |        | wan0 |     weight 3                  |
 [client] -- lan0 | router |------+ switch                        +-- [server]
  192.168.101.254 |        | .100 |     weight 1                  |    7.7.7.7
                  +--------+      +- .2 [router2] 192.168.122.66 -+

 .1, .2 and .100 are of 192.168.100.0/24; the provider routers translate to
 the public addresses, which are what the server sees.
"""


def wait(done: Callable[[], bool], failure: str) -> float:
    """Seconds until `done`; a LabError after LONGEST_WAIT."""
    started = time.monotonic()
    while not done():
        if time.monotonic() - started > LONGEST_WAIT:
            raise LabError(f"{failure} in {LONGEST_WAIT:.0f} s")
        time.sleep(0.1)
    return time.monotonic() - started


@dataclass(frozen=True)
class Scene:
    """One value of DEMO. The last link is the one that fails."""

    title: str
    build: Callable[..., Topology]
    drawing: str
    failing: str
    outage: str  # what happens, in a heading
    meaning: str  # what that is to the router
    fail: Callable[[Topology, str], impair.Impairment]
    allowed: Allowed  # until clients are served again


SCENES = {
    "two-links": Scene(
        title="two providers, a cable each",
        build=two_links,
        drawing=TWO_LINKS,
        failing="isp_b",
        outage="The cable of isp_b is pulled",
        meaning="wan2 has lost its carrier. The kernel skips routes over it at once, because the role set "
        "ignore_routes_with_linkdown; nothing has to run for that. It tells the prober, which gives up what is pinned "
        "to the link: TCP connections are reset, so that clients connect anew, and the rest is forgotten, so that its "
        "next packet takes the other link.",
        fail=impair.cable_pulled,
        allowed=TOLD,
    ),
    "shared-segment": Scene(
        title="two provider routers on one device",
        build=shared_segment,
        drawing=SHARED_SEGMENT,
        failing="router2",
        outage="router2 is unplugged from the switch",
        meaning="wan0 keeps its carrier, because the cable is router2's own, and router1 is on the same device: all "
        "that tells the router is silence. Without the prober the kernel would notice, too, but only when it no longer "
        "trusts router2's last ARP answer (after up to 45 s) and has asked for 8 s in vain.",
        fail=impair.provider_unplugged,
        allowed=SILENT,
    ),
}
