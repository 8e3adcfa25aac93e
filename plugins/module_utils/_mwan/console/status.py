# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the links are, and who takes new connections: as data, as a table, and as one line for monitoring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..desired import Desired
from ..document import Document
from ..health import Health, last_word
from ..kernel import Facts
from ..shares import Spread, spreads
from . import table, words
from .table import Column

# exit codes of monitoring plugins (monitoring-plugins.org, guidelines)
OK, WARNING, CRITICAL, UNKNOWN = range(4)
VERDICTS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
PENDING = "pending"
# Seconds; a pass over the router takes tenths of one, and waits for another one, or for xtables, a few.
OVERLONG = 20.0


@dataclass(frozen=True)
class Picture:
    """All that a status is made of.

    `told` is what health.json holds of each link; `prober` its answer to "status", None when there is none, and then
    `silent` says why if it runs. `octets` are by device, `connections` by mark, None where they cannot be counted;
    `now` is seconds since the epoch.
    """

    document: Document
    desired: Desired
    facts: Facts
    health: Health
    now: float
    told: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    written: Any = None
    drained: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    prober: Mapping[str, Any] | None = None
    silent: str | None = None
    octets: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    connections: Mapping[int, int] | None = None


def build(picture: Picture) -> dict[str, Any]:
    """Plain data: times in seconds since the epoch, spans in seconds, shares and loss from 0 to 1."""
    found = spreads(picture.document, picture.desired, picture.facts)
    return {
        "prober": _prober(picture),
        "links": {name: _link(picture, name, found) for name in picture.desired.links},
        "policies": {
            name: {**vars(spread), "default": name == picture.document.default_policy} for name, spread in found.items()
        },
        "balance": (picture.prober or {}).get("balance"),
        "warnings": list(picture.desired.warnings),
    }


def _prober(picture: Picture) -> dict[str, Any]:
    answer = picture.prober or {}
    kept = {key: answer.get(key) for key in ("version", "started", "held", "converge", "problem")}
    return {
        "running": picture.prober is not None,
        "silent": picture.silent,
        "stuck": _stuck(answer.get("converge") or {}),
        "last_wrote": words.moment(picture.written),
        **kept,
    }


def _stuck(converge: Mapping[str, Any]) -> str | None:
    """Why the kernel may differ from what is shown, which is what it should be."""
    lasting = converge.get("running_for") or 0.0
    if lasting > OVERLONG:
        return f"a run that began {words.duration(lasting)} ago has not ended"
    return converge.get("last_error")


def _link(picture: Picture, name: str, found: Mapping[str, Spread]) -> dict[str, Any]:
    link = picture.desired.links[name]
    seen = _seen(picture, name)
    octets = picture.octets.get(link.device, {})
    mark = picture.document.settings.mark(link.ident)
    return {
        "device": link.device,
        "gateway": link.gateway,
        "address": link.address,
        **_state(picture, name, seen),
        "pending": link.pending,
        "drained": dict(picture.drained[name]) if name in picture.drained else None,
        "released": picture.health.released_by(name),
        "held": (seen.get("held") or None) if picture.prober else None,
        "up_in": seen.get("up_in") if picture.prober else None,
        "loss": seen.get("loss") if picture.prober else None,
        "rtt": seen.get("rtt") if picture.prober else None,
        "shares": {
            policy: spread.shares.get(name, 0.0) for policy, spread in found.items() if _member(picture, policy, name)
        },
        "connections": None if picture.connections is None else picture.connections.get(mark, 0),
        "received": octets.get("received"),
        "sent": octets.get("sent"),
        "shares_device": picture.document.shares_device(link.link),
    }


def _seen(picture: Picture, name: str) -> Mapping[str, Any]:
    """What the prober says of a link now, or else what it wrote last."""
    links = (picture.prober or {}).get("links", {})
    seen: Mapping[str, Any] = links.get(name) or picture.told.get(name, {})
    return seen


def _member(picture: Picture, policy: str, link: str) -> bool:
    policies = (item for item in picture.document.policies if item.name == policy)
    return any(member.link == link for item in policies for member in item.members)


def _state(picture: Picture, name: str, seen: Mapping[str, Any]) -> dict[str, Any]:
    """The state that routing follows, since when, and why; a drain covers whatever the prober says but down."""
    state = picture.health.state(name)
    if state == "drained":
        drained = picture.drained.get(name, {})
        return {"state": state, "since": words.moment(drained.get("since")), "reason": drained.get("why") or "by hand"}
    pending = picture.desired.links[name].pending
    if pending and state != "down":
        return {"state": PENDING, "since": None, "reason": pending}
    since = seen.get("since_wall", seen.get("since"))
    reason = _held(seen) or seen.get("reason") or (_unseen(picture, name) if state == "unknown" else "")
    return {"state": state, "since": words.moment(since), "reason": reason}


