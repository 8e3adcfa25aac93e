# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The answer to "where would this connection go?" in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import table, words
from .table import Column

RULE_COLUMNS = (Column("AT", right=True), Column("RULE"), Column("RESULT"), Column("IP RULE"))
CHOICE_COLUMNS = (Column("NO", right=True), Column("RULE"), Column("RESULT"))
WAY_COLUMNS = (Column("LINK"), Column("SHARE", right=True), Column("DEVICE"), Column("GATEWAY"), Column("SEEN AS"))
OUTCOMES = {
    "local": "It is for the router itself.",
    "broadcast": "It is a broadcast on a network of the router.",
    "unreachable": 'It is refused: the sender is told "host unreachable".',
    "prohibit": 'It is refused: the sender is told "administratively prohibited".',
    "blackhole": "It is dropped, and nobody is told.",
    "none": 'It leads nowhere: the sender is told "network unreachable".',
}


def lines(answer: Mapping[str, Any], width: int = 80) -> list[str]:
    rules = table.render(RULE_COLUMNS, [_rule(rule) for rule in answer["rules"]], width)
    return [
        *table.paragraphs([_packet(answer["packet"])], width),
        "",
        *_choices(answer["classified"], width),
        *rules,
        "",
        *_verdict(answer, width),
        *[f"  {link} takes none: {why}" for link, why in answer["passed_over"].items()],
        *table.paragraphs([f"note: {note}" for note in answer["notes"]], width),
    ]


def _packet(packet: Mapping[str, Any]) -> str:
    source, device = packet["source"], packet["device"]
    origin = "the router itself" if device == "lo" else source or "any host"
    if device == "lo" and source:
        origin += f" ({source})"
    marks = [f"{name} {packet[name]}" for name in ("user", "group", "cgroup", "mac") if packet[name]]
    marks += [f"dscp {packet['dscp']}"] if packet["dscp"] else []
    marks += [f"mark {packet['mark']}"] if packet["mark"] != "0x0" else []
    ports = [f"from port {packet['source_port']}"] if packet["source_port"] else []
    ports += [f"to port {packet['destination_port']}"] if packet["destination_port"] else []
    what = ", ".join([" ".join([packet["protocol"] or "any protocol", *ports]), *marks])
    arrival = "" if device == "lo" else f", arriving on {device}"
    return f"A new connection from {origin} to {packet['destination']} ({what}){arrival}"


def _rule(rule: Mapping[str, Any]) -> dict[str, str]:
    name = f"{rule['name']} ({rule['count']})" if rule.get("count", 1) > 1 else rule["name"]
    return {"AT": str(rule["priority"]), "RULE": name, "RESULT": rule["result"], "IP RULE": rule["rule"] or ""}


def _choices(classified: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    """What the firewall asked; nothing where it did not."""
    rows = [{"NO": str(item["position"] or ""), "RULE": item["name"], "RESULT": item["result"]} for item in classified]
    return [*table.render(CHOICE_COLUMNS, rows, width), ""] if rows else []


def _verdict(answer: Mapping[str, Any], width: int) -> Iterator[str]:
    led = answer["forwarded_to"]
    if led:
        yield f"A port forward leads it to {led['address']}" + (f", port {led['port']}" if led["port"] else "")
    rule = answer["rule"]
    if rule:
        target = " ".join(word for pair in rule["target"].items() for word in pair)
        yield f"Rule {rule['name']}: {target}"
    policy, tier = answer["policy"], answer["tier"]
    if policy and answer["ways"]:
        yield f"Policy {policy}, {answer['algorithm']}, tier {tier}:"
    elif policy:
        yield f"Policy {policy}: no link can take it; last resort: {answer['last_resort']}"
    if answer["outcome"] != "forwarded":
        yield OUTCOMES.get(answer["outcome"], f"It meets a route of kind {answer['outcome']}.")
    if answer["ways"]:
        yield from ("  " + line for line in table.render(WAY_COLUMNS, [_way(way) for way in answer["ways"]], width - 2))


def _way(way: Mapping[str, Any]) -> dict[str, str]:
    return {
        "LINK": way["link"] or "no link",
        "SHARE": words.percent(way["share"]),
        "DEVICE": way["device"],
        "GATEWAY": way["gateway"] or "on the device",
        "SEEN AS": way["seen_as"] or "its own address",
    }
