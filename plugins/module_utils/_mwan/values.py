# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Canonical forms of the small values.

Each function takes what an administrator wrote and returns the one form we keep. They all raise InputError with the
option's name. Equal meaning gives equal value, and a canonical value is its own canonical form, so that comparing two
configurations is comparing two objects.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import InputError
from .networks import collapsed, span

NAME = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")
# '+' and '*' at the end make iptables and nft match every device that begins so.
# IFNAMSIZ is 16 with the final NUL; the kernel's dev_valid_name() refuses '/', ':' and white space.
DEVICE = re.compile(r"[^\s/:\"]{1,15}\Z")
# "all" and "default" are sysctl directories beside those of devices (sysctl_dev_name_is_allowed).
RESERVED = (".", "..", "all", "default")
EVERYWHERE = "0.0.0.0/0"
# RTNH_F weights are stored as one byte holding weight - 1 (struct rtnexthop.rtnh_hops).
MAX_WEIGHT = 256
MAX_TIER = 9
QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?) ?([a-z%]*)\Z")
PORTS = re.compile(r"\s*\d+\s*(-\s*\d+\s*)?\Z")
SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
# decimal, as network equipment and tc(8) count
BITS = {"": 1, "bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
TRUTH = {**dict.fromkeys((True, "true", "yes", "on"), True), **dict.fromkeys((False, "false", "no", "off"), False)}


def name(option: str, value: Any) -> str:
    if not isinstance(value, str) or not NAME.match(value):
        raise InputError(
            option, value, "is not a name", "Use a-z, 0-9 and _, starting with a letter, 32 characters at most"
        )
    return value


def device(option: str, value: Any) -> str:
    if not isinstance(value, str) or not DEVICE.match(value) or value in RESERVED or value[-1] in "+*":
        raise InputError(
            option, value, "is not a network device name", "Give the name that 'ip link' shows, such as eth1 or ppp0"
        )
    return value


def address(option: str, value: Any) -> str:
    """An IPv4 host address; prefixes, networks and IPv6 are refused."""
    try:
        parsed = ipaddress.IPv4Address(value if isinstance(value, str) else None)
    except ValueError:
        raise InputError(
            option, value, "is not an IPv4 address", "Give one address without a prefix length, such as 192.0.2.1"
        ) from None
    if parsed.is_multicast or parsed.is_unspecified or parsed == ipaddress.IPv4Address("255.255.255.255"):
        raise InputError(option, value, "is not a host's address", "Give a unicast address, such as 192.0.2.1")
    return str(parsed)


def prefix(option: str, value: Any) -> str:
    """An IPv4 network with its length; a bare address is a /32."""
    try:
        return str(ipaddress.IPv4Network(value if isinstance(value, str) else None))
    except ValueError as exc:
        remedy = "Give a network such as 192.168.0.0/24"
        if "host bits" in str(exc):
            remedy = f"Did you mean {ipaddress.IPv4Network(value, strict=False)}?"
        raise InputError(option, value, "is not an IPv4 network", remedy) from None


def prefixes(option: str, listed: Iterable[Any]) -> tuple[str, ...]:
    """IPv4 networks as the shortest sorted list that covers the same addresses; overlaps are joined, all is none."""
    return tuple(network for network in networks(option, listed) if network != EVERYWHERE)


def networks(option: str, listed: Iterable[Any]) -> tuple[str, ...]:
    """The same, where none is none."""
    quick = (item if isinstance(item, str) and span(item) else prefix(option, item) for item in listed)
    return collapsed(quick)


def integer(option: str, value: Any, low: int, high: int) -> int:
    try:
        number = int(str(value), 0)
    except ValueError:
        number = low - 1
    if isinstance(value, bool) or not low <= number <= high:
        raise InputError(option, value, "is out of range", f"Give a whole number from {low} to {high}")
    return number


def weight(option: str, value: Any) -> int:
    return integer(option, value, 0, MAX_WEIGHT)


def quantity(value: Any, units: Mapping[str, float]) -> float | None:
    """A number, or text of one and one of these units, in the unit of factor 1; None for anything else."""
    if isinstance(value, (int, float)):
        return None if isinstance(value, bool) else float(value)
    match = QUANTITY.match(value) if isinstance(value, str) else None
    return float(match[1]) * units[match[2]] if match and match[2] in units else None


def seconds(option: str, value: Any, low: float, high: float) -> float:
    """A time in seconds, kept to the millisecond."""
    number = quantity(value, SECONDS)
    if number is None or not low <= round(number, 3) <= high:
        raise InputError(
            option, value, "is not a time in range", f'Give seconds from {low:g} to {high:g}, or text such as "500ms"'
        )
    return round(number, 3)


def rate(option: str, value: Any) -> int:
    """A data rate in bits per second."""
    number = quantity(value.lower() if isinstance(value, str) else value, BITS)
    if number is None or not 1000 <= number <= 10**12:
        raise InputError(option, value, "is not a data rate", 'Give bits per second, or text such as "100mbit"')
    return round(number)


def boolean(option: str, value: Any) -> bool:
    """True or false, also as the words of YAML: what passed through a template is text."""
    known = value.lower() if isinstance(value, str) else value
    if not isinstance(known, (bool, str)) or known not in TRUTH:
        raise InputError(option, value, "is neither true nor false", "Give true or false")
    return TRUTH[known]


def ports(option: str, value: Any) -> tuple[int, int]:
    """A port or a range "low-high", as the pair (low, high)."""
    if not PORTS.match(str(value)):
        remedy = "Give a port, a range such as 8000-8010, or a list of them"
        raise InputError(option, value, "is no port", remedy)
    low, _sep, high = str(value).partition("-")
    first = integer(option, low.strip(), 1, 65535)
    last = integer(option, (high or low).strip(), 1, 65535)
    if last < first:
        raise InputError(option, value, "is a range that ends before it starts", f"Give it as {last}-{first}")
    return first, last


def mac(option: str, value: Any) -> str:
    """An Ethernet address, in lower case with colons."""
    digits = re.sub("[:.-]", "", value).lower() if isinstance(value, str) else ""
    if not re.fullmatch("[0-9a-f]{12}", digits) or int(digits[1], 16) & 1:
        raise InputError(option, value, "is not a host's link-layer address", "Give one such as 52:54:00:12:34:56")
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))


def choice(option: str, value: Any, allowed: Iterable[str]) -> str:
    choices = list(allowed)
    if value not in choices:
        raise InputError(option, value, "is not known", "Choose one of {}".format(", ".join(choices)))
    return str(value)


def only_keys(option: str, value: Any, allowed: Iterable[str]) -> Mapping[str, Any]:
    """Check that `value` is a mapping with known keys; keys that are None count as left out."""
    if not isinstance(value, Mapping):
        raise InputError(option, value, "is not a mapping", "Give it as key: value pairs")
    known = set(allowed)
    for key in value:
        if key not in known:
            raise InputError(
                f"{option}.{key}", value[key], "is not an option", "Known are {}".format(", ".join(sorted(known)))
            )
    return {key: item for key, item in value.items() if item is not None}


def unique(option: str, names: Iterable[str]) -> None:
    seen = set()
    for item in names:
        if item in seen:
            raise InputError(option, item, "is listed twice", "Give each name once")
        seen.add(item)
