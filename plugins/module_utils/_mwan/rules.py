# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a rule matches, and the sets of addresses that rules refer to.

Matches that policy routing cannot ask for (`Rule.needs_marks`) are left to the firewall.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

from . import values
from .errors import InputError
from .networks import Span, joined, span, written
from .reactions import window, window_text

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "dccp": 33, "gre": 47, "esp": 50, "sctp": 132}
PORT_PROTOCOLS = ("tcp", "udp", "dccp", "sctp")
TARGETS = ("main", "unreachable")
SET = "@"
ITSELF = "lo"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = 24 * 60  # minutes
# RFC 2474 and its successors; the names that tc(8) and nft know
DSCP = {
    **{f"cs{number}": 8 * number for number in range(8)},
    **{f"af{cls}{drop}": 8 * cls + 2 * drop for cls in range(1, 5) for drop in range(1, 4)},
    "ef": 46,
}
ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\Z")

Ranges = tuple[tuple[int, int], ...]
Parser = Callable[[str, Any], Any]


@dataclass(frozen=True)
class Times:
    """When a rule holds, in local time: on these days (0 is Monday; none: all), in these minutes of the day.

    Hours that go over midnight belong to the day they begin on.
    """

    days: tuple[int, ...] = ()
    hours: tuple[int, int] | None = None

    @classmethod
    def parse(cls, option: str, data: Any) -> Times:
        data = values.only_keys(option, data, ("days", "hours"))
        if not data:
            raise InputError(option, dict(data), "says nothing", 'Give days, or hours such as "08:00-18:00"')
        listed = data.get("days", [])
        named = [listed] if isinstance(listed, str) else listed
        days = {DAYS.index(values.choice(option + ".days", day, DAYS)) for day in named}
        hours = window(option + ".hours", data["hours"]) if "hours" in data else None
        return cls(tuple(sorted(days)) if len(days) < len(DAYS) else (), hours)

    def dump(self) -> dict[str, Any]:
        data: dict[str, Any] = {"days": [DAYS[day] for day in self.days]} if self.days else {}
        return {**data, "hours": window_text(self.hours)} if self.hours else data

    def spans(self, ahead: int) -> tuple[tuple[int, int, int], ...]:
        """Day, first minute and the minute after the last, in UTC, where local time is so many minutes `ahead` of it.

        The kernel knows no time zones, so both backends match UTC.
        """
        found: list[tuple[int, int, int]] = []
        for day in self.days or range(len(DAYS)):
            first, last = self.hours or (0, DAY)
            begin = day * DAY + first - ahead
            found += _by_day(begin, begin + (last - first) % DAY + (DAY if self.hours is None else 0))
        return tuple(sorted(found))


def _by_day(begin: int, end: int) -> Iterable[tuple[int, int, int]]:
    """The minutes of a week from `begin` up to `end`, one span for each day."""
    while begin < end:
        day, minute = divmod(begin, DAY)
        length = min(end - begin, DAY - minute)
        yield day % len(DAYS), minute, minute + length
        begin += length


