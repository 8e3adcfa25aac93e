# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Probes with real packets: each leaves by its own link whatever routing says, and tells the faults apart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from _mwan.probes import Binding, make
from lab import impair
from lab.balance import policy
from lab.engine import Engine
from lab.probes import Answers, Prober, Seen, bindings
from lab.topology import SERVER, Topology

PING = {"kind": "icmp", "address": SERVER}
TARGETS: dict[str, dict[str, Any]] = {
    "icmp": PING,
    "tcp": {"kind": "tcp", "address": SERVER, "port": 80},
    "http": {"kind": "http", "url": "http://check.example/", "address": SERVER, "body": "hello"},
    "https": {"kind": "http", "url": "https://check.example/", "address": SERVER, "verify": False},
    "dns": {"kind": "dns", "address": SERVER, "query": "check.example"},
    "command": {
        "kind": "command",
        "command": [
            *("sh", "-c", 'exec ping -nqc1 -W1 -I "$MWAN_DEVICE" -I "$MWAN_ADDRESS" -m "$MWAN_MARK" "$0"'),
            SERVER,
        ],
    },
}


@dataclass
class Bench:
    """A converged router with two links, a server, and a process that probes."""

    net: Topology
    engine: Engine
    prober: Prober
    links: dict[str, dict[str, Any]]
    answers: Answers

    def make(self, target: dict[str, Any], link: str = "isp_a", name: str = "") -> None:
        self.prober.make(name or link, target, self.links[link])


@pytest.fixture
def bench(two_links: Topology) -> Iterator[Bench]:
    with Engine(two_links) as engine, Answers(two_links.server) as answers:
        links = bindings(two_links, engine)
        with Prober(two_links.router) as prober:
            yield Bench(two_links, engine, prober, links, answers)


def what(verdict: dict[str, Any]) -> tuple[str, str]:
    return verdict["what"], verdict.get("why", "")


def test_each_kind_leaves_by_its_own_link(bench: Bench) -> None:
    """Also when the policy takes new connections elsewhere: a link out of use is still probed."""
    net, prober, seen = bench.net, bench.prober, Seen(bench.net)
    for kind, target in TARGETS.items():
        for link in bench.links:
            bench.make(target, link, f"{kind} {link}")
    for member in (None, "isp_a", "isp_b"):
        if member:
            bench.engine.apply(mwan_policies=[policy(member)])
        for kind in TARGETS:
            for link, other in (("isp_a", "isp_b"), ("isp_b", "isp_a")):
                seen.packets()
                verdict = prober.ask(f"{kind} {link}")
                assert what(verdict) == ("replied", ""), (kind, link, member)
                assert 0 < verdict["after"] < 0.5
                assert seen.packets() == {link: 1, other: 0}, (kind, link, member)
    assert net.spoofed() == 0
    asked = {line.split()[0] for line in bench.answers.asked()}
    assert asked == {"5.5.5.5", "6.6.6.6"}


def test_arp_asks_the_gateway(bench: Bench) -> None:
    seen = Seen(bench.net)
    for link, uplink in bench.net.uplinks.items():
        bench.make({"kind": "arp", "address": uplink.gateway}, link)
        seen.packets("arp")
        assert what(bench.prober.ask(link)) == ("replied", "")
        assert {name for name, count in seen.packets("arp").items() if count} == {link}
    with impair.gateway_dead(bench.net, "isp_a"):
        assert bench.prober.ask("isp_a", 0.3)["what"] == "silence"
        assert bench.prober.ask("isp_b")["what"] == "replied"
    assert bench.prober.ask("isp_a")["what"] == "replied"
    bench.make({"kind": "arp", "address": "5.5.5.99"}, "isp_a", "nobody")
    assert bench.prober.ask("nobody", 0.3)["what"] == "silence"


def test_two_routers_on_one_device_are_told_apart(shared_segment: Topology) -> None:
    net = shared_segment
    with Engine(net) as engine, Answers(net.server):
        links = bindings(net, engine)
        with Prober(net.router) as prober:
            for kind in ("icmp", "tcp", "dns", "http"):
                for link in links:
                    prober.make(f"{kind} {link}", TARGETS[kind], links[link])
                    assert what(prober.ask(f"{kind} {link}")) == ("replied", "")
            for uplink in net.uplinks.values():
                prober.make(f"arp {uplink.name}", {"kind": "arp", "address": uplink.gateway}, links[uplink.name])
            with impair.black_hole(net, "router1"):
                for kind in ("icmp", "tcp", "dns", "http"):
                    assert prober.ask(f"{kind} router1", 0.15)["what"] == "silence"
                    assert prober.ask(f"{kind} router2")["what"] == "replied"
            with impair.provider_unplugged(net, "router2"):
                assert prober.ask("arp router1")["what"] == "replied"
                assert prober.ask("arp router2", 0.15)["what"] == "silence"


