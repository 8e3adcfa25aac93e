# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of a host: each finding where it bites, and not where it does not."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from _mwan.preflight import findings
from _mwan.preflight.facts import NFTABLES, Asked, Facts, Kernel, Os, Python
from _mwan.preflight.managers import CHECKS
from hypothesis import given
from hypothesis import strategies as st

NETWORKD = frozenset({"systemd-networkd.service"})
FIREWALLD = frozenset({"firewalld.service"})
DOCKER = frozenset({"docker.service"})
MANAGER = frozenset({"NetworkManager.service"})
UFW = {"/etc/ufw/ufw.conf": "ENABLED=yes\n"}
READY = Facts(
    os=Os("debian", "12"),
    python=Python("3.11.2", "0.7.2", "1.0.1"),
    programs=frozenset({"nft", "iptables-legacy"}),
    connections=262144,
)
LEGACY = replace(READY, backend="iptables")
DROPPED = ":FORWARD DROP [0:0]\n:DOCKER-USER - [0:0]\n-A FORWARD -j DOCKER-USER\n-A DOCKER-USER -j RETURN\n"
ALLOWED = DROPPED + "-A DOCKER-USER -i lan0 -j ACCEPT\n"
ACCEPTED = DROPPED.replace("DROP", "ACCEPT", 1)
FORWARDING = {"/etc/sysctl.d/10-router.conf": "net/ipv4/ip_forward = 1\n"}


def told(facts: Facts, **asked: Any) -> list[str]:
    return [finding.name for finding in findings.run(CHECKS, Asked(**asked), facts)]


def refusing(**features: str) -> Kernel:
    return Kernel(features)


def texts(path: str, *contents: str) -> list[dict[str, str]]:
    return [{path: content} for content in contents]


def test_nothing_is_told_of_a_host_that_has_what_it_needs() -> None:
    assert told(READY) == told(LEGACY) == told(READY, install="none") == []


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("privilege", replace(READY, root=False)),
        ("systemd", replace(READY, systemd=False)),
        ("sysctl", replace(READY, sysctls_writable=False)),
        ("policy_routing", replace(READY, kernel=refusing(rules="Operation not supported"))),
        ("multipath", replace(READY, kernel=refusing(multipath="Invalid argument"))),
        ("multipath", replace(READY, multipath=False)),
        ("firewall", replace(READY, kernel=refusing(firewall="no nat", random="no nat"))),
    ],
)
def test_what_keeps_a_router_from_working_is_an_error_with_its_remedy(name: str, facts: Facts) -> None:
    (found,) = findings.run(CHECKS, Asked(), facts)
    assert (found.name, found.severity) == (name, "error")
    assert found.what in findings.refused([found])
    assert found.remedy in findings.refused([found])


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("choices", replace(READY, kernel=refusing(random="no numgen"))),
        ("untried", replace(READY, kernel=Kernel(untried="unshare: Operation not permitted"))),
        ("conntrack", replace(READY, connections=8192)),
        ("networkd", replace(READY, units=NETWORKD)),
        ("network_manager", replace(READY, units=MANAGER, network_manager="1.30.6")),
        ("iptables_variant", replace(LEGACY, iptables_by_nft=True)),
        ("balancer", replace(READY, texts={"/etc/shorewall/providers": "#NAME\nisp1 1 1 main eth0\n"})),
        ("balancer", replace(READY, texts={"/etc/firehol/link-balancer.conf": "gateway isp1 dev eth0\n"})),
    ],
)
def test_what_may_bite_later_is_a_warning(name: str, facts: Facts) -> None:
    (found,) = findings.run(CHECKS, Asked(), facts)
    assert (found.name, found.severity) == (name, "warning")
    assert findings.refused([found]) == ""


@pytest.mark.parametrize(
    "facts",
    [
        replace(READY, connections=None),
        replace(READY, units=MANAGER, network_manager="1.42.4"),
        replace(READY, units=MANAGER),
        replace(READY, network_manager="1.30.6"),
        replace(READY, iptables_by_nft=True),
        replace(READY, texts={"/etc/shorewall/providers": "# nothing here\n\n"}),
        # whatever the firewall is for, it is not told twice, and not of what nobody has asked for
        replace(READY, kernel=refusing(least_connections="no queue")),
        replace(READY, units=frozenset({"cron.service"}), texts={"/etc/firewalld/firewalld.conf": "IPv6_rpfilter=yes"}),
    ],
)
def test_what_does_no_harm_is_not_told(facts: Facts) -> None:
    assert told(facts) == []


