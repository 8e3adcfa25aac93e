# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Whatever of ours is deleted or altered by hand is named in check mode and put back by the next run."""

from __future__ import annotations

import pytest
from lab.balance import policy
from lab.engine import Engine
from lab.state import snapshot, with_chains
from lab.topology import Topology
from lab.traffic import AccessLogServer, fetch_many

VARIABLES = {
    "mwan_rules": [{"name": "backup", "destination": "7.7.7.99", "link": "isp_b"}],
    "mwan_policies": [policy(("isp_a", 3), ("isp_b", 1), last_resort="unreachable")],
    "mwan_rp_filter": {"mode": "loose", "devices": {"lan0": "strict"}},
    "mwan_blackhole": ["10.99.0.0/16"],
}

# what is done by hand -> words of an action that names it
ROUTING = {
    "ip rule del pref 1000": "ip rule add ... 1000",
    "ip rule del pref 1001 fwmark 0x100/0x3f00": "ip rule add ... 1001 ... from all fwmark 0x100/0x3f00",
    "ip rule del pref 1100 from 5.5.5.5": "ip rule add ... 1100 ... from 5.5.5.5/32",
    "ip rule del pref 1200": "ip rule add ... 1200 ... from all to 7.7.7.99/32",
    "ip rule del pref 1999": "ip rule add ... 1999",
    "ip rule add pref 1150 from 10.0.0.0/8 lookup 1001 proto 77": "ip rule delete ... 1150",
    "ip route del default table 1001 metric 0": "ip route add default via 5.5.5.1 dev wan1",
    "ip route del prohibit default table 1001 metric 1000000": "ip route add prohibit default",
    "ip route replace default via 6.6.6.7 dev wan2 src 6.6.6.6 proto 77 table 1002": "replace default via 6.6.6.1",
    "ip route change default table 1003 metric 1 proto 77 nexthop via 5.5.5.1 dev wan1 weight 1 "
    "nexthop via 6.6.6.1 dev wan2 weight 1": "weight 3",
    "ip route del default table 1003 metric 1": "ip route add default ... nexthop",
    "ip route del default table 1003 metric 10001": "metric 10001",
    "ip route del unreachable default table 1003": "ip route add unreachable default",
    "ip route add default via 6.6.6.1 dev wan2 table 1001 metric 7 proto 77": "ip route delete default via 6.6.6.1",
    "ip route del blackhole 10.99.0.0/16": "ip route add blackhole 10.99.0.0/16",
    "ip route flush table all proto 77": "ip route add default ... nexthop",
}
SYSCTLS = {
    "echo 0 > /proc/sys/net/ipv4/ip_forward": "net/ipv4/ip_forward = 1",
    "echo 0 > /proc/sys/net/ipv4/fib_multipath_hash_policy": "fib_multipath_hash_policy = 1",
    "echo 0 > /proc/sys/net/ipv4/fib_multipath_use_neigh": "fib_multipath_use_neigh = 1",
    "echo 0 > /proc/sys/net/ipv4/conf/wan1/ignore_routes_with_linkdown": "wan1/ignore_routes_with_linkdown = 1",
    "echo 1 > /proc/sys/net/ipv4/conf/wan2/rp_filter": "wan2/rp_filter = 2",
    "echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter": "all/rp_filter = 0",
    "echo 0 > /proc/sys/net/ipv4/conf/all/src_valid_mark": "all/src_valid_mark = 1",
}
FILES = {
    "rm /etc/iproute2/rt_tables.d/mwan.conf": "rt_tables.d/mwan.conf",
    "rm /etc/iproute2/rt_protos.d/mwan.conf": "rt_protos.d/mwan.conf",
    "echo '# note' >> /etc/sysctl.d/90-mwan.conf": "sysctl.d/90-mwan.conf",
}
FIREWALL = {
    "nftables": [
        "nft delete table inet mwan",
        "nft flush table inet mwan",
        "nft flush chain inet mwan prerouting",
        "nft flush chain inet mwan output",
        "nft flush chain inet mwan postrouting",
        "nft flush chain inet mwan <save>",
        "nft flush chain inet mwan <pin_isp_a>",
        "nft flush chain inet mwan <snat_isp_a>",
        "nft add rule inet mwan <arrive> counter accept",
        "nft insert rule inet mwan source_nat return",
        "nft add chain inet mwan extra",
        "h=$(nft -a list chain inet mwan <restore_isp_b> | sed -n 's/.*# handle //p' | tail -1); "
        "nft replace rule inet mwan <restore_isp_b> handle $h meta mark set 0x500",
        "nft add set inet mwan mine '{ type ipv4_addr; }'",
        "rm /run/mwan/firewall.json",
    ],
    "iptables": [
        "iptables-legacy -t mangle -D PREROUTING -j MWAN_PREROUTING",
        "iptables-legacy -t mangle -D OUTPUT -j MWAN_OUTPUT",
        "iptables-legacy -t mangle -D POSTROUTING -j MWAN_POSTROUTING",
        "iptables-legacy -t nat -D POSTROUTING -j MWAN_SNAT",
        "iptables-legacy -t mangle -I PREROUTING -s 10.1.1.1 -j ACCEPT",
        "iptables-legacy -t nat -I POSTROUTING -s 10.1.1.1 -j ACCEPT",
        "iptables-legacy -t mangle -A PREROUTING -j MWAN_PREROUTING",
        "iptables-legacy -t mangle -F MWAN_SAVE",
        "iptables-legacy -t mangle -F MWAN_ARRIVE",
        "iptables-legacy -t mangle -D MWAN_SAVE 1",
        "iptables-legacy -t nat -F MWAN_SNAT",
        "iptables-legacy -t mangle -A MWAN_OUTPUT -j RETURN",
        "iptables-legacy -t mangle -R MWAN_OUTPUT 1 -j MARK --set-mark 5",
        "for t in mangle nat; do iptables-legacy -t $t -F; iptables-legacy -t $t -X; done",
        "iptables-legacy -t mangle -N MWAN_OLD",
        "rm /run/mwan/firewall.json",
    ],
}


