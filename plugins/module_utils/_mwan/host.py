# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put the real adapters together."""

from __future__ import annotations

import os

from . import local, netlink
from .firewall.iptables import Iptables, legacy_in_use
from .firewall.nftables import Nftables, Runner
from .ports import Router


def open_router(run: Runner) -> Router:
    """The router of this network namespace. `run` starts a program and returns its status, output and error output.

    For another user than root, files in /etc are somebody else's to keep: what leads traffic must not wait for them.
    """
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
