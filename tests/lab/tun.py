# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Point-to-point lines: two tun devices and a process that carries packets from one to the other."""

from __future__ import annotations

import subprocess

from .host import Host, LabError


class TunPair:
    """A line between two hosts. hang_up() deletes both devices, as a PPP daemon does; dial() makes them anew."""

    def __init__(self, a: Host, device_a: str, address_a: str, b: Host, device_b: str, address_b: str) -> None:
        self.a, self.device_a, self.address_a = a, device_a, address_a
        self.b, self.device_b, self.address_b = b, device_b, address_b
        self._pump: subprocess.Popen[str] | None = None

    def dial(self) -> None:
        """Create both devices, with their addresses, up."""
        pump = self.a.helper("tun_pump.py", self.device_a, str(self.b.pid), self.device_b)
        self._pump = pump
        assert pump.stdout is not None
        if pump.stdout.readline() != "ready\n":
            raise LabError(f"no tun pair {self.device_a}: is there a /dev/net/tun?")
        self._up(self.a, self.device_a, self.address_a, self.address_b)
        self._up(self.b, self.device_b, self.address_b, self.address_a)

    @staticmethod
    def _up(host: Host, device: str, address: str, peer: str) -> None:
        lines = f"addr add {address} peer {peer} dev {device}\nlink set {device} up\n"
        host.run(["ip", "-batch", "-"], input=lines)

    def hang_up(self) -> None:
        """End the pump; the kernel deletes both devices with it."""
        if self._pump is not None:
            pump, self._pump = self._pump, None
            pump.kill()
            pump.wait()
