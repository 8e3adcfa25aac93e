# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Policy routing rules of this host through the library's own adapter, and the way it thinks that packets take.

Arguments: directory of the library's parent (`plugins/module_utils`). Reads {"delete": rules, "add": rules, "routes":
[[before, after], ...], "trace": packets} as JSON, with the fields of `kernel.IpRule`, those of a `kernel.Route` without
nexthops, and those of `trace.Packet`, and does them in this order. Prints the rules
that are ours and those of others afterwards, which of these are unclear, why a change was refused (null: it was not),
and for each packet the kind of its route (null: none) and its nexthops.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

sys.path.insert(0, sys.argv[1])

from _mwan import netlink
from _mwan.errors import KernelError
from _mwan.kernel import IpRule, Route
from _mwan.trace import Fib, Packet

RANGES = ("source_port", "destination_port", "user")


def rule(fields: dict[str, Any]) -> IpRule:
    return IpRule(**{name: tuple(value) if name in RANGES and value else value for name, value in fields.items()})


def change(wanted: dict[str, Any]) -> str | None:
    try:
        for fields in wanted.get("delete", []):
            routing.change_rule(rule(fields), None)
        for fields in wanted.get("add", []):
            routing.change_rule(None, rule(fields))
        for pair in wanted.get("routes", []):
            routing.change_route(*(Route(**fields) if fields else None for fields in pair))
    except KernelError as exc:
        return str(exc)
    return None


def traced(packet: dict[str, Any]) -> list[Any]:
    found = fib.trace(Packet(**packet)).found
    return [found.kind, [[hop.device, hop.gateway] for hop in found.nexthops]] if found else [None, []]


routing = netlink.Netlink()
asked = json.load(sys.stdin)
refusal = change(asked)
others = routing.surroundings()
clear = [other for other in others.rules if other not in others.unclear]
fib = Fib.of([*routing.rules(), *clear], [*routing.routes(), *others.routes], routing.facts().devices)
answer = {
    "refusal": refusal,
    "ours": [asdict(found) for found in routing.rules()],
    "others": [asdict(found) for found in others.rules],
    "unclear": [str(found) for found in others.unclear],
    "traced": [traced(packet) for packet in asked.get("trace", [])],
}
print(json.dumps(answer))
