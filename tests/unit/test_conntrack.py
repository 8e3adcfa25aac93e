# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Which listed connections are forgotten on kernels that cannot delete by a filter, and how the others are asked."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest
from _mwan import conntrack as ct
from _mwan import nfnetlink as nf
from _mwan.kernel import OTHERS, UNANSWERED, Marked

MASK = 0x3F00


def entry(mark: int, protocol: int = 6, answered: bool = True, source: str = "5.5.5.5", to: str = "7.7.7.7") -> bytes:
    """A listed connection of a LAN host, translated to `source`."""

    def tuple_(kind: int, destination: str) -> bytes:
        address = nf.nest(nf.CTA_TUPLE_IP, nf.attribute(nf.CTA_IP_V4_DST, socket.inet_aton(destination)))
        number = nf.nest(nf.CTA_TUPLE_PROTO, nf.attribute(nf.CTA_PROTO_NUM, bytes([protocol])))
        return nf.nest(kind, address + number)

    attributes = (
        tuple_(nf.CTA_TUPLE_ORIG, to),
        tuple_(nf.CTA_TUPLE_REPLY, source),
        nf.attribute(nf.CTA_STATUS, nf.NUMBER.pack(8 | (ct.SEEN_REPLY if answered else 0))),
        nf.attribute(nf.CTA_MARK, nf.NUMBER.pack(mark)),
        nf.attribute(nf.CTA_ID, nf.NUMBER.pack(mark + protocol)),
    )
    return nf.message(0, 0, b"".join(attributes), ct.FAMILY, ct.VERSION)


ENTRIES = {
    "tcp": entry(0x100),
    "attempt": entry(0x100, answered=False),
    "udp": entry(0x100, 17),
    "esp": entry(0x100, 50, answered=False),
    "foreign bit": entry(0x80100, 17),
    "other link": entry(0x200, 17, answered=False),
    "inbound": entry(0x100, to="5.5.5.5", source="8.8.8.8"),
    "other address": entry(0x100, 17, source="5.5.5.6"),
    "inbound udp": entry(0x100, 17, to="5.5.5.5", source="8.8.8.8"),
    "no pin": entry(0x10000, 17),
}
ALL = {name for name in ENTRIES if name not in ("other link", "no pin")}
SELECTED = {
    Marked(0x100, MASK): ALL,
    Marked(0x100, MASK, OTHERS): {"udp", "esp", "foreign bit", "other address", "inbound udp"},
    Marked(0x100, MASK, OTHERS, spared=("5.5.5.5",)): {"udp", "esp", "foreign bit", "other address"},
    Marked(0x100, MASK, UNANSWERED): {"attempt"},
    Marked(0x100, MASK, address="5.5.5.5"): ALL - {"other address"},
    Marked(0x300, MASK): set(),
}


@pytest.mark.parametrize("which", SELECTED, ids=Marked.words)
def test_listed_connections_are_selected(which: Marked) -> None:
    assert {name for name, listed in ENTRIES.items() if ct.selected(which, nf.attributes(listed))} == SELECTED[which]


class OldKernel:
    """A channel to a kernel that knows no filters when it deletes."""

    def __init__(self, refusal: int) -> None:
        self.refusal = refusal
        self.deleted: list[dict[int, bytes]] = []

    def request(self, _kind: int, _flags: int, message: bytes) -> None:
        if nf.CTA_FILTER in nf.attributes(message):
            raise OSError(self.refusal, "refused")

    def dump(self, _kind: int, _message: bytes) -> list[bytes]:
        return list(ENTRIES.values())

    def requests(self, _kind: int, messages: list[bytes], _passed_over: Any) -> None:
        self.deleted += map(nf.attributes, messages)


def with_channel(channel: OldKernel) -> ct.Conntrack:
    conntrack = ct.Conntrack.__new__(ct.Conntrack)
    conntrack._channel = channel  # type: ignore[assignment]
    return conntrack


@pytest.mark.parametrize("refusal", [errno.EOPNOTSUPP, errno.EINVAL])
def test_without_filters_they_are_deleted_one_by_one(refusal: int) -> None:
    channel = OldKernel(refusal)
    with_channel(channel).forget(Marked(0x100, MASK, OTHERS))
    ids = [nf.NUMBER.unpack(deleted[nf.CTA_ID])[0] for deleted in channel.deleted]
    assert ids == [0x100 + 17, 0x100 + 50, 0x80100 + 17, 0x100 + 17, 0x100 + 17]
    assert all(set(deleted) == {nf.CTA_TUPLE_ORIG, nf.CTA_ID} for deleted in channel.deleted)


def test_whole_mark_needs_no_filter() -> None:
    channel = OldKernel(errno.EOPNOTSUPP)
    with_channel(channel).forget(Marked(0x100, MASK))
    assert channel.deleted == []


def test_other_errors_are_raised() -> None:
    with pytest.raises(OSError, match="refused"):
        with_channel(OldKernel(errno.EPERM)).forget(Marked(0x100, MASK, OTHERS))


def test_no_part_is_asked_for_without_a_filter() -> None:
    """A kernel that does not know a status would delete all of the mark."""
    for which in (Marked(0x100, MASK, OTHERS), Marked(0x100, MASK, UNANSWERED), Marked(0x100, MASK, address="5.5.5.5")):
        for selection in ct.selections(which):
            found = nf.attributes(ct._message(selection))
            assert found[nf.CTA_MARK] == nf.NUMBER.pack(0x100)
            assert nf.CTA_FILTER in found
