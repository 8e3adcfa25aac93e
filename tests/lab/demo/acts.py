# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The acts of the demo. Each shows what happened and states what was expected of it; summary() repeats that."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf

import yaml

from ..ansible import CHECKOUT, GROUP, LAB_VARIABLES, PlaybookResult, run_playbook
from ..host import Host
from ..state import snapshot
from ..topology import SERVER, Topology
from ..traffic import ECHO_PORT, AccessLogServer, EchoServer, Fetched, FlowStats, LongLivedTcp, fetch_many
from .plan import sections, show_plan
from .scenes import POLICY_ROUTES, Scene, wait
from .shares import binomial_bounds
from .show import Screen

LOG_LINES = 6
CONCURRENCY = 100
TIMEOUT = 2.0
FLOWS = 27  # three of each client: that none of them takes the lighter link is one case in two thousand
INTERVAL = 0.05
LONGEST_SILENCE = 2.0  # seconds, on a machine that is busy with Ansible meanwhile
TOLD = ("ok", "changed", "failed")
MOST_UNACKNOWLEDGED = 50  # bytes; an undisturbed flow has a few


@dataclass(frozen=True)
class Check:
    act: int
    passed: bool
    text: str


class Acts:
    """One performance on one built network."""

    def __init__(self, net: Topology, scene: Scene, screen: Screen, connections: int) -> None:
        self.net = net
        self.scene = scene
        self.screen = screen
        self.connections = connections
        self.checks: list[Check] = []
        self.planned = 0

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def play(self) -> None:
        self.scene.prepare(self.net)
        self.network()
        self.plan()
        self.first_run()
        with AccessLogServer(self.net.server) as server, EchoServer(self.net.server):
            self.spread(server)
            self.second_run()
            with self.long_lived() as flows:
                self.outage()
                self.back()
                self.long_lived_end(flows)

    def check(self, passed: bool, text: str) -> None:
        """Record and show one expectation."""
        self.checks.append(Check(self.screen.number, passed, text))
        self.screen.verdict(passed, text)

    # What is declared, the plan, the run

    def network(self) -> None:
        self.screen.act(
            "The network, and what is declared",
            "The router has its addresses, and nothing else yet: no default route, no forwarding, no firewall.",
        )
        self.screen.drawing(self.scene.drawing)
        self.screen.line()
        self.screen.text(
            f"The inventory has one group, {GROUP}, with one host, router; its connection is local, and its "
            "ansible_python_interpreter runs in the router's namespaces."
        )
        self.screen.line()
        self.screen.line("  playbooks/site.yml", "bold")
        playbook = (CHECKOUT / "playbooks" / "site.yml").read_text(encoding="utf-8")
        self.screen.verbatim(line for line in playbook.splitlines() if line and not line.startswith("#"))
        self.screen.line()
        self.screen.line(f"  group_vars/{GROUP}.yml", "bold")
        variables = {**self.net.variables, **LAB_VARIABLES}
        text = yaml.safe_dump(variables, sort_keys=False, width=self.screen.width, default_flow_style=None)
        self.screen.verbatim(text.splitlines())

    def plan(self) -> None:
        self.screen.act(
            "The plan: --check --diff on the fresh router",
            "What Ansible printed, with + for what would be added. What is folded says so.",
        )
        before = snapshot(self.net.router)
        result = self.playbook(check=True, diff=True)
        self.planned = result.changed
        show_plan(self.screen, sections(result.stdout))
        self.check(result.changed > 0, f"there is something to do: changed={result.changed}")
        after = snapshot(self.net.router)
        touched = [name for name in before if before[name] != after[name]]
        said = f"changed nonetheless: {', '.join(touched)}" if touched else "as before"
        self.check(not touched, f"nothing was done: {', '.join(before)} of the router are {said}")

    def first_run(self) -> None:
        self.screen.act("The real run", "The same without --check.")
        result = self.playbook()
        self.screen.text("What the router's kernel has now:")
        self.on_router("ip rule")
        self.on_router(POLICY_ROUTES)
        self.check(
            result.changed == self.planned, f"it did what was planned: changed={result.changed} of {self.planned}"
        )

    def second_run(self) -> None:
        self.screen.act("A second run", "Nothing is left to do.")
        self.check_unchanged("the second run")

    def check_unchanged(self, which: str) -> None:
        result = self.playbook(diff=True)
        for task in result.tasks:
            if task.changed:
                self.screen.text(f"changed: {task.name}", "yellow")
        if result.changed:
            show_plan(self.screen, sections(result.stdout))
        self.check(result.changed == 0, f"{which} changes nothing: changed={result.changed}")

    def playbook(self, *, check: bool = False, diff: bool = False) -> PlaybookResult:
        """Run site.yml and show the command, the recap and the seconds; a failed run is a LabError."""
        options = " --check" * check + " --diff" * diff
        self.screen.command(f"ansible-playbook -i inventory.json playbooks/site.yml{options}")
        started = time.monotonic()
        result = run_playbook(self.net, check=check, diff=diff)
        seconds = time.monotonic() - started
        counts = "  ".join(f"{name}={number}" for name, number in result.recap.items() if number or name in TOLD)
        self.screen.line(f"  {self.net.router.name}: {counts}   ({seconds:.1f} s)")
        self.screen.line()
        return result

    def on_router(self, command: str) -> None:
        """A command and what it prints."""
        self.screen.command(command)
        self.screen.verbatim(self.net.router.run(command).stdout.expandtabs().splitlines())
        self.screen.line()

    # Connections and their shares

    def spread(self, server: AccessLogServer) -> None:
        self.screen.act(
            f"{self.connections} connections of nine clients to {SERVER}",
            "The source addresses in the server's own access log, and each link's share against its weight.",
        )
        fetched = self.fetch()
        self.show_log(server.log_lines())
        self.check_spread(fetched)

    def fetch(self) -> Fetched:
        clients = self.net.client_addresses
        return fetch_many(self.net.client, self.connections, sources=clients, concurrency=CONCURRENCY, timeout=TIMEOUT)

    def show_log(self, lines: list[str]) -> None:
        """The first lines, and the first one of each source that is not among them."""
        sources = [line.split(" ", 1)[0] for line in lines]
        shown = {*range(min(LOG_LINES, len(lines))), *(sources.index(source) for source in set(sources))}
        for number in sorted(shown):
            self.screen.clipped(f"  {number + 1:5}  {lines[number]}")
        self.screen.line(f"  ... {len(lines)} lines", "dim")
        self.screen.line()

    def show_shares(self, fetched: Fetched, expected: dict[str, float]) -> None:
        """One row and bar per link, and the failures."""
        header = ("link", "source", "weight", "expected", "observed", "count")
        rows, bars = [], []
        for name, uplink in self.net.uplinks.items():
            hits = fetched.sources[uplink.source]
            share = hits / max(fetched.answered, 1)
            rows.append((name, uplink.source, str(uplink.weight), f"{expected[name]:.1%}", f"{share:.1%}", str(hits)))
            bars.append((share, expected[name]))
        self.screen.table(header, rows, bars)
        self.screen.text(f"{fetched.answered} answered, {failures(fetched)}")
        self.screen.line()

    def check_spread(self, fetched: Fetched) -> None:
        """No failures, and shares by weight."""
        total = sum(uplink.weight for uplink in self.net.uplinks.values())
        expected = {name: uplink.weight / total for name, uplink in self.net.uplinks.items()}
        self.show_shares(fetched, expected)
        self.check_failures(fetched)
        name, uplink = next(iter(self.net.uplinks.items()))
        least, most = binomial_bounds(fetched.answered, expected[name])
        hits = fetched.sources[uplink.source]
        self.check(
            least <= hits <= most and set(fetched.sources) <= set(self.net.sources.values()),
            f"shares follow the weights: {hits} over {name}; chance allows {least} to {most}",
        )

    def check_failures(self, fetched: Fetched) -> None:
        self.check(not fetched.failures, f"{len(fetched.failures)} of {self.connections} connections failed")

    # An outage, and connections that live through it

    @contextmanager
    def long_lived(self) -> Iterator[LongLivedTcp]:
        self.screen.act(
            f"{FLOWS} long-lived connections, kept from here on",
            f"Each says something every {INTERVAL * 1000:.0f} ms. The address the server sees must stay the same.",
        )
        clients = self.net.client_addresses
        with LongLivedTcp(self.net.client, number=FLOWS, interval=INTERVAL, sources=clients, grace=1.0) as flows:
            counted = Counter(peer for _unused, peer in established(self.net.server, f"sport = :{ECHO_PORT}"))
            rows = [(name, source, str(counted[source])) for name, source in self.net.sources.items()]
            self.screen.table(("link", "source", "connections"), rows)
            self.screen.line()
            self.check(counted.total() == FLOWS, f"{counted.total()} of {FLOWS} are established")
            yield flows

    def outage(self) -> None:
        scene = self.scene
        self.screen.act(scene.outage, scene.meaning)
        with scene.fail(self.net, scene.failing):
            if not scene.notices_at_once:
                self.before_noticed()
            fetched = self.fetch()
            self.screen.text(f"{self.connections} connections now:")
            self.show_remaining(fetched)
            self.on_router(scene.evidence)
            self.check_failures(fetched)
            gone = self.net.uplinks[scene.failing].source
            self.check(fetched.sources[gone] == 0, f"{fetched.sources[gone]} of them went over {scene.failing}")
            self.screen.line()
            self.check_unchanged("a run during the outage")

    def show_remaining(self, fetched: Fetched) -> None:
        self.show_shares(fetched, {name: float(name != self.scene.failing) for name in self.net.uplinks})

    def before_noticed(self) -> None:
        """Connections while the kernel still trusts the gateway: some fail, and how many is told, not judged."""
        began = time.monotonic()
        fetched = self.fetch()
        over = ", ".join(f"{fetched.sources[source]} over {name}" for name, source in self.net.sources.items())
        self.screen.text(f"{self.connections} connections before the kernel has noticed: {over}, {failures(fetched)}.")
        self.scene.wait_until_noticed(self.net)
        self.screen.text(f"The kernel had noticed {time.monotonic() - began:.1f} s after it happened.")
        self.screen.line()

    def back(self) -> None:
        self.screen.act(f"{self.scene.failing} is back", "Shares by weight again, without a run of the playbook.")
        seconds = self.scene.wait_until_back(self.net)
        self.screen.text(f"The kernel uses {self.scene.failing} again after {seconds:.1f} s.")
        self.screen.line()
        self.check_spread(self.fetch())

    def long_lived_end(self, flows: LongLivedTcp) -> None:
        self.screen.act(
            "What became of the long-lived connections",
            f"Those of {self.scene.failing} should have paused, and gone on from the same address.",
        )
        seconds = wait(self.caught_up, "connections did not recover")
        if seconds >= 0.1:
            self.screen.text(f"After {seconds:.1f} s more, TCP has sent again what the outage held back.")
        stats = flows.stop()
        groups = {name: [flow for flow in stats if source in flow.sources] for name, source in self.net.sources.items()}
        header = ("link", "connections", "messages", "lost", "longest silence")
        self.screen.table(header, [(name, *told(group)) for name, group in groups.items()])
        self.screen.line()
        moved = sum(len(flow.sources) != 1 for flow in stats)
        self.check(moved == 0, f"{moved} of {FLOWS} changed their source address")
        broken = sum(bool(flow.error or flow.missing) for flow in stats)
        self.check(broken == 0, f"{broken} of {FLOWS} broke or lost a message")
        kept = [flow for name, group in groups.items() if name != self.scene.failing for flow in group]
        silence = longest_silence(kept)
        limit = f"{LONGEST_SILENCE:.0f} s"
        self.check(silence < LONGEST_SILENCE, f"those of the other link never waited {limit} for an answer")

    def caught_up(self) -> bool:
        queues = [queue for queue, _unused in established(self.net.client, f"dport = :{ECHO_PORT}")]
        return all(queue < MOST_UNACKNOWLEDGED for queue in queues)

    # The end

    def removal(self, left: list[str], changed: str) -> None:
        """What was found after the lab was closed."""
        self.screen.act("Everything is removed", "No process, namespace or file of the demo remains.")
        self.screen.verbatim([*left, *changed.splitlines()])
        self.check(not left, f"{len(left)} processes and directories of the demo are left")
        self.check(not changed, "rules, routes, firewall and sysctls of this machine are as they were")

    def summary(self, seconds: float) -> None:
        self.screen.line()
        self.screen.line("Summary", "bold", "cyan")
        self.screen.line("-" * self.screen.width, "dim")
        for act, title in self.screen.titles.items():
            mine = [check for check in self.checks if check.act == act]
            if mine:
                self.screen.verdict(all(check.passed for check in mine), title, act)
            self.screen.verbatim([f"         {check.text}" for check in mine if not check.passed], "red")
        failed, number = sum(not check.passed for check in self.checks), len(self.checks)
        self.screen.line()
        if failed:
            self.screen.line(f"{failed} of {number} expectations were not met. {seconds:.0f} s", "bold", "red")
        else:
            self.screen.line(f"All {number} expectations were met. {seconds:.0f} s", "bold", "green")


