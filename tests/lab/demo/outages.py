# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The acts in which a link fails and comes back, under the eyes of clients that keep talking."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime

from ..clients import Clients, Flow, Newcomers
from ..impair import Impairment, Injection, Moment, black_hole, inject
from ..prober import Prober
from ..topology import Topology
from .noticed import PROTOCOLS, Allowed, new_connections, noticed, span
from .scenes import SILENT, UP_AFTER, wait
from .stage import Stage

FLOWS = 5  # of each protocol, over each link
INTERVAL = 0.05
LONGEST_SILENCE = 2.0  # seconds, of a client whose link is well, on a machine that may be busy
UNDISTURBED = 0.3  # seconds of new connections before an outage
ARRIVALS = 0.03  # seconds between them; their ports come round after 15 s


class Outages(Stage):
    """`clients` are by the link they began on."""

    @contextmanager
    def talking(self) -> Iterator[dict[str, Clients]]:
        self.screen.act(
            "Clients that keep talking, from here on",
            f"Over each link {FLOWS} TCP connections, {FLOWS} UDP flows and {FLOWS} pings out of the LAN, which say "
            f"something every {INTERVAL * 1000:.0f} ms. The server answers with the address it sees. A TCP client that "
            "is reset connects anew; UDP keeps its port, and ping its id.",
        )
        with ExitStack() as stack:
            numbers = dict.fromkeys(PROTOCOLS, FLOWS)
            clients = {
                name: stack.enter_context(Clients(self.net.client, **numbers, want=source, interval=INTERVAL))
                for name, source in self.net.sources.items()
            }
            flows = {name: those.flows() for name, those in clients.items()}
            rows = [(name, source, *_counts(flows[name])) for name, source in self.net.sources.items()]
            self.screen.table(("link", "source", *PROTOCOLS.values()), rows)
            self.screen.line()
            seen = {name: {flow.answers[0].source for flow in those} for name, those in flows.items()}
            placed = all(seen[name] == {source} for name, source in self.net.sources.items())
            self.check(placed, f"{sum(map(len, flows.values()))} are answered, from the address of their link")
            yield clients

    # A failure that the router is told of, or that its neighbour shows

    def outage(self, prober: Prober, clients: dict[str, Clients]) -> None:
        scene = self.scene
        self.screen.act(scene.outage, scene.meaning)
        with self.struck(scene.fail, scene.allowed, prober, clients) as injection:
            self.others_only()
            self.screen.line()
            self.check_unchanged("a run during the outage")
        self.screen.act(
            f"{scene.failing} is back",
            f"It takes new connections again when it has answered for {UP_AFTER} s without a break, so that a line "
            f"that flaps is not used in between. (The variables say up_after: {UP_AFTER}; the default is 20.)",
        )
        self.returned(injection, prober, clients)

    # A failure that nobody tells of

    def dark(self, prober: Prober, clients: dict[str, Clients]) -> None:
        failing = self.scene.failing
        self.screen.act(
            f"{failing} goes dark, without a word",
            "Its provider forwards nothing any more, in either direction, and says nothing. The cable stays lit, and "
            "the gateway answers ARP: the kernel sees a healthy link, for ever. The prober suspects it after 1 s of "
            "silence from all targets, and leads new connections elsewhere; after 2 s the link is down, and 1 s later "
            "what is pinned to it is given up.",
        )
        clients[failing].renew(self.net.sources[failing])
        with self.struck(black_hole, SILENT, prober, clients) as injection:
            self.others_only()
        self.screen.act(
            f"The provider of {failing} forwards again",
            "The link returns by itself, after twice the time: each further outage doubles it. It gets new connections "
            "by its weight. Those that moved stay where they are, as nothing is wrong with them there.",
        )
        self.returned(injection, prober, clients)

    # What both have in common

    @contextmanager
    def struck(
        self,
        how: Callable[[Topology, str], Impairment],
        allowed: Allowed,
        prober: Prober,
        clients: dict[str, Clients],
    ) -> Iterator[Injection]:
        """Let the link fail, wait until its clients are served again, and tell how long they had noticed."""
        failing = self.scene.failing
        with Newcomers(self.net.client, interval=ARRIVALS) as arriving:
            time.sleep(UNDISTURBED)
            with inject(how, self.net, failing) as injection:
                wait(lambda: prober.states()[failing] == "down", f"the prober did not find {failing} down")
                clients[failing].outages(injection.moment, patience=allowed.tcp)
                arrived = new_connections(arriving.told(), injection.moment)
                self.tell_of_prober(prober, injection.moment)
                self.screen.text(f"{arrived.tried} new connections were tried meanwhile: {arrived.told}.")
                self.screen.line()
                self.check(
                    all(seconds <= allowed.new for seconds in arrived.failed),
                    f"no new connection failed that was begun later than {allowed.new:.0f} s after it",
                )
                self.tell_of_clients(allowed, clients, injection.moment)
                yield injection

    def tell_of_prober(self, prober: Prober, moment: Moment) -> None:
        happened = time.time() - (time.monotonic() - moment.time)
        events = [event for event in prober.events() if event["link"] == self.scene.failing]
        after = [(event["after"], datetime.fromisoformat(event["time"]).timestamp() - happened) for event in events]
        words = ", ".join(f"{state} after {span([seconds])}" for state, seconds in after if seconds > 0)
        self.screen.text(f"The prober said of {self.scene.failing}: {words}.")

    def tell_of_clients(self, allowed: Allowed, clients: dict[str, Clients], moment: Moment) -> None:
        failing = self.scene.failing
        found = noticed(clients[failing].flows(moment.began), moment)
        header = (f"clients of {failing}", "number", "reset after", "answered after", "seen from")
        self.screen.line()
        self.screen.table(header, [item.row for item in found])
        self.screen.line()
        others = [source for name, source in self.net.sources.items() if name != failing]
        for item in found:
            words = f"all {item.flows} {item.name} clients are answered again within {allowed.of(item.protocol):.0f} s"
            self.check(item.met(set(others), allowed), f"{words}, from {', '.join(sorted(item.sources)) or 'nowhere'}")
        self.check_undisturbed([name for name in clients if name != failing], clients, moment)

    def check_undisturbed(self, names: list[str], clients: dict[str, Clients], moment: Moment) -> None:
        """Same connections, same address, no pause."""
        flows = [flow for name in names for flow in clients[name].flows(moment.began)]
        now = time.monotonic()
        gaps = [flow.longest_gap(moment.began, now) for flow in flows]
        disturbed = [
            flow
            for flow, gap in zip(flows, gaps, strict=True)
            if flow.breaks or len({answer.source for answer in flow.answers}) != 1 or gap >= LONGEST_SILENCE
        ]
        self.check(
            not disturbed,
            f"{len(disturbed)} of {len(flows)} clients of {' and '.join(names)} were disturbed; the longest wait for "
            f"an answer was {span([max(gaps)])}",
        )

    def others_only(self) -> None:
        """New connections in the outage, and the status."""
        failing = self.scene.failing
        fetched = self.fetch()
        self.screen.line()
        self.screen.text(f"{self.connections} connections now:")
        self.show_shares(fetched, {name: float(name != failing) for name in self.net.uplinks})
        self.on_router("mwanctl status")
        self.check_failures(fetched)
        hits = fetched.sources[self.net.uplinks[failing].source]
        self.check(hits == 0, f"{hits} of them went over {failing}")

    def returned(self, injection: Injection, prober: Prober, clients: dict[str, Clients]) -> None:
        failing = self.scene.failing
        assert injection.over is not None
        wait(lambda: prober.states()[failing] == "up", f"the prober did not find {failing} up")
        prober.wait_settled()
        self.on_router(f"mwanctl events -n 1 --link {failing}")
        self.check_spread(self.fetch())
        self.check_undisturbed(list(clients), clients, injection.over)


def _counts(flows: list[Flow]) -> list[str]:
    counted = Counter(flow.protocol for flow in flows)
    return [str(counted[protocol]) for protocol in PROTOCOLS]
