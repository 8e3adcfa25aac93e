# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Rules that can never match are found, and none that can."""

from __future__ import annotations

from typing import Any

import pytest
from _mwan.covered import covered, covers
from _mwan.rules import Rule
from hypothesis import given
from hypothesis import strategies as st


def rule(name: str, **matches: Any) -> Rule:
    return Rule.parse("rule", {"name": name, "link": "isp_a", **matches})


WEB = {"protocol": "tcp", "destination_port": "80,443"}
PAIRS: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({}, {"source": "192.168.0.0/24"}, True),
    ({"source": "192.168.0.0/24"}, {}, False),
    ({"source": "192.168.0.0/24"}, {"source": ["192.168.0.4", "192.168.0.64/26"], **WEB}, True),
    ({"source": "192.168.0.0/24"}, {"source": ["192.168.0.4", "192.168.1.4"]}, False),
    ({"destination": "7.0.0.0/8"}, {"destination": "7.7.7.7", "source": "10.0.0.1"}, True),
    ({"source": "@office"}, {"source": "@office", "dscp": "ef"}, True),
    ({"source": "@office"}, {"source": "192.168.0.4"}, False),
    ({"protocol": "tcp"}, WEB, True),
    ({"protocol": "udp"}, WEB, False),
    ({"protocol": "tcp", "destination_port": "1-1023"}, WEB, True),
    ({"protocol": "tcp", "destination_port": "80"}, WEB, False),
    ({"mark": "0x10000/0x10000"}, {"mark": "0x30000/0xf0000"}, True),
    ({"mark": "0x10000/0xf0000"}, {"mark": "0x10000/0x10000"}, False),
    ({"device": "lo"}, {"user": "proxy"}, True),
    ({"device": "lo"}, {"source": "192.168.0.4"}, False),
    ({"device": "lan0"}, {"source": "192.168.0.4"}, False),
    ({"device": "lan0"}, {"device": "lan0", "mac": "52:54:00:12:34:56"}, True),
    ({"user": "proxy"}, {"device": "lo"}, False),
    ({"time": {"days": "mon"}}, {"time": {"days": "mon"}, "user": "proxy"}, True),
    ({"time": {"days": "mon"}}, {"source": "192.168.0.4"}, False),
]


@pytest.mark.parametrize(("first", "second", "never"), PAIRS)
def test_a_rule_that_an_earlier_one_covers(first: dict[str, Any], second: dict[str, Any], never: bool) -> None:
    one, two = rule("one", **first), rule("two", **second)
    assert list(covered([one, two])) == ([(two, one)] if never else [])


NETWORKS = st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.1.1.1", "10.2.0.0/16"])
SOME = st.lists(NETWORKS, max_size=2)
MATCHES = st.fixed_dictionaries(
    {},
    optional={
        "source": SOME,
        "destination": SOME,
        "protocol": st.sampled_from(["tcp", "udp"]),
        "device": st.sampled_from(["lo", "lan0"]),
    },
)


@given(st.lists(MATCHES, max_size=8))
def test_the_index_leaves_no_earlier_rule_out(listed: list[dict[str, Any]]) -> None:
    rules = [rule(f"r{index}", **matches) for index, matches in enumerate(listed)]
    plain = {later.name for at, later in enumerate(rules) if any(covers(earlier, later) for earlier in rules[:at])}
    assert {later.name for later, _earlier in covered(rules)} == plain
