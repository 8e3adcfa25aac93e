# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""How one link is watched: targets, intervals, thresholds, damping.

Times are seconds; an administrator may also write them with a unit ("200ms", "15min"). What is left out comes from the
profile. Once parsed every value is explicit, so `dump` gives all of them and parses back to an equal object.
"""

from __future__ import annotations

import re
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
UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
NUMBER = re.compile(r"(\d+(?:\.\d*)?) ?([a-z%]*)\Z")


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
            half_life=seconds(option + ".half_life", data.get("half_life", cls.half_life), 1, 86400),
            longest=seconds(option + ".longest", data.get("longest", cls.longest), 1, 86400),
        )

    def dump(self) -> dict[str, float]:
        return dict(vars(self))


@dataclass(frozen=True)
class ProbeSettings:
    """How one link is watched. Times in seconds, `loss` in percent, `rtt` None: no limit on the round trip."""

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

    @classmethod
    def parse(cls, option: str, data: Any) -> ProbeSettings:
        data = values.only_keys(option, data, cls.__dataclass_fields__)
        profile = values.choice(option + ".profile", data.get("profile", cls.profile), PROFILES)
        interval, dead = PROFILES[profile]
        targets = _targets(option + ".targets", data.get("targets", TARGETS))
        settings = cls(
            targets=targets,
            profile=profile,
            interval=seconds(option + ".interval", data.get("interval", interval), 0.05, 3600),
            dead=seconds(option + ".dead", data.get("dead", dead), 0.1, 3600),
            up_after=seconds(option + ".up_after", data.get("up_after", cls.up_after), 1, 86400),
            quorum=values.integer(option + ".quorum", data.get("quorum", cls.quorum), 1, max(1, len(targets))),
            loss=_thresholds(option + ".loss", data.get("loss", {"enter": cls.loss.enter}), _percent, 1.0),
            rtt=_thresholds(option + ".rtt", data["rtt"], _limit, RTT_LEAVE) if "rtt" in data else None,
            degraded=values.choice(option + ".degraded", data.get("degraded", cls.degraded), DEGRADED),
            damping=Damping.parse(option + ".damping", data.get("damping", {})),
        )
        settings._check(option)
        return settings

    def _check(self, option: str) -> None:
        shortest = round(MIN_PROBES * self.interval, 3)
        if self.dead < shortest:
            raise InputError(
                option + ".dead", self.dead, "leaves no time for a second probe", f"Give at least {shortest} seconds"
            )
        if self.damping.longest < self.up_after:
            raise InputError(
                option + ".damping.longest",
                self.damping.longest,
                f"is shorter than up_after ({self.up_after})",
                f"Give at least {self.up_after} seconds",
            )

    def dump(self) -> dict[str, Any]:
        return {
            **{key: value for key, value in vars(self).items() if key != "rtt"},
            "targets": [target.dump() for target in self.targets],
            "loss": self.loss.dump(),
            "damping": self.damping.dump(),
            **({"rtt": self.rtt.dump()} if self.rtt else {}),
        }


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
    number = _number(value, {"": 1.0, "%": 1.0})
    if number is None or not 0.1 <= number <= 99:
        raise InputError(option, value, "is not a share of lost packets", "Give percent from 0.1 to 99")
    return round(number, 3)


def _limit(option: str, value: Any) -> float:
    return seconds(option, value, 0.001, 60)


def seconds(option: str, value: Any, low: float, high: float) -> float:
    """A time in seconds, kept to the millisecond."""
    number = _number(value, UNITS)
    if number is None or not low <= round(number, 3) <= high:
        raise InputError(
            option, value, "is not a time in range", f'Give seconds from {low:g} to {high:g}, or text such as "500ms"'
        )
    return round(number, 3)


def _number(value: Any, units: Mapping[str, float]) -> float | None:
    """A number, or text of one and a unit."""
    match = None if isinstance(value, bool) else NUMBER.match(str(value))
    return float(match[1]) * units[match[2]] if match and match[2] in units else None
