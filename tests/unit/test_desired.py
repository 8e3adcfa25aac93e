# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""From declared objects, facts and health to the kernel state, as `ip` prints it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from _mwan import changes, layout, report, store
from _mwan.desired import Desired, compile_state, table_names
from _mwan.document import Document
from _mwan.firewall.model import Firewall, FirewallLink
from _mwan.health import Health
from _mwan.kernel import Facts
from _mwan.resolve import resolve
from unit.model_kernel import Faults, Files, FirewallModel
from unit.worlds import LAN, TWO_LINKS, facts


def compiled(data: Any, machine: Facts | None = None, realms: bool = False, **health: str) -> Desired:
    return compile_state(Document.parse(data), machine or facts(), Health(health), realms)


def routes(data: Any, table: str, **kwargs: Any) -> list[str]:
    names = table_names(Document.parse(data))
    lines = report.routes_text(compiled(data, **kwargs).state, names).splitlines()
    tail = f" table {table} proto mwan"
    return [line.replace(tail, "") for line in lines if tail in line]


def rules(data: Any, **kwargs: Any) -> list[str]:
    return report.rules_text(compiled(data, **kwargs).state, table_names(Document.parse(data))).splitlines()


def link(**fields: Any) -> dict[str, Any]:
    return {"links": [{"name": "isp_a", "device": "wan1", **fields}]}


@pytest.mark.parametrize(
    ("fields", "gateway", "address", "onlink", "pending"),
    [
        ({"gateway": "5.5.5.1"}, "5.5.5.1", "5.5.5.5", False, None),
        ({"gateway": "5.5.5.1", "address": "5.5.5.6"}, "5.5.5.1", "5.5.5.6", False, None),
        ({"gateway": "auto"}, "5.5.5.1", "5.5.5.5", False, None),
        ({"gateway": "203.0.113.1"}, "203.0.113.1", "5.5.5.5", True, None),
        ({"device": "ppp0"}, None, "10.64.0.2", False, None),
        ({"device": "ppp0", "gateway": "auto"}, None, "10.64.0.2", False, None),
        ({"device": "ppp0", "gateway": "10.64.0.1"}, "10.64.0.1", "10.64.0.2", False, None),
        ({"device": "wwan0"}, None, None, False, "device wwan0 does not exist"),
        ({"device": "seg0", "gateway": "auto"}, None, "192.168.100.100", False, "no gateway has been learned on seg0"),
        ({"gateway": "5.5.5.1", "address": "5.5.5.9"}, "5.5.5.1", None, False, "device wan1 has no address 5.5.5.9"),
    ],
)
def test_a_link_is_resolved(fields: Any, gateway: Any, address: Any, onlink: bool, pending: Any) -> None:
    found = resolve(Document.parse(link(**fields)), facts())["isp_a"]
    assert (found.gateway, found.address, found.onlink, found.pending) == (gateway, address, onlink, pending)


def test_a_device_that_is_down_makes_its_link_wait_with_a_warning() -> None:
    desired = compiled(link(gateway="5.5.5.1"), facts(wan1={"up": False}))
    assert desired.links["isp_a"].pending == "device wan1 is down"
    assert desired.warnings[0].startswith("link isp_a is declared but not in service: device wan1 is down")


def test_each_link_has_a_table_that_refuses_when_its_way_is_gone() -> None:
    assert routes(TWO_LINKS, "mwan_isp_a") == [
        "default via 5.5.5.1 dev wan1 src 5.5.5.5",
        "prohibit default metric 1000000",
    ]
    waiting = facts(wan1={"up": False})
    assert routes(TWO_LINKS, "mwan_isp_a", machine=waiting) == ["prohibit default metric 1000000"]


def test_the_rules_of_two_links() -> None:
    assert rules(TWO_LINKS) == [
        "1000: from all lookup main suppress_prefixlength 0",
        "1001: from all fwmark 0x100/0x3f00 lookup mwan_isp_a",
        "1001: from all fwmark 0x200/0x3f00 lookup mwan_isp_b",
        "1002: from all fwmark 0x300/0x3f00 lookup mwan_balanced",
        "1100: from 5.5.5.5/32 lookup mwan_isp_a",
        "1100: from 5.5.5.6/32 lookup mwan_isp_a",
        "1100: from 6.6.6.6/32 lookup mwan_isp_b",
        "1100: from all oif wan1 lookup mwan_isp_a",
        "1100: from all oif wan2 lookup mwan_isp_b",
        "1999: from all lookup mwan_balanced",
    ]


