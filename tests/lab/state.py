# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What a router's kernel and files hold, as text to compare; and ways to lose it."""

from __future__ import annotations

import re

from .host import Host

FILES = "/etc/mwan /etc/iproute2/rt_tables.d /etc/iproute2/rt_protos.d /etc/sysctl.d/90-mwan.conf"
SYSCTLS = (
    "conf/*/rp_filter conf/*/src_valid_mark conf/*/ignore_routes_with_linkdown "
    "fib_multipath_hash_policy fib_multipath_use_neigh fwmark_reflect ip_forward"
)
LISTINGS = {
    "rules": "ip rule show | sort -n",  # ours of one priority stand in any order
    "routes": "ip -o -d route show table all",
    "nftables": "nft --stateless list ruleset",
    # only tables that are loaded: listing one would load it
    "iptables": "for t in $(sort /proc/net/ip_tables_names 2>/dev/null); do iptables-legacy-save -t $t; done",
    "files": f'find {FILES} -type f 2>/dev/null | sort | while read f; do echo "== $f"; cat $f; done',
    "sysctls": f"cd /proc/sys/net/ipv4; for f in {SYSCTLS}; do echo $f = $(cat $f); done",
}
VOLATILE = re.compile(r"\[\d+:\d+\]|^# (?:Generated|Completed).*$", re.MULTILINE)
# each load has another number, and chains that are not hooked bear it
NUMBERED = re.compile(r"\b(chain|goto|jump) ([\w-]+)\.\d+")


def snapshot(host: Host) -> dict[str, str]:
    """Everything a router's management can touch, without counters and numbers of loads."""
    mark = "-- listing --"
    script = f"echo '{mark}';".join(f"{command};" for command in LISTINGS.values())
    parts = host.run(f"exec 2>&1; {script}").stdout.split(mark + "\n")
    return {name: unnumbered(VOLATILE.sub("", text)) for name, text in zip(LISTINGS, parts, strict=True)}


def unnumbered(listing: str) -> str:
    """What nft lists, without the numbers of loads, and without the order that they have left in our table."""
    before, name, rest = NUMBERED.sub(r"\1 \2", listing).partition("table inet mwan {\n")
    ours, end, after = rest.partition("\n}\n")
    return "".join([before, name, "\n\n".join(sorted(ours.split("\n\n"))), end, after])


def with_chains(host: Host, command: str) -> str:
    """The command with <name> replaced by what that chain of our nftables table is named now."""
    listing = host.run("nft list table inet mwan", check=False).stdout
    found = re.findall(r"^\tchain ([\w-]+\.\d+) ", listing, re.MULTILINE)
    names = {live.rpartition(".")[0]: live for live in found}
    return re.sub("<([a-z_]+)>", lambda word: names[word[1]], command)


def forget_everything(host: Host) -> None:
    """What a reboot leaves: files in /etc, and nothing of ours in the kernel or under /run."""
    host.run(
        """
        ip route flush table all proto 77
        ip rule show | grep -E 'proto (77|mwan)' | cut -d: -f1 | while read p; do ip rule del pref $p; done
        nft delete table inet mwan 2>/dev/null
        for t in mangle nat; do
          grep -qx $t /proc/net/ip_tables_names 2>/dev/null || continue
          iptables-legacy -t $t -F; iptables-legacy -t $t -X
        done
        rm -rf /run/mwan
        cd /proc/sys/net/ipv4
        for f in fib_multipath_hash_policy fib_multipath_use_neigh fwmark_reflect ip_forward; do echo 0 > $f; done
        for f in rp_filter src_valid_mark ignore_routes_with_linkdown; do
          for d in conf/*; do echo 0 > $d/$f; done
        done
        conntrack -F 2>/dev/null || true
        """
    )
