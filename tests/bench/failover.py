# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""How soon a failure is noticed, and how soon clients are answered again, by kind of failure.

On several routers of their own links fail at random times, one trial after the other on each link. Where the profile
is the default one, other ways to watch a link do so beside the prober, and see the same failures.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from random import Random

from ..lab.clients import Clients, Newcomers, outage_of
from ..lab.host import LabError
from ..lab.impair import Moment, inject
from .failures import FAILURES, SILENT
from .figures import Load, Table, spread
from .rivals import Rivals
from .sites import Site

PROTOCOLS = ("tcp", "udp", "icmp")
# Seconds between the questions of a flow, and between new connections: what the clients' figures are exact to.
QUESTIONS, CONNECTIONS = 0.02, 0.04
# A flow that was not moved by then is not moved at all.
FLOWS_PATIENCE = 12.0
NOTICED_WITHIN = 8.0
# The slowest of the rivals takes three rounds of 11 s, and one may have begun with the failure.
RIVALS_PATIENCE = 45.0
BACK_WITHIN = 15.0


@dataclass
class Trial:
    """What one failure led to; seconds from its moment, None where that did not come."""

    kind: str
    profile: str
    seconds: dict[str, float | None] = field(default_factory=dict)


@dataclass
class Campaign:
    """The trials of one site, which take their kinds from a common list until it is empty."""

    site: Site
    kinds: list[str]
    rivals: bool
    trials: list[Trial]
    lock: threading.Lock
    starting: threading.Lock = field(default_factory=threading.Lock)
    _begun: int = 0

    def run(self, link: str, seed: int) -> None:
        random = Random(seed)
        while (kind := self._next()) is not None:
            trial = self._trial(link, kind, random)
            with self.lock:
                self.trials.append(trial)

    def _next(self) -> str | None:
        with self.lock:
            return self.kinds.pop() if self.kinds else None

    def _trial(self, link: str, kind: str, random: Random) -> Trial:
        site, trial = self.site, Trial(kind, self.site.profile)
        with ExitStack() as stack:
            rivals = stack.enter_context(Rivals(site.net.router, site.way(link), random)) if self.rivals else None
            time.sleep(random.uniform(1, 6) if rivals else random.uniform(0, 1))
            with self._clients(link) as (flows, newcomers):
                time.sleep(0.2)
                failure = stack.enter_context(inject(FAILURES[kind], site.net, link))
                self._ours(trial, link, failure.moment)
                self._flows(trial, link, failure.moment, flows)
                trial.seconds["new"] = outage_of(newcomers.told(), failure.moment)
            if rivals:
                alarms = rivals.wait(failure.moment.began, failure.moment.time + RIVALS_PATIENCE)
                for name, when in alarms.items():
                    trial.seconds[name] = when and when - failure.moment.time
        assert failure.over is not None
        self._wait_for_return(link, failure.over)
        return trial

    @contextmanager
    def _clients(self, link: str) -> Iterator[tuple[Clients, Newcomers]]:
        """Their ports come round again; the destinations are others by then, so that no flow is one of before."""
        site = self.site
        with self.starting, ExitStack() as stack:
            self._begun += 1
            turn = self._begun % len(site.destinations(link))
            destinations = [*site.destinations(link)[turn:], *site.destinations(link)[:turn]]
            flows = Clients(
                site.net.client,
                **dict.fromkeys(PROTOCOLS, 1),
                want=site.net.uplinks[link].source,
                interval=QUESTIONS,
                patience=2 * FLOWS_PATIENCE,
                destinations=destinations,
            )
            stack.enter_context(flows)
            newcomers = stack.enter_context(Newcomers(site.net.client, destinations[-1], interval=CONNECTIONS))
            ends = stack.pop_all()
        with ends:
            yield flows, newcomers

    def _ours(self, trial: Trial, link: str, moment: Moment) -> None:
        changes = self.site.changes
        down = changes.wait(link, "down", moment.began - 0.001, NOTICED_WITHIN)
        if down is None:
            raise LabError(f"{trial.kind}: {link} did not go down\n{self.site.prober.log()}")
        trial.seconds["down"] = max(0.0, down - moment.time)
        if trial.kind in SILENT:
            suspect = changes.first(link, "suspect", moment.began)
            trial.seconds["suspect"] = suspect and suspect - moment.time

    def _flows(self, trial: Trial, link: str, moment: Moment, flows: Clients) -> None:
        outages = flows.outages(moment, self.site.net.uplinks[link].source, FLOWS_PATIENCE)
        trial.seconds.update(dict.fromkeys(PROTOCOLS))
        trial.seconds.update({outage.protocol: outage.seconds for outage in outages})

    def _wait_for_return(self, link: str, over: Moment) -> None:
        if self.site.changes.wait(link, "up", over.began, BACK_WITHIN) is None:
            raise LabError(f"{link} did not come back\n{self.site.prober.log()}")
        self.site.prober.wait_settled()