def test_without_the_service_systemd_is_not_needed() -> None:
    assert told(replace(READY, systemd=False), service=False) == []


def test_without_privilege_only_that_is_told_of_what_then_cannot_be_seen() -> None:
    kernel = Kernel(untried="not root")
    assert told(replace(READY, root=False, sysctls_writable=False, kernel=kernel)) == ["privilege"]


# installation


@pytest.mark.parametrize(
    ("install", "os", "expected"),
    [
        ("none", Os("debian", "12"), ["missing"]),
        ("auto", Os("debian", "12"), []),
        ("auto", Os("ubuntu", "22.04"), []),
        ("packages", Os("debian", "12"), []),
        ("packages", Os("ubuntu", "22.04"), ["packages"]),
        ("venv", Os("ubuntu", "22.04"), []),
    ],
)
def test_what_is_missing_is_told_where_nobody_would_install_it(install: str, os: Os, expected: list[str]) -> None:
    assert told(replace(READY, os=os, python=Python("3.10", None)), install=install) == expected


# systemd-networkd

OFF = "[Network]\nManageForeignRoutingPolicyRules=no\nManageForeignRoutes=off\n"
HALF = "[Network]\nManageForeignRoutingPolicyRules=no\n"


@pytest.mark.parametrize(
    ("found", "lacking"),
    [
        ({}, {"ManageForeignRoutingPolicyRules", "ManageForeignRoutes"}),
        ({"/etc/systemd/networkd.conf": OFF}, set()),
        ({"/etc/systemd/networkd.conf.d/mwan.conf": OFF}, set()),
        ({"/etc/systemd/networkd.conf.d/mwan.conf": HALF}, {"ManageForeignRoutes"}),
        ({"/etc/systemd/networkd.conf": OFF.replace("[Network]", "[DHCPv4]")}, {"ManageForeignRoutes"}),
        ({"/etc/systemd/networkd.conf": OFF.replace("Manage", "#Manage")}, {"ManageForeignRoutes"}),
        # the later of two drop-ins wins, wherever they are; of one name the one in /etc is read
        (
            {"/usr/lib/systemd/networkd.conf.d/90.conf": OFF, "/etc/systemd/networkd.conf.d/10.conf": "[Network]\n"},
            set(),
        ),
        (
            {
                "/usr/lib/systemd/networkd.conf.d/10.conf": OFF,
                "/etc/systemd/networkd.conf.d/90.conf": "[Network]\nManageForeignRoutes=yes\n",
            },
            {"ManageForeignRoutes"},
        ),
        (
            {"/usr/lib/systemd/networkd.conf.d/10.conf": OFF, "/etc/systemd/networkd.conf.d/10.conf": HALF},
            {"ManageForeignRoutes"},
        ),
        # the main file of the distribution is not read where the administrator has one
        ({"/usr/lib/systemd/networkd.conf": OFF, "/etc/systemd/networkd.conf": HALF}, {"ManageForeignRoutes"}),
    ],
)
def test_networkd_is_told_by_what_it_reads(found: dict[str, str], lacking: set[str]) -> None:
    listed = findings.run(CHECKS, Asked(), replace(READY, units=NETWORKD, texts=found))
    assert [finding.name for finding in listed] == ["networkd"] * bool(lacking)
    for finding in listed:
        assert lacking <= set(re.findall(r"(Manage\w+)=no", finding.remedy))


def test_networkd_without_a_prober_is_told_to_stay_so() -> None:
    facts = replace(READY, units=NETWORKD)
    (with_prober,) = findings.run(CHECKS, Asked(), facts)
    (without,) = findings.run(CHECKS, Asked(service=False), facts)
    assert with_prober.what != without.what


# firewalld

ZONE = '<zone>\n  <masquerade/>\n  <interface name="wan1"/>\n</zone>'
TRUSTED = '<zone target="ACCEPT">\n  <interface name="lan0"/>\n</zone>'
POLICY = '<policy target="{}">\n  <ingress-zone name="internal"/>\n  <egress-zone name="{}"/>\n{}</policy>'


