# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A drill from its beginning to its end, through the ports of the router."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Network, collapse_addresses, ip_network
from typing import Any

from .. import drains, flow, store
from ..console import control, events, reading, status
from ..document import Document
from ..errors import InputError, KernelError
from ..firewall.nftables import SBIN, Runner
from ..ports import Router
from ..resolve import ResolvedLink, resolve
from ..traffic import Connections
from . import verdict
from .hole import NFT, TABLE, Hole, disarm
from .verdict import Look, Order

GRACE = 15.0  # seconds after the end of the black hole, at which the switch does what we should have done
LOOK_AGAIN, LOOKS = 0.5, 5


class Drill:
    """`sleep` and `now`, in seconds since the epoch, are the clock's."""

    def __init__(
        self, router: Router, run: Runner, order: Order, sleep: Callable[[float], None], now: Callable[[], float]
    ) -> None:
        self._router, self._run, self._sleep, self._now = router, run, sleep, now
        self._order = replace(order, spared=spared(order.spared))
        self._connections = Connections()

    def prepare(self) -> tuple[Look, Hole]:
        """The router as it is, and the hole that may be dug; raises InputError, also where one is there already."""
        document, look = store.load_document(self._router.files), self._look()
        drains.check_link(document, "link", self._order.link)
        stranded = drains.stranded(self._router, document, self._order.link)
        verdict.refuse(self._order, document, look, stranded)
        hole = self._hole(document)
        if self._run(["/bin/sh", "-c", hole.there()], "")[0] == 0:
            remedy = f"Wait for its end; what a broken one has left is '{TABLE}' of nft, or mwan_drill of iptables"
            raise InputError("link", self._order.link, "cannot be cut off: another drill is on", remedy)
        return look, hole

    def hold(self) -> dict[str, Any]:
        """Cut the link off, watch, put everything back, and report; raises InputError and KernelError."""
        before, hole = self.prepare()
        began = self._now()
        with self._dug(hole):
            self._sleep(self._order.seconds)
            during = self._look()
        ended = self._now()
        self._wait_until_back(ended + self._order.wait)
        found = [event for path in events.FILES for event in events.parse(self._lines(path))]
        late = [event for event in found if (events.moment(event) or 0.0) >= began]
        return verdict.report(self._order, (before, during, self._look()), late, (began, ended))

    def _look(self) -> Look:
        """The prober may be at work just now: what is not as it should be has to stay so for a while."""
        for _unused in range(LOOKS - 1):
            found = self._seen()
            if not found.drift:
                return found
            self._sleep(LOOK_AGAIN)
        return self._seen()

    def _seen(self) -> Look:
        built = status.build(reading.picture(self._router, self._connections, self._now()))
        drifted = flow.converge(self._router, lambda stored: stored, check=True, strict=False)
        return Look(built, tuple(drifted.actions))

    def _hole(self, document: Document) -> Hole:
        facts = self._router.facts(document)
        link = resolve(document, facts)[self._order.link]
        iptables = document.backend == "iptables"
        tool = shutil.which("iptables-legacy", path=SBIN) or "iptables" if iptables else NFT
        plain = Hole(tool, link.device, spared=self._order.spared)
        if not document.shares_device(link.link):
            return plain
        hardware = facts.neighbours.get((link.device, link.gateway or ""))
        return _of_shared(plain, link, hardware, iptables)

    @contextmanager
    def _dug(self, hole: Hole) -> Iterator[None]:
        """The switch is armed first, and stays armed where the hole cannot be filled."""
        switch = self._script("arm", hole.arm(self._order.seconds + GRACE)).strip()
        try:
            self._script("dig", hole.dig())
        except BaseException:
            self._script("disarm", disarm(switch))
            raise
        try:
            yield
        finally:
            self._script("fill", hole.fill())
            self._script("disarm", disarm(switch))

    def _script(self, what: str, text: str) -> str:
        code, out, err = self._run(["/bin/sh", "-c", text], "")
        if code:
            raise KernelError(what, "the black hole of the drill", err.strip() or f"exit {code}")
        return out

    def _wait_until_back(self, deadline: float) -> None:
        while self._now() < deadline and not self._is_back():
            self._sleep(LOOK_AGAIN)

    def _is_back(self) -> bool:
        """Whether the link is up and the router has followed; a prober that does not answer is waited for, too.

        So is one that does not know the link: it may have been taken away meanwhile.
        """
        try:
            told = control.ask({"command": "status"})
        except KernelError:
            return False
        return told["links"].get(self._order.link, {}).get("state") in verdict.LIVE and bool(told["settled"])

    def _lines(self, path: str) -> list[str]:
        return (self._router.files.read(path) or "").splitlines()


def _of_shared(hole: Hole, link: ResolvedLink, hardware: str | None, realms: bool) -> Hole:
    if hardware is None:
        problem = f"shares {link.device}, and the link-layer address of its gateway {link.gateway} is not known"
        raise InputError("link", link.name, problem, "Ping the gateway, and try again")
    return replace(hole, gateway=link.gateway, hardware=hardware, realm=link.ident if realms else None)


def spared(addresses: Sequence[str]) -> tuple[str, ...]:
    """Canonical, without those within others, and without IPv6, which a drill leaves alone; raises InputError."""
    networks: list[IPv4Network] = []
    for text in addresses:
        try:
            found = ip_network(text, strict=False)
        except ValueError as exc:
            remedy = "Give addresses or networks, such as 203.0.113.7"
            raise InputError("--spare", text, "is not an address", remedy) from exc
        if isinstance(found, IPv4Network):
            networks.append(found)
    return tuple(str(item).removesuffix("/32") for item in collapse_addresses(networks))