def drift_is_found_and_repaired(net: Topology, engine: Engine, command: str, words: str) -> None:
    good = snapshot(net.router)
    net.router.run(with_chains(net.router, command))
    drifted = snapshot(net.router)
    checked = engine.links(check=True)
    assert checked.has(*words.split(" ... ")), f"{command}: not found in {checked.actions}"
    assert snapshot(net.router) == drifted, f"{command}: check mode changed something"
    assert engine.links().actions == checked.actions, command
    assert without_own_foreign_rules(snapshot(net.router)) == without_own_foreign_rules(good), (
        f"{command}: not repaired"
    )
    assert engine.links().actions == [], command


def without_own_foreign_rules(state: dict[str, str]) -> dict[str, str]:
    """The rules that displaced our jumps are somebody else's, and stay."""
    text = "\n".join(line for line in state["iptables"].splitlines() if "10.1.1.1" not in line)
    return {**state, "iptables": text}


def test_routing_sysctls_and_files(two_links: Topology) -> None:
    with Engine(two_links) as engine, AccessLogServer(two_links.server):
        engine.settle(**VARIABLES)
        for command, words in {**ROUTING, **SYSCTLS, **FILES}.items():
            drift_is_found_and_repaired(two_links, engine, command, words)
        assert engine.apply().actions == []
        fetched = fetch_many(two_links.client, 50)
        assert (set(fetched.sources), fetched.failures) == ({"5.5.5.5", "6.6.6.6"}, [])


def test_firewall(two_links: Topology, backend: str) -> None:
    with Engine(two_links, backend) as engine, AccessLogServer(two_links.server):
        engine.settle(**VARIABLES)
        for command in FIREWALL[backend]:
            drift_is_found_and_repaired(two_links, engine, command, f"{backend} rules")
        assert engine.apply().actions == []
        fetched = fetch_many(two_links.client, 50)
        assert (set(fetched.sources), fetched.failures) == ({"5.5.5.5", "6.6.6.6"}, [])
        assert two_links.spoofed() == 0


def test_firewall_of_a_shared_device(shared_segment: Topology, backend: str) -> None:
    """The gateway's new link-layer address is followed, once the kernel has seen it."""
    net = shared_segment
    with Engine(net, backend) as engine, AccessLogServer(net.router):
        engine.settle()
        provider = net.uplinks["router2"].provider
        provider.ip("link set cust down")
        provider.ip("link set cust address 02:00:00:00:aa:02")
        provider.ip("link set cust up")
        provider.ip("route replace default via 100.64.2.2 dev inet")
        net.router.ip("neigh flush dev wan0")
        net.router.run(["ping", "-c1", "-W2", "192.168.100.2"])
        assert engine.links().has(f"{backend} rules")
        assert engine.apply().actions == []
        assert fetch_many(net.server, 40, list(net.sources.values()), sources=["7.7.7.71"]).failures == []


@pytest.mark.parametrize("content", ["{", '{"schema": 99}'])
def test_document_that_cannot_be_read_is_refused(two_links: Topology, content: str) -> None:
    with Engine(two_links) as engine:
        engine.settle()
        before = snapshot(two_links.router)
        two_links.router.run(["tee", "/etc/mwan/mwan.json"], input=content)
        with pytest.raises(Exception, match=r"/etc/mwan/mwan\.json"):
            engine.links()
        before["files"] = snapshot(two_links.router)["files"]
        assert snapshot(two_links.router) == before
