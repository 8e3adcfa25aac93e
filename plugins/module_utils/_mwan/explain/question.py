# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is asked, of which router."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from .. import values
from ..asked import Flow
from ..desired import Desired
from ..document import Document
from ..errors import InputError
from ..health import Health
from ..hostfacts import HostFacts, Wanted
from ..kernel import Facts, Surroundings
from ..rules import DAY, DAYS, MATCHES, PORT_PROTOCOLS, PROTOCOLS
from ..trace import ITSELF, Packet

# the options by what they fill in
OPTIONS = {
    "destination": "--to",
    "source": "--from",
    "device": "--in",
    "destination_port": "--port",
    "source_port": "--source-port",
    **{name: f"--{name}" for name in ("protocol", "local", "user", "group", "cgroup", "mark", "dscp", "mac", "at")},
}
OWNERS = ("user", "group", "cgroup")
TIME = "%Y-%m-%d %H:%M"


@dataclass(frozen=True)
class Question:
    """A connection somebody asks about; what is left out is filled in as far as the router tells.

    `local` connections are the router's own, and only they have a user, group or cgroup. `at` is local time, the day
    (0 is Monday) and the minute of it. `options` are the names that complaints go by.
    """

    destination: str
    source: str | None = None
    device: str | None = None
    protocol: str | None = None
    source_port: int | None = None
    destination_port: int | None = None
    local: bool = False
    user: str | None = None
    group: str | None = None
    cgroup: str | None = None
    mark: int = 0
    dscp: int = 0
    mac: str | None = None
    at: tuple[int, int] | None = None
    options: Mapping[str, str] = field(default_factory=lambda: OPTIONS, compare=False)

    @classmethod
    def parse(cls, asked: Mapping[str, Any], options: Mapping[str, str] = OPTIONS) -> Question:
        """From what was given by these names; raises InputError in them. Ports are of TCP unless it says more."""
        given = {name: asked[name] for name in OPTIONS if asked.get(name) not in (None, "", False)}
        if "destination" not in given:
            raise InputError(options["destination"], None, "is missing", "Give the address that it goes to")
        found = {name: PARSERS[name](options[name], value) for name, value in given.items()}
        question = cls(**found, options=options)
        return question._with_protocol()._checked()

    def _with_protocol(self) -> Question:
        ports = self.source_port or self.destination_port
        if not ports or self.protocol in PORT_PROTOCOLS:
            return self
        if self.protocol is None:
            return replace(self, protocol="tcp")
        remedy = "Leave the ports out, or give one of {}".format(", ".join(PORT_PROTOCOLS))
        raise InputError(self.options["protocol"], self.protocol, "has no ports", remedy)

    def _checked(self) -> Question:
        """What the router itself sends comes from no device, and from no neighbour."""
        owners = [name for name in OWNERS if getattr(self, name) is not None]
        own = self.device == ITSELF or self.local or bool(owners)
        foreign = [name for name in ("device", "mac") if getattr(self, name) not in (None, ITSELF)]
        if own and foreign:
            name, because = foreign[0], (owners or ["local"])[0]
            problem = f"is not known of what the router itself sends, which {self.options[because]} stands for"
            remedy = f"Leave out {self.options[name]} or {self.options[because]}"
            raise InputError(self.options[name], getattr(self, name), problem, remedy)
        return replace(self, local=own, device=None if own else self.device)

    def wanted(self) -> Wanted:
        """The accounts to look up before it can be answered."""
        return Wanted(
            users=frozenset([self.user] if self.user else ()), groups=frozenset([self.group] if self.group else ())
        )

    def flow(self, device: str, mark: int, view: View) -> Flow:
        """The packet that opens the connection, as it comes in by `device` and with this packet mark."""
        packet = Packet(
            self.destination,
            self.source,
            device,
            mark,
            PROTOCOLS[self.protocol] if self.protocol else None,
            self.source_port,
            self.destination_port,
            user=self._number("user", self.user, view.accounts.users),
        )
        group = self._number("group", self.group, view.accounts.groups)
        return Flow(packet, self.dscp, self.mac, group, self.cgroup, self._moment(view.facts.host.ahead))

    def _number(self, name: str, account: str | None, known: Mapping[str, int | None]) -> int | None:
        if account is None:
            return None
        number = known.get(account)
        if number is None:
            raise InputError(self.options[name], account, f"is no {name} of this router", "Give one, or a number")
        return number

    def _moment(self, ahead: int) -> tuple[int, int] | None:
        """In UTC, where local time is so many minutes ahead of it."""
        if self.at is None:
            return None
        day, minute = divmod(self.at[0] * DAY + self.at[1] - ahead, DAY)
        return day % len(DAYS), minute

    def words(self) -> dict[str, Any]:
        """The parts as plain data."""
        found = {name: getattr(self, name) for name in OPTIONS}
        at = f"{DAYS[self.at[0]]} {self.at[1] // 60:02}:{self.at[1] % 60:02}" if self.at else None
        return {**found, "mark": f"0x{self.mark:x}", "at": at}


def _port(option: str, value: Any) -> int:
    return values.integer(option, value, 1, 65535)


def _time(option: str, value: Any) -> tuple[int, int]:
    try:
        found = value if isinstance(value, datetime) else datetime.strptime(value, TIME)
    except (TypeError, ValueError):
        raise InputError(option, value, "is not a time", 'Give one such as "2026-11-21 09:00"') from None
    return found.weekday(), found.hour * 60 + found.minute


PARSERS: Mapping[str, Callable[[str, Any], Any]] = {
    "destination": values.address,
    "source": values.address,
    "device": values.device,
    "protocol": lambda option, value: values.choice(option, value, PROTOCOLS),
    "source_port": _port,
    "destination_port": _port,
    "local": values.boolean,
    "user": MATCHES["user"],
    "group": MATCHES["group"],
    "cgroup": MATCHES["cgroup"],
    "mark": lambda option, value: values.integer(option, value, 0, 0xFFFFFFFF),
    "dscp": MATCHES["dscp"],
    "mac": values.mac,
    "at": _time,
}


@dataclass(frozen=True)
class View:
    """The router as the question is asked of it.

    `reasons` say why a link is in its state; `accounts` are those that the question names.
    """

    document: Document
    desired: Desired
    facts: Facts
    health: Health
    surroundings: Surroundings = field(default_factory=Surroundings)
    reasons: Mapping[str, str] = field(default_factory=dict)
    accounts: HostFacts = field(default_factory=HostFacts)