@pytest.mark.parametrize(
    ("zone", "policy", "expected"),
    [
        ("", "", True),
        (ZONE, "", True),
        (TRUSTED, "", False),
        (ZONE, POLICY.format("ACCEPT", "external", ""), False),
        (ZONE, POLICY.format("CONTINUE", "external", '<service name="https"/>'), False),
        (ZONE, POLICY.format("CONTINUE", "external", ""), True),
        (ZONE, POLICY.format("ACCEPT", "HOST", ""), True),
    ],
)
def test_firewalld_that_forwards_nothing_is_told(zone: str, policy: str, expected: bool) -> None:
    found = {"/etc/firewalld/zones/external.xml": zone, "/etc/firewalld/policies/lan_out.xml": policy}
    assert ("firewalld_forward" in told(replace(READY, units=FIREWALLD, texts=found))) is expected


def test_firewalld_forwards_inside_the_zone_that_all_devices_are_in_by_network_manager() -> None:
    assert told(replace(READY, units=FIREWALLD | MANAGER)) == []
    found = {"/etc/firewalld/zones/external.xml": ZONE}
    assert told(replace(READY, units=FIREWALLD | MANAGER, texts=found)) == ["firewalld_forward"]


@pytest.mark.parametrize(
    ("setting", "ipv6", "expected"),
    [
        ("", True, True),
        ("IPv6_rpfilter=yes", True, True),
        ("IPv6_rpfilter=strict", True, True),
        ("IPv6_rpfilter=loose", True, False),
        ("IPv6_rpfilter=loose-forward", True, False),
        ("IPv6_rpfilter=no", True, False),
        ("IPv6_rpfilter=yes", False, False),
    ],
)
def test_filter_of_firewalld_for_ipv6_is_told_where_there_is_ipv6(setting: str, ipv6: bool, expected: bool) -> None:
    facts = replace(READY, units=FIREWALLD, ipv6=ipv6, texts={"/etc/firewalld/firewalld.conf": setting})
    assert ("firewalld_ipv6" in told(facts)) is expected


def test_firewalld_flushes_our_chains_only_where_both_use_iptables() -> None:
    found = {"/etc/firewalld/firewalld.conf": "FirewallBackend=iptables\n"}
    assert "firewalld_iptables" in told(replace(LEGACY, units=FIREWALLD, texts=found))
    assert "firewalld_iptables" not in told(replace(READY, units=FIREWALLD, texts=found))
    assert "firewalld_iptables" not in told(replace(LEGACY, units=FIREWALLD))


# ufw


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"/etc/default/ufw": 'DEFAULT_FORWARD_POLICY="DROP"\n'}, ["ufw_forward"]),
        ({"/etc/default/ufw": 'DEFAULT_FORWARD_POLICY="ACCEPT"\n'}, []),
        ({"/etc/ufw/user.rules": "*filter\n:ufw-user-forward - [0:0]\n-A ufw-user-forward -i lan0 -j ACCEPT\n"}, []),
        ({"/etc/ufw/user.rules": "*filter\n-A ufw-user-input -p tcp --dport 22 -j ACCEPT\n"}, ["ufw_forward"]),
        ({"/etc/ufw/sysctl.conf": "net/ipv4/conf/all/rp_filter=1\n"}, ["ufw_forward", "ufw_rp_filter"]),
        ({"/etc/ufw/sysctl.conf": "#net/ipv4/conf/all/rp_filter=1\n"}, ["ufw_forward"]),
        ({"/etc/ufw/ufw.conf": "ENABLED=no\n", "/etc/ufw/sysctl.conf": "net/ipv4/conf/all/rp_filter=1\n"}, []),
    ],
)
def test_ufw_is_told_by_its_files(found: dict[str, str], expected: list[str]) -> None:
    assert told(replace(READY, texts={**UFW, **found})) == expected


# docker


