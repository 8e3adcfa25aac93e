# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What it costs to configure a router: our engine and our modules, a shell script, and batches of ip and nft.

All ways start from the same wiped router in the same network, one after the other in every round. That they end in
the same kernel state is checked, not assumed.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from ..lab.ansible import CHECKOUT, run_module, run_playbook
from ..lab.host import Host, LabError
from ..lab.topology import Topology, many_links
from .figures import Aim, Table, median_and_range, milliseconds, ratios, times
from .scripts import WIPE, ByHand

ENGINE = Path(__file__).with_name("engine.py")
LIBRARY = CHECKOUT / "plugins" / "module_utils"
MASK, WIDE_MASK = 0x3F00, 0xFF00
ENGINE_AIM, NO_OP_AIM = Aim(3.0), Aim(1.5)
NO_OP_LINKS = 60
# What of the kernel the ways must agree in; the policy's metrics and the protocol number are in there.
AGREE = "ip rule; ip route show table all proto 77; sysctl net.ipv4.ip_forward net.ipv4.fib_multipath_hash_policy"
NFT_LISTING = "nft --stateless list table inet mwan"


@dataclass
class Timings:
    """Seconds of each round, by way."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    operations: dict[str, str] = field(default_factory=dict)

    def add(self, way: str, seconds: float) -> None:
        self.seconds.setdefault(way, []).append(seconds)

    def row(self, links: int, way: str, base: str) -> list[str]:
        ratio = median_and_range(ratios(self.seconds[way], self.seconds[base]))
        shown = milliseconds(median(self.seconds[way]))
        return [str(links), way, shown, "1" if way == base else ratio, self.operations.get(way, "")]


BATCH, SHELL = "one ip -batch, one nft -f", "script of ip and iptables calls"
FIRST, NO_OP = "first apply, engine ({})", "no-op, engine ({})"
INSIDE = "first apply, engine ({}), without starting Python"
BACKENDS = ("nftables", "iptables")


def measure(quick: bool) -> list[Table]:
    plan = {2: 3, 8: 3} if quick else {2: 5, 8: 5, 60: 3, 250: 3}
    tables = [_applied({links: _ways(links, rounds) for links, rounds in plan.items()})]
    tables.append(_no_ops(8 if quick else NO_OP_LINKS, rounds=1 if quick else 5, loop=2 if quick else 3))
    return tables


def _ways(links: int, rounds: int) -> Timings:
    timings = Timings()
    with many_links(links) as topology:
        prepare(topology)
        by_hand = ByHand.of(topology, int(topology.variables["mwan_mark_mask"], 0))
        for _unused in range(rounds):
            for backend in BACKENDS:
                _engine_round(topology, backend, timings)
            _scripts_round(topology, by_hand, timings)
    return timings


def prepare(topology: Topology) -> None:
    """The engine's state is what the batch has to reach: it is read once and kept as its input and as its proof."""
    mask = MASK if len(topology.uplinks) < MASK >> 8 else WIDE_MASK
    topology.variables.update(mwan_mark_mask=hex(mask), mwan_firewall_backend="nftables")
    router = topology.router
    router.run(WIPE)
    _engine(topology)
    (router.state / "nft").write_text(router.run(NFT_LISTING).stdout, encoding="utf-8")
    (router.state / "ip").write_text(ByHand.of(topology, mask).ip_input(), encoding="utf-8")
    expected = _state(router)
    router.run(WIPE)
    router.run(["/bin/sh"], input=_batch_script(topology, mask))
    if _state(router) != expected:
        raise LabError(f"the batch does not build what the engine does:\n{expected}\nbut:\n{_state(router)}")


def _batch_script(topology: Topology, mask: int) -> str:
    state = topology.router.state
    return ByHand.of(topology, mask).batch(str(state / "ip"), str(state / "nft"))


def _state(router: Host) -> str:
    """Rules of one priority stand in the order in which they were added, which means nothing: sort them.

    Names of tables are not part of the kernel's state: the files which the engine writes for ip(8) go first.
    """
    router.run("rm -f /etc/iproute2/rt_tables.d/mwan.conf /etc/iproute2/rt_protos.d/mwan.conf")
    lines = router.run(f"{AGREE}; {NFT_LISTING}").stdout
    return "\n".join(sorted(lines.splitlines()))


def _engine(topology: Topology) -> tuple[float, dict[str, Any]]:
    job = {"library": str(LIBRARY), "variables": topology.variables}
    return _timed(topology.router, [sys.executable, "-I", str(ENGINE)], json.dumps(job))


def _timed(host: Host, command: list[str], text: str) -> tuple[float, dict[str, Any]]:
    began = time.perf_counter()
    done = host.run(command, input=text, timeout=120)
    return time.perf_counter() - began, json.loads(done.stdout or "{}")


def _engine_round(topology: Topology, backend: str, timings: Timings) -> None:
    topology.variables["mwan_firewall_backend"] = backend
    topology.router.run(WIPE)
    seconds, first = _engine(topology)
    timings.add(FIRST.format(backend), seconds)
    timings.add(INSIDE.format(backend), first["seconds"])
    timings.operations[FIRST.format(backend)] = _operations(first["actions"])
    seconds, second = _engine(topology)
    if second["actions"]:
        raise LabError(f"the second run changed something: {second['actions']}")
    timings.add(NO_OP.format(backend), seconds)
    timings.operations[NO_OP.format(backend)] = "none"


