# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What to probe: one target, as text ("192.0.2.1", "tcp://192.0.2.1:443") or as a mapping with a kind."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

from .. import values
from ..errors import InputError

GATEWAY = "arp"
RECORDS = ("A", "AAAA", "NS", "SOA")
# kind -> (fields it must have, fields it may have)
KINDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "icmp": (("address",), ()),
    "tcp": (("address", "port"), ()),
    "http": (("url",), ("address", "resolver", "status", "body", "verify")),
    "dns": (("address",), ("query", "record")),
    "arp": ((), ("address",)),
    "command": (("command",), ()),
}
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "http": {"status": 200, "verify": True},
    "dns": {"query": ".", "record": "NS"},
}
# RFC 1035 section 2.3.4: labels of 63 octets, names of 255 in their wire form; '_' is common in practice
DOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,62}(?<!-))?(\.[a-z0-9_]([a-z0-9_-]{0,62}(?<!-))?)*\Z")
HINT = 'Give an address, "tcp://192.0.2.1:443", "http://192.0.2.1/", "dns://192.0.2.1/example.net", "arp" or a mapping'


@dataclass(frozen=True)
class Target:
    """One target. Fields that its kind does not have are None; `arp` without an address is the link's gateway.

    An http target whose URL has a name is reached at `address`, or at what `resolver` says when asked over the link.
    `verify` False accepts any certificate.
    """

    kind: str
    address: str | None = None
    port: int | None = None
    url: str | None = None
    resolver: str | None = None
    status: int | None = None
    body: str | None = None
    verify: bool | None = None
    query: str | None = None
    record: str | None = None
    command: tuple[str, ...] | None = None

    @classmethod
    def parse(cls, option: str, data: Any) -> Target:
        given = values.only_keys(option, _mapping(option, data), [field.name for field in fields(cls)])
        kind = values.choice(option + ".kind", given.get("kind", "icmp"), KINDS)
        needed, optional = KINDS[kind]
        given = values.only_keys(option, given, ("kind", *needed, *optional))
        for key in needed:
            if key not in given:
                raise InputError(f"{option}.{key}", None, "is missing", f"Every target of kind {kind} has one")
        given = {**DEFAULTS.get(kind, {}), **given}
        target = cls(kind, **{key: PARSERS[key](f"{option}.{key}", given[key]) for key in given if key != "kind"})
        if kind == "http":
            target._check_host(option)
        return target

    def _check_host(self, option: str) -> None:
        """A name needs one way to its address, and an address none: ordinary lookups do not leave by the link."""
        host = str(urlsplit(self.url or "").hostname)
        named = bool(DOMAIN.match(host)) and not _is_address(host)
        ways = [key for key in ("address", "resolver") if getattr(self, key)]
        if named and len(ways) != 1:
            remedy = "Give either address, or the resolver to ask over this link"
            raise InputError(option + ".url", self.url, "has a name instead of an address", remedy)
        if not named and ways:
            raise InputError(f"{option}.{ways[0]}", getattr(self, ways[0]), "is in the URL already", "Leave it out")

    def dump(self) -> dict[str, Any]:
        data = {key: value for key, value in vars(self).items() if value is not None}
        return {**data, "command": list(self.command)} if self.command else data

    @property
    def label(self) -> str:
        """A short name for logs and tables."""
        if self.kind == "icmp":
            return str(self.address)
        if self.kind == "http":
            return str(self.url)
        if self.kind == "command":
            return " ".join(self.command or ())
        tail = {"tcp": f":{self.port}", "dns": f"/{self.query}"}.get(self.kind, "")
        return f"{self.kind}://{self.address}{tail}" if self.address else self.kind


def _mapping(option: str, data: Any) -> Any:
    """The mapping that a text stands for; anything else as it is."""
    if not isinstance(data, str):
        return data
    if data == GATEWAY:
        return {"kind": "arp"}
    scheme, sep, rest = data.partition("://")
    if not sep:
        return {"kind": "icmp", "address": data}
    if scheme in ("http", "https"):
        return {"kind": "http", "url": data}
    if scheme in ("icmp", "arp"):
        return {"kind": scheme, "address": rest}
    if scheme == "tcp":
        address, _sep, port = rest.rpartition(":")
        return {"kind": "tcp", "address": address, "port": port}
    if scheme == "dns":
        address, _sep, query = rest.partition("/")
        return {"kind": "dns", "address": address, "query": query or None}
    raise InputError(option, data, "is not a target", HINT)


def _is_address(host: str) -> bool:
    return host.replace(".", "").isdigit()


def _port(option: str, value: Any) -> int:
    return values.integer(option, value, 1, 65535)


def _status(option: str, value: Any) -> int:
    return values.integer(option, value, 100, 599)


def _text(option: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(option, value, "is not a text", "Give the characters that the answer must contain")
    return value


def _domain(option: str, value: Any) -> str:
    name = value.lower() if isinstance(value, str) else ""
    name = name if name == "." else name.rstrip(".")
    if name != "." and not DOMAIN.match(name):
        raise InputError(option, value, "is not a domain name", 'Give a name such as example.net, or "." for the root')
    return name


def _record(option: str, value: Any) -> str:
    return values.choice(option, value.upper() if isinstance(value, str) else value, RECORDS)


def _url(option: str, value: Any) -> str:
    """An absolute http or https URL in ASCII, with its host in lower case and a path."""
    if isinstance(value, str) and not value.isascii():
        remedy = "Write a name in its xn-- form, and other characters as %XX"
        raise InputError(option, value, "has characters that no URL has", remedy)
    problem = InputError(option, value, "is not an http or https URL", "Give one such as http://192.0.2.1/generate_204")
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        port = parts.port
    except ValueError:
        raise problem from None
    host = (parts.hostname or "").lower()
    if parts.scheme not in ("http", "https") or "@" in parts.netloc or re.search(r"[\s\x00-\x1f]", value):
        raise problem
    if _is_address(host):
        host = values.address(option, host)
    elif not DOMAIN.match(host):
        raise problem
    netloc = host if port in (None, {"http": 80, "https": 443}[parts.scheme]) else f"{host}:{port}"
    return urlunsplit(SplitResult(parts.scheme, netloc, parts.path or "/", parts.query, ""))


def _command(option: str, value: Any) -> tuple[str, ...]:
    try:
        words = shlex.split(value) if isinstance(value, str) else list(value)
    except (TypeError, ValueError):
        words = []
    if not words or not all(isinstance(word, str) for word in words) or not words[0].startswith("/"):
        raise InputError(option, value, "is not a command", "Give the program's full path and its arguments as a list")
    return tuple(words)


PARSERS: Mapping[str, Callable[[str, Any], Any]] = {
    "address": values.address,
    "port": _port,
    "url": _url,
    "resolver": values.address,
    "status": _status,
    "body": _text,
    "verify": values.boolean,
    "query": _domain,
    "record": _record,
    "command": _command,
}