@pytest.mark.parametrize(
    ("options", "listed", "sysctls", "expected"),
    [
        ("", DROPPED, {}, True),
        ("", DROPPED, FORWARDING, True),
        ("", ALLOWED, {}, False),
        # nobody but docker switches forwarding on at boot, so it will drop then
        ("", ACCEPTED, {}, True),
        ("", ACCEPTED, FORWARDING, False),
        ('{"ip-forward-no-drop": true}', DROPPED, {}, False),
        ('{"iptables": false}', "", {}, False),
        ('{"ip-forward": false}', ACCEPTED, {}, False),
        ('{"firewall-backend": "nftables"}', "", {}, False),
        ('{"log-level": "info"}', DROPPED, {}, True),
        ("this is not JSON", DROPPED, {}, True),
    ],
)
def test_docker_that_drops_what_is_forwarded_is_told(
    options: str, listed: str, sysctls: dict[str, str], expected: bool
) -> None:
    found = {**sysctls, **({"/etc/docker/daemon.json": options} if options else {})}
    facts = replace(READY, units=DOCKER, texts=found, filter=listed)
    assert (told(facts) == ["docker"]) is expected
    assert told(replace(facts, units=frozenset())) == []


# all of them

HOSTS = st.builds(
    replace,
    st.just(READY),
    root=st.booleans(),
    systemd=st.booleans(),
    sysctls_writable=st.booleans(),
    multipath=st.booleans(),
    ipv6=st.booleans(),
    backend=st.sampled_from([NFTABLES, "iptables"]),
    programs=st.frozensets(st.sampled_from(["nft", "iptables-legacy"])),
    connections=st.none() | st.integers(0, 1 << 20),
    network_manager=st.sampled_from(["", "1.30.6", "1.42.4-x", "strange"]),
    units=st.frozensets(st.sampled_from([*NETWORKD, *FIREWALLD, *DOCKER, *MANAGER])),
    filter=st.sampled_from(["", DROPPED, ALLOWED]) | st.text(),
    texts=st.dictionaries(
        st.sampled_from(["/etc/ufw/ufw.conf", "/etc/docker/daemon.json", "/etc/systemd/networkd.conf"]),
        st.text() | st.sampled_from(["ENABLED=yes", "[]", "{}", OFF]),
    ),
    kernel=st.builds(
        Kernel,
        st.dictionaries(st.sampled_from(["rules", "multipath", "firewall", "random"]), st.none() | st.text(min_size=1)),
        st.sampled_from(["", "unshare: Operation not permitted"]),
    ),
)
ASKED = st.builds(Asked, st.booleans(), st.just("auto"), st.sampled_from(["auto", "packages", "venv", "none"]))


@given(asked=ASKED, facts=HOSTS, data=st.data())
def test_accepted_findings_are_gone_and_others_stay_errors_first(
    asked: Asked, facts: Facts, data: st.DataObject
) -> None:
    listed = findings.run(CHECKS, asked, facts)
    severities = [finding.severity for finding in listed]
    assert severities == sorted(severities)
    assert all(finding.what and finding.remedy for finding in listed)
    accepted = data.draw(st.sets(st.sampled_from([finding.name for finding in listed]))) if listed else set()
    left = findings.found(CHECKS, asked, facts, accepted)
    assert left == tuple(finding for finding in listed if finding.name not in accepted)
    assert bool(findings.refused(left)) is any(finding.severity == "error" for finding in left)


def test_every_finding_has_its_section_in_the_documentation_and_nothing_else_has() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/preflight.md").read_text(encoding="utf-8")
    assert re.findall(r"^### (\w+)$", page, re.M) == [check.name for check in CHECKS]
    for check in CHECKS:
        assert f"| [{check.name}](#{check.name}) | {check.severity} |" in page


# wg-quick

TUNNEL = "[Interface]\nAddress = 10.8.0.1/24\n{}\n[Peer]\nAllowedIPs = {}\n"


@pytest.mark.parametrize(
    ("setting", "allowed", "expected"),
    [
        ("", "0.0.0.0/0", True),
        ("", "::/0, 0.0.0.0/0", True),
        ("table = auto", "0.0.0.0/0", True),
        ("# Table = 100", "0.0.0.0/0", True),
        ("Table = 100", "0.0.0.0/0", False),
        ("Table = off", "0.0.0.0/0", False),
        ("", "10.8.0.0/24, 198.51.100.0/24", False),
        ("", "::/0", False),
        ("", "10.0.0.0/0", True),
        ("", "10.0.0.0/08", False),
        ("", "fd00::1/0", False),
    ],
)
def test_tunnels_that_take_everything_are_told(setting: str, allowed: str, expected: bool) -> None:
    facts = replace(READY, texts={"/etc/wireguard/wg0.conf": TUNNEL.format(setting, allowed)})
    assert (told(facts) == ["wg_quick"]) is expected
