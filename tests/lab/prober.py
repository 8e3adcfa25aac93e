# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The prober as a process on a lab host, and what it tells over its control socket."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from .engine import LIBRARY
from .host import HELPERS, Host, LabError

PROGRAM = LIBRARY.parents[1] / "roles" / "router" / "files" / "mwand"
CHECKOUT = (sys.executable, "-I", str(HELPERS / "mwand.py"), str(LIBRARY), str(PROGRAM))
INSTALLED = ("/usr/local/lib/mwan/current/mwand",)
_serial = count(1)


class Prober:
    """Runs from its construction, which returns once it has converged the router, until stop() or kill().

    Close what it started with the host at the latest. `arguments` are the program's; `environment` is added to its own.
    The program is the one of the checkout, or what the role has installed.
    """

    def __init__(
        self,
        host: Host,
        *arguments: str,
        ready: bool = True,
        program: Sequence[str] = CHECKOUT,
        **environment: str,
    ) -> None:
        self.host = host
        number = next(_serial)
        self._log = host.state / f"mwand-{number}.log"
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(host.state / f"notify-{number}"))
        self.said: list[str] = []
        words = {"NOTIFY_SOCKET": str(host.state / f"notify-{number}"), **environment}
        command = ["env", *(f"{key}={value}" for key, value in words.items())]
        with self._log.open("w", encoding="utf-8") as log:
            self._process = host.popen([*command, *program, *arguments], stdout=log, stderr=subprocess.STDOUT)
        if ready:
            self.wait_said("READY=1")

    # life

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self, timeout: float = 20.0) -> int:
        """As the service manager does; returns the exit status. Again does nothing."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._ended(timeout)

    def kill(self) -> None:
        """kill -9."""
        if self._process.poll() is None:
            self._process.kill()
        self._ended(10)

    def wait_end(self, timeout: float = 20.0) -> int:
        """The exit status of one that ends by itself."""
        return self._ended(timeout)

    def _ended(self, timeout: float) -> int:
        status = self._process.wait(timeout)
        self._notify.close()
        return status

    def reload(self) -> None:
        """SIGHUP, and wait until it is done."""
        self.said.clear()
        self._process.send_signal(signal.SIGHUP)
        self.wait_said("RELOADING=1")
        self.wait_said("READY=1")

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """As a process that gets no time."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Prober:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self.kill()

    # what it says

    def log(self) -> str:
        """Everything it wrote to standard error."""
        return self._log.read_text(encoding="utf-8")

    def wait_said(self, word: str, timeout: float = 20.0) -> None:
        """Wait until the service manager has been told this, such as READY=1."""
        deadline = time.monotonic() + timeout
        while word not in self.said:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"{self.host.name}: mwand did not say {word}, but {self.said}:\n{self.log()}")
            self._notify.settimeout(0.2)
            try:
                self.said += self._notify.recv(65536).decode().split("\n")
            except TimeoutError:
                continue

    def ask(self, command: str, **more: Any) -> dict[str, Any]:
        """One request over the control socket, and its answer."""
        with self.connected() as connection, connection.makefile("rw", encoding="utf-8") as stream:
            stream.write(json.dumps({"command": command, **more}) + "\n")
            stream.flush()
            return dict(json.loads(stream.readline()))

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        """A connection to the control socket, which is in the host's own /run."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(f"/proc/{self.host.pid}/root/run/mwan/control")
            yield connection

    def status(self) -> dict[str, Any]:
        return self.ask("status")

    def states(self) -> dict[str, str]:
        """Link name -> state."""
        return {name: link["state"] for name, link in self.status()["links"].items()}

    def wait_for(self, link: str, state: str, seconds: float = 10.0) -> float:
        """Wait until the link is in that state; returns how long that took."""
        begun = time.monotonic()
        while (found := self.states().get(link)) != state:
            if time.monotonic() > begun + seconds:
                raise AssertionError(f"{link} is {found}, not {state}, after {seconds} s:\n{self.log()}")
            time.sleep(0.01)
        return time.monotonic() - begun

    def wait_settled(self, seconds: float = 10.0) -> None:
        """Wait until the router is as the states ask for."""
        deadline = time.monotonic() + seconds
        while not (status := self.status())["settled"]:
            if time.monotonic() > deadline:
                raise AssertionError(f"not settled after {seconds} s: {status['converge']}\n{self.log()}")
            time.sleep(0.01)

    def events(self) -> list[dict[str, Any]]:
        """All events, oldest first, with those of earlier processes."""
        return list(self.ask("events")["events"])

    def changes(self, link: str) -> list[str]:
        """The states that a link entered, in order."""
        return [event["after"] for event in self.events() if event["event"] == "state" and event["link"] == link]

    def cost(self) -> dict[str, float]:
        """CPU seconds so far, memory in KiB, and open descriptors."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        ticks = int(fields[11]) + int(fields[12])
        return {
            "cpu": ticks / 100,
            "memory": float(status.partition("VmRSS:")[2].split()[0]),
            "descriptors": float(len(list(Path(f"/proc/{self.pid}/fd").iterdir()))),
        }
