# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Conditions as x_tables rules: matches have no lists, so each item of a list is a rule of its own. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .choices import Condition, Ranges
from .iptables_sets import network_set
from .xtables import Extension, Rule

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# python-iptables has no names for some protocols
PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp"}
# XT_MULTI_PORTS, linux/netfilter/xt_multiport.h; a range takes two of them
MOST_PORTS = 15


@dataclass(frozen=True)
class _Part:
    """What one rule can ask for of a list."""

    match: Extension | None = None
    source: str | None = None
    destination: str | None = None


def conditions(
    condition: Condition, chain: str, after: str, verdict: Extension, counter: tuple[Extension, ...]
) -> Iterator[Rule]:
    """Rules of `chain` that lead what meets the condition to `verdict`; those that do bear the `counter`.

    Of several long lists, each has a chain that leads to the next one, and from its end to the chain `after`, where
    later rules go then: N and M items are N + M rules, not N * M.
    """
    lists = list(_lists(condition))
    single = [parts[0] for parts in lists if len(parts) == 1]
    several = [parts for parts in lists if len(parts) > 1]
    if len(several) < 2:
        for part in several[0] if several else (None,):
            yield _rule(condition, chain, verdict, [*single, part] if part else single, counter)
        return
    names = [f"{after}_{level}" for level in range(len(several))]
    yield _rule(condition, chain, Extension(names[0]), single, ())
    yield Rule(chain, Extension(after), goto=True)
    for name, following, parts in zip(names, [*map(Extension, names[1:]), verdict], several):
        for part in parts:
            yield _rule(condition, name, following, [part], counter if following is verdict else (), first=False)
        yield Rule(name, Extension(after), goto=True)


def _rule(
    condition: Condition,
    chain: str,
    target: Extension,
    parts: Sequence[_Part],
    counter: tuple[Extension, ...],
    first: bool = True,
) -> Rule:
    """`first`: it asks for what is no list, too. Ports need the protocol in any case."""
    matches = tuple(part.match for part in parts if part.match)
    protocol = PROTOCOLS.get(condition.protocol, str(condition.protocol)) if condition.protocol else None
    return Rule(
        chain,
        target,
        (*(_matches(condition) if first else ()), *matches, *counter),
        protocol=protocol,
        source=next((part.source for part in parts if part.source), None),
        destination=next((part.destination for part in parts if part.destination), None),
        in_device=condition.device if first else None,
        goto=target.name != "RETURN",
    )


def _lists(condition: Condition) -> Iterator[list[_Part]]:
    """Those that ask for nothing are left out."""
    found = (
        [_Part(source=network) for network in condition.sources],
        [_Part(destination=network) for network in condition.destinations],
        [_Part(_ports("source-ports", some)) for some in _pieces(condition.source_ports)],
        [_Part(_ports("destination-ports", some)) for some in _pieces(condition.destination_ports)],
        [_Part(match) for match in _times(condition.times)],
    )
    return (parts for parts in found if parts)


def _ports(option: str, ranges: Ranges) -> Extension:
    texts = (str(low) if low == high else f"{low}:{high}" for low, high in ranges)
    return Extension("multiport", ((option, ",".join(texts)),))


def _pieces(ranges: Ranges) -> Iterator[Ranges]:
    piece: Ranges = ()
    for low, high in ranges:
        if sum(1 if first == last else 2 for first, last in (*piece, (low, high))) > MOST_PORTS:
            yield piece
            piece = ()
        piece = (*piece, (low, high))
    if piece:
        yield piece


def _times(spans: Iterable[tuple[int, int, int]]) -> Iterator[Extension]:
    """The kernel takes the last second as well, and UTC unless it is told otherwise."""
    days: dict[tuple[int, int], list[str]] = {}
    for day, first, end in spans:
        days.setdefault((first, end), []).append(DAYS[day])
    for (first, end), named in days.items():
        begin, last = _clock(first), _clock(end - 1) + ":59"
        yield Extension("time", (("timestart", begin), ("timestop", last), ("weekdays", ",".join(named))))


def _clock(minute: int) -> str:
    return "{:02}:{:02}".format(*divmod(minute, 60))


def _matches(condition: Condition) -> Iterator[Extension]:
    told = {"src": condition.source_set, "dst": condition.destination_set}
    for side, name in told.items():
        if name is not None:
            yield Extension("set", (("match-set", f"{network_set(name)} {side}"),))
    if condition.dscp is not None:
        yield Extension("dscp", (("dscp", str(condition.dscp)),))
    if condition.mac is not None:
        yield Extension("mac", (("mac-source", condition.mac),))
    if condition.mark is not None:
        yield Extension("mark", (("mark", "0x{:x}/0x{:x}".format(*condition.mark)),))
    if condition.user is not None:
        yield Extension("owner", (("uid-owner", str(condition.user)),))
    if condition.group is not None:
        yield Extension("owner", (("gid-owner", str(condition.group)),))
    if condition.cgroup is not None:
        yield Extension("cgroup", (("path", condition.cgroup[0]),))
