# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""How what is missing comes onto the host: nothing to do, packages of the distribution, or a virtual environment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from .facts import IPTABLES, NONE, PACKAGES, PYROUTE2, VENV, Asked, Facts, Os


class Names(NamedTuple):
    """How a family of distributions calls what we need; '' where it has none, or has it with Python.

    `compiler` is what builds python-iptables.
    """

    pyroute2: str
    nft: str
    iptc: str
    iptables: str
    venv: str
    compiler: tuple[str, ...] = ("gcc", "python3-devel")


NAMES = {
    "debian": Names(
        "python3-pyroute2", "nftables", "python3-iptables", "iptables", "python3-venv", ("gcc", "python3-dev")
    ),
    "rhel": Names("python3-pyroute2", "nftables", "", "iptables-legacy", ""),
    "fedora": Names("python3-pyroute2", "nftables", "", "iptables-legacy", ""),
    "suse": Names("python3-pyroute2", "nftables", "", "iptables", ""),
    "arch": Names("python-pyroute2", "nftables", "", "iptables-legacy", "", ("gcc",)),
    "alpine": Names("py3-pyroute2", "nftables", "", "iptables-legacy", "", ("gcc", "musl-dev", "python3-dev")),
}
USUAL = NAMES["debian"]._replace(venv="")
# the first release of each distribution whose pyroute2 is PYROUTE2 or newer; that of EL is in EPEL, which has 0.5.14
# for 9 and 0.7.12 for 10
NEW_ENOUGH = {
    "debian": (12,),
    "ubuntu": (24, 4),
    "rhel": (10,),
    "fedora": (38,),
    "opensuse-leap": (16,),
    "sles": (16,),
}
# relatives count as what they are made of only where they share its numbers
NUMBERED_AS = {**dict.fromkeys(("centos", "rocky", "almalinux", "ol"), "rhel"), "raspbian": "debian"}


class Install(NamedTuple):
    """`how` is what has to be done (none, packages, venv), `packages` what has to be installed for it.

    `compiler` has to be, too, where python-iptables is not brought as a wheel: the package index has none.
    """

    how: str
    packages: tuple[str, ...] = ()
    compiler: tuple[str, ...] = ()


def decide(asked: Asked, facts: Facts) -> Install:
    how = _how(asked, facts)
    if how == NONE:
        return Install(how)
    builds = how == VENV and not _has_iptc(facts) and "gcc" not in facts.programs
    return Install(how, tuple(_packages(how, facts)), _names(facts.os).compiler if builds else ())


def missing(facts: Facts) -> list[str]:
    """What is needed and not there."""
    needed = {"pyroute2": has_pyroute2(facts)}
    if facts.backend == IPTABLES:
        needed.update({"python-iptables": _has_iptc(facts), IPTABLES: "iptables-legacy" in facts.programs})
    else:
        needed["nft"] = "nft" in facts.programs
    return [name for name, found in needed.items() if not found]


def has_pyroute2(facts: Facts) -> bool:
    """What nothing tells the release of is let pass: it is the distribution's, and loads."""
    release = facts.python.pyroute2
    return release == "" or (release is not None and numbers(release) >= PYROUTE2)


def _has_iptc(facts: Facts) -> bool:
    return facts.backend != IPTABLES or facts.python.iptc is not None


def numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version."""
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _how(asked: Asked, facts: Facts) -> str:
    if asked.install in (NONE, VENV):
        return asked.install
    if not missing(facts):
        return NONE
    return PACKAGES if asked.install == PACKAGES or has_packages(facts) else VENV


def has_packages(facts: Facts) -> bool:
    """Whether the distribution has all that is missing, and new enough; of an unknown one that is presumed."""
    if not facts.python.packaged and not (has_pyroute2(facts) and _has_iptc(facts)):
        return False
    if not _has_iptc(facts) and not _names(facts.os).iptc:
        return False
    if has_pyroute2(facts):
        return True
    # the package may well be there, and be what is too old; or else it would be hidden by what is
    if facts.python.pyroute2 is not None:
        return False
    name = NUMBERED_AS.get(facts.os.id, facts.os.id)
    if name == "rhel" and not facts.epel:
        return False
    first = NEW_ENOUGH.get(name)
    version = numbers(facts.os.version_id)
    return first is None or not version or version >= first


def _names(os: Os) -> Names:
    return next((NAMES[family] for family in os.families if family in NAMES), USUAL)


def _packages(how: str, facts: Facts) -> Iterator[str]:
    names = _names(facts.os)
    if how == VENV:
        yield from [names.venv] * (not facts.python.venv and bool(names.venv))
    elif not has_pyroute2(facts):
        yield names.pyroute2
    if facts.backend != IPTABLES:
        yield from [names.nft] * ("nft" not in facts.programs)
        return
    if how != VENV and names.iptc and not _has_iptc(facts):
        yield names.iptc
    yield from [names.iptables] * ("iptables-legacy" not in facts.programs)
