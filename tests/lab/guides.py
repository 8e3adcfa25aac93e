# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What the pages of the documentation tell people to write and to run, taken out of them to be tried."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
# two spaces and more stand between a command and a remark, or what it does
REMARK = re.compile(r"(?<=\S)\s{2,}.*$|^#.*$")


@dataclass(frozen=True)
class Block:
    """A block of YAML, and where it stands."""

    place: str  # page and line
    heading: str
    value: Any

    @property
    def variables(self) -> dict[str, Any]:
        """The role's variables it declares; none where it is something else."""
        found = self.value if isinstance(self.value, dict) else {}
        return {name: value for name, value in found.items() if name.startswith("mwan_") and name != "mwan_routers"}


def pages() -> list[Path]:
    return [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(f"{page.name}:{text.count(chr(10), 0, found.start()) + 1}", _heading(text, found.start()), value)
        for found in FENCED.finditer(text)
        if found[1] == "yaml"
        for value in [yaml.safe_load(found[2])]
    ]


def _heading(text: str, position: int) -> str:
    return HEADING.findall(text, 0, position)[-1]


def declared(page: str, heading: str) -> dict[str, Any]:
    """All variables that one section of a page of docs/ declares; a later block of it adds to those before."""
    found: dict[str, Any] = {}
    for block in blocks(CHECKOUT / "docs" / page):
        if block.heading == heading:
            found.update(block.variables)
    if not found:
        raise LookupError(f"docs/{page} declares nothing under {heading}")
    return found


def command_blocks(page: Path) -> Iterator[list[str]]:
    """Indented blocks, without remarks. In one that begins with a prompt, only what stands after prompts is given."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    for found in re.findall(r"(?:^ {4}.*\n)+", text, re.MULTILINE):
        joined = re.sub(r"\\\n\s*", "", found)
        lines = [REMARK.sub("", line[4:]).rstrip() for line in joined.splitlines()]
        if lines[0].startswith("$ "):
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        yield [line for line in lines if line]
