# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Bad input is refused with the option's name, the value, and what would do."""

from __future__ import annotations

from typing import Any

import pytest
from _mwan import values
from _mwan.document import Document
from _mwan.errors import InputError
from _mwan.model import Settings
from _mwan.resolve import check_present
from unit.worlds import facts

A = {"name": "isp_a", "device": "wan1", "gateway": "5.5.5.1"}
B = {"name": "isp_b", "device": "wan2", "gateway": "6.6.6.1"}
BALANCED = {"name": "balanced", "members": [{"link": "isp_a"}]}
RULE = {"name": "voip", "link": "isp_a"}


def one(**changed: Any) -> dict[str, Any]:
    return {"links": [{**A, **changed}]}


def policy(**changed: Any) -> dict[str, Any]:
    return {"links": [A], "policies": [{**BALANCED, **changed}]}


def rule(**changed: Any) -> dict[str, Any]:
    return {"links": [A], "rules": [{**RULE, **changed}]}


def snat(**changed: Any) -> dict[str, Any]:
    return {"links": [A], "snat": [{"link": "isp_a", **changed}]}


REFUSED = [
    # data, option, what the message says
    (one(name="ISP A"), "links[0].name", "'ISP A' is not a name. Use a-z, 0-9 and _"),
    (one(name="a" * 33), "links[0].name", "32 characters at most"),
    (one(name=None), "links[0].name", "is missing. Every link has a name and a device"),
    (one(device=None), "links[0].device", "is missing"),
    (one(device="eth+"), "links[0].device", "'eth+' is not a network device name. Give the name that 'ip link' shows"),
    (one(device="eth*"), "links[0].device", "'eth*' is not a network device name"),
    (one(device="a" * 16), "links[0].device", "is not a network device name"),
    (one(device="../x"), "links[0].device", "is not a network device name"),
    (one(device="all"), "links[0].device", "'all' is not a network device name"),
    (one(device="default"), "links[0].device", "'default' is not a network device name"),
    (one(gateway="5.5.5.1/24"), "links[0].gateway", "is not an IPv4 address. Give one address without a prefix length"),
    (one(gateway="fe80::1"), "links[0].gateway", "is not an IPv4 address"),
    (one(gateway="224.0.0.1"), "links[0].gateway", "is not a host's address. Give a unicast address"),
    (one(gateway="0.0.0.0"), "links[0].gateway", "is not a host's address"),
    (one(address="255.255.255.255"), "links[0].address", "is not a host's address"),
    (one(weight=257), "links[0].weight", "257 is out of range. Give a whole number from 0 to 256"),
    (one(weight=-1), "links[0].weight", "-1 is out of range"),
    (one(weight=True), "links[0].weight", "True is out of range"),
    (one(weight=1.5), "links[0].weight", "1.5 is out of range"),
    (one(metric=5), "links[0].metric", "5 is not an option. Known are address, device, gateway, name, probe, rate"),
    ({"links": ["isp_a"]}, "links[0]", "'isp_a' is not a mapping. Give it as key: value pairs"),
    ({"links": [A, A]}, "links and policies", "'isp_a' is listed twice. Give each name once"),
    ({"links": [A, {**B, "device": "wan1", "gateway": None}]}, "links.isp_b.gateway",
     "does not tell it from isp_a on the same device wan1. Give each link on a shared device the address"),
    ({"links": [A, {**B, "device": "wan1", "gateway": "auto"}]}, "links.isp_b.gateway", "does not tell it from isp_a"),
    ({"links": [A, {**A, "name": "isp_b"}]}, "links.isp_b.gateway",
     "'5.5.5.1' is also the gateway of isp_a on wan1. Two links are two ways: give each its own device or gateway"),
    (policy(members=[]), "policies[0].members", "[] is empty. Name at least one link"),
    (policy(members=[{}]), "policies[0].members[0].link", "is missing. Name the link"),
    (policy(members=[{"link": "isp_a"}] * 2), "policies[0].members", "'isp_a' is listed twice"),
    (policy(members=[{"link": "isp_x"}]), "policies.balanced.members.link",
     "'isp_x' is not a declared link. Known are: isp_a; declare it first"),
    (policy(members=[{"link": "isp_a", "weight": 0}]), "policies.balanced.members",
     "['isp_a'] all have weight 0. Give at least one member a weight from 1 to 256"),
    (policy(members=[{"link": "isp_a", "tier": 10}]), "policies[0].members[0].tier", "Give a whole number from 1 to 9"),
    (policy(algorithm="fastest"), "policies[0].algorithm", "'fastest' is not known. Choose one of multipath, random"),
    (policy(last_resort="throw"), "policies[0].last_resort", "Choose one of unreachable, blackhole, main"),
    (policy(name="isp_a"), "links and policies", "'isp_a' is listed twice"),
    ({"links": [A], "policies": [BALANCED], "default_policy": "other"}, "default_policy",
     "'other' is not a declared policy. Known are: balanced"),
    ({"default_policy": "other"}, "default_policy", "No policy is declared yet; declare it first"),
    (rule(policy="balanced"), "rules[0]", "does not name one target. Give one of policy, link and target"),
    (rule(link=None), "rules[0]", "does not name one target"),
    (rule(link="isp_x"), "rules.voip.link", "'isp_x' is not a declared link"),
    (rule(link=None, policy="other"), "rules.voip.policy", "'other' is not a declared policy"),
    (rule(source="192.168.1.1/24"), "rules[0].source", "is not an IPv4 network. Did you mean 192.168.1.0/24?"),
    (rule(destination="example.org"), "rules[0].destination", "Give a network such as 192.168.0.0/24"),
    (rule(destination_port="443"), "rules[0].protocol", "is missing, and only some protocols have ports."),
    (rule(destination_port="443", protocol="icmp"), "rules[0].protocol", "'icmp' has no ports"),
    (rule(source_port="0", protocol="udp"), "rules[0].source_port", "Give a whole number from 1 to 65535"),
    (rule(source_port="20-10", protocol="udp"), "rules[0].source_port", "ends before it starts. Give it as 10-20"),
    (rule(protocol="ospf"), "rules[0].protocol", "'ospf' is not known. Choose one of icmp, tcp"),
    ({"links": [A], "rules": [RULE, RULE]}, "rules", "'voip' is listed twice"),
    ({"settings": {"classify": "routing"}, "links": [A],
      "rules": [{**RULE, "name": f"r{index}"} for index in range(800)]}, "rules",
     "800 are too many for policy routing. Give 798 at most"),
    ({"settings": {"classify": "routing"}, "links": [A], "rules": [
        {**RULE, "source": [f"10.{index}.1.0/24" for index in range(20)],
         "destination": [f"7.{index}.1.0/24" for index in range(20)]}]}, "rules.voip",
     "400 is the number of routing rules that its lists come to. Keep to 64"),
    (snat(link="isp_x"), "snat.link", "'isp_x' is not a declared link"),
    (snat(to="somewhere"), "snat[0].to", "'somewhere' is not an IPv4 address"),
    (snat(source=["10.0.0.1/8"]), "snat[0].source", "Did you mean 10.0.0.0/8?"),
    ({"links": [A], "snat": [{"link": "isp_a"}, {"link": "isp_a", "to": "masquerade"}]}, "snat",
     "'isp_a from all' is listed twice"),
    ({"rp_filter": {"mode": "2"}}, "rp_filter.mode", "'2' is not known. Choose one of none, strict, loose"),
    ({"rp_filter": {"all": "loose", "mode": "strict"}}, "rp_filter.mode",
     "cannot take effect: the kernel applies the higher of all (loose) and the device's own. Leave 'all' out"),
    ({"rp_filter": {"all": "strict", "devices": {"lan0": "none"}}}, "rp_filter.devices.lan0", "cannot take effect"),
    ({"rp_filter": {"all": "loose", "default": "none"}}, "rp_filter.default", "cannot take effect"),
    ({"rp_filter": {"devices": {"all": "strict"}}}, "rp_filter.devices.all", "is not a network device name"),
    ({"rp_filter": {"blackhole": ["0.0.0.0/0"]}}, "rp_filter.blackhole", "would discard everything. Name the networks"),
    ({"settings": {"mark_mask": "0x5f00"}}, "settings.mark_mask", "has holes. Give one run of set bits"),
    ({"settings": {"mark_mask": 0}}, "settings.mark_mask", "0 is out of range"),
    ({"settings": {"table_base": 200}}, "settings.table_base", "Give a whole number from 256"),
    ({"settings": {"rule_priority": 32000}}, "settings.rule_priority", "from 1 to 30000"),
    ({"settings": {"mark_mask": "0x100"}, "links": [A, B]}, "mark_mask",
     "'2 links and policies' do not fit the mark_mask, which holds 1 ids; ids of those that go"),
    ({"settings": {"mark_mask": "0x100"}, "links": [A], "ids": {"link:isp_a": 2}}, "mark_mask",
     "'link:isp_a' has the stored id 2, and the mask holds only 1. Give a wider mark_mask"),
    ({"schema": 2}, "document.schema", "2 is not schema 1. Use the release that wrote it, or a newer one"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "option", "message"), REFUSED, ids=[f"{row[1]}-{row[2][:30]}" for row in REFUSED])
