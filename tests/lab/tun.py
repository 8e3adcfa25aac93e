# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Lines made of two tun devices and a process that carries packets from one to the other, at once or later."""

from __future__ import annotations

from .host import Host, LabError


class Pump:
    """A line between two new tun devices; both are deleted with it. New ones are down and have no address."""

    def __init__(self, a: Host, device_a: str, b: Host, device_b: str) -> None:
        self._process = a.helper("tun_pump.py", device_a, str(b.pid), device_b)
        self._expect("ready", f"no tun pair {device_a}: is there a /dev/net/tun?")

    def _expect(self, word: str, problem: str) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline() != f"{word}\n":
            raise LabError(problem)

    def delay(self, from_a: float, from_b: float) -> None:
        """Seconds that packets take from now on; what is under way already is not overtaken."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{from_a} {from_b}\n")
        self._process.stdin.flush()
        self._expect("done", "the line has ended")

    def stop(self) -> None:
        """The kernel deletes both devices; what is under way is lost."""
        self._process.kill()
        self._process.wait()


class TunPair:
    """A line between two hosts. hang_up() deletes both devices, as a PPP daemon does; dial() makes them anew."""

    def __init__(self, a: Host, device_a: str, address_a: str, b: Host, device_b: str, address_b: str) -> None:
        self.a, self.device_a, self.address_a = a, device_a, address_a
        self.b, self.device_b, self.address_b = b, device_b, address_b
        self._pump: Pump | None = None

    def dial(self) -> None:
        """Create both devices, with their addresses, up."""
        self._pump = Pump(self.a, self.device_a, self.b, self.device_b)
        self.address_far()
        self.address_near()

    def address_far(self) -> None:
        """Give `b` the addresses of the pair, and no others, if there is a line now."""
        self._address(self.b, self.device_b, self.address_b, self.address_a)

    def address_near(self) -> None:
        """The same for `a`."""
        self._address(self.a, self.device_a, self.address_a, self.address_b)

    def _address(self, host: Host, device: str, address: str, peer: str) -> None:
        if self._pump is None:
            return
        lines = f"addr flush dev {device}\naddr add {address} peer {peer} dev {device}\nlink set {device} up\n"
        host.run(["ip", "-batch", "-"], input=lines)

    def hang_up(self) -> None:
        """End the pump; the kernel deletes both devices with it."""
        if self._pump is not None:
            pump, self._pump = self._pump, None
            pump.stop()
