# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The nftables backend: one table of ours, whose rules are switched in one transaction. The only file that runs nft."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping

from ..errors import KernelError
from .model import Firewall
from .nftables_live import at_once, transactions
from .nftables_table import contents, render
from .nftables_text import COUNTER, TABLE, Means

__all__ = ["TABLE", "Nftables", "Runner", "render"]

SBIN = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
# is there where the kernel was built with IPsec (net/xfrm/xfrm_sysctl.c); without it, matching it is refused
XFRM = "/proc/sys/net/core/xfrm_acq_expires"
# systemd's hybrid layout: control groups of version 2 beside those of version 1 (cgroups(7))
UNIFIED = "unified/"
HYBRID = f"/sys/fs/cgroup/{UNIFIED}cgroup.controllers"
COUNTED = re.compile(rf'counter "?{COUNTER}(\w+)"? {{\s+packets (\d+) bytes (\d+)')
SIZE = re.compile(r"[ \t]*# count \d+$", re.MULTILINE)
NO_QUEUE = (
    "this kernel's nftables may have no queues; declare least_connections: {method: weights} for the policy, or "
    "firewall_backend: iptables"
)

Runner = Callable[[list[str], str], "tuple[int, str, str]"]


class Nftables:
    """`run(command, stdin)` returns exit status, output and error output; the caller brings it, because
    Ansible modules run programs by `AnsibleModule.run_command` and the prober by other means."""

    name = "nftables"

    def __init__(self, run: Runner) -> None:
        self._run = run
        self._nft = shutil.which("nft", path=SBIN)
        self._means = Means(ipsec=os.path.exists(XFRM), cgroups=UNIFIED if os.path.exists(HYBRID) else "")

    def unavailable(self) -> str | None:
        if not self._nft:
            return "the nft command is missing (package nftables)"
        status, _out, err = self._run([self._nft, "list", "tables"], "")
        return None if status == 0 else f"nft cannot list tables: {err.strip()}"

    def render(self, firewall: Firewall) -> str:
        return render(firewall, self._means)

    def listing(self) -> str:
        """Without the content of named sets: clients come and go there, and what others fill in is theirs; nor its
        size, which releases after 1.1.3 tell by a comment."""
        return SIZE.sub("", self._list("--stateless", "--terse", "list", "table"))

    def counters(self) -> Mapping[str, tuple[int, int]]:
        found = COUNTED.findall(self._list("list", "counters", "table"))
        return {name: (int(packets), int(octets)) for name, packets, octets in found}

    def _list(self, *words: str) -> str:
        if not self._nft:
            return ""
        # hours are listed in local time, which is not the same for everybody who runs this
        command = ["env", "TZ=UTC", self._nft, *words, *TABLE.split()]
        status, out, err = self._run(command, "")
        if status == 0:
            return out
        if "No such file or directory" in err:
            return ""
        raise KernelError("nft list table", TABLE, err.strip())

    def replace(self, firewall: Firewall) -> None:
        wanted = contents(firewall, self._means)
        try:
            for text in transactions(wanted, self.listing()):
                self._load(text)
        except KernelError:
            # by something in the way, or by what the kernel refuses in any case, and then says so once more
            self._load(at_once(wanted, self.listing()))

    def install(self, firewall: Firewall) -> None:
        """Load it where there is nothing of ours."""
        self._load(at_once(contents(firewall, self._means), ""))

    def remove(self) -> None:
        if self._nft:
            # "add" makes the "delete" of a table that may not exist succeed
            self._load(f"add table {TABLE}\ndelete table {TABLE}\n")

    def _load(self, text: str) -> None:
        if not self._nft:
            raise KernelError("nft -f", f"table {TABLE}", str(self.unavailable()))
        status, _out, err = self._run([self._nft, "-f", "-"], text)
        if status:
            queued = "queue num" in err
            raise KernelError("nft -f", f"table {TABLE}", f"{err.strip()}\n{NO_QUEUE}" if queued else err.strip())
