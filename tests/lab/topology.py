# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The networks the tests, the demo and the benchmarks run on.

Every topology has a client on a LAN, the router under test, providers and an Internet server behind them::

    client 192.168.101.1.. --- lan0 router wan1 --- isp_a ---+
                                           wan2 --- isp_b ---+--- server 7.7.7.7 (any of 7.7.7.0/24, and TARGETS)

The server knows a provider by its prefix only, so what leaves with a wrong source never comes back; and a provider
drops and counts what its customer has no right to send (`Topology.spoofed`). The router has its addresses and
nothing else: no default route, no forwarding, no firewall.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any, Literal

from .host import Host
from .lab import Lab, Wire
from .tun import TunPair

LAN = "192.168.101.0/24"
LAN_ROUTER = "192.168.101.254"
SERVER = "7.7.7.7"
SERVER_PREFIX = "7.7.7.0/24"
TARGETS = ("1.1.1.1", "8.8.8.8", "9.9.9.9")  # what a link's health is measured with unless told otherwise
PUBLIC_DEVICE = "inet"
Direction = Literal["up", "down"]  # from the customer, to the customer


@dataclass(frozen=True)
class Uplink:
    """What the lab knows of one link of the router."""

    name: str
    device: str
    address: str  # of the router
    gateway: str | None
    source: str  # the address the server sees
    weight: int
    provider: Host
    customer_device: str  # of the provider, towards the router; the one towards the server is PUBLIC_DEVICE
    wire: Wire | None  # the router's cable, `a` in the router; None on a tun pair
    provider_wire: Wire | None  # the provider's cable: the same one, or its own on a shared segment
    tun: TunPair | None

    @property
    def shared(self) -> bool:
        """Whether other links are on the same device, with the same address."""
        return self.wire is not self.provider_wire


@dataclass
class Topology:
    """One built network."""

    lab: Lab
    router: Host
    client: Host
    server: Host
    client_addresses: list[str]
    uplinks: dict[str, Uplink] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)

    @property
    def providers(self) -> dict[str, Host]:
        """Link name -> provider; links may share one."""
        return {name: uplink.provider for name, uplink in self.uplinks.items()}

    @property
    def sources(self) -> dict[str, str]:
        """Link name -> source address the server is to see."""
        return {name: uplink.source for name, uplink in self.uplinks.items()}

    def spoofed(self) -> int:
        """Packets the providers dropped because their source was not the customer's."""
        return sum(spoofed_at(host) for host in {host.name: host for host in self.providers.values()}.values())

    def close(self) -> None:
        self.lab.close()

    def __enter__(self) -> Topology:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def spoofed_at(provider: Host) -> int:
    listing = json.loads(provider.run(["nft", "-j", "list", "counter", "inet", "lab", "spoofed"]).stdout)
    return sum(item["counter"]["packets"] for item in listing["nftables"] if "counter" in item)


@dataclass(frozen=True)
class Line:
    """One link to be built: router `address` on `device`, provider `gateway`."""

    name: str
    device: str
    address: str
    gateway: str
    weight: int = 1
    public: str | None = None  # the provider translates to this address, as a home router does
    slow: bool = False  # the kernel reports the carrier of its device up to 1 s late

    @property
    def source(self) -> str:
        return self.public or self.address


def two_links(clients: int = 1, weights: Sequence[int] = (1, 1), slow_carrier: bool = False) -> Topology:
    """isp_a on wan1 (5.5.5.5/24 via 5.5.5.1) and isp_b on wan2 (6.6.6.6/24 via 6.6.6.1)."""
    lines = [
        Line("isp_a", "wan1", "5.5.5.5", "5.5.5.1", weights[0], slow=slow_carrier),
        Line("isp_b", "wan2", "6.6.6.6", "6.6.6.1", weights[1], slow=slow_carrier),
    ]
    return _build("two-links", lambda topology: _separate(topology, lines), clients)


def three_links(clients: int = 1, weights: Sequence[int] = (1, 1, 1)) -> Topology:
    """two_links and isp_c on wan3 (4.4.4.4/24 via 4.4.4.1), each with a provider of its own."""
    lines = [
        Line("isp_a", "wan1", "5.5.5.5", "5.5.5.1", weights[0]),
        Line("isp_b", "wan2", "6.6.6.6", "6.6.6.1", weights[1]),
        Line("isp_c", "wan3", "4.4.4.4", "4.4.4.1", weights[2]),
    ]
    return _build("three-links", lambda topology: _separate(topology, lines), clients)


