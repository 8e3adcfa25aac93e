# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put the library, what it needs and what belongs to it onto a router, in one go: a second run only looks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from . import belongings, environment, library, runner
from ._mwan import local
from ._mwan.removal import Step

# stands in texts for the Python that the library runs with
PYTHON = "@PYTHON@"


class Installation:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.release = library.Release(self.params["directory"], self._texts("programs"))
        self.former = self.release.current()
        # where another supervisor runs the prober, nobody would take the mark away
        self.marks = any(map(_is_service, self.params["files"]))
        # whether programs, what they run with, or the service are new; the files that are
        self.renewed = self.marks and os.path.lexists(local.RESTART)
        self.written: list[str] = []

    def steps(self) -> Iterator[Step]:
        """What there is to do, each looked for when those before are done."""
        if self.params["user"]:
            yield from belongings.steps(self.params["user"], runner.programs(self.module))
        yield from self._programs()
        for path, step in belongings.files(self._texts("files")):
            self.written.append(path)
            self.renewed |= _is_service(path)
            yield step
        for path, target in sorted(self.params["links"].items()):
            if not (os.path.islink(path) and os.readlink(path) == target):
                yield Step(f"ln -s {target} {path}", partial(_link, path, target))

    def _texts(self, option: str) -> dict[str, str]:
        return {name: text.replace(PYTHON, self._python()) for name, text in self.params[option].items()}

    def _python(self) -> str:
        directory, venv = self.params["directory"], self.params["venv"]
        if venv or (self.params["venv_kept"] and environment.current(directory)):
            return os.path.join(directory, environment.NAME, "bin/python")
        return str(self.params["python"])

    def _environment(self) -> Iterator[Step]:
        directory, venv = self.params["directory"], self.params["venv"]
        if venv:
            python, run = self.params["python"], runner.programs(self.module)
            wheels = environment.Wheels(venv["wheels"] or "", tuple(venv["wheel_names"] or ()))
            wanted = environment.Environment(directory, python, venv["requirements"], wheels, run)
            yield from wanted.steps()
        elif not self.params["venv_kept"]:
            yield from environment.leave(directory)

    def _programs(self) -> Iterator[Step]:
        for step in self._environment():
            self.renewed = True
            yield step
        if not self.release.is_current():
            self.renewed = True
            yield Step(f"install {self.release.path}", self.release.install)

    def mark(self) -> None:
        """That the prober has to be restarted; the unit takes it away when it is."""
        if self.marks and self.renewed:
            local.Files().write(local.RESTART, "")

    def result(self, actions: list[str]) -> dict[str, Any]:
        return {
            "changed": bool(actions),
            "actions": actions,
            "release": self.release.path,
            "renewed": self.renewed,
            "written": self.written,
            "marked": belongings.marked(self.params["look_in"]),
        }


def run(module: AnsibleModule) -> None:
    installation = Installation(module)
    actions: list[str] = []

    def work() -> None:
        for step in installation.steps():
            actions.append(step.words)
            if not module.check_mode:
                # before it is there, for a run that ends here; and after, for a service that starts meanwhile
                installation.mark()
                step.work()
                installation.mark()

    try:
        runner.guarded(module, work)
    except OSError as exc:
        module.fail_json(msg=f"cannot {actions[-1] if actions else 'look'}: {exc}", actions=actions)
    result = installation.result(actions)
    if module._diff and actions:
        result["diff"] = {"before": "", "after": "".join(action + "\n" for action in actions)}
    module.exit_json(**result)


def _is_service(path: str) -> bool:
    return path.endswith(".service")


def _link(path: str, target: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    library.lead(path, target)
