# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What many routers say of themselves, as data and as a table; pure."""

from __future__ import annotations

import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.multiwan.linux.plugins.module_utils._mwan.console import table, words
from ansible_collections.multiwan.linux.plugins.module_utils._mwan.console.table import Column

WIDTH = 120
LONGEST_REASON = 72
NOT_THERE = 2  # ENOENT, which the module command returns where there is no such program
PREFIX = "Task failed: "

COLUMNS = (
    Column("ROUTER"),
    Column("LINK"),
    Column("STATE"),
    Column("SINCE", right=True, optional=4),
    Column("LOSS", right=True, optional=5),
    Column("RTT", right=True, optional=6),
    Column("SHARE", right=True),
    Column("DRIFT", right=True),
    Column("PROBER", optional=2),
    Column("VERSION", optional=7),
    Column("WHY"),
)
EMPTY = {column.title: "" for column in COLUMNS}


def collect(answers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the routers answered to `mwanctl status --check --drift --json`, by name: results of a command's task."""
    routers = {name: _router(answers[name]) for name in sorted(answers, key=_natural)}
    problems = [f"{name}: {router['summary']}" for name, router in routers.items() if router["code"] != 0]
    return {"routers": routers, "problems": problems, "summary": _summary(routers)}


def _natural(name: str) -> list[tuple[int, int, str]]:
    """router2 before router10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]


def _router(answer: Mapping[str, Any]) -> dict[str, Any]:
    told = _told(answer)
    if told is None:
        state, reason = _failure(answer)
        return {"state": state, "code": 3, "summary": _short(f"{state}: {reason}"), "links": {}, "reason": reason}
    prober = told.get("prober") or {}
    return {
        "state": "told",
        "code": told.get("code", 0),
        "summary": " ".join(str(told.get("summary", "")).split()),
        "reason": None,
        "release": told.get("release"),
        "prober": {
            "running": bool(prober.get("running")),
            "silent": prober.get("silent"),
            "version": prober.get("version"),
        },
        "drift": told.get("drift"),
        "links": {name: _link(link, told) for name, link in told["links"].items()},
    }


def _told(answer: Mapping[str, Any]) -> Mapping[str, Any] | None:
    try:
        told = json.loads(answer.get("stdout") or "null")
    except ValueError:
        return None
    return told if isinstance(told, dict) and isinstance(told.get("links"), dict) else None


def _failure(answer: Mapping[str, Any]) -> tuple[str, str]:
    """What kept the router from answering, and how that was told."""
    told = next((str(answer[key]) for key in ("stderr", "msg") if answer.get(key)), "no answer")
    reason = " ".join(told.split())
    reason = reason[len(PREFIX) :] if reason.startswith(PREFIX) else reason
    if answer.get("unreachable"):
        return "unreachable", reason
    missing = answer.get("rc") == NOT_THERE and not answer.get("stderr")
    return ("no mwan", "mwanctl is not installed") if missing else ("failed", reason)


def _link(link: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """Spans in seconds, loss and share from 0 to 1; the share is that of the default policy."""
    kept = {key: link.get(key) for key in ("device", "state", "reason", "loss", "rtt", "connections")}
    since, now = link.get("since"), told.get("at")
    span = None if since is None or now is None else max(0, round(now - since))
    return {**kept, "since": span, "share": (link.get("shares") or {}).get(_shown_policy(told))}


def _shown_policy(told: Mapping[str, Any]) -> str | None:
    policies = told.get("policies") or {}
    default = [name for name, policy in policies.items() if policy.get("default")]
    return next(iter(default or policies), None)


def _summary(routers: Mapping[str, Mapping[str, Any]]) -> str:
    states = Counter("in order" if router["code"] == 0 else _kind(router) for router in routers.values())
    links = Counter(str(link["state"]) for router in routers.values() for link in router["links"].values())
    total = sum(links.values())
    return f"{_counted(len(routers), 'router')}: {_listed(states)}; {_counted(total, 'link')}: {_listed(links)}"


def _kind(router: Mapping[str, Any]) -> str:
    return "not in order" if router["state"] == "told" else str(router["state"])


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {word}" for word, count in sorted(counts.items())) or "none"


def _short(text: str) -> str:
    return textwrap.shorten(text, LONGEST_REASON, placeholder=" ...")


# as a table


def lines(fleet: Mapping[str, Any], width: int = WIDTH) -> list[str]:
    """The table, a line for each router that is not in order, and a summary; no line is wider where that can be.

    Double quotes become single ones: Ansible would show them with a backslash, out of line.
    """
    rows = [row for name, router in fleet["routers"].items() for row in _rows(name, router)]
    found = table.render(COLUMNS, rows, width) if rows else []
    problems = table.paragraphs(fleet["problems"], width)
    parts = [found, problems, table.paragraphs([fleet["summary"]], width)]
    return [line.replace('"', "'") for part in _separated(parts) for line in part]


def _separated(parts: Iterable[list[str]]) -> Iterator[list[str]]:
    for number, part in enumerate(filter(None, parts)):
        yield ["", *part] if number else part


def _rows(name: str, router: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """What is the router's stands in its first line."""
    own = {"ROUTER": name, **_of_router(router)}
    for link, seen in router["links"].items():
        yield {**EMPTY, **own, **_of_link(link, seen)}
        own = {}
    if own:
        state = router["state"] if router["state"] != "told" else "no links"
        yield {**EMPTY, **own, "STATE": state, "WHY": _short(router["reason"] or "")}


def _of_router(router: Mapping[str, Any]) -> dict[str, str]:
    if router["state"] != "told":
        return {}
    prober = router["prober"]
    running = "runs" if prober["running"] else "silent" if prober["silent"] else "stopped"
    drift = words.NOTHING if router["drift"] is None else str(len(router["drift"]))
    return {"DRIFT": drift, "PROBER": running, "VERSION": prober["version"] or router["release"] or words.NOTHING}


def _of_link(name: str, link: Mapping[str, Any]) -> dict[str, str]:
    return {
        "LINK": name,
        "STATE": str(link["state"]),
        "SINCE": words.duration(link["since"]),
        "LOSS": words.percent(link["loss"]),
        "RTT": words.milliseconds(link["rtt"]),
        "SHARE": words.percent(link["share"]),
        "WHY": _short(str(link["reason"] or "")),
    }