def same_gateway(clients: int = 1, weights: Sequence[int] = (1, 1)) -> Topology:
    """Two modems of one make on wan1 and wan2: both are 192.168.8.1, on a 192.168.8.0/24 of their own.

    The router is 192.168.8.100 and .101; the server sees 5.5.5.5 and 6.6.6.6.
    """
    lines = [
        Line("modem_a", "wan1", "192.168.8.100", "192.168.8.1", weights[0], "5.5.5.5"),
        Line("modem_b", "wan2", "192.168.8.101", "192.168.8.1", weights[1], "6.6.6.6"),
    ]
    return _build("same-gateway", lambda topology: _separate(topology, lines), clients)


def many_links(number: int, weights: Sequence[int] | None = None) -> Topology:
    """`number` links (at most 250) wan1.. on 20.0.N.2/24 via 20.0.N.1, all with one provider host."""
    if not 1 <= number <= 250:
        raise ValueError(f"many_links: 1 to 250 links, not {number}")
    lines = [
        Line(f"link{n}", f"wan{n}", f"20.0.{n}.2", f"20.0.{n}.1", weights[n - 1] if weights else 1)
        for n in range(1, number + 1)
    ]
    return _build("many-links", lambda topology: _one_provider(topology, lines), 1)


def dhcp(clients: int = 1) -> Topology:
    """two_links, but the addresses and a default route for each device in table main are what DHCP left there."""
    topology = two_links(clients)
    for metric, uplink in enumerate(topology.uplinks.values(), 100):
        route = f"route add default via {uplink.gateway} dev {uplink.device} proto dhcp src {uplink.address}"
        topology.lab.configure(topology.router, [f"{route} metric {metric}"])
    topology.lab.settle()
    learned(topology.variables)
    return topology


def learned(variables: dict[str, Any]) -> None:
    """Change role variables so that links follow what others give the router: no address, no gateway is declared."""
    for link in variables["mwan_links"]:
        del link["address"]
        if "gateway" in link:
            link["gateway"] = "auto"
    for snat in variables["mwan_snat"]:
        snat["to"] = "auto"


def shared_segment(clients: int = 1, weights: Sequence[int] = (1, 1)) -> Topology:
    """Two provider routers 192.168.100.1 and .2 on the segment of wan0 (192.168.100.100).

    Each translates to its own public address (192.168.122.65 and .66), so the server sees which of the two was used,
    and forwards everything that arrives at that address to 192.168.100.100.
    """
    lines = [
        Line("router1", "wan0", "192.168.100.100", "192.168.100.1", weights[0], "192.168.122.65"),
        Line("router2", "wan0", "192.168.100.100", "192.168.100.2", weights[1], "192.168.122.66"),
    ]
    return _build("shared-segment", lambda topology: _segment(topology, lines), clients)


def existing_routers(clients: int = 1, weights: Sequence[int] = (1, 1)) -> Topology:
    """Two existing routers 10.0.0.1 and 10.0.0.2 on eth1 (10.0.0.100); the server sees 5.5.5.5 and 6.6.6.6."""
    lines = [
        Line("router1", "eth1", "10.0.0.100", "10.0.0.1", weights[0], "5.5.5.5"),
        Line("router2", "eth1", "10.0.0.100", "10.0.0.2", weights[1], "6.6.6.6"),
    ]
    return _build("existing-routers", lambda topology: _segment(topology, lines), clients)


def point_to_point(clients: int = 1, weights: Sequence[int] = (1, 1)) -> Topology:
    """ppp0 (11.1.1.1, peer 11.1.1.254) and ppp1 (22.2.2.2, peer 22.2.2.254), tun devices, links without gateway."""
    lines = [
        Line("line_x", "ppp0", "11.1.1.1", "11.1.1.254", weights[0]),
        Line("line_y", "ppp1", "22.2.2.2", "22.2.2.254", weights[1]),
    ]
    return _build("point-to-point", lambda topology: _dialled(topology, lines), clients)


