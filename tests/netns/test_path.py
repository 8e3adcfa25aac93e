# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What is told of a connection's path is the path it takes: random declarations, and real packets of random flows."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from lab import topology
from lab.ansible import run_module
from lab.balance import policy
from lab.engine import LIBRARY, Engine
from lab.host import Host
from lab.talk import Talk
from lab.topology import LAN, Topology
from lab.traffic import EchoServer, Helper

LINKS = ("link1", "link2", "link3")
# an uplink that is none of ours: the main table's default route leads there
OTHER, OTHER_GATEWAY = "wan4", "20.0.4.1"
PORTS = (7, 53, 5060)
ASKED_FOR = range(40000, 42000)
USERS, GROUPS = (4711, 4712), (4713, 4714)
FOREIGN = 0xA50000  # of packets from MARKED, and of sockets
CLIENTS = ("192.168.101.1", "192.168.101.2", "192.168.101.3", "192.168.101.4")
MARKED = CLIENTS[2]
DSCP = {"ef": 46, "cs1": 8}
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DESTINATIONS = ("7.7.7.7", "7.7.7.70", "7.7.7.130", "8.8.8.8", "9.9.9.9")
SETS = [
    {"name": "near", "networks": ["192.168.101.1", "192.168.101.4"]},
    {"name": "far", "networks": ["7.7.7.64/26", "9.9.9.9"]},
    {"name": "empty", "external": True},
]
ALGORITHMS = ("multipath", "random", "round_robin", "source_hash", "source_destination_hash")
SEED, CONFIGURATIONS, FLOWS = 13, 6, 25
# seconds, for what is answered, and for what is refused: the kernel limits how many errors it tells
PATIENCE, REFUSED = 4.0, 0.4