@dataclass(frozen=True)
class Rule:
    """Which new connections go where. The first rule that matches, in list order, decides.

    `source` and `destination` are networks, or the name of one set behind "@"; ports are inclusive ranges; `mark` is a
    packet mark that other software sets, with its mask. `user`, `group` and `cgroup` tell the router's own traffic.
    """

    name: str
    source: tuple[str, ...] = ()
    destination: tuple[str, ...] = ()
    device: str | None = None
    protocol: str | None = None
    source_port: Ranges = ()
    destination_port: Ranges = ()
    dscp: int | None = None
    mac: str | None = None
    mark: tuple[int, int] | None = None
    time: Times | None = None
    user: str | None = None
    group: str | None = None
    cgroup: str | None = None
    policy: str | None = None
    link: str | None = None
    target: str | None = None

    WHERE = ("policy", "link", "target")
    OWN = ("user", "group", "cgroup")

    @property
    def key(self) -> str:
        return self.name

    @classmethod
    def parse(cls, option: str, data: Any) -> Rule:
        data = values.only_keys(option, data, ("name", *cls.WHERE, *MATCHES))
        if sum(key in data for key in cls.WHERE) != 1:
            raise InputError(option, dict(data), "does not name one target", "Give one of policy, link and target")
        matches = {key: parse(f"{option}.{key}", data[key]) for key, parse in MATCHES.items() if key in data}
        rule = cls(
            name=values.name(option + ".name", data.get("name")),
            policy=values.name(option + ".policy", data["policy"]) if "policy" in data else None,
            link=values.name(option + ".link", data["link"]) if "link" in data else None,
            target=values.choice(option + ".target", data["target"], TARGETS) if "target" in data else None,
            **matches,
        )
        rule._check_ports(option)
        rule._check_side(option)
        return rule

    def _check_ports(self, option: str) -> None:
        if (self.source_port or self.destination_port) and self.protocol not in PORT_PROTOCOLS:
            raise InputError(
                option + ".protocol",
                self.protocol,
                "has no ports" if self.protocol else "is missing, and only some protocols have ports",
                "Give protocol as one of {}".format(", ".join(PORT_PROTOCOLS)),
            )

    def _check_side(self, option: str) -> None:
        """What the router itself sends has an owner and comes from no device; what it forwards, the other way round."""
        owners = [key for key in self.OWN if getattr(self, key) is not None]
        if owners and not self.own:
            key = "mac" if self.mac else "device"
            problem = f"never holds together with {owners[0]}, which tells the router's own traffic"
            raise InputError(f"{option}.{key}", getattr(self, key), problem, f"Leave {key} or {owners[0]} out")
        if self.mac and self.device == ITSELF:
            raise InputError(option + ".mac", self.mac, "is not known of the router's own traffic", "Leave mac out")

    @property
    def own(self) -> bool:
        """Whether it holds for what the router itself sends."""
        return self.mac is None and self.device in (None, ITSELF)

    @property
    def forwarded(self) -> bool:
        """Whether it holds for what the router forwards."""
        return self.device != ITSELF and not any(getattr(self, key) is not None for key in self.OWN)

    @property
    def sets(self) -> tuple[str, ...]:
        """The names of the sets it refers to."""
        return tuple(item[1:] for item in (*self.source, *self.destination) if item.startswith(SET))

    @property
    def combinations(self) -> int:
        """How many routing rules it takes, which know no lists."""
        lists = (self.source, self.destination, self.source_port, self.destination_port)
        return prod(len(listed) or 1 for listed in lists)

    def needs_marks(self) -> list[str]:
        """The options that `ip rule` has nothing for."""
        found = [key for key in ("dscp", "mac", "time", "group", "cgroup") if getattr(self, key) is not None]
        found += [key for key in ("source", "destination") if any(item[0] == SET for item in getattr(self, key))]
        return found

    def dump(self) -> dict[str, Any]:
        told: dict[str, Any] = {
            **{key: _one_or_list(getattr(self, key)) for key in ("source", "destination")},
            **{key: _one_or_list([_range(item) for item in getattr(self, key)]) for key in PORTS},
            "mark": "0x{:x}/0x{:x}".format(*self.mark) if self.mark else None,
            "time": self.time.dump() if self.time else None,
        }
        return {key: item for key, item in {**vars(self), **told}.items() if item is not None}


PORTS = ("source_port", "destination_port")


def _one_or_list(items: Iterable[str]) -> Any:
    listed = list(items)
    return (listed[0] if len(listed) == 1 else listed) if listed else None


def _range(ports: tuple[int, int]) -> str:
    low, high = ports
    return str(low) if low == high else f"{low}-{high}"


def _addresses(option: str, value: Any) -> tuple[str, ...]:
    """Networks, one or a list; or one set."""
    listed = value if isinstance(value, (list, tuple)) else [value]
    named = [item for item in listed if isinstance(item, str) and item.startswith(SET)]
    for item in listed:
        if isinstance(item, str) and values.NAME.match(item):
            raise InputError(
                option, item, "is not an IPv4 network", f'Give a network, or the set of that name as "@{item}"'
            )
    if named and len(listed) > 1:
        remedy = "Give one set, or networks; a set can hold all of them"
        raise InputError(option, value, "mixes a set with others", remedy)
    return (SET + values.name(option, named[0][1:]),) if named else values.prefixes(option, listed)