def test_refused(data: dict[str, Any], option: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Document.parse(data)
    assert caught.value.option == option
    assert str(caught.value).startswith(option)
    assert message in str(caught.value)


CONTRADICTED = [
    (one(address="5.5.5.9"), "links.isp_a.address",
     "'5.5.5.9' is not an address of wan1. It has 5.5.5.5, 5.5.5.6; configure the address there"),
    (one(gateway="6.6.6.6"), "links.isp_a.gateway", "'6.6.6.6' is an address of this router itself"),
    (one(gateway=None), "links.isp_a.gateway",
     "is missing, and wan1 is not a point-to-point device. Give the gateway's address, or 'auto'"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "option", "message"), CONTRADICTED)
def test_what_contradicts_a_device_that_is_there_is_refused(data: Any, option: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        check_present(Document.parse(data), facts())
    assert caught.value.option == option
    assert message in str(caught.value)


def test_what_is_declared_for_a_device_that_is_not_there_yet_is_accepted() -> None:
    document = Document.parse(one(device="wwan0", address="5.5.5.9", gateway=None))
    assert check_present(document, facts()) is None


@pytest.mark.parametrize(
    ("parse", "written", "kept"),
    [
        (values.address, "5.5.5.5", "5.5.5.5"),
        (values.prefix, "10.0.0.0/255.0.0.0", "10.0.0.0/8"),
        (values.prefix, "192.0.2.1", "192.0.2.1/32"),
        (values.prefixes, ["0.0.0.0/0"], ()),
        (values.prefixes, ["10.0.1.0/24", "10.0.0.0/24", "10.0.0.7"], ("10.0.0.0/23",)),
        (values.prefixes, ["10.0.0.0/8", "0.0.0.0/0"], ()),
        (values.ports, 443, (443, 443)),
        (values.ports, "5060 - 5061", (5060, 5061)),
        (values.weight, "0x10", 16),
    ],
)
def test_equal_meaning_has_one_form(parse: Any, written: Any, kept: Any) -> None:
    assert parse("option", written) == kept


@pytest.mark.parametrize(
    ("mask", "shift", "capacity"), [("0x3f00", 8, 63), (0xFF00, 8, 255), ("0x1", 0, 1), ("0xc0000000", 30, 3)]
)
def test_a_mask_holds_as_many_ids_as_its_bits_count(mask: Any, shift: int, capacity: int) -> None:
    settings = Settings.parse("settings", {"mark_mask": mask})
    assert (settings.mark_shift, settings.capacity) == (shift, capacity)
    assert settings.mark(capacity) == settings.mark_mask