def test_same_gateway_address_on_two_devices(same_gateway: Topology) -> None:
    net = same_gateway
    with Engine(net) as engine, Prober(net.router) as prober:
        links = bindings(net, engine)
        seen = Seen(net)
        for kind in ("icmp", "arp"):
            for name, uplink in net.uplinks.items():
                prober.make(f"{kind} {name}", {"kind": kind, "address": uplink.gateway}, links[name])
            for name in list(net.uplinks) * 2:
                assert prober.ask(f"{kind} {name}")["what"] == "replied"
        assert seen.packets() == {"modem_a": 2, "modem_b": 2}
        with impair.gateway_dead(net, "modem_b"):
            for kind in ("icmp", "arp"):
                assert prober.ask(f"{kind} modem_a")["what"] == "replied"
                assert prober.ask(f"{kind} modem_b", 0.2)["what"] == "silence"


def test_black_hole_is_silence_and_the_way_back_needs_nothing(bench: Bench) -> None:
    kinds = ("icmp", "tcp", "dns", "http", "https")
    for kind in kinds:
        bench.make(TARGETS[kind], name=kind)
        assert bench.prober.ask(kind)["what"] == "replied"
    with impair.black_hole(bench.net, "isp_a"):
        for kind in kinds * 2:
            bench.prober.send(kind)
        assert bench.prober.next(0.4) is None
    for kind in kinds:
        assert bench.prober.ask(kind)["what"] == "replied"


def test_late_answers_are_answers(bench: Bench) -> None:
    """Several under way, answered in another order than asked."""
    prober = bench.prober
    bench.make({"kind": "dns", "address": SERVER, "query": "slow"}, "isp_a", "dns")
    bench.make({"kind": "http", "url": "http://h/slow", "address": SERVER}, "isp_a", "http")
    for name in ("dns", "http"):
        asked = {prober.send(name) for _unused in range(3)}
        verdicts = [prober.next() for _unused in asked]
        assert {verdict["seq"] for verdict in verdicts if verdict} == asked
        assert all(verdict and 0.35 < verdict["after"] < 0.9 for verdict in verdicts)
    bench.make(TARGETS["tcp"], "isp_a", "tcp")
    with impair.one_way_loss(bench.net, "isp_a", "down"):
        assert prober.ask("tcp", 0.3)["what"] == "silence"
    verdict = prober.next(2.0)  # the kernel repeats the SYN after a second
    assert verdict is not None
    assert (verdict["what"], verdict["seq"]) == ("replied", prober.seq)
    assert 0.9 < verdict["after"] < 1.5


def test_unreachable_is_refused_and_names_who_said_so(bench: Bench) -> None:
    kinds = ("icmp", "tcp", "dns", "http")
    with impair.unreachable(bench.net, "isp_a"):
        for kind in kinds:
            bench.make(TARGETS[kind], name=kind)
            for _unused in range(2):
                verdict = bench.prober.ask(kind)
                assert what(verdict) == ("refused", "No route to host (says 5.5.5.1)")
                assert verdict["after"] < 0.5, "long before TCP asks again"
    for kind in kinds:
        assert bench.prober.ask(kind)["what"] == "replied"


def test_silent_neighbour(bench: Bench) -> None:
    """The kernel tells of it by the loopback device: only TCP hears that on a socket bound to another."""
    net, prober = bench.net, bench.prober
    net.router.sysctl("net.ipv4.neigh.wan1.retrans_time_ms", 50)
    for kind in ("icmp", "tcp", "dns"):
        bench.make(TARGETS[kind], name=kind)
    with impair.gateway_dead(net, "isp_a"):
        net.router.ip("neigh flush dev wan1")
        assert what(prober.ask("tcp")) == ("refused", "No route to host (says 5.5.5.5)")
        assert prober.ask("icmp", 0.4)["what"] == "silence"
        assert prober.ask("dns", 0.4)["what"] == "silence"
    for kind in ("icmp", "tcp", "dns"):
        assert prober.ask(kind)["what"] == "replied"