def test_a_policy_spreads_by_weight_over_fallbacks_and_a_last_resort() -> None:
    spread, *others = routes(TWO_LINKS, "mwan_balanced")
    assert spread.startswith("default")
    assert "nexthop via 5.5.5.1 dev wan1 weight 3" in spread
    assert "nexthop via 6.6.6.1 dev wan2 weight 1" in spread
    assert others == [
        "default via 5.5.5.1 dev wan1 src 5.5.5.5 metric 10001",
        "default via 6.6.6.1 dev wan2 src 6.6.6.6 metric 10002",
        "unreachable default metric 2000000",
    ]


def tiers(**policy: Any) -> dict[str, Any]:
    members = [{"link": "isp_a"}, {"link": "isp_b", "tier": 2}]
    return {**TWO_LINKS, "policies": [{"name": "balanced", "members": members, **policy}]}


def test_a_tier_is_a_metric() -> None:
    assert routes(tiers(last_resort="main"), "mwan_balanced") == [
        "default via 5.5.5.1 dev wan1 src 5.5.5.5 metric 1",
        "default via 6.6.6.1 dev wan2 src 6.6.6.6 metric 2",
        "default via 5.5.5.1 dev wan1 src 5.5.5.5 metric 10001",
        "default via 6.6.6.1 dev wan2 src 6.6.6.6 metric 20002",
    ]


@pytest.mark.parametrize("state", ["down", "drained", "suspect"])
def test_a_resting_link_leaves_policies_and_keeps_its_table(state: str) -> None:
    assert routes(tiers(), "mwan_balanced", isp_a=state) == [
        "default via 6.6.6.1 dev wan2 src 6.6.6.6 metric 2",
        "default via 6.6.6.1 dev wan2 src 6.6.6.6 metric 20002",
        "unreachable default metric 2000000",
    ]
    assert routes(tiers(), "mwan_isp_a", isp_a=state) == routes(tiers(), "mwan_isp_a")
    assert rules(tiers(), isp_a=state) == rules(tiers())


@pytest.mark.parametrize("state", ["up", "degraded", "unknown"])
def test_a_link_that_serves_stays_in_its_policies(state: str) -> None:
    assert routes(tiers(), "mwan_balanced", isp_a=state) == routes(tiers(), "mwan_balanced")


def test_a_member_of_weight_zero_takes_nothing_new() -> None:
    data = tiers(members=[{"link": "isp_a", "weight": 0}, {"link": "isp_b"}])
    assert not any("wan1" in route for route in routes(data, "mwan_balanced"))


SHARED = {
    "links": [
        {"name": "one", "device": "seg0", "gateway": "192.168.100.1"},
        {"name": "two", "device": "seg0", "gateway": "192.168.100.2"},
        {"name": "other", "device": "wan1", "gateway": "5.5.5.1"},
    ]
}


def test_links_on_one_device_share_the_rule_of_their_address() -> None:
    assert [rule for rule in rules(SHARED) if rule.startswith("1100")] == [
        "1100: from 192.168.100.100/32 lookup mwan_one",
        "1100: from 5.5.5.5/32 lookup mwan_other",
        "1100: from 5.5.5.6/32 lookup mwan_other",
        "1100: from all oif wan1 lookup mwan_other",
    ]
    assert "1100: from 192.168.100.100/32 lookup mwan_two" in rules(SHARED, one="down")


def test_only_links_on_one_device_have_realms_and_only_when_asked() -> None:
    assert "realm 2" in routes(SHARED, "mwan_two", realms=True)[0]
    assert "realm" not in routes(SHARED, "mwan_other", realms=True)[0]
    assert "realm" not in routes(SHARED, "mwan_two")[0]
    first, second, other = compiled(SHARED, realms=True).firewall.links
    assert (first.mac, first.realm, second.realm, other.realm) == ("02:00:00:00:00:01", 1, 2, None)


def test_a_gateway_whose_link_layer_address_is_unknown_is_told() -> None:
    warnings = compiled(SHARED, replace(facts(), neighbours={})).warnings
    assert [warning.split(":")[0] for warning in warnings] == ["link one", "link two"]


def test_nothing_declared_needs_nothing() -> None:
    state = compiled({}).state
    assert (state.routes, state.rules, state.sysctls) == (frozenset(), frozenset(), {})
    assert set(state.files.values()) == {None}


