# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Carry out a plan through the ports, one operation at a time, and go back where one fails."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from . import store
from .errors import KernelError
from .firewall.model import Firewall
from .kernel import IpRule, Marked, Route
from .plan import LoadedFirewall, Operation
from .ports import Router


class ApplyError(RuntimeError):
    """An operation failed. `done` are the operations that stand after going back, `failed` the one that was refused."""

    def __init__(self, failed: str, cause: KernelError, undone: list[str], done: list[str]) -> None:
        state = (
            f"the {len(undone)} operations before it were undone" if undone else "nothing had been changed before it"
        )
        state += "; the router forwards as before"
        if done:
            state = "undoing failed, and these operations stand: {}".format("; ".join(done))
        super().__init__(f"{failed} failed: {cause}; {state}. The next run starts from what is there")
        self.failed = failed
        self.undone = undone
        self.done = done


class NotKeptError(KernelError):
    """The plan was carried out, and what it set did not stay. `done` are its operations."""

    def __init__(self, done: list[str], left: list[str]) -> None:
        reason = "it was carried out and stored, but did not stay: {}".format("; ".join(left))
        super().__init__("verify", "the applied plan", reason)
        self.done = done


def apply_plan(
    router: Router, operations: Iterable[Operation], names: Mapping[int, str], earlier: Iterable[Operation] = ()
) -> None:
    """Execute `operations` in order; raises ApplyError after undoing, last first, what was done, now and `earlier`."""
    done = list(earlier)
    for operation in operations:
        try:
            execute(router, operation)
        except KernelError as exc:
            # loading a firewall takes several writes, so one that was refused may have been carried out in part
            begun = [operation] if operation.kind.endswith("firewall") else []
            standing = _undo(router, done + begun)
            undone = [item.describe(names) for item in done if item not in standing]
            raise ApplyError(
                operation.describe(names), exc, undone, [item.describe(names) for item in standing]
            ) from exc
        done.append(operation)


def _undo(router: Router, done: list[Operation]) -> list[Operation]:
    """Undo in reverse, as far as it goes; returns what could not be undone."""
    standing = []
    for operation in reversed(done):
        try:
            execute(router, operation.inverse())
        except KernelError:
            standing.append(operation)
    return standing


def execute(router: Router, operation: Operation) -> None:
    """One operation on the real thing; raises KernelError."""
    before, after = operation.before, operation.after
    if operation.kind == "route":
        router.routing.change_route(_route(before), _route(after))
    elif operation.kind == "rule":
        router.routing.change_rule(_rule(before), _rule(after))
    elif operation.kind == "sysctl":
        router.sysctl.write(operation.subject, str(after))
    elif operation.kind == "file":
        router.files.write(operation.subject, after if isinstance(after, str) else None)
    elif operation.kind in ("document", "pins", "balance"):
        router.files.write(operation.subject, after if isinstance(after, str) else None, store.PRIVATE)
    elif operation.kind in ("firewall", "former firewall"):
        _execute_firewall(router, operation.subject, after if isinstance(after, LoadedFirewall) else None)
    elif isinstance(before, Marked):
        router.routing.flush_connections(before)


def _route(value: object) -> Route | None:
    return value if isinstance(value, Route) else None


def _rule(value: object) -> IpRule | None:
    return value if isinstance(value, IpRule) else None


def _execute_firewall(router: Router, backend: str, after: LoadedFirewall | None) -> None:
    port = router.firewalls[backend]
    if after is None or not after.model:
        port.remove()
    else:
        port.replace(after.model)
    store.record_firewall(router.files, port, after.model if after else Firewall(mask=0))