def dsl_and_cable(clients: int = 1) -> Topology:
    """dsl on ppp0 (11.1.1.1, a tun device) and cable on wan2 (6.6.6.6/24, a default route from DHCP via 6.6.6.1)."""
    dsl, cable = Line("dsl", "ppp0", "11.1.1.1", "11.1.1.254"), Line("cable", "wan2", "6.6.6.6", "6.6.6.1")

    def lines(topology: Topology) -> None:
        _dialled(topology, [dsl])
        _cable(topology, cable, _isp(topology, cable.name, 2), "cust")

    topology = _build("dsl-and-cable", lines, clients)
    topology.router.ip("route add default via 6.6.6.1 dev wan2 proto dhcp src 6.6.6.6 metric 200")
    learned(topology.variables)
    return topology


def _build(name: str, uplinks: Callable[[Topology], None], clients: int) -> Topology:
    lab = Lab(name)
    try:
        topology = _lan_and_server(lab, clients)
        uplinks(topology)
        lab.settle()
        for uplink in topology.uplinks.values():
            if uplink.tun is not None:
                uplink.tun.dial()
    except BaseException:
        lab.close()
        raise
    topology.variables = role_variables(topology)
    return topology


def role_variables(topology: Topology) -> dict[str, Any]:
    """The role variables that describe this network: all links in one multipath policy, SNAT for the LAN."""
    uplinks = topology.uplinks.values()
    return {
        "mwan_links": [_link_variables(uplink) for uplink in uplinks],
        "mwan_policies": [
            {
                "name": "balanced",
                "algorithm": "multipath",
                "members": [{"link": uplink.name, "weight": uplink.weight} for uplink in uplinks],
            }
        ],
        "mwan_default_policy": "balanced",
        "mwan_snat": [{"link": uplink.name, "source": LAN, "to": uplink.address} for uplink in uplinks],
        "mwan_rp_filter": {"mode": "loose"},
    }


def _link_variables(uplink: Uplink) -> dict[str, Any]:
    gateway = {} if uplink.gateway is None else {"gateway": uplink.gateway}
    return {
        "name": uplink.name,
        "device": uplink.device,
        **gateway,
        "address": uplink.address,
        "weight": uplink.weight,
    }


def _lan_and_server(lab: Lab, clients: int) -> Topology:
    client, router, server = lab.host("client"), lab.host("router"), lab.host("server")
    addresses = [f"192.168.101.{n}" for n in range(1, clients + 1)]
    lab.connect(client, "eth0", router, "lan0")
    own = [f"addr add {address}/24 dev eth0" for address in addresses]
    lab.configure(client, [*own, "link set eth0 up", f"route add default via {LAN_ROUTER} dev eth0"])
    lab.configure(router, [f"addr add {LAN_ROUTER}/24 dev lan0", "link set lan0 up"])
    # A local route for a whole prefix makes every address of it the server's own.
    lab.configure(server, [f"route add local {owned} dev lo" for owned in (SERVER_PREFIX, *TARGETS)])
    return Topology(lab, router, client, server, addresses)


@dataclass(frozen=True)
class _Isp:
    """A provider host and its address on the wire to the server."""

    host: Host
    via: str


def _isp(topology: Topology, name: str, number: int) -> _Isp:
    """A provider, connected to the server; it drops and counts in `spoofed` what its customers may not send."""
    lab, near, far = topology.lab, f"100.64.{number}.1", f"100.64.{number}.2"
    host = lab.host(name, forward=True)
    device = lab.connect(host, PUBLIC_DEVICE, topology.server, f"isp{number}").b.device
    table = "table inet lab {\n counter spoofed { }\n chain customers { type filter hook prerouting priority -300; }\n}"
    public = [f"addr add {near}/30 dev {PUBLIC_DEVICE}", f"link set {PUBLIC_DEVICE} up", f"route add default via {far}"]
    lab.configure(host, public, table)
    lab.configure(topology.server, [f"addr add {far}/30 dev {device}", f"link set {device} up"])
    return _Isp(host, near)


