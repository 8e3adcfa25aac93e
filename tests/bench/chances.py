# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""How far what was drawn is from what was to be expected. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from itertools import groupby
from math import erfc, exp, gamma, sqrt


def chi_squared(counted: Mapping[str, int], weights: Mapping[str, int]) -> float:
    """Pearson's sum over all of `weights`; what is counted of others has no place in it and is an error."""
    strangers = set(counted) - set(weights)
    if strangers:
        raise ValueError(f"not among the weights: {sorted(strangers)}")
    number, total = sum(counted.values()), sum(weights.values())
    expected = {name: number * weight / total for name, weight in weights.items()}
    return sum((counted.get(name, 0) - should) ** 2 / should for name, should in expected.items())


def probability(statistic: float, freedom: int) -> float:
    """How likely a fair draw has a chi-squared of that or more: the regularised upper gamma function Q(k/2, x/2).

    By Q(a + 1, x) = Q(a, x) + x^a e^-x / Gamma(a + 1), from a = 1/2 or 1 on.
    """
    half = statistic / 2
    order, value = (0.5, erfc(sqrt(half))) if freedom % 2 else (1.0, exp(-half))
    while order < freedom / 2:
        value += half**order * exp(-half) / gamma(order + 1)
        order += 1
    return value


def longest_run(items: Sequence[Hashable]) -> int:
    """How often one and the same came in a row, at most."""
    return max((sum(1 for _unused in run) for _unused, run in groupby(items)), default=0)


def moved(before: Mapping[int, str], after: Mapping[int, str], gone: str) -> int:
    """Clients that were on another link than `gone`, and are not on it any more."""
    return sum(after[client] != link for client, link in before.items() if link != gone and client in after)


def share_cells(came: Sequence[str], links: Sequence[str], weights: Sequence[int]) -> list[str]:
    """Weights, observed shares, chi-squared, its probability, longest run."""
    wanted = dict(zip(links, weights, strict=False))
    counted = Counter(came)
    statistic = chi_squared(counted, wanted)
    observed = " : ".join(f"{counted[link] / len(came):.2%}" for link in wanted)
    chance = probability(statistic, len(wanted) - 1)
    return [":".join(map(str, weights)), observed, f"{statistic:.2f}", f"{chance:.3f}", str(longest_run(came))]


def change_cells(before: dict[int, str], during: dict[int, str], after: dict[int, str], gone: str) -> list[str]:
    """Clients of the dead link, where they went, clients of others that moved, the dead link's that came back."""
    theirs = [client for client, link in before.items() if link == gone]
    refuge = Counter(during[client] for client in theirs)
    taken = " : ".join(f"{number / len(theirs):.1%}" for _link, number in sorted(refuge.items()))
    back = sum(after[client] == gone for client in theirs)
    others = len(before) - len(theirs)
    return [
        str(len(theirs)),
        taken,
        f"{moved(before, during, gone)} of {others}",
        f"{back} of {len(theirs)}",
        str(sum(after[client] != link for client, link in before.items())),
    ]
