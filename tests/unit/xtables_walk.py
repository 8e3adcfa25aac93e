# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Follows packets through x_tables rules as the kernel does, for the matches and targets that choices use."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from _mwan.firewall.iptables_conditions import DAYS
from _mwan.firewall.xtables import Extension, Rule

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17}


@dataclass
class Packet:
    """`when` is the day of the week and its minute, `draw` what a random match draws."""

    source: str = "192.168.1.1"
    destination: str = "7.7.7.7"
    device: str = "lan0"
    out: str = "wan1"
    protocol: int = 6
    source_port: int = 40000
    destination_port: int = 80
    dscp: int = 0
    mac: str = "02:00:00:00:00:01"
    user: int = 0
    group: int = 0
    mark: int = 0
    connection: int = 0
    state: str = "NEW"
    direction: str = "ORIGINAL"
    when: tuple[int, int] = (0, 0)
    draw: float = 0.0
    queue: int | None = None


@dataclass
class Tables:
    """One table with what its rules remember. `sets`: networks or clients by name."""

    rules: Iterable[Rule]
    sets: dict[str, set[str]] = field(default_factory=dict)
    counted: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    _turns: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.chains: dict[str, list[Rule]] = {}
        for rule in self.rules:
            self.chains.setdefault(rule.chain, []).append(rule)

    def walk(self, chain: str, packet: Packet) -> bool:
        """False when the packet has left the table."""
        for rule in self.chains.get(chain, []):
            self.asked += 1
            if not self.meets(rule, packet):
                continue
            name = rule.target.name
            if name == "RETURN":
                return True
            if name == "NFQUEUE":
                packet.queue = int(dict(rule.target.options)["queue-num"])
                return False
            if not name.startswith("MWAN_"):
                self._do(rule.target, packet)
            elif not self.walk(name, packet):
                return False
            elif rule.goto:
                return True
        return True

    def meets(self, rule: Rule, packet: Packet) -> bool:
        asked = (
            rule.protocol is None
            or PROTOCOLS.get(rule.protocol, rule.protocol) in (packet.protocol, str(packet.protocol)),
            rule.source is None or within(packet.source, rule.source),
            rule.destination is None or within(packet.destination, rule.destination),
            on(packet.device, rule.in_device),
            on(packet.out, rule.out_device),
        )
        return all(asked) and all(self._matches(match, rule, packet) for match in rule.matches)

    def _matches(self, match: Extension, rule: Rule, packet: Packet) -> bool:
        options = dict(match.options)
        if match.name == "comment":
            self.counted[options["comment"]] += 1
            return True
        if match.name == "statistic" and options["mode"] == "nth":
            self._turns[id(rule)] += 1
            return (self._turns[id(rule)] - 1) % int(options["every"]) == int(options["packet"])
        if match.name == "set":
            name, _space, sides = options["match-set"].partition(" ")
            return any(within(client(packet, sides), item) for item in self.sets[name])
        return MATCHES[match.name](options, packet)

    def _do(self, target: Extension, packet: Packet) -> None:
        options = dict(target.options)
        if target.name == "SET":
            name, _space, sides = (options.get("add-set") or options["del-set"]).partition(" ")
            (self.sets[name].add if "add-set" in options else self.sets[name].discard)(client(packet, sides))
            return
        if "restore-mark" in options:
            mask = int(options["nfmask"], 16)
            packet.mark = packet.mark & ~mask | packet.connection & mask
            return
        value, mask = (int(number, 16) for number in options["set-xmark"].split("/"))
        assert value & ~mask == 0
        if target.name == "MARK":
            packet.mark = packet.mark & ~mask | value
        else:
            packet.connection = packet.connection & ~mask | value


def on(device: str, asked: str | None) -> bool:
    return asked is None or (device != asked[1:] if asked.startswith("!") else device == asked)


def within(address: str, network: str) -> bool:
    if "," in network or "," in address:
        return address == network
    return ipaddress.IPv4Address(address) in ipaddress.IPv4Network(network)


def client(packet: Packet, sides: str) -> str:
    return ",".join(packet.source if side == "src" else packet.destination for side in sides.split(","))


def _masked(asked: str, mark: int) -> bool:
    value, mask = (int(number, 16) for number in asked.lstrip("!").split("/"))
    return (mark & mask == value) != asked.startswith("!")


def _ports(options: dict[str, str], packet: Packet) -> bool:
    ((option, listed),) = options.items()
    port = {"source-ports": packet.source_port, "destination-ports": packet.destination_port}[option]
    items = [[int(part) for part in item.split(":")] for item in listed.split(",")]
    assert sum(map(len, items)) <= 15
    return packet.protocol in (6, 17) and any(item[0] <= port <= item[-1] for item in items)


def _time(options: dict[str, str], packet: Packet) -> bool:
    day, minute = packet.when
    first, last = (clock(options[name]) for name in ("timestart", "timestop"))
    return DAYS[day] in options["weekdays"].split(",") and first <= minute * 60 <= last


def clock(text: str) -> int:
    parts = [int(part) for part in text.split(":")]
    return sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))


def _connection(options: dict[str, str], packet: Packet) -> bool:
    answered = "" if packet.state == "NEW" else "SEEN_REPLY"
    told = {"ctstate": packet.state, "ctdir": packet.direction, "ctstatus": answered}
    return all(told[name] == value for name, value in options.items())


def _owner(options: dict[str, str], packet: Packet) -> bool:
    told = {"uid-owner": packet.user, "gid-owner": packet.group}
    return all(told[name] == int(value) for name, value in options.items())


def bpf(options: dict[str, str], packet: Packet) -> bool:
    """The classic machine with its two registers, for the instructions that the programs have."""
    words = [tuple(map(int, part.split())) for part in options["bytecode"].strip('"').split(",")]
    (length,), program = words[0], words[1:]
    assert length == len(program) <= 64
    header = {12: packet.source, 16: packet.destination}
    a = x = at = 0
    while True:
        code, above, otherwise, k = program[at]
        at += 1
        if code == 0x06:
            return bool(k)
        if code == 0x20:
            a = int(ipaddress.IPv4Address(header[k]))
        elif code == 0x25:
            at += above if a > k else otherwise
        elif code == 0x07:
            x = a
        else:
            a = {0x74: a >> k & 0xFFFFFFFF, 0x24: a * k & 0xFFFFFFFF, 0xAC: a ^ x}[code]


MATCHES: dict[str, Callable[[dict[str, str], Packet], bool]] = {
    "addrtype": lambda _options, packet: packet.destination == "255.255.255.255",
    "tcp": lambda options, packet: packet.protocol == 6 and options == {"tcp-flags": "RST NONE"},
    "policy": lambda _options, _packet: False,
    "conntrack": _connection,
    "connmark": lambda options, packet: _masked(options["mark"], packet.connection),
    "mark": lambda options, packet: _masked(options["mark"], packet.mark),
    "multiport": _ports,
    "dscp": lambda options, packet: int(options["dscp"]) == packet.dscp,
    "mac": lambda options, packet: options["mac-source"] == packet.mac,
    "time": _time,
    "owner": _owner,
    "bpf": bpf,
    "statistic": lambda options, packet: packet.draw < float(options["probability"]),
}
