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

POLICY_ROUTES = "ip route show table mwan_balanced"
LONGEST_WAIT = 90.0
# The kernel trusts a neighbour for up to 1.5 times this before it asks again. Its default is 30 s.
REACHABLE_MS = 3000

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
    meaning: str  # what that is to the kernel
    evidence: str  # a command that shows it on the router
    fail: Callable[[Topology, str], impair.Impairment]
    notices_at_once: bool

    def prepare(self, topology: Topology) -> None:
        """What the demo changes on the router beside the playbook, told to the reader in `meaning`."""
        if not self.notices_at_once:
            device = topology.uplinks[self.failing].device
            topology.router.sysctl(f"net.ipv4.neigh.{device}.base_reachable_time_ms", REACHABLE_MS)

    def wait_until_noticed(self, topology: Topology) -> float:
        """Seconds until the kernel knows that the link does not work."""
        return wait(lambda: not self._usable(topology), "the kernel did not notice that the link failed")

    def wait_until_back(self, topology: Topology) -> float:
        """Seconds until the kernel knows that it works again."""
        return wait(lambda: self._usable(topology), "the kernel did not notice that the link is back")

    def _usable(self, topology: Topology) -> bool:
        uplink = topology.uplinks[self.failing]
        if self.notices_at_once:
            (device,) = topology.router.ip_json(f"link show dev {uplink.device}")
            return "LOWER_UP" in device["flags"]
        (entry,) = topology.router.ip_json(f"neigh show to {uplink.gateway} dev {uplink.device}")
        return not {"FAILED", "INCOMPLETE"} & set(entry["state"])


SCENES = {
    "two-links": Scene(
        title="two providers, a cable each",
        build=two_links,
        drawing=TWO_LINKS,
        failing="isp_b",
        outage="The cable of isp_b is pulled",
        meaning="wan2 has lost its carrier. The kernel skips routes over it at once, because the role set "
        "ignore_routes_with_linkdown; nothing has to run for that.",
        evidence=POLICY_ROUTES,
        fail=impair.cable_pulled,
        notices_at_once=True,
    ),
    "shared-segment": Scene(
        title="two provider routers on one device",
        build=shared_segment,
        drawing=SHARED_SEGMENT,
        failing="router2",
        outage="router2 goes dark",
        meaning="router2 is behind a switch, so wan0 keeps its carrier: the kernel learns of it only when router2 no "
        "longer answers ARP. From then on it skips router2, because the role set fib_multipath_use_neigh. It trusts "
        "an answer for up to 45 s, then asks for 8 s more; so that you need not wait, the demo has shortened the "
        "45 s to 4.5 s (neigh/wan0/base_reachable_time_ms).",
        evidence="ip neigh show dev wan0",
        fail=impair.provider_unplugged,
        notices_at_once=False,
    ),
}
