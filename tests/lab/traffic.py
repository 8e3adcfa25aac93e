# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Servers, connections, long-lived flows and floods; all bounded in number and time."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from .host import HELPERS, Host, LabError
from .topology import SERVER, Direction, Topology

HTTP_PORT, ECHO_PORT, FLOOD_PORT = 80, 7, 9
MOST_PACKETS = 2_000_000
SATURATING = 1000  # bytes of payload
_serial = count(1)


class Helper:
    """A helper script that says `ready`, works, and ends (perhaps with a JSON result) when its input is closed."""

    def __init__(self, host: Host, script: str, *arguments: str) -> None:
        self.host = host
        self.script = script
        self._process: subprocess.Popen[str] = host.helper(script, *arguments)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise LabError(f"{host.name}: {script} did not start")

    def end(self, timeout: float = 30.0) -> str:
        """Close its input and return what it printed; again does nothing."""
        printed, _unused = self._process.communicate(timeout=timeout)
        return printed

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.end()


class Teller(Helper):
    """A helper that goes on printing JSON objects, a line each; they are heard as they come, in `told`."""

    def __init__(self, host: Host, script: str, *arguments: str) -> None:
        super().__init__(host, script, *arguments)
        self.told: queue.Queue[dict[str, Any]] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.told.put(json.loads(line))

    def write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def end(self, timeout: float = 30.0) -> str:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout)
        self._listener.join(timeout)
        return ""


