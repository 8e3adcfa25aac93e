# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the command line to the running process."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

from .. import host, local, netlink, store
from ..errors import KernelError
from ..events import Watched
from ..firewall.nftables import Runner
from ..monitor import Monitor
from .configuration import Configuration, stamp
from .converging import Converging
from .daemon import Daemon, Equipment
from .eventlog import EventLog
from .exposition import Exposition, Textfile, listening_address, page_of
from .ground import RulesetTouched, Told
from .hooks import Hooks
from .journal import Journal
from .named import make_probe
from .notify import Manager
from .ruleset import RulesetMonitor

LOCK = "/run/mwan/mwand.lock"


def watched_links() -> dict[str, Any]:
    """How each link of the stored document is watched; raises InputError and KernelError."""
    document = store.load_document(local.Files())
    return {name: settings.dump() for name, settings in document.probe_settings().items()}


def serve(run: Runner, version: str, listen: str | None, textfile: str | None) -> int:
    """Until told to stop; returns the exit status. Raises InputError, KernelError and OSError."""
    address = listening_address("--metrics-listen", listen) if listen else None
    allow_descriptors()
    with only_one():
        asyncio.run(_serve(run, version, address, textfile))
    return 0


def only_one() -> IO[str]:
    """The lock of the one process there may be, held until it is closed; raises KernelError."""
    os.makedirs(os.path.dirname(LOCK), mode=0o755, exist_ok=True)
    handle = open(LOCK, "a", encoding="ascii")  # noqa: SIM115  (the caller's to close)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        raise KernelError("lock", LOCK, "another mwand runs") from None
    return handle


async def _serve(run: Runner, version: str, address: tuple[str, int] | None, textfile: str | None) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    with ThreadPoolExecutor(1, "converge") as executor:
        equipment = _equipment(run, version, executor, loop)
        daemon = Daemon(equipment, loop)
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


def _equipment(run: Runner, version: str, executor: ThreadPoolExecutor, loop: asyncio.AbstractEventLoop) -> Equipment:
    router, events = host.open_router(run), EventLog()
    events.load()
    converging = Converging(router)
    return Equipment(
        files=router.files,
        eyes=netlink.Netlink(),
        open_monitor=lambda tell: Senses(tell, loop),
        make_probe=make_probe,
        perform=lambda order: loop.run_in_executor(executor, converging.run, order),
        configuration=Configuration(router.files, stamp),
        journal=Journal(),
        manager=Manager(),
        events=events,
        hooks=Hooks,
        version=version,
    )


class Senses:
    """What the kernel tells, of routing and of the firewall."""

    def __init__(self, tell: Callable[[Told], object], loop: asyncio.AbstractEventLoop) -> None:
        self._routing = Monitor(Watched(), tell, loop)
        self._ruleset = RulesetMonitor(lambda: tell(RulesetTouched()), loop)

    def start(self) -> None:
        self._routing.start()
        self._ruleset.start()

    def watch(self, watched: Watched) -> None:
        self._routing.watch(watched)

    def close(self) -> None:
        self._routing.close()
        self._ruleset.close()


def allow_descriptors() -> None:
    """As many as the service manager lets us: in an outage, a TCP target holds up to 16 of them."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
