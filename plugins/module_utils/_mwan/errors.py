# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two ways a run ends early: the administrator's input is wrong, or the kernel refused."""

from __future__ import annotations

from typing import Any


class InputError(ValueError):
    """Bad input, found before anything was touched. Names the option, the value and what would do."""

    def __init__(self, option: str, value: Any, problem: str, remedy: str) -> None:
        # what was left out has no value to show
        subject = option if value is None else f"{option}: {value!r}"
        super().__init__(f"{subject} {problem}. {remedy}")
        self.option = option
        self.value = value
        self.problem = problem
        self.remedy = remedy


class KernelError(RuntimeError):
    """The kernel, or a tool speaking for it, refused an operation: names operation, object and reason."""

    def __init__(self, operation: str, subject: str, reason: str) -> None:
        super().__init__(f"{operation} {subject}: {reason}")
        self.operation = operation
        self.subject = subject
        self.reason = reason