def test_who_refuses_a_connection_is_alive(bench: Bench) -> None:
    bench.make({"kind": "tcp", "address": SERVER, "port": 81}, "isp_a", "tcp")
    bench.make({"kind": "http", "url": "http://h:81/", "address": SERVER}, "isp_a", "http")
    bench.make({"kind": "dns", "address": SERVER, "query": "h", "port": 54}, "isp_a", "dns")
    assert what(bench.prober.ask("tcp")) == ("replied", "")
    assert what(bench.prober.ask("http")) == ("refused", "connection refused")
    for _unused in range(2):
        assert what(bench.prober.ask("dns")) == ("refused", f"Connection refused (says {SERVER})")


HTTP_VERDICTS = {
    "/": ({}, "replied", ""),
    "/204": ({"status": 204}, "replied", ""),
    "/ ": ({"status": 204}, "refused", "status 200"),
    "/login": ({}, "refused", "status 302, redirected to 'http://portal.lan/login': a captive portal?"),
    "/?q=1": ({"body": "success"}, "refused", "the answer does not contain 'success': a captive portal?"),
    "/chunked": ({"body": "success"}, "replied", ""),
    "/noise": ({}, "refused", "the answer is not HTTP"),
    "/never": ({}, "silence", ""),
}


def test_http_verdicts(bench: Bench) -> None:
    for path, (options, verdict, why) in HTTP_VERDICTS.items():
        bench.make({"kind": "http", "url": f"http://h.example{path.strip()}", "address": SERVER, **options}, name=path)
        assert what(bench.prober.ask(path, 0.5)) == (verdict, why), path
    assert {line.split()[3] for line in bench.answers.asked()} == {"h.example"}


def test_https_wants_the_right_certificate(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(bench.net.server.state / "answers.pem"))
    with Prober(bench.net.router) as prober:
        for name in ("check.example", "other.example"):
            prober.make(name, {"kind": "http", "url": f"https://{name}/", "address": SERVER}, bench.links["isp_a"])
        assert what(prober.ask("check.example")) == ("replied", "")
        verdict, why = what(prober.ask("other.example"))
        assert verdict == "refused"
        assert why.startswith("the certificate is not valid: Hostname mismatch")


def test_dns_verdicts(bench: Bench) -> None:
    expected = {
        "check.example": ("replied", ""),
        "none": ("replied", ""),
        "broken": ("refused", "the DNS server says SERVFAIL"),
        "wrong": ("silence", ""),
    }
    for name, verdict in expected.items():
        bench.make({"kind": "dns", "address": SERVER, "query": name}, name=name)
        assert what(bench.prober.ask(name, 0.3)) == verdict


def test_names_are_looked_up_over_the_link(bench: Bench) -> None:
    prober, links = bench.prober, bench.links
    for link in links:
        prober.order("lookup", name="check.example", resolver=SERVER, binding=links[link])
        assert prober.next() == {"found": [SERVER]}
    asked = [line.split()[0] for line in bench.answers.asked()]
    assert asked == [links[link]["source"] for link in links]
    for name, found in (("none", []), ("broken", [])):
        prober.order("lookup", name=name, resolver=SERVER, binding=links["isp_a"])
        assert prober.next() == {"found": found}
    prober.order("lookup", name="wrong", resolver=SERVER, binding=links["isp_a"])
    assert prober.next(4.0) == {"error": "Connection timed out"}


WRONG = [
    {"kind": "icmp", "address": "check.example"},
    {"kind": "tcp", "address": "check.example", "port": 80},
    {"kind": "http", "url": "http://check.example/"},
    {"kind": "http", "url": "ftp://192.0.2.1/"},
    {"kind": "dns", "address": "192.0.2.1", "query": "a..b"},
    {"kind": "dns", "address": "192.0.2.1", "query": "a", "record": "MX"},
    {"kind": "arp", "address": "2001:db8::1"},
    {"kind": "command", "command": []},
]


@pytest.mark.parametrize("target", WRONG, ids=lambda target: target["kind"])
def test_what_cannot_be_asked(target: dict[str, Any]) -> None:
    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(ValueError, match=r"\w"):
            make(target, Binding("lo", None, 0), Silent(), loop)
    finally:
        loop.close()


