# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Links that an operator has taken out of service for new connections, until he gives them back."""

from __future__ import annotations

from contextlib import nullcontext

from . import store
from .desired import compile_state
from .document import Document
from .errors import InputError
from .ports import Router
from .shares import spreads


def drain(router: Router, name: str, why: str, since: str, force: bool = False, check: bool = False) -> bool:
    """Remember that the link takes no new connections; whether that is news. With `check` nothing is written.

    `since` is an ISO time. Raises InputError for an unknown link, and without `force` for the last link of a policy.
    The caller converges: the routes follow what is remembered.
    """
    with nullcontext() if router.lock is None else router.lock():
        document = store.load_document(router.files)
        check_link(document, "link", name)
        drained = store.load_drained(router.files)
        known = drained.get(name)
        if known is None and not force:
            _check_others(router, document, name)
        entry = {"since": since, "why": why} if known is None else {**known, "why": why or known.get("why", "")}
        if not check:
            store.save_drained(router.files, {**drained, name: entry})
        return known is None


def undrain(router: Router, name: str, check: bool = False) -> bool:
    """Forget that; whether it was so. A link that is declared no more may be given back, too."""
    with nullcontext() if router.lock is None else router.lock():
        drained = store.load_drained(router.files)
        if name not in drained:
            check_link(store.load_document(router.files), "link", name)
            return False
        if not check:
            store.save_drained(router.files, {link: entry for link, entry in drained.items() if link != name})
        return True


def check_link(document: Document, option: str, name: str) -> None:
    """Refuse what is no link, and tell what is."""
    known = [link.name for link in document.links]
    if name not in known:
        remedy = "The links are {}".format(", ".join(known)) if known else "No link is declared on this router"
        raise InputError(option, name, "is not a link of this router", remedy)


def _check_others(router: Router, document: Document, name: str) -> None:
    """Refuse where a policy that has a way out now would have none."""
    found = stranded(router, document, name)
    if found:
        raise InputError(
            "link",
            name,
            "is the last that takes new connections of {}".format(", ".join(found)),
            "See with 'mwanctl status' why the others take none and bring one back first, or give --force",
        )


def stranded(router: Router, document: Document, name: str) -> list[str]:
    """The policies that have a way out now, and would have none without the link."""
    facts, health = router.facts(document), store.load_health(router.files)
    before = spreads(document, compile_state(document, facts, health), facts)
    after = spreads(document, compile_state(document, facts, health.drained([name])), facts)
    return [policy for policy, spread in after.items() if before[policy].shares and not spread.shares]
