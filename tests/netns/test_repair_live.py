# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Others delete and change what is ours while the prober runs: how soon it is back, and what clients see of that."""

from __future__ import annotations

import time
from typing import Any

import pytest
from _mwan.service.agenda import LONGEST_REPAIR
from lab import impair
from lab.clients import Clients
from lab.host import Host
from lab.seen import FLOWS, RESET_ONCE, breaks, resets, slowest, sources
from lab.state import snapshot
from lab.topology import Topology
from lab.traffic import fetch_many
from lab.watched import watched

FAST: dict[str, Any] = {"profile": "fast", "flush_delay": 0}
A, B = "5.5.5.5", "6.6.6.6"
# seconds: where the kernel tells of it, and where it has to be looked for
AT_ONCE, SOON = 1.0, 3.0
ROUTING = [
    "ip rule del priority 1999",
    "ip rule flush; ip rule add lookup main priority 32766; ip rule add lookup default priority 32767",
    "ip route flush table 1003",
    "ip route replace default via 6.6.6.1 dev wan2 table 1001 proto 77",
    "ip route flush table all proto 77",
]
FLUSHED = {
    "nftables": "nft flush ruleset",
    "iptables": "for t in mangle nat; do iptables-legacy -t $t -F; iptables-legacy -t $t -X; done",
}
EMPTIED = {"nftables": "nft flush chain inet mwan prerouting", "iptables": "iptables-legacy -t nat -F"}
# more than fit into the prober's socket, and by a routing daemon's protocol
FLOOD = (
    'seq 20000 | awk \'{{printf "route replace {network}.%d.%d.0/24 dev lan0 table 1001 proto bird\\n",'
    " $1 / 250, $1 % 250}}' | ip -batch -"
)
CPU_SECONDS = 3.0
CASES = [
    *(("nftables", command, AT_ONCE) for command in ROUTING),
    *(("nftables", words["nftables"], AT_ONCE) for words in (FLUSHED, EMPTIED)),
    *(("iptables", words["iptables"], SOON) for words in (FLUSHED, EMPTIED)),
]


def wait_repaired(router: Host, whole: dict[str, str], seconds: float) -> None:
    """Wait until everything is as it was."""
    deadline = time.monotonic() + seconds
    while (now := snapshot(router)) != whole:
        assert time.monotonic() < deadline, [(whole[key], now[key]) for key in now if now[key] != whole[key]]


def resets_sent(router: Host) -> int:
    """How many TCP segments with RST the router itself has sent (RFC 4022: tcpOutRsts)."""
    names, values = router.run("grep ^Tcp: /proc/net/snmp").stdout.splitlines()
    return int(dict(zip(names.split(), values.split(), strict=True))["OutRsts"])


@pytest.mark.parametrize(("backend", "command", "limit"), CASES, indirect=["backend"])
def test_what_others_delete_is_back_before_links_or_connections_suffer(
    two_links: Topology, backend: str, command: str, limit: float
) -> None:
    net = two_links
    with (
        watched(net, backend, probe=FAST) as prober,
        Clients(net.client, **FLOWS, want=A) as clients,
        Clients(net.client, **FLOWS, want=B) as neighbours,
    ):
        whole, before = snapshot(net.router), prober.status()["converge"]["changed"]
        quiet = resets_sent(net.router)
        # not while a run is reading, which would find half of it done
        _done, moment = impair.timed(lambda: net.router.run(["flock", "/run/mwan/lock", "sh", "-c", command]))
        wait_repaired(net.router, whole, limit)
        seen = [*clients.outages(moment, A, SOON), *neighbours.outages(moment, B, SOON)]
        assert sources(seen) == {A, B}
        # Without any source NAT, until it is back, what was in flight to a client is the router's own, which resets it.
        in_flight = resets_sent(net.router) - quiet if command == FLUSHED["nftables"] else 0
        assert len(breaks(seen).pop("tcp", [])) <= in_flight
        assert breaks(seen).keys() <= {"tcp"}
        assert slowest(seen) < limit + AT_ONCE
        time.sleep(0.5)
        assert prober.status()["converge"]["changed"] == before + 1
        assert "repaired what others changed" in prober.log()
        assert prober.changes("isp_a") == prober.changes("isp_b") == ["up"]


def test_who_deletes_again_and_again_is_not_fought_at_full_speed(two_links: Topology, backend: str) -> None:
    """It is told, what it costs is bounded, and once there is peace it does not take long."""
    net = two_links
    deleting = f"for n in $(seq 40); do {FLUSHED[backend]}; ip rule del priority 1999; sleep 0.1; done 2>/dev/null"
    with watched(net, backend, probe=FAST) as prober:
        whole, before = snapshot(net.router), prober.status()["converge"]
        net.router.run(deleting, check=False)
        after = prober.status()["converge"]
        assert 3 <= after["changed"] - before["changed"] <= 8
        assert after["runs"] - before["runs"] <= 12
        assert "somebody keeps changing what is ours" in prober.log()
        wait_repaired(net.router, whole, LONGEST_REPAIR + AT_ONCE)
        assert set(fetch_many(net.client, 40).sources) == {A, B}
        with impair.cable_pulled(net, "isp_a"):
            prober.wait_for("isp_a", "down", AT_ONCE)
            prober.wait_settled()
            fetched = fetch_many(net.client, 20)
            assert (dict(fetched.sources), fetched.failures) == ({B: 20}, []), "what matters goes on at full speed"


def test_notifications_that_were_lost_are_made_up_for(two_links: Topology) -> None:
    """While the process gets no time, more happens than the kernel can keep for it, and then a cable is pulled."""
    net = two_links
    with watched(net, probe=FAST) as prober, Clients(net.client, **FLOWS, want=A) as clients:
        with prober.stopped():
            net.router.run(FLOOD.format(network=10))
            cut = impair.inject(impair.cable_pulled, net, "isp_a")
        prober.wait_for("isp_a", "down", AT_ONCE)
        seen = clients.outages(cut.moment, A, SOON)
        assert (sources(seen), resets(seen)) == ({B}, RESET_ONCE)
        assert prober.status()["counters"]["overruns"] >= 1
        assert "no carrier" in prober.status()["links"]["isp_a"]["reason"]
        cut.undo()
        prober.wait_for("isp_a", "up")
        prober.wait_settled()
        assert set(fetch_many(net.client, 60).sources) == {A, B}


def test_routes_of_others_in_our_tables_cost_little(two_links: Topology) -> None:
    net = two_links
    with watched(net, probe=FAST) as prober:
        before, spent = prober.status()["converge"], prober.cost()["cpu"]
        for network in range(10, 14):
            net.router.run(FLOOD.format(network=network))
        time.sleep(1)
        with impair.cable_pulled(net, "isp_a"):
            prober.wait_for("isp_a", "down", AT_ONCE)
        assert prober.status()["converge"]["runs"] - before["runs"] <= 25
        assert prober.cost()["cpu"] - spent < CPU_SECONDS
        assert prober.changes("isp_b") == ["up"]