def test_names_and_sysctls_are_written_where_the_host_reads_them() -> None:
    files = compiled(TWO_LINKS).state.files
    assert files[layout.RT_TABLES].splitlines()[1:] == ["1001 mwan_isp_a", "1002 mwan_isp_b", "1003 mwan_balanced"]
    assert files[layout.RT_PROTOS].splitlines()[1:] == ["77 mwan"]
    lines = files[layout.SYSCTL_D].splitlines()
    assert "net/ipv4/conf/lan0/rp_filter = 1" in lines
    assert lines[-1] == "net/ipv4/conf/*/rp_filter = 2"
    assert "net/ipv4/conf/wan1/rp_filter = 2" not in lines


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({"mode": "loose"}, {"all": "0", "default": "2", "lan0": "2", "wan1": "2"}),
        ({"mode": "loose", "devices": {"lan0": "strict"}}, {"all": "0", "default": "2", "lan0": "1", "wan1": "2"}),
        ({"all": "strict"}, {"all": "1"}),
        ({"mode": "strict", "default": "none"}, {"all": "0", "default": "0", "lan0": "1"}),
        ({"devices": {"tun9": "strict"}}, {"all": "0"}),
    ],
)
def test_the_filter_modes_declared_are_those_in_effect(declared: Any, expected: Any) -> None:
    sysctls = compiled({"rp_filter": declared}).state.sysctls
    found = {key.split("/")[3]: value for key, value in sysctls.items() if key.endswith("/rp_filter")}
    assert {name: found.get(name) for name in expected} == expected
    assert "tun9" not in found


def test_source_nat_is_to_a_fixed_the_links_or_the_kernels_choice_of_address() -> None:
    snat = [{"link": "isp_a", "source": LAN, "to": "5.5.5.9"}, {"link": "isp_a"}, {"link": "isp_b", "to": "masquerade"}]
    translations = compiled({**TWO_LINKS, "snat": snat}).firewall.snat
    assert [(item.mark, item.device, item.sources, item.to) for item in translations] == [
        (0x100, "wan1", (LAN,), "5.5.5.9"),
        (0x100, "wan1", (), "5.5.5.5"),
        (0x200, "wan2", (), None),
    ]


def test_source_nat_to_an_address_that_is_not_known_yet_waits() -> None:
    assert compiled({**link(device="wwan0"), "snat": [{"link": "isp_a"}]}).firewall.snat == ()


# changes


def present(document: Document, *names: str, purge: bool = False) -> Document:
    listed = [{"name": name, "device": name} for name in names]
    return changes.links(document, {"links": listed, "state": "present", "purge": purge})


def test_listed_objects_join_the_others_unless_these_are_purged() -> None:
    document = present(present(Document(), "a", "b"), "c")
    assert [item.name for item in document.links] == ["a", "b", "c"]
    assert [item.name for item in present(document, "b", purge=True).links] == ["b"]
    assert changes.unlisted(document, {"links": [{"name": "c", "device": "c"}], "state": "present"}) == [
        "links: a",
        "links: b",
    ]


def test_absent_takes_names_alone() -> None:
    document = changes.links(present(Document(), "a", "b"), {"links": [{"name": "a"}], "state": "absent"})
    assert [item.name for item in document.links] == ["b"]


def test_a_default_policy_goes_with_its_policy_and_by_an_empty_string() -> None:
    document = Document.parse({**TWO_LINKS})
    empty = {"policies": [], "rules": [], "default_policy": None, "state": "present", "purge": False}
    assert changes.policies(document, empty).default_policy == "balanced"
    assert changes.policies(document, {**empty, "default_policy": ""}).default_policy is None
    gone = changes.policies(document, {**empty, "policies": [{"name": "balanced"}], "state": "absent"})
    assert (gone.default_policy, gone.policies) == (None, ())


def test_an_id_freed_in_a_change_is_given_again_only_in_the_next() -> None:
    document = present(present(Document(), "a", "b").check(), "b", "c", purge=True).check()
    assert document.ids == {"link:b": 2, "link:c": 3}
    assert present(document, "d").check().ids["link:d"] == 1


# the live firewall


def test_the_live_firewall_is_the_loaded_text_until_somebody_changes_it() -> None:
    files, port = Files(Faults()), FirewallModel("nftables", Faults())
    assert store.live_firewall(files, port) == ""
    firewall = Firewall(0x3F00, (FirewallLink("isp_a", 0x100, "wan1"),))
    port.replace(firewall)
    store.record_firewall(files, port, firewall)
    assert store.live_firewall(files, port) == port.render(firewall)
    port.meddling = " a rule more,"
    assert store.live_firewall(files, port) == port.listing()


def test_a_record_of_another_backend_or_a_broken_one_is_not_believed() -> None:
    files, port = Files(Faults()), FirewallModel("nftables", Faults(), Firewall(0x3F00))
    for record in ("{", "[]", '{"backend": "iptables", "text": "x", "listing": "y"}'):
        files.texts[store.FIREWALL] = record
        assert store.live_firewall(files, port) == port.listing()
