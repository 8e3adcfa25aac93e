# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""One connection spread packet by packet over two lines, beside one line alone and beside a choice per connection.

Both providers carry the LAN's own addresses, as per_packet needs it. Answers come back by the first of them. The
client's kernel cuts what it sends into packets before they leave, because what is not cut would be spread as a whole.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ..lab import impair
from ..lab.balance import policy
from ..lab.engine import Engine
from ..lab.host import LabError
from ..lab.topology import LAN, SERVER, Topology, customer_set, two_links
from ..lab.traffic import Helper
from .figures import Load, Table

STREAM = str(Path(__file__).with_name("stream.py"))
RATE = 20_000  # kbit/s of each line
PPS = 1000
PORT = 5001
A, B = LINKS = ("isp_a", "isp_b")


@dataclass(frozen=True)
class Case:
    """What is tried: an algorithm over some links, whose delays (one way, in ms) are given."""

    name: str
    algorithm: str
    links: tuple[str, ...]
    delays: tuple[int, int]
    backend: str = "nftables"


CASES = (
    Case("first line alone", "multipath", (A,), (5, 30)),
    Case("second line alone", "multipath", (B,), (5, 30)),
    Case("per connection", "multipath", LINKS, (5, 30)),
    Case("per packet", "per_packet", LINKS, (5, 5)),
    Case("per packet", "per_packet", LINKS, (5, 10)),
    Case("per packet", "per_packet", LINKS, (5, 20)),
    Case("per packet", "per_packet", LINKS, (5, 30)),
    Case("per packet", "per_packet", LINKS, (5, 30), "iptables"),
)


def measure(quick: bool) -> list[Table]:
    seconds, cases = (2.0, (CASES[0], CASES[-2])) if quick else (8.0, CASES)
    with Load() as load:
        rows = [tried(case, seconds) for case in cases]
    notes = [
        f"Lines of {RATE // 1000} Mbit/s each with the delays given; one TCP connection for {seconds:.0f} s, and"
        f" numbered datagrams at {PPS} a second for a quarter of that; {load.told()}.",
        "Late: segments or datagrams that came after one sent later. Sent again: of the segments sent; needless: as the"
        " receiver told (DSACK) that it had them already.",
    ]
    columns = (
        *("firewall", "way", "delays, ms", "Mbit/s", "segments late", "sent again", "of these needless"),
        *("round trip, ms", "datagrams late", "datagrams lost"),
    )
    return [Table("Packet by packet", columns, rows, notes)]


def tried(case: Case, seconds: float) -> list[str]:
    with two_links() as net, ExitStack() as stack:
        shared_addresses(net)
        engine = stack.enter_context(Engine(net, case.backend))
        policies = [policy(*case.links, algorithm=case.algorithm)]
        engine.apply(mwan_policies=policies, mwan_snat=[], mwan_classify="marks")
        for link, delay in zip(LINKS, case.delays, strict=True):
            stack.enter_context(impair.rate(net, link, RATE))
            stack.enter_context(impair.delay(net, link, up_ms=delay))
        tcp = sent(net, "tcp", seconds)
        udp = sent(net, "udp", seconds / 4)
        if net.spoofed():
            raise LabError(f"{case}: the providers dropped {net.spoofed()} packets")
    delays = " and ".join(str(case.delays[LINKS.index(link)]) for link in case.links)
    return [case.backend, case.name, delays, *tcp_cells(tcp), *udp_cells(udp)]


def shared_addresses(net: Topology) -> None:
    """The LAN's addresses are valid on either line; the Internet answers by the first."""
    net.client.ip("link set eth0 gso_max_segs 1")
    net.server.ip(f"route add {LAN} via 100.64.1.1")
    for uplink in net.uplinks.values():
        uplink.provider.ip(f"route add {LAN} via {uplink.address}")
        uplink.provider.nft(f"add element inet lab {customer_set(uplink.customer_device)} {{ {LAN} }}")


def sent(net: Topology, protocol: str, seconds: float) -> dict[str, float]:
    """What both ends say."""
    job = {"protocol": protocol, "destination": SERVER, "port": PORT, "seconds": seconds, "pps": PPS}
    with Helper(net.server, STREAM, "receive", json.dumps(job)) as receiver:
        sender = net.client.helper(STREAM, "send", json.dumps(job))
        told, _unused = sender.communicate(timeout=60 + 5 * seconds)
        if sender.returncode:
            raise LabError(f"{protocol}: the sender failed: {told}")
        return {**json.loads(told), **json.loads(receiver.end(timeout=60))}


def tcp_cells(told: dict[str, float]) -> list[str]:
    rate = 8 * told["octets"] / told["seconds"] / 1e6
    late, again = told["late"] / told["came"], told["again"] / told["sent"]
    return [f"{rate:.1f}", f"{late:.1%}", f"{again:.1%}", f"{told['needless']:.0f}", f"{1000 * told['rtt']:.0f}"]


def udp_cells(told: dict[str, float]) -> list[str]:
    return [f"{told['late'] / told['came']:.1%}", f"{told['sent'] - told['came']:.0f} of {told['sent']:.0f}"]
