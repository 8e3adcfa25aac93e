# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run of the role costs, against the same configuration with a task for each object, as it is done today.

Both run on a router of their own, over Ansible's usual connection without pipelining, in the same round.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from ..lab.ansible import PlaybookResult, run_playbook
from ..lab.topology import Topology, Uplink, many_links
from .figures import Table

ROLE = "playbooks/site.yml"
MASK = "0x3f00"
# what -vvv tells of each command that is sent, and each file
SENT = re.compile(r"^<\S+> (?:EXEC|PUT) ", re.MULTILINE)
LOCAL = ("validate_argument_spec", "assert", "debug")
SYSCTLS = {"net.ipv4.ip_forward": 1, "net.ipv4.fib_multipath_hash_policy": 1, "net.ipv4.conf.all.rp_filter": 2}


def measure(quick: bool) -> list[Table]:
    rows = [row for links in ((2,) if quick else (2, 8)) for row in _rounds(links, 1 if quick else 3)]
    return [
        Table(
            "A run of a playbook, the first and one that changes nothing",
            ("links", "way", "run", "tasks on the router", "commands and files sent", "seconds"),
            rows,
            ["Neither installs packages or a service; seconds are the median, with the start of ansible-playbook"],
        )
    ]


def _rounds(links: int, rounds: int) -> Iterator[list[str]]:
    """Every way and run, each a row."""
    found: dict[tuple[str, str], list[tuple[int, int, float]]] = {}
    for _unused in range(rounds):
        for way in ("task for each object", "role"):
            with many_links(links) as net:
                playbook = ROLE if way == "role" else _written(net)
                for run in ("first", "no change"):
                    found.setdefault((way, run), []).append(_timed(net, playbook))
    for (way, run), samples in found.items():
        tasks, sent, seconds = (median(values) for values in zip(*samples, strict=True))
        yield [str(links), way, run, f"{tasks:.0f}", f"{sent:.0f}", f"{seconds:.1f}"]


def _timed(net: Topology, playbook: str | Path) -> tuple[int, int, float]:
    begun = time.monotonic()
    result = run_playbook(net, playbook, args=["-vvv"])
    return _asked(result), len(SENT.findall(result.stdout)), time.monotonic() - begun


def _asked(result: PlaybookResult) -> int:
    """Tasks, and each pass of a loop, that ran on the router."""
    ran = [task for task in result.tasks if task.outcome != "skipped" and task.action.rpartition(".")[2] not in LOCAL]
    return sum(len(task.result.get("results", [None])) for task in ran)


def _written(net: Topology) -> Path:
    """The playbook of tasks, as JSON, which is YAML."""
    play = {"hosts": "mwan_routers", "gather_facts": False, "tasks": list(_tasks(net))}
    path = net.lab.directory / "tasks.json"
    path.write_text(json.dumps([play]), encoding="utf-8")
    return path


def _tasks(net: Topology) -> Iterator[Any]:
    yield from (_command(f"sysctl -w {key}={value}") for key, value in SYSCTLS.items())
    for chain in ("PREROUTING", "OUTPUT"):
        yield _iptables("mangle", chain, restore=True)
    for number, link in enumerate(net.uplinks.values(), 1):
        yield from _of_link(number, link)
    hops = " ".join(f"nexthop via {link.gateway} dev {link.device} weight 1" for link in net.uplinks.values())
    yield _command(f"ip route replace default table 1999 {hops}")
    yield _rule("pref 1999 lookup 1999", "^1999:")


def _of_link(number: int, link: Uplink) -> Iterator[Any]:
    table, mark = 1000 + number, f"0x{number << 8:x}/{MASK}"
    yield _command(f"ip route replace default via {link.gateway} dev {link.device} src {link.address} table {table}")
    yield _rule(f"pref 1001 fwmark {mark} lookup {table}", f"fwmark {mark}")
    yield _rule(f"pref 1100 from {link.address} lookup {table}", f"from {link.address} ")
    yield _iptables("mangle", "PREROUTING", in_interface=link.device, mark=mark)
    yield _iptables("mangle", "POSTROUTING", out_interface=link.device, mark=mark)
    yield _iptables("nat", "POSTROUTING", out_interface=link.device, to=link.address)


def _command(text: str) -> Any:
    return {"ansible.builtin.command": text, "changed_when": False}


def _rule(text: str, known: str) -> Any:
    return {"ansible.builtin.shell": f"ip rule | grep -q '{known}' || ip rule add {text}", "changed_when": False}


def _iptables(table: str, chain: str, restore: bool = False, mark: str = "", to: str = "", **devices: str) -> Any:
    """Ansible's module has no option for the parameters of CONNMARK, so the program is run after a check."""
    words = [f"--{key.replace('_', '-')} {value}" for key, value in devices.items()]
    words += [f"-m conntrack --ctstate NEW -j CONNMARK --set-xmark {mark}"] if mark else []
    words += [f"-j SNAT --to-source {to}"] if to else []
    words += [f"-j CONNMARK --restore-mark --mask {MASK}"] if restore else []
    rule = f"{chain} {' '.join(words)}"
    text = f"iptables -t {table} -C {rule} 2>/dev/null || iptables -t {table} -A {rule}"
    return {"ansible.builtin.shell": text, "changed_when": False}