def _customer(topology: Topology, isp: _Isp, line: Line, device: str, prefix: str) -> None:
    """Route the customer's prefix to it, and let nothing in that claims to come from elsewhere."""
    allowed = customer_set(device)
    guard = f"""
        add set inet lab {allowed} {{ type ipv4_addr; flags interval; elements = {{ 0.0.0.0, {prefix} }}; }}
        add rule inet lab customers iifname {device} ip saddr != @{allowed} counter name spoofed drop"""
    topology.lab.configure(isp.host, [], guard)
    reached = f"{line.public}/32" if line.public else prefix
    topology.lab.configure(topology.server, [f"route add {reached} via {isp.via}"])


def customer_set(device: str) -> str:
    """Name of the provider's nft set of addresses that the customer on that device may use."""
    return f"of_{device}"


def _add_uplink(
    topology: Topology, line: Line, isp: _Isp, device: str, wires: tuple[Wire, Wire] | None, tun: TunPair | None = None
) -> None:
    topology.uplinks[line.name] = Uplink(
        name=line.name,
        device=line.device,
        address=line.address,
        gateway=None if tun else line.gateway,
        source=line.source,
        weight=line.weight,
        provider=isp.host,
        customer_device=device,
        wire=wires[0] if wires else None,
        provider_wire=wires[1] if wires else None,
        tun=tun,
    )


def _cable(topology: Topology, line: Line, isp: _Isp, device: str) -> None:
    """An uplink on an Ethernet cable of its own."""
    lab = topology.lab
    wire = lab.connect(topology.router, line.device, isp.host, device, slow=line.slow)
    lab.configure(topology.router, [f"addr add {line.address}/24 dev {line.device}", f"link set {line.device} up"])
    lab.configure(isp.host, [f"addr add {line.gateway}/24 dev {device}", f"link set {device} up"])
    _translate(topology, isp, line)
    _customer(topology, isp, line, device, network_of(line.gateway))
    _add_uplink(topology, line, isp, device, (wire, wire))


def _separate(topology: Topology, lines: list[Line]) -> None:
    for number, line in enumerate(lines, 1):
        _cable(topology, line, _isp(topology, line.name, number), "cust")


def _one_provider(topology: Topology, lines: list[Line]) -> None:
    isp = _isp(topology, "isp", 1)
    for number, line in enumerate(lines, 1):
        _cable(topology, line, isp, f"cust{number}")


def _segment(topology: Topology, lines: list[Line]) -> None:
    lab, router, (device, address) = topology.lab, topology.router, (lines[0].device, lines[0].address)
    switch = lab.switch("switch")
    uplink_wire = lab.plug(router, device, switch)
    lab.configure(router, [f"addr add {address}/24 dev {device}", f"link set {device} up"])
    for number, line in enumerate(lines, 1):
        isp = _isp(topology, line.name, number)
        wire = lab.plug(isp.host, "cust", switch)
        lab.configure(isp.host, [f"addr add {line.gateway}/24 dev cust", "link set cust up"])
        _translate(topology, isp, line)
        _customer(topology, isp, line, "cust", network_of(line.gateway))
        _add_uplink(topology, line, isp, "cust", (uplink_wire, wire))


def _translate(topology: Topology, isp: _Isp, line: Line) -> None:
    """A home router: everything out with its public address, everything that arrives there in to the customer."""
    if line.public is None:
        return
    rules = f"""
        table ip translation {{
          chain inbound {{
            type nat hook prerouting priority dstnat;
            iifname "{PUBLIC_DEVICE}" ip daddr {line.public} dnat to {line.address}
          }}
          chain outbound {{
            type nat hook postrouting priority srcnat;
            oifname "{PUBLIC_DEVICE}" snat to {line.public}
          }}
        }}"""
    topology.lab.configure(isp.host, [f"addr add {line.public}/32 dev {PUBLIC_DEVICE}"], rules)


def _dialled(topology: Topology, lines: list[Line]) -> None:
    for number, line in enumerate(lines, 1):
        isp = _isp(topology, line.name, number)
        tun = topology.lab.tun(topology.router, line.device, line.address, isp.host, "cust", line.gateway)
        _customer(topology, isp, line, "cust", f"{line.address}/32")
        _add_uplink(topology, line, isp, "cust", None, tun)


def network_of(address: str) -> str:
    """The /24 of an address; every Ethernet network of the lab is one."""
    return str(ip_network(f"{address}/24", strict=False))
