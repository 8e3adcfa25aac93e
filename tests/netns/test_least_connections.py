# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Fewest connections, as the kernel's queue, its connection tracking and the helper bring it about together."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from _mwan.firewall.iptables import Iptables
from lab import impair
from lab.balance import counted, counting, policy
from lab.balancer import MASK, QUEUE, Balancer, enlist, queued
from lab.engine import Engine
from lab.prober import Prober
from lab.probes import bindings
from lab.topology import SERVER, Topology
from lab.traffic import ECHO_PORT, AccessLogServer, EchoServer, Fetched, LongLivedTcp, fetch_many
from lab.wait import wait_until

FOREIGN = 0x80000000
BURST = f"""
import json, socket, sys
sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _unused in range(30)]
for sock in sockets:
    sock.connect(({SERVER!r}, {ECHO_PORT}))
    sock.settimeout(1)
    for number in range(3):
        sock.send(b"x")
print(json.dumps([[sock.recv(100).decode().split()[1] for number in range(3)] for sock in sockets]))
"""
# So many that some of them share the kernel's id with another.
MANY = 150_000
SEND_MANY = f"""
import socket, sys
senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _unused in range({MANY} // 50_000)]
for sender in senders:
    for number in range(50_000):
        sender.sendto(b"x", (sys.argv[1], 10_000 + number))
"""


@pytest.fixture(autouse=True)
def queue_of_iptables() -> None:
    if problem := Iptables().unavailable():
        pytest.skip(problem)


def marks(net: Topology, engine: Engine) -> dict[str, int]:
    return {name: found["mark"] for name, found in bindings(net, engine).items()}


def flows(net: Topology, number: int) -> LongLivedTcp:
    return LongLivedTcp(net.client, number=number, interval=0.5)


def test_counts_come_to_proportion(three_links: Topology) -> None:
    """Connections of different lifetimes; each link's number follows from what is open, not from what came."""
    net = three_links
    addresses = list(net.sources.values())
    with Engine(net, "iptables") as engine, EchoServer(net.server), AccessLogServer(net.server), ExitStack() as stack:
        engine.apply()
        given = dict(zip(net.uplinks, zip(marks(net, engine).values(), (3, 2, 1), strict=True), strict=True))
        first, second, third = given
        counting(net.router, "kept", "forward", f"meta mark and {FOREIGN | MASK:#x} > {FOREIGN:#x} ct state new")
        enlist(net.router, {first: given[first]})
        balancer = stack.enter_context(Balancer(net.router))
        stack.enter_context(queued(net.router, foreign=FOREIGN))
        with flows(net, 12) as early:
            wait_until(lambda: balancer.connections() == {first: 12})
            enlist(net.router, given)
            wait_until(lambda: len(balancer.connections()) == 3)
            stack.enter_context(flows(net, 24))
            assert balancer.connections() == {first: 18, second: 12, third: 6}
            fetched = fetch_many(net.client, 90)
            assert (set(fetched.sources), fetched.failures) == (set(addresses), [])
            assert {source for flow in early.stop() for source in flow.sources} == {addresses[0]}
        wait_until(lambda: balancer.connections() == {first: 6, second: 12, third: 6})
        stack.enter_context(flows(net, 12))
        assert balancer.connections() == {first: 18, second: 12, third: 6}
        assert counted(net.router, "kept") == 12 + 24 + 90 + 12
        seen = json.loads(net.client.run([sys.executable, "-I", "-c", BURST]).stdout)
        assert {len(set(sources)) for sources in seen} == {1}, "one flow went by two links"
        assert {source for sources in seen for source in sources} == set(addresses)
        leaves_alone_what_does_not_serve(net, given, balancer)
        balancer.close()
        takes_no_more_than_the_unit_allows(net, given)
        assert net.spoofed() == 0


def leaves_alone_what_does_not_serve(net: Topology, given: dict[str, tuple[int, int]], balancer: Balancer) -> None:
    """The file says at once who takes new connections; who is not on it gets none."""
    first = next(iter(given))
    enlist(net.router, {name: link for name, link in given.items() if name != first})
    time.sleep(0.1)
    fetched = fetch_many(net.client, 30)
    assert (fetched.sources[net.sources[first]], fetched.failures) == (0, [])
    enlist(net.router, {})
    wait_until(lambda: balancer.connections() == {})
    fetched = fetch_many(net.client, 60)
    assert (set(fetched.sources), fetched.failures) == (set(net.sources.values()), []), "the route does not serve"


def takes_no_more_than_the_unit_allows(net: Topology, given: dict[str, tuple[int, int]]) -> None:
    """Netlink sockets and CAP_NET_ADMIN, as the service has them, and no root."""
    enlist(net.router, given)
    only = "-all,+net_admin,+net_raw"
    drop = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--no-new-privs"]
    drop += [f"--inh-caps={only}", f"--ambient-caps={only}", f"--bounding-set={only}"]
    with Balancer(net.router, drop) as balancer:
        assert fetch_many(net.client, 30).failures == []
        assert sum(link["chosen"] for link in balancer.ask()["policies"]["balanced"]["links"].values()) == 30
        assert str(QUEUE) in net.router.run("cat /proc/net/netfilter/nfnetlink_queue").stdout


