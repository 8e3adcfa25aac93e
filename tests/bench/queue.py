# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What it costs to ask for each connection, and how well the open ones are in proportion, by algorithm.

With the iptables backend, which every kernel that has NFQUEUE can ask with.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any

from ..lab import topology
from ..lab.ansible import CHECKOUT
from ..lab.balance import policy
from ..lab.balancer import Balancer
from ..lab.engine import Engine
from ..lab.host import Host, LabError
from ..lab.prober import Prober
from ..lab.topology import LAN
from ..lab.traffic import ECHO_PORT, EchoServer
from .apply import ENGINE
from .figures import Load, Table, median_and_range, rank, spread
from .forwarding import PORT, SERVERS, network

ARRIVALS = Path(__file__).with_name("arrivals.py")
LIBRARY = CHECKOUT / "plugins" / "module_utils"
MASK = 0x3F00
QUEUE = "least_connections, queue"
ALGORITHMS: dict[str, dict[str, Any]] = {
    "multipath": {},
    "random": {"algorithm": "random"},
    "least_connections, weights": {
        "algorithm": "least_connections",
        "least_connections": {"method": "weights", "interval": 2},
    },
    QUEUE: {"algorithm": "least_connections"},
}
# that ask for, or choose, each connection by itself; weights cost what multipath does
COSTING = ("multipath", "random", QUEUE)
WEIGHTS = (3, 1)
BURST = 20_000
LIVES = {"rate": 50, "shape": 1.2, "shortest": 2.0, "seed": 11, "port": ECHO_PORT, "destinations": ["7.7.7.7"]}
# seconds between looks, and how near, in points, is near
LOOK, NEAR = 0.5, 3
MARKS = (0x100, 0x200)


class Errand:
    """A script at work on a host since the construction; end() gives what it found."""

    def __init__(self, host: Host, **job: Any) -> None:
        self._process = host.helper(str(ARRIVALS), json.dumps(job))
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise LabError(f"{host.lab}: {job['role']} did not start")
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def end(self, timeout: float) -> dict[str, Any]:
        return dict(json.loads(self._process.communicate(timeout=timeout)[0]))


# what it costs


@dataclass
class Side:
    """One network, and what was measured in it round by round."""

    client: Host
    router: Host
    balancer: Balancer | None
    took: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)

    def measure(self, seconds: float) -> None:
        before = self._helper()
        found = Errand(self.client, role="dial", seconds=seconds, destinations=SERVERS, port=PORT).end(seconds + 30)
        self.took += found["took"]
        self.rates.append(len(found["took"]) / found["seconds"])
        made, busy = (after - earlier for after, earlier in zip(self._helper(), before, strict=True))
        if self.balancer:
            if made < 0.99 * len(found["took"]):
                raise LabError(f"{self.router.lab}: {made:.0f} decisions for {len(found['took'])} connections")
            self.busy.append(busy / made * 1000)
        self.router.run(["conntrack", "-F"])

    def _helper(self) -> tuple[float, float]:
        """Decisions and seconds of a processor so far."""
        return (decisions(self.balancer), cpu(self.balancer.pid)) if self.balancer else (0.0, 0.0)


def decisions(balancer: Balancer) -> int:
    policies = balancer.ask()["policies"].values()
    return sum(link["chosen"] for found in policies for link in found["links"].values())


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@contextmanager
def side(name: str) -> Iterator[Side]:
    with network(name.replace(", ", "-").replace("_", "-"), 2) as built, ExitStack() as stack:
        configure(built.router, ALGORITHMS[name])
        balancer = stack.enter_context(Balancer(built.router)) if name == QUEUE else None
        yield Side(built.client, built.router, balancer)


def configure(router: Host, algorithm: Mapping[str, Any]) -> None:
    names = ["link1", "link2"]
    variables = {
        "mwan_mark_mask": hex(MASK),
        "mwan_classify": "marks",
        "mwan_firewall_backend": "iptables",
        "mwan_links": [
            {"name": name, "device": f"wan{number}", "gateway": f"20.0.{number}.1", "weight": weight}
            for number, (name, weight) in enumerate(zip(names, WEIGHTS, strict=True), 1)
        ],
        "mwan_snat": [{"link": name, "source": LAN} for name in names],
        "mwan_policies": [policy(*names, **algorithm)],
        "mwan_default_policy": "balanced",
    }
    router.run([sys.executable, "-I", str(ENGINE)], input=json.dumps({"library": str(LIBRARY), "variables": variables}))


