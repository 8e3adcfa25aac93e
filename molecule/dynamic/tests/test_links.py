# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""A router none of whose addresses is declared: what it took them for, and what the server saw."""

from __future__ import annotations

from lab import accesses, connections, new_tag, run, run_json, wait_until

SERVER = "7.7.7.7"
LINKS = {"cable": "5.5.5.100", "dsl": "22.2.2.2"}
KEPT = ("ip rule", "ip route show table all proto mwan", "nft list table inet mwan")


def test_links_have_what_others_gave_the_router() -> None:
    links = run_json("router", "mwanctl status --json")["links"]

    assert {name: link["address"] for name, link in links.items()} == LINKS
    assert {name: link["gateway"] for name, link in links.items()} == {"cable": "5.5.5.1", "dsl": None}
    assert {link["state"] for link in links.values()} == {"up"}


def test_connections_leave_by_both_links() -> None:
    tag = new_tag()

    assert set(connections("client", SERVER, tag, 40)) == set(LINKS.values())
    assert {access.source for access in accesses("server", tag)} == set(LINKS.values())


def test_networkd_leaves_alone_what_it_has_not_made() -> None:
    """Nor was there anything for the prober to put back."""
    before, repairs = [run("router", command) for command in KEPT], passes()
    run("router", "systemctl restart systemd-networkd && networkctl reload")
    run("router", "timeout 10 sh -c 'until networkctl status wan1 | grep configured; do sleep 0.1; done'")

    assert [run("router", command) for command in KEPT] == before
    assert passes() == repairs


def test_networkd_that_begins_anew_keeps_the_rules() -> None:
    """It takes the lease, and what hangs on that; without ManageForeignRoutingPolicyRules=no, all rules go as well."""
    run("router", "systemctl stop mwan")
    try:
        before = run("router", "ip rule; ip route show table mwan_dsl")
        run("router", "networkctl reconfigure wan1")
        run("router", "timeout 10 sh -c 'sleep 1; until ip -4 route show default dev wan1 | grep .; do sleep 0.1;done'")
        assert run("router", "ip rule; ip route show table mwan_dsl") == before
    finally:
        run("router", "systemctl start mwan")
    wait_until(lambda: run("router", "mwanctl status --check || true").startswith("MWAN OK"), 20)


def passes() -> int:
    """How often the prober found something to change."""
    changed: int = run_json("router", "mwanctl status --json")["prober"]["converge"]["changed"]
    return changed
