# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Connections of a link that is given up: TCP is reset at its next packet, the rest goes on over another link."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from lab import impair
from lab.balance import policy, port_forward
from lab.clients import Clients, Outage
from lab.engine import Engine, Outcome
from lab.host import Host
from lab.impair import Impairment
from lab.talk import Talk
from lab.topology import SERVER, Topology
from lab.traffic import AccessLogServer, EchoServer, fetch_many

Failure = Callable[[Topology, str], Impairment]
A, B = "5.5.5.5", "6.6.6.6"
# Seconds from the end of a run until each client, asking every 50 ms, has been answered again. A TCP client asks again
# when its last question has gone unanswered for a while, which doubles.
SOON = 2.0
FLUSHED, UNANSWERED = "0x100/0x3f00 (all but tcp)", "0x100/0x3f00 -p tcp (never answered)"


def report(net: Topology, **links: str) -> None:
    """Write health.json as the prober does: state, and after a slash by which word the link is given up."""
    words = {name: word.split("/") for name, word in links.items()}
    data = {name: {"state": state, "released": "".join(why) or None} for name, (state, *why) in words.items()}
    net.router.run(["tee", "/run/mwan/health.json"], input=json.dumps({"links": data}))


def device_down(net: Topology, link: str) -> Impairment:
    device = net.uplinks[link].device
    net.router.ip(f"link set {device} down")
    return Impairment(lambda: net.router.ip(f"link set {device} up"))


@contextmanager
def managed(net: Topology, backend: str, **variables: object) -> Iterator[Engine]:
    with Engine(net, backend) as engine, EchoServer(net.server):
        engine.settle(**variables)
        yield engine
        assert net.spoofed() == 0


def release(engine: Engine, **links: str) -> Outcome:
    """What one run does about the prober's word; another one finds nothing to do."""
    report(engine.topology, **links)
    outcome = engine.links()
    assert engine.links(check=True).actions == []
    assert engine.links().actions == []
    return outcome


def moved(clients: Clients, moment: impair.Moment) -> list[Outage]:
    return clients.outages(moment, source=A, patience=2 * SOON)


@pytest.mark.parametrize(
    "failure", [impair.black_hole, impair.cable_pulled, device_down], ids=lambda failure: failure.__name__
)
def test_clients_of_a_dead_link_go_on_over_another(two_links: Topology, backend: str, failure: Failure) -> None:
    """Without carrier or device the routes refuse what is pinned, before a rule could answer it."""
    net = two_links
    with managed(net, backend) as engine, Clients(net.client, tcp=3, udp=3, icmp=3, want=A) as clients:
        with failure(net, "isp_a"):
            outcome, moment = impair.timed(lambda: release(engine, isp_a="down/down"))
            seen = moved(clients, moment)
        assert outcome.has("conntrack", FLUSHED)
        assert [outage.after for outage in seen] == [B] * 9
        assert [outage.breaks for outage in seen if outage.protocol == "tcp"] == [["ECONNRESET"]] * 3
        assert max(outage.seconds or SOON for outage in seen) < SOON


def test_connections_that_shall_be_kept_are(two_links: Topology, backend: str) -> None:
    net = two_links
    kept = {**policy("isp_a", "isp_b"), "on_down": {"tcp": "keep", "other": "keep"}}
    with (
        managed(net, backend, mwan_policies=[kept]) as engine,
        Talk(net.client, want=A) as tcp,
        Talk(net.client, protocol="udp", want=A) as udp,
    ):
        assert not release(engine, isp_a="down/down").has("conntrack")
        assert (tcp.ask(), udp.ask()) == (A, A)


@pytest.mark.parametrize("other", ["down/down", "drained"])
def test_nothing_is_given_up_while_no_other_link_lives(two_links: Topology, backend: str, other: str) -> None:
    net = two_links
    with (
        managed(net, backend) as engine,
        Talk(net.client, want=A) as tcp,
        Talk(net.client, protocol="udp", want=A) as udp,
    ):
        assert not release(engine, isp_a="down/down", isp_b=other).has("conntrack")
        assert (tcp.ask(), udp.ask()) == (A, A)
        outcome = release(engine, isp_a="down/down", isp_b="up")
        assert outcome.has("conntrack", FLUSHED)
        assert (tcp.ask(), udp.ask()) == ("ECONNRESET", B)


