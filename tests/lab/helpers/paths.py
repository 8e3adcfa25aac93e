# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Where the library says that connections go on this host, without Ansible between.

Argument: directory of the library's parent (`plugins/module_utils`). Prints ``ready``; then reads one JSON object a
line, ``questions`` (a list of what `Question.parse` takes) and ``down`` (links), and prints the list of answers.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import datetime
from typing import Any

sys.path.insert(0, sys.argv[1])

from _mwan import host
from _mwan.console import reading
from _mwan.explain import TIME, Question, explain
from _mwan.ports import Router


def answers(router: Router, asked: list[dict[str, Any]], down: list[str]) -> list[dict[str, Any]]:
    """All are asked of the router as it is at one time."""
    now = datetime.now().strftime(TIME)
    questions = [Question.parse({"at": now, **item}) for item in asked]
    view = reading.view(router, questions[0], down, "down")
    return [explain(item, replace(view, accounts=router.look_up(item.wanted()))) for item in questions]


def main() -> None:
    # no firewall is asked: what is declared tells
    router = host.open_router(lambda _command, _text: (1, "", "not asked"))
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(answers(router, job["questions"], job["down"])), flush=True)


if __name__ == "__main__":
    main()
