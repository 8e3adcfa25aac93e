# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Parts of the running kernel's table of connections are forgotten, by its filter and one by one."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator

import pytest
from _mwan.kernel import OTHERS, UNANSWERED, Marked
from lab.engine import LIBRARY
from lab.host import Host
from lab.lab import Lab

MASK = 0x3F00
FIRST, SECOND = "5.5.5.5", "5.5.5.6"
OURS, UDP = f"--src-nat {FIRST}", "-p udp --dport 53"
# by the port, or what else tells it: the rest of the entry, and its mark, which has to come last
ENTRIES = {
    "1": (f"{OURS} -p tcp --dport 80 --state ESTABLISHED -u SEEN_REPLY", 0x100),
    "2": (f"{OURS} -p tcp --dport 80 --state SYN_SENT", 0x100),
    "3": (f"{OURS} {UDP} -u SEEN_REPLY", 0x100),
    "4": (f"--src-nat {SECOND} {UDP}", 0x100),
    "5": (f"{OURS} -p sctp --dport 80 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2", 0x100),
    "6": (f"{OURS} -p udplite --dport 80", 0x100),
    "icmp": ("-p icmp --icmp-type 8 --icmp-code 0 --icmp-id 1", 0x100),
    "gre": ("-p gre --srckey 7 --dstkey 7", 0x100),
    "7": (f"{OURS} {UDP}", 0x80100),  # with a bit of somebody else
    "8": (f"{OURS} {UDP}", 0x200),
    "9": (f"{OURS} {UDP}", 0x10000),
}
PINNED = {name for name, (_words, mark) in ENTRIES.items() if mark & MASK == 0x100}
FORGOTTEN = {
    Marked(0x100, MASK): PINNED,
    Marked(0x100, MASK, OTHERS): PINNED - {"1", "2"},
    Marked(0x100, MASK, OTHERS, spared=("7.7.7.7",)): set(),
    Marked(0x100, MASK, OTHERS, spared=("7.7.7.8",)): PINNED - {"1", "2"},
    Marked(0x100, MASK, UNANSWERED): {"2"},
    Marked(0x100, MASK, address=FIRST): PINNED - {"4", "icmp", "gre"},
}
FORGET = """
import json, sys
sys.path.insert(0, sys.argv[1])
from _mwan.conntrack import Conntrack
from _mwan.kernel import Marked
job = json.loads(sys.argv[3])
getattr(Conntrack(), sys.argv[2])(Marked(**job))
"""


@pytest.fixture
def host() -> Iterator[Host]:
    with Lab("conntrack") as lab:
        yield lab.host("router")


def fill(host: Host) -> None:
    for name, (words, mark) in ENTRIES.items():
        port = f"--sport {name}" if name.isdecimal() else ""
        host.run(f"conntrack -I -s 10.0.0.1 -d 7.7.7.7 --timeout 60 {words} {port} --mark {mark}")
    host.run("conntrack -I -s fd00::1 -d fd00::2 -p udp --sport 10 --dport 53 --timeout 60 --mark 256")


def listed(host: Host) -> set[str]:
    return {name_of(line) for line in host.run("conntrack -L -f ipv4 2>/dev/null").stdout.splitlines()}


def name_of(line: str) -> str:
    port = re.search(r"sport=(\d+)", line)
    return port[1] if port else line.split()[0]


@pytest.mark.parametrize("way", ["forget", "forget_one_by_one"])
def test_only_what_is_selected_is_forgotten(host: Host, way: str) -> None:
    for which, forgotten in FORGOTTEN.items():
        host.run("conntrack -F")
        fill(host)
        assert listed(host) == set(ENTRIES)
        host.run([sys.executable, "-I", "-c", FORGET, str(LIBRARY), way, json.dumps(vars(which))])
        assert listed(host) == set(ENTRIES) - forgotten, which.words()
        assert "fd00::1" in host.run("conntrack -L -f ipv6 2>/dev/null").stdout


def test_more_than_one_piece_of_them_is_forgotten(host: Host) -> None:
    entry = "-I -s 10.0.0.1 -d 7.7.7.7 -p udp --sport $p --dport 53 -t 60 -m 256"
    host.run(f"for p in $(seq 1 450); do echo {entry}; done | conntrack -R -")
    assert host.run("conntrack -C").stdout.strip() == "450"
    job = json.dumps(vars(Marked(0x100, MASK, OTHERS)))
    host.run([sys.executable, "-I", "-c", FORGET, str(LIBRARY), "forget_one_by_one", job])
    assert host.run("conntrack -C").stdout.strip() == "0"
