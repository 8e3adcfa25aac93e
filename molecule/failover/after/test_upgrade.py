# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What clients saw of the upgrade in side_effect.yml: nothing."""

from __future__ import annotations

from collections import defaultdict

from lab import STEADY, accesses, container, run, run_json, steady

LINKS = {"isp_a": "5.5.5.5", "isp_b": "6.6.6.6"}
EARLIER = "/usr/local/lib/mwan/0123456789ab"


def test_another_release_is_in_use_and_the_earlier_one_is_kept() -> None:
    current = run("router", "readlink /usr/local/lib/mwan/current").strip()

    assert current != EARLIER
    assert container("router").file(EARLIER).is_directory
    assert run_json("router", "mwanctl status --json")["prober"]["version"] == current.rpartition("/")[2]


def test_no_connection_was_lost_or_moved_while_it_was_replaced() -> None:
    rounds = steady("client")
    *kept, new = zip(*rounds, strict=True)
    logged = accesses("server", STEADY)
    by_connection = defaultdict(set)
    for access in logged:
        by_connection[access.connection].add(access.source)

    assert [set(seen) for seen in kept] == [{seen[0]} for seen in kept]
    assert {seen[0] for seen in kept} <= set(LINKS.values())
    assert set(new) == set(LINKS.values())
    assert len(by_connection) == len(kept) + len(rounds)
    assert len(logged) == (len(kept) + 1) * len(rounds)


def test_no_link_was_thought_to_be_down() -> None:
    status = run_json("router", "mwanctl status --json")

    assert {link["state"] for link in status["links"].values()} == {"up"}
    assert max(link["since"] for link in status["links"].values()) < status["prober"]["started"]
