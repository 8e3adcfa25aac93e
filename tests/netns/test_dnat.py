# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Port forwards: which host was reached, at which port, whom it saw, and that answers find their way back."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from lab import doors, impair, topology
from lab.balance import port_forward
from lab.doors import Doors, knock, tcp, udp
from lab.engine import Engine, RefusedError
from lab.state import snapshot
from lab.topology import LAN_ROUTER, PUBLIC_DEVICE, Topology
from lab.traffic import EchoServer, LongLivedTcp, LongLivedUdp

FRIEND, STRANGER = "7.7.7.70", "7.7.7.99"
HOST, OTHER = "192.168.101.1", "192.168.101.2"
ROUTED = "198.51.100.7"
REFUSED = "ECONNREFUSED"


def forward(name: str, port: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "protocol": "tcp", "port": port, "to": HOST, **more}


def declare(engine: Engine, *forwards: dict[str, Any]) -> None:
    """The one task alone, and prove that a second run finds nothing to do."""
    engine.variables["mwan_dnat"] = list(forwards)
    engine.dnat()
    assert engine.dnat().actions == []


def route_an_address(net: Topology, link: str) -> None:
    """The provider routes one more address to the router, which has it on no device."""
    uplink = net.uplinks[link]
    near = uplink.provider.ip_json(f"addr show dev {PUBLIC_DEVICE}")[0]["addr_info"][0]["local"]
    uplink.provider.ip(f"route add {ROUTED} via {uplink.address}")
    uplink.provider.nft(f"insert rule inet lab customers ip saddr {ROUTED} accept")
    net.server.ip(f"route add {ROUTED} via {near}")


def seen(host: str, *ports: int, source: str = FRIEND) -> list[str]:
    return [f"{source} {host}:{port}" for port in ports]


def test_hosts_are_reached_and_see_who_asks(backend: str) -> None:
    """Every option, over two links with strict filtering, beside a forward of somebody else."""
    with topology.two_links(clients=3) as net:
        net.router.ip("addr add 5.5.5.55/24 dev wan1")
        route_an_address(net, "isp_b")
        port_forward(net, backend, 4000, OTHER)
        forwards = [
            forward("web", "80"),
            forward("mapped", "8000-8010", protocol=["tcp", "udp"], to_port="80-90"),
            forward("kept", "6000-6010", to=OTHER),
            forward("all_at_one", "9000-9001", to_port="22"),
            forward("only_a", "2222", link="isp_a", to_port="22"),
            forward("main_address", "2223", link="isp_a", address="5.5.5.5", to_port="22"),
            forward("friends", "3000", source=[FRIEND, "7.7.7.64/30"]),
            forward("strangers", "3000", source=STRANGER, to=OTHER),
            forward("spread", "5000", protocol="udp", to=f"{HOST}-192.168.101.3", to_port="53"),
            {"name": "whole", "address": ROUTED, "to": OTHER},
            forward("router", "8443", to=LAN_ROUTER, to_port="443"),
        ]
        with (
            Engine(net, backend) as engine,
            Doors(net.client, net.client_addresses, [22, 53, *range(80, 91), 3000, 4000, 6003]),
            Doors(net.router, [LAN_ROUTER], [443]),
        ):
            engine.settle(mwan_dnat=forwards, mwan_rp_filter={"mode": "strict"})
            for address in ("5.5.5.5", "5.5.5.55", "6.6.6.6"):
                mapped = [kind(address, port, FRIEND) for kind in (tcp, udp) for port in range(8000, 8011)]
                assert knock(net.server, *mapped) == seen(HOST, *range(80, 91)) * 2
                some = [tcp(address, port, FRIEND) for port in (80, 9000, 9001, 3000, 8443, 4000, 6003)]
                assert knock(net.server, *some) == [
                    *seen(HOST, 80, 22, 22, 3000),
                    *seen(LAN_ROUTER, 443),
                    *seen(OTHER, 4000, 6003),
                ]
                others = tcp(address, 3000, STRANGER), tcp(address, 3000, "7.7.7.98")
                assert knock(net.server, *others) == [*seen(OTHER, 3000, source=STRANGER), REFUSED]
            named = [
                tcp(address, port, FRIEND) for port in (2222, 2223) for address in ("5.5.5.5", "5.5.5.55", "6.6.6.6")
            ]
            assert knock(net.server, *named) == [*seen(HOST, 22, 22), REFUSED, *seen(HOST, 22), REFUSED, REFUSED]
            assert knock(net.server, tcp(ROUTED, 80, FRIEND), udp(ROUTED, 53, FRIEND)) == seen(OTHER, 80, 53)
            spread = knock(net.server, *(udp("5.5.5.5", 5000, f"7.7.7.{n}") for n in range(100, 130)))
            assert {answer.split(" ")[1] for answer in spread} == {f"{host}:53" for host in net.client_addresses}
            assert knock(net.router, tcp("5.5.5.5", 80)) == [REFUSED], "no hairpin"
            assert knock(net.router, tcp(ROUTED, 80), timeout=0.5) == [doors.SILENCE], "nor here"
            assert net.spoofed() == 0
            before = snapshot(net.router)
            assert engine.apply(check=True, mwan_dnat=forwards[1:]).has(f"replace {backend} rules")
            assert snapshot(net.router) == before
            declare(engine)
            assert knock(net.server, tcp("5.5.5.5", 80), tcp("5.5.5.5", 4000, FRIEND)) == [REFUSED, *seen(OTHER, 4000)]


