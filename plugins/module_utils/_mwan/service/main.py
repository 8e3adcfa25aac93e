# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the command line to the running process."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from .. import host, local, netlink, store
from ..balance.tracking import open_connections
from ..errors import KernelError
from ..events import Watched
from ..firewall.nftables import Runner
from ..monitor import Monitor
from .configuration import Configuration, stamp
from .converging import Converging, Order, Result
from .daemon import Daemon
from .equipment import Equipment
from .eventlog import EventLog
from .exposition import Exposition, Textfile, listening_address, page_of
from .ground import RulesetTouched, Told
from .hooks import Hooks
from .journal import Journal
from .named import make_probe
from .notify import Manager
from .ruleset import LegacyMonitor, RulesetMonitor

LOCK = local.PROBER_LOCK
# seconds for the router's lock: a pass is tried again, and shall not be taken for one that hangs (daemon.LONGEST)
LOCK_WAIT = 10.0
# Seconds. Others look whether the prober runs, and hold the lock for that instant.
LOOKED_AT = 0.3


def watched_links() -> dict[str, Any]:
    """How each link of the stored document is watched; raises InputError and KernelError."""
    document = store.load_document(local.Files())
    return {name: settings.dump() for name, settings in document.probe_settings().items()}


def serve(run: Runner, version: str, balancer: Sequence[str], listen: str | None, textfile: str | None) -> int:
    """Until told to stop; returns the exit status. `balancer` is the command that starts the helper of
    least_connections. Raises InputError, KernelError and OSError."""
    address = listening_address("--metrics-listen", listen) if listen else None
    allow_descriptors()
    with only_one():
        asyncio.run(_serve(run, version, balancer, address, textfile))
    return 0


@contextmanager
def only_one() -> Iterator[None]:
    """Hold the lock of the one process there may be; raises KernelError."""
    lock = local.open_lock(LOCK)
    try:
        _take(lock)
        yield
    finally:
        os.close(lock)


def _take(lock: int) -> None:
    deadline = time.monotonic() + LOOKED_AT
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise KernelError("lock", LOCK, "another mwand runs") from None
            time.sleep(0.01)


async def _serve(
    run: Runner, version: str, balancer: Sequence[str], address: tuple[str, int] | None, textfile: str | None
) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    with ThreadPoolExecutor(1, "converge") as executor, ThreadPoolExecutor(1, "steer") as beside:
        equipment = replace(_equipment(run, version, executor, beside, loop), balancer=balancer)
        daemon = Daemon(equipment, loop)
        loop.set_exception_handler(Mistakes(equipment.journal))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        loop.add_signal_handler(signal.SIGHUP, daemon.reload)
        page = page_of(daemon.status, daemon.traffic)
        outlets: list[Exposition | Textfile] = [Exposition(address, page)] if address else []
        outlets += [Textfile(equipment.files, textfile, page)] if textfile else []
        tasks = [loop.create_task(outlet.run(lambda exc: equipment.journal.error(str(exc)))) for outlet in outlets]
        try:
            await daemon.start()
            await ended.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await daemon.close()


def _equipment(
    run: Runner,
    version: str,
    executor: ThreadPoolExecutor,
    beside: ThreadPoolExecutor,
    loop: asyncio.AbstractEventLoop,
) -> Equipment:
    router, events = replace(host.open_router(run), lock=partial(local.exclusive, LOCK_WAIT)), EventLog()
    events.load()
    converging, legacy = Converging(router, netlink.Netlink()), LegacyMonitor(loop)

    def perform(order: Order) -> asyncio.Future[Result]:
        work = loop.run_in_executor(executor, converging.run, order)
        # a pass has seen what others did, and knows what it did itself
        work.add_done_callback(lambda _work: legacy.look())
        return work

    return Equipment(
        files=router.files,
        eyes=netlink.Netlink(),
        open_monitor=lambda tell: Senses(tell, legacy, loop),
        make_probe=make_probe,
        perform=perform,
        steer=lambda order: loop.run_in_executor(beside, converging.steer, order),
        configuration=Configuration(router.files, stamp),
        journal=Journal(),
        manager=Manager(),
        events=events,
        hooks=Hooks,
        version=version,
        count=lambda mask: loop.run_in_executor(None, open_connections, mask),
    )


class Mistakes:
    """Logs what a callback raised: a mistake of ours, which must not end the watching. Each is told once in a row."""

    def __init__(self, journal: Journal) -> None:
        self._journal, self._last = journal, ""

    def __call__(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        exc = context.get("exception")
        where = "".join(traceback.format_exception(type(exc), exc, exc.__traceback__)) if exc else ""
        text = f"{context.get('message')}\n{where}".rstrip()
        if text != self._last:
            self._last = text
            self._journal.error(text)


class Senses:
    """What the kernel tells, of routing and of the firewall."""

    def __init__(self, tell: Callable[[Told], object], legacy: LegacyMonitor, loop: asyncio.AbstractEventLoop) -> None:
        self._touched = lambda: tell(RulesetTouched())
        self._routing = Monitor(Watched(), tell, loop)
        self._ruleset = RulesetMonitor(self._touched, loop)
        self._legacy = legacy

    def start(self) -> None:
        self._routing.start()
        self._ruleset.start()
        self._legacy.start(self._touched)

    def watch(self, watched: Watched) -> None:
        self._routing.watch(watched)
        self._legacy.watch(watched.legacy)

    def close(self) -> None:
        self._routing.close()
        self._ruleset.close()
        self._legacy.watch(False)


def allow_descriptors() -> None:
    """As many as the service manager lets us: in an outage, a TCP target holds up to 16 of them."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
