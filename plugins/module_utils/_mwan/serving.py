# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who takes new connections now, and which share of them: health, applied to what is declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from math import gcd

from .document import Document
from .health import Health
from .model import Member, Policy
from .resolve import ResolvedLink
from .values import MAX_WEIGHT

# The members of the lowest rank take new connections, those of the others none; NEVER takes none at all.
FIRST, DEGRADED, SUSPECT, NEVER = range(4)


class Serving:
    """`links` are the resolved ones, of which some may be pending."""

    def __init__(self, document: Document, health: Health, links: Mapping[str, ResolvedLink]) -> None:
        self.document = document
        self.health = health
        self.links = links
        self.degraded = {name: settings.degraded for name, settings in document.probe_settings().items()}

    def rank(self, link: str) -> int:
        """How willingly new connections are placed on the link: a suspect one still beats having none."""
        state = self.health.state(link)
        if self.links[link].pending or state in ("down", "drained"):
            return NEVER
        if state == "suspect":
            return SUSPECT
        return DEGRADED if state == "degraded" and self.degraded[link] == "out" else FIRST

    def members(self, policy: Policy) -> list[Member]:
        """The members of all tiers that take new connections, in the order of their links' ids."""
        ranks = {
            member: self.rank(member.link) for member in policy.members if self.document.weight(policy, member.link)
        }
        best = min(ranks.values(), default=NEVER)
        taking = [member for member, rank in ranks.items() if rank == best != NEVER]
        return sorted(taking, key=lambda member: self.links[member.link].ident)

    def tier(self, policy: Policy) -> list[Member]:
        """Those of them that are asked first."""
        members = self.members(policy)
        first = min((member.tier for member in members), default=0)
        return [member for member in members if member.tier == first]

    def serves(self, link: str) -> bool:
        """Whether some policy places new connections on the link."""
        return any(member.link == link for policy in self.document.policies for member in self.tier(policy))

    def weights(self, policy: Policy, members: Sequence[Member]) -> list[int]:
        """The weights these members have among each other, with half the weight for a degraded one that asks for it."""
        followed = self.health.weights.get(policy.name, {}) if policy.follows_counts else {}
        whole = [followed.get(member.link) or self.document.weight(policy, member.link) for member in members]
        halved = [self._halved(member.link) and not followed for member in members]
        if all(halved) or not any(halved):
            return whole
        return fitted([weight if half else 2 * weight for weight, half in zip(whole, halved)])

    def _halved(self, link: str) -> bool:
        return self.health.state(link) == "degraded" and self.degraded[link] == "reweight"


def fitted(weights: Sequence[int]) -> list[int]:
    """The same shares in weights that the kernel takes, or the closest to them; nobody is left without any."""
    divisor = reduce(gcd, weights)
    exact = [weight // divisor for weight in weights]
    if max(exact) <= MAX_WEIGHT:
        return exact
    scaled = ([max(1, round(weight * top / max(exact))) for weight in exact] for top in range(1, MAX_WEIGHT + 1))
    return min(scaled, key=lambda found: _difference(found, exact))


def _difference(found: Sequence[int], wanted: Sequence[int]) -> float:
    return max(abs(one / sum(found) - other / sum(wanted)) for one, other in zip(found, wanted))
