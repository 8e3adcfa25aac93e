# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors

"""Probe senders for one asyncio loop: no thread and, but for commands, no process for a probe.

A link is down when its probes go unanswered; so that a stall of this process never looks like that, whoever decides
should let the loop read what waits first: two `loop.call_soon()` in a row, as the first only joins the turn in which
the sockets are about to be read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from .arp import ArpProbe
from .attempts import PATIENCE
from .binding import Binding, Probe, Sink
from .command import CommandProbe
from .dns import DnsProbe
from .http import STATUS, HttpProbe
from .icmp import IcmpProbe
from .lookup import lookup
from .tcp import TcpProbe

__all__ = [
    "ArpProbe",
    "Binding",
    "CommandProbe",
    "DnsProbe",
    "HttpProbe",
    "IcmpProbe",
    "Probe",
    "Sink",
    "TcpProbe",
    "lookup",
    "make",
]


def make(target: Mapping[str, Any], binding: Binding, sink: Sink, loop: asyncio.AbstractEventLoop) -> Probe:
    """The probe of one target, by its `kind` and the keys of watch.target_spec.Target.

    The caller has filled in the `address` of an `arp` target (the link's gateway) and that of an `http` target whose
    URL has a name (lookup()). Raises KeyError for what is missing, ValueError for what cannot be used.
    """
    return MAKERS[target["kind"]](target, binding, sink, loop)


def _icmp(target: Mapping[str, Any], binding: Binding, sink: Sink, loop: asyncio.AbstractEventLoop) -> Probe:
    return IcmpProbe(target["address"], binding, sink, loop)


def _tcp(target: Mapping[str, Any], binding: Binding, sink: Sink, loop: asyncio.AbstractEventLoop) -> Probe:
    return TcpProbe(target["address"], target["port"], binding, sink, loop)


def _http(target: Mapping[str, Any], binding: Binding, sink: Sink, loop: asyncio.AbstractEventLoop) -> Probe:
    address = target.get("address") or urlsplit(target["url"]).hostname or ""
    return HttpProbe(
        target["url"],
        address,
        binding,
        sink,
        loop,
        status=target.get("status", STATUS),
        body=target.get("body", ""),
        verify=target.get("verify", True),
    )


def _dns(target: Mapping[str, Any], binding: Binding, sink: Sink, loop: asyncio.AbstractEventLoop) -> Probe:
    return DnsProbe(
        target["address"],
        target["query"],
        binding,
        sink,
        loop,
        record=target.get("record", "NS"),
        port=target.get("port", 53),
    )


def _arp(target: Mapping[str, Any], binding: Binding, sink: Sink, loop: asyncio.AbstractEventLoop) -> Probe:
    return ArpProbe(target["address"], binding, sink, loop)


def _command(target: Mapping[str, Any], binding: Binding, sink: Sink, loop: asyncio.AbstractEventLoop) -> Probe:
    return CommandProbe(target["command"], binding, sink, loop, limit=target.get("limit", PATIENCE))


MAKERS = {"icmp": _icmp, "tcp": _tcp, "http": _http, "dns": _dns, "arp": _arp, "command": _command}
