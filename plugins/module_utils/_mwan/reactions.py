# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What happens to connections that exist when their link goes down, and when one of an earlier tier is back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import values
from .errors import InputError

TCP = ("reset", "keep")
OTHER = ("reroute", "keep")
WINDOW = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9]) ?- ?([01][0-9]|2[0-3]):([0-5][0-9])\Z")
WEEK = 7 * 86400


@dataclass(frozen=True)
class OnDown:
    """When a link goes down while another lives: TCP connections are reset, others led over the live link; or kept."""

    tcp: str = "reset"
    other: str = "reroute"

    @classmethod
    def parse(cls, option: str, data: Any) -> OnDown:
        data = values.only_keys(option, data, ("tcp", "other"))
        return cls(**_reactions(option, data, cls()))

    def dump(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Failback:
    """What becomes of the connections on a link that serves no policy any more, because an earlier tier is back.

    `after`: seconds that this has lasted; `window`: minutes of the day in local time, from the first up to the second,
    over midnight where the second is the smaller; `manual`: only when the operator says so.
    """

    tcp: str = "keep"
    other: str = "keep"
    after: float = 0.0
    window: tuple[int, int] | None = None
    manual: bool = False

    @classmethod
    def parse(cls, option: str, data: Any) -> Failback:
        data = values.only_keys(option, data, ("tcp", "other", "after", "window", "manual"))
        return cls(
            **_reactions(option, data, cls()),
            after=values.seconds(option + ".after", data.get("after", cls.after), 0, WEEK),
            window=window(option + ".window", data["window"]) if "window" in data else None,
            manual=values.boolean(option + ".manual", data.get("manual", cls.manual)),
        )

    def dump(self) -> dict[str, Any]:
        data = {key: value for key, value in vars(self).items() if key != "window"}
        return {**data, "window": window_text(self.window)} if self.window else data


def _reactions(option: str, data: Mapping[str, Any], default: OnDown | Failback) -> dict[str, str]:
    return {
        "tcp": values.choice(option + ".tcp", data.get("tcp", default.tcp), TCP),
        "other": values.choice(option + ".other", data.get("other", default.other), OTHER),
    }


def window(option: str, value: Any) -> tuple[int, int]:
    """Minutes of the day, from the first up to the second; over midnight where the second is the smaller."""
    match = WINDOW.match(value) if isinstance(value, str) else None
    if not match:
        raise InputError(option, value, "is not a time of day", 'Give it as text such as "02:00-04:00"')
    hour, minute, last_hour, last_minute = (int(part) for part in match.groups())
    first, last = 60 * hour + minute, 60 * last_hour + last_minute
    if first == last:
        raise InputError(option, value, "ends as it starts", "Leave it out for the whole day")
    return first, last


def window_text(window: tuple[int, int]) -> str:
    """The window as it is written: "02:00-04:00"."""
    return "-".join(f"{minutes // 60:02}:{minutes % 60:02}" for minutes in window)
