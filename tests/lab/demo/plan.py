# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What `ansible-playbook --diff` printed, by task and section, and how to show it on a page or two."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .show import Screen

TASK = re.compile(r"^TASK \[(?:\S+ : )?(.*)\] \**$")
BEFORE = re.compile(r"^--- before: (.*)$")
MOST_LINES = 14
STYLES = {"+": ("green",), "-": ("red",), "@": ("dim",)}


@dataclass
class Section:
    """One difference: of `ip rule`, `ip route`, `firewall`, `sysctl` or a file."""

    task: str
    title: str
    lines: list[str] = field(default_factory=list)

    @property
    def is_file(self) -> bool:
        return self.title.startswith("/")


def sections(stdout: str) -> list[Section]:
    """The differences in the order Ansible printed them, without their two header lines."""
    found: list[Section] = []
    task, inside = "", False
    for line in stdout.splitlines():
        if match := TASK.match(line):
            task, inside = match[1], False
        elif match := BEFORE.match(line):
            found.append(Section(task, match[1]))
            inside = True
        elif not line:
            inside = False
        elif inside and not line.startswith("+++ "):
            found[-1].lines.append(line)
    return found


def show_plan(screen: Screen, found: list[Section]) -> None:
    """Kernel and firewall as Ansible printed them, the long ones folded; of files only the names."""
    for task in dict.fromkeys(section.task for section in found):
        screen.line(f"  TASK [{task}]", "bold")
        mine = [section for section in found if section.task == task]
        for section in mine:
            if not section.is_file:
                _show_section(screen, section)
        files = [section for section in mine if section.is_file]
        if files:
            folded = sum(len(section.lines) for section in files)
            names = ", ".join(section.title for section in files)
            screen.text(f"... and in files ({folded} lines folded): {names}", "dim")
        screen.line()


def _show_section(screen: Screen, section: Section) -> None:
    screen.line(f"  --- {section.title}", "bold")
    # One line more is shown rather than replaced by one that says it is not.
    shown = section.lines if len(section.lines) <= MOST_LINES + 1 else section.lines[:MOST_LINES]
    for line in shown:
        screen.wrapped(line, *STYLES.get(line[:1], ()))
    if len(shown) < len(section.lines):
        screen.line(f"  ... {len(section.lines) - len(shown)} more lines of this folded", "dim")
