# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sets of addresses for legacy x_tables: ipsets, made over netlink, as the ipset program may not be there.

Names and numbers are those of linux/netfilter/ipset/ip_set.h. Everything named mwan_* is ours, but for the content of
sets that others fill. Ours are told by a flag of no effect on them (forceadd acts on full sets only, and network sets
are made large enough; of a full sticky set it gives up some client, rather than refuse a new one).
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import struct
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress

from .. import rtnl
from ..errors import KernelError
from ..nfnetlink import ATTRIBUTE, NETLINK_NETFILTER, NUMBER, attribute, attributes, message, nest, parsed
from .iptables_sets import NETWORKS, PAIRS, PREFIX, SOURCES, Ipset

IPSET = 6
PROTOCOL = 6
CREATE, DESTROY, SWAP, LIST, ADD = (IPSET << 8 | number for number in (2, 3, 6, 7, 9))
ATTR_PROTOCOL, ATTR_SETNAME, ATTR_TYPENAME, ATTR_REVISION, ATTR_FAMILY, ATTR_FLAGS = 1, 2, 3, 4, 5, 6
ATTR_SETNAME2 = ATTR_TYPENAME
ATTR_DATA, ATTR_ADT, ATTR_LINENO = 7, 8, 9
# of a set or an element
ATTR_IP, ATTR_CIDR, ATTR_TIMEOUT, ATTR_CADT_FLAGS, ATTR_HASHSIZE, ATTR_MAXELEM = 1, 3, 6, 8, 18, 19
IPADDR_IPV4 = 1
NLA_F_NET_BYTEORDER = 0x4000
LIST_SETNAME, LIST_HEADER = 1 << 1, 1 << 2
WITH_FORCEADD = 1 << 5

# the first revision of each type that knows WITH_FORCEADD, in Linux 3.14
REVISIONS = {SOURCES: 3, NETWORKS: 5, PAIRS: 1}
MODULES = {SOURCES: "ip_set_hash_ip", NETWORKS: "ip_set_hash_net", PAIRS: "ip_set_hash_netnet"}
# The kernel's default is 65536. An element of hash:ip with a timeout takes 16 octets, and no room before it is there.
MOST = 1 << 20
# Buckets of 12 elements at most (AHASH_MAX_SIZE). The kernel makes more of them when user space adds to a full one, but
# not for a packet, whose client is left out: of the usual 1024, some are full before there are 5000 clients.
BUCKETS = 1 << 14
BATCH = 1000  # elements in one message, of 24 octets each; an attribute ends at 64 KiB

# what the kernel says of messages that no module is there for
_NO_IPSETS = errno.EINVAL, errno.EOPNOTSUPP
_REASONS = {
    **dict.fromkeys(_NO_IPSETS, "the kernel has no ipsets; load the module ip_set, or use nftables"),
    4098: "the kernel has no sets of this type; load the module {module}, or use nftables",
    4099: "the kernel has no room for more sets (max_sets of the module ip_set)",
    4100: "rules of others refer to it; remove these",
    4102: "it is there, and of another type; destroy it",
}


# no name of ours contains a slash
TEMPORARY = PREFIX + "/new"


class Ipsets:
    """The sets of this network namespace; takes CAP_NET_ADMIN in it. Raises KernelError."""

    def listing(self) -> str:
        """The sets of ours, and a digest of the content that we gave them.

        None has what packets or others have put in. Sets that rules refer to cannot be destroyed, so those of others
        need not be here.
        """
        with _channel() as channel:
            ours = [name for name in _names(channel) if _is_ours(channel, name)]
            return "".join("ipset " + _line(name, *_content(channel, name)) for name in ours)

    def load(self, sets: Iterable[Ipset]) -> None:
        """Make them, and give those of networks their content, each in one step. What else there is stays."""
        with _channel() as channel:
            present = set(_names(channel))
            for item in sets:
                _load(channel, item, item.name in present)

    def discard(self, wanted: Collection[str] = ()) -> None:
        """Destroy what is ours but not `wanted`, and what others were to fill and have not; no rule may refer to it."""
        with _channel() as channel:
            for name in _names(channel):
                if name in wanted:
                    continue
                if _is_ours(channel, name):
                    _request(channel, "destroy", DESTROY, name)
                elif not _content(channel, name)[1]:
                    with suppress(KernelError):  # rules of others refer to it
                        _request(channel, "destroy", DESTROY, name)


def _load(channel: rtnl.Channel, item: Ipset, present: bool) -> None:
    if not present:
        _create(channel, item.name, item)
    elif not item.ours and _is_ours(channel, item.name):
        _exchange(channel, item)
    if item.networks is not None and (not present or _differs(channel, item)):
        _exchange(channel, item)


def _differs(channel: rtnl.Channel, item: Ipset) -> bool:
    return not _is_ours(channel, item.name) or set(_content(channel, item.name)[1]) != set(_elements(item))


def _exchange(channel: rtnl.Channel, item: Ipset) -> None:
    with suppress(FileNotFoundError):
        _request(channel, "destroy", DESTROY, TEMPORARY)
    _create(channel, TEMPORARY, item)
    elements = _elements(item)
    for start in range(0, len(elements), BATCH):
        some = b"".join(elements[start : start + BATCH])
        lines = attribute(ATTR_LINENO, NUMBER.pack(0))
        _request(channel, "fill", ADD, TEMPORARY, lines + nest(ATTR_ADT, some), item.name)
    _request(channel, "swap", SWAP, TEMPORARY, attribute(ATTR_SETNAME2, item.name.encode() + b"\0"), item.name)
    _request(channel, "destroy", DESTROY, TEMPORARY)


