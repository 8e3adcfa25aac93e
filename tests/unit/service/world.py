# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The whole prober in virtual time: its event loop jumps from one moment to the next, and the router is a model.

Probes meet simulated paths, and fail where the model's kernel has no route for them. A pass over the router takes
PASS seconds. Nothing depends on the machine's clock, so that hours take seconds and the same seed gives the same.
"""

from __future__ import annotations

import asyncio
import json
import selectors
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path as FilePath
from random import Random
from typing import Any

from _mwan import store
from _mwan.events import AddressEvent, LinkEvent, OwnRuleEvent, Watched
from _mwan.flow import converge
from _mwan.kernel import IpRule
from _mwan.probes import Binding, Sink
from _mwan.service.configuration import PATHS, Configuration
from _mwan.service.converging import Converging, Order, Result
from _mwan.service.daemon import Daemon
from _mwan.service.equipment import Equipment
from _mwan.service.eventlog import EventLog
from _mwan.service.ground import Told
from _mwan.service.hooks import Hooks
from _mwan.service.journal import Journal
from _mwan.service.notify import Manager
from unit.model_kernel import ModelRouter
from unit.watch.simulator import Path
from unit.worlds import apply, facts

PASS = 0.03
EPOCH = 1_700_000_000.0
TARGETS = ("192.0.2.1", "192.0.2.2", "192.0.2.3")


class JumpingSelector(selectors.SelectSelector):
    """Where it would wait, the time is over."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found:
            assert timeout is not None, "nothing is planned any more"
            self.now += max(0.0, timeout)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.selector = JumpingSelector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now


class FakeProbe:
    """Asks over the path of the link that has this mark."""

    def __init__(self, world: World, target: Mapping[str, Any], binding: Binding, sink: Sink) -> None:
        self.world, self.target, self.binding, self.sink = world, target, binding, sink
        world.open_probes += 1

    def start(self) -> None:
        """Nothing to prepare."""

    def send(self, seq: int) -> None:
        world, loop = self.world, self.world.loop
        world.probed[self.binding] = world.probed.get(self.binding, 0) + 1
        if not world.has_route(self.binding):
            self.sink.failed(seq, "Network is unreachable")
            return
        path, index = world.paths[world.links[self.binding.mark]], world.index_of(self.target)
        if path.refused and path.refuses(loop.time()):
            loop.call_later(0.001, lambda: self.sink.refused(seq, loop.time(), "Network is unreachable"))
            return
        delay = path.reply_after(index, loop.time(), world.random)
        if delay is not None:
            loop.call_later(delay, lambda: self.sink.replied(seq, loop.time()))

    def close(self) -> None:
        self.world.open_probes -= 1


class FakeMonitor:
    def __init__(self, world: World) -> None:
        self.world = world

    def start(self) -> None:
        """Nothing to open."""

    def watch(self, watched: Watched) -> None:
        self.world.watched = watched

    def close(self) -> None:
        """Nothing to close."""


