# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Choices through legacy iptables on the running kernel: what is special to them, beside what test_choices asks."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from _mwan.firewall.choices import Choice, Chooser, Classification, Condition, NetworkSet, Way
from _mwan.firewall.ipsets import Ipsets
from _mwan.firewall.iptables import Iptables
from _mwan.firewall.iptables_choices import bucket_of
from _mwan.firewall.iptables_sets import sets
from _mwan.firewall.model import Firewall, FirewallLink, SourceNat
from lab import topology
from lab.balance import counted, counting, policy
from lab.engine import Engine
from lab.inside import namespace, network_capabilities_only
from lab.own import Own
from lab.traffic import EchoServer

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(Iptables().unavailable() is not None, reason="python-iptables is missing"),
    pytest.mark.skipif(shutil.which("iptables-legacy") is None, reason="iptables-legacy is missing"),
]

MEMBERS = (("isp_a", 0x100), ("isp_b", 0x200))
WAYS = tuple(Way(name, mark, weight) for (name, mark), weight in zip(MEMBERS, (3, 1), strict=True))
ALGORITHMS = ("random", "round_robin", "source_hash", "source_destination_hash", "least_connections", "multipath")
STICKY = tuple(
    Chooser(
        "p_" + name, 0x500 + number * 0x100, name, WAYS, ((0, 3071, 0x100), (3072, 4095, 0x200)),
        7700 if name == "least_connections" else None, 300, "source", MEMBERS,
    )
    for number, name in enumerate(ALGORITHMS)
)  # fmt: skip
CHOOSERS = (*STICKY, Chooser("p_per_packet", 0xF00, "per_packet", WAYS))
EVERYTHING = Condition(
    sources=("10.0.0.0/8", "11.0.0.0/8"),
    destinations=("1.0.0.0/8", "2.0.0.0/8"),
    source_set="office",
    destination_set="others",
    device="lan0",
    protocol=17,
    source_ports=((1000, 2000),),
    destination_ports=((1, 1), (3, 9), *((port, port) for port in range(20, 60, 2))),
    dscp=46,
    mac="02:00:00:00:00:01",
    mark=(0x10000, 0xFF0000),
    times=((0, 0, 1440), (1, 480, 1020), (2, 480, 1020)),
)
OWN = (Condition(user=1000), Condition(group=5, protocol=1), Condition(user=0, group=0, protocol=33))
CHOOSING = Classification(
    forwarded=(
        Choice("everything", EVERYTHING, 0x100),
        *(Choice(item.name, Condition((f"10.1.{item.mark >> 8}.0/24",)), chooser=item.name) for item in CHOOSERS),
        Choice("aside", Condition(destinations=("9.9.9.9/32",))),
    ),
    own=tuple(Choice(f"own_{number}", condition, 0x200, own=True) for number, condition in enumerate(OWN)),
    choosers=CHOOSERS,
    sets=(NetworkSet("office", ("192.168.0.0/16",)), NetworkSet("others", external=True)),
    excluded=("192.168.101.0/24", "224.0.0.0/4"),
)
FIREWALL = Firewall(
    mask=0x3F00,
    links=(FirewallLink("isp_a", 0x100, "wan1"), FirewallLink("isp_b", 0x200, "wan2")),
    snat=(SourceNat(0x100, "wan1", (), None),),
    classification=CHOOSING,
)
PLAIN = Firewall(FIREWALL.mask, FIREWALL.links)


def own_choices(*choices: Choice) -> Firewall:
    found = Classification(own=choices, excluded=("5.5.5.0/24",))
    return Firewall(FIREWALL.mask, FIREWALL.links, classification=found)


@pytest.fixture
def netns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "xtables.lock"))
    with namespace():
        yield


def run(*command: str, text: str = "") -> str:
    return subprocess.run(command, check=True, text=True, capture_output=True, timeout=60, input=text).stdout


def save() -> list[str]:
    lines = [line for table in ("mangle", "nat") for line in run("iptables-legacy-save", "-t", table).splitlines()]
    return [re.sub(r" \[\d+:\d+\]$", "", line) for line in lines if not line.startswith("#")]


@pytest.mark.usefixtures("netns")
@pytest.mark.parametrize("firewall", [FIREWALL, FIREWALL.resetting({0x100: True})], ids=["", "connections given up"])
def test_rendered_text_is_what_replace_installs(firewall: Firewall) -> None:
    """Every match, target and chooser in python-iptables' bytes is what the iptables program makes of its text."""
    Iptables().replace(firewall)
    installed = save()
    assert sum(line.startswith("-A MWAN_") for line in installed) > 100
    with namespace():
        Ipsets().load(sets(CHOOSING))
        text = Iptables().render(firewall)
        run("iptables-legacy-restore", "--noflush", text=text[text.index("*mangle") :])
        assert save() == installed


