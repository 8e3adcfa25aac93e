# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which way new connections go, as the firewall decides it, free of any backend's syntax.

A packet is asked by the choices in order, and the first that matches decides (`Choice`). Asked are packets of new
connections without a pin and without a packet mark of ours, on their way to none of the `excluded` networks: forwarded
ones before routing, the router's own in the output hook, where a changed mark has them routed again.
"""

from __future__ import annotations

from dataclasses import dataclass

# Never balanced: what stays on the segment, and groups. Local addresses are told by the routing table itself.
LINK_LOCAL, MULTICAST, BROADCAST = "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32"

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Condition:
    """What a packet must be; empty and None ask for nothing. All that is asked must hold.

    `source_set` and `destination_set` name a `NetworkSet`; `device` is the one a packet came in on; `mark` a packet
    mark and its mask; `times` day (0 is Monday), first minute and the minute after the last, in UTC, one of which must
    hold (none: always); `user` and `group` are numbers; `cgroup` is a path of the version 2 hierarchy and the number it
    has now: one made anew has another, and the rules must be loaded again.
    """

    sources: tuple[str, ...] = ()
    source_set: str | None = None
    destinations: tuple[str, ...] = ()
    destination_set: str | None = None
    device: str | None = None
    protocol: int | None = None
    source_ports: Ranges = ()
    destination_ports: Ranges = ()
    dscp: int | None = None
    mac: str | None = None
    mark: tuple[int, int] | None = None
    times: tuple[tuple[int, int, int], ...] = ()
    user: int | None = None
    group: int | None = None
    cgroup: tuple[str, int] | None = None


@dataclass(frozen=True)
class Choice:
    """What becomes of the packets that a rule matches. `rule` is its name, '' for the default policy.

    `chooser` names the one that decides; without one the packet gets `mark`; with neither it is left to routing, which
    has a rule for it. Packets are counted by the rule's name, forwarded and own together. `own`: of the router itself.
    """

    rule: str
    condition: Condition = Condition()
    mark: int | None = None
    chooser: str | None = None
    own: bool = False


@dataclass(frozen=True)
class Way:
    """A link that takes new connections of a policy, and with which weight."""

    name: str
    mark: int
    weight: int


@dataclass(frozen=True)
class Chooser:
    """How a policy's new connections are spread. `mark` is the policy's own: its table has a multipath route.

    `algorithm` is one of balancing.ALGORITHMS. `ways` are the links that take new connections now, in the order of
    their ids; without any the policy's table decides what becomes of them. `buckets`: first, last, and the mark of the
    link whose they are, of balancing.BUCKETS (for hashes). `queue` is the queue's number (for least_connections).
    With `sticky`, seconds, a client stays where it is (`sticky_by`: balancing.STICK_BY); `members`, name and mark, are
    all links that it may be on, of which those that serve now are asked first.
    """

    name: str
    mark: int
    algorithm: str
    ways: tuple[Way, ...] = ()
    buckets: tuple[tuple[int, int, int], ...] = ()
    queue: int | None = None
    sticky: int = 0
    sticky_by: str = "source"
    members: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class NetworkSet:
    """A set of networks that conditions refer to; `external`: its content is others', and never touched."""

    name: str
    networks: tuple[str, ...] = ()
    external: bool = False


@dataclass(frozen=True)
class Classification:
    """All of it; false where routing alone decides. `forwarded` and `own` are asked in order.

    `main` is the mark of what is left to the main table, None where nothing is: a connection that leaves with it and by
    no link keeps it, or its other packets would be led elsewhere than the first.
    """

    forwarded: tuple[Choice, ...] = ()
    own: tuple[Choice, ...] = ()
    choosers: tuple[Chooser, ...] = ()
    sets: tuple[NetworkSet, ...] = ()
    excluded: tuple[str, ...] = ()
    main: int | None = None

    def __bool__(self) -> bool:
        return bool(self.forwarded or self.own)

    def chooser(self, name: str) -> Chooser:
        return next(chooser for chooser in self.choosers if chooser.name == name)

    def counted(self) -> tuple[str, ...]:
        """The names of all rules that count, each once, in order."""
        return tuple(dict.fromkeys(choice.rule for choice in (*self.forwarded, *self.own) if choice.rule))

    def marks_own(self) -> bool:
        """Whether what the router itself sends may be led elsewhere than routing has led it."""
        return any(choice.mark is not None for choice in self.own)

    def sticky(self) -> tuple[Chooser, ...]:
        return tuple(chooser for chooser in self.choosers if chooser.sticky)

    def per_packet(self) -> tuple[Chooser, ...]:
        return tuple(chooser for chooser in self.choosers if chooser.algorithm == "per_packet")