class World:
    """A router with a declared wish, and the prober on it once it is started; `paths` by the links' names."""

    def __init__(self, wish: Mapping[str, Any], paths: Mapping[str, Path], seed: int = 0) -> None:
        self.loop = VirtualLoop()
        self.mistakes: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _loop, context: self.mistakes.append(context))
        self.random = Random(seed)
        self.paths = dict(paths)
        self.router = ModelRouter(facts())
        self.directory = tempfile.TemporaryDirectory()
        self.watched = Watched()
        self.open_probes = 0
        self.probed: dict[Binding, int] = {}
        self.said: list[str] = []
        self.orders: list[Order] = []
        # each health document that was written, in order
        self.health: list[dict[str, Any]] = []
        self.events = EventLog(str(FilePath(self.directory.name, "events.jsonl")))
        self.router.files.write = self._write  # type: ignore[method-assign]
        self.wall_offset = EPOCH
        self.declare(wish)

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.loop.close()
        self.directory.cleanup()
        assert self.mistakes == []

    # the prober's life

    def start(self) -> World:
        self.daemon = Daemon(self._equipment(), self.loop)
        self.loop.run_until_complete(self.daemon.start())
        return self

    def stop(self) -> None:
        if hasattr(self, "daemon"):
            self.loop.run_until_complete(self.daemon.close())
            del self.daemon

    def restart(self) -> World:
        """Killed, and started again: nothing but files and the kernel outlives it."""
        self.stop()
        return self.start()

    def run(self, seconds: float) -> World:
        self.loop.run_until_complete(asyncio.sleep(seconds))
        return self

    def _equipment(self) -> Equipment:
        converging = Converging(self.router.ports)

        def perform(order: Order) -> asyncio.Future[Result]:
            self.orders.append(order)
            work: asyncio.Future[Result] = self.loop.create_future()
            self.loop.call_later(PASS, lambda: work.set_result(converging.run(order)))
            return work

        def steer(order: Order) -> asyncio.Future[Result]:
            work: asyncio.Future[Result] = self.loop.create_future()
            self.loop.call_soon(lambda: work.set_result(converging.steer(order)))
            return work

        return Equipment(
            files=self.router.files,
            eyes=self.router.routing,
            open_monitor=self._open_monitor,
            make_probe=lambda target, binding, sink, _loop: FakeProbe(self, target, binding, sink),
            perform=perform,
            steer=steer,
            configuration=Configuration(self.router.files, self._stamp),
            journal=Journal(stream=False, write=self.said.append),
            manager=Manager({}),
            events=self.events,
            hooks=lambda done: Hooks(done, self.directory.name),
            version="test",
            control=str(FilePath(self.directory.name, "control")),
            wall=lambda: self.wall_offset + self.loop.time(),
            random=self.random.random,
        )

    def _open_monitor(self, tell: Callable[[Told], object]) -> FakeMonitor:
        self.tell = tell
        return FakeMonitor(self)

    def _stamp(self) -> Any:
        return tuple(self.router.files.texts.get(path) for path in PATHS)

    def _write(self, path: str, text: str | None, mode: int = 0o644) -> None:
        type(self.router.files).write(self.router.files, path, text, mode)
        if path == store.HEALTH and text is not None:
            self.health.append(json.loads(text))

    # what happens to it

    def declare(self, wish: Mapping[str, Any]) -> None:
        """As a playbook does: stored, and converged under the health there is."""
        document = apply(self.router, wish).document
        idents = {link.name: document.link_ident(link.name) for link in document.links}
        self.links = {document.settings.mark(ident): name for name, ident in idents.items()}
        self.policy_tables = {
            policy.name: document.settings.table(document.policy_ident(policy.name)) for policy in document.policies
        }
        self.tables = {document.settings.mark(ident): document.settings.table(ident) for ident in idents.values()}

    def device(self, name: str, gone: bool = False, **fields: Any) -> None:
        """A device changes, or goes with its addresses; the kernel tells."""
        seen = facts(**{name: None if gone else fields})
        mine, now = self.router.routing.seen, seen.devices.get(name)
        devices = {**mine.devices, **({name: now} if now else {})}
        if not now:
            devices.pop(name, None)
        kept = tuple(item for item in mine.addresses if item.device != name)
        addresses = kept + tuple(item for item in seen.addresses if item.device == name)
        self.router.set_facts(replace(mine, devices=devices, addresses=addresses))
        self.tell(LinkEvent(name, now is not None, bool(now and now.up), bool(now and now.carrier)))

    def address(self, old: str, new: str) -> None:
        """The provider gives another address."""
        mine = self.router.routing.seen
        moved = tuple(replace(item, address=new) if item.address == old else item for item in mine.addresses)
        self.router.set_facts(replace(mine, addresses=moved))
        device = next(item.device for item in moved if item.address == new)
        self.tell(AddressEvent(device, old, False))
        self.tell(AddressEvent(device, new, True))

    def delete_rule(self, rule: IpRule) -> None:
        """Somebody else deletes a rule of ours."""
        self.router.routing.policy = [held for held in self.router.routing.policy if held[0] != rule]
        self.tell(OwnRuleEvent(rule, False))

    # what can be seen

    def status(self) -> dict[str, Any]:
        return self.daemon.status()

    def states(self) -> dict[str, str]:
        return {name: link["state"] for name, link in self.status()["links"].items()}

    def changes(self, link: str) -> list[str]:
        return [event["after"] for event in self.events.recent if (event["event"], event["link"]) == ("state", link)]

    def kinds(self) -> list[str]:
        """The kinds of events other than changes of a link's state."""
        return [event["event"] for event in self.events.recent if event["event"] != "state"]

    def drift(self) -> list[str]:
        """What a playbook run would find to do."""
        return converge(self.router.ports, lambda stored: stored, check=True, strict=False).actions

    def has_route(self, binding: Binding) -> bool:
        """Whether the link's own table leads anywhere."""
        routes = self.router.routing.routes()
        return any(route.table == self.tables.get(binding.mark) and route.kind == "unicast" for route in routes)

    @staticmethod
    def index_of(target: Mapping[str, Any]) -> int:
        """A gateway answers as the first target does."""
        return TARGETS.index(target["address"]) if target.get("address") in TARGETS else 0
