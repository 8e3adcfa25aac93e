# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What the users of a two-link router see: the LAN, the Internet server, and the router itself. Also after a reboot."""

from __future__ import annotations

from collections import Counter

import pytest
from lab import accesses, binomial_bounds, connections, new_tag, requests, run, states, wait_until

SERVER = "7.7.7.7"
LINKS = {"isp_a": "5.5.5.5", "isp_b": "6.6.6.6"}
SHARE_OF_ISP_A = 3 / 4
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
    low, high = binomial_bounds(CONNECTIONS, SHARE_OF_ISP_A)
    assert low <= seen[LINKS["isp_a"]] <= high


def test_connections_stay_on_their_links() -> None:
    tag = new_tag()
    answers = requests("client", SERVER, tag, 10)
    logged = accesses("server", tag)

    assert set(answers) <= set(LINKS.values())
    assert len({access.connection for access in logged}) == 8
    assert set(Counter(logged).values()) == {10}


@pytest.mark.parametrize("address", LINKS.values())
def test_the_router_answers_on_the_link_it_was_asked_on(address: str) -> None:
    tag = new_tag()
    answers = connections("server", address, tag, 20)

    assert set(answers) == {SERVER}
    assert len(accesses("router", tag)) == 20


@pytest.mark.parametrize("address", LINKS.values())
def test_the_router_reaches_the_internet_from_each_of_its_addresses(address: str) -> None:
    assert run("router", "curl --silent --max-time 5 --interface %s http://%s/own/", address, SERVER).strip() == address
