# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Aligned columns that fit the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

GAP = "  "
NARROWEST_TEXT = 24
INDENT = "    "
COLOURS = {"red": 31, "green": 32, "yellow": 33, "cyan": 36}


@dataclass(frozen=True)
class Column:
    """`optional` columns are left out where the terminal is narrow, those of the highest number first."""

    title: str
    right: bool = False
    optional: int = 0


Paint = Callable[[str, str], "str | None"]


def render(
    columns: Sequence[Column], rows: Sequence[Mapping[str, str]], width: int, paint: Paint | None = None
) -> list[str]:
    """Lines of a table; rows are by column title, and the last column is running text, wrapped in what is left.

    `paint` names the colour of a cell by its column's title and its text, None for none.
    """
    *fixed, text = columns
    widths = {column: max(len(column.title), *(len(row[column.title]) for row in rows), 0) for column in fixed}
    shown = _fitting(fixed, widths, width - len(text.title))
    used = sum(widths[column] + len(GAP) for column in shown)
    lines = [GAP.join([*(_cell(column.title, widths[column], column) for column in shown), text.title]).rstrip()]
    for row in rows:
        cells = [_cell(row[column.title], widths[column], column) for column in shown]
        painted = [_painted(paint, column.title, cell) for column, cell in zip(shown, cells)]
        lines += _with_text(GAP.join(painted), used, row[text.title], width)
    return lines


def _fitting(columns: Sequence[Column], widths: Mapping[Column, int], width: int) -> list[Column]:
    shown = list(columns)
    for column in sorted(columns, key=lambda item: -item.optional):
        if column.optional and sum(widths[each] + len(GAP) for each in shown) > width:
            shown.remove(column)
    return shown


def _cell(text: str, width: int, column: Column) -> str:
    return text.rjust(width) if column.right else text.ljust(width)


def _painted(paint: Paint | None, title: str, cell: str) -> str:
    colour = paint(title, cell.strip()) if paint else None
    return f"\x1b[{COLOURS[colour]}m{cell}\x1b[0m" if colour else cell


def _with_text(cells: str, used: int, text: str, width: int) -> list[str]:
    """The text beside the cells, or on lines of its own where there is no room."""
    room = width - used
    if not text:
        return [cells.rstrip()]
    if len(text) > room and room < NARROWEST_TEXT:
        wrapped = textwrap.wrap(text, max(NARROWEST_TEXT, width - len(INDENT)))
        return [cells.rstrip(), *(INDENT + line for line in wrapped)]
    first, *more = textwrap.wrap(text, max(NARROWEST_TEXT, room))
    return [f"{cells}{GAP}{first}", *(" " * used + line for line in more)]


def paragraphs(texts: Sequence[str], width: int) -> list[str]:
    return [line for text in texts for line in textwrap.wrap(text, max(NARROWEST_TEXT, width), subsequent_indent="  ")]
