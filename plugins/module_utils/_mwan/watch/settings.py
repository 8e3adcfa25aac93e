# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""How one link is watched: targets, intervals, thresholds, damping.

Times are seconds; an administrator may also write them with a unit ("200ms", "15min"). What is left out comes from the
profile. Once parsed every value is explicit, so `dump` gives all of them and parses back to an equal object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import values
from ..errors import InputError
from .target_spec import Target

# interval between the probes of one target, and silence after which the link is down
PROFILES: Mapping[str, tuple[float, float]] = {
    "fast": (0.2, 1.0),
    "default": (0.5, 2.0),
    "calm": (1.0, 4.0),
    "metered": (10.0, 20.0),
}
DEGRADED = ("keep", "reweight", "out")
# public resolvers of three operators, answering echo requests from everywhere
TARGETS = ("1.1.1.1", "8.8.8.8", "9.9.9.9")
MAX_TARGETS = 16
# below this, half of the silence could not hold two probes of one target, and every lost one would be an alarm
MIN_PROBES = 2
RTT_LEAVE = 0.8


@dataclass(frozen=True)
class Thresholds:
    """A quality is poor above `enter` and fine again below `leave`."""

    enter: float
    leave: float

    def dump(self) -> dict[str, float]:
        return dict(vars(self))


@dataclass(frozen=True)
class Damping:
    """The longest a returning link waits, and how fast earlier outages are forgotten; both in seconds."""

    half_life: float = 300.0
    longest: float = 900.0

    @classmethod
    def parse(cls, option: str, data: Any) -> Damping:
        data = values.only_keys(option, data, ("half_life", "longest"))
        return cls(
            half_life=values.seconds(option + ".half_life", data.get("half_life", cls.half_life), 1, 86400),
            longest=values.seconds(option + ".longest", data.get("longest", cls.longest), 1, 86400),
        )

    def dump(self) -> dict[str, float]:
        return dict(vars(self))


@dataclass(frozen=True)
class ProbeSettings:
    """How one link is watched. Times in seconds, `loss` in percent, `rtt` None: no limit on the round trip.

    `flush_delay` is the time between finding a link down by silence, or without an address, and moving its existing
    connections.
    """

    targets: tuple[Target, ...] = tuple(Target.parse("targets", text) for text in TARGETS)
    profile: str = "default"
    interval: float = PROFILES["default"][0]
    dead: float = PROFILES["default"][1]
    up_after: float = 20.0
    quorum: int = 1
    loss: Thresholds = Thresholds(5.0, 5.0)
    rtt: Thresholds | None = None
    degraded: str = "keep"
    damping: Damping = field(default_factory=Damping)
    flush_delay: float = 1.0

    @classmethod
    def parse(cls, option: str, data: Any) -> ProbeSettings:
        return ProbeOverrides.parse(option, data).settings(option)

    def check(self, option: str) -> None:
        """Raise InputError where values do not fit together; `option` is where they are declared."""
        shortest = round(MIN_PROBES * self.interval, 3)
        if self.dead < shortest:
            raise InputError(
                option + ".dead", self.dead, "leaves no time for a second probe", f"Give at least {shortest} seconds"
            )
        if self.quorum > max(1, len(self.targets)):
            raise InputError(
                option + ".quorum", self.quorum, f"is more than the {len(self.targets)} targets", "Give fewer, or 1"
            )
        if self.damping.longest < self.up_after:
            raise InputError(
                option + ".damping.longest",
                self.damping.longest,
                f"is shorter than up_after ({self.up_after})",
                f"Give at least {self.up_after} seconds",
            )

    def dump(self) -> dict[str, Any]:
        return {key: _plain(value) for key, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class ProbeOverrides:
    """The settings that are declared in one place, for a link or for all of them, by name."""

    given: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def parse(cls, option: str, data: Any) -> ProbeOverrides:
        data = values.only_keys(option, data, PARSERS)
        return cls(tuple((key, PARSERS[key](f"{option}.{key}", data[key])) for key in PARSERS if key in data))

    def over(self, general: ProbeOverrides) -> ProbeOverrides:
        """These, and what they leave open from `general`; a profile comes with its own interval and dead."""
        own = dict(self.given)
        timing = ("interval", "dead") if "profile" in own else ()
        rest = {key: value for key, value in general.given if key not in timing}
        return ProbeOverrides(tuple({**rest, **own}.items()))

    def settings(self, option: str) -> ProbeSettings:
        """The settings with defaults for what is left open; raises InputError where they do not fit together."""
        given = dict(self.given)
        interval, dead = PROFILES[given.get("profile", ProbeSettings.profile)]
        settings = ProbeSettings(**{"interval": interval, "dead": dead, **given})
        settings.check(option)
        return settings

    def dump(self) -> dict[str, Any]:
        return {key: _plain(value) for key, value in self.given}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [target.dump() for target in value]
    return value.dump() if isinstance(value, (Thresholds, Damping)) else value


def _targets(option: str, listed: Any) -> tuple[Target, ...]:
    """No target at all is allowed: then only the kernel's word counts."""
    if isinstance(listed, (str, Mapping)) or not isinstance(listed, Iterable):
        raise InputError(option, listed, "is not a list", "Give the targets as a list")
    targets = tuple(Target.parse(f"{option}[{index}]", item) for index, item in enumerate(listed))
    if len(targets) > MAX_TARGETS:
        raise InputError(option, len(targets), "are too many", f"Give {MAX_TARGETS} at most; three are plenty")
    if len(set(targets)) < len(targets):
        values.unique(option, (str(target.dump()) for target in targets))
    return targets


def _thresholds(option: str, data: Any, parse: Callable[[str, Any], float], leave: float) -> Thresholds:
    """A bare value is what to enter at; to leave at is `leave` times that, unless it is given."""
    if not isinstance(data, Mapping):
        data = {"enter": data}
    data = values.only_keys(option, data, ("enter", "leave"))
    enter = parse(option + ".enter", data.get("enter"))
    found = Thresholds(enter, parse(option + ".leave", data["leave"] if "leave" in data else leave * enter))
    if found.leave > found.enter:
        raise InputError(
            option + ".leave", found.leave, f"is above enter ({found.enter})", "Give the same value, or a lower one"
        )
    return found


def _percent(option: str, value: Any) -> float:
    number = values.quantity(value, {"": 1.0, "%": 1.0})
    if number is None or not 0.1 <= number <= 99:
        raise InputError(option, value, "is not a share of lost packets", "Give percent from 0.1 to 99")
    return round(number, 3)


def _time(low: float, high: float) -> Callable[[str, Any], float]:
    return lambda option, value: values.seconds(option, value, low, high)


def _choice(allowed: Iterable[str]) -> Callable[[str, Any], str]:
    return lambda option, value: values.choice(option, value, allowed)


PARSERS: Mapping[str, Callable[[str, Any], Any]] = {
    "targets": _targets,
    "profile": _choice(PROFILES),
    "interval": _time(0.05, 3600),
    "dead": _time(0.1, 3600),
    "up_after": _time(1, 86400),
    "quorum": lambda option, value: values.integer(option, value, 1, MAX_TARGETS),
    "loss": lambda option, value: _thresholds(option, value, _percent, 1.0),
    "rtt": lambda option, value: _thresholds(option, value, _time(0.001, 60), RTT_LEAVE),
    "degraded": _choice(DEGRADED),
    "damping": Damping.parse,
    "flush_delay": _time(0, 3600),
}