def _held(seen: Mapping[str, Any]) -> str:
    """Why a silent link keeps its state: the reason for that state is of a time when it answered."""
    return f"silent for {words.duration(seen.get('silence'))}, held: {seen['held']}" if seen.get("held") else ""


def _unseen(picture: Picture, name: str) -> str:
    device = picture.facts.devices[picture.desired.links[name].device]
    return "presumed up: nobody has looked" if device.carrier else f"{device.name} has no carrier"


# as a table

COLUMNS = (
    Column("LINK"),
    Column("DEVICE", optional=1),
    Column("STATE"),
    Column("SINCE", right=True, optional=2),
    Column("LOSS", right=True, optional=3),
    Column("RTT", right=True, optional=4),
    Column("SHARE", right=True),
    Column("CONNS", right=True, optional=5),
    Column("IN", right=True, optional=6),
    Column("OUT", right=True, optional=7),
    Column("WHY"),
)
PAINTS = {"up": "green", "degraded": "yellow", "suspect": "yellow", PENDING: "yellow", "down": "red", "drained": "cyan"}


def lines(status: Mapping[str, Any], now: float, width: int = 80, colour: bool = False) -> list[str]:
    """The status for a person. With one policy the share stands in the table; with more it is that of the default."""
    links = status["links"]
    if not links:
        return ["No link is declared on this router."]
    rows = [_row(name, link, _shown_policy(status), now) for name, link in links.items()]
    paint = (lambda title, text: PAINTS.get(text) if title == "STATE" else None) if colour else None
    found = table.render(COLUMNS, rows, width, paint)
    below = [*_policies(status), *_shared(links)]
    notes = table.paragraphs(list(_notes(status, now)), width)
    return [*found, *([""] if below else []), *table.paragraphs(below, width), *([""] if notes else []), *notes]


def _shown_policy(status: Mapping[str, Any]) -> str | None:
    policies: Mapping[str, Mapping[str, Any]] = status["policies"]
    default = [name for name, policy in policies.items() if policy["default"]]
    return next(iter(default or policies), None)


def _row(name: str, link: Mapping[str, Any], policy: str | None, now: float) -> dict[str, str]:
    shared = "shared" if link["shares_device"] else None
    since = None if link["since"] is None else int(now - link["since"])
    return {
        "LINK": name,
        "DEVICE": link["device"],
        "STATE": link["state"],
        "SINCE": words.duration(since),
        "LOSS": words.percent(link["loss"]),
        "RTT": words.milliseconds(link["rtt"]),
        "SHARE": words.percent(link["shares"].get(policy)),
        "CONNS": words.NOTHING if link["connections"] is None else str(link["connections"]),
        "IN": shared or words.octets(link["received"]),
        "OUT": shared or words.octets(link["sent"]),
        "WHY": link["reason"],
    }


def _policies(status: Mapping[str, Any]) -> Iterator[str]:
    """A line for each policy, unless the only one has all its links serving in tier 1: then the table says it."""
    policies = status["policies"]
    if len(policies) == 1 and all(policy["tier"] == 1 for policy in policies.values()):
        return
    for name, policy in policies.items():
        default = " (default)" if policy["default"] else ""
        if not policy["shares"]:
            yield f"policy {name}{default}: no link can take new connections; last resort: {policy['last_resort']}"
            continue
        parts = ", ".join(f"{link} {words.percent(share)}" for link, share in policy["shares"].items())
        yield f"policy {name}{default}, tier {policy['tier']}: {parts}"


