# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What the users of a router see whose two links are two gateways on one device; also after a reboot."""

from __future__ import annotations

from collections import Counter

import pytest
from lab import accesses, binomial_bounds, connections, dark, new_tag, requests, run_json, states, wait_until

SERVER, NEIGHBOUR = "7.7.7.7", "192.168.122.1"
LINKS = {"router1": "192.168.122.65", "router2": "192.168.122.66"}
SHARE_OF_ROUTER1 = 3 / 4
CONNECTIONS = 200


@pytest.fixture(autouse=True)
def both_links_are_up() -> None:
    wait_until(lambda: states() == dict.fromkeys(LINKS, "up"), 30)


def test_connections_are_shared_by_weight_and_none_is_lost() -> None:
    tag = new_tag()
    answers = connections("client", SERVER, tag, CONNECTIONS)
    seen = Counter(access.source for access in accesses("server", tag))

    assert set(answers) == set(LINKS.values())
    assert seen == Counter(answers)
    low, high = binomial_bounds(CONNECTIONS, SHARE_OF_ROUTER1)
    assert low <= seen[LINKS["router1"]] <= high


def test_connections_stay_with_their_router() -> None:
    tag = new_tag()
    answers = requests("client", SERVER, tag, 10)
    logged = accesses("server", tag)

    assert set(answers) <= set(LINKS.values())
    assert len({access.connection for access in logged}) == 8
    assert set(Counter(logged).values()) == {10}


@pytest.mark.parametrize("address", LINKS.values())
def test_what_comes_in_by_a_router_is_answered_by_it(address: str) -> None:
    """The other one has no translation for it: that connection would never be made."""
    tag = new_tag()
    answers = connections("server", address, tag, 20)

    assert answers == [NEIGHBOUR] * 20
    assert Counter(access.source for access in accesses("router", tag)) == {NEIGHBOUR: 20}


def test_both_links_have_the_one_device() -> None:
    links = run_json("router", "mwanctl status --json")["links"]

    assert {name: link["device"] for name, link in links.items()} == dict.fromkeys(LINKS, "wan0")


def test_a_dead_router_is_left_though_the_carrier_stays() -> None:
    with dark("router1"):
        wait_until(lambda: states()["router1"] == "down", 20)
        tag = new_tag()
        assert connections("client", SERVER, tag, 40) == [LINKS["router2"]] * 40
        assert {access.source for access in accesses("server", tag)} == {LINKS["router2"]}
        assert run_json("router", "ip -json link show wan0")[0]["operstate"] == "UP"
    wait_until(lambda: states()["router1"] == "up", 30)
    assert set(connections("client", SERVER, new_tag(), 80)) == set(LINKS.values())
