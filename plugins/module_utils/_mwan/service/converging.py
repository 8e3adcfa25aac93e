# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""One pass over the router, in a thread: lead new connections, write the health document, then the whole flow."""

from __future__ import annotations

import json
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

from .. import flow, store
from ..apply import ApplyError, execute
from ..desired import table_names
from ..document import Document
from ..errors import InputError, KernelError
from ..health import Health
from ..kernel import Facts, State
from ..ports import FilePort, Router, RoutingPort
from .steering import compiled, steering

TROUBLES = (InputError, KernelError, ApplyError, OSError)


@dataclass(frozen=True)
class Order:
    """What a pass starts from. `steer`: links have changed their states, so that leading new connections comes first.

    `document` stands in for a stored one that cannot be used. `version` grows with the health document.
    """

    health_document: dict[str, Any]
    health: Health
    document: Document
    facts: Facts
    steer: bool
    version: int = 0


@dataclass(frozen=True)
class Result:
    """What a pass did. `trouble` is empty when it succeeded; times are seconds.

    `loaded`: the firewall rules were loaded anew. `state` has the routes and rules that are set now, None where that
    is not known. `where` shows where a mistake of ours happened.
    """

    actions: list[str] = field(default_factory=list)
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    trouble: str = ""
    loaded: bool = False
    state: State | None = None
    where: str = ""


class Converging:
    """Passes are run by one thread at a time; beside it, another one may steer.

    Steering takes no lock: it is not to wait for whoever holds that. Who holds it looks again at the end, under the
    health of then, and the pass that follows each change of health puts right what the two made of it together.
    `hands` do the steering, and are nobody else's.
    """

    def __init__(self, router: Router, hands: RoutingPort | None = None) -> None:
        self._router, self._hands = router, replace(router, routing=hands or router.routing)
        self._one = Lock()
        self._latest: Order | None = None

    def steer(self, order: Order) -> Result:
        """Lead new connections, and store the health, while a pass is running. Raises nothing."""
        begun = time.monotonic()
        actions, problems = self._begin(order)
        return Result(actions, seconds=time.monotonic() - begun, trouble="; ".join(dict.fromkeys(problems)))

    def run(self, order: Order) -> Result:
        """Raises nothing: what went wrong is in the result. A health document that cannot be written stops nothing."""
        begun = time.monotonic()
        actions, problems = self._begin(order)
        done = self._pass(order)
        actions += done.actions
        if done.state is None:
            problems.append(done.trouble)
            with self._one:
                latest = replace(self._note(order), document=self._document(order.document))
                actions += self._lead(latest, problems, in_need=True)
        return replace(
            done, actions=actions, seconds=time.monotonic() - begun, trouble="; ".join(dict.fromkeys(problems))
        )

    def _begin(self, order: Order) -> tuple[list[str], list[str]]:
        """What was done, and what went wrong."""
        problems: list[str] = []
        with self._one:
            latest = self._note(order)
            actions = self._lead(latest, problems) if latest.steer else []
            problems += self._store_health()
        return actions, problems

    def _pass(self, order: Order) -> Result:
        try:
            outcome = self._converge(order.document)
            state = compiled(outcome.document, order.facts, self._health()).state
        except TROUBLES as exc:
            return Result(trouble=str(exc))
        except Exception as exc:
            # a mistake of ours must not end the watching; the journal shows where it is
            return Result(trouble=f"{type(exc).__name__}: {exc}", where=traceback.format_exc())
        loaded = any(action.endswith(" rules") for action in outcome.actions)
        return Result(outcome.actions, outcome.warnings, loaded=loaded, state=state)

    def _note(self, order: Order) -> Order:
        """The latest order: one that steers may overtake the pass before it."""
        if self._latest is None or order.version >= self._latest.version:
            self._latest = order
        return self._latest

    def _health(self) -> Health:
        """The latest, with the operator's word of now, as every other run has it."""
        word = self._latest.health_document if self._latest else None
        weights = self._latest.health.weights if self._latest else {}
        return replace(Health.parse(word).drained(store.load_drained(self._router.files)), weights=weights)

    def _store_health(self) -> list[str]:
        """Returns what went wrong: that is told, but what follows has the health from us."""
        document = self._latest.health_document if self._latest else {}
        try:
            self._router.files.write(store.HEALTH, json.dumps(document, indent=1) + "\n")
        except KernelError as exc:
            return [str(exc)]
        return []

    def _lead(self, order: Order, problems: list[str], in_need: bool = False) -> list[str]:
        """What the flow would do some ten milliseconds later, or cannot do now.

        What the kernel refuses here the flow meets again, and tells; one policy does not keep the others from it.
        """
        done: list[str] = []
        names, routing = table_names(order.document), self._hands.routing
        try:
            observed = State(routing.routes(), routing.rules(), pins=store.load_pins(self._router.files))
            for operations in steering(observed, order.document, order.facts, order.health, in_need):
                with suppress(KernelError):
                    for operation in operations:
                        execute(self._hands, operation)
                        done.append(operation.describe(names))
        except KernelError:
            return done
        except Exception as exc:
            # a mistake of ours; the flow is to be tried all the same
            problems.append(f"{type(exc).__name__}: {exc}")
        return done

    def _document(self, held: Document) -> Document:
        try:
            return store.load_document(self._router.files)
        except TROUBLES:
            return held

    def _converge(self, held: Document) -> flow.Outcome:
        router = self._router
        try:
            store.load_document(router.files)
        except InputError:
            router = replace(router, files=HeldFiles(router.files, store.declared_text(held)))
        return flow.converge(router, lambda stored: stored, strict=False, read_health=self._health)


class HeldFiles:
    """The files, with another text for the document, which is left as it is."""

    def __init__(self, files: FilePort, document: str) -> None:
        self._files, self._document = files, document

    def read(self, path: str) -> str | None:
        return self._document if path == store.DOCUMENT else self._files.read(path)

    def write(self, path: str, text: str | None, mode: int = 0o644) -> None:
        if path != store.DOCUMENT:
            self._files.write(path, text, mode)
