# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Why the mark of a connection is kept (CONNMARK) and not worked out anew for each of its packets (MARK).

Both by hand, as an administrator would write them, so that nothing else differs: a list of rules by source, and a draw
between two links. Cost is told by packets of established connections; use, by whether connections work.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from ..lab.host import Host
from ..lab.topology import LAN, two_links
from ..lab.traffic import AccessLogServer, fetch_many
from .effort import KINDS, Effort, cell, measured, rounds
from .figures import Load, Table
from .forwarding import MASQUERADE, make_plain
from .rulesets import sources

SIZES = (1, 100, 1000)
LINKS = 2
MARKS = (0x100, 0x200)
FETCHES = 200
PLAIN, CONNMARK, MARK = WAYS = ("plain, one masquerade", "CONNMARK: kept", "MARK: every packet anew")

Lines = list[str]


def classified(number: int, nft: bool) -> Lines:
    """One rule after the other, as people write them; no packet of the benchmark matches."""
    listed = [(rule["source"], MARKS[place % 2]) for place, rule in enumerate(sources(number))]
    if nft:
        return [f"ip saddr {source} meta mark set {mark} return" for source, mark in listed]
    rules = []
    for source, mark in listed:
        rules += [f"-A CHOOSE -s {source} -j MARK --set-mark {mark}", f"-A CHOOSE -s {source} -j RETURN"]
    return rules


def drawn(nft: bool) -> Lines:
    """What no rule takes goes to one link or the other."""
    if nft:
        return ["meta mark set numgen random mod 2 map { 0 : 0x100, 1 : 0x200 }"]
    half = "-m statistic --mode random --probability 0.5"
    return [f"-A CHOOSE -j MARK --set-mark {MARKS[0]}", f"-A CHOOSE {half} -j MARK --set-mark {MARKS[1]}"]


def steady(nft: bool) -> Lines:
    """Always the same link, so that MARK alone does not break the connections that are measured."""
    return [f"meta mark set {MARKS[0]}"] if nft else [f"-A CHOOSE -j MARK --set-mark {MARKS[0]}"]


def nft_text(chosen: Lines, kept: bool) -> str:
    body = "\n".join(f"        {line};" for line in chosen)
    before = ["meta mark set ct mark", "meta mark != 0 return"] if kept else []
    after = ["ct mark set meta mark"] if kept else []
    hook = "\n".join(f"        {line};" for line in [*before, 'iifname "lan0" jump choose', *after])
    return f"""
table ip byhand {{
    chain choose {{
{body}
    }}
    chain prerouting {{
        type filter hook prerouting priority mangle; policy accept;
{hook}
    }}
    chain out {{ type nat hook postrouting priority srcnat; oifname "wan*" masquerade; }}
}}
"""


def iptables_text(chosen: Lines, kept: bool) -> str:
    before = ["-A PREROUTING -j CONNMARK --restore-mark", "-A PREROUTING -m mark ! --mark 0 -j RETURN"] if kept else []
    after = ["-A PREROUTING -j CONNMARK --save-mark"] if kept else []
    hook = [*before, "-A PREROUTING -i lan0 -j CHOOSE", *after]
    nat = ["*nat", "-A POSTROUTING -o wan+ -j MASQUERADE", "COMMIT"]
    return "\n".join(["*mangle", ":CHOOSE - [0:0]", *chosen, *hook, "COMMIT", *nat, ""])


def load_by_hand(router: Host, backend: str, chosen: Callable[[bool], Lines], kept: bool, number: int = 0) -> None:
    nft = backend == "nftables"
    lines = [*classified(number, nft), *chosen(nft)]
    if nft:
        router.nft(f"add table ip byhand\ndelete table ip byhand\n{nft_text(lines, kept)}")
    else:
        router.run(["iptables-legacy-restore"], input=iptables_text(lines, kept))


def routed(router: Host, gateways: dict[str, str]) -> None:
    """A table for each link, by mark. Connected networks come first: replies are marked, too."""
    router.ip("rule add pref 900 lookup main suppress_prefixlength 0")
    for number, (device, gateway) in enumerate(gateways.items()):
        router.ip(f"route add default via {gateway} dev {device} table {100 + number}")
        router.ip(f"rule add fwmark {MARKS[number]} lookup {100 + number} pref {1000 + number}")
    device, gateway = next(iter(gateways.items()))
    router.ip(f"route add default via {gateway} dev {device}")
    router.sysctl("net.ipv4.ip_forward", 1)
    router.sysctl("net.ipv4.conf.all.rp_filter", 2)
    router.sysctl("net.ipv4.conf.all.src_valid_mark", 1)


def measure(quick: bool) -> list[Table]:
    return [_costs(quick), _works()]


def _costs(quick: bool) -> Table:
    number, seconds = (1, 0.1) if quick else (5, 0.15)
    sizes = SIZES[::2] if quick else SIZES
    with ExitStack() as stack, Load() as load:
        found: dict[tuple[str, str, int], Effort] = {}
        for backend in MASQUERADE:
            found[backend, PLAIN, 0] = stack.enter_context(measured(f"plain-{backend}", 1))
            make_plain(found[backend, PLAIN, 0].side.router, backend)
            for way, kept in ((CONNMARK, True), (MARK, False)):
                for size in sizes:
                    found[backend, way, size] = stack.enter_context(measured(f"hand-{size}", LINKS))
                    router = found[backend, way, size].side.router
                    routed(router, {f"wan{link}": f"20.0.{link}.1" for link in range(1, LINKS + 1)})
                    load_by_hand(router, backend, steady, kept, size)
        rounds(list(found.values()), number, seconds)
    rows = [
        [backend, way, str(size), *(cell(effort.spent, found[backend, PLAIN, 0].spent, kind) for kind in KINDS)]
        for (backend, way, size), effort in found.items()
    ]
    notes = [
        f"Rules by source network, one after the other, none of which matches; in brackets the work done in a second of"
        f" processor relative to plain routing; medians of {number} rounds; {load.told()}.",
        "With MARK, what is asked is only what comes from the LAN, so packets down are spared.",
    ]
    return Table(
        "CONNMARK and MARK: cost", ("firewall", "way", "rules", *(f"{kind}, us" for kind in KINDS)), rows, notes
    )


def _works() -> Table:
    """Each packet drawn anew leaves by either link, with the address that the first one was given."""
    rows = []
    for backend in MASQUERADE:
        for way, kept in ((CONNMARK, True), (MARK, False)):
            with two_links() as net, AccessLogServer(net.server):
                routed(net.router, {uplink.device: str(uplink.gateway) for uplink in net.uplinks.values()})
                load_by_hand(net.router, backend, drawn, kept)
                fetched = fetch_many(net.client, FETCHES, timeout=2.0)
                quick = [seconds for seconds in fetched.durations if seconds < 1]
                rows.append([backend, way, f"{fetched.answered} of {FETCHES}", str(len(quick)), str(net.spoofed())])
    notes = [
        f"{FETCHES} requests over HTTP from {LAN}, each a connection of its own, over two providers that drop what does"
        " not come from the address they have given; new packets are drawn between the links, one to one.",
        "Answered: within 2 s. A packet that leaves by the other link has the wrong address and is sent again, until it"
        " is drawn right.",
    ]
    columns = ("firewall", "way", "answered", "within 1 s", "packets dropped by providers")
    return Table("CONNMARK and MARK: do connections work?", columns, rows, notes)
