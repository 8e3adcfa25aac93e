# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What goes wrong on a link. Everything is done at the provider's side: the router under test is never touched, but
where a DHCP client, a PPP daemon or the hardware would.

Each function acts at once and returns an Impairment; undo() or the end of a `with` block takes it back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import ParamSpec, Self, TypeVar

from .host import Host, LabError
from .topology import PUBLIC_DEVICE, TARGETS, Direction, Topology, Uplink, customer_set, network_of
from .tun import Pump, TunPair

P = ParamSpec("P")
Result = TypeVar("Result")
FIRST_TABLE = 1000  # of a provider; what it routes over a delay, by mark
FASTEST, MOST_FLAPS = 20.0, 600  # changes to the bad a second, and in all
_serial = count(1)


@dataclass(frozen=True)
class Moment:
    """When something was done: between two monotonic times, `time` in the middle of the call."""

    began: float
    ended: float

    @property
    def time(self) -> float:
        return (self.began + self.ended) / 2


class Impairment:
    """Something that can be taken back, once. `came`: when, if that was only a part of the call that made it."""

    def __init__(self, undo: Callable[[], object], came: Moment | None = None) -> None:
        self._undo: Callable[[], object] | None = undo
        self.came = came

    def undo(self) -> None:
        if self._undo is not None:
            undo, self._undo = self._undo, None
            undo()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()


class Injection(Impairment):
    """An impairment that tells when it came, and when it went: `moment` and, once undone, `over`."""

    def __init__(self, call: Callable[[], Impairment]) -> None:
        made, moment = timed(call)
        self.moment = made.came or moment
        self.over: Moment | None = None
        super().__init__(made.undo, made.came)

    def undo(self) -> None:
        if self.over is None:
            self.over = timed(super().undo)[1]


def timed(call: Callable[[], Result]) -> tuple[Result, Moment]:
    began = time.monotonic()
    result = call()
    return result, Moment(began, time.monotonic())


class Flapping:
    """An impairment that comes and goes `hz` times a second, `times` times, and ends undone.

    On an absolute schedule: a slow call shortens the pause after it.
    """

    def __init__(self, impairment: Callable[[], Impairment], hz: float = 10.0, times: int = 30) -> None:
        if hz > FASTEST or times > MOST_FLAPS:
            raise ValueError(f"Flapping: {hz} Hz, {times} times; at most {FASTEST} and {MOST_FLAPS}")
        self._impairment, self._half, self._times = impairment, 0.5 / hz, times
        self._stop = threading.Event()
        self._problem: Exception | None = None
        self.moments: list[Moment] = []  # of every change, bad and good in turns
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        due = time.monotonic()
        try:
            for _unused in range(self._times):
                with inject(self._impairment) as injection:
                    due = self._pause(due)
                assert injection.over is not None
                self.moments += [injection.moment, injection.over]
                due = self._pause(due)
                if self._stop.is_set():
                    return
        except Exception as error:  # told by wait()
            self._problem = error

    def _pause(self, due: float) -> float:
        """Wait for the next half period; returns when that was due."""
        due += self._half
        self._stop.wait(max(0.0, due - time.monotonic()))
        return due

    def wait(self) -> None:
        """Until it has come and gone as often as it should; raises what went wrong."""
        self._thread.join()
        if self._problem is not None:
            raise self._problem

    def __enter__(self) -> Flapping:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.wait()


def inject(impairment: Callable[P, Impairment], *args: P.args, **options: P.kwargs) -> Injection:
    """``inject(black_hole, net, "isp_a").moment.time``: the monotonic time it happened at."""
    return Injection(lambda: impairment(*args, **options))


def wait_noticed(topology: Topology, link: str) -> None:
    """Until the router's kernel avoids the routes of a link without carrier: it marks them a moment after that went."""
    device = topology.uplinks[link].device
    topology.router.run(f"until ip route show table all dev {device} | grep -q linkdown; do :; done", timeout=10)


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


def device_removed(topology: Topology, link: str) -> Impairment:
    """The router's device is gone, as an USB modem pulled out; undone, it is back with another index, and everything
    that other programs gave it (addresses, default route of DHCP)."""
    uplink = topology.uplinks[link]
    if uplink.wire is None:
        return hung_up(topology, link)
    lab, ends = topology.lab, (uplink.wire.a, uplink.wire.b)
    given = [_given(end.host, end.device) for end in ends]
    _unused, came = timed(lambda: ends[0].host.ip(f"link del {ends[0].device}"))

    def undo() -> None:
        near, far = ends
        lab.connect(near.host, near.device, far.host, far.device, slow=uplink.wire is not None and uplink.wire.slow)
        for end, lines in zip(ends, given, strict=True):
            lab.configure(end.host, lines)
        lab.settle()

    return Impairment(undo, came)