def _create(channel: rtnl.Channel, name: str, item: Ipset) -> None:
    """Sets for timeouts have none by default: each element is added with its own."""
    data = _number(ATTR_MAXELEM, max(MOST, len(item.networks or ())))
    data += _number(ATTR_CADT_FLAGS, WITH_FORCEADD) if item.ours else b""
    data += _number(ATTR_TIMEOUT, 0) if item.networks is None else b""
    data += _number(ATTR_HASHSIZE, BUCKETS) if item.sticky else b""
    content = (
        attribute(ATTR_TYPENAME, item.kind.encode() + b"\0")
        + attribute(ATTR_REVISION, bytes([REVISIONS[item.kind]]))
        + attribute(ATTR_FAMILY, bytes([socket.AF_INET]))
        + nest(ATTR_DATA, data)
    )
    _request(channel, f"create {item.kind}", CREATE, name, content, item.name, MODULES[item.kind])


def _number(kind: int, number: int) -> bytes:
    return attribute(kind | NLA_F_NET_BYTEORDER, NUMBER.pack(number))


# an element of hash:net, as the kernel lists it, too: its address and, in an octet, the length of its prefix
_ELEMENT = struct.Struct("=HHHHHH4sHHB3x")
_PLACE = (
    *(_ELEMENT.size, ATTR_DATA | 0x8000, 12, ATTR_IP | 0x8000),
    *(8, IPADDR_IPV4 | NLA_F_NET_BYTEORDER),
)


def _elements(item: Ipset) -> list[bytes]:
    return [_element(*half) for network in item.networks or () for half in _halves(network)]


def _halves(network: str) -> Iterator[tuple[str, int]]:
    """The kernel takes no prefix of length 0."""
    address, _slash, length = network.partition("/")
    if length == "0":
        yield from (("0.0.0.0", 1), ("128.0.0.0", 1))
    else:
        yield address, int(length or 32)


def _element(address: str, length: int) -> bytes:
    return _ELEMENT.pack(*_PLACE, socket.inet_aton(address), 5, ATTR_CIDR, length)


def _names(channel: rtnl.Channel) -> list[str]:
    """All of ours and of our kind; none where the kernel has no ipsets at all."""
    try:
        listed = _list(channel, _number(ATTR_FLAGS, LIST_SETNAME))
    except OSError as exc:
        if exc.errno in _NO_IPSETS:
            return []
        raise
    names = {_text(attributes(found)[ATTR_SETNAME]) for found in listed}
    return sorted(name for name in names if name.startswith(PREFIX))


def _is_ours(channel: rtnl.Channel, name: str) -> bool:
    header = _header(_named(channel, name, LIST_HEADER))
    return bool(_read(header, ATTR_CADT_FLAGS) & WITH_FORCEADD)


def _content(channel: rtnl.Channel, name: str) -> tuple[str, list[bytes]]:
    """Type, and the elements of a set; none for one whose elements come and go by themselves."""
    listed = _named(channel, name, LIST_HEADER)
    kind = _text(attributes(listed[0])[ATTR_TYPENAME])
    if ATTR_TIMEOUT | NLA_F_NET_BYTEORDER in _header(listed) and _is_ours(channel, name):
        return kind, []
    parts = (attributes(found).get(ATTR_ADT, b"") for found in _named(channel, name))
    return kind, [element for part in parts for element in _split(part)]


def _header(listed: list[bytes]) -> dict[int, bytes]:
    return parsed(attributes(listed[0])[ATTR_DATA])


def _read(header: dict[int, bytes], kind: int) -> int:
    return int(NUMBER.unpack(header.get(kind | NLA_F_NET_BYTEORDER, bytes(4)))[0])


def _split(data: bytes) -> Iterator[bytes]:
    offset, end = 0, len(data)
    while offset < end:
        step = ATTRIBUTE.unpack_from(data, offset)[0] + 3 & ~3
        yield data[offset : offset + step]
        offset += step


def _line(name: str, kind: str, elements: list[bytes]) -> str:
    digest = hashlib.sha256(b"".join(sorted(elements))).hexdigest()[:16] if elements else ""
    return f"{name} {kind} {len(elements)} {digest}".rstrip() + "\n"


def _named(channel: rtnl.Channel, name: str, flags: int = 0) -> list[bytes]:
    return _list(channel, _set_name(name) + _number(ATTR_FLAGS, flags))


def _list(channel: rtnl.Channel, content: bytes) -> list[bytes]:
    return channel.dump(LIST, _message(content))


def _message(content: bytes) -> bytes:
    return message(0, 0, attribute(ATTR_PROTOCOL, bytes([PROTOCOL])) + content, socket.AF_INET)


def _set_name(name: str) -> bytes:
    return attribute(ATTR_SETNAME, name.encode() + b"\0")


def _text(value: bytes) -> str:
    return value.partition(b"\0")[0].decode("ascii", "backslashreplace")


def _request(
    channel: rtnl.Channel, deed: str, kind: int, name: str, content: bytes = b"", subject: str = "", module: str = ""
) -> None:
    try:
        channel.request(kind, 0, _message(_set_name(name) + content))
    except FileNotFoundError:
        raise
    except OSError as exc:
        code = exc.errno or 0
        known = _REASONS.get(code, "").format(module=module)
        raise KernelError(f"ipset {deed}", subject or name, known or os.strerror(code)) from exc


@contextmanager
def _channel() -> Iterator[rtnl.Channel]:
    channel = rtnl.Channel(NETLINK_NETFILTER)
    try:
        yield channel
    except OSError as exc:
        raise KernelError("ipset list", "our sets", os.strerror(exc.errno or 0)) from exc
    finally:
        channel.close()
