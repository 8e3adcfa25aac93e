# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The router does with legacy iptables what others do with nftables, beside its administrator's own rules."""

from __future__ import annotations

import pytest
from lab import accesses, connections, container, dark, new_tag, run, run_json, states, wait_until

SERVER = "7.7.7.7"
LINKS = {"isp_a": "5.5.5.5", "isp_b": "6.6.6.6"}


@pytest.fixture(autouse=True)
def both_links_are_up() -> None:
    wait_until(lambda: states() == dict.fromkeys(LINKS, "up"), 30)


def rules(table: str) -> list[str]:
    return run("router", "iptables-legacy --table %s --list-rules", table).splitlines()


def test_the_role_found_what_the_host_filters_with() -> None:
    assert run_json("router", "cat /var/lib/mwan/kept/kept.json")["backend"] == "iptables"
    assert container("router").package("python3-iptables").is_installed
    assert not container("router").exists("nft")


@pytest.mark.parametrize("table", ["mangle", "nat"])
def test_each_of_our_chains_is_reached_by_a_jump(table: str) -> None:
    chains = {rule.split()[1] for rule in rules(table) if rule.startswith("-N MWAN_")}
    targets = {rule.split()[-1] for rule in rules(table) if rule.split()[-2] in ("-j", "-g")}

    assert chains
    assert chains <= targets


def test_the_administrators_filter_is_as_it_was() -> None:
    written = [line for line in run("router", "cat /etc/iptables.rules").splitlines() if line.startswith("-A")]
    filtered = [rule for rule in rules("filter") if rule.startswith("-A")]

    assert filtered == written
    assert {"-P INPUT DROP", "-P FORWARD DROP"} <= set(rules("filter"))


def test_reload_brings_back_what_was_flushed() -> None:
    before = rules("mangle"), rules("nat")
    run("router", "iptables-legacy --table mangle --flush && iptables-legacy --table nat --flush")
    run("router", "systemctl reload mwan")

    wait_until(lambda: (rules("mangle"), rules("nat")) == before)


def test_a_dead_link_is_left() -> None:
    with dark("isp_a"):
        wait_until(lambda: states() == {"isp_a": "down", "isp_b": "up"}, 20)
        tag = new_tag()
        assert connections("client", SERVER, tag, 20) == [LINKS["isp_b"]] * 20
        assert {access.source for access in accesses("server", tag)} == {LINKS["isp_b"]}
    wait_until(lambda: states()["isp_a"] == "up", 30)
    assert set(connections("client", SERVER, new_tag(), 80)) == set(LINKS.values())
