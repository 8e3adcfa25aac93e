# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Several hosts and the cables between them, removed as one whatever happens."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType

from .host import Host, LabError
from .tun import TunPair

PREFIX = "mwan-lab-"
BRIDGE = "br0"
FIRST_IFINDEX = 100


@dataclass(frozen=True)
class Port:
    """One end of a cable: a device in a host."""

    host: Host
    device: str


@dataclass(frozen=True)
class Wire:
    """A veth pair. Taking `b` down takes the carrier of `a` away, and the other way round."""

    a: Port
    b: Port
    slow: bool = False


class Lab:
    """Hosts by name. Use as a context manager; close() may be called often and always removes everything.

    Also without close(), and when this process is killed, the holders notice and remove their hosts.
    """

    def __init__(self, name: str = "lab") -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=PREFIX))
        self.name = f"{name}-{self.directory.name.removeprefix(PREFIX)}"
        self.hosts: dict[str, Host] = {}
        self._tuns: list[TunPair] = []
        self._ifindex = count(FIRST_IFINDEX)
        self._cables: list[str] = []
        self._wanted: dict[str, tuple[list[str], list[str]]] = {}
        atexit.register(self.close)

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def host(self, name: str, *, forward: bool = False, overlay: bool = True) -> Host:
        """A new host; it starts in the background."""
        if name in self.hosts:
            raise LabError(f"there is a host {name} already")
        state = self.directory / f"host-{name}"
        self.hosts[name] = Host(name, state, self.name, forward=forward, overlay=overlay)
        return self.hosts[name]

    def switch(self, name: str) -> Host:
        """A host that is an Ethernet switch: each port has a carrier of its own. Plug cables in with plug()."""
        host = self.host(name)
        self.configure(host, [f"link add {BRIDGE} type bridge stp_state 0 mcast_snooping 0", f"link set {BRIDGE} up"])
        return host

    def connect(self, a: Host, device_a: str, b: Host, device_b: str, *, slow: bool = False) -> Wire:
        """A veth pair, both ends down until configured; made by the next settle(), or made anew if it was deleted.

        Both ends are created inside the namespaces, never in the machine's own. Their indexes differ unless the wire is
        to be slow: of a veth whose index equals its peer's the kernel thinks it is not a pair, and reports its carrier
        up to 1 s late (linkwatch).
        """
        index = next(self._ifindex)
        peer_index = index if slow else next(self._ifindex)
        self._cables.append(
            f"link add {device_a} index {index} netns {a.pid} "
            f"type veth peer name {device_b} index {peer_index} netns {b.pid}"
        )
        return Wire(Port(a, device_a), Port(b, device_b), slow)

    def plug(self, host: Host, device: str, switch: Host) -> Wire:
        """A cable from a host to a port of a switch; the port is named after the host."""
        wire = self.connect(host, device, switch, host.name[:15])
        self.configure(switch, [f"link set {wire.b.device} master {BRIDGE} up"])
        return wire

    def tun(self, a: Host, device_a: str, address_a: str, b: Host, device_b: str, address_b: str) -> TunPair:
        """A point-to-point line of two tun devices; it stands in for PPP, which many kernels lack. Not dialled yet."""
        pair = TunPair(a, device_a, address_a, b, device_b, address_b)
        self._tuns.append(pair)
        return pair

    def configure(self, host: Host, ip: Iterable[str] = (), nft: str = "") -> None:
        """Have lines of `ip -batch` and nft text applied by the next settle()."""
        lines, texts = self._wanted.setdefault(host.name, ([], []))
        lines.extend(ip)
        texts.append(nft)

    def settle(self) -> None:
        """Make the cables, then configure all hosts at the same time. A LabError repeats what ip or nft said."""
        if self._cables:
            cables, self._cables = self._cables, []
            next(iter(self.hosts.values())).run(["ip", "-batch", "-"], input="\n".join(cables) + "\n")
        wanted, self._wanted = self._wanted, {}
        busy = [(name, self.hosts[name].configure(ip, "\n".join(nft))) for name, (ip, nft) in wanted.items()]
        said = [(name, process.communicate(timeout=30)[0], process.returncode) for name, process in busy]
        if any(code for _unused, _unused, code in said):
            raise LabError("\n".join(f"{name}: {text}" for name, text, code in said if code))

    def close(self) -> None:
        atexit.unregister(self.close)
        for pair in self._tuns:
            pair.hang_up()
        for host in self.hosts.values():
            host.stop()
        for host in self.hosts.values():
            host.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def leftovers(self) -> list[str]:
        """What is still there of this lab; empty after close()."""
        found = [f"process {pid}" for pid in lab_processes(self.name)]
        return found + ([f"directory {self.directory}"] if self.directory.exists() else [])


def lab_processes(name: str) -> list[int]:
    """Processes started in a lab of that name: a namespace of it lives exactly as long as one of them."""
    wanted = f"MWAN_LAB={name}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:  # ended meanwhile
            continue
    return [pid for pid in found if pid != os.getpid()]