def combinations() -> list[dict[str, Any]]:
    """Every form of a forward, on ports of its own, three for each."""
    forms = product(
        ({"protocol": "tcp"}, {"protocol": ["udp", "sctp", "dccp"]}),
        ({}, {"link": "isp_b"}, {"address": ROUTED}),
        ({}, {"to": f"{HOST}-192.168.101.3"}),
        ({}, {"to_port": "7"}, {"to_port": "80-82"}),
        ({}, {"source": [FRIEND, "10.0.0.0/8"]}),
        ({}, {"hairpin": True}),
    )
    merged = ({key: value for part in parts for key, value in part.items()} for parts in forms)
    return [forward(f"f{n}", f"{1000 + 3 * n}-{1002 + 3 * n}", **form) for n, form in enumerate(merged)]


def test_every_form_beside_every_other(two_links: Topology, backend: str) -> None:
    net, forwards = two_links, combinations()
    with Engine(net, backend) as engine, Doors(net.client, [HOST], [7, *range(80, 83)]):
        engine.apply()
        declare(engine, *forwards)
        told = [item for item in forwards if item["protocol"] == "tcp" and "-" not in item["to"]]
        asked, expected = [], []
        for item in told:
            if "to_port" in item and item.get("address") != ROUTED:
                last = int(item["port"].partition("-")[2])
                asked.append(tcp("6.6.6.6", last, FRIEND))
                expected += seen(HOST, 7 if item["to_port"] == "7" else 82)
        assert len(asked) == 16
        assert knock(net.server, *asked) == expected


def test_changes_leave_connections_alone(two_links: Topology, backend: str) -> None:
    """Of a forward that stays, and of one that is taken away."""
    net, kept = two_links, forward("kept", "7", protocol=["tcp", "udp"])
    with Engine(net, backend) as engine, EchoServer(net.client):
        engine.settle(mwan_dnat=[kept])
        flows = [
            kind(net.server, to, number=4) for kind in (LongLivedTcp, LongLivedUdp) for to in ("5.5.5.5", "6.6.6.6")
        ]
        declare(engine, kept, forward("more", "1000-1100", to_port="2000-2100", hairpin=True))
        declare(engine, forward("other_name", "7"))
        declare(engine)
        assert knock(net.server, tcp("5.5.5.5", 7), tcp("6.6.6.6", 7)) == [REFUSED, REFUSED]
        for stats in (stats for flow in flows for stats in flow.stop()):
            assert (stats.missing, stats.error, len(stats.sources)) == ([], None, 1)


