# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What the kernel says of connections, in bytes as it sends them."""

from __future__ import annotations

import socket
import struct

import pytest
from _mwan import nfnetlink as nf
from _mwan.balance.census import ENDED, NEW, UPDATE, Tracked
from _mwan.balance.flows import of_packet
from _mwan.balance.tracking import NLM_F_CREATE, decoded

SOURCE, DESTINATION = (socket.inet_aton(address) for address in ("192.168.101.1", "7.7.7.7"))
SYN_SENT, ESTABLISHED, FIN_WAIT, TIME_WAIT = 1, 3, 4, 7


def tuple_of(protocol: int, *rest: tuple[int, bytes]) -> bytes:
    addresses = nf.attribute(nf.CTA_IP_V4_SRC, SOURCE) + nf.attribute(nf.CTA_IP_V4_DST, DESTINATION)
    number = nf.attribute(nf.CTA_PROTO_NUM, bytes([protocol]))
    parts = number + b"".join(nf.attribute(kind, content) for kind, content in rest)
    return nf.nest(nf.CTA_TUPLE_ORIG, nf.nest(nf.CTA_TUPLE_IP, addresses) + nf.nest(nf.CTA_TUPLE_PROTO, parts))


PORTS = (nf.CTA_PROTO_SRC_PORT, struct.pack("!H", 1000)), (nf.CTA_PROTO_DST_PORT, struct.pack("!H", 80))
TCP, UDP = tuple_of(6, *PORTS), tuple_of(17, *PORTS)

# of nf_ct_get_id: two connections may share it
SHARED = 77


def event(
    kind: int, flags: int, which: bytes, mark: int | None = 0x100, state: int | None = None, number: int = SHARED
) -> bytes:
    body = which + nf.attribute(nf.CTA_ID, nf.NUMBER.pack(number))
    if state is not None:
        told = nf.nest(nf.CTA_PROTOINFO_TCP, nf.attribute(nf.CTA_PROTOINFO_TCP_STATE, bytes([state])))
        body += nf.nest(nf.CTA_PROTOINFO, told)
    body += nf.attribute(nf.CTA_MARK, nf.NUMBER.pack(mark)) if mark is not None else b""
    return nf.message(kind, flags, body, socket.AF_INET)


def ident(which: bytes, number: int = SHARED) -> int:
    (found,) = decoded(event(nf.CT_NEW, NLM_F_CREATE, which, number=number))
    return found.ident


def test_connections_that_share_the_kernels_id_or_follow_each_other_are_two() -> None:
    assert len({ident(TCP), ident(UDP), ident(TCP, 78)}) == 3


@pytest.mark.parametrize("state", [SYN_SENT, ESTABLISHED])
def test_tcp_that_is_open(state: int) -> None:
    (found,) = decoded(event(nf.CT_NEW, NLM_F_CREATE, TCP, state=state))
    assert (found.what, found.mark, found.open) == (NEW, 0x100, True)


@pytest.mark.parametrize("state", [FIN_WAIT, TIME_WAIT])
def test_tcp_that_is_closing(state: int) -> None:
    assert list(decoded(event(nf.CT_NEW, 0, TCP, state=state))) == [Tracked(UPDATE, ident(TCP), 0x100, False)]


def test_tcp_whose_state_did_not_change_and_what_has_none() -> None:
    assert list(decoded(event(nf.CT_NEW, 0, TCP))) == [Tracked(UPDATE, ident(TCP), 0x100, None)]
    assert list(decoded(event(nf.CT_NEW, 0, UDP, mark=None))) == [Tracked(UPDATE, ident(UDP), None, True)]


def test_end_of_a_connection_and_messages_that_are_none() -> None:
    data = event(nf.CT_DELETE, 0, TCP) + event(nf.CT_NEW + 5, 0, TCP) + event(nf.CT_DELETE, 0, UDP)
    assert list(decoded(data)) == [Tracked(ENDED, ident(which), None, False) for which in (TCP, UDP)]


@pytest.mark.parametrize(("protocol", "which"), [(6, TCP), (17, UDP)])
def test_flow_is_called_as_its_first_packet_is(protocol: int, which: bytes) -> None:
    header = struct.pack("!BxHxxxxBBxx4s4s", 0x45, 40, 64, protocol, SOURCE, DESTINATION)
    (found,) = decoded(event(nf.CT_NEW, NLM_F_CREATE, which))
    assert found.flow == of_packet(header + struct.pack("!HH", 1000, 80))
    # with options in the header, the ports are further on
    header = b"\x46" + header[1:] + bytes(4)
    assert found.flow == of_packet(header + struct.pack("!HH", 1000, 80))


def test_ping_is_called_as_its_first_packet_is() -> None:
    (found,) = decoded(
        event(nf.CT_NEW, NLM_F_CREATE, tuple_of(1, (nf.CTA_PROTO_ICMP_ID, b"\1\2"), (5, b"\x08"), (6, b"\0")))
    )
    header = struct.pack("!BxHxxxxBBxx4s4s", 0x45, 40, 64, 1, SOURCE, DESTINATION)
    assert found.flow == of_packet(header + b"\x08\0\0\0\1\2\0\1")