def test_order_of_giving_up_and_taking_back(two_links: Topology, backend: str) -> None:
    """Led away, forgotten, reset; and led back only when nothing is reset any more. One load of the firewall each."""
    with managed(two_links, backend) as engine:
        down = release(engine, isp_a="down/down").actions
        steered, forgotten, reset = "ip route", "conntrack", f"replace {backend} rules"
        words = (steered, forgotten, reset, "store")
        found = [next(word for word in words if action.startswith(word)) for action in down]
        assert found == [steered, steered, forgotten, forgotten, reset, "store"]
        up = release(engine, isp_a="up").actions
        assert up[0] == f"replace {backend} rules"
        assert [action.startswith(steered) for action in up] == [False, True, True, False]


def test_attempt_to_connect_goes_on_over_another_link(two_links: Topology, backend: str) -> None:
    """Who was never answered is not refused: the next attempt of the same socket takes a link that lives."""
    net = two_links
    with managed(net, backend) as engine, AccessLogServer(net.server), impair.black_hole(net, "isp_a"):
        with ThreadPoolExecutor(1) as pool:
            fetching = pool.submit(fetch_many, net.client, 20, timeout=8.0)
            net.router.run("until conntrack -L -p tcp --mark 0x100 2>&1 | grep -q SYN_SENT; do :; done", timeout=10)
            assert release(engine, isp_a="down/down").has("conntrack", UNANSWERED)
            fetched = fetching.result()
        assert (dict(fetched.sources), fetched.failures) == ({B: 20}, [])
        assert max(fetched.durations) > 0.9, "none of them met the dead link"


def test_what_a_rule_leads_to_the_link_is_let_alone(two_links: Topology, backend: str) -> None:
    """It would be led there again, and finds the link alive before the prober trusts it."""
    net = two_links
    rule = {"name": "vpn", "destination": "7.7.7.99", "link": "isp_a"}
    with (
        managed(net, backend, mwan_rules=[rule]) as engine,
        AccessLogServer(net.server),
        Talk(net.client, "7.7.7.99") as ruled,
        Talk(net.client, want=A) as other,
    ):
        with impair.black_hole(net, "isp_a"):
            release(engine, isp_a="down/down")
            failures = fetch_many(net.client, 2, "7.7.7.99", timeout=2.5).failures
            assert [failure["error"] for failure in failures] == ["timeout"] * 2, "not refused"
        assert (ruled.ask(), other.ask()) == (A, "ECONNRESET")
        assert dict(fetch_many(net.client, 2, "7.7.7.99").sources) == {A: 2}


def test_what_a_rule_leads_to_one_router_of_a_segment_is_let_alone(shared_segment: Topology, backend: str) -> None:
    net = shared_segment
    source = net.sources["router1"]
    rule = {"name": "vpn", "destination": "7.7.7.99", "link": "router1"}
    with (
        managed(net, backend, mwan_rules=[rule]) as engine,
        Talk(net.client, "7.7.7.99") as ruled,
        Talk(net.client, want=source) as other,
    ):
        release(engine, router1="down/down")
        assert (ruled.ask(), other.ask()) == (source, "ECONNRESET")


def test_own_connections_are_reset_but_not_marked_ones(two_links: Topology, backend: str) -> None:
    """The link works, so whoever is not reset is answered; a probe over TCP carries the link's mark."""
    net = two_links
    with (
        managed(net, backend) as engine,
        Talk(net.router, want=A) as own,
        Talk(net.router, mark=0x100) as probe,
        Talk(net.router, mark=0x10000, want=A) as foreign_mark,
    ):
        release(engine, isp_a="down/down")
        assert (own.ask(), foreign_mark.ask(), probe.ask()) == ("ECONNRESET", "ECONNRESET", A)
        with Talk(net.router, mark=0x100) as probe_begun_now:
            assert probe_begun_now.ask() == A
        release(engine, isp_a="up")
        assert probe.ask() == A


