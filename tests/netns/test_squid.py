# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The real Squid before, on and behind the router; a real nginx tells whose address each of its requests came from."""

from __future__ import annotations

import re
from typing import Any

import pytest
from lab import impair, topology
from lab.ansible import PlaybookResult, run_playbook
from lab.balance import about, policy
from lab.engine import Engine
from lab.prober import Prober
from lab.squid import SQUID_USER, Nginx, Squid, browse, installed
from lab.topology import LAN, LAN_ROUTER, SERVER, Topology
from lab.traffic import AccessLogServer, fetch_many
from lab.watched import BRISK

pytestmark = pytest.mark.skipif(not installed(), reason="needs squid and nginx (tools/setup.sh servers)")

A, B = "5.5.5.5", "6.6.6.6"
OWN = "10.255.0.1"  # an address of Squid's own, on the router
KEPT = "ss -tnH state established dport = :80"  # connections of the router to web servers
# as in docs/squid.md
HOOK = f"""#!/bin/sh
[ "$MWAN_LINK $MWAN_AFTER" != "isp_a down" ] || exec ss -K state established src {A} '( dport = :80 or dport = :443 )'
"""
INTERCEPT = """table ip intercept {
  chain arriving {
    type nat hook prerouting priority dstnat;
    iifname lan0 tcp dport 80 redirect to :3129
  }
}"""
LOGGED = re.compile(r'(5\.5\.5\.5|6\.6\.6\.6) - - \[\d\d/\w{3}/\d{4}:[\d:]{8} \+0000\] "GET / HTTP/1\.1" 200 8 "-" ')


def seen(net: Topology, number: int = 20, proxy: str = LAN_ROUTER, path: str = "") -> dict[str, int]:
    """Source addresses that requests of one client came from."""
    browsed = browse(net.client, proxy, number, url=f"http://{SERVER}/{path}")
    assert browsed.failures == []
    return dict(browsed.sources)


def test_requests_of_one_client_leave_by_the_policy(backend: str) -> None:
    """Nothing is configured but the proxy: what the router opens itself follows the default policy."""
    with (
        topology.two_links(weights=(3, 1)) as net,
        Engine(net, backend) as engine,
        Squid(net.router),
    ):
        engine.settle()
        web = Nginx(net.server)
        assert about(seen(net, 200), {A: 3, B: 1})
        lines = web.log_lines()
        assert [line for line in lines if not LOGGED.match(line)] == []
        assert (len(lines), about(web.sources(), {A: 3, B: 1})) == (200, True)
        assert net.spoofed() == 0


def test_squid_can_choose_by_itself(backend: str) -> None:
    """By a link's address, by a link's mark, and by an address of its own that a rule names."""
    with topology.two_links(clients=2) as net, Engine(net, backend) as engine, Squid(net.router) as squid:
        net.router.ip(f"addr add {OWN}/32 dev lo")
        engine.settle(
            mwan_policies=[*net.variables["mwan_policies"], policy("isp_b", name="only_b")],
            mwan_rules=[{"name": "squid", "source": OWN, "device": "lo", "policy": "only_b"}],
            mwan_snat=[*net.variables["mwan_snat"], *({"link": link, "source": OWN} for link in net.uplinks)],
        )
        Nginx(net.server)
        squid.configure(f"acl some random 1/4\ntcp_outgoing_address {B} some\ntcp_outgoing_address {A}\n")
        assert about(seen(net, 200), {A: 3, B: 1})
        squid.configure("acl second src 192.168.101.2\ntcp_outgoing_mark 0x200 second\ntcp_outgoing_mark 0x100\n")
        of_each = browse(net.client, LAN_ROUTER, 40, sources=net.client_addresses)
        assert (dict(of_each.sources), of_each.failures) == ({A: 20, B: 20}, [])
        squid.configure(f"tcp_outgoing_address {OWN}\n")
        assert seen(net) == {B: 20}
        assert net.spoofed() == 0


def test_new_connections_leave_a_dead_link(two_links: Topology) -> None:
    """And what Squid kept for later requests on the link goes, with a hook, before one of them meets it."""
    net = two_links
    net.router.run("install -D -m 0755 /dev/stdin /etc/mwan/hooks.d/50-squid", input=HOOK)
    with Engine(net) as engine, Squid(net.router, "server_persistent_connections on\n") as squid:
        marked = {"name": "marked", "device": "lo", "mark": "0x10000/0xffffc0ff", "policy": "balanced"}
        engine.settle(mwan_probe={**BRISK, "profile": "fast"}, mwan_rules=[marked])
        Nginx(net.server)
        with Prober(net.router) as prober:
            for link in net.uplinks:
                prober.wait_for(link, "up")
            prober.wait_settled()
            assert set(seen(net, 60)) == {A, B}
            with impair.black_hole(net, "isp_a"):
                prober.wait_for("isp_a", "down")
                prober.wait_settled()
                net.router.run(f'until [ -z "$({KEPT} src {A})" ]; do sleep 0.05; done', timeout=10)
                assert net.router.run(f"{KEPT} src {B}").stdout
                assert seen(net, 60) == {B: 60}
                squid.configure("tcp_outgoing_mark 0x10000\n")
                assert seen(net, 60) == {B: 60}
        assert net.spoofed() == 0