class AccessLogServer(Helper):
    """An HTTP server on every address of a host; it answers with the source it saw and logs as Apache does."""

    def __init__(self, host: Host, port: int = HTTP_PORT) -> None:
        self.log = host.state / f"access-{next(_serial)}.log"
        super().__init__(host, "server.py", "--http", str(port), "--log", str(self.log))

    def log_lines(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").splitlines()

    def sources(self) -> Counter[str]:
        """Requests per source address, from the log."""
        return Counter(line.split(" ", 1)[0] for line in self.log_lines())


class EchoServer(Helper):
    """A TCP and UDP server on every address of a host; each line or datagram comes back with the source it saw."""

    def __init__(self, host: Host, port: int = ECHO_PORT) -> None:
        super().__init__(host, "server.py", "--echo", str(port))


@dataclass(frozen=True)
class Fetched:
    """The outcome of fetch_many()."""

    sources: Counter[str]  # source addresses the server saw
    failures: list[dict[str, Any]]  # the trials without answer: error, destination, source, began, seconds
    trials: list[dict[str, Any]]  # all, in the order they ended

    @property
    def durations(self) -> list[float]:
        """Seconds from connect to the last byte, of the trials that were answered."""
        return [trial["seconds"] for trial in self.trials if "error" not in trial]

    @property
    def answered(self) -> int:
        return len(self.trials) - len(self.failures)


def fetch_many(
    client: Host,
    number: int,
    destinations: str | Sequence[str] = SERVER,
    *,
    sources: Sequence[str] = (),
    port: int = HTTP_PORT,
    path: str = "/",
    concurrency: int = 50,
    timeout: float = 3.0,
) -> Fetched:
    """`number` HTTP requests, each a new connection from a port no earlier trial used; `timeout` is per trial.

    Several `sources` (addresses of the client) and `destinations` are taken in turns.
    """
    job = {
        "count": number,
        "destinations": [destinations] if isinstance(destinations, str) else list(destinations),
        "sources": list(sources),
        "port": port,
        "path": path,
        "first_port": client.take_ports(number + 64),  # some will be taken
        "concurrency": concurrency,
        "timeout": timeout,
    }
    longest = 30.0 + timeout * (number / concurrency + 1)
    done = client.run([sys.executable, "-I", str(HELPERS / "fetch.py"), json.dumps(job)], timeout=longest)
    trials = json.loads(done.stdout)
    failures = [trial for trial in trials if "error" in trial]
    seen = Counter(trial["source_seen"] for trial in trials if "error" not in trial)
    return Fetched(seen, failures, trials)


@dataclass(frozen=True)
class FlowStats:
    """One long-lived flow; `longest_gap` is the longest time in seconds without an answer (None: never any)."""

    sent: int
    answered: int
    missing: list[int]
    sources: dict[str, int]
    longest_gap: float | None
    error: str | None


class LongLived(Helper):
    """`number` flows that send a numbered message every `interval` seconds to an EchoServer and never reconnect.

    The constructor returns when every flow had its first answer, failed, or `patience` seconds went by.
    """

    protocol = ""

    def __init__(
        self,
        client: Host,
        destination: str = SERVER,
        *,
        port: int = ECHO_PORT,
        number: int = 1,
        interval: float = 0.02,
        sources: Sequence[str] = (),
        patience: float = 3.0,
        grace: float = 0.6,
    ) -> None:
        job = {
            "protocol": self.protocol,
            "destination": destination,
            "port": port,
            "count": number,
            "interval": interval,
            "sources": list(sources),
            "patience": patience,
            "grace": grace,
        }
        super().__init__(client, "flows.py", json.dumps(job))

    def stop(self) -> list[FlowStats]:
        """Send no more, wait `grace` seconds for the last answers, and tell of each flow."""
        return [FlowStats(**stats) for stats in json.loads(self.end())]


class LongLivedTcp(LongLived):
    protocol = "tcp"


class LongLivedUdp(LongLived):
    protocol = "udp"


@dataclass(frozen=True)
class FloodResult:
    """Packets per flow. `dropped_by_machine` counts losses to full queues of this machine: not the router's doing."""

    sent: list[int]
    received: list[int]
    missing: list[list[int]]
    sources: list[list[str]]
    duplicates: int
    send_errors: int
    dropped_by_machine: int
    seconds: float

    @property
    def lost(self) -> int:
        return sum(self.sent) - sum(self.received)


class UdpFlood:
    """Numbered datagrams from client to server at `pps` packets a second over `flows` flows, counted exactly.

    Starts at once and lasts `seconds`; wait() returns the result. What a test changes meanwhile must lose nothing.
    """

    def __init__(
        self,
        client: Host,
        server: Host,
        destination: str = SERVER,
        *,
        pps: int = 20_000,
        seconds: float = 2.0,
        flows: int = 10,
        size: int = 64,
        port: int = FLOOD_PORT,
        source: str = "",
    ) -> None:
        packets = int(pps * seconds)
        if packets > MOST_PACKETS:
            raise ValueError(f"UdpFlood: {packets} packets, at most {MOST_PACKETS}")
        job = {
            "destination": destination,
            "source": source,
            "port": port,
            "pps": pps,
            "packets": packets,
            "flows": flows,
            "size": size,
        }
        self._limit = seconds * 3 + 30
        self._receiver = Helper(server, "flood.py", "receive", json.dumps({**job, "limit": self._limit}))
        self._sender = client.helper("flood.py", "send", json.dumps(job))

    def wait(self) -> FloodResult:
        sender = json.loads(self._sender.communicate(timeout=self._limit)[0])
        receiver = json.loads(self._receiver.end())
        sent = sender["sent"]
        return FloodResult(
            sent=sent,
            received=receiver["received"],
            missing=[[n for n in missing if n < most] for missing, most in zip(receiver["missing"], sent, strict=True)],
            sources=receiver["sources"],
            duplicates=receiver["duplicates"],
            send_errors=sender["errors"],
            dropped_by_machine=receiver["dropped_by_machine"],
            seconds=sender["seconds"],
        )


def saturated(topology: Topology, link: str, kbit: int, seconds: float, direction: Direction = "up") -> UdpFlood:
    """Send twice what a line of that rate takes (see impair.rate), up from the router or down to it."""
    uplink, router, server = topology.uplinks[link], topology.router, topology.server
    pps = 2 * kbit * 1000 // (8 * SATURATING)
    if direction == "down":
        return UdpFlood(
            server, router, uplink.source, pps=pps, seconds=seconds, flows=1, size=SATURATING, source=SERVER
        )
    if uplink.shared:
        raise LabError(f"{link} shares its device and address: the source does not choose it")
    return UdpFlood(router, server, pps=pps, seconds=seconds, flows=1, size=SATURATING, source=uplink.address)