def costs(rounds: int, seconds: float) -> Table:
    with ExitStack() as stack:
        sides = {name: stack.enter_context(side(name)) for name in COSTING}
        with Load() as load:
            for number in range(rounds):
                for one in list(sides.values())[:: 1 if number % 2 else -1]:
                    one.measure(seconds)
        limit = overload(sides[QUEUE])
    rows = [
        [
            name,
            median_and_range(one.rates, digits=0),
            *(f"{sorted(one.took)[rank(len(one.took), share)] * 1e6:.0f}" for share in (0.5, 0.95, 0.99)),
            f"{median(one.busy) * 1000:.0f}" if one.busy else "-",
        ]
        for name, one in sides.items()
    ]
    notes = [
        f"{rounds} rounds of {seconds} s in which all take turns, connections one after the other, each reset when it"
        f" is answered; rates as median (least to most). {load.told()}.",
        "The helper's time holds the way of the first packet from the firewall to the provider: the kernel goes it when"
        " it hears the verdict. Without a helper the sender's processor does that.",
        limit,
    ]
    columns = ("algorithm", "new connections/s", "first answer p50, us", "p95, us", "p99, us", "helper, ms per 1000")
    return Table("Asking for each connection", columns, rows, notes)


def overload(one: Side) -> str:
    """More new flows at once than the helper can take: what it does not take passes."""
    assert one.balancer is not None
    before = decisions(one.balancer)
    sent = Errand(one.client, role="burst", number=BURST, destinations=SERVERS).end(60)
    time.sleep(1)
    made = decisions(one.balancer) - before
    return (
        f"A burst of {BURST} new UDP flows, {BURST / sent['seconds']:.0f} a second: {made / BURST:.0%} were asked for;"
        " the rest found the queue full and took the policy's route."
    )


# how well it balances


@dataclass(frozen=True)
class Times:
    """Seconds from the beginning: when to look from, when link 2 loses its connections, and the end."""

    warm: float
    loss: float
    end: float


@dataclass(frozen=True)
class Lives:
    """What became of one algorithm: points away from its due, look by look; open connections; seconds to be back."""

    away: list[float]
    number: float
    back: float | None


def lives(name: str, times: Times) -> Lives:
    with topology.two_links(weights=WEIGHTS) as net, EchoServer(net.server), Engine(net, "iptables") as engine:
        engine.apply(mwan_classify="marks", mwan_policies=[policy("isp_a", "isp_b", **ALGORITHMS[name])])
        with Prober(net.router) as prober:
            while name == QUEUE and not (prober.status()["balance"] or {}).get("running"):
                time.sleep(0.05)
            tally = Errand(net.router, role="tally", library=str(LIBRARY), mask=MASK, interval=LOOK)
            began = time.monotonic()
            clients = Errand(net.client, role="live", seconds=times.end, **LIVES)
            time.sleep(times.loss)
            net.router.run(["conntrack", "-D", "--mark", f"0x200/{MASK:#x}"])
            made = clients.end(times.end + 60)
            looks = [
                (when - began, [found.get(str(mark), 0) for mark in MARKS]) for when, found in tally.end(30)["looks"]
            ]
    if made["failed"]:
        raise LabError(f"{name}: {made['failed']} of {made['begun']} connections failed")
    before = [counts for when, counts in looks if times.warm < when < times.loss]
    after = [
        when - times.loss for when, counts in looks if times.loss + LOOK < when < times.end and away(counts) < NEAR
    ]
    return Lives([away(counts) for counts in before], mean(map(sum, before)), min(after, default=None))


def away(counts: Sequence[int]) -> float:
    return 100 * abs(counts[0] / max(1, sum(counts)) - WEIGHTS[0] / sum(WEIGHTS))


def balance(times: Times) -> Table:
    with Load() as load, ThreadPoolExecutor(len(ALGORITHMS)) as executor:
        works = {name: executor.submit(lives, name, times) for name in ALGORITHMS}
        found = {name: work.result() for name, work in works.items()}
    rows = [
        [
            name,
            f"{one.number:.0f}",
            f"{mean(one.away):.2f}",
            *spread(one.away)[1:],
            "not" if one.back is None else f"{one.back:.1f}",
        ]
        for name, one in found.items()
    ]
    notes = [
        f"Two links, 3 to 1. {LIVES['rate']} connections a second at random moments; each lives for a time from a"
        f" Pareto distribution of shape {LIVES['shape']}, at least {LIVES['shortest']} s, so that few of them are most"
        f" of those that are open. Looked at twice a second for {times.loss - times.warm:.0f} s, after"
        f" {times.warm:.0f} s; the same connections for each algorithm.",
        f"Then all connections of the lighter link are forgotten, as after an outage: seconds until it is within {NEAR}"
        " points of its due again.",
        "Weights follow every 2 s. The prober's own probes are among the connections, as they are in life.",
        f"All four networks at once. {load.told()}.",
    ]
    columns = ("algorithm", "open on average", "away from 75 %: mean, points", "p95", "at most", "back after, s")
    return Table("Open connections in proportion", columns, rows, notes)


def measure(quick: bool) -> list[Table]:
    if quick:
        return [costs(2, 0.5), balance(Times(4, 8, 16))]
    return [costs(9, 1.5), balance(Times(30, 90, 150))]