def test_rules_tell_squid_from_others(backend: str) -> None:
    """By its user and by the marks it sets, as a proxy that clients name and as one that they know nothing of."""
    with topology.two_links() as net, Engine(net, backend) as engine, AccessLogServer(net.server, 81):
        rules = [
            {"name": "marked", "device": "lo", "mark": "0x10000/0xffffc0ff", "link": "isp_b"},
            {"name": "squid", "user": SQUID_USER, "link": "isp_a"},
            {"name": "lan", "source": LAN, "link": "isp_b"},
        ]
        engine.settle(mwan_rules=rules, mwan_classify="marks")
        Nginx(net.server)
        net.router.nft(INTERCEPT)
        with Squid(net.router, "http_port 3129 intercept\n") as squid:
            assert seen(net) == {A: 20}
            assert dict(fetch_many(net.client, 20).sources) == {A: 20}, "intercepted"
            assert dict(fetch_many(net.client, 20, port=81).sources) == {B: 20}, "forwarded"
            assert set(fetch_many(net.router, 60, port=81).sources) == {A, B}, "others on the router"
            squid.configure("http_port 3129 intercept\ntcp_outgoing_mark 0x10000\n")
            assert seen(net) == {B: 20}
        assert net.spoofed() == 0


def test_proxy_on_a_lan_host_is_balanced_by_the_router(backend: str) -> None:
    """Behind a router with two existing routers on one device. It tells connections apart by source and by DSCP."""
    with topology.existing_routers(clients=2) as net, Engine(net, backend) as engine, Squid(net.client) as squid:
        proxy, second = net.client_addresses
        rules = [
            {"name": "updates", "source": second, "link": "router2"},
            {"name": "bulk", "source": proxy, "dscp": "cs1", "link": "router1"},
        ]
        engine.settle(mwan_rules=rules, mwan_classify="marks")
        web = Nginx(net.server)
        assert about(seen(net, 200, proxy), {A: 1, B: 1})
        assert [line for line in web.log_lines() if not LOGGED.match(line)] == []
        squid.configure(f"tcp_outgoing_address {second}\n")
        assert seen(net, 20, proxy) == {B: 20}
        squid.configure("tcp_outgoing_tos 0x20\n")
        assert seen(net, 20, proxy) == {A: 20}
        assert net.spoofed() == 0


VIDEO = "acl video urlpath_regex ^/video\nacl updates urlpath_regex ^/updates\n"
DECLARED: dict[str, Any] = {
    "user": SQUID_USER,
    "link": "isp_a",
    "outgoing": [
        {"name": "video", "acl": "video", "mark": 0x10000, "policy": "only_b"},
        {"name": "updates", "acl": ["!video", "updates"], "address": OWN, "policy": "only_b"},
    ],
    "config": "/etc/squid/conf.d/multiwan.conf",
}
WRITTEN = f"tcp_outgoing_mark 65536 video\ntcp_outgoing_address {OWN} !video updates\n"


PLAY = """
- hosts: mwan_routers
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: multiwan.linux.router
        tasks_from: "{{ item.tasks }}"
        apply: {ignore_errors: "{{ item.tasks == 'squid_check.yml' }}"}
      vars:
        mwan_squid: "{{ item.squid }}"
      loop: "{{ runs }}"
"""


def part(net: Topology, tasks: str, *declared: dict[str, Any], check: bool = False) -> PlaybookResult:
    """Run a part of the role alone, once for each mwan_squid."""
    play = net.lab.directory / "play.yml"
    play.write_text(PLAY, encoding="utf-8")
    runs = [{"tasks": tasks, "squid": squid} for squid in declared]
    return run_playbook(net, play, {"runs": runs}, check=check, expect_success=False)


def test_role_writes_both_halves(two_links: Topology) -> None:
    net = two_links
    net.router.ip(f"addr add {OWN}/32 dev lo")
    net.variables["mwan_policies"].append(policy("isp_b", name="only_b"))
    net.variables["mwan_snat"] += [{"link": link, "source": OWN} for link in net.uplinks]

    def written() -> str:
        return net.router.run(["cat", DECLARED["config"]], check=False).stdout.partition("lost.\n")[2]

    with Squid(net.router, VIDEO) as squid, AccessLogServer(net.server, 81):
        Nginx(net.server)
        not_there_yet = {**DECLARED, "config": "/etc/squid-to-come/multiwan.conf"}
        planned = part(net, "squid.yml", DECLARED, not_there_yet, check=True)
        assert (planned.failed, planned.changed, written()) == (0, 1, "")
        run_playbook(net, extra_vars={"mwan_squid": DECLARED}, args=["--tags", "configure"])
        squid.settle(2)
        assert written() == WRITTEN
        for path, source in {"": A, "video": B, "updates": B}.items():
            assert seen(net, path=path) == {source: 20}
        assert set(fetch_many(net.router, 60, port=81).sources) == {A, B}, "others than Squid"
        broken = {**DECLARED, "outgoing": [{"name": "x", "acl": ["nosuch"], "address": A}]}
        again = part(net, "squid.yml", DECLARED, broken)
        assert [result["changed"] for result in again.results_of("template")] == [False, True]
        assert ("nosuch" in again.results_of("fail")[0]["msg"], written()) == (True, WRITTEN)
        part(net, "squid.yml", {})
        squid.settle(3)
        assert written() == ""
        assert net.spoofed() == 0


def test_what_does_not_fit_together_is_refused(two_links: Topology) -> None:
    entry = {"name": "x", "mark": "0x10000", "link": "isp_a"}
    wrong: list[dict[str, Any]] = [
        {"policy": "balanced"},
        {"outgoing": [{**entry, "address": A}]},
        {"outgoing": [{"name": "x", "link": "isp_a"}]},
        {"outgoing": [{**entry, "mark": "0x0"}]},
        {"config": "squid.conf"},
    ]
    answered = part(two_links, "squid_check.yml", *wrong).results_of("assert")
    assert [result["msg"].split(":")[0] for result in answered] == ["mwan_squid"] * len(wrong)
