# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Ansible against a lab host: playbooks as users run them, and single modules without the ceremony."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from .host import HELPERS, Host, LabError
from .topology import Topology

CHECKOUT = Path(__file__).resolve().parents[2]
NAMESPACE, COLLECTION = "multiwan", "linux"
GROUP = "mwan_routers"
# what the machine lacks is not the lab's to install
LAB_VARIABLES = {"mwan_install": "none", "mwan_preflight": False, "mwan_manage_service": False}
# The Python whose ansible-core runs playbooks; make netns CORE=2.18 has another than the tests'.
CONTROLLER = os.environ.get("MWAN_CONTROLLER", sys.executable)
RECAP = re.compile(r"^(\S+)\s*:\s*(ok=\d+.*)$", re.MULTILINE)
_serial = count(1)


@dataclass(frozen=True)
class Task:
    """One task result; `outcome` is ok, failed, ignored, skipped or unreachable."""

    host: str
    name: str
    action: str
    outcome: str
    result: dict[str, Any]

    @property
    def changed(self) -> bool:
        return bool(self.result.get("changed"))


@dataclass(frozen=True)
class PlaybookResult:
    """`stdout` is what a person would have seen, without colour unless it was asked for."""

    returncode: int
    stdout: str
    recap: dict[str, int]  # ok, changed, unreachable, failed, skipped, rescued, ignored
    tasks: list[Task]

    @property
    def changed(self) -> int:
        return self.recap["changed"]

    @property
    def failed(self) -> int:
        return self.recap["failed"] + self.recap["unreachable"]

    def results_of(self, action: str) -> list[dict[str, Any]]:
        """Results of every task of one module, by its fully qualified or its short name."""
        return [task.result for task in self.tasks if action in (task.action, task.action.rsplit(".", 1)[-1])]


def collections_path(directory: Path) -> Path:
    """A directory for ANSIBLE_COLLECTIONS_PATH in which the checkout is found as multiwan.linux.

    The `__init__.py` files make ours a regular package, which wins over the one the PyPI package `ansible` installs.
    """
    place = directory / "collections"
    link = place / "ansible_collections" / NAMESPACE / COLLECTION
    if not link.exists():
        link.parent.mkdir(parents=True)
        (link.parent / "__init__.py").touch()
        (link.parent.parent / "__init__.py").touch()
        link.symlink_to(CHECKOUT, target_is_directory=True)
    return place


def run_playbook(
    topology: Topology,
    playbook: str | Path = "playbooks/site.yml",
    extra_vars: dict[str, Any] | None = None,
    *,
    check: bool = False,
    diff: bool = False,
    args: Sequence[str] = (),
    expect_success: bool = True,
    color: bool = False,
    timeout: float = 300.0,
) -> PlaybookResult:
    """ansible-playbook against the router of a topology; a relative path is one of the collection.

    Group variables are `topology.variables`, and `extra_vars` over them. With `expect_success` (the default) a failed
    run is a LabError that shows the output.
    """
    directory = _project(topology)
    collections = collections_path(topology.lab.directory)
    path = collections / "ansible_collections" / NAMESPACE / COLLECTION / playbook
    command = [CONTROLLER, "-m", "ansible", "playbook", "-i", str(directory / "inventory.json"), str(path), *args]
    command += ["--check"] * check + ["--diff"] * diff
    if extra_vars:
        command += ["--extra-vars", json.dumps(extra_vars)]
    done = subprocess.run(
        command,
        cwd=directory,
        env=_environment(directory, collections, color),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    result = PlaybookResult(done.returncode, done.stdout, _recap(done.stdout), _tasks(directory))
    if expect_success and done.returncode != 0:
        raise LabError(f"ansible-playbook {playbook}: exit {done.returncode}\n{done.stdout}")
    return result


def _project(topology: Topology) -> Path:
    """A directory with an inventory and group variables, as a user would have."""
    directory = topology.lab.directory / f"ansible-{next(_serial)}"
    (directory / "group_vars").mkdir(parents=True)
    (directory / "tmp").mkdir()
    inventory = {"all": {"children": {GROUP: {"hosts": {topology.router.name: _host_variables(topology, directory)}}}}}
    (directory / "inventory.json").write_text(json.dumps(inventory, indent=2), encoding="utf-8")
    variables = {**LAB_VARIABLES, **topology.variables}
    (directory / "group_vars" / f"{GROUP}.json").write_text(json.dumps(variables, indent=2), encoding="utf-8")
    return directory


def _host_variables(topology: Topology, directory: Path) -> dict[str, Any]:
    return {
        "ansible_connection": "local",
        "ansible_python_interpreter": str(topology.router.interpreter()),
        "ansible_remote_tmp": str(directory / "tmp"),
    }


def _environment(directory: Path, collections: Path, color: bool) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    configuration = directory / "ansible.cfg"
    configuration.touch()
    return {
        **kept,
        "LC_ALL": "C.UTF-8",
        "TMPDIR": str(directory / "tmp"),  # a module that is killed leaves its payload there
        "ANSIBLE_CONFIG": str(configuration),
        "ANSIBLE_HOME": str(directory / "home"),
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "lab_results",
        "MWAN_LAB_RESULTS": str(directory / "results.jsonl"),
        "ANSIBLE_FORCE_COLOR" if color else "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCALHOST_WARNING": "0",
    }


def _recap(stdout: str) -> dict[str, int]:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", stdout).rpartition("PLAY RECAP")[2]
    totals = dict.fromkeys(("ok", "changed", "unreachable", "failed", "skipped", "rescued", "ignored"), 0)
    for _unused, counts in RECAP.findall(plain):
        for item in counts.split():
            name, number = item.split("=")
            totals[name] += int(number)
    return totals


def _tasks(directory: Path) -> list[Task]:
    file = directory / "results.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [Task(**json.loads(line)) for line in lines]


def run_module(
    topology: Topology,
    module: str,
    args: dict[str, Any] | None = None,
    *,
    check: bool = False,
    diff: bool = True,
    host: Host | None = None,
    python: str = sys.executable,
    before: Sequence[str] = (),
    timeout: float = 120.0,
) -> dict[str, Any]:
    """One module of the collection on the router (or another host), its result parsed; a failure has `failed: true`.

    Runs the module's own code in one process, without the controller: a fraction of the time of an ad-hoc run.
    `before` is the command that starts it, such as `env`.
    """
    host = host or topology.router
    name = module if "." in module else f"{NAMESPACE}.{COLLECTION}.{module}"
    arguments = {**(args or {}), "_ansible_check_mode": check, "_ansible_diff": diff}
    collections = collections_path(topology.lab.directory)
    command = [*before, python, "-I", str(HELPERS / "run_module.py"), str(collections), name]
    done = host.run(command, check=False, input=json.dumps(arguments), timeout=timeout)
    try:
        return dict(json.loads(done.stdout))
    except ValueError:
        raise LabError(f"{name} returned no JSON (exit {done.returncode})\n{done.stdout}{done.stderr}") from None
