# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Numbers for names: given once, stored, and never moved when others come or go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .errors import InputError


def allocate(stored: Mapping[str, int], names: Iterable[str], capacity: int, option: str) -> dict[str, int]:
    """Return an id for each of `names`, keeping every stored one.

    Ids of names that go in this very change are not handed out again in it: connections still carry their marks
    until the plan has flushed them.
    """
    wanted = list(names)
    _check_distinct({name: stored[name] for name in wanted if name in stored}, option)
    result = {name: stored[name] for name in wanted if name in stored}
    taken = set(stored.values())
    free = (number for number in range(1, capacity + 1) if number not in taken)
    for name in wanted:
        if name in result:
            _check(name, result[name], capacity, option)
            continue
        number = next(free, None)
        if number is None:
            raise _full(wanted, capacity, option)
        result[name] = number
    return result


def _check_distinct(numbers: Mapping[str, int], option: str) -> None:
    """A document changed by hand may give one id to two names; their connections could not be told apart."""
    owners: dict[int, str] = {}
    for name, number in numbers.items():
        if owners.setdefault(number, name) != name:
            problem = f"has the stored id {number}, which is also that of {owners[number]}"
            raise InputError(option, name, problem, "Take one of them out of 'ids' in the stored document")


def _check(name: str, number: int, capacity: int, option: str) -> None:
    if number > capacity:
        raise InputError(
            option,
            name,
            f"has the stored id {number}, and the mask holds only {capacity}",
            "Give a wider mark_mask",
        )


def _full(wanted: list[str], capacity: int, option: str) -> InputError:
    return InputError(
        option,
        f"{len(wanted)} links and policies",
        f"do not fit the mark_mask, which holds {capacity} ids; ids of those that go now are free from the next run on",
        "Give a wider mark_mask, such as 0xff00 for 255, or take some away first",
    )
