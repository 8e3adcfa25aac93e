# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The helper of least_connections by itself on a lab host, and the rules that ask it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from .engine import LIBRARY
from .host import HELPERS, Host

PROGRAM = LIBRARY.parents[1] / "roles" / "router" / "files" / "mwan-balance"
QUEUE = 7710
PATH = "/run/mwan/balance.json"
MASK = 0x3F00
PATIENCE = 5.0


class Balancer:
    """Runs from its construction until it is closed; it answers once ask() returns. `through`: what starts it."""

    def __init__(self, host: Host, through: Sequence[str] = ()) -> None:
        self.host = host
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.settimeout(PATIENCE)
        command = [*through, sys.executable, "-I", str(HELPERS / "mwand.py"), str(LIBRARY), str(PROGRAM)]
        with theirs, (host.state / "mwan-balance.log").open("a", encoding="utf-8") as log:
            self._process = host.popen(command, stdin=theirs.fileno(), stdout=log, stderr=subprocess.STDOUT)

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self) -> dict[str, Any]:
        """How things are, in its words."""
        self._channel.send(b"?")
        answer = self._channel.recv(1 << 16)
        if not answer:
            raise AssertionError((self.host.state / "mwan-balance.log").read_text(encoding="utf-8"))
        return dict(json.loads(answer))

    def connections(self, policy: str = "balanced") -> dict[str, int]:
        """Open connections by link, as it counts them."""
        return {name: link["connections"] for name, link in self.ask()["policies"][policy]["links"].items()}

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def close(self) -> None:
        """Again does nothing."""
        self._channel.close()
        self._process.send_signal(signal.SIGCONT)
        self._process.wait(PATIENCE)

    def __enter__(self) -> Balancer:
        self.ask()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def enlist(host: Host, links: Mapping[str, tuple[int, int]], policy: str = "balanced") -> None:
    """Tell the helper of these links, each a mark and a weight, by a rename as every run does."""
    listed = [{"name": name, "mark": hex(mark), "weight": weight} for name, (mark, weight) in links.items()]
    data = {"schema": 1, "mask": hex(MASK), "queues": [{"queue": QUEUE, "policy": policy, "links": listed}]}
    host.run(["sh", "-c", f"mkdir -p /run/mwan && cat > {PATH}.new && mv {PATH}.new {PATH}"], input=json.dumps(data))


@contextmanager
def queued(host: Host, foreign: int = 0) -> Iterator[None]:
    """Have the first packet of each forwarded connection without a pin asked for; `foreign`: bits of its mark that are
    another's."""
    new = f"-i lan0 -m conntrack --ctstate NEW -m connmark --mark 0/{MASK:#x} -m mark --mark 0/{MASK:#x}"
    rules = [f"PREROUTING {new} -j NFQUEUE --queue-num {QUEUE} --queue-bypass"]
    if foreign:
        rules.insert(0, f"PREROUTING {new} -j MARK --or-mark {foreign:#x}")
    for rule in rules:
        host.run(f"iptables-legacy -w -t mangle -A {rule}")
    try:
        yield
    finally:
        for rule in rules:
            host.run(f"iptables-legacy -w -t mangle -D {rule}")
