# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What others have on the router is as it was and works, and so do the links: after the first run and after reloads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lab import accesses, binomial_bounds, connections, new_tag, run, run_json

SERVER = "7.7.7.7"
BEHIND_THE_TUNNEL = "198.18.0.1"
A, B = "5.5.5.5", "6.6.6.6"
CONNECTIONS = 100
LATE = """rule del pref 32765
rule del pref 32764
route add default dev wg0 table 100
rule add pref 30000 not fwmark 0x10000/0x10000 lookup 100"""
EARLY = """rule del pref 30000
route del default table 100
rule add pref 32764 lookup main suppress_prefixlength 0
rule add pref 32765 not fwmark 0x10000 lookup 65536"""
# linux/asm-generic/socket.h
MARKED = "import socket; s = socket.socket(); s.setsockopt(1, 36, 0x10000); s.connect(('7.7.7.7', 80)); "
SOURCE = "s.settimeout(5); print(s.getsockname()[0])"


def test_nothing_of_others_has_changed() -> None:
    before = run("router", "cat /usr/local/lib/lab/before")

    assert run("router", "/usr/local/lib/lab/foreign.sh").splitlines() == before.splitlines()


@pytest.mark.parametrize("service", ["firewalld", "mwan"])
def test_both_services_run(service: str) -> None:
    assert run("router", "systemctl is-active %s", service) == "active\n"


def test_both_links_serve_the_lan() -> None:
    seen = Counter(connections("client", SERVER, new_tag(), CONNECTIONS))

    assert set(seen) == {A, B}
    low, high = binomial_bounds(CONNECTIONS, 1 / 2)
    assert low <= seen[A] <= high
    assert set(run_json("router", "mwanctl status --json")["links"]) == {"isp_a", "isp_b"}


@pytest.mark.parametrize("address", [A, B])
def test_a_published_port_is_reached_through_each_link(address: str) -> None:
    tag = new_tag()

    assert set(connections("server", f"{address}:8080", tag, 20)) == {SERVER}
    assert {access.source for access in accesses("guest", tag)} == {SERVER}


@pytest.mark.parametrize("address", [A, B])
def test_the_router_itself_is_reached_through_each_link(address: str) -> None:
    tag = new_tag()

    assert set(connections("server", address, tag, 20)) == {SERVER}
    assert len(accesses("router", tag)) == 20


def test_a_container_is_balanced_like_everybody() -> None:
    assert set(connections("guest", SERVER, new_tag(), 40)) == {A, B}


def test_what_is_behind_the_tunnel_is_reached_through_it() -> None:
    """The routing rule of wg-quick is asked, because ours leaves these networks to the main table and beyond."""
    assert set(connections("client", BEHIND_THE_TUNNEL, new_tag(), 20)) == {"192.168.101.1"}
    assert set(connections("router", BEHIND_THE_TUNNEL, new_tag(), 20)) == {"10.8.0.1"}


@contextmanager
def tunnel_in_its_place() -> Iterator[None]:
    """A rule behind ours, as docs/coexistence.md has it for tunnels that come up after the router was configured."""
    run("router", "echo %s | ip -batch -", LATE)
    try:
        yield
    finally:
        run("router", "echo %s | ip -batch -", EARLY)


def test_a_tunnel_that_comes_up_late_gets_what_is_left_to_it() -> None:
    with tunnel_in_its_place():
        assert set(connections("client", BEHIND_THE_TUNNEL, new_tag(), 10)) == {"192.168.101.1"}
        assert set(connections("client", SERVER, new_tag(), 40)) == {A, B}


def test_what_the_tunnel_encrypts_goes_by_its_mark() -> None:
    assert run("router", "for n in $(seq 20); do python3 -c %s; done", MARKED + SOURCE).split() == [B] * 20


def test_marks_of_others_stay() -> None:
    """TCP of the LAN leaves with the administrator's bit; that of UDP is lost to wg-quick, which comes later."""
    rules = run_json("router", "nft --json list chain inet administrator late")["nftables"]
    counters = [part["counter"] for part in rules[-1]["rule"]["expr"] if "counter" in part]

    assert [counter["packets"] for counter in counters] == [0]


@contextmanager
def counting(provider: str) -> Iterator[None]:
    """Datagrams of the voice rule that pass a provider."""
    run(
        provider,
        "nft %s",
        "table ip seen { chain voice { type filter hook forward priority 0; udp dport 5060 counter; }; }",
    )
    try:
        yield
    finally:
        run(provider, "nft delete table ip seen")


def counted(provider: str) -> int:
    listed = run_json(provider, "nft --json list chain ip seen voice")["nftables"]
    return int(listed[-1]["rule"]["expr"][-1]["counter"]["packets"])


def test_a_rule_for_udp_holds_though_wg_quick_sets_the_mark_of_all_udp() -> None:
    with counting("isp_a"), counting("isp_b"):
        run("client", "bash -c %s", f"for n in {{1..20}}; do echo hello > /dev/udp/{SERVER}/5060; done")

        assert (counted("isp_a"), counted("isp_b")) == (0, 20)