def _operations(actions: list[str]) -> str:
    """The plan counted: each route and rule is one netlink request, the firewall one transaction (per table)."""
    kinds = Counter(_kind(action) for action in actions)
    return ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))


def _kind(action: str) -> str:
    words = action.split()
    if words[0] == "ip":
        return "netlink"
    if words[0] in ("add", "replace", "delete") and words[-1] == "rules":
        return "firewall"
    return "sysctl" if words[0] == "sysctl" else "files"


def _scripts_round(topology: Topology, by_hand: ByHand, timings: Timings) -> None:
    scripts = {
        SHELL: by_hand.one_by_one(),
        BATCH: _batch_script(topology, int(topology.variables["mwan_mark_mask"], 0)),
    }
    for way, script in scripts.items():
        topology.router.run(WIPE)
        timings.add(way, _timed(topology.router, ["/bin/sh"], script)[0])
    calls = f"{len(by_hand.ip)} netlink, {len(by_hand.iptables)} firewall, {len(by_hand.sysctls)} sysctl"
    timings.operations[SHELL] = calls
    timings.operations[BATCH] = f"{len(by_hand.ip)} netlink, 1 firewall, {len(by_hand.sysctls)} sysctl"


def _applied(results: dict[int, Timings]) -> Table:
    ways = [BATCH, SHELL, *(way.format(name) for name in BACKENDS for way in (FIRST, INSIDE, NO_OP))]
    rows = [timings.row(links, way, BATCH) for links, timings in results.items() for way in ways]
    notes = [
        "Median wall time of whole processes, with the time to enter the namespace; ratio as median (least to most)."
    ]
    for links, timings in results.items():
        for way in (FIRST.format("nftables"), INSIDE.format("nftables")):
            ratio = median(ratios(timings.seconds[way], timings.seconds[BATCH]))
            notes.append(f"{links} links, {way}: {times(ratio)} times the batch, aim 3: {ENGINE_AIM.verdict(ratio)}.")
    return Table("Applying", ("links", "way", "ms", "times the batch", "operations"), rows, notes)


# no-op of the modules

MODULES = ("mwan_link", "mwan_snat", "mwan_policy", "mwan_rpfilter")
PING = "ansible.builtin.ping"


def _no_ops(links: int, rounds: int, loop: int) -> Table:
    """Modules that find nothing to do, beside an empty module run by the same means in the same round."""
    with many_links(links) as topology:
        topology.variables.update(mwan_mark_mask=hex(MASK), mwan_firewall_backend="nftables")
        run_playbook(topology)
        alone = _processes(topology, rounds)
        tasks = _tasks(topology, rounds, loop)
    rows = []
    notes = [f"{links} links, nothing to change; median of {rounds} rounds; ratio as median (least to most)."]
    for how, seconds in (("its process alone", alone), ("as a task of ansible-playbook", tasks)):
        for module, taken in seconds.items():
            ratio = ratios(taken, seconds[PING])
            rows.append([module, how, milliseconds(median(taken)), median_and_range(ratio)])
            if module != PING:
                value = median(ratio)
                notes.append(f"{module} {how}: {times(value)}, aim 1.5: {NO_OP_AIM.verdict(value)}.")
    return Table("A module with nothing to do", ("module", "how", "ms", "times an empty module"), rows, notes)


def _arguments(topology: Topology) -> dict[str, dict[str, Any]]:
    variables = topology.variables
    settings = {"mark_mask": variables["mwan_mark_mask"], "firewall_backend": variables["mwan_firewall_backend"]}
    policy = {"policies": variables["mwan_policies"], "default_policy": variables["mwan_default_policy"]}
    return {
        PING: {},
        "mwan_link": {"links": variables["mwan_links"], **settings},
        "mwan_snat": {"snat": variables["mwan_snat"], **settings},
        "mwan_policy": {**policy, **settings},
        "mwan_rpfilter": {**variables["mwan_rp_filter"], **settings},
    }


def _processes(topology: Topology, rounds: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {}
    for _unused in range(rounds):
        for module, arguments in _arguments(topology).items():
            began = time.perf_counter()
            _check_no_op(module, run_module(topology, module, arguments, diff=False))
            taken.setdefault(module, []).append(time.perf_counter() - began)
    return taken


def _check_no_op(module: str, result: dict[str, Any]) -> None:
    if result.get("failed") or result.get("changed"):
        raise LabError(f"{module} was to find nothing to do: {result}")


def _tasks(topology: Topology, rounds: int, loop: int) -> dict[str, list[float]]:
    """Seconds per task in a playbook that repeats each module `loop` times between two readings of the clock."""
    stamp = {"ansible.builtin.set_fact": {"stamp": "{{ now().timestamp() }}"}}
    tasks: list[dict[str, Any]] = [stamp]
    arguments = _arguments(topology)
    for module, parameters in arguments.items():
        name = module if "." in module else f"multiwan.linux.{module}"
        tasks += [{"name": module, name: parameters, "loop": list(range(loop))}, stamp]
    playbook = topology.lab.directory / "no-ops.json"
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    taken: dict[str, list[float]] = {module: [] for module in arguments}
    for _unused in range(rounds):
        result = run_playbook(topology, playbook)
        if result.changed:
            raise LabError(f"the modules were to find nothing to do:\n{result.stdout}")
        stamps = [float(facts["ansible_facts"]["stamp"]) for facts in result.results_of("set_fact")]
        for module, before, after in zip(arguments, stamps[:-1], stamps[1:], strict=True):
            taken[module].append((after - before) / loop)
    return taken
