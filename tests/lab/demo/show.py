# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Text for a person at a terminal of 80 to 100 columns; colours only on a terminal, and not with NO_COLOR."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence

STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
NARROWEST, WIDEST = 80, 100
INDENT = "  "
LONGEST_BAR = 41


class Screen:
    """Standard output. Everything is flushed at once, so that a reader sees what the machine is busy with."""

    def __init__(self) -> None:
        self.colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.width = min(max(shutil.get_terminal_size((WIDEST, 24)).columns, NARROWEST), WIDEST)
        self.block = "█" if "utf" in (sys.stdout.encoding or "").lower() else "#"
        self.titles: dict[int, str] = {}

    def paint(self, text: str, *styles: str) -> str:
        if not self.colours or not styles:
            return text
        return f"\x1b[{';'.join(STYLES[style] for style in styles)}m{text}\x1b[0m"

    def line(self, text: str = "", *styles: str) -> None:
        print(self.paint(text, *styles) if text else "", flush=True)

    def act(self, title: str, look: str) -> None:
        """A numbered heading, and one line that says what to look at."""
        self.titles[self.number + 1] = title
        self.line()
        self.line(f"{self.number}  {title}", "bold", "cyan")
        self.line("-" * self.width, "dim")
        self.text(look)
        self.line()

    @property
    def number(self) -> int:
        """The act that is on."""
        return len(self.titles)

    def text(self, text: str, *styles: str) -> None:
        for part in textwrap.wrap(text, self.width - len(INDENT), break_long_words=False, break_on_hyphens=False):
            self.line(INDENT + part, *styles)

    def command(self, text: str) -> None:
        """What somebody would type."""
        self.wrapped(f"$ {text}", "bold")

    def verbatim(self, lines: Iterable[str], *styles: str) -> None:
        for text in lines:
            self.wrapped(text, *styles)

    def wrapped(self, text: str, *styles: str) -> None:
        """One line of somebody else's text; what does not fit continues further in, nothing is cut off."""
        indent = INDENT + " " * (len(text) - len(text.lstrip()))
        parts = textwrap.wrap(
            text.strip(),
            self.width,
            initial_indent=indent,
            subsequent_indent=indent + "      ",
            break_on_hyphens=False,
        )
        for part in parts or [""]:
            self.line(part, *styles)

    def clipped(self, text: str) -> None:
        """One line; what does not fit is cut off, and that is visible."""
        self.line(text if len(text) <= self.width else text[: self.width - 3] + "...")

    def verdict(self, passed: bool, text: str, act: int | None = None) -> None:
        word, style = ("pass", "green") if passed else ("FAIL", "red")
        number = "" if act is None else f"{act:>2}  "
        margin = " " * (len(INDENT + number) + 6)
        parts = textwrap.wrap(text, self.width - len(margin))
        self.line(f"{INDENT}{number}{self.paint(word, 'bold', style)}  {parts[0]}")
        for part in parts[1:]:
            self.line(margin + part)

    def drawing(self, text: str) -> None:
        for line in text.strip("\n").splitlines():
            self.line((" " + line).rstrip())

    def table(
        self, header: Sequence[str], rows: Sequence[Sequence[str]], shares: Sequence[tuple[float, float]] = ()
    ) -> None:
        """Columns as wide as their content; what looks like a number goes to the right.

        `shares` (what is, what is expected) of the rows become bars in the room that is left.
        """
        columns = list(zip(*[header, *rows], strict=True))
        widths = [max(map(len, column)) for column in columns]
        right = [all(cell[:1].isdigit() for cell in column[1:]) for column in columns]
        room = min(self.width - len(INDENT) - sum(widths) - len(INDENT) * len(widths), LONGEST_BAR)
        for number, row in enumerate([header, *rows]):
            cells = [
                cell.rjust(width) if is_right else cell.ljust(width)
                for cell, width, is_right in zip(row, widths, right, strict=True)
            ]
            if shares:
                cells.append("| expected" if number == 0 else self.gauge(*shares[number - 1], room))
            self.line((INDENT + INDENT.join(cells)).rstrip(), *(["dim"] if number == 0 else []))

    def gauge(self, share: float, expected: float, room: int) -> str:
        """A stroke stands where `expected` is; `room` is for a share of one and the stroke."""
        cells = [self.block if cell < round(share * (room - 1)) else " " for cell in range(room)]
        cells[round(expected * (room - 1))] = "|"
        return "".join(cells)
