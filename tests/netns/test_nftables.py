# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The nftables backend on the real kernel: from any table to the wanted one, and what must not get lost on the way."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from lab import topology
from lab.balance import policy
from lab.choices import fill, taken
from lab.engine import Engine, RefusedError
from lab.host import Host
from lab.own import Own
from lab.topology import Topology
from lab.traffic import AccessLogServer, EchoServer, LongLivedTcp, fetch_many

A, B, C = "5.5.5.5", "6.6.6.6", "4.4.4.4"
LIST = "nft --stateless --terse list table inet mwan"
STICKY = [policy(("isp_a", 1), ("isp_b", 1), ("isp_c", 1), algorithm="round_robin", sticky=600)]

MEDDLING = [
    "nft flush chain inet mwan choose",
    "nft flush table inet mwan",
    "nft insert rule inet mwan choose counter accept",
    "nft add chain inet mwan stray",
    "nft 'add chain inet mwan stray { type filter hook forward priority 0; policy drop; }'",
    "nft 'flush chain inet mwan output; delete chain inet mwan output; "
    "add chain inet mwan output { type route hook output priority 5; }'",
    "nft 'add chain inet mwan prerouting { policy drop; }'",
    "nft 'add set inet mwan stray { type ipv4_addr; }'",
    "nft 'add map inet mwan stray { type ipv4_addr : verdict; elements = { 1.1.1.1 : goto choose }; }'",
    "nft 'add counter inet mwan rule_stray; add rule inet mwan choose counter name rule_stray'",
    "nft 'add quota inet mwan stray { over 100 mbytes }'",
    "nft 'flush table inet mwan; delete counter inet mwan rule_one; add quota inet mwan rule_one { over 1 mbytes }'",
]


def listed(router: Host) -> list[str]:
    """The lines of our table; what is made anew comes last among its kind."""
    return sorted(router.run(LIST).stdout.splitlines())


def sticky_clients(router: Host) -> set[str]:
    """Set and address of each."""
    listed = json.loads(router.run("nft -j list table inet mwan").stdout)["nftables"]
    sets = [item["set"] for item in listed if "set" in item and item["set"]["name"].startswith("sticky-")]
    return {f"{item['name']} {entry['elem']['val']}" for item in sets for entry in item.get("elem", [])}


def test_whatever_is_done_to_the_table_is_undone() -> None:
    """And clients, counters and what others filled in are still there afterwards."""
    rules = [
        {"name": "one", "destination": "7.7.7.8", "link": "isp_b"},
        {"name": "filled", "destination": "@others", "link": "isp_a"},
    ]
    variables = {"mwan_rules": rules, "mwan_sets": [{"name": "others", "external": True}], "mwan_policies": STICKY}
    with topology.three_links(6) as net, Engine(net, "nftables") as engine, EchoServer(net.server):
        engine.settle(mwan_classify="marks", **variables)
        fill(net, "nftables", "others", "7.7.7.9")
        with Own(net.client) as own:
            before = [own.seen(1, source=address) for address in net.client_addresses]
            assert own.seen(destination="7.7.7.8") == {B: 4}
            wanted, clients = listed(net.router), sticky_clients(net.router)
            assert len(clients) == len(before)
            for command in MEDDLING:
                net.router.run(command)
                assert engine.apply(check=True).has("nftables"), command
                assert engine.apply().has("nftables"), command
                assert listed(net.router) == wanted, command
            assert [own.seen(1, source=address) for address in net.client_addresses] == before
            assert own.seen(destination="7.7.7.9") == {A: 4}
            assert own.seen(destination="7.7.7.8") == {B: 4}
            assert sticky_clients(net.router) == clients
            # the last of them had to make the counter anew
            assert taken(net) == {"one": 4, "filled": 4}
            # a table that sleeps has to go as a whole
            net.router.run("nft 'add table inet mwan { flags dormant; }'")
            engine.settle()
            assert listed(net.router) == wanted
            own.seen(4)
            assert sticky_clients(net.router)
            # a set of another form cannot stay
            others = [
                policy("isp_a", "isp_b", "isp_c", algorithm="random", sticky={"timeout": 9, "by": "source_destination"})
            ]
            engine.settle(mwan_policies=others)
            assert sticky_clients(net.router) == set()
            engine.settle(mwan_policies=[policy("isp_c")], mwan_sets=[], mwan_rules=[])
            left = net.router.run(LIST).stdout
            assert [word for word in ("sticky", "others", "counter") if word in left] == []


