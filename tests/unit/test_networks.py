# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Networks as numbers agree with Python's own."""

from __future__ import annotations

import ipaddress

import pytest
from _mwan import networks, values
from _mwan.errors import InputError
from hypothesis import given
from hypothesis import strategies as st

NEARBY = st.builds(
    lambda number, length: str(ipaddress.IPv4Network((number, length), strict=False)),
    st.one_of(st.integers(0, 2**32 - 1), st.integers(2**24, 2**24 + 64), st.just(2**32 - 1)),
    st.integers(0, 32),
)


@given(st.lists(NEARBY, max_size=12))
def test_the_shortest_list_is_that_of_the_library(listed: list[str]) -> None:
    wanted = ipaddress.collapse_addresses(map(ipaddress.IPv4Network, listed))
    assert networks.collapsed(listed) == tuple(map(str, wanted))


@given(st.one_of(st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){2,4}(/[0-9]{1,2})?", fullmatch=True), NEARBY, st.text()))
def test_what_is_no_network_is_none(text: str) -> None:
    try:
        known = ipaddress.IPv4Network(text)
    except ValueError:
        assert networks.span(text) is None
    else:
        assert networks.span(text) in (None, (int(known.network_address), int(known.broadcast_address)))
        assert networks.span(str(known)) is not None


@pytest.mark.parametrize("text", ["1.2.3.4/24", "1.2.3", "01.2.3.4", "1.2.3.4/33", "300.1.1.1", "::1", "1.2.3.4\n"])
def test_errors_are_those_of_one_network(text: str) -> None:
    with pytest.raises(InputError, match="is not an IPv4 network"):
        values.networks("source", ["10.0.0.0/8", text])


def test_a_mask_written_out_is_taken_too() -> None:
    assert values.networks("source", ["10.0.0.0/255.0.0.0", "11.0.0.0/8"]) == ("10.0.0.0/7",)
