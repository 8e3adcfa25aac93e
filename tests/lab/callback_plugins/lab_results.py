# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Ansible callback: every task result as one line of JSON, in the file that MWAN_LAB_RESULTS names."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: lab_results
type: notification
short_description: Task results as JSON lines
description: Writes every task result to the file named by the environment variable MWAN_LAB_RESULTS.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "lab_results"

    def write(self, outcome: str, result: Any) -> None:
        task = result._task
        line = {
            "host": result._host.get_name(),
            "name": task.get_name(),
            "action": task.action,
            "outcome": outcome,
            "result": result._result,
        }
        with open(os.environ["MWAN_LAB_RESULTS"], "a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")

    def v2_runner_on_ok(self, result: Any) -> None:
        self.write("ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self.write("ignored" if ignore_errors else "failed", result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self.write("skipped", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self.write("unreachable", result)
