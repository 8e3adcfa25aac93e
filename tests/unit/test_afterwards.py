# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left of a router's ways when ours are gone, and whose session it is that takes them away."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from _mwan.afterwards import UNICAST, Entry, Session, Way, leading, session_of

WAN1, WAN2, LAN = (2, b"a"), (3, b"b"), (4, b"")
UNREACHABLE = 7  # RTN_UNREACHABLE
SSH = b"LANG=C\0SSH_CONNECTION=198.51.100.7 50000 5.5.5.5 22\0TERM=dumb\0"


def entry(network: str, *ways: Way, metric: int = 0, kind: int = UNICAST) -> Entry:
    return Entry(IPv4Network(network), metric, kind, frozenset(ways))


DEFAULT = entry("0.0.0.0/0", WAN1)


@pytest.mark.parametrize(
    ("table", "ways"),
    [
        ([], set()),
        ([DEFAULT], {WAN1}),
        ([DEFAULT, entry("10.0.0.0/8", LAN)], {LAN}),
        ([entry("10.0.0.0/8", LAN), entry("192.168.0.0/16", LAN)], {LAN}),
        ([entry("192.168.0.0/16", LAN)], set()),
        ([entry("0.0.0.0/0", WAN1, metric=200), entry("0.0.0.0/0", WAN2, metric=100)], {WAN2}),
        ([entry("0.0.0.0/0"), entry("0.0.0.0/0", WAN2, metric=100)], {WAN2}),
        ([entry("0.0.0.0/0", WAN1, WAN2)], {WAN1, WAN2}),
        ([DEFAULT, entry("10.0.0.0/8", kind=UNREACHABLE)], set()),
    ],
)
def test_longest_prefix_lowest_metric_and_what_is_alive(table: list[Entry], ways: set[Way]) -> None:
    assert leading(table, IPv4Address("10.1.2.3")) == ways


def processes(directory: Path, *environments: bytes) -> str:
    """Each is the parent of the one before, the first has number 100."""
    for number, environ in enumerate(environments, start=100):
        place = directory / str(number)
        place.mkdir()
        (place / "environ").write_bytes(environ)
        (place / "stat").write_text(f"{number} (a) S (b) S {number + 1} 1 1 0 -1")
    return str(directory)


def test_the_session_is_found_behind_sudo(tmp_path: Path) -> None:
    proc = processes(tmp_path, b"SUDO_UID=1000\0", b"", SSH, b"SSH_CONNECTION=203.0.113.1 1 6.6.6.6 22\0")
    assert session_of(100, proc) == Session(IPv4Address("198.51.100.7"), IPv4Address("5.5.5.5"))


@pytest.mark.parametrize("told", [b"", b"SSH_CONNECTION=\0", b"SSH_CONNECTION=2001:db8::7 50000 2001:db8::1 22\0"])
def test_none_is_found_where_there_is_none_of_ipv4(tmp_path: Path, told: bytes) -> None:
    assert session_of(100, processes(tmp_path, b"HOME=/root\0", told)) is None