class Asker(Helper):
    """Asks helpers that read a line of JSON and print one."""

    def ask(self, **job: Any) -> list[Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return list(json.loads(self._process.stdout.readline()))


class Ground:
    """A router over three links with one more uplink, hosts that connect, and what tells where they would go."""

    def __init__(self, net: Topology, engine: Engine, stack: ExitStack) -> None:
        self.net = net
        self.engine = engine
        self.paths = stack.enter_context(Asker(net.router, "paths.py", str(LIBRARY)))
        self.senders = {host: stack.enter_context(Asker(host, "connect.py")) for host in (net.client, net.router)}
        self.mac = net.client.ip_json("link show eth0")[0]["address"]

    def told(self, flows: list[dict[str, Any]], down: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        return self.paths.ask(questions=[flow["question"] for flow in flows], down=list(down))

    def agree(self, flows: list[dict[str, Any]], told: list[dict[str, Any]]) -> None:
        """Send them, and see that each goes where it was said to go."""
        expected = [{address(self.net, way) for way in answer["ways"] if way["share"] > 0} for answer in told]
        for each, answer, wanted in zip(flows, told, expected, strict=True):
            each["socket"]["timeout"] = PATIENCE if wanted and "timeout" not in wanted else REFUSED
            assert sum(way["share"] for way in answer["ways"]) == pytest.approx(1 if wanted else 0), answer
        for each, answer, wanted, came in zip(flows, told, expected, self.sent(flows), strict=True):
            shown = {key: answer[key] for key in ("outcome", "rule", "ways", "notes")}
            assert came in wanted if wanted else not came[0].isdigit(), json.dumps([each["question"], came, shown])
            assert bool(wanted) == (answer["outcome"] == "forwarded"), shown

    def sent(self, flows: list[dict[str, Any]]) -> list[str]:
        """Where the server saw each of them come from, or what became of it."""
        with ThreadPoolExecutor() as pool:
            forwarded, own = pool.map(lambda host: self._sent(host, flows), (self.net.client, self.net.router))
        return [own.pop(0) if flow["own"] else forwarded.pop(0) for flow in flows]

    def _sent(self, host: Host, flows: list[dict[str, Any]]) -> list[str]:
        mine = [flow["socket"] for flow in flows if flow["own"] == (host is self.net.router)]
        first = host.take_ports(len(mine))
        sockets = [{**sock, "source_port": sock["source_port"] or first + at} for at, sock in enumerate(mine)]
        return self.senders[host].ask(flows=sockets)


@contextmanager
def ground(backend: str) -> Iterator[Ground]:
    with ExitStack() as stack:
        net = stack.enter_context(topology.many_links(4))
        engine = stack.enter_context(Engine(net, backend))
        for port in PORTS:
            stack.enter_context(EchoServer(net.server, port))
        for address in CLIENTS[1:]:
            net.client.ip(f"addr add {address}/24 dev eth0")
        net.router.ip(f"route add default via {OTHER_GATEWAY}")
        net.router.nft(
            f"""
            table ip others {{
              chain marks {{
                type filter hook prerouting priority -200;
                ip saddr {MARKED} meta mark set meta mark | {FOREIGN}
              }}
              chain nat {{
                type nat hook postrouting priority 200;
                oifname "{OTHER}" ip saddr {LAN} masquerade
              }}
            }}"""
        )
        links = [link for link in engine.variables["mwan_links"] if link["name"] in LINKS]
        snat = [{"link": name, "source": LAN} for name in LINKS]
        engine.apply(mwan_classify="marks", mwan_links=links, mwan_snat=snat, mwan_policies=[policy(*LINKS)])
        yield Ground(net, engine, stack)


def declared(choose: random.Random, mac: str) -> dict[str, Any]:
    names = ("one", "two", "three")
    policies = [
        policy(
            *((link, choose.randint(1, 4), choose.choice((1, 1, 1, 2))) for link in chosen(choose, LINKS)),
            name=name,
            algorithm=choose.choice(ALGORITHMS),
            last_resort=choose.choice(("unreachable", "main")),
        )
        for name in names
    ]
    rules = [rule(choose, f"rule{number}", mac, names) for number in range(choose.randint(2, 10))]
    return {"mwan_policies": policies, "mwan_sets": SETS, "mwan_rules": rules,
            "mwan_default_policy": choose.choice((*names, ""))}  # fmt: skip


def chosen(choose: random.Random, names: tuple[str, ...]) -> list[str]:
    return choose.sample(names, choose.randint(1, len(names)))


def rule(choose: random.Random, name: str, mac: str, policies: tuple[str, ...]) -> dict[str, Any]:
    """Each asks for one to three things, so that most of them are met by some flow."""
    hour = time.localtime().tm_hour
    hours = [f"{(hour + begin) % 24:02}:00-{(hour + begin + 3) % 24:02}:00" for begin in (-1, 5)]
    possible: dict[str, Any] = {
        "source": choose.choice(("@near", "@empty", [CLIENTS[0], "192.168.101.2/31"], "20.0.1.2")),
        "destination": choose.choice(("@far", "7.7.7.0/25", ["8.0.0.0/8", "9.9.9.9"])),
        "ports": {"protocol": choose.choice(("tcp", "udp")),
                  "destination_port": choose.choice(("7", "53,5000-6000", "1-1023"))},
        "source_port": {"protocol": choose.choice(("tcp", "udp")),
                        "source_port": f"{ASKED_FOR.start}-{ASKED_FOR.stop - 1}"},
        "dscp": choose.choice(("ef", "cs1")),
        "mark": f"0x{FOREIGN:x}/0xff0000",
        "time": choose.choice(({"hours": hours[0]}, {"hours": hours[1]})),
        "side": choose.choice(({"user": str(USERS[0])}, {"group": str(GROUPS[0])}, {"mac": mac}, {"device": "lan0"},
                               {"mac": "02:00:00:00:00:77"}, {"device": "lo"})),
    }  # fmt: skip
    found: dict[str, Any] = {}
    for key in choose.sample(sorted(possible), choose.randint(1, 3)):
        found.update(possible[key] if key in ("ports", "side", "source_port") else {key: possible[key]})
    targets = [*({"link": link} for link in LINKS), *({"policy": each} for each in policies),
               {"target": "main"}, {"target": "unreachable"}]  # fmt: skip
    return {"name": name, **found, **choose.choice(targets)}


def flow(choose: random.Random, mac: str, ports: Iterator[int]) -> dict[str, Any]:
    """A socket, and the question where it goes."""
    own = choose.random() < 0.5
    asked = {
        "destination": choose.choice(DESTINATIONS),
        "protocol": choose.choice(("tcp", "udp")),
        "destination_port": choose.choice(PORTS),
        "dscp": choose.choice(("", "", *DSCP)),
    }
    port = choose.choice((0, next(ports)))
    sock = {"protocol": asked["protocol"], "destination": asked["destination"], "port": asked["destination_port"],
            "source": "", "source_port": port, "tos": DSCP.get(str(asked["dscp"]), 0) << 2,
            "user": 0, "group": 0, "mark": 0}  # fmt: skip
    # where the kernel, or the lab, takes another port, it is one that no rule asks for
    asked["source_port"] = port or 2000
    if own:
        owner = {"user": choose.choice((0, *USERS)), "group": choose.choice((0, *GROUPS))}
        mark = choose.choice((0, 0, FOREIGN))
        bound = choose.choice(("", "", "", "20.0.1.2", "20.0.3.2"))
        sock.update({**owner, "mark": mark, "source": bound})
        asked.update({**{key: str(number) for key, number in owner.items()}, "mark": mark, "source": bound})
    else:
        source = choose.choice(CLIENTS)
        sock["source"] = source
        asked.update({"source": source, "mac": mac, "mark": FOREIGN if source == MARKED else 0})
    return {"own": own, "socket": sock, "question": asked}


def address(net: Topology, way: dict[str, Any]) -> str:
    """What the server must see. What has another link's address where main leads is dropped by the provider."""
    if way["device"] != OTHER:
        assert way["seen_as"] == net.uplinks[way["link"]].source, way
        return str(way["seen_as"])
    own = [uplink.source for uplink in net.uplinks.values()]
    return "timeout" if way["seen_as"] in own[:3] else own[3]


def test_packets_go_where_they_are_said_to_go(backend: str) -> None:
    choose = random.Random(SEED)
    # each is used once, or the connection might be an old one
    ports = iter(ASKED_FOR)
    kinds: set[str] = set()
    with ground(backend) as lab:
        for _unused in range(CONFIGURATIONS):
            lab.engine.variables.update(declared(choose, lab.mac))
            lab.net.router.run("rm -f /run/mwan/health.json")
            lab.engine.policies()
            flows = [flow(choose, lab.mac, ports) for _unused in range(FLOWS)]
            told = lab.told(flows)
            lab.agree(flows, told)
            # with links down: the same as was said before they were
            down = tuple(chosen(choose, LINKS))
            supposed = lab.told(flows, down)
            health = {"links": {name: {"state": "down"} for name in down}}
            lab.net.router.run(["tee", "/run/mwan/health.json"], input=json.dumps(health))
            lab.engine.policies()
            actual = lab.told(flows)
            assert [path(answer) for answer in actual] == [path(answer) for answer in supposed]
            others = [flow(choose, lab.mac, ports) for _unused in range(FLOWS)]
            lab.agree(others, lab.told(others))
            kinds |= {kind(answer) for answer in (*told, *actual)}
        assert kinds >= {"one way", "several ways", "refused", "left alone"}


def path(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: answer[key] for key in ("outcome", "ways", "rule", "policy", "tier", "classified")}


def kind(answer: dict[str, Any]) -> str:
    if answer["outcome"] != "forwarded":
        return "refused"
    if answer["ways"][0]["device"] == OTHER:
        return "left alone"
    return "one way" if len(answer["ways"]) == 1 else "several ways"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_what_is_left_alone_stays_on_its_uplink(backend: str, protocol: str) -> None:
    """All packets of a connection, and not only the first one, which rules are asked for."""
    with ground(backend) as lab:
        lab.engine.variables["mwan_rules"] = [{"name": "vpn", "source": CLIENTS[0], "target": "main"}]
        lab.engine.policies()
        with Talk(lab.net.client, protocol=protocol) as talk:
            assert {talk.ask() for _unused in range(5)} == {lab.net.uplinks["link4"].source}
        assert lab.net.spoofed() == 0


def test_a_playbook_asks(two_links: Topology) -> None:
    """The module, also in check mode: it changes nothing, tells of outages that are not, and refuses what is not."""
    voip = {"name": "voip", "protocol": "udp", "destination_port": 5060, "policy": "calls"}
    calls = policy("isp_b", ("isp_a", 1, 2), name="calls")
    with Engine(two_links) as engine:
        engine.apply(
            mwan_classify="marks", mwan_policies=[*engine.variables["mwan_policies"], calls], mwan_rules=[voip]
        )
    call = {"source": CLIENTS[0], "destination": "7.7.7.7", "protocol": "udp", "destination_port": 5060}
    usual, checked = (run_module(two_links, "mwan_path", call, check=check) for check in (False, True))
    outage = run_module(two_links, "mwan_path", {**call, "down": ["isp_b"]})
    assert usual == checked
    assert (usual["changed"], usual["rule"]) == (False, {"name": "voip", "position": 1, "target": {"policy": "calls"}})
    assert [way["seen_as"] for way in usual["ways"]] == [two_links.sources["isp_b"]]
    assert usual["passed_over"] == {"isp_a": "tier 2 serves when no link of tier 1 can"}
    assert [way["seen_as"] for way in outage["ways"]] == [two_links.sources["isp_a"]]
    assert outage["passed_over"] == {"isp_b": "down: as asked"}
    for wrong, option in (({"down": ["isp_x"]}, "down"), ({"at": "noon"}, "at"), ({"user": "nobody_here"}, "user")):
        refused = run_module(two_links, "mwan_path", {**call, "source": None, **wrong})
        assert (refused["failed"], refused["option"]) == (True, option)
