# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put the real adapters together."""

from __future__ import annotations

import os
import sys

from . import local, messages, netlink
from .errors import KernelError
from .firewall.iptables import Iptables, legacy_in_use
from .firewall.nftables import Nftables, Runner
from .ports import Router

# another release of Python looks for packages elsewhere, so a virtual environment has lost what was in it
REMEDY = "After an upgrade of the distribution, run the role again: it makes the virtual environment anew"


def open_router(run: Runner) -> Router:
    """The router of this network namespace. `run` starts a program and returns its status, output and error output.

    For another user than root, files in /etc are somebody else's to keep: what leads traffic must not wait for them.
    Raises KernelError where there is no pyroute2 to speak to the kernel with.
    """
    if messages.PYROUTE2_IMPORT_ERROR:
        why = messages.PYROUTE2_IMPORT_ERROR.strip().rpartition("\n")[2]
        raise KernelError("import", "pyroute2", f"{why} ({sys.executable}, Python {sys.version.split()[0]}). {REMEDY}")
    return Router(
        routing=netlink.Netlink(),
        sysctl=local.Sysctl(),
        files=local.Files(),
        firewalls={"nftables": Nftables(run), "iptables": Iptables()},
        legacy_firewall=legacy_in_use(),
        lock=local.exclusive,
        boot_files=os.geteuid() == 0,
        prober_runs=local.prober_runs,
        look_up=local.look_up,
    )