@contextmanager
def entered(net: Topology, backend: str, address: str) -> Iterator[list[Talk]]:
    """Connections from outside to this address: to the router, and by a forwarded port to a LAN host."""
    port_forward(net, backend, 8, net.client_addresses[0] + ":7")
    with (
        EchoServer(net.router),
        EchoServer(net.client),
        Talk(net.server, address, source="7.7.7.71") as tcp,
        Talk(net.server, address, source="7.7.7.71", port=8) as forwarded,
    ):
        yield [tcp, forwarded]


def test_who_entered_by_the_link_is_let_alone(two_links: Topology, backend: str) -> None:
    """There is no other way for it; and a link that works again is not closed to it until it is said to be up."""
    net = two_links
    with managed(net, backend) as engine, entered(net, backend, A) as talks:
        release(engine, isp_a="down/down")
        assert [talk.ask() for talk in talks] == ["7.7.7.71"] * 2
        assert fetch_echo(net, A) == "7.7.7.71"


def fetch_echo(net: Topology, address: str) -> str:
    with Talk(net.server, address, source="7.7.7.71", port=8) as talk:
        return talk.ask()


BACKUP = {**policy(("isp_a", 1, 1), ("isp_b", 1, 2)), "failback": {"tcp": "reset", "other": "reroute"}}


def test_failback_takes_what_lan_hosts_began(two_links: Topology, backend: str) -> None:
    net = two_links
    with managed(net, backend, mwan_policies=[BACKUP]) as engine:
        release(engine, isp_a="down/down")
        with (
            Clients(net.client, tcp=2, udp=2, icmp=2, want=B) as clients,
            Talk(net.router, want=B) as own,
            entered(net, backend, B) as talks,
        ):
            assert not release(engine, isp_a="up", isp_b="up").has("conntrack", "0x200")
            assert [talk.ask() for talk in (own, *talks)] == [B, "7.7.7.71", "7.7.7.71"]
            outcome, moment = impair.timed(lambda: release(engine, isp_a="up", isp_b="up/failback"))
            assert outcome.has("conntrack", "0x200/0x3f00 (all but tcp)")
            assert not outcome.has("never answered"), "a link that works will answer"
            seen = clients.outages(moment, source=B, patience=2 * SOON)
            assert [outage.after for outage in seen] == [A] * 6
            assert [outage.resets for outage in seen] == [1, 1, 0, 0, 0, 0]
            assert [talk.ask() for talk in (own, *talks)] == [B, "7.7.7.71", "7.7.7.71"]


def test_stand_in_takes_over_before_anybody_says_so(two_links: Topology, backend: str) -> None:
    """The kernel leads new connections to a lower tier by itself, also while the prober is not there to end resets."""
    net = two_links
    with managed(net, backend, mwan_policies=[BACKUP]) as engine, AccessLogServer(net.server):
        release(engine, isp_a="up", isp_b="up/failback")
        with impair.cable_pulled(net, "isp_a"):
            impair.wait_noticed(net, "isp_a")
            with Talk(net.client) as talk:
                assert talk.ask() == B
            fetched = fetch_many(net.client, 40)
            assert (dict(fetched.sources), fetched.failures) == ({B: 40}, [])
        with Talk(net.client) as talk:
            assert talk.ask() == A


def test_hosts_beside_a_dead_link_are_let_alone(two_links: Topology, backend: str) -> None:
    """They need no gateway: the modem, or the provider's router with which routes are exchanged."""
    net = two_links
    gateway = str(net.uplinks["isp_a"].gateway)
    with (
        managed(net, backend, mwan_policies=[policy("isp_a", "isp_b")]) as engine,
        EchoServer(net.uplinks["isp_a"].provider),
        Talk(net.router, gateway) as own,
        Talk(net.client, gateway) as forwarded,
        Talk(net.client, want=A) as beyond,
    ):
        release(engine, isp_a="down/down")
        assert (own.ask(), forwarded.ask(), beyond.ask()) == (A, A, "ECONNRESET")