@pytest.mark.usefixtures("netns")
def test_listing_tells_changes_of_sets_and_rules_and_everything_goes() -> None:
    port = Iptables()
    port.replace(FIREWALL)
    listing = port.listing()
    port.replace(FIREWALL)
    assert port.listing() == listing
    changed = NetworkSet("office", ("192.168.0.0/17",))
    Ipsets().load(sets(Classification(sets=(changed,))))
    assert port.listing() != listing
    port.replace(FIREWALL)
    assert port.listing() == listing
    run("iptables-legacy", "-t", "mangle", "-D", "MWAN_BY_p_random", "1")
    assert port.listing() != listing
    port.replace(PLAIN)
    assert "ipset" not in port.listing()
    assert [line for line in save() if "MWAN_BY" in line or "MWAN_CHOOSE" in line] == []
    port.remove()
    assert port.listing() == ""


@pytest.mark.usefixtures("netns")
def test_counters_go_on_through_loads() -> None:
    for command in ("link add wan1 type veth peer name isp", "addr add 5.5.5.5/24 dev wan1", "link set wan1 up"):
        run("ip", *command.split())
    run("ip", "route", "add", "default", "via", "5.5.5.1")
    port = Iptables()
    one = Choice("one", Condition(("5.5.5.0/24",), destinations=("7.7.7.7/32", "7.7.7.8/32"), protocol=17))
    two = Choice("two", Condition(protocol=17))
    port.replace(own_choices(one, two))
    assert port.counters() == {"one": (0, 0), "two": (0, 0)}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number, address in enumerate(("7.7.7.7", "7.7.7.8", "7.7.7.9", "5.5.5.9")):
            for _unused in range(number + 1):
                sock.sendto(b"1234", (address, 9))
    # only the first packet of a connection is asked, and none that goes to a connected network; each has 32 octets
    expected = {"one": (2, 64), "two": (1, 32)}
    assert port.counters() == expected
    port.replace(own_choices(Choice("new", Condition(protocol=6)), two, one))
    assert port.counters() == {"new": (0, 0), **expected}
    port.replace(own_choices(one))
    assert port.counters() == {"one": (2, 64)}
    port.remove()
    assert port.counters() == {}


@pytest.mark.usefixtures("netns")
def test_the_probers_capabilities_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    port = Iptables()
    port.replace(FIREWALL)
    listing = port.listing()
    with contextlib.ExitStack() as stack:
        lock = Path("/tmp") / f"mwan-test-{os.getpid()}.lock"
        stack.callback(lock.unlink)
        monkeypatch.setenv("XTABLES_LOCKFILE", str(lock))
        stack.enter_context(network_capabilities_only(lock))
        assert port.listing() == listing
        assert set(port.counters()) == set(CHOOSING.counted())
        port.replace(PLAIN)
        port.replace(FIREWALL)
        assert port.listing().count("\n") == listing.count("\n")


def test_clients_go_where_the_library_says() -> None:
    with (
        topology.two_links(40) as net,
        Engine(net, "iptables") as engine,
        Own(net.client) as own,
        EchoServer(net.server),
    ):
        for algorithm in ("source_hash", "source_destination_hash"):
            spread = policy(("isp_a", 3), ("isp_b", 1), algorithm=algorithm)
            engine.settle(mwan_classify="marks", mwan_policies=[spread])
            for number in range(1, 41):
                source = f"192.168.101.{number}"
                bucket = bucket_of(source, "7.7.7.7" if algorithm == "source_destination_hash" else None)
                wanted = net.sources["isp_a" if bucket < 3072 else "isp_b"]
                assert own.seen(1, source=source, protocol="udp") == {wanted: 1}


def test_packets_of_one_connection_take_the_links_in_turn() -> None:
    """Of a connection that nobody answers, whose packets are all new: only the first is asked for its policy."""
    send = (
        "import socket; s = socket.socket(type=socket.SOCK_DGRAM); [s.sendto(b'x', ('7.7.7.7', 9)) for _ in range(40)]"
    )
    with topology.two_links() as net, Engine(net, "iptables") as engine:
        spread = policy(("isp_a", 3), ("isp_b", 1), algorithm="per_packet")
        engine.settle(mwan_classify="marks", mwan_policies=[spread], mwan_snat=[])
        for uplink in net.uplinks.values():
            counting(net.router, uplink.device, "postrouting", f'oifname "{uplink.device}" udp dport 9', priority=200)
        net.client.run([sys.executable, "-I", "-c", send])
        assert [counted(net.router, uplink.device) for uplink in net.uplinks.values()] == [30, 10]


def test_what_others_take_from_our_sets_comes_back() -> None:
    gone = "import pyroute2; pyroute2.IPSet().delete('mwan_office', '192.168.101.0/24', etype='net')"
    with topology.two_links() as net, Engine(net, "iptables") as engine, EchoServer(net.server), Own(net.client) as own:
        engine.settle(
            mwan_classify="marks",
            mwan_policies=[policy("isp_a")],
            mwan_sets=[{"name": "office", "networks": ["192.168.101.0/24", "10.0.0.0/8"]}],
            mwan_rules=[{"name": "office", "source": "@office", "link": "isp_b"}],
        )
        assert own.seen() == {net.sources["isp_b"]: 4}
        net.router.run([sys.executable, "-c", gone])
        assert own.seen() == {net.sources["isp_a"]: 4}
        assert engine.settle().changed
        assert own.seen() == {net.sources["isp_b"]: 4}