def test_hairpin(two_links: Topology, backend: str) -> None:
    """From the network of the host itself, from another one, and from the router; not without the option."""
    net = two_links
    route_an_address(net, "isp_b")
    host, guest = doors.neighbour(net, "192.168.101.10", "192.168.101.11"), net.lab.host("guest")
    net.lab.connect(guest, "eth0", net.router, "lan1")
    net.lab.configure(net.router, ["addr add 192.168.102.254/24 dev lan1", "link set lan1 up"])
    guest_lines = ["addr add 192.168.102.1/24 dev eth0", "link set eth0 up", "route add default via 192.168.102.254"]
    net.lab.configure(guest, guest_lines)
    net.lab.settle()
    web = {"to": "192.168.101.10-192.168.101.11", "protocol": ["tcp", "udp"], "to_port": "80"}
    forwards = [
        forward("web", "8080", hairpin=True, **web),
        forward("routed", "8081", address=ROUTED, hairpin=True, **web),
        forward("only_lan", "8082", source="192.168.101.0/24", hairpin=True, **web),
        forward("plain", "8083", **web),
        forward("router", "8084", to=LAN_ROUTER, to_port="443", hairpin=True),
    ]
    with (
        Engine(net, backend) as engine,
        Doors(host, ["192.168.101.10", "192.168.101.11"], [80]),
        Doors(net.router, [LAN_ROUTER], [443]),
    ):
        engine.settle(mwan_dnat=forwards, mwan_rp_filter={"mode": "strict"})
        places = [
            kind(*place) for kind in (tcp, udp) for place in (("5.5.5.5", 8080), ("6.6.6.6", 8080), (ROUTED, 8081))
        ]
        for client, source in ((net.client, LAN_ROUTER), (net.router, LAN_ROUTER), (guest, "192.168.102.1")):
            answers = {answer.partition(":")[0] for answer in knock(client, *places)}
            assert answers <= {f"{source} 192.168.101.10", f"{source} 192.168.101.11"}, (client, answers)
        from_outside = knock(net.server, *((*place[:3], FRIEND) for place in places))
        assert {answer.split(" ")[0] for answer in from_outside} == {FRIEND}
        assert knock(net.client, tcp("5.5.5.5", 8082))[0].startswith(LAN_ROUTER + " 192.168.101.1")
        assert knock(guest, tcp("5.5.5.5", 8082), tcp("5.5.5.5", 8083)) == [REFUSED, REFUSED]
        assert knock(net.client, tcp("6.6.6.6", 8084)) == [f"{HOST} {LAN_ROUTER}:443"]
        assert knock(net.server, tcp("5.5.5.5", 8083, FRIEND))[0].startswith(FRIEND + " 192.168.101.1")
        assert net.spoofed() == 0


def test_two_routers_on_one_segment(shared_segment: Topology, backend: str) -> None:
    """They lead their public addresses to the router's one address; hosts of the segment come by none of them."""
    net, (one, two) = shared_segment, shared_segment.sources.values()
    forwards = [
        forward("web", "80"),
        forward("first", "81", link="router1", to_port="22"),
        forward("second", "81", link="router2", to_port="23"),
    ]
    with Engine(net, backend) as engine, Doors(net.client, [HOST], [22, 23, 80]):
        engine.settle(mwan_dnat=forwards)
        for source in (f"7.7.7.{n}" for n in range(70, 76)):
            asked = [tcp(address, port, source) for address in (one, two) for port in (80, 81)]
            assert knock(net.server, *asked) == seen(HOST, 80, 22, 80, 23, source=source)
        beside = net.uplinks["router1"].provider
        assert knock(beside, tcp("192.168.100.100", 80), tcp("192.168.100.100", 81)) == [
            *seen(HOST, 80, source="192.168.100.1"),
            REFUSED,
        ]
        assert net.spoofed() == 0


def test_point_to_point_lines(point_to_point: Topology, backend: str) -> None:
    net = point_to_point
    forwards = [forward("web", "80", protocol=["tcp", "udp"]), forward("only_y", "81", link="line_y", to_port="80")]
    with Engine(net, backend) as engine, Doors(net.client, [HOST], [80]):
        engine.settle(mwan_dnat=forwards)
        asked = [kind(address, 80, FRIEND) for kind in (tcp, udp) for address in ("11.1.1.1", "22.2.2.2")]
        assert knock(net.server, *asked) == seen(HOST, 80, 80, 80, 80)
        assert knock(net.server, tcp("11.1.1.1", 81), tcp("22.2.2.2", 81, FRIEND)) == [REFUSED, *seen(HOST, 80)]


def test_new_lease_is_followed(dhcp: Topology, backend: str) -> None:
    """An address that another forward names already is refused where that is seen, and told of where it is not."""
    net, named = dhcp, forward("named", "80", address="5.5.5.78", to_port="22")
    with Engine(net, backend) as engine, Doors(net.client, [HOST], [22, 80]):
        engine.settle(mwan_dnat=[forward("web", "80", hairpin=True), named])
        impair.lease_changed(net, "isp_a", "5.5.5.77", "5.5.5.2")
        assert engine.settle().links["isp_a"]["address"] == "5.5.5.77"
        assert knock(net.server, tcp("5.5.5.77", 80, FRIEND), tcp("6.6.6.6", 80, FRIEND)) == seen(HOST, 80, 80)
        impair.lease_changed(net, "isp_a", "5.5.5.78", "5.5.5.1")
        with pytest.raises(RefusedError, match=r"dnat\.named takes what web takes"):
            engine.apply()
