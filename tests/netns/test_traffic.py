# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Octets and connections of links, as the real kernel counts them."""

from __future__ import annotations

import json
import sys
from typing import Any

from lab.engine import LIBRARY, Engine
from lab.host import Host
from lab.probes import bindings
from lab.topology import Topology
from lab.traffic import AccessLogServer, fetch_many

MASK = 0x3F00
ASK = f"""
import json, sys
sys.path.insert(0, {str(LIBRARY)!r})
from _mwan.local import Files
from _mwan.traffic import Connections, links_traffic
print(json.dumps(links_traffic(Files(), Connections(), json.loads(sys.argv[1]), {MASK})))
"""
UNMARKED = "conntrack -I -p udp -s 192.0.2.{} -d 192.0.2.99 --sport 1 --dport 1 -t 60 -m {}"
SEND = """
import socket, sys
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(int(sys.argv[2])):
    sender.sendto(b"x", (sys.argv[1], 10000 + number))
"""
LIST = "conntrack -L --mark 0x{:x}/0x{:x} 2>/dev/null | wc -l"


def ask(router: Host, links: dict[str, dict[str, Any]]) -> dict[str, Any]:
    wanted = json.dumps({name: (link["device"], link["mark"]) for name, link in links.items()})
    answer: dict[str, Any] = json.loads(router.run([sys.executable, "-I", "-c", ASK, wanted]).stdout)
    return answer


def test_octets_and_connections_of_each_link(two_links: Topology) -> None:
    router = two_links.router
    with Engine(two_links) as engine, AccessLogServer(two_links.server) as server:
        links = bindings(two_links, engine)
        # of another's bits in the mark, and of others altogether
        foreign = links["isp_b"]["mark"] | 0x10001
        router.run(f"{UNMARKED.format(1, foreign)} && {UNMARKED.format(2, 0x10000)}")
        before = ask(router, links)
        fetch_many(two_links.client, 60, "7.7.7.7")
        after = ask(router, links)
        sources = server.sources()
    assert before["connections"] == {"isp_a": 0, "isp_b": 1}
    assert after["connections"] == {"isp_a": sources["5.5.5.5"], "isp_b": sources["6.6.6.6"] + 1}
    for link in links.values():
        for way in ("received", "sent"):
            assert after["devices"][link["device"]][way] - before["devices"][link["device"]][way] > 1000
    assert after["took"] < 1


def test_a_long_table_is_counted_whole(two_links: Topology) -> None:
    """The kernel lists it in pieces of a hundred or so."""
    router = two_links.router
    with Engine(two_links) as engine:
        links = bindings(two_links, engine)
        two_links.client.run([sys.executable, "-I", "-c", SEND, "7.7.7.7", "1000"])
        told = ask(router, links)["connections"]
        listed = {name: router.run(LIST.format(link["mark"], MASK)).stdout for name, link in links.items()}
    assert told == {name: int(lines) for name, lines in listed.items()}
    assert sum(told.values()) == 1000


def test_a_process_that_may_not_is_told_why(two_links: Topology) -> None:
    command = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", sys.executable, "-I", "-c", ASK, "{}"]
    told = json.loads(two_links.router.run(command).stdout)
    assert told["error"] == "conntrack -L all connections: Operation not permitted (errno EPERM)"
