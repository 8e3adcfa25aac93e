# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a drill may be done, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..console import words
from ..document import Document
from ..errors import InputError

LIVE = ("up", "degraded")
SHORTEST_MARGIN = 1.0  # seconds that a black hole lasts longer than it takes to find a link down
LONGEST = 600.0


@dataclass(frozen=True)
class Order:
    """`seconds` the link is cut off, then at most `wait` for its return; `spared` keep their connections."""

    link: str
    seconds: float
    wait: float
    spared: tuple[str, ...] = ()
    force: bool = False


@dataclass(frozen=True)
class Look:
    """The router at one time: its status as `mwanctl status` has it, and what is not as it should be."""

    status: Mapping[str, Any]
    drift: tuple[str, ...] = ()

    @property
    def links(self) -> Mapping[str, Mapping[str, Any]]:
        found: Mapping[str, Mapping[str, Any]] = self.status["links"]
        return found

    def shares(self) -> dict[str, dict[str, float]]:
        return {name: dict(policy["shares"]) for name, policy in self.status["policies"].items()}

    def connections(self) -> dict[str, int | None]:
        return {name: link["connections"] for name, link in self.links.items()}


def refuse(order: Order, document: Document, look: Look, stranded: Sequence[str]) -> None:
    """Raise InputError where the drill would harm more than it shows.

    `stranded` are the policies that would have no way out; only that gives way to `order.force`.
    """
    _check_router(order, look)
    _check_links(order, look)
    if stranded and not order.force:
        problem = f"is the last that takes new connections of {words.listed(list(stranded))}"
        raise InputError("link", order.link, problem, "Bring another one back first, or give --force")
    least = document.probe_settings()[order.link].dead + SHORTEST_MARGIN
    if not least <= order.seconds <= LONGEST:
        remedy = f"Give {least:g} to {LONGEST:g}: after {least - SHORTEST_MARGIN:g} s of silence the link is down"
        raise InputError("--seconds", order.seconds, "is too short or too long", remedy)


def _check_router(order: Order, look: Look) -> None:
    prober = look.status["prober"]
    if not prober["running"]:
        problem = f"is watched by nobody: the prober {prober['silent'] or 'is not running'}"
        raise InputError("link", order.link, problem, "Start it: systemctl start mwan")
    trouble = prober["stuck"] or prober["problem"]
    if trouble or look.drift:
        problem = f"is of a router that is not as declared ({trouble or _differences(look.drift)})"
        raise InputError("link", order.link, problem, "See 'mwanctl diff', and put that right first")


def _check_links(order: Order, look: Look) -> None:
    state = look.links[order.link]["state"]
    if state not in LIVE:
        raise InputError("link", order.link, f"is {state}", "Only of a link that is up can be seen how it fails")
    others = [name for name, link in look.links.items() if link["state"] in LIVE and name != order.link]
    if not others:
        raise InputError("link", order.link, "is the only one that is up", "Bring another one back first")


def _differences(drift: Sequence[str]) -> str:
    return f"{len(drift)} difference{'' if len(drift) == 1 else 's'}, such as: {drift[0]}"


def report(
    order: Order, looks: tuple[Look, Look, Look], events: Iterable[Mapping[str, Any]], times: tuple[float, float]
) -> dict[str, Any]:
    """Plain data: `looks` are from before, from the end of the black hole and from after; `times` its begin and end,
    in seconds since the epoch. Spans are in seconds, "up" from the end of the black hole, the others from its begin.
    """
    before, during, after = looks
    began, ended = times
    own = [event for event in events if event.get("link") == order.link]
    found = {
        "link": order.link,
        "began": began,
        "seconds": round(ended - began, 3),
        "suspect": _entered(own, "suspect", began, began),
        "down": _entered(own, "down", began, began),
        "up": _returned(own, ended),
        "reason": next((event.get("reason") for event in own if event.get("after") == "down"), None),
        "spared": list(order.spared),
        "shares": dict(zip(("before", "during", "after"), (look.shares() for look in looks))),
        "connections": dict(zip(("before", "during", "after"), (look.connections() for look in looks))),
    }
    problems = [*_failed_to_fail(order, found, during), *_failed_to_return(order, before, after)]
    return {**found, "problems": problems, "summary": list(_lines(found, problems))}


def _entered(events: Iterable[Mapping[str, Any]], state: str, since: float, origin: float) -> float | None:
    """Seconds from `origin` to the first entry into the state that is not before `since`."""
    times = (words.moment(event.get("time")) for event in events if event.get("after") == state)
    return next((round(time - origin, 3) for time in times if time is not None and time >= since), None)


def _returned(events: Sequence[Mapping[str, Any]], ended: float) -> float | None:
    spans = (_entered(events, state, ended, ended) for state in LIVE)
    return min((span for span in spans if span is not None), default=None)


def _failed_to_fail(order: Order, found: Mapping[str, Any], during: Look) -> Iterator[str]:
    if found["down"] is None:
        reached = "did not get further than suspect" if found["suspect"] is not None else "was not even suspect"
        yield f"{order.link} was not found down: it {reached}"
        return
    for name, shares in during.shares().items():
        if shares.get(order.link):
            yield f"new connections of {name} still went to {order.link} at the end of the black hole"
        if not shares and found["shares"]["before"].get(name):
            yield f"no link took new connections of {name} meanwhile"
    if during.drift:
        yield f"the router did not follow: {_differences(during.drift)}"


def _failed_to_return(order: Order, before: Look, after: Look) -> Iterator[str]:
    state = after.links.get(order.link, {}).get("state")
    if state is None:
        yield f"{order.link} is not declared any more"
    elif state not in LIVE:
        yield f"{order.link} is {state} still, {words.duration(order.wait)} after the end of the black hole"
    elif _serving(before) != _serving(after):
        yield "not the same links take new connections as before"
    if not after.status["prober"]["running"]:
        yield f"the prober {after.status['prober']['silent'] or 'is not running'} any more"
    if after.drift:
        yield f"the router is not as declared: {_differences(after.drift)}"


def _serving(look: Look) -> dict[str, set[str]]:
    """The links by policy; shares themselves may follow counts of connections."""
    return {name: {link for link, share in shares.items() if share} for name, shares in look.shares().items()}


def _lines(found: Mapping[str, Any], problems: Sequence[str]) -> Iterator[str]:
    yield f"{found['link']} was cut off for {words.duration(found['seconds'])}"
    yield f"  suspect after  {words.duration(found['suspect'])}"
    yield f"  down after     {words.duration(found['down'])}"
    yield f"  up again       {words.duration(found['up'])} after the end"
    for name in found["shares"]["before"]:
        spread = (_spread(found["shares"][time].get(name, {})) for time in ("before", "during", "after"))
        yield "  {}: {}; meanwhile {}; then {}".format(name, *spread)
    counted = (_counted(found["connections"][time]) for time in ("before", "during", "after"))
    yield "  connections: {}; meanwhile {}; then {}".format(*counted)
    if found["spared"]:
        yield f"  spared: {', '.join(found['spared'])}"
    yield from (f"  PROBLEM: {problem}" for problem in problems)
    if not problems:
        yield "  all is as before"


def _spread(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{link} {words.percent(share)}" for link, share in shares.items()) or "nobody"


def _counted(connections: Mapping[str, int | None]) -> str:
    return ", ".join(f"{link} {words.NOTHING if count is None else count}" for link, count in connections.items())
