# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Runs inside the router: converge it by the library alone, in one change, and tell how long that took.

Standard input is a JSON object: `library` (the directory that holds _mwan) and `variables` (of the role). Prints a
JSON object: `seconds` from the first statement after the imports to the end, `cpu` of the whole process and those it
started, `actions`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

job = json.load(sys.stdin)
sys.path.insert(0, job["library"])

from _mwan import changes, host  # noqa: E402
from _mwan.document import Document  # noqa: E402
from _mwan.flow import converge  # noqa: E402
from _mwan.model import Settings  # noqa: E402

LISTING = {"state": "present", "purge": True}


def run(command: list[str], text: str) -> tuple[int, str, str]:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def declared(variables: dict[str, Any]) -> Document:
    names = ("mark_mask", "firewall_backend", "classify")
    settings = {name: variables[f"mwan_{name}"] for name in names if f"mwan_{name}" in variables}
    document = Document(settings=Settings.parse("settings", settings))
    document = changes.links(document, {"links": variables["mwan_links"], **LISTING})
    document = changes.snat(document, {"snat": variables["mwan_snat"], **LISTING})
    policies = {"policies": variables["mwan_policies"], "rules": variables.get("mwan_rules", []), **LISTING}
    return changes.policies(document, {**policies, "default_policy": variables["mwan_default_policy"]})


def main() -> None:
    began = time.perf_counter()
    wanted = declared(job["variables"])

    def change(stored: Document) -> Document:
        return replace(wanted, ids=stored.ids, originals=stored.originals, backend=stored.backend)

    outcome = converge(host.open_router(run), change)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "cpu": sum(os.times()[:4]), "actions": outcome.actions}))


if __name__ == "__main__":
    main()