def test_what_is_not_heard_is_counted(two_links: Topology) -> None:
    """Connections that are older than the helper, and those it was told of while it could not listen."""
    net = two_links
    if int(net.router.sysctl("net.netfilter.nf_conntrack_max")) < MANY + 1000:
        pytest.skip("the table of connections is too small; raise net.netfilter.nf_conntrack_max")
    net.router.sysctl("net.netfilter.nf_conntrack_udp_timeout", 300)
    with Engine(net, "iptables") as engine, EchoServer(net.server):
        engine.apply()
        links = marks(net, engine)
        enlist(net.router, {name: (mark, 1) for name, mark in links.items()})
        with flows(net, 20) as early, Balancer(net.router) as balancer:
            wait_until(lambda: sum(balancer.connections().values()) == 20)
            assert Counter(balancer.connections()) == pinned(net, links)
            early.stop()
            wait_until(lambda: sum(balancer.connections().values()) == 0)
            balancer.send(signal.SIGSTOP)
            net.client.run([sys.executable, "-I", "-c", SEND_MANY, "7.7.7.9"])
            balancer.send(signal.SIGCONT)
            wait_until(lambda: balancer.ask()["overruns"] > 0)
            wait_until(lambda: Counter(balancer.connections()) == pinned(net, links))
            assert sum(balancer.connections().values()) == MANY


def pinned(net: Topology, links: dict[str, int]) -> Counter[str]:
    """Open connections by link, as conntrack lists them."""
    command = "conntrack -L --mark {:#x}/{:#x} 2>/dev/null | grep -Ec '^udp|ESTABLISHED'"
    listed = {name: net.router.run(command.format(mark, MASK), check=False).stdout for name, mark in links.items()}
    return Counter({name: int(number) for name, number in listed.items()})


@contextmanager
def fetching(net: Topology) -> Iterator[Callable[[], Fetched]]:
    """New connections while something happens; what became of them."""
    with ThreadPoolExecutor(1) as executor:
        work = executor.submit(fetch_many, net.client, 600, concurrency=4, timeout=15.0)
        yield work.result


def balance(prober: Prober) -> dict[str, Any]:
    return dict(prober.status()["balance"] or {})


def test_clients_connect_whatever_becomes_of_the_helper(two_links: Topology) -> None:
    net = two_links
    with Engine(net, "iptables") as engine, EchoServer(net.server), AccessLogServer(net.server):
        engine.settle(mwan_classify="marks", mwan_policies=[policy("isp_a", "isp_b", algorithm="least_connections")])
        with Prober(net.router) as prober:
            wait_until(lambda: balance(prober).get("running"))
            for times, sign in enumerate((signal.SIGKILL, signal.SIGSTOP), 1):
                with fetching(net) as result:
                    time.sleep(0.1)
                    os.kill(balance(prober)["pid"], sign)
                    assert result().failures == []
                wait_until(lambda: balance(prober).get("running"))
                assert balance(prober)["restarts"] == times
            before = chosen(prober)
            with flows(net, 20):
                wait_until(lambda: (chosen(prober) - before).total() >= 20)
                # the prober's own questions are connections as well, and not quite as many on each link
                one, other = (chosen(prober) - before).values()
                assert abs(one - other) <= 3
            with impair.cable_pulled(net, "isp_a"):
                prober.wait_for("isp_a", "down")
                fetched = fetch_many(net.client, 60)
                assert (dict(fetched.sources), fetched.failures) == ({net.sources["isp_b"]: 60}, [])
            assert "mwan-balance was ended by signal 9" in prober.log()
            assert "mwan-balance did not answer for 2 s and was killed" in prober.log()
            last = balance(prober)["pid"]
        assert not os.path.exists(f"/proc/{last}"), "it outlived the prober"
        assert net.spoofed() == 0
        assert fetch_many(net.client, 20).failures == []


def test_weights_follow_the_counts_without_a_helper(two_links: Topology) -> None:
    """A link that has too few connections gets nearly all new ones; no run of a playbook takes that back."""
    net = two_links
    follows = {"algorithm": "least_connections", "least_connections": {"method": "weights", "interval": 1}}
    with Engine(net) as engine, EchoServer(net.server), AccessLogServer(net.server):
        engine.apply(mwan_policies=[policy("isp_a")], mwan_default_policy="balanced")
        with flows(net, 40), Prober(net.router):
            engine.apply(mwan_policies=[policy("isp_a", "isp_b", **follows)])
            wait_until(lambda: favoured(net))
            wait_until(lambda: f"weight {weights(net)['isp_b']}" in net.router.ip("route show table mwan_balanced"))
            fetched = fetch_many(net.client, 40)
            assert (fetched.sources[net.sources["isp_b"]] > 30, fetched.failures) == (True, [])
            # the prober may just be at it
            wait_until(lambda: engine.apply(check=True).actions == [])
            wait_until(lambda: favoured(net))
            with flows(net, 40):
                wait_until(lambda: not weights(net))
                wait_until(lambda: engine.apply(check=True).actions == [])


def weights(net: Topology) -> dict[str, int]:
    """Those that are other than declared."""
    text = net.router.run("cat /run/mwan/weights.json", check=False).stdout
    return dict(json.loads(text)["policies"]["balanced"]) if text else {}


def favoured(net: Topology) -> bool:
    """Whether isp_b gets nearly all new connections."""
    found = weights(net)
    return found.get("isp_b", 0) > 8 * found.get("isp_a", 1000)


def chosen(prober: Prober) -> Counter[str]:
    """By link, how many connections the helper placed there, as it told last."""
    links = balance(prober)["policies"]["balanced"]["links"]
    return Counter({name: link["chosen"] for name, link in links.items()})
