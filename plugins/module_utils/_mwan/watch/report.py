# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people are told: the reason of a change in words, its evidence and a link's figures as plain data."""

from __future__ import annotations

from typing import Any

from .link import Link
from .machine import Fact, State, Transition
from .target import NEVER, TargetRecord


def reason(link: Link, row: Transition, now: float) -> str:
    """Why the link takes this row; asked before it does."""
    if row.facts & Fact.BROKEN:
        return link.trouble
    if row.after in (State.DOWN, State.SUSPECT):
        return _silence(link, now)
    if row.before is State.SUSPECT and row.facts & Fact.HELD:
        return "no other link answers" if link.eligible else "its targets answer on no link"
    if row.facts & Fact.STABLE:
        return f"stable for {link.wait:.0f} s"
    if row.facts & Fact.BRIEF:
        return f"answers again after {now - link.since:.1f} s"
    if row.facts & Fact.ALONE:
        return "answers, and no other link does"
    if row.facts & Fact.POOR:
        return link.quality.poor
    return "loss and round trip are fine" if row.before is State.DEGRADED else "answers"


def _silence(link: Link, now: float) -> str:
    proof = link.proof
    parts = [f"no answer for {now - proof:.1f} s from {_listed(link)}"]
    negatives = link.negatives(proof)
    if negatives:
        parts.append(f"{len(negatives)} negative: {negatives[-1]}")
    gateway = gateway_word(link, now)
    if gateway:
        parts.append(f"gateway {gateway}")
    return ", ".join(parts)


def _listed(link: Link) -> str:
    silent = [record for record in link.eligible if record.spec and record.heard <= link.proof]
    return ", ".join(record.spec.label for record in silent if record.spec)


def gateway_word(link: Link, now: float) -> str:
    """Whether the gateway answers since the targets do not; "" when it was not asked."""
    proof = link.proof
    if link.gateway.heard > proof:
        return "answers"
    return "is silent" if link.gateway.unanswered(proof, now) else ""


def evidence(link: Link, now: float) -> dict[str, Any]:
    """The figures behind a change, in seconds and shares."""
    proof, found = link.proof, link.figures(now)
    return {
        "silence": _rounded(now - proof),
        "limit": _rounded(link.limit),
        "unanswered": sum(record.unanswered(proof, now) for record in link.eligible),
        "negatives": link.negatives(proof),
        "gateway": gateway_word(link, now),
        "loss": _rounded(found.pool.loss if found.pool.total else None),
        "rtt": _rounded(found.rtt),
        "in_state_for": _rounded(now - link.since),
        "targets": [_target(record, record is found.outlier, link, now) for record in link.records],
    }


def _target(record: TargetRecord, outlier: bool, link: Link, now: float) -> dict[str, Any]:
    tally = record.window.tally(now)
    return {
        "target": record.spec.label if record.spec else "gateway",
        "heard_ago": None if record.heard == NEVER else _rounded(now - record.heard),
        "loss": _rounded(tally.loss if tally.total else None),
        "rtt": _rounded(tally.rtt),
        "excluded": record not in link.eligible,
        "outlier": outlier,
        "error": record.error,
        "error_ago": _rounded(now - record.error_at) if record.error else None,
    }


def snapshot(link: Link, now: float) -> dict[str, Any]:
    return {
        "state": link.state.value,
        "since": link.since,
        "reason": link.reason,
        "ready": link.ready,
        **evidence(link, now),
        "up_in": _rounded(max(0.0, link.stable_since + link.wait - now)) if link.stable_since is not None else None,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