def _given(host: Host, device: str) -> list[str]:
    """Lines of `ip -batch` that make a new device what this one is. The hardware address stays: others know it."""
    (now,) = host.ip_json(f"addr show dev {device}")
    master = f" master {now['master']}" if "master" in now else ""
    addresses = [item for item in now["addr_info"] if item["family"] == "inet"]
    return [
        f"link set {device} address {now['address']}{master}",
        *(f"addr add {item['local']}/{item['prefixlen']} dev {device}" for item in addresses),
        f"link set {device} {'up' if 'UP' in now['flags'] else 'down'}",
        *_learned_routes(host, device),
    ]


def _learned_routes(host: Host, device: str, **changed: str) -> list[str]:
    """What a DHCP client does to have its default routes, if it has any, with something changed."""
    routes = [{**route, **changed} for route in host.ip_json(f"route show default dev {device} proto dhcp")]
    return [
        f"route add default via {route['gateway']} dev {device} proto dhcp src {route['prefsrc']}"
        + (f" metric {route['metric']}" if "metric" in route else "")
        for route in routes
    ]


def black_hole(topology: Topology, link: str) -> Impairment:
    """The provider silently forwards nothing any more, in either direction; its gateway still answers."""
    return _forward_rules(topology.uplinks[link], ("up", "down"), "drop")


def loss(topology: Topology, link: str, percent: int) -> Impairment:
    """Random loss of forwarded packets, in each direction on its own."""
    return _forward_rules(topology.uplinks[link], ("up", "down"), _sometimes(percent))


def one_way_loss(topology: Topology, link: str, direction: Direction, percent: int = 100) -> Impairment:
    """Loss of what the customer sends (up) or of what comes back (down)."""
    return _forward_rules(topology.uplinks[link], (direction,), _sometimes(percent))


def unreachable(topology: Topology, link: str) -> Impairment:
    """The provider has no way on and says so, every time (by default a kernel does once a second)."""
    uplink = topology.uplinks[link]
    uplink.provider.sysctl("net.ipv4.icmp_ratelimit", 0)
    return _forward_rules(uplink, ("up",), "reject with icmp type host-unreachable")


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

    return Impairment(undo, table.came)


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


class Delay(Impairment):
    """A line that takes its time; change() while it is in use."""

    def __init__(self, pump: Pump, undo: Callable[[], object], came: Moment | None) -> None:
        super().__init__(undo, came)
        self._pump = pump

    def change(self, up_ms: float, down_ms: float) -> None:
        """For what comes from now on; nothing is overtaken, so what is under way may hold up the next packets."""
        self._pump.delay(up_ms / 1000, down_ms / 1000)


def delay(topology: Topology, link: str, up_ms: float = 0, down_ms: float = 0) -> Delay:
    """What is forwarded takes longer, by so much for what the customer sends (up) and for what comes back (down).

    No kernel of the lab needs netem: the provider sends everything over a line between two tun devices of its own.
    Undone, what is under way is lost.
    """
    uplink = topology.uplinks[link]
    provider, number = uplink.provider, next(_serial)
    near, far = f"late{number}a", f"late{number}b"
    pump = Pump(provider, near, provider, far)
    pump.delay(up_ms / 1000, down_ms / 1000)
    marks = {near: FIRST_TABLE + 2 * number, far: FIRST_TABLE + 2 * number + 1}
    lines = []
    for device, mark in marks.items():
        lines += [f"link set {device} up", f"route add default dev {device} table {mark}"]
        lines += [f"rule add fwmark {mark} lookup {mark} priority 100"]
    provider.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n")
    diversion = _table(provider, _diversion(uplink.customer_device, near, marks[near], marks[far]))

    def undo() -> None:
        diversion.undo()
        provider.run(["ip", "-batch", "-"], input="".join(f"rule del fwmark {mark}\n" for mark in marks.values()))
        pump.stop()

    return Delay(pump, undo, diversion.came)


