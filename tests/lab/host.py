# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""One machine of the lab: a network and a mount namespace kept by a holder process."""

from __future__ import annotations

import json
import os
import select
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

HELPERS = Path(__file__).parent / "helpers"
START_SECONDS = 20.0
# Ports handed out to trials: below the kernel's ephemeral range, so both can be in use at once.
FIRST_PORT, LAST_PORT = 2000, 32000

Command = Sequence[str] | str


class LabError(Exception):
    """The lab itself failed (not the router under test)."""


class Host:
    """One network and mount namespace.

    /etc, /usr/local and /var/lib are private copies, /run is empty, so what the router writes stays in the namespace
    and ends with it. Other directories, and /tmp among them, are the machine's. The namespace starts while other hosts
    are being started; the first use waits for it.
    """

    def __init__(
        self, name: str, state: Path, lab: str = "lab", *, forward: bool = False, overlay: bool = True
    ) -> None:
        self.name = name
        self.state = state
        self.lab = lab
        self._ready = False
        self._next_port = FIRST_PORT
        self._processes: list[subprocess.Popen[str]] = []
        state.mkdir(parents=True)
        options = json.dumps({"state": str(state), "forward": forward, "overlay": overlay})
        self._holder = subprocess.Popen(
            [sys.executable, "-I", "-S", str(HELPERS / "holder.py"), options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the owner; the holder ends when the owner says so
            env=self._environment(),
        )

    def __repr__(self) -> str:
        return f"Host({self.name!r})"

    @property
    def pid(self) -> int:
        """Process id of the holder; waits until the namespaces are built."""
        if not self._ready:
            self._await_ready()
        return self._holder.pid

    def _await_ready(self) -> None:
        assert self._holder.stdout is not None
        assert self._holder.stderr is not None
        readable, _unused, _unused = select.select([self._holder.stdout], [], [], START_SECONDS)
        if not readable or self._holder.stdout.readline() != "ready\n":
            self._holder.kill()
            raise LabError(f"host {self.name} did not start: {self._holder.stderr.read()}")
        self._ready = True

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "MWAN_LAB": self.lab, "MWAN_LAB_HOST": self.name, "LC_ALL": "C.UTF-8"}

    def enter(self, command: Command) -> list[str]:
        """The argument vector that runs `command` in both namespaces; a string is for the shell."""
        vector = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        return ["nsenter", f"--target={self.pid}", "--net", "--mount", "--", *vector]

    def run(
        self,
        command: Command,
        check: bool = True,
        input: str | None = None,  # noqa: A002  (as subprocess.run names it)
        timeout: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run to its end, with text output captured. With `check`, a failure is a LabError that shows what was said."""
        done = subprocess.run(
            self.enter(command),
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self._environment(),
            check=False,
        )
        if check and done.returncode != 0:
            shown = command if isinstance(command, str) else shlex.join(command)
            raise LabError(f"{self.name}: {shown}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def popen(
        self,
        command: Command,
        stdin: int | IO[Any] | None = subprocess.DEVNULL,
        stdout: int | IO[Any] | None = subprocess.PIPE,
        stderr: int | IO[Any] | None = subprocess.STDOUT,
    ) -> subprocess.Popen[str]:
        """Start in both namespaces; the process ends with the host at the latest."""
        process = subprocess.Popen(
            self.enter(command),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=True,  # Ctrl-C is for the owner
            env=self._environment(),
        )
        self._processes.append(process)
        return process

    def helper(self, script: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a script of `helpers/` with pipes on standard input and output."""
        command = [sys.executable, "-I", str(HELPERS / script), *arguments]
        return self.popen(command, stdin=subprocess.PIPE, stderr=None)

    def ip(self, arguments: str, check: bool = True) -> str:
        """``host.ip("route show table all")``: the output of ip(8)."""
        return self.run(["ip", *shlex.split(arguments)], check=check).stdout

    def ip_json(self, arguments: str) -> list[dict[str, Any]]:
        """The same as JSON; an empty answer is an empty list."""
        answer = self.ip(f"-j -d {arguments}").strip()
        return list(json.loads(answer)) if answer else []

    def nft(self, text: str) -> str:
        """One nft transaction."""
        return self.run(["nft", "-f", "-"], input=text).stdout

    def configure(self, ip: Iterable[str] = (), nft: str = "") -> subprocess.Popen[str]:
        """Start one `ip -batch` and one `nft -f` without waiting for them; Lab.settle() waits and reports."""
        script = "set -e\nip -batch - <<'END'\n" + "\n".join(ip) + "\nEND\n"
        if nft.strip():
            script += "nft -f - <<'END'\n" + nft + "\nEND\n"
        process = self.popen(["/bin/sh"], stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(script)
        process.stdin.close()
        process.stdin = None  # communicate() must not use it again
        return process

    def sysctl(self, key: str, value: str | int | None = None) -> str:
        """Read, or write and then read, one sysctl; `/` in device names as sysctl(8) spells it with dots swapped."""
        path = "/proc/sys/" + key.translate(str.maketrans("./", "/."))
        if value is not None:
            self.run(["/bin/sh", "-c", 'printf "%s\\n" "$2" > "$1"', "sysctl", path, str(value)])
        return self.run(["cat", path]).stdout.strip()

    def take_ports(self, count: int) -> int:
        """First of `count` source ports that no earlier trial of this host used: two trials must not share a flow."""
        if self._next_port + count > LAST_PORT:
            self._next_port = FIRST_PORT
        first = self._next_port
        self._next_port += count
        return first

    def interpreter(self, python: str = sys.executable) -> Path:
        """A script for `ansible_python_interpreter`: that Python, inside this host."""
        wrapper = self.state / f"python-{Path(python).name}"
        if not wrapper.exists():
            entered = shlex.join(self.enter(["env"]))
            wrapper.write_text(
                f'#!/bin/sh\nexec {entered} --chdir="$PWD" {shlex.quote(python)} "$@"\n', encoding="utf-8"
            )
            wrapper.chmod(0o755)
        return wrapper

    def namespace(self) -> str:
        """Identity of the network namespace, as the kernel shows it in /proc."""
        return os.readlink(f"/proc/{self.pid}/ns/net")

    def stop(self) -> None:
        """Begin the end: the holder kills what lives here and removes the state directory."""
        for process in self._processes:  # one that has not entered yet would escape the holder
            process.kill()
        if self._holder.stdin is not None:
            self._holder.stdin.close()
            self._holder.stdin = None

    def close(self) -> None:
        """stop(), and wait until it is done."""
        self.stop()
        try:
            self._holder.communicate(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            self._holder.kill()
            self._holder.communicate()
        for process in self._processes:
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                close_quietly(stream)


def close_quietly(stream: IO[str] | None) -> None:
    try:
        if stream is not None:
            stream.close()
    except OSError:  # unsent input of a process that was killed
        pass
