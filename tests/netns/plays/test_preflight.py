# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a real kernel is asked before a router is made of its host."""

from __future__ import annotations

import pytest
from lab.ansible import run_module

NEEDED = {"rules", "multipath", "firewall", "random", "round_robin", "source_hash", "port_forwards"}


@pytest.mark.parametrize("backend", ["nftables", "iptables"])
def test_kernel_is_tried_and_nothing_of_the_host_changes(two_links, backend):
    before = state(two_links.router)
    result = run_module(two_links, "mwan_preflight", {"service": False, "firewall_backend": backend})
    assert {name for name, said in result["kernel"].items() if said is None} >= NEEDED
    assert (result["findings"], result["install"], result["packages"]) == ([], "none", [])
    assert state(two_links.router) == before


def test_errors_are_told_together_with_their_remedies_unless_they_are_accepted(two_links):
    """A host without systemd, whose sysctls are read-only, as a container may be."""
    router = two_links.router
    router.run("test ! -d /run/systemd || mount -t tmpfs none /run/systemd")
    router.run("mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys")
    failed = run_module(two_links, "mwan_preflight", {})
    assert [finding["name"] for finding in failed["findings"]] == ["systemd", "sysctl"]
    for finding in failed["findings"]:
        assert finding["what"] in failed["msg"]
        assert finding["remedy"] in failed["msg"]
    passed = run_module(two_links, "mwan_preflight", {"accept": ["systemd", "sysctl"]})
    assert passed["findings"] == []
    misspelt = run_module(two_links, "mwan_preflight", {"accept": ["systemd", "sysctls"]})
    assert "accept: 'sysctls' is not known. Choose one of privilege, systemd, sysctl," in misspelt["msg"]


def state(router):
    commands = ("ip rule", "ip route show table all", "ip -br link", "nft list ruleset", "iptables-legacy-save")
    return [router.run(command).stdout for command in commands]


def test_what_cannot_be_is_refused_before_anything_is_installed(two_links, bare_python):
    """Without a library of ours, and by the settings that the play gives."""
    link = {"name": "isp_a", "device": "wan1", "gateway": "5.5.5.999"}
    links = [{"name": f"isp_{number}", "device": f"ppp{number}"} for number in range(70)]
    for declared, message in (
        ({"links": [link]}, "links[0].gateway: '5.5.5.999' is not an IPv4 address"),
        ({"links": [], "default_policy": "all"}, "default_policy: 'all'"),
        ({"links": links}, "63"),
    ):
        refused = run_module(two_links, "mwan_preflight", {"declared": declared}, python=bare_python)
        assert message in refused["msg"]
    wide = {"links": links, "mark_mask": "0xff00"}
    found = run_module(two_links, "mwan_preflight", {"declared": wide}, python=bare_python)
    assert "links" not in found["msg"]
    assert found["findings"], "the lab's own: no systemd"
