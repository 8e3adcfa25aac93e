# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of choices as few lookups: whatever the list, a packet finds the choice that asking one by one would find."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from _mwan.firewall.blocks import LARGEST, MOST, Block, compiled, first_wins, network_span
from _mwan.firewall.choices import Choice, Condition, NetworkSet
from hypothesis import given, settings
from hypothesis import strategies as st

OFFICE = NetworkSet("office", ("10.0.0.2/31", "10.0.0.8/32"))
LONG = NetworkSet("long", tuple(f"10.0.{number}.{number % 16}/32" for number in range(MOST + 1)))
EMPTY = NetworkSet("empty")
OTHERS = NetworkSet("others", external=True)
SETS = (OFFICE, LONG, EMPTY, OTHERS)
IN_OTHERS = {network_span("10.0.0.5/32")[0]}


@dataclass(frozen=True)
class Packet:
    sources: int
    destinations: int
    source_ports: int = 1
    destination_ports: int = 1
    protocol: int = 6
    device: str = "lan0"
    mac: str = "02:00:00:00:00:01"
    dscp: int = 0
    mark: int = 0
    user: int = 0


def test_networks_are_spans() -> None:
    assert network_span("10.1.0.0/16") == (0x0A010000, 0x0A01FFFF)
    assert network_span("0.0.0.0/0") == (0, 0xFFFFFFFF)
    assert network_span("7.7.7.7") == network_span("7.7.7.7/32") == (0x07070707, 0x07070707)


def inside(address: int, networks: Iterable[str]) -> bool:
    return any(low <= address <= high for low, high in map(network_span, networks))


def in_set(address: int, name: str) -> bool:
    item = next(item for item in SETS if item.name == name)
    return address in IN_OTHERS if item.external else inside(address, item.networks)


def holds(condition: Condition, packet: Packet) -> bool:
    """The definition: all that is asked for."""
    asked = [
        inside(getattr(packet, key), getattr(condition, key))
        for key in ("sources", "destinations")
        if getattr(condition, key)
    ]
    asked += [in_set(packet.sources, condition.source_set)] if condition.source_set else []
    asked += [in_set(packet.destinations, condition.destination_set)] if condition.destination_set else []
    asked += [
        any(low <= getattr(packet, key) <= high for low, high in getattr(condition, key))
        for key in ("source_ports", "destination_ports")
        if getattr(condition, key)
    ]
    asked += [
        getattr(condition, key) in (None, getattr(packet, key)) for key in ("protocol", "device", "mac", "dscp", "user")
    ]
    asked += [packet.mark & condition.mark[1] == condition.mark[0]] if condition.mark else []
    return all(asked)


def one_by_one(choices: tuple[Choice, ...], packet: Packet) -> int | None:
    return next((number for number, choice in enumerate(choices) if holds(choice.condition, packet)), None)


def looked_up(blocks: Iterable[Block], packet: Packet) -> int | None:
    """What the kernel would find; it refuses elements of one lookup that overlap."""
    for block in blocks:
        found = [
            position
            for box, position in block.elements
            if all(low <= getattr(packet, key) <= high for key, (low, high) in zip(block.keys, box, strict=True))
        ]
        assert len(found) <= 1, block
        if found and holds(block.gate, packet):
            return found[0]
    return None


addresses = st.integers(0, 15).map(lambda number: 0x0A000000 + number)
lengths = st.integers(28, 32)
networks = st.builds(
    lambda address, length: f"10.0.0.{address & 15 & ~((1 << 32 - length) - 1)}/{length}", addresses, lengths
)
ports = st.integers(1, 12)
ranges = st.tuples(ports, st.integers(0, 4)).map(lambda item: (item[0], item[0] + item[1]))
lists = st.lists(networks, min_size=1, max_size=2, unique=True).map(tuple)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "sources": lists,
    "source_set": st.sampled_from([item.name for item in SETS]),
    "destinations": lists,
    "destination_set": st.sampled_from([item.name for item in SETS]),
    "source_ports": ranges.map(lambda item: (item,)),
    "destination_ports": ranges.map(lambda item: (item,)),
    "protocol": st.sampled_from([6, 17]),
    "device": st.sampled_from(["lan0", "lan1"]),
    "mac": st.sampled_from(["02:00:00:00:00:01", "02:00:00:00:00:02"]),
    "dscp": st.sampled_from([0, 46]),
    "user": st.sampled_from([0, 13]),
    "mark": st.sampled_from([(0x10000, 0xFF0000), (0, 0xFF0000)]),
}
# few shapes, so that there are runs of each
SHAPES = [
    (),
    ("sources",),
    ("source_set",),
    ("source_set", "destinations"),
    ("sources", "destinations"),
    ("sources", "destinations", "protocol", "destination_ports"),
    ("protocol", "destination_ports"),
    ("protocol", "source_ports", "destination_ports", "dscp"),
    ("device", "mac"),
    ("dscp",),
    ("mark", "sources"),
    ("user", "destination_set"),
]
packets = st.builds(
    Packet,
    addresses,
    addresses,
    st.integers(1, 16),
    st.integers(1, 16),
    *(FIELDS[key] for key in ("protocol", "device", "mac", "dscp")),
    st.sampled_from([0, 0x10000, 0x20000]),
    FIELDS["user"],
)


