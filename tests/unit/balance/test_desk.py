# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The file that tells the helper what to do, and what it makes of a packet."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

import pytest
from _mwan.balance.census import ENDED, NEW, Tracked
from _mwan.balance.desk import Desk, Packet
from _mwan.balance.flows import of_packet
from _mwan.balance.roster import Queue, Roster, parse

QUEUE = 7710
FOREIGN = 0x80004001
POLICY = 0x500


def entry(**fields: Any) -> dict[str, Any]:
    links = [{"name": "isp_a", "mark": "0x100", "weight": 3}, {"name": "isp_b", "mark": "0x200", "weight": 1}]
    return {"queue": QUEUE, "policy": "balanced", "links": links, **fields}


def text(*queues: dict[str, Any], **fields: Any) -> str:
    return json.dumps({"schema": 1, "mask": "0x3f00", "queues": list(queues), **fields})


def packet(port: int = 1000, queue: int = QUEUE, protocol: int = 6) -> Packet:
    header = struct.pack("!BxHxxxxBBxx4s4s", 0x45, 40, 64, protocol, bytes([10, 0, 0, 1]), bytes([7, 7, 7, 7]))
    return Packet(queue, 1, FOREIGN | POLICY, header + struct.pack("!HH", port, 80) + bytes(16))


def desk(given: str | None = None) -> Desk:
    found = Desk()
    found.follow(parse(given or text(entry())))
    return found


def test_without_a_file_there_is_nothing_to_balance() -> None:
    assert parse(None) == Roster()
    assert parse(text()) == Roster(0x3F00, {})


def test_file_is_read() -> None:
    found = parse(text(entry(), entry(queue=7711, policy="other", links=[])))
    assert found.mask == 0x3F00
    assert [(link.name, link.mark, link.weight) for link in found.queues[QUEUE].links] == [
        ("isp_a", 0x100, 3),
        ("isp_b", 0x200, 1),
    ]
    assert found.queues[7711] == Queue("other", ())


BAD = {
    "no JSON": "{",
    "a list": "[]",
    "another schema": text(schema=2),
    "no mask": json.dumps({"schema": 1, "queues": []}),
    "a number for a mask": text(mask=0x3F00),
    "a queue that cannot be": text(entry(queue=65536)),
    "no policy": text({"queue": 1, "links": []}),
    "a mark beside the mask": text(entry(links=[{"name": "a", "mark": "0x4100", "weight": 1}])),
    "no mark": text(entry(links=[{"name": "a", "mark": "0x0", "weight": 1}])),
    "no weight": text(entry(links=[{"name": "a", "mark": "0x100", "weight": 0}])),
    "a link that is none": text(entry(links=["a"])),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_what_is_not_such_a_file_is_refused(bad: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (json's is one)
        parse(bad)


def test_packets_are_spread_and_keep_the_bits_of_others() -> None:
    found = desk()
    marks = [found.mark(packet(port), 0.0) for port in range(1000, 1040)]
    assert {mark & ~0x3F00 for mark in marks if mark} == {FOREIGN}
    assert [marks.count(FOREIGN | mark) for mark in (0x100, 0x200)] == [30, 10]
    assert found.report(0.0)["balanced"]["links"]["isp_a"] == {"connections": 30, "chosen": 30}
    assert found.report(2.0)["balanced"]["links"]["isp_a"] == {"connections": 0, "chosen": 30}


def test_packets_of_one_flow_take_one_link() -> None:
    found = desk(text(entry(links=[{"name": n, "mark": m, "weight": 1} for n, m in (("a", "0x100"), ("b", "0x200"))])))
    marks = [found.mark(packet(1000, protocol=17), 0.0) for _unused in range(5)]
    assert len(set(marks)) == 1
    assert found.mark(packet(1001, protocol=17), 0.0) not in marks


def test_open_connections_count_whichever_policy_placed_them() -> None:
    found = desk()
    for ident in range(30):
        found.census.tell(Tracked(NEW, ident, 0x100, True))
    assert [found.mark(packet(port), 0.0) for port in range(10)] == [FOREIGN | 0x200] * 10
    for ident in range(30):
        found.census.tell(Tracked(ENDED, ident, None, False))
    assert found.mark(packet(2000), 0.0) == FOREIGN | 0x100


def test_link_that_does_not_serve_any_more_is_not_chosen_nor_kept() -> None:
    found = desk(text(entry(links=[{"name": "isp_a", "mark": "0x100", "weight": 1}])))
    assert found.mark(packet(), 0.0) == FOREIGN | 0x100
    assert not found.follow(parse(text(entry(links=[{"name": "isp_b", "mark": "0x200", "weight": 1}]))))
    assert found.mark(packet(), 0.1) == FOREIGN | 0x200


def test_link_that_is_shunned_is_chosen_only_where_there_is_no_other() -> None:
    found = desk()
    assert found.mark(packet(1), 0.0) == FOREIGN | 0x100
    found.shun(["isp_a"])
    assert {found.mark(packet(port), 0.0) for port in range(1, 5)} == {FOREIGN | 0x200}
    found.follow(parse(text(entry())))
    assert found.mark(packet(6), 0.0) == FOREIGN | 0x200
    found.shun(["isp_a", "isp_b"])
    assert found.mark(packet(7), 0.0) == FOREIGN | 0x100
    found.shun([])
    assert found.mark(packet(8), 0.0) == FOREIGN | 0x100


def test_without_links_or_for_another_queue_the_mark_stays() -> None:
    assert desk(text(entry(links=[]))).mark(packet(), 0.0) is None
    assert desk().mark(packet(queue=1), 0.0) is None


def test_another_mask_has_all_counted_anew() -> None:
    found = desk()
    found.mark(packet(), 0.0)
    assert found.follow(parse(text(mask="0xff00")))
    assert found.census.load == {}


def test_what_is_no_ipv4_packet_has_no_flow() -> None:
    assert of_packet(b"\x60" + bytes(60)) == b""
    assert of_packet(b"") == b""
    assert desk().mark(Packet(QUEUE, 1, 0, b""), 0.0) == 0x100


def test_flow_is_told_by_ports_or_the_identifier_of_a_ping() -> None:
    first, second = packet(protocol=socket.IPPROTO_ICMP), packet(protocol=socket.IPPROTO_ICMP)
    assert of_packet(first.payload) == of_packet(second.payload)
    assert of_packet(packet(1).payload) != of_packet(packet(2).payload)
    # without ports, such as ESP: what comes after the header changes with every packet
    assert of_packet(packet(1, protocol=50).payload) == of_packet(packet(2, protocol=50).payload)
