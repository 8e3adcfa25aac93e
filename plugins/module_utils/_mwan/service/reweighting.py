# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fewest connections without a helper: the weights of a multipath route follow the counts, every few seconds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial

from .. import store
from ..balance.chooser import Candidate
from ..balance.weights import staying, weights
from ..document import Document
from ..errors import KernelError
from ..layout import WEIGHTS
from ..model import Policy
from ..ports import FilePort
from ..resolve import ResolvedLink
from ..serving import Serving
from ..values import MAX_WEIGHT
from .overlay import Overlay

# counts elsewhere; the link's mark of each open connection, by the kernel's id. Raises OSError.
Open = Mapping[int, int]
Count = Callable[[int], "asyncio.Future[Open]"]
SCHEMA = 1


class Reweighting:
    """Weights by policy and link; a policy that needs none but the declared ones is not among them.

    They go into the overlay, and are stored for every other run and for a process that comes after this one. `moved` is
    called when they are others than before, and `trouble` with a kind
    of trouble that lasts and what it is.
    """

    def __init__(
        self,
        files: FilePort,
        count: Count | None,
        overlay: Overlay,
        moved: Callable[[], None],
        trouble: Callable[[str, str], None],
    ) -> None:
        self._files, self._count, self._overlay, self._moved, self._trouble = files, count, overlay, moved, trouble
        self._due: dict[str, float] = {}
        self._before: dict[str, Open] = {}
        self._work: asyncio.Future[Open] | None = None

    def load(self) -> None:
        """Go on with what is stored."""
        try:
            self._overlay.weights = store.load_health(self._files).weights
        except KernelError as exc:
            self._trouble("weights", str(exc))

    def look(self, document: Document, links: Mapping[str, ResolvedLink], now: float) -> None:
        """Count where a policy's interval is over."""
        policies = {policy.name: policy for policy in document.policies if policy.follows_counts}
        for name in self._due.keys() - policies.keys():
            del self._due[name]
            self._before.pop(name, None)
        if self._overlay.weights.keys() - policies.keys():
            self._set({name: found for name, found in self._overlay.weights.items() if name in policies})
        due = [policy for policy in policies.values() if now >= self._due.get(policy.name, now)]
        if due and self._count and not self._work:
            for policy in due:
                self._due[policy.name] = now + policy.least_connections.interval
            # by what is declared, without any weights of ours
            serving = Serving(document, replace(self._overlay.health(), weights={}), links)
            self._work = self._count(document.settings.mark_mask)
            self._work.add_done_callback(partial(self._counted, serving, due))

    def _counted(self, serving: Serving, policies: Collection[Policy], work: asyncio.Future[Open]) -> None:
        self._work = None
        if work.cancelled():
            return
        try:
            found = work.result()
        except OSError as exc:
            self._trouble("weights", f"connections cannot be counted: {exc.strerror}")
            return
        wanted = dict(self._overlay.weights)
        for policy in policies:
            before = self._before.get(policy.name)
            self._before[policy.name] = found
            if before is not None:
                wanted.pop(policy.name, None)
                wanted.update(_weights(serving, policy, before, found))
        if wanted != self._overlay.weights:
            self._set(wanted)

    def _set(self, wanted: Mapping[str, Mapping[str, int]]) -> None:
        self._overlay.weights = wanted
        text = json.dumps({"schema": SCHEMA, "policies": wanted}) + "\n" if wanted else None
        try:
            self._files.write(WEIGHTS, text)
        except KernelError as exc:
            self._trouble("weights", str(exc))
        self._moved()


def _weights(serving: Serving, policy: Policy, before: Open, now: Open) -> dict[str, dict[str, int]]:
    """What the policy is to have, unless that is what is declared."""
    members = serving.tier(policy)
    links = [
        Candidate(member.link, serving.document.settings.mark(serving.links[member.link].ident), weight)
        for member, weight in zip(members, serving.weights(policy, members) if members else [])
    ]
    found = weights(links, *staying(before, now))
    if all(found[link.name] == link.weight for link in links):
        return {}
    scale = sum(found.values()) / sum(link.weight for link in links)
    others = {
        member.link: _scaled(serving.document.weight(policy, member.link), scale)
        for member in policy.members
        if member.link not in found
    }
    return {policy.name: {**others, **found}}


def _scaled(weight: int, scale: float) -> int:
    """Of a link that does not serve now, in case that it does before the next look."""
    return min(MAX_WEIGHT, max(1, round(weight * scale)))
