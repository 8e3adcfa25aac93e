# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What the administrator of a two-link router finds on it."""

from __future__ import annotations

import pytest
from lab import connections, container, new_tag, run, run_json

SERVER = "7.7.7.7"
LINKS = {"isp_a": "5.5.5.5", "isp_b": "6.6.6.6"}


@pytest.mark.parametrize("name", ["client", "router", "isp_a", "isp_b", "server"])
def test_every_host_runs_without_a_failed_unit(name: str) -> None:
    assert run(name, "systemctl is-system-running").strip() == "running"


def test_the_role_installed_what_was_not_there() -> None:
    done = run("router", "grep -oE ' (purge|install) nftables:' /var/log/dpkg.log").split()

    assert done[-4::2] == ["purge", "install"]


def test_rules_are_our_own_by_their_protocol() -> None:
    rules = run_json("router", "ip -json -details rule show")
    ours = {rule["priority"] for rule in rules if rule["protocol"] == "mwan"}

    assert {1000, 1999} <= ours
    assert {rule["priority"] for rule in rules if rule["protocol"] == "kernel"} == {0, 32766, 32767}


@pytest.mark.parametrize("link", LINKS)
def test_tables_go_by_the_names_of_the_links(link: str) -> None:
    routes = run_json("router", "ip -json route show table %s default", f"mwan_{link}")

    assert routes[0]["prefsrc"] == LINKS[link]


def test_what_is_declared_is_roots_to_change_and_the_probers_to_read() -> None:
    directory, document = (container("router").file(path) for path in ("/etc/mwan", "/etc/mwan/mwan.json"))

    assert (directory.user, directory.group, directory.mode) == ("root", "mwan", 0o2750)
    assert (document.user, document.group, document.mode) == ("root", "mwan", 0o640)


def test_what_runs_find_out_is_for_both() -> None:
    kept = container("router").file("/var/lib/mwan/kept/kept.json")

    assert kept.user in ("root", "mwan"), "whoever wrote it last"
    assert (kept.group, kept.mode) == ("mwan", 0o640)


@pytest.mark.parametrize("action", ["start", "restart", "reload", "stop"])
def test_rules_come_back_when_the_distributions_firewall_flushes_all(action: str) -> None:
    """Debian's /etc/nftables.conf begins with "flush ruleset", and its service ends with one."""
    before = "start" if action != "start" else "stop"
    run("router", f"systemctl {before} nftables && systemctl restart mwan && systemctl {action} nftables")

    run("router", "timeout 5 sh -c 'until nft list chain inet mwan source_nat; do sleep 0.1; done'")
    assert run("router", "systemctl is-active mwan") == "active\n"
    assert set(connections("client", SERVER, new_tag(), 80)) == set(LINKS.values())