def _shared(links: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    told = set()
    for link in links.values():
        device = link["device"]
        if link["shares_device"] and device not in told:
            told.add(device)
            names = words.listed([name for name, other in links.items() if other["device"] == device])
            figures = f"{words.octets(link['received'])} in, {words.octets(link['sent'])} out"
            yield f"{device}, shared by {names}: {figures}"


def _notes(status: Mapping[str, Any], now: float) -> Iterator[str]:
    prober = status["prober"]
    if not prober["running"]:
        yield _absent(prober, now)
        yield from (f"warning: {last_word(name)}" for name in _left_out(status))
    if prober["held"]:
        yield "No target answers on any link: silence moves nothing until one does."
    for name, link in status["links"].items():
        yield from _of_link(name, link)
    if prober["problem"]:
        yield f"The stored configuration cannot be used, and the one before it stays in force: {prober['problem']}"
    if prober["stuck"]:
        yield f"The router could not be brought to what is declared: {prober['stuck']}"
        yield "Shares and policies are shown as they should be; what the kernel does may differ (see `mwanctl diff`)."
    yield from _of_helper(status["balance"] or {"running": True})
    yield from _of_drift(status)
    yield from (f"warning: {warning}" for warning in status["warnings"])


def _of_drift(status: Mapping[str, Any]) -> Iterator[str]:
    """What of the router was found not to be as it should, where somebody has looked."""
    count = len(status.get("drift") or ())
    if count:
        yield f"{count} difference{'' if count == 1 else 's'} from what is declared (see `mwanctl diff`)"


def _of_helper(balance: Mapping[str, Any]) -> Iterator[str]:
    if not balance["running"]:
        yield "The helper of least_connections (mwan-balance) does not answer: connections are spread by weight."
    elif balance.get("problem"):
        yield f"The helper of least_connections (mwan-balance) cannot do its work: {balance['problem']}"


def _left_out(status: Mapping[str, Any]) -> list[str]:
    """The links that a prober which does not run keeps out; one that runs and is silent may yet let them in."""
    links = {} if status["prober"]["running"] or status["prober"]["silent"] else status["links"]
    return [name for name, link in links.items() if link["state"] in ("suspect", "down")]


def _of_link(name: str, link: Mapping[str, Any]) -> Iterator[str]:
    if link["drained"] is not None and link["state"] == "down":
        yield f"{name} is drained as well: up again, it takes no new connections until `mwanctl undrain {name}`."
    elif link["drained"] is not None:
        yield f"{name} is drained: it keeps its connections and takes no new ones until `mwanctl undrain {name}`."
    if link["up_in"] is not None:
        yield f"{name} answers again, and is up in {words.duration(link['up_in'])} if it goes on (up_after)."
    if link["released"] == "down":
        yield f"{name} is given up: its connections are reset or led elsewhere, as on_down of its policy says."
    if link["released"] == "failback":
        yield f"{name} is being left: its connections go back to better links, as failback of its policy says."


def _absent(prober: Mapping[str, Any], now: float) -> str:
    text = f"The prober (mwand) {prober['silent'] or 'is not running'}: nobody watches the links"
    remedy = "`systemctl start mwan` starts it."
    if prober["last_wrote"] is None:
        return f"{text}, and all are presumed up but those drained by hand. {remedy}"
    ago = words.duration(int(now - prober["last_wrote"]))
    return f"{text}. The states are what it wrote last, {ago} ago, and routing still follows them. {remedy}"


# for monitoring


def check(status: Mapping[str, Any]) -> tuple[int, str]:
    """Exit code and one line: critical when new connections have nowhere to go or the router does not follow.

    A warning when a link rests, or what is stored cannot be used. A link that was drained by hand rests on purpose and
    warns nobody.
    """
    code, text = _judged(status)
    return code, f"MWAN {VERDICTS[code]}: {text}"


def _judged(status: Mapping[str, Any]) -> tuple[int, str]:
    links = status["links"]
    if not links:
        return UNKNOWN, "no link is declared"
    for code, found in (
        (CRITICAL, _failures(status)),
        (UNKNOWN, _blindness(status)),
        (WARNING, _troubles(status)),
    ):
        texts = list(found)
        if texts:
            return code, " ".join("; ".join(texts).split())
    return OK, f"{_serving(links)} of {len(links)} links take new connections"


def _failures(status: Mapping[str, Any]) -> Iterator[str]:
    prober, links = status["prober"], status["links"]
    stranded = [name for name, policy in status["policies"].items() if not policy["shares"]]
    if stranded:
        yield f"no link takes new connections of {words.listed(stranded)}"
    if prober["held"]:
        silent = [f"{name} {link['reason']}" for name, link in links.items() if link["held"]]
        yield ", ".join(["no target answers on any link", *silent])
    if prober["stuck"]:
        yield f"the router could not be brought to what is declared: {prober['stuck']}"


def _blindness(status: Mapping[str, Any]) -> Iterator[str]:
    prober = status["prober"]
    if not prober["running"]:
        yield f"the prober {prober['silent'] or 'is not running'}"
        yield from (last_word(name) for name in _left_out(status))


def _troubles(status: Mapping[str, Any]) -> Iterator[str]:
    """What does not stop new connections; a link that is held may be dead, as nobody can tell."""
    for name, link in status["links"].items():
        if link["state"] not in ("up", "unknown", "drained"):
            yield f"{name} {link['state']}"
        elif link["held"]:
            yield f"{name} {link['reason']}"
    if status["prober"]["problem"]:
        yield f"the stored configuration cannot be used: {status['prober']['problem']}"
    yield from _of_drift(status)


def _serving(links: Mapping[str, Mapping[str, Any]]) -> int:
    return sum(any(link["shares"].values()) for link in links.values())