def _ports(option: str, value: Any) -> Ranges:
    """Ports and ranges, as one text with commas or a list; overlapping and adjoining ones are joined."""
    listed = str(value).split(",") if not isinstance(value, (list, tuple)) else value
    joined: list[tuple[int, int]] = []
    for low, high in sorted(values.ports(option, item) for item in listed):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(high, joined[-1][1])
        else:
            joined.append((low, high))
    return tuple(joined)


def _dscp(option: str, value: Any) -> int:
    known = DSCP.get(value.lower()) if isinstance(value, str) else None
    if known is None and not str(value).isdigit():
        raise InputError(option, value, "is no code point", "Give a name such as ef, af21 or cs1, or a number up to 63")
    return values.integer(option, value, 0, 63) if known is None else known


def _mark(option: str, value: Any) -> tuple[int, int]:
    number, _slash, mask = str(value).partition("/")
    found = values.integer(option, number, 0, 0xFFFFFFFF), values.integer(option, mask or 0xFFFFFFFF, 1, 0xFFFFFFFF)
    if found[0] & ~found[1]:
        raise InputError(option, value, "has bits outside its mask", "Give it as value/mask, such as 0x10000/0xff0000")
    return found


def _account(option: str, value: Any) -> str:
    """A name or number of a user or group."""
    if isinstance(value, bool) or not ACCOUNT.match(str(value)):
        raise InputError(option, value, "is no user or group", "Give a name, or a number")
    return str(value)


def _cgroup(option: str, value: Any) -> str:
    """A path below the root of the version 2 hierarchy."""
    path = value.strip("/") if isinstance(value, str) else ""
    if not path or '"' in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise InputError(option, value, "is no control group", "Give a path such as system.slice/squid.service")
    return path


MATCHES: Mapping[str, Parser] = {
    "source": _addresses,
    "destination": _addresses,
    "device": values.device,
    "protocol": lambda option, value: values.choice(option, value, PROTOCOLS),
    "source_port": _ports,
    "destination_port": _ports,
    "dscp": _dscp,
    "mac": values.mac,
    "mark": _mark,
    "time": Times.parse,
    "user": _account,
    "group": _account,
    "cgroup": _cgroup,
}


@dataclass(frozen=True)
class AddressSet:
    """Networks that rules refer to by name: listed, read from files on the router, or filled by others (`external`)."""

    name: str
    networks: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    external: bool = False

    @property
    def key(self) -> str:
        return self.name

    @classmethod
    def parse(cls, option: str, data: Any) -> AddressSet:
        data = values.only_keys(option, data, ("name", "networks", "files", "external"))
        files = data.get("files", [])
        found = cls(
            name=values.name(option + ".name", data.get("name")),
            networks=values.networks(option + ".networks", data.get("networks", [])),
            files=tuple(_path(option + ".files", item) for item in ([files] if isinstance(files, str) else files)),
            external=values.boolean(option + ".external", data.get("external", False)),
        )
        if found.external == bool(found.networks or found.files):
            problem = "has content of ours, too" if found.external else "is empty"
            raise InputError(option, dict(data), problem, "Give networks or files, or external: true and neither")
        return found

    def dump(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "networks": list(self.networks),
            "files": list(self.files),
            "external": self.external,
        }


def _path(option: str, value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/") or ".." in value.split("/"):
        raise InputError(option, value, "is not a path", "Give the absolute path of a file on the router")
    return value


@lru_cache(maxsize=64)
def read_networks(path: str, text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The networks of a file, one on each line, with "#" before remarks; and what is wrong with the other lines.

    Remembered, because every run asks several times, and a file may have a hundred thousand lines.
    """
    found: list[Span] = []
    problems = []
    for number, line in enumerate(text.splitlines(), start=1):
        for word in line.partition("#")[0].split():
            known = span(word)
            if known:
                found.append(known)
                continue
            try:
                found += filter(None, [span(values.prefix(f"{path}:{number}", word))])
            except InputError as problem:
                problems.append(str(problem))
    return tuple(written(joined(found))), tuple(problems)