FAR_END = """
import errno, socket, time
listener = socket.create_server(("0.0.0.0", 9999))
print("ready", flush=True)
connection, _ = listener.accept()
connection.send(connection.recv(100))
input()
try:
    for _ in range(20):
        connection.send(b"more")
        time.sleep(0.1)
    print("not told")
except OSError as error:
    print(errno.errorcode[error.errno])
"""
NEAR_END = f"""
import errno, socket
with socket.create_connection(("{SERVER}", 9999), 3) as connection:
    connection.send(b"1")
    connection.recv(100)
    print("ready", flush=True)
    input()
    try:
        connection.send(b"2")
        print(connection.recv(100), flush=True)
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
"""


def test_far_end_learns_of_a_reset_when_it_next_sends(two_links: Topology, backend: str) -> None:
    """It sends to a client that has forgotten it, and whose own reset comes through."""
    net = two_links
    with managed(net, backend, mwan_policies=[BACKUP]) as engine:
        release(engine, isp_a="down/down")
        far = net.server.popen([sys.executable, "-c", FAR_END], stdin=subprocess.PIPE)
        assert answer(far) == "ready"
        near = net.client.popen([sys.executable, "-c", NEAR_END], stdin=subprocess.PIPE)
        assert answer(near) == "ready"
        release(engine, isp_a="up", isp_b="up/failback")
        assert answer(near, "go on") == "ECONNRESET"
        assert answer(far, "go on") in ("ECONNRESET", "EPIPE")


def answer(process: subprocess.Popen[str], line: str = "") -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    if line:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    return process.stdout.readline().strip()


def test_link_that_comes_back_serves_connections_at_once(two_links: Topology, backend: str) -> None:
    net = two_links
    with managed(net, backend) as engine, AccessLogServer(net.server), Talk(net.client, want=A) as idle:
        release(engine, isp_a="down/down")
        release(engine, isp_a="up")
        assert idle.ask() == A, "it asked nothing meanwhile"
        fetched = fetch_many(net.client, 60)
        assert (set(fetched.sources), fetched.failures) == ({A, B}, [])


def test_one_of_two_routers_on_a_segment(shared_segment: Topology, backend: str) -> None:
    """Hosts on that segment are not taken for what comes in through a router, and begin anew like those of the LAN."""
    net = shared_segment
    source, other = net.sources.values()
    host = beside_the_routers(net)
    snat = [{**item, "source": ["192.168.101.0/24", "192.168.100.50"]} for item in net.variables["mwan_snat"]]
    with (
        managed(net, backend, mwan_snat=snat) as engine,
        Clients(net.client, tcp=3, udp=3, want=source) as clients,
        Talk(host, want=source) as neighbour,
        impair.black_hole(net, "router1"),
    ):
        outcome, moment = impair.timed(lambda: release(engine, router1="down/down"))
        assert outcome.has("conntrack", FLUSHED)
        assert neighbour.ask() == "ECONNRESET"
        seen = clients.outages(moment, source=source, patience=2 * SOON)
        assert [outage.after for outage in seen] == [other] * 6


def beside_the_routers(net: Topology) -> Host:
    """A host on the segment of the providers' routers that has ours for its own."""
    host = net.lab.host("beside")
    net.lab.plug(host, "eth0", net.lab.hosts["switch"])
    net.lab.configure(
        host, ["addr add 192.168.100.50/24 dev eth0", "link set eth0 up", "route add default via 192.168.100.100"]
    )
    net.lab.settle()
    for name in ("all", "wan0"):
        net.router.sysctl(f"net.ipv4.conf.{name}.send_redirects", 0)
    return host


def test_flows_go_on_from_an_address_that_was_replaced(dhcp: Topology, backend: str) -> None:
    net = dhcp
    with (
        managed(net, backend, mwan_policies=[policy("isp_a")]) as engine,
        Clients(net.client, tcp=2, udp=2, icmp=2) as clients,
    ):
        moment = impair.lease_changed(net, "isp_a", "5.5.5.77", "5.5.5.2")
        outcome = engine.links()
        assert outcome.has("conntrack", f"0x100/0x3f00 (of address {A})")
        assert engine.links().actions == []
        seen = clients.outages(moment, source=A, patience=3 * SOON)
        assert [outage.after for outage in seen] == ["5.5.5.77"] * 6
        assert [len(outage.breaks) for outage in seen if outage.protocol == "tcp"] == [1, 1]


