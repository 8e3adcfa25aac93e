# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The probes of all links: made as the links are now, made anew when one changes, heard only while they are."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from ..kernel import Facts
from ..model import Settings
from ..probes import Binding, Probe, Sink
from ..resolve import ResolvedLink
from ..watch.judge import Watch
from ..watch.link import GATEWAY
from ..watch.settings import ProbeSettings
from ..watch.target_spec import Target
from .counters import Counters

MakeProbe = Callable[[Mapping[str, Any], Binding, Sink, asyncio.AbstractEventLoop], Probe]

# Answers that come later than after so many more probes are not measured for the histogram.
MOST_SENT = 64


@dataclass(frozen=True)
class Way:
    """All that the probes of a link depend on. Equal ways need no new probes.

    A device that was deleted and made again has another index; sockets bound to the former one are dead.
    """

    binding: Binding
    gateway: str | None
    index: int
    asks_gateway: bool

    @classmethod
    def of(cls, link: ResolvedLink, facts: Facts, settings: Settings) -> Way | None:
        """None while the link cannot carry anything."""
        device = facts.devices.get(link.device)
        if link.pending or device is None or not device.carrier:
            return None
        binding = Binding(link.device, link.address, settings.mark(link.ident))
        return cls(binding, link.gateway, index_of(link.device), not device.point_to_point)


def index_of(device: str) -> int:
    """0 when it has gone a moment ago."""
    try:
        return socket.if_nametoindex(device)
    except OSError:
        return 0


class Voice:
    """The sink of one probe: tells the watch what became of it, until it is closed."""

    def __init__(self, owner: Probing, link: str, target: int, label: str) -> None:
        self._owner, self._link, self._target, self._label = owner, link, target, label
        self._sent: dict[int, float] = {}
        self.closed = False

    def sent(self, seq: int, now: float) -> None:
        """Before the probe is sent: it may fail, or be refused, within that call."""
        self._sent[seq] = now
        if len(self._sent) > MOST_SENT:
            del self._sent[next(iter(self._sent))]
        self._owner.watch.sent(self._link, self._target, seq, now)
        self._owner.counters.probe_sent(self._link, self._label)

    def replied(self, seq: int, when: float) -> None:
        if self._heard(when):
            sent = self._sent.pop(seq, None)
            if sent is not None:
                self._owner.counters.probe_answered(self._link, self._label, when - sent)
            self._owner.watch.replied(self._link, self._target, seq, when)

    def refused(self, seq: int, when: float, why: str) -> None:
        if self._heard(when):
            self._owner.counters.probe_refused(self._link, self._label)
            self._owner.watch.refused(self._link, self._target, seq, when, why)

    def failed(self, seq: int, why: str) -> None:
        now = self._owner.loop.time()
        if self._heard(now):
            self._owner.counters.probe_failed(self._link, self._label)
            self._owner.watch.local_error(self._link, self._target, seq, now, why)

    def _heard(self, when: float) -> bool:
        if not self.closed:
            self._owner.heard(when)
        return not self.closed


class Unable:
    """In the place of a probe that cannot be made: every question fails."""

    def __init__(self, sink: Sink, why: str) -> None:
        self._sink, self._why = sink, why

    def start(self) -> None:
        """Nothing to prepare."""

    def send(self, seq: int) -> None:
        self._sink.failed(seq, self._why)

    def close(self) -> None:
        """Nothing to end."""


@dataclass(frozen=True)
class Voiced:
    probe: Probe
    voice: Voice

    def close(self) -> None:
        self.voice.closed = True
        self.probe.close()


class Probing:
    """`heard` is called with the time before the watch is told anything."""

    def __init__(
        self,
        watch: Watch,
        counters: Counters,
        heard: Callable[[float], None],
        make_probe: MakeProbe,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.watch, self.counters, self.heard, self.loop = watch, counters, heard, loop
        self._make = make_probe
        self._links: dict[str, tuple[Way, ProbeSettings, dict[int, Voiced]]] = {}
        self._silent: set[str] = set()
        self._seq = count(1)

    def follow(self, ways: Mapping[str, Way | None], settings: Mapping[str, ProbeSettings]) -> None:
        """Have the probes for these links; those of links that stay as they were go on.

        A link without a way keeps its probes, silent, for the case that it comes back as it was: to close a packet
        socket takes the kernel 8 ms (synchronize_net in packet_release), just when something else is urgent.
        """
        for name in self._links.keys() - ways.keys():
            self._close(name)
        self._silent = {name for name, way in ways.items() if way is None}
        for name, way in ways.items():
            before = self._links.get(name)
            if way and (before is None or before[:2] != (way, settings[name])):
                self._close(name)
                self._links[name] = way, settings[name], self._made(name, way, settings[name])

    def _made(self, name: str, way: Way, settings: ProbeSettings) -> dict[int, Voiced]:
        probes = {index: self._voiced(name, index, way, target) for index, target in enumerate(settings.targets)}
        if way.gateway:
            kind = "arp" if way.asks_gateway else "icmp"
            probes[GATEWAY] = self._voiced(name, GATEWAY, way, Target(kind, address=way.gateway))
        for index, voiced in probes.items():
            if index != GATEWAY:  # rarely asked, and ready when it is
                voiced.probe.start()
        return probes

    def _voiced(self, name: str, index: int, way: Way, target: Target) -> Voiced:
        voice = Voice(self, name, index, "gateway" if index == GATEWAY else target.label)
        return Voiced(self._probe(target, way, voice), voice)

    def _probe(self, target: Target, way: Way, sink: Sink) -> Probe:
        """The probe, or one that tells why there is none."""
        data: dict[str, Any] = target.dump()
        if target.kind == "arp" and not target.address:
            if not way.gateway:
                return Unable(sink, "the link has no gateway to ask for")
            data["address"] = way.gateway
        try:
            return self._make(data, way.binding, sink, self.loop)
        except (KeyError, ValueError, OSError) as exc:
            return Unable(sink, str(exc))

    def targets(self, name: str, gateway: bool) -> list[int]:
        """The targets that can be asked over a link now, its gateway's among them where that is wanted."""
        known = self._links[name][2] if name in self._links and name not in self._silent else {}
        return [index for index in known if gateway or index != GATEWAY]

    def send(self, name: str, target: int, now: float) -> None:
        voiced = self._links[name][2][target]
        seq = next(self._seq)
        voiced.voice.sent(seq, now)
        voiced.probe.send(seq)

    def _close(self, name: str) -> None:
        if name in self._links:
            for voiced in self._links.pop(name)[2].values():
                voiced.close()

    def close(self) -> None:
        for name in list(self._links):
            self._close(name)
