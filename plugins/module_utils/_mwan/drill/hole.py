# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The black hole of a drill, and the dead man's switch that fills it: shell scripts, which need nothing of ours.

What arrives is dropped before connection tracking, and what is forwarded to the link as well. The router's own packets
do leave: a drop of those is told to their sender (EPERM, net/netfilter/core.c), so that nothing would be silent.
A service of systemd expands dollar signs in its command, so scripts that fill have none.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

TABLE = "ip mwan_drill"
CHAIN = UNIT = "mwan_drill"
NFT = "nft"
# before fragments are put together (-400) and connections are tracked (-200)
FIRST = -450
PATH = "PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"


@dataclass(frozen=True)
class Hole:
    """On a device that links share, `gateway`, its link-layer address and, for iptables, `realm` tell the link.

    `tool` is nft or a program of iptables; `spared` are IPv4 addresses and networks, none within another.
    """

    tool: str
    device: str
    gateway: str | None = None
    hardware: str | None = None
    realm: int | None = None
    spared: tuple[str, ...] = ()

    def dig(self) -> str:
        """A script that fails, and leaves nothing, where there is a hole already or the kernel refuses."""
        lines = self._nft() if self.tool == NFT else self._iptables()
        return "\n".join((PATH, *lines, ""))

    def _nft(self) -> Iterator[str]:
        device = f'"{self.device}"'
        sender = f" ether saddr {self.hardware}" if self.hardware else ""
        gateway = f" rt ip nexthop {self.gateway}" if self.gateway else ""
        spared = f"{{ {', '.join(self.spared)} }} accept" if self.spared else ""
        yield from (f"{NFT} -f - <<'END'", f"create table {TABLE}")
        for chain, hook, side, match in (
            ("arriving", "prerouting", "saddr", f"iifname {device}{sender}"),
            ("leaving", "forward", "daddr", f"oifname {device}{gateway}"),
        ):
            yield f"add chain {TABLE} {chain} {{ type filter hook {hook} priority {FIRST} ; }}"
            if spared:
                yield f"add rule {TABLE} {chain} ip {side} {spared}"
            yield f"add rule {TABLE} {chain} {match} drop"
        yield "END"

    def _iptables(self) -> Iterator[str]:
        """Last in FORWARD: our own chain has to stay the first one there."""
        parts = [f"-t mangle -N {CHAIN}"]
        for table, side in (("raw", "-s"), ("mangle", "-d")):
            parts += [f"-t {table} -A {CHAIN} {side} {address} -j RETURN" for address in self.spared]
            parts.append(f"-t {table} -A {CHAIN} -j DROP")
        arriving, leaving = self._ways_in()
        parts += [f"-t raw -I {arriving}", f"-t mangle -A {leaving}"]
        yield f"{self.tool} -w -t raw -N {CHAIN} || exit 1"
        made = " && ".join(f"{self.tool} -w {part}" for part in parts)
        yield f"{made} || {{ {self._filled()}; exit 1; }}"

    def _ways_in(self) -> tuple[str, str]:
        device = shlex.quote(self.device)
        sender = f" -m mac --mac-source {self.hardware}" if self.hardware else ""
        realm = f" -m realm --realm {self.realm:#x}" if self.realm is not None else ""
        return f"PREROUTING -i {device}{sender} -j {CHAIN}", f"FORWARD -o {device}{realm} -j {CHAIN}"

    def fill(self) -> str:
        """A script that takes away what is there; again it does nothing."""
        return f"{PATH}; export PATH; {self._filled()}"

    def _filled(self) -> str:
        if self.tool == NFT:
            # "add" makes the "delete" of a table that may not exist succeed
            return f"{NFT} 'add table {TABLE}; delete table {TABLE}'"
        quiet = "2> /dev/null"
        parts = []
        for table, way in zip(("raw", "mangle"), self._ways_in()):
            ours = f"{self.tool} -w -t {table}"
            parts += [f"{ours} -D {way} {quiet}", f"{ours} -F {CHAIN} {quiet}", f"{ours} -X {CHAIN} {quiet}"]
        return "; ".join((*parts, f"! {{ {self._is_there()}; }}"))

    def there(self) -> str:
        """A script that succeeds where there is a hole."""
        return f"{PATH}; {self._is_there()}"

    def _is_there(self) -> str:
        if self.tool == NFT:
            return f"{NFT} list table {TABLE} > /dev/null 2>&1"
        either = (f"{self.tool} -w -t {table} -n -L {CHAIN} > /dev/null 2>&1" for table in ("raw", "mangle"))
        return " || ".join(either)

    def arm(self, seconds: float) -> str:
        """A script that has the hole filled after so long, whoever lives then.

        It prints the number of a process where there is no systemd, and fails where another switch is armed.
        """
        fill = shlex.quote(self.fill())
        timer = f"systemd-run --quiet --collect --unit={UNIT} --on-active={seconds:.0f} --timer-property=AccuracySec=1s"
        alone = shlex.quote(f"sleep {seconds:.0f}; {self.fill()}")
        return (
            f"if [ -d /run/systemd/system ]; then {timer} /bin/sh -c {fill}; "
            f"else setsid /bin/sh -c {alone} < /dev/null > /dev/null 2>&1 & echo $!; fi"
        )


def disarm(process: str) -> str:
    """A script that fails only where the switch stays armed; `process` is what the one that armed has printed."""
    if process:
        group = f"-- -{int(process)} 2> /dev/null"
        return f"kill {group} || ! kill -s 0 {group}"
    return f"systemctl stop {UNIT}.timer || ! systemctl --quiet is-active {UNIT}.timer"