def test_what_has_a_former_address_goes_on_while_the_router_has_it(two_links: Topology, backend: str) -> None:
    net = two_links
    net.router.sysctl("net.ipv4.conf.wan1.promote_secondaries", 1)
    net.router.ip("addr add 5.5.5.77/24 dev wan1")
    first, second = net.variables["mwan_links"]
    renumbered = {
        "mwan_links": [{**first, "address": "5.5.5.77"}, second],
        "mwan_snat": [{**item, "to": "auto"} for item in net.variables["mwan_snat"]],
    }
    with (
        managed(net, backend, mwan_policies=[policy("isp_a")]) as engine,
        Talk(net.client) as tcp,
        Talk(net.client, protocol="udp") as udp,
    ):
        assert not engine.settle(**renumbered).has("conntrack")
        with Talk(net.client) as new:
            assert (tcp.ask(), udp.ask(), new.ask()) == (A, A, "5.5.5.77")
            net.router.ip(f"addr del {A}/24 dev wan1")
            assert engine.links().has("conntrack", f"(of address {A})")
            assert engine.links().actions == []
            assert (tcp.ask(), udp.ask(), new.ask()) == ("ECONNRESET", "5.5.5.77", "5.5.5.77")


def test_line_dialled_anew_with_another_address(point_to_point: Topology, backend: str) -> None:
    """While the device is gone nothing is known of its next address, so what had the old one is kept till then."""
    net = point_to_point
    line = net.uplinks["line_x"]
    variables = {
        "mwan_links": [{"name": link["name"], "device": link["device"]} for link in net.variables["mwan_links"]],
        "mwan_snat": [{**item, "to": "auto"} for item in net.variables["mwan_snat"]],
        "mwan_policies": [policy(line.name)],
    }
    with managed(net, backend, **variables) as engine, Talk(net.client, protocol="udp") as udp:
        with impair.hung_up(net, line.name):
            assert not engine.links().has("conntrack")
        assert not engine.links().has("conntrack")
        assert udp.ask() == line.source
        with impair.hung_up(net, line.name):
            engine.links()
            impair.lease_changed(net, line.name, "11.1.1.2", "11.1.1.253")
        assert engine.links().has("conntrack", f"(of address {line.source})")
        assert udp.ask() == "11.1.1.2"


def test_rules_that_answer_are_repaired(two_links: Topology, backend: str) -> None:
    net = two_links
    table, chain = "inet mwan", "forward_reset"
    commands = {
        "nftables": [f"nft flush chain {table} {chain}", f"nft insert rule {table} {chain} return"],
        "iptables": ["iptables-legacy -F MWAN_FORWARD", "iptables-legacy -D OUTPUT -j MWAN_OUTPUT",
                     "iptables-legacy -I FORWARD -s 10.1.1.1 -j ACCEPT"],
    }[backend]  # fmt: skip
    with managed(net, backend) as engine:
        for command in commands:
            with Talk(net.client, want=A) as talk:
                release(engine, isp_a="down/down")
                net.router.run(command)
                assert engine.links(check=True).actions == [f"replace {backend} rules"]
                assert engine.links().actions == [f"replace {backend} rules"]
                assert engine.links().actions == []
                assert talk.ask() == "ECONNRESET"
            release(engine, isp_a="up")


def test_filter_table_is_left_alone_while_nothing_is_given_up(two_links: Topology) -> None:
    net = two_links
    net.router.run("iptables-legacy -A FORWARD -s 10.1.1.1 -j ACCEPT")
    counters = "iptables-legacy-save -c -t filter | grep -v '^#'"
    with managed(net, "iptables") as engine:
        before = net.router.run(counters).stdout
        release(engine, isp_a="down/down")
        assert "MWAN_FORWARD" in net.router.run(counters).stdout
        release(engine, isp_a="up")
        assert net.router.run(counters).stdout == before
