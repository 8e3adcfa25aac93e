# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which connections are given up, now that their link is down or better ones are back, and in which way.

Never while no other link could take them: then what is left of the old one is the best there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .document import Document
from .health import Health
from .serving import SUSPECT, Serving
from .watch.settings import ProbeSettings

DOWN, FAILBACK = "down", "failback"


@dataclass(frozen=True)
class Release:
    """Why TCP connections of a link are reset, and why those of other protocols are led elsewhere; '' is: they stay."""

    reset: str = ""
    reroute: str = ""


KEPT = Release()


def releases(document: Document, health: Health, serving: Serving) -> dict[str, Release]:
    """What is given up, by link; links whose connections all stay are left out."""
    found = {link.name: _release(link.name, document, health, serving) for link in document.links}
    return {name: release for name, release in found.items() if release != KEPT}


def own_resets(document: Document, given_up: Mapping[str, Release]) -> dict[int, bool]:
    """The marks whose TCP connections are reset, and whether the router's own are, too: only where the link is dead.

    A command of the operator's that probes the link by its source address alone cannot be told from what is to be
    reset, so the router's own stay where there is one.
    """
    probing = document.probe_settings()
    resets = {name: release.reset for name, release in given_up.items() if release.reset}
    return {
        document.settings.mark(document.link_ident(name)): why == DOWN and not _commands(probing[name])
        for name, why in resets.items()
    }


def _commands(settings: ProbeSettings) -> bool:
    return any(target.kind == "command" for target in settings.targets)


def _release(link: str, document: Document, health: Health, serving: Serving) -> Release:
    why = _why(link, health, serving)
    reaction = {DOWN: document.on_down, FAILBACK: document.failback}[why](link) if why else None
    if reaction is None or not _others_serve(link, document, serving):
        return KEPT
    return Release(why if reaction.tcp == "reset" else "", why if reaction.other == "reroute" else "")


def _why(link: str, health: Health, serving: Serving) -> str:
    """The prober's word, as far as it still fits: an operator, or a change of policies, may have overtaken it."""
    word = health.released_by(link)
    if word == DOWN:
        return DOWN if health.state(link) == "down" else ""
    return FAILBACK if word == FAILBACK and not serving.serves(link) else ""


def _others_serve(link: str, document: Document, serving: Serving) -> bool:
    """Whether a policy of the link leads new connections to others that answer: a suspect one may be dead, too."""
    return any(
        member.link != link and serving.rank(member.link) < SUSPECT
        for policy in document.policies
        if any(member.link == link for member in policy.members)
        for member in serving.tier(policy)
    )
