# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What goes wrong on a link. Everything is done at the provider's side: the router under test is never touched.

Each function acts at once and returns an Impairment; undo() or the end of a `with` block takes it back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Literal, ParamSpec, TypeVar

from .host import Host, LabError
from .topology import PUBLIC_DEVICE, TARGETS, Topology, Uplink

P = ParamSpec("P")
Result = TypeVar("Result")
Direction = Literal["up", "down"]
_serial = count(1)


class Impairment:
    """Something that can be taken back, once."""

    def __init__(self, undo: Callable[[], object]) -> None:
        self._undo: Callable[[], object] | None = undo

    def undo(self) -> None:
        if self._undo is not None:
            undo, self._undo = self._undo, None
            undo()

    def __enter__(self) -> Impairment:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()


@dataclass(frozen=True)
class Moment:
    """When something was done: between two monotonic times, `time` in the middle of the call."""

    began: float
    ended: float

    @property
    def time(self) -> float:
        return (self.began + self.ended) / 2


class Injection(Impairment):
    """An impairment that tells when it came, and when it went: `moment` and, once undone, `over`."""

    def __init__(self, call: Callable[[], Impairment]) -> None:
        made, self.moment = timed(call)
        self.over: Moment | None = None
        super().__init__(made.undo)

    def undo(self) -> None:
        if self.over is None:
            self.over = timed(super().undo)[1]


def timed(call: Callable[[], Result]) -> tuple[Result, Moment]:
    began = time.monotonic()
    result = call()
    return result, Moment(began, time.monotonic())


def inject(impairment: Callable[P, Impairment], *args: P.args, **options: P.kwargs) -> Injection:
    """``inject(black_hole, net, "isp_a").moment.time``: the monotonic time it happened at."""
    return Injection(lambda: impairment(*args, **options))


def cable_pulled(topology: Topology, link: str) -> Impairment:
    """The router's device loses its carrier (on a shared segment: for all links of the device)."""
    wire = topology.uplinks[link].wire
    if wire is None:
        raise LabError(f"{link} has no cable; see hung_up()")
    return _device_down(wire.b.host, wire.b.device)


def provider_unplugged(topology: Topology, link: str) -> Impairment:
    """The provider's device loses its carrier; behind a switch the router's device keeps its own."""
    wire = topology.uplinks[link].provider_wire
    if wire is None:
        raise LabError(f"{link} has no cable; see hung_up()")
    return _device_down(wire.b.host, wire.b.device)


def _device_down(host: Host, device: str) -> Impairment:
    host.ip(f"link set {device} down")
    return Impairment(lambda: host.ip(f"link set {device} up"))


def hung_up(topology: Topology, link: str) -> Impairment:
    """A point-to-point line ends and takes its device with it; undone, it is dialled anew with the same addresses."""
    uplink = topology.uplinks[link]
    if uplink.tun is None:
        raise LabError(f"{link} is not a point-to-point line")
    uplink.tun.hang_up()
    return Impairment(uplink.tun.dial)


def black_hole(topology: Topology, link: str) -> Impairment:
    """The provider silently forwards nothing any more, in either direction; its gateway still answers."""
    return _forward_rules(topology.uplinks[link], ("up", "down"), "drop")


def loss(topology: Topology, link: str, percent: int) -> Impairment:
    """Random loss of forwarded packets, in each direction on its own."""
    return _forward_rules(topology.uplinks[link], ("up", "down"), _sometimes(percent))


def one_way_loss(topology: Topology, link: str, direction: Direction, percent: int = 100) -> Impairment:
    """Loss of what the customer sends (up) or of what comes back (down)."""
    return _forward_rules(topology.uplinks[link], (direction,), _sometimes(percent))


def gateway_dead(topology: Topology, link: str) -> Impairment:
    """The gateway is silent, ARP included, while the carrier stays: neighbour entries fail in the end."""
    uplink = topology.uplinks[link]
    host, device = uplink.provider, uplink.customer_device
    before = host.sysctl(f"net.ipv4.conf.{device}.arp_ignore")
    host.sysctl(f"net.ipv4.conf.{device}.arp_ignore", 8)
    table = _table(host, f'chain deaf {{ type filter hook prerouting priority -290; iifname "{device}" drop; }}')

    def undo() -> None:
        table.undo()
        host.sysctl(f"net.ipv4.conf.{device}.arp_ignore", before)

    return Impairment(undo)


def rate(topology: Topology, link: str, kbit: int, latency_ms: int = 50) -> Impairment:
    """A slow line: a token bucket for each direction; `latency_ms` is the longest stay in its queue."""
    uplink = topology.uplinks[link]
    host, devices = uplink.provider, (uplink.customer_device, PUBLIC_DEVICE)
    for device in devices:
        limit = f"rate {kbit}kbit burst 16kb latency {latency_ms}ms"
        host.run(f"tc qdisc replace dev {device} root tbf {limit}")
    return Impairment(lambda: [host.run(f"tc qdisc del dev {device} root") for device in devices])


def targets_dead(topology: Topology, *targets: str) -> Impairment:
    """These addresses of the Internet answer nobody any more, over any link; all of TARGETS unless some are named."""
    listed = ", ".join(targets or TARGETS)
    return _table(
        topology.server, f"chain dead {{ type filter hook prerouting priority -290; ip daddr {{ {listed} }} drop; }}"
    )


def lease_changed(topology: Topology, link: str, address: str, gateway: str) -> None:
    """The provider moves the customer: a new gateway of its own, a new address for the router, as a DHCP client would
    set them (address first, then the default route of `proto dhcp`, if there was one). Not undone: change it again."""
    uplink = topology.uplinks[link]
    router, provider, device = topology.router, uplink.provider, uplink.device
    old = router.ip_json(f"route show default dev {device} proto dhcp")
    provider.ip(f"addr flush dev {uplink.customer_device}")
    provider.ip(f"addr add {gateway}/24 dev {uplink.customer_device}")
    router.ip(f"addr flush dev {device}")
    router.ip(f"addr add {address}/24 dev {device}")
    for route in old:
        metric = f"metric {route['metric']}" if "metric" in route else ""
        router.ip(f"route add default via {gateway} dev {device} proto dhcp src {address} {metric}")


def _sometimes(percent: int) -> str:
    return "drop" if percent >= 100 else f"numgen random mod 100 < {percent} drop"


def _forward_rules(uplink: Uplink, directions: tuple[Direction, ...], verdict: str) -> Impairment:
    match = {"up": f'iifname "{uplink.customer_device}"', "down": f'oifname "{uplink.customer_device}"'}
    rules = "\n".join(f"{match[direction]} {verdict}" for direction in directions)
    return _table(uplink.provider, f"chain impaired {{ type filter hook forward priority -200;\n{rules}\n}}")


def _table(host: Host, chain: str) -> Impairment:
    """A table of its own for every impairment, so that they combine and are undone in any order."""
    name = f"impair{next(_serial)}"
    host.nft(f"table inet {name} {{\n{chain}\n}}")
    return Impairment(lambda: host.nft(f"delete table inet {name}"))
