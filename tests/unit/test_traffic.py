# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What is told of octets and connections, and how seldom connections are counted."""

from __future__ import annotations

import pytest
from _mwan.errors import KernelError
from _mwan.traffic import COST_SHARE, DEVICES, Connections, links_traffic, octets

# as Linux 6.18 prints it; a name of 15 characters leaves no space after its colon
LISTED = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    1120      12    0    0    0     0          0         0     1120      12    0    0    0     0       0          0
  wan1: 5000000000   42    1    2    0     0          0         3  7000000000  43    0    0    0     0       0          0
enx0123456789ab:18446744073709551615 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0
"""  # noqa: E501
LINKS = {"isp_a": ("wan1", 0x100), "isp_b": ("wan1", 0x200), "isp_c": ("gone0", 0x300)}


class Listing:
    def read(self, path: str) -> str | None:
        return LISTED if path == DEVICES else None

    def write(self, path: str, text: str | None, mode: int = 0o644) -> None:
        raise AssertionError(f"nothing is to be written: {path}, {text}, {mode}")


class Clock:
    """Counting takes `cost` seconds of it."""

    def __init__(self, cost: float = 0.0) -> None:
        self.now, self.cost, self.runs = 1000.0, cost, 0

    def __call__(self) -> float:
        return self.now

    def count(self, mask: int) -> dict[int, int]:
        self.now += self.cost
        self.runs += 1
        return {0x100 & mask: 7 * self.runs, 0x200 & mask: 1, 0: 99}

    def connections(self) -> Connections:
        return Connections(self.count, self, lambda: self.now + 1e9)


def test_octets_by_device() -> None:
    assert octets(Listing()) == {
        "lo": {"received": 1120, "sent": 1120},
        "wan1": {"received": 5000000000, "sent": 7000000000},
        "enx0123456789ab": {"received": 18446744073709551615, "sent": 9},
    }


def test_traffic_of_links() -> None:
    told = links_traffic(Listing(), Clock(0.5).connections(), LINKS, 0x3F00)
    assert told == {
        "devices": {"wan1": {"received": 5000000000, "sent": 7000000000}},
        "connections": {"isp_a": 7, "isp_b": 1, "isp_c": 0},
        "counted": 1000001000.5,
        "took": 0.5,
    }


def test_why_connections_are_not_counted() -> None:
    def refused(_mask: int) -> dict[int, int]:
        raise KernelError("conntrack -L", "all connections", "Operation not permitted (errno EPERM)")

    told = links_traffic(Listing(), Connections(refused), LINKS, 0x3F00)
    assert sorted(told) == ["devices", "error"]
    assert "EPERM" in told["error"]


def test_counting_takes_a_bounded_share_of_the_time() -> None:
    clock = Clock(cost=0.2)
    connections = clock.connections()
    began = clock.now
    for _unused in range(1000):
        connections.by_mark(0x3F00)
        clock.now += 1
    share = clock.runs * clock.cost / (clock.now - began)
    assert 0.5 / COST_SHARE < share <= 1.1 / COST_SHARE


def test_a_cheap_count_is_made_each_time() -> None:
    clock = Clock(cost=0.0001)
    connections = clock.connections()
    assert connections.by_mark(0x3F00)[0x100] == 7
    clock.now += 1
    assert connections.by_mark(0x3F00)[0x100] == 14


@pytest.mark.parametrize(("mask", "runs"), [(0x3F00, 1), (0xFF00, 2)])
def test_a_count_under_another_mask_is_none(mask: int, runs: int) -> None:
    clock = Clock(cost=1.0)
    connections = clock.connections()
    connections.by_mark(0x3F00)
    connections.by_mark(mask)
    assert clock.runs == runs