class Silent:
    """A sink nobody may call."""

    def replied(self, seq: int, when: float) -> None:
        raise AssertionError((seq, when))

    def refused(self, seq: int, when: float, why: str) -> None:
        raise AssertionError((seq, when, why))

    def failed(self, seq: int, why: str) -> None:
        raise AssertionError((seq, why))


def test_command_verdicts(bench: Bench) -> None:
    commands = {
        "fine": (["true"], "replied", ""),
        "status": (["sh", "-c", "exit 3"], "refused", "the command ended with status 3"),
        "signal": (["sh", "-c", "kill -9 $$"], "failed", "the command was killed by signal 9"),
        "missing": (["no-such-program"], "failed", "No such file or directory"),
        "slow": (["sh", "-c", "sleep 77 & sleep 77"], "silence", ""),
        "bound": (
            ["sh", "-c", 'test "$MWAN_DEVICE $MWAN_ADDRESS $MWAN_MARK" = "wan1 5.5.5.5 256"'],
            "replied",
            "",
        ),
    }
    for name, (command, verdict, why) in commands.items():
        limit = 0.2 if name == "slow" else 2.0
        bench.make({"kind": "command", "command": command, "limit": limit}, name=name)
        assert what(bench.prober.ask(name, limit + 0.3)) == (verdict, why), name
    bench.make({"kind": "command", "command": commands["slow"][0], "limit": 1.0}, name="several")
    for _unused in range(4):
        bench.prober.send("several")
    assert what(bench.prober.ask("several")) == ("failed", "4 of the command still run")
    bench.net.router.run("while pgrep -f 'sleep [7]7'; do sleep 0.1; done", timeout=10)
    assert bench.prober.cost()["threads"] == 1


def test_process_that_was_stopped_hears_what_came_meanwhile(bench: Bench) -> None:
    for kind in ("icmp", "dns"):
        bench.make({**TARGETS[kind], "query": "slow"}, name=kind)
    asked = {bench.prober.send("dns") for _unused in range(3)}
    time.sleep(0.1)
    with bench.prober.stopped():
        asked |= {bench.prober.send("icmp") for _unused in range(3)}
        time.sleep(0.8)
    verdicts = [bench.prober.next() for _unused in range(6)]
    assert {verdict["seq"] for verdict in verdicts if verdict and verdict["what"] == "replied"} == asked


def test_foreign_echo_replies_are_not_ours(bench: Bench) -> None:
    """Two probes and a ping of the same target, on one link: each hears only its own."""
    bench.make(PING, name="one")
    bench.make(PING, name="two")
    with bench.net.router.popen(["ping", "-nqi0.01", "-c50", "-Iwan1", SERVER]) as ping:
        sent = [(name, bench.prober.send(name)) for _unused in range(20) for name in ("one", "two")]
        verdicts = [bench.prober.next() for _unused in sent]
        ping.wait()
    assert sorted((verdict["probe"], verdict["seq"]) for verdict in verdicts if verdict) == sorted(sent)
    assert bench.prober.next(0.1) is None


def test_line_dialled_again_is_probed_again(point_to_point: Topology) -> None:
    """The new ppp0 has another index: what was bound to the old one has to be opened again."""
    net = point_to_point
    with Engine(net) as engine, Answers(net.server):
        links = bindings(net, engine)
        with Prober(net.router) as prober:
            kinds = ("icmp", "tcp", "dns", "http")
            for kind in kinds:
                prober.make(kind, TARGETS[kind], links["line_x"])
                assert what(prober.ask(kind)) == ("replied", "")
            with impair.hung_up(net, "line_x"):
                assert {what(prober.ask(kind)) for kind in kinds} == {("failed", "No such device")}
            assert engine.apply().changed
            for kind in kinds:
                assert what(prober.ask(kind)) == ("replied", "")
            with impair.hung_up(net, "line_x"):  # nothing is asked meanwhile
                pass
            engine.apply()
            assert {what(prober.ask(kind)) for kind in kinds} == {("replied", "")}
            prober.make("arp", {"kind": "arp", "address": "11.1.1.254"}, links["line_x"])
            assert what(prober.ask("arp")) == ("failed", "the device has no Ethernet address to ask with")


