# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Proof that a run left the machine's own network configuration alone."""

from __future__ import annotations

import difflib
import re
import shutil
import subprocess
from glob import glob
from pathlib import Path

COMMANDS = {
    "rules": "ip rule show",
    "rules6": "ip -6 rule show",
    "routes": "ip route show table all",
    "routes6": "ip -6 route show table all",
    "addresses": "ip -br addr show",
    "links": "ip -br link show",
    "nft": "nft --stateless list ruleset",
    "iptables": "iptables-legacy-save",
    "ip6tables": "ip6tables-legacy-save",
}
OURS = (
    "/etc/mwan*",
    "/etc/iproute2/*/*mwan*",
    "/etc/sysctl.d/*mwan*",
    "/etc/systemd/system/*mwan*",
    "/run/mwan*",
    "/usr/local/lib/mwan*",
    "/var/lib/mwan*",
    "/usr/local/*bin/mwan*",
    "/usr/local/share/*/*/mwan*",
)
SYSCTLS = Path("/proc/sys/net/ipv4")
# Counters, lifetimes and times of listing change by themselves.
VOLATILE = re.compile(
    r"\[\d+:\d+\]| expires \d+sec| (?:used|users|age) \d+(?:sec)?|^# (?:Generated|Completed).*$", re.M
)


def machine_state() -> dict[str, str]:
    """Everything a careless test could change, as text."""
    state = {name: _listing(command) for name, command in COMMANDS.items() if shutil.which(command.split()[0])}
    state["files"] = "\n".join(sorted(path for pattern in OURS for path in glob(pattern)))
    state["sysctls"] = _sysctls()
    return state


def _listing(command: str) -> str:
    done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    return VOLATILE.sub("", done.stdout)


def _sysctls() -> str:
    return "\n".join(f"{path} = {_value(path)}" for path in sorted(SYSCTLS.rglob("*")) if path.is_file())


def _value(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:  # write-only, such as route/flush
        return ""


def differences(before: dict[str, str], after: dict[str, str]) -> str:
    """A readable diff; empty when nothing changed."""
    parts = []
    for name in before:
        lines = difflib.unified_diff(
            before[name].splitlines(), after[name].splitlines(), f"{name} before", f"{name} after", lineterm="", n=0
        )
        parts += list(lines)
    return "\n".join(parts)
