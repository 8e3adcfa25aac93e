# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A router becomes a plain host again: nothing of ours is left, and nothing of others is missing."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from lab.ansible import run_module, run_playbook
from lab.engine import Engine
from lab.host import Host
from lab.impair import wait_noticed
from lab.prober import INSTALLED, Prober
from lab.state import snapshot
from lab.topology import Topology
from lab.traffic import AccessLogServer, fetch_many

UNINSTALL = "playbooks/uninstall.yml"
# not the lock of iptables, which any of its programs makes
TREES = """
    find /etc /usr/local/lib /usr/local/sbin /usr/local/share /run ! -name xtables.lock -printf '%p %y %m %u %g\\n'
    ls -d /var/lib/*
"""
# a rule of a set, so that iptables has an ipset; a forward; devices that appear later get the mode as well
MORE = {
    "mwan_rules": [{"name": "office", "destination": "@office", "link": "isp_b"}],
    "mwan_sets": [{"name": "office", "networks": ["198.51.100.0/24", "203.0.113.0/24"]}],
    "mwan_dnat": [{"name": "web", "protocol": "tcp", "port": 8080, "to": "192.168.101.1", "to_port": 80}],
    "mwan_rp_filter": {"mode": "loose"},
    "mwan_blackhole": ["10.99.0.0/16"],
    "mwan_python": sys.executable,
}
FOREIGN = """
    ip rule add from 10.0.0.0/8 lookup 99 priority 5000; ip route add 10.1.0.0/16 dev lan0 proto static table 99
    nft add table ip other; nft add chain ip other one
    iptables-legacy -t mangle -A PREROUTING -s 10.9.9.9 -j ACCEPT
    for table in nat filter; do iptables-legacy -t $table -S; done  # no table can be unloaded
    mkdir -p /usr/local/share/man/man8 /usr/local/share/bash-completion/completions  # shared, so they stay, even empty
    cd /etc/iproute2 && rm -rf rt_tables.d rt_protos.d && mkdir rt_tables.d rt_protos.d
    ip route add default via 5.5.5.1
"""


def everything(host: Host) -> dict[str, str]:
    """What `snapshot` looks at, and every file and directory with owner and mode; sets and marks of connections."""
    files = host.run(TREES).stdout
    sets = host.run("ipset -n list 2>/dev/null; true").stdout
    marked = host.run("conntrack -L 2>/dev/null | grep -o 'mark=[1-9].* ' | sort").stdout
    return {**snapshot(host), "tree": files, "sets": sets, "marked": marked}


def differences(before: dict[str, str], after: dict[str, str]) -> dict[str, list[str]]:
    """The lines that one of them lacks."""
    lines = {name: set(text.splitlines()) ^ set(after[name].splitlines()) for name, text in before.items()}
    return {name: sorted(found) for name, found in lines.items() if found}


def uninstall(net: Topology, **options: Any) -> Any:
    """With no variable of the role but those of its inventory."""
    return run_playbook(net, UNINSTALL, **options)


def test_host_is_as_it_was_before(two_links: Topology) -> None:
    net, router = two_links, two_links.router
    router.run(FOREIGN)
    before = everything(router)
    run_playbook(net, extra_vars=MORE)
    with Prober(router, program=(sys.executable, *INSTALLED)) as prober, AccessLogServer(net.server):
        assert fetch_many(net.client, 20).failures == []
        router.ip("link add late0 type veth peer name late1")
        prober.wait_settled()
        during = snapshot(router)
        assert uninstall(net, check=True).changed > 0
        assert snapshot(router) == during
        told = uninstall(net)
        assert prober.wait_end() == 0
    assert router.sysctl("net.ipv4.conf.late0.rp_filter") == "0", "what the host would have given it"
    router.ip("link del late0")
    assert differences(before, everything(router)) == {}
    assert any("end mwand" in action for action in told.results_of("mwan_library")[0]["actions"])
    assert uninstall(net).changed == 0
    assert differences(before, everything(router)) == {}


@pytest.mark.parametrize("by_hand", [False, True], ids=["planned", "without_pyroute2"])
def test_either_firewall_goes_with_and_without_the_libraries(
    two_links: Topology, backend: str, by_hand: bool, bare_python: str
) -> None:
    net, router = two_links, two_links.router
    router.run(FOREIGN)
    before = everything(router)

    def absent(check: bool = False) -> dict[str, Any]:
        python = bare_python if by_hand else sys.executable
        return run_module(net, "mwan_library", {"state": "absent"}, python=python, check=check)

    assert not absent()["changed"], "nothing is installed yet"
    with Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle(**MORE)
        router.run("mkdir -p /etc/mwan/hooks.d && touch /etc/mwan/hooks.d/50-mine")
        assert fetch_many(net.client, 10).failures == []
    during = everything(router)
    assert absent(check=True)["actions"]
    assert differences(during, everything(router)) == {}
    removed = absent()
    assert "/etc/mwan/hooks.d/50-mine stays" in str(removed["warnings"])
    router.run("rm -r /etc/mwan")
    assert differences(before, everything(router)) == {}
    assert not absent()["changed"]


def test_router_keeps_a_way_out_and_the_session_that_asks_for_it(two_links: Topology) -> None:
    net, router = two_links, two_links.router

    def absent(server: str = "192.168.101.254", peer: str = "7.7.7.7", **options: Any) -> dict[str, Any]:
        session = ("env", f"SSH_CONNECTION={peer} 50000 {server} 22")
        return run_module(net, "mwan_library", {"state": "absent", **options}, check=True, before=session)

    assert not absent()["changed"], "a host that has nothing of ours loses nothing"
    with Engine(net) as engine:
        engine.settle()
    assert "no default route" in absent()["msg"]
    assert absent(force=True)["actions"]
    during = snapshot(router)
    refused = run_playbook(net, UNINSTALL, expect_success=False).results_of("mwan_library")[0]
    assert "mwan_force: true" in refused["msg"]
    assert snapshot(router) == during

    router.ip("route add default via 5.5.5.1")
    assert absent("5.5.5.5")["actions"]
    assert "7.7.7.7 is reached over wan2" in absent("6.6.6.6")["msg"]
    assert absent("6.6.6.6", force=True)["actions"]
    assert absent("6.6.6.6", peer="6.6.6.1")["actions"], "a neighbour is one for the main table as well"
    assert absent("6.6.6.7")["actions"], "the address of another host, which the controller came to"
    router.ip("route add 7.7.7.7 via 6.6.6.1")
    assert absent("6.6.6.6")["actions"]
    uplink = net.uplinks["isp_a"]
    uplink.provider.ip(f"link set {uplink.customer_device} down")
    wait_noticed(net, "isp_a")
    assert "no default route that works" in absent()["msg"]
    assert uninstall(net, extra_vars={"mwan_force": True}).changed > 0
