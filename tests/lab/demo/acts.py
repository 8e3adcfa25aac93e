# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The acts of the demo. Each shows what happened and states what was expected of it; summary() repeats that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import yaml

from ..ansible import CHECKOUT, GROUP, LAB_VARIABLES
from ..prober import INSTALLED, Prober
from ..state import snapshot
from ..topology import SERVER
from ..traffic import AccessLogServer, EchoServer
from .outages import Outages
from .plan import sections, show_plan
from .scenes import POLICY_ROUTES, wait

LOG_LINES = 6


class Acts(Outages):
    planned = 0

    def play(self) -> None:
        self.network()
        self.plan()
        self.first_run()
        with AccessLogServer(self.net.server) as server, EchoServer(self.net.server):
            self.spread(server)
            self.second_run()
            with self.probed() as prober, self.talking() as clients:
                self.outage(prober, clients)
                self.dark(prober, clients)

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
        self.check_untouched(before, "nothing was done")

    def check_untouched(self, before: dict[str, str], what: str) -> None:
        after = snapshot(self.net.router)
        touched = [name for name in before if before[name] != after[name]]
        said = f"changed nonetheless: {', '.join(touched)}" if touched else "as before"
        self.check(not touched, f"{what}: {', '.join(before)} of the router are {said}")

    def first_run(self) -> None:
        self.screen.act("The real run", "The same without --check.")
        result = self.playbook()
        self.screen.text("What the router's kernel has now:")
        self.on_router("ip rule")
        self.on_router(POLICY_ROUTES)
        self.check(
            result.changed == self.planned, f"it did what was planned: changed={result.changed} of {self.planned}"
        )

    def spread(self, server: AccessLogServer) -> None:
        self.screen.act(
            f"{self.connections} connections of nine clients to {SERVER}",
            "The source addresses in the server's own access log, and each link's share against its weight.",
        )
        fetched = self.fetch()
        self.show_log(server.log_lines())
        self.check_spread(fetched)

    def show_log(self, lines: list[str]) -> None:
        """The first lines, and the first one of each source that is not among them."""
        sources = [line.split(" ", 1)[0] for line in lines]
        shown = {*range(min(LOG_LINES, len(lines))), *(sources.index(source) for source in set(sources))}
        for number in sorted(shown):
            self.screen.clipped(f"  {number + 1:5}  {lines[number]}")
        self.screen.line(f"  ... {len(lines)} lines", "dim")
        self.screen.line()

    def second_run(self) -> None:
        self.screen.act("A second run", "Nothing is left to do.")
        self.check_unchanged("the second run")

    # The prober

    @contextmanager
    def probed(self) -> Iterator[Prober]:
        """The prober as the role has installed it."""
        self.screen.act(
            "The prober starts",
            "Until here nothing of ours was running on the router: the kernel does it all. The prober is for links "
            "that fail. Where there is systemd, the role has started it as mwan.service by now; here the demo does.",
        )
        before = snapshot(self.net.router)
        self.screen.command(f"{' '.join(INSTALLED)} &")
        with Prober(self.net.router, program=INSTALLED) as prober:
            wait(lambda: set(prober.states().values()) == {"up"}, "the links are not all up")
            self.on_router("mwanctl status")
            self.check_untouched(before, "it found nothing to do")
            yield prober

    # The end

    def removal(self, left: list[str], changed: str) -> None:
        """What was found after the lab was closed."""
        self.screen.act("Everything is removed", "No process, namespace or file of the demo remains.")
        self.screen.verbatim([*left, *changed.splitlines()])
        self.check(not left, f"{len(left)} processes and directories of the demo are left")
        self.check(not changed, "rules, routes, firewall and sysctls of this machine are as they were")
