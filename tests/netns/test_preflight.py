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


def state(router):
    commands = ("ip rule", "ip route show table all", "ip -br link", "nft list ruleset", "iptables-legacy-save")
    return [router.run(command).stdout for command in commands]