@dataclass(frozen=True)
class Extent:
    """How much is measured: trials of each kind, and on how many routers of two failing links for each profile."""

    trials: int
    sites: Mapping[str, int]


FULL = Extent(50, {"default": 10, "fast": 2})
QUICK = Extent(2, {"default": 3, "fast": 1})
FAILING = 2


def run(extent: Extent) -> list[Trial]:
    lock = threading.Lock()
    trials: list[Trial] = []
    with ExitStack() as stack, ThreadPoolExecutor(FAILING * sum(extent.sites.values())) as executor:
        running = []
        for profile, number in extent.sites.items():
            kinds = list(FAILURES) * extent.trials
            Random(1).shuffle(kinds)
            for _unused in range(number):
                site = stack.enter_context(Site(FAILING, profile))
                campaign = Campaign(site, kinds, profile == "default", trials, lock)
                running += [(campaign, link) for link in site.failing]
        futures = [executor.submit(campaign.run, link, seed) for seed, (campaign, link) in enumerate(running)]
        for future in futures:
            future.result()
    return trials


def measure(quick: bool) -> list[Table]:
    extent = QUICK if quick else FULL
    with Load() as load:
        trials = run(extent)
    return [_noticed(trials, load), _answered(trials), _side_by_side(trials)]


def _rows(trials: list[Trial], columns: tuple[str, ...], profiles: tuple[str, ...]) -> list[list[str]]:
    rows = []
    for kind in FAILURES:
        for profile in profiles:
            here = [trial for trial in trials if (trial.kind, trial.profile) == (kind, profile)]
            cells = [_cell([trial.seconds.get(column) for trial in here]) for column in columns]
            rows.append([kind, profile, str(len(here)), *cells])
    return rows


def _cell(seconds: list[float | None]) -> str:
    """p50 / p95 / max, and how often there was nothing to measure; empty if always."""
    known = [value for value in seconds if value is not None]
    if not known:
        return ""
    never = f", {len(seconds) - len(known)} never" if len(known) < len(seconds) else ""
    return " / ".join(spread(known, digits=3)) + never


def _noticed(trials: list[Trial], load: Load) -> Table:
    notes = [
        "Seconds from the middle of the call that injects the failure: p50 / p95 / max. The carrier, the device and the"
        " address are the kernel's word, and nobody suspects before.",
        f"{FAILING} failing links and a third one a router; {load.told()}.",
    ]
    rows = _rows(trials, ("suspect", "down"), ("default", "fast"))
    return Table("A failure is noticed", ("failure", "profile", "trials", "suspect", "down"), rows, notes)


def _answered(trials: list[Trial]) -> Table:
    columns = ("new", *PROTOCOLS)
    notes = [
        "Seconds: p50 / p95 / max. New connections: until the first of those from which on all were answered; one is"
        f" tried every {CONNECTIONS * 1000:.0f} ms. The others had one flow each on the link that failed, asking every"
        f" {QUESTIONS * 1000:.0f} ms: until an answer came to something asked later, over TCP after the reset and"
        " over a new connection.",
        "on_down, failback and flush_delay as they are by default.",
    ]
    names = ("failure", "profile", "trials", "new connections", "TCP", "UDP", "ICMP")
    return Table("Clients are answered again", names, _rows(trials, columns, ("default", "fast")), notes)


def _side_by_side(trials: list[Trial]) -> Table:
    columns = ("suspect", "down", *Rivals.NAMES)
    notes = [
        "Seconds until the link is found down, on the same links and of the same failures: p50 / p95 / max.",
        "Loop of ping as mwan3track does it: `ping -c 1 -W 2` to one of three targets after the other until one"
        " answers, 5 s pause, down after 3 rounds. mwan3 itself is told of a lost carrier by netifd; the loop is not.",
        "Loop of fping: three targets at once with 500 ms of patience, 0.5 s pause, down after 4 rounds.",
        "dpinger's rule on a stream of pings every 500 ms: loss over 20 % of 60 s, lost after 2 s.",
    ]
    names = ("failure", "profile", "trials", "mwand, suspect", "mwand, down", *Rivals.NAMES)
    return Table("Side by side", names, _rows(trials, columns, ("default",)), notes)