def established(host: Host, which: str) -> list[tuple[int, str]]:
    """Bytes not yet acknowledged and the peer's address, of each established TCP connection of a host."""
    listed = host.run(["ss", "-Htn", "state", "established", f"( {which} )"]).stdout.splitlines()
    fields = [line.split() for line in listed]  # queues in and out, own and peer's address
    return [(int(field[1]), field[3].rsplit(":", 1)[0]) for field in fields]


def failures(fetched: Fetched) -> str:
    errors = Counter(failure["error"] for failure in fetched.failures)
    reasons = ", ".join(f"{number} x {error}" for error, number in errors.most_common(3))
    return f"{len(fetched.failures)} failed" + f" ({reasons})" * bool(reasons)


def longest_silence(flows: list[FlowStats]) -> float:
    """Seconds; endless when one never had an answer."""
    gaps = [inf if flow.longest_gap is None else flow.longest_gap for flow in flows]
    return max(gaps, default=0.0)


def told(flows: list[FlowStats]) -> tuple[str, str, str, str]:
    """Number, messages, messages lost, and the longest silence, of the flows of one link."""
    lost = sum(len(flow.missing) for flow in flows)
    return str(len(flows)), str(sum(flow.sent for flow in flows)), str(lost), f"{longest_silence(flows):.1f} s"