def test_card_replaced_is_asked_by_arp_again(bench: Bench) -> None:
    net, prober = bench.net, bench.prober
    provider = net.uplinks["isp_a"].provider
    bench.make({"kind": "arp", "address": "5.5.5.1"})
    assert prober.ask("isp_a")["what"] == "replied"
    with impair.cable_pulled(net, "isp_a"):
        assert prober.ask("isp_a", 0.2)["what"] == "silence"
    assert replied_soon(prober)
    net.router.ip("link set wan1 down")
    assert what(prober.ask("isp_a")) == ("failed", "Network is down")
    net.router.ip("link set wan1 up")
    assert prober.ask("isp_a")["what"] == "replied"
    net.router.ip("link del wan1")
    net.lab.connect(net.router, "wan1", provider, "cust")
    net.lab.configure(net.router, ["addr add 5.5.5.5/24 dev wan1", "link set wan1 up"])
    net.lab.configure(provider, ["addr add 5.5.5.1/24 dev cust", "link set cust up"])
    net.lab.settle()
    assert replied_soon(prober)


def replied_soon(prober: Prober) -> bool:
    """A device drops what it is given until the kernel's linkwatch has seen that its carrier came."""
    return any(prober.ask("isp_a", 0.5)["what"] == "replied" for _unused in range(3))


def test_changed_address_needs_a_new_binding(bench: Bench) -> None:
    net, prober = bench.net, bench.prober
    kinds = ("icmp", "tcp", "dns")
    for kind in kinds:
        bench.make(TARGETS[kind], name=kind)
        assert prober.ask(kind)["what"] == "replied"
    impair.lease_changed(net, "isp_a", "5.5.5.77", "5.5.5.1")
    for kind in kinds:
        assert what(prober.ask(kind)) == ("failed", "Cannot assign requested address")
    link = {**net.variables["mwan_links"][0], "address": "5.5.5.77"}
    bench.engine.apply(mwan_links=[link, net.variables["mwan_links"][1]], mwan_snat=[])
    for kind in kinds:
        prober.order("close", name=kind)
        prober.make(kind, TARGETS[kind], {**bench.links["isp_a"], "source": "5.5.5.77"})
        assert what(prober.ask(kind)) == ("replied", "")


def test_address_left_to_the_kernel_is_followed(bench: Bench) -> None:
    bench.prober.make("free", PING, {**bench.links["isp_a"], "source": None})
    assert bench.prober.ask("free")["what"] == "replied"
    impair.lease_changed(bench.net, "isp_a", "5.5.5.77", "5.5.5.1")
    link = {**bench.net.variables["mwan_links"][0], "address": "5.5.5.77"}
    bench.engine.apply(mwan_links=[link, bench.net.variables["mwan_links"][1]], mwan_snat=[])
    assert what(bench.prober.ask("free")) == ("replied", "")


def test_link_that_is_not_there_yet(bench: Bench) -> None:
    absent = {"device": "wan9", "source": "9.9.9.9", "mark": 512}
    for kind in ("icmp", "tcp", "dns", "http"):
        bench.prober.make(kind, TARGETS[kind], absent)
        assert what(bench.prober.ask(kind)) == ("failed", "No such device")
    bench.prober.make("arp", {"kind": "arp", "address": "9.9.9.1"}, absent)
    assert what(bench.prober.ask("arp")) == ("failed", "No such device")


def test_long_silence_holds_no_more_than_a_few_sockets(bench: Bench) -> None:
    kinds = ("icmp", "tcp", "dns", "http")
    for kind in kinds:
        bench.make(TARGETS[kind], name=kind)
    before = bench.prober.cost()["descriptors"]
    with impair.black_hole(bench.net, "isp_a"):
        for _unused in range(20):
            for kind in kinds:
                bench.prober.send(kind)
        time.sleep(0.2)
        assert bench.prober.cost()["descriptors"] == before + 2 * 16
    for kind in kinds:
        bench.prober.order("close", name=kind)
    assert bench.prober.cost()["descriptors"] == before - 2  # ICMP and DNS keep one each


def test_ipv6_echo(bench: Bench) -> None:
    router = bench.net.router
    router.sysctl("net.ipv6.conf.lo.disable_ipv6", 0)
    bench.prober.make("six", {"kind": "icmp", "address": "::1"}, {"device": "lo", "source": "::1", "mark": 0})
    assert what(bench.prober.ask("six")) == ("replied", "")