def _diversion(customer: str, near: str, up: int, down: int) -> str:
    """Routes by mark between a customer and the Internet. Connections are tracked once, on the Internet's side of the
    line: where the provider translates, the customer's side would be another connection to its kernel."""
    return f"""
        chain untracked {{
          type filter hook prerouting priority -300;
          iifname {{ "{customer}", "{near}" }} notrack
        }}
        chain diverted {{
          type filter hook prerouting priority -90;
          iifname "{customer}" fib daddr type != local meta mark set {up}
          iifname "{PUBLIC_DEVICE}" fib daddr oifname "{customer}" meta mark set {down}
        }}"""


def address_lost(topology: Topology, link: str, seconds: float) -> Moment:
    """The link's device loses its addresses for so long, and gets the same ones, as when a network is set up anew."""
    router, device = topology.router, topology.uplinks[link].device
    # the lines that begin with "link set" are for a device that is new
    lines = [line for line in _given(router, device) if line.startswith(("addr ", "route "))]

    def lose() -> None:
        router.ip(f"addr flush dev {device}")
        time.sleep(seconds)
        router.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n")

    return timed(lose)[1]


def lease_changed(topology: Topology, link: str, address: str, gateway: str) -> Moment:
    """The provider moves the customer: a new gateway of its own, a new address for the router, set as a DHCP client
    does (address first, then the default route of `proto dhcp`, if there was one) or as a PPP daemon does; a line that
    is hung up has them when it is dialled. The old address works no more. Not undone: change it again.

    Returns when the router had it: the provider changed a little before.
    """
    uplink = topology.uplinks[link]
    if uplink.shared:
        raise LabError(f"{link} shares its device")
    _renumber(topology, uplink, address, gateway)
    # within one prefix the provider's neighbour entry would let the old one live on
    uplink.provider.ip(f"route replace blackhole {uplink.address}/32")
    uplink.provider.run(f"ip route del blackhole {address}/32", check=False)
    renumbered = replace(uplink, address=address, source=address if uplink.source == uplink.address else uplink.source)
    topology.uplinks[link] = renumbered if uplink.gateway is None else replace(renumbered, gateway=gateway)
    if uplink.tun is not None:
        return _lease_of_line(uplink.tun, address, gateway)
    device = uplink.device
    uplink.provider.ip(f"addr flush dev {uplink.customer_device}")
    uplink.provider.ip(f"addr add {gateway}/24 dev {uplink.customer_device}")
    routes = _learned_routes(topology.router, device, gateway=gateway, prefsrc=address)
    lines = [f"addr flush dev {device}", f"addr add {address}/24 dev {device}", *routes]
    return timed(lambda: topology.router.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n"))[1]


def _lease_of_line(tun: TunPair, address: str, gateway: str) -> Moment:
    tun.address_a, tun.address_b = address, gateway
    tun.address_far()
    return timed(tun.address_near)[1]


def _renumber(topology: Topology, uplink: Uplink, address: str, gateway: str) -> None:
    """Let the customer use its new prefix instead of the old one, and let the Internet find it there."""
    before = _prefix(uplink, uplink.address, uplink.gateway)
    after = _prefix(uplink, address, gateway)
    if before == after:
        return
    allowed = f"element inet lab {customer_set(uplink.customer_device)}"
    uplink.provider.nft(f"delete {allowed} {{ {before} }}\nadd {allowed} {{ {after} }}")
    if uplink.source == uplink.address:
        (way,) = topology.server.ip_json(f"route show {before}")
        topology.server.ip(f"route del {before}")
        topology.server.ip(f"route add {after} via {way['gateway']}")


def _prefix(uplink: Uplink, address: str, gateway: str | None) -> str:
    return f"{address}/32" if uplink.tun or gateway is None else network_of(gateway)


def _sometimes(percent: int) -> str:
    return "drop" if percent >= 100 else f"numgen random mod 100 < {percent} drop"


def _forward_rules(uplink: Uplink, directions: tuple[Direction, ...], verdict: str) -> Impairment:
    match = {"up": f'iifname "{uplink.customer_device}"', "down": f'oifname "{uplink.customer_device}"'}
    rules = "\n".join(f"{match[direction]} {verdict}" for direction in directions)
    return _table(uplink.provider, f"chain impaired {{ type filter hook forward priority -200;\n{rules}\n}}")


def _table(host: Host, chain: str) -> Impairment:
    """A table of its own for every impairment, so that they combine and are undone in any order."""
    name = f"impair{next(_serial)}"
    _unused, came = timed(lambda: host.nft(f"table inet {name} {{\n{chain}\n}}"))
    return Impairment(lambda: host.nft(f"delete table inet {name}"), came)