def test_another_time_zone_is_no_drift() -> None:
    """The kernel's hours are UTC; nft lists them in the zone it is started in."""
    rules = [{"name": "office", "time": {"days": ["mon"], "hours": "08:00-18:00"}, "link": "isp_a"}]
    with topology.two_links() as net:
        with Engine(net, "nftables") as engine:
            engine.settle(mwan_classify="marks", mwan_rules=rules)
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("TZ", "America/New_York")
            with Engine(net, "nftables") as engine:
                engine.variables.update(mwan_classify="marks", mwan_rules=rules)
                hours = net.router.run("TZ=UTC nft list chain inet mwan choose").stdout
                assert engine.apply().has("replace", "nftables"), "local time is another, and so are the hours"
                assert net.router.run("TZ=UTC nft list chain inet mwan choose").stdout != hours
                assert engine.apply().actions == []


def test_a_kernel_without_queues_is_told_what_would_do() -> None:
    with topology.two_links() as net, Engine(net, "nftables") as engine:
        engine.settle()
        queued = [policy("isp_a", "isp_b", algorithm="least_connections")]
        has_queues = net.router.run(
            "nft -c -f -", check=False, input="table inet t {\n chain c {\n queue num 1 bypass\n }\n}\n"
        )
        before = net.router.run(LIST).stdout
        if has_queues.returncode == 0:
            engine.settle(mwan_classify="marks", mwan_policies=queued)
            assert "bypass" in net.router.run(LIST).stdout
        else:
            with pytest.raises(RefusedError, match="method: weights"):
                engine.apply(mwan_classify="marks", mwan_policies=queued)
            assert net.router.run(LIST).stdout == before


def test_sets_may_be_named_like_words_of_nft() -> None:
    """And take an address that a network in them has already."""
    names = ("log", "ip", "list", "counter")
    rules = [{"name": f"r_{name}", "destination": f"@{name}", "link": "isp_a"} for name in names]
    sets = [{"name": name, "external": True} for name in names]
    with topology.three_links() as net, Engine(net, "nftables") as engine:
        engine.settle(mwan_classify="marks", mwan_rules=rules, mwan_sets=sets)
        for name in names:
            for network in ("192.0.2.0/24", "192.0.2.80"):
                net.router.run(f"nft 'add element inet mwan set_{name} {{ {network} }}'")
            found = net.router.run(f"nft list set inet mwan set_{name}").stdout
            assert "elements = { 192.0.2.0/24 }" in found
        assert engine.apply().actions == []


def without_maps(router: Host, name: str) -> int:
    """Delete the look-ups of a chain, as if all packets came while they are replaced; returns how many there were."""
    lines = router.run(f"nft -a list chain inet mwan {name}").stdout.splitlines()
    handles = [line.rsplit(" ", 1)[1] for line in lines if "vmap {" in line and "# handle" in line]
    for handle in handles:
        router.run(f"nft delete rule inet mwan {name} handle {handle}")
    return len(handles)


@pytest.mark.parametrize("build", [topology.two_links, topology.shared_segment], ids=lambda build: build.__name__)
@pytest.mark.parametrize("missed", [("prerouting", "output", "source_nat"), ("save", "source_nat")], ids="+".join)
def test_who_meets_no_map_because_it_is_replaced_is_translated_all_the_same(
    build: Callable[[], Topology], missed: tuple[str, ...]
) -> None:
    with build() as net, Engine(net, "nftables") as engine, AccessLogServer(net.server), EchoServer(net.server):
        engine.settle()
        assert all(without_maps(net.router, name) for name in missed)
        with LongLivedTcp(net.client, number=8) as flows, LongLivedTcp(net.router, number=8) as own:
            seen = fetch_many(net.client, 60)
            ended = [*flows.stop(), *own.stop()]
        assert (seen.failures, seen.sources.keys()) == ([], set(net.sources.values()))
        assert [(flow.missing, flow.error, len(flow.sources)) for flow in ended] == [([], None, 1)] * 16
        assert net.spoofed() == 0
