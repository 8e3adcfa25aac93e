# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Converge the network namespace this runs in, as often as asked, without Ansible between.

Arguments: directory of the library's parent (`plugins/module_utils`), firewall backend whose libraries are loaded at
once. Prints ``ready``; then reads one JSON object a line (``change``, ``params``, ``settings``, ``assume``, ``check``)
and prints one. Every run is a process of its own, so none inherits what another one learned.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from typing import Any

sys.path.insert(0, sys.argv[1])

from _mwan import changes, host
from _mwan.apply import ApplyError
from _mwan.document import Document
from _mwan.errors import InputError, KernelError
from _mwan.firewall.iptables import Iptables
from _mwan.flow import converge


def run_program(command: list[str], text: str) -> tuple[int, str, str]:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def answer(request: dict[str, Any]) -> dict[str, Any]:
    settings, params = request["settings"], request["params"]
    change = functools.partial(getattr(changes, request["change"]), params=params)

    def changed(document: Document) -> Document:
        return change(changes.settings(document, settings))

    def assumed(document: Document) -> Document:
        return changes.assume(changes.settings(document, settings), request["assume"])

    earlier = None if request["assume"] is None else assumed

    try:
        outcome = converge(host.open_router(run_program), changed, check=request["check"], assume=earlier)
    except (InputError, KernelError, ApplyError) as error:
        return {"error": str(error), "kind": type(error).__name__}
    return {
        "changed": outcome.changed,
        "actions": outcome.actions,
        "diff": outcome.diff,
        "warnings": outcome.warnings,
        "links": outcome.links,
        "unlisted": changes.unlisted(outcome.document, params),
    }


def serve(backend: str) -> None:
    if backend == "iptables":
        Iptables().unavailable()  # loads python-iptables, which takes longer than a run
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            print(json.dumps(answer(json.loads(line))), flush=True)
            os._exit(0)
        if os.waitpid(child, 0)[1] != 0:
            crash = {"error": "the run ended without an answer; see its error output", "kind": "Crash"}
            print(json.dumps(crash), flush=True)


if __name__ == "__main__":
    serve(sys.argv[2])