@st.composite
def choices(draw: st.DrawFn) -> tuple[Choice, ...]:
    shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3))
    listed = []
    for shape in shapes:
        for _unused in range(draw(st.integers(1, 12))):
            condition = Condition(**{key: draw(FIELDS[key]) for key in shape})
            listed.append(Choice(f"rule{len(listed)}", condition))
    return tuple(listed)


@settings(max_examples=100, deadline=None)
@given(choices(), st.lists(packets, min_size=20, max_size=20))
def test_a_packet_finds_what_it_would_find_one_by_one(listed: tuple[Choice, ...], sent: list[Packet]) -> None:
    blocks = compiled(listed, SETS)
    assert len(blocks) <= len(listed)
    for packet in sent:
        assert looked_up(blocks, packet) == one_by_one(listed, packet), packet


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10), st.integers(0, 9)), max_size=12))
def test_along_one_line_the_first_wins(drawn: list[tuple[int, int, int]]) -> None:
    spans = [(low, low + more, position) for low, more, position in drawn]
    found = first_wins(spans)
    for point in range(45):
        over = [position for low, high, position in spans if low <= point <= high]
        assert [position for low, high, position in found if low <= point <= high] == sorted(over)[:1]
    assert all(before[1] + 1 < after[0] or before[2] != after[2] for before, after in pairwise(found))


def thousand(**fields: Any) -> tuple[Choice, ...]:
    """A thousand choices; what is a function here is called with the number of each."""
    return tuple(
        Choice(f"rule{n}", Condition(**{key: item(n) if callable(item) else item for key, item in fields.items()}))
        for n in range(1000)
    )


def net(number: int) -> tuple[str, ...]:
    return (f"10.{number >> 8}.{number & 255}.0/24",)


def port(number: int) -> tuple[tuple[int, int], ...]:
    return ((number, number),)


@pytest.mark.parametrize(
    "listed",
    [
        thousand(sources=net),
        thousand(sources=lambda n: net(n // 2) if n % 2 else (f"10.{n >> 9}.{n >> 1 & 255}.7/32",)),
        thousand(protocol=17, destination_ports=port),
        thousand(sources=net, protocol=6, destination_ports=((80, 443),)),
        thousand(sources=net, destinations=lambda n: net(999 - n), protocol=6, destination_ports=port),
        thousand(sources=("10.0.0.0/8",), protocol=6, destination_ports=lambda n: ((n, n + 500),)),
        thousand(device="lan0", source_set="long", destinations=net),
        thousand(dscp=46, destinations=net),
        thousand(dscp=lambda n: n % 64),
        thousand(user=lambda n: n, destinations=("7.7.7.0/24",)),
    ],
    ids=lambda listed: "+".join(key for key, item in vars(listed[0].condition).items() if item not in (None, ())),
)
def test_a_thousand_of_one_shape_are_one_lookup(listed: tuple[Choice, ...]) -> None:
    compiled.cache_clear()
    began = time.process_time()
    (block,) = compiled(listed, SETS)
    assert time.process_time() - began < 2, "a tenth of it will do"
    assert block.keys
    assert len(block.elements) <= LARGEST


def test_what_all_have_in_common_is_asked_before_the_lookup() -> None:
    (block,) = compiled(thousand(device="lan0", sources=net, protocol=6, destination_ports=((80, 443),)), ())
    assert block.keys == ("sources",)
    assert block.gate == Condition(device="lan0", protocol=6, destination_ports=((80, 443),))


def test_shapes_that_take_turns_are_a_lookup_each_time() -> None:
    by_source = Condition(sources=("10.0.0.1/32",))
    by_port = Condition(protocol=6, destination_ports=((80, 80),))
    listed = tuple(Choice(f"rule{number}", (by_source, by_port)[number // 10 % 2]) for number in range(40))
    assert len(compiled(listed, ())) == 4


def test_pieces_end_a_lookup_before_they_are_too_many() -> None:
    """One for everybody that is cut by all the narrow ones before it."""
    narrow = thousand(sources=net, protocol=6, destination_ports=lambda n: ((n, n + 50),))[:100]
    wide = thousand(sources=("0.0.0.0/0",), protocol=6, destination_ports=((1, 65535),))[:1]
    after = thousand(sources=net, protocol=6, destination_ports=((1, 3),))[100:120]
    first, second = compiled((*narrow, *wide, *after), ())
    assert (len(first.elements), [position for _box, position in second.elements]) == (100, [100])


def test_what_cannot_be_asked_is_left_out() -> None:
    listed = (
        Choice("none", Condition(source_set="empty")),
        Choice("all", Condition()),
        Choice("late", Condition(protocol=6)),
    )
    assert [block.elements for block in compiled(listed, SETS)] == [(((), 1),)]


def test_one_choice_is_asked_as_it_is() -> None:
    condition = Condition(source_set="office", protocol=6, destination_ports=((80, 80), (443, 443)))
    (block,) = compiled((Choice("web", condition),), SETS)
    assert (block.keys, block.gate.sources, block.gate.destination_ports) == (
        *((), OFFICE.networks),
        condition.destination_ports,
    )
