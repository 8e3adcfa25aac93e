# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules of x_tables as the kernel holds them, as text to compare. Pure."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from typing import Any

# struct ipt_ip, linux/netfilter_ipv4/ip_tables.h: src, dst, smsk, dmsk, iniface, outiface, both masks, proto, flags,
# invflags; struct xt_entry_match and xt_entry_target: size of the whole, name, revision; then the data.
_IP = struct.Struct("=4s4s4s4s16s16s16s16sHBB")
_EXTENSION = struct.Struct("=H29sB")
_ENTRY_SIZE = 112
# struct xt_counters, at the end of struct ipt_entry
_COUNTERS = struct.Struct("=QQ")
_COUNTERS_OFFSET = _ENTRY_SIZE - _COUNTERS.size


def describe(raw: bytes, target_offset: int, target: str) -> str:
    """Return a rule as text that is different for any two different rules, counters aside.

    `raw` is its struct ipt_entry, `target` the name of the verdict, chain or extension that it leads to.
    """
    words = _describe_packet(raw)
    words += ["-m " + _describe_extension(match) for match in _matches(raw, target_offset)]
    words.append("-j " + _describe_target(raw[target_offset:], target))
    return " ".join(words)


def counted(raw: bytes, target_offset: int) -> tuple[str, int, int]:
    """The comment of a rule, '' for none, and the packets and octets that have met it."""
    texts = [match[_EXTENSION.size :] for match in _matches(raw, target_offset) if _extension_name(match) == "comment"]
    packets, octets = _COUNTERS.unpack_from(raw, _COUNTERS_OFFSET)
    return texts[0].partition(b"\0")[0].decode("ascii", "backslashreplace") if texts else "", packets, octets


def count(raw: Any, packets: int, octets: int) -> None:
    """Have a rule, in a buffer that can be written, begin with these counters."""
    _COUNTERS.pack_into(raw, _COUNTERS_OFFSET, packets, octets)


def _matches(raw: bytes, target_offset: int) -> Iterator[bytes]:
    offset = _ENTRY_SIZE
    while offset < target_offset:
        size = _EXTENSION.unpack_from(raw, offset)[0]
        yield raw[offset : offset + size]
        offset += size


def _describe_target(raw: bytes, target: str) -> str:
    """A verdict or a chain is told by its name alone: its data is a position, which moves with rules of others."""
    return _describe_extension(raw) if _extension_name(raw) else target


def _describe_packet(raw: bytes) -> list[str]:
    source, destination, source_mask, destination_mask, *devices, protocol, flags, inverted = _IP.unpack_from(raw)
    in_device, out_device, in_mask, out_mask = devices
    numbers = (("-p", protocol), ("--flags", flags), ("--inverted", inverted))
    return (
        _describe_prefix("-s", source, source_mask)
        + _describe_prefix("-d", destination, destination_mask)
        + _describe_device("-i", in_device, in_mask)
        + _describe_device("-o", out_device, out_mask)
        + [f"{option} {value}" for option, value in numbers if value]
    )


def _describe_prefix(option: str, address: bytes, mask: bytes) -> list[str]:
    if not any(address + mask):
        return []
    return [f"{option} {ipaddress.IPv4Address(address)}/{ipaddress.IPv4Address(mask)}"]


def _describe_device(option: str, device: bytes, mask: bytes) -> list[str]:
    """The mask covers the name and its final zero; a mask without the zero is the wildcard `+`."""
    name, length = device.rstrip(b"\0"), len(mask.rstrip(b"\0"))
    if not name and not length:
        return []
    wildcard = "" if length == len(name) + 1 else f"+{length}"
    return [option + " " + name.decode("ascii", "backslashreplace") + wildcard]


def _describe_extension(raw: bytes) -> str:
    revision = _EXTENSION.unpack_from(raw)[2]
    data = raw[_EXTENSION.size :].rstrip(b"\0")
    words = struct.iter_unpack("=I", data + b"\0" * (-len(data) % 4))
    return f"{_extension_name(raw)}:{revision}{{{' '.join(f'{word:x}' for (word,) in words)}}}"


def _extension_name(raw: bytes) -> str:
    """The kernel writes no more than the name and its final zero into the caller's memory."""
    name: bytes = _EXTENSION.unpack_from(raw)[1]
    return name.partition(b"\0")[0].decode("ascii")
