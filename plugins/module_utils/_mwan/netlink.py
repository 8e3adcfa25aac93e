# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The routing of this network namespace, over rtnetlink and ctnetlink."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from . import layout, messages, rtnl
from .conntrack import Conntrack
from .errors import KernelError
from .kernel import Address, Device, Facts, IpRule, Marked, Route, Surroundings

# linux/rtnetlink.h
RTM_GETLINK, RTM_GETADDR, RTM_GETNEIGH = 18, 22, 30
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RTEXT_FILTER_SKIP_STATS = 8
# linux/netlink.h: create, and exclusively or in place of what is there
ADD, REPLACE = 0x400 | 0x200, 0x400 | 0x100
# linux/neighbour.h
NUD_USABLE = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80  # reachable, stale, delay, probe, noarp, permanent
IFA_F_SECONDARY = 0x01
DISCARD_PORT = 9
DESTINATION_LENGTH = rtnl.HEADER.size + 1  # struct rtmsg


class Netlink:
    """The RoutingPort of this network namespace. Open sockets are closed by `close` or with the process."""

    def __init__(self) -> None:
        self._channel = rtnl.Channel()
        self._conntrack: Conntrack | None = None
        self._index: dict[str, int] = {}
        self._name: dict[int, str] = {}

    def close(self) -> None:
        self._channel.close()
        if self._conntrack:
            self._conntrack.close()

    # observing

    def facts(self) -> Facts:
        devices = self._devices()
        return Facts(
            devices=devices,
            addresses=tuple(self._addresses()),
            neighbours=dict(self._neighbours()),
            defaults=self._defaults(),
        )

    def _devices(self) -> dict[str, Device]:
        answers = self._dump("devices", RTM_GETLINK, messages.LINK, [("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)])
        self._name = {message["index"]: message.get_attr("IFLA_IFNAME") for message in answers}
        self._index = {name: index for index, name in self._name.items()}
        return {device.name: device for device in map(messages.device, answers)}

    def _addresses(self) -> Iterator[Address]:
        listed = self._dump("addresses", RTM_GETADDR, messages.ADDRESS, family=socket.AF_INET)
        answers = [message for message in listed if message["scope"] == 0]
        # primary addresses first, as source address selection has them
        for message in sorted(answers, key=lambda item: bool((item.get_attr("IFA_FLAGS") or 0) & IFA_F_SECONDARY)):
            yield messages.address(message, lambda index: self._name.get(index, ""))

    def _neighbours(self) -> Iterator[tuple[tuple[str, str], str]]:
        for message in self._dump("neighbours", RTM_GETNEIGH, messages.NEIGHBOUR, family=socket.AF_INET):
            mac = message.get_attr("NDA_LLADDR")
            if mac and message["state"] & NUD_USABLE and message["ifindex"] in self._name:
                yield (self._name[message["ifindex"]], message.get_attr("NDA_DST")), mac.lower()

    def _defaults(self) -> dict[str, tuple[Route, ...]]:
        found: dict[str, list[Route]] = {}
        for message in self._dump_routes(_is_default, table=254):
            if message["proto"] != layout.PROTOCOL and message["type"] == 1:
                route = messages.route(message, self._device_name)
                for hop in route.nexthops:
                    found.setdefault(hop.device, []).append(route)
        return {device: tuple(sorted(routes, key=lambda route: route.metric)) for device, routes in found.items()}

    def _dump_routes(self, wanted: Callable[[bytes], bool] | None = None, **filters: int) -> list[Any]:
        return self._dump("routes", RTM_GETROUTE, messages.ROUTE, wanted=wanted, family=socket.AF_INET, **filters)

    def _dump(
        self,
        what: str,
        kind: int,
        form: Any,
        attributes: Any = (),
        wanted: Callable[[bytes], bool] | None = None,
        **fields: int,
    ) -> list[Any]:
        """Every object of a kind that has these fields, decoded; `form` is the class of pyroute2's message.

        `wanted` says by a message's octets which are worth the decoding.
        """
        try:
            answers = self._channel.dump(kind, messages.encoded(form(), fields, attributes), wanted)
        except OSError as exc:
            if exc.errno == errno.ENOENT:  # a table that was never used
                return []
            raise KernelError("list", what, _reason(exc.errno)) from exc
        return [messages.decoded(form, answer) for answer in answers]

    def routes(self) -> frozenset[Route]:
        answers = self._dump_routes(proto=layout.PROTOCOL)
        return frozenset(
            messages.route(message, self._device_name) for message in answers if message["proto"] == layout.PROTOCOL
        )

    def rules(self) -> frozenset[IpRule]:
        return frozenset(
            messages.rule(message)
            for message in self._dump_rules()
            if messages.rule_protocol(message) == layout.PROTOCOL
        )

    def foreign_rules(self) -> tuple[IpRule, ...]:
        return tuple(
            messages.rule(message)
            for message in self._dump_rules()
            if messages.rule_protocol(message) != layout.PROTOCOL
        )

    def surroundings(self) -> Surroundings:
        messages_of_others = [item for item in self._dump_rules() if messages.rule_protocol(item) != layout.PROTOCOL]
        return Surroundings(
            routes=tuple(
                messages.route(message, self._device_name)
                for message in self._dump_routes()
                if message["proto"] != layout.PROTOCOL
            ),
            rules=tuple(map(messages.rule, messages_of_others)),
            unclear=frozenset(messages.rule(item) for item in messages_of_others if not messages.rule_is_plain(item)),
        )

    def _dump_rules(self) -> list[Any]:
        return self._dump("rules", RTM_GETRULE, messages.RULE, family=socket.AF_INET)

    # changing

    def change_route(self, before: Route | None, after: Route | None) -> None:
        if after:
            verb, flags = ("replace", REPLACE) if before else ("add", ADD)
            self._change(
                f"ip route {verb}", after, RTM_NEWROUTE, flags, messages.route_message(after, self._device_index)
            )
        elif before:
            self._change("ip route del", before, RTM_DELROUTE, 0, messages.route_message(before, self._device_index))

    def _device_name(self, index: int) -> str:
        """The kernel may have got the device since `facts`, or lost it since the route was listed."""
        if index not in self._name:
            self._devices()
        return self._name.get(index, f"if{index}")

    def _device_index(self, device: str) -> int:
        if device not in self._index:
            self._devices()
        try:
            return self._index[device]
        except KeyError:
            raise KernelError("find", f"device {device}", "it does not exist any more") from None

    def change_rule(self, before: IpRule | None, after: IpRule | None) -> None:
        if after:
            self._change("ip rule add", after, RTM_NEWRULE, ADD, messages.rule_message(after))
        elif before:
            self._change("ip rule del", before, RTM_DELRULE, 0, messages.rule_message(before))

    def _change(self, operation: str, subject: Route | IpRule, kind: int, flags: int, message: bytes) -> None:
        try:
            self._channel.request(kind, flags, message)
        except OSError as exc:
            if not self._was_done(exc.errno, kind, subject):
                table = f" table {subject.table}" if isinstance(subject, Route) else ""
                raise KernelError(operation, f"{subject}{table}", _reason(exc.errno)) from exc

    def _was_done(self, code: int | None, kind: int, subject: Route | IpRule) -> bool:
        """By somebody else meanwhile: the prober steers without waiting for whoever holds the router's lock."""
        adding = kind in (RTM_NEWROUTE, RTM_NEWRULE)
        if code not in ((errno.EEXIST,) if adding else (errno.ENOENT, errno.ESRCH)):
            return False
        return adding == (subject in (self.routes() if isinstance(subject, Route) else self.rules()))

    def flush_connections(self, which: Marked) -> None:
        """Mark 0 is refused: it is on every connection that is not ours."""
        if not which.mark:
            raise KernelError("conntrack -D", "mark 0", "would delete every connection of the host")
        try:
            # seldom needed, and the first use may load a kernel module
            self._conntrack = self._conntrack or Conntrack()
            self._conntrack.forget(which)
        except OSError as exc:
            raise KernelError("conntrack -D", which.words(), _reason(exc.errno)) from exc

    def learn_neighbours(self, wanted: Iterable[tuple[str, str]], seconds: float) -> None:
        missing = set(wanted)
        for device, address in missing:
            _knock(device, address)
        deadline = time.monotonic() + seconds
        while missing and time.monotonic() < deadline:
            time.sleep(0.02)
            missing -= dict(self._neighbours()).keys()


def _is_default(message: bytes) -> bool:
    """Routers may hold a million routes of others, of which these few matter."""
    return message[DESTINATION_LENGTH] == 0


def _knock(device: str, address: str) -> None:
    """Send one empty datagram to the discard port, which makes the kernel resolve the neighbour.

    Errors mean it is not there.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as knock:
        try:
            knock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            knock.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
            knock.sendto(b"", (address, DISCARD_PORT))
        except OSError:
            return


def _reason(code: int | None) -> str:
    return f"{os.strerror(code or 0)} (errno {errno.errorcode.get(code or 0, code)})"
