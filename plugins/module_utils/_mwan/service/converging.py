# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""One pass over the router, in a thread: write the health document, lead new connections away, then the whole flow."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .. import flow, store
from ..apply import ApplyError, execute
from ..desired import compile_state
from ..document import Document
from ..errors import InputError, KernelError
from ..firewall.model import Firewall
from ..health import Health
from ..kernel import Facts, State
from ..plan import LoadedFirewall, Operation, make_plan
from ..ports import Router

NOTHING = LoadedFirewall(Firewall(mask=0), "")
TROUBLES = (InputError, KernelError, ApplyError, OSError)


@dataclass(frozen=True)
class Order:
    """What a pass starts from. `steer`: a link stopped taking new connections, so that this is what comes first."""

    health_document: dict[str, Any]
    health: Health
    document: Document
    facts: Facts
    steer: bool


@dataclass(frozen=True)
class Result:
    """What a pass did. `trouble` is empty when it succeeded; times are seconds."""

    actions: list[str] = field(default_factory=list)
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    trouble: str = ""
    # the routes and rules that are set now, None where that is not known
    state: State | None = None


class Converging:
    """Used by one thread at a time."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._set: State | None = None

    def run(self, order: Order) -> Result:
        """Never raises what can be expected of files and kernels; that is told by the result."""
        begun = time.monotonic()
        try:
            self._write_health(order)
            if order.steer:
                self._steer(order)
            outcome = flow.converge(self._router, lambda stored: stored, strict=False)
        except TROUBLES as exc:
            self._set = None
            return Result(trouble=str(exc), seconds=time.monotonic() - begun)
        self._set = self._compiled(order, outcome.document)
        return Result(outcome.actions, outcome.warnings, time.monotonic() - begun, "", self._set)

    def _write_health(self, order: Order) -> None:
        self._router.files.write(store.HEALTH, json.dumps(order.health_document, indent=1) + "\n")

    def _compiled(self, order: Order, document: Document) -> State:
        return compile_state(document, order.facts, order.health, realms=document.backend == "iptables").state

    def _steer(self, order: Order) -> None:
        """The policies' routes alone, in the planner's order: what the flow would do some ten milliseconds later.

        What fails here the flow meets again, and tells.
        """
        if self._set is None:
            return
        with self._locked():
            for operation in steering(self._set, self._compiled(order, order.document), order.document):
                try:
                    execute(self._router, operation)
                except KernelError:
                    return

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._router.lock():
            yield


def steering(before: State, after: State, document: Document) -> tuple[Operation, ...]:
    """The changes of policy routes between two states whose rules are the same."""
    settings = document.settings
    tables = {settings.table(document.policy_ident(policy.name)) for policy in document.policies}
    kept = [
        State(routes=frozenset(route for route in state.routes if route.table in tables), rules=before.rules)
        for state in (after, before)
    ]
    return make_plan(kept[0], kept[1], settings, NOTHING, NOTHING, NOTHING)
