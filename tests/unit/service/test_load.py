# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The share of a link's declared rate that is in use."""

from __future__ import annotations

from _mwan.model import Link
from _mwan.service.load import Loads, Rated, rated

LINE = {"a": Rated("wan1", 8000)}  # 1000 octets a second


def octets(received: int, sent: int, device: str = "wan1") -> dict[str, dict[str, int]]:
    return {device: {"received": received, "sent": sent}}


def link(name: str, device: str, rate: str | None = None) -> Link:
    return Link.parse("links[0]", {"name": name, "device": device, "gateway": "5.5.5.1", "rate": rate})


def test_nothing_is_known_before_the_second_look() -> None:
    assert Loads().shares(octets(5000, 5000), LINE, 10.0) == {"a": 0.0}


def test_the_busier_direction_counts() -> None:
    loads = Loads()
    loads.shares(octets(0, 0), LINE, 10.0)
    assert loads.shares(octets(100, 500), LINE, 11.0) == {"a": 0.5}
    loads = Loads()
    loads.shares(octets(0, 0), LINE, 10.0)
    assert loads.shares(octets(1500, 20), LINE, 12.0) == {"a": 0.75}


def test_no_link_is_more_than_full() -> None:
    loads = Loads()
    loads.shares(octets(0, 0), LINE, 10.0)
    assert loads.shares(octets(0, 3000), LINE, 11.0) == {"a": 1.0}


def test_a_burst_counts_until_one_look_later() -> None:
    loads = Loads()
    loads.shares(octets(0, 0), LINE, 10.0)
    sent = [900, 1000, 1100, 2100]
    seen = [loads.shares(octets(0, so_far), LINE, 11.0 + at)["a"] for at, so_far in enumerate(sent)]
    assert seen == [0.9, 0.9, 0.1, 1.0]


def test_a_device_that_is_made_anew_counts_anew() -> None:
    loads = Loads()
    loads.shares(octets(10_000, 10_000), LINE, 10.0)
    assert loads.shares(octets(100, 100), LINE, 11.0) == {"a": 0.0}
    assert loads.shares(octets(100, 600), LINE, 12.0) == {"a": 0.5}


def test_without_the_device_its_load_runs_out() -> None:
    loads = Loads()
    loads.shares(octets(0, 0), LINE, 10.0)
    loads.shares(octets(0, 900), LINE, 11.0)
    assert loads.shares({}, LINE, 12.0) == {"a": 0.9}
    assert loads.shares({}, LINE, 13.0) == {"a": 0.0}
    assert loads.shares(octets(0, 5000), LINE, 14.0) == {"a": 0.0}


def test_who_has_no_rate_any_more_has_no_load() -> None:
    loads = Loads()
    loads.shares(octets(0, 0), LINE, 10.0)
    loads.shares(octets(0, 900), LINE, 11.0)
    assert loads.shares({}, {}, 12.0) == {"a": 0.0}
    assert loads.shares({}, {}, 13.0) == {}


def test_only_links_with_a_rate_and_a_device_of_their_own_are_measured() -> None:
    links = [link("a", "wan1", "8kbit"), link("b", "wan2"), link("c", "wan3", "1mbit"), link("d", "wan3", "1mbit")]
    assert rated(links) == LINE
