# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The nftables backend on the real kernel: from any table to the wanted one, and what must not get lost on the way."""

from __future__ import annotations

import json

import pytest
from lab import topology
from lab.balance import counted, counting, policy
from lab.choices import fill, taken
from lab.engine import Engine, RefusedError
from lab.host import Host
from lab.own import Own
from lab.state import unnumbered, with_chains
from lab.topology import SERVER
from lab.traffic import EchoServer

A, B, C = "5.5.5.5", "6.6.6.6", "4.4.4.4"
LIST = "nft --stateless --terse list table inet mwan"
STICKY = [policy(("isp_a", 1), ("isp_b", 1), ("isp_c", 1), algorithm="round_robin", sticky=600)]

MEDDLING = [
    "nft flush chain inet mwan <choose>",
    "nft flush table inet mwan",
    "nft insert rule inet mwan <choose> counter accept",
    "nft add chain inet mwan stray",
    "nft 'add chain inet mwan stray { type filter hook forward priority 0; policy drop; }'",
    "nft 'flush chain inet mwan output; delete chain inet mwan output; "
    "add chain inet mwan output { type route hook output priority 5; }'",
    "nft 'add chain inet mwan prerouting { policy drop; }'",
    "nft 'flush chain inet mwan prerouting; delete chain inet mwan prerouting; add chain inet mwan prerouting; "
    "add rule inet mwan <choose> jump prerouting'",
    "nft 'add set inet mwan stray { type ipv4_addr; }'",
    "nft 'add map inet mwan stray { type ipv4_addr : verdict; elements = { 1.1.1.1 : goto <choose> }; }'",
    "nft 'add counter inet mwan rule_stray; add rule inet mwan <choose> counter name rule_stray'",
    "nft 'add quota inet mwan stray { over 100 mbytes }'",
    "nft 'flush table inet mwan; delete counter inet mwan rule_one; add quota inet mwan rule_one { over 1 mbytes }'",
]


def listed(router: Host) -> str:
    """Our table; what is made anew comes last among its kind."""
    return unnumbered(router.run(LIST).stdout)


def choices_in_utc(router: Host) -> str:
    return unnumbered(router.run(with_chains(router, "TZ=UTC nft list chain inet mwan <choose>")).stdout)


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
                net.router.run(with_chains(net.router, command))
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
                hours = choices_in_utc(net.router)
                assert engine.apply().has("replace", "nftables"), "local time is another, and so are the hours"
                assert choices_in_utc(net.router) != hours
                assert engine.apply().actions == []


def test_a_kernel_without_queues_is_told_what_would_do() -> None:
    with topology.two_links() as net, Engine(net, "nftables") as engine:
        engine.settle()
        queued = [policy("isp_a", "isp_b", algorithm="least_connections")]
        has_queues = net.router.run(
            "nft -c -f -", check=False, input="table inet t {\n chain c {\n queue num 1 bypass\n }\n}\n"
        )
        before = listed(net.router)
        if has_queues.returncode == 0:
            engine.settle(mwan_classify="marks", mwan_policies=queued)
            assert "bypass" in net.router.run(LIST).stdout
        else:
            with pytest.raises(RefusedError, match="method: weights"):
                engine.apply(mwan_classify="marks", mwan_policies=queued)
            assert listed(net.router) == before


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


def test_no_rule_is_missed_while_rules_are_replaced() -> None:
    """A lookup that finds nothing in the instant of a load would lead to the default policy's link."""
    others = [
        {"name": f"r{number}", "source": "192.168.101.0/24", "destination": f"10.{number}.0.0/16", **to_port(number)}
        for number in range(1, 4)
    ]
    with topology.many_links(3) as net, Engine(net, "nftables") as engine:
        only = [policy(f"link{number}", name=f"only{number}") for number in (1, 2, 3)]
        lan = {"name": "lan", "source": "192.168.101.0/24", "destination": "7.0.0.0/8", **to_port(9)}
        engine.settle(mwan_classify="marks", mwan_policies=only, mwan_default_policy="only3")
        engine.apply(mwan_rules=[*others, {**lan, "policy": "only1"}])
        sources = [net.sources[f"link{number}"] for number in (1, 2, 3)]
        for number, source in enumerate(sources):
            counting(net.server, f"from{number}", "prerouting", f"ip saddr {source}")
        senders = [net.client.helper("strangers.py", SERVER, "7") for _sender in range(2)]
        loads = 0
        while any(sender.poll() is None for sender in senders):
            loads += 1
            engine.apply(mwan_rules=[*others, {**lan, "policy": f"only{loads % 2 + 1}"}])
        sent = sum(int(sender.communicate(timeout=10)[0]) for sender in senders)
        seen = [counted(net.server, f"from{number}") for number in range(3)]
        assert loads > 5
        assert (sum(seen), seen[2]) == (sent, 0)
        assert min(seen[:2]) > 0


def to_port(number: int) -> dict[str, object]:
    return {"protocol": "udp", "destination_port": number, "policy": "only1"}
