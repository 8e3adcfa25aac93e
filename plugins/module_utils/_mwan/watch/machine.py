# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rule by which a link changes its state, as a table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, Flag, auto

from ..health import RESTING


class State(Enum):
    """The states of health.py that a link can be probed into; "drained" is an operator's word."""

    UNKNOWN = "unknown"
    UP = "up"
    DEGRADED = "degraded"
    SUSPECT = "suspect"
    DOWN = "down"

    @property
    def serves(self) -> bool:
        """Whether new connections are placed on the link."""
        return self.value not in RESTING


class Fact(Flag):
    """What the table asks of a link; link.py says when each holds."""

    NOTHING = 0
    # the kernel says that carrier, device or address is missing
    BROKEN = auto()
    # no proof of life for T_dead / 2, with probes overdue
    SILENT = auto()
    # no proof of life for T_dead, with enough probes overdue, while another link's answers prove the targets alive
    DEAD = auto()
    # not silent, and heard since it was last broken or started
    ANSWERS = auto()
    # answering without a break for as long as its earlier outages ask
    STABLE = auto()
    # down only because it lacked an address for a moment, which did not happen of late
    BRIEF = auto()
    # down for a moment at least, so that even an only link does not flap with every packet
    RESTED = auto()
    # loss or round trip beyond the limit, and not yet back within it / neither
    POOR = auto()
    FINE = auto()
    # another link serves, and was heard since this one was
    BACKED = auto()
    # no other link serves, or all that do are silent
    ALONE = auto()
    # ALONE, or no target of this link answers on any link: silence proves nothing against this one
    HELD = auto()


@dataclass(frozen=True)
class Transition:
    """From `before` to `after`, when all of `facts` hold."""

    before: State
    facts: Fact
    after: State


def _rows(*rows: tuple[tuple[State, ...], Fact, State]) -> tuple[Transition, ...]:
    return tuple(Transition(before, facts, after) for sources, facts, after in rows for before in sources)


_UNKNOWN, _UP, _DEGRADED, _SUSPECT, _DOWN = ((state,) for state in State)

# The first row that fits is taken. Silence takes a link out of service only with BACKED, or with DEAD, which also means
# that another one serves: so when nothing answers anywhere every link keeps what it has.
TABLE = _rows(
    # before                              when all of these hold                    after
    (_UNKNOWN + _UP + _DEGRADED + _SUSPECT, Fact.BROKEN, State.DOWN),
    (_UNKNOWN + _UP + _DEGRADED + _SUSPECT, Fact.DEAD, State.DOWN),
    (_UNKNOWN + _UP + _DEGRADED, Fact.SILENT | Fact.BACKED, State.SUSPECT),
    (_SUSPECT, Fact.ANSWERS | Fact.POOR, State.DEGRADED),
    (_SUSPECT, Fact.ANSWERS, State.UP),
    (_SUSPECT, Fact.HELD | Fact.POOR, State.DEGRADED),
    (_SUSPECT, Fact.HELD, State.UP),
    (_UNKNOWN, Fact.ANSWERS, State.UP),
    (_UP, Fact.POOR, State.DEGRADED),
    (_DEGRADED, Fact.FINE, State.UP),
    (_DOWN, Fact.STABLE | Fact.POOR, State.DEGRADED),
    (_DOWN, Fact.STABLE, State.UP),
    (_DOWN, Fact.ANSWERS | Fact.BRIEF, State.UP),
    (_DOWN, Fact.ANSWERS | Fact.ALONE | Fact.RESTED, State.UP),
)


_BY_STATE = {state: tuple(row for row in TABLE if row.before is state) for state in State}


def transition(state: State, facts: Fact) -> Transition | None:
    """The row that applies, None to stay."""
    return next((row for row in _BY_STATE[state] if row.facts in facts), None)
