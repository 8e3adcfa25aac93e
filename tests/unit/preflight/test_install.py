# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How what is missing comes onto a host."""

from __future__ import annotations

from typing import Any

import pytest
from _mwan.preflight.facts import Asked, Facts, Os, Python
from _mwan.preflight.install import Install, decide, has_pyroute2, missing, numbers
from hypothesis import given
from hypothesis import strategies as st

BOOKWORM = Os("debian", "12")
JAMMY, NOBLE = Os("ubuntu", "22.04", ("debian",)), Os("ubuntu", "24.04", ("debian",))
ROCKY = Os("rocky", "9.4", ("rhel", "centos", "fedora"))
ROCKY_10 = Os("rocky", "10.1", ROCKY.like)
NFT = frozenset({"nft"})


def host(os: Os = BOOKWORM, pyroute2: str | None = None, iptc: str | None = None, **other: Any) -> Facts:
    python = Python("3.11", pyroute2, iptc, venv=other.pop("venv", True), packaged=other.pop("packaged", True))
    return Facts(os=os, python=python, **other)


@pytest.mark.parametrize(
    ("facts", "how", "packages"),
    [
        (host(), "packages", ["python3-pyroute2", "nftables"]),
        (host(programs=NFT), "packages", ["python3-pyroute2"]),
        (host(pyroute2="0.7.2"), "packages", ["nftables"]),
        (host(pyroute2="0.7.2", programs=NFT), "none", []),
        # of a release that nothing tells
        (host(pyroute2="", programs=NFT), "none", []),
        (host(NOBLE), "packages", ["python3-pyroute2", "nftables"]),
        (host(JAMMY), "venv", ["nftables"]),
        (host(JAMMY, venv=False), "venv", ["python3-venv", "nftables"]),
        (host(JAMMY, pyroute2="0.5.14", programs=NFT), "venv", []),
        # what is new enough was brought by somebody, and the rest is packaged
        (host(JAMMY, pyroute2="0.9.2"), "packages", ["nftables"]),
        (host(Os("debian", "11")), "venv", ["nftables"]),
        (host(Os("raspbian", "11", ("debian",))), "venv", ["nftables"]),
        (host(Os("debian", "")), "packages", ["python3-pyroute2", "nftables"]),
        (host(ROCKY_10, epel=True), "packages", ["python3-pyroute2", "nftables"]),
        (host(ROCKY_10), "venv", ["nftables"]),
        # EPEL 9 has 0.5.14
        (host(ROCKY, epel=True), "venv", ["nftables"]),
        (host(ROCKY, "0.5.14", epel=True), "venv", ["nftables"]),
        # what is there and too old is the package, or hides it
        (host(ROCKY_10, "0.5.14", epel=True), "venv", ["nftables"]),
        (host(BOOKWORM, "0.5.14"), "venv", ["nftables"]),
        (host(Os("exotic", "1"), "0.5.14"), "venv", ["nftables"]),
        (host(ROCKY, venv=False), "venv", ["nftables"]),
        (host(Os("rhel", "8.9", ("fedora",)), epel=True), "venv", ["nftables"]),
        (host(Os("fedora", "41")), "packages", ["python3-pyroute2", "nftables"]),
        (host(Os("arch", "", ())), "packages", ["python-pyroute2", "nftables"]),
        (host(Os("opensuse-leap", "15.6", ("suse", "opensuse"))), "venv", ["nftables"]),
        (host(Os("exotic", "1")), "packages", ["python3-pyroute2", "nftables"]),
        (host(Os()), "packages", ["python3-pyroute2", "nftables"]),
        # of another Python, which has no use for packages of libraries
        (host(packaged=False), "venv", ["nftables"]),
        (host(pyroute2="0.7.2", packaged=False), "packages", ["nftables"]),
        (host(pyroute2="0.7.2", backend="iptables", packaged=False), "venv", ["iptables"]),
        # over iptables
        (host(backend="iptables"), "packages", ["python3-pyroute2", "python3-iptables", "iptables"]),
        (host(pyroute2="0.7.2", iptc="1.0.1", backend="iptables"), "packages", ["iptables"]),
        (host(ROCKY, epel=True, backend="iptables"), "venv", ["iptables-legacy"]),
        (host(JAMMY, iptc="1.0.0", backend="iptables", programs=frozenset({"iptables-legacy"})), "venv", []),
    ],
)
def test_installation_is_chosen_by_what_there_is_and_how_old_the_packages_are(
    facts: Facts, how: str, packages: list[str]
) -> None:
    assert decide(Asked(), facts)[:2] == (how, tuple(packages))


@pytest.mark.parametrize(
    ("facts", "compiler"),
    [
        (host(JAMMY, backend="iptables"), ("gcc", "python3-dev")),
        (host(ROCKY, backend="iptables"), ("gcc", "python3-devel")),
        (host(JAMMY, backend="iptables", programs=frozenset({"gcc"})), ()),
        (host(JAMMY, iptc="1.2.0", backend="iptables"), ()),
        (host(JAMMY), ()),
        # packages are built
        (host(BOOKWORM, backend="iptables"), ()),
    ],
)
def test_compiler_is_needed_only_where_python_iptables_is_built(facts: Facts, compiler: tuple[str, ...]) -> None:
    assert decide(Asked(), facts).compiler == compiler


@pytest.mark.parametrize(
    ("install", "facts", "how", "packages"),
    [
        ("none", host(), "none", []),
        ("packages", host(JAMMY), "packages", ["python3-pyroute2", "nftables"]),
        ("packages", host(pyroute2="0.7.2", programs=NFT), "none", []),
        ("packages", host(ROCKY, backend="iptables"), "packages", ["python3-pyroute2", "iptables-legacy"]),
        ("venv", host(), "venv", ["nftables"]),
        ("venv", host(pyroute2="0.7.2", programs=NFT), "venv", []),
    ],
)
def test_what_is_asked_for_is_done(install: str, facts: Facts, how: str, packages: list[str]) -> None:
    assert decide(Asked(install=install), facts) == Install(how, tuple(packages))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.7.2", (0, 7, 2)), ("0.9.7.post1", (0, 9, 7)), ("24.04", (24, 4)), ("1.46.0-3.el9", (1, 46, 0)), ("sid", ())],
)
def test_versions_are_read_up_to_what_is_no_number(text: str, expected: tuple[int, ...]) -> None:
    assert numbers(text) == expected


@given(
    os=st.builds(
        Os, st.sampled_from(["debian", "ubuntu", "rocky", "x", ""]), st.text(max_size=6), st.just(("debian",))
    ),
    release=st.sampled_from([None, "", "0.5.14", "0.7.1", "0.7.2", "0.9.7", "1.0"]),
    iptc=st.sampled_from([None, "", "1.0.1"]),
    programs=st.frozensets(st.sampled_from(["nft", "iptables-legacy"])),
    backend=st.sampled_from(["nftables", "iptables"]),
    asked=st.builds(Asked, install=st.sampled_from(["auto", "packages", "venv", "none"])),
    epel=st.booleans(),
    packaged=st.booleans(),
)
def test_after_it_nothing_is_missing(
    os: Os, release: str | None, iptc: str | None, asked: Asked, **others: Any
) -> None:
    facts = host(os, release, iptc, **others)
    how, packages, _compiler = decide(asked, facts)
    assert how == "none" or asked.install in ("auto", how)
    if how == "none":
        assert not packages
        assert asked.install == "none" or not missing(facts)
    # a program is packaged, whatever Python is used; a library is in one of both
    program = {"nftables": "nft", "iptables": "iptables-legacy"}[facts.backend]
    if how != "none":
        assert (program in facts.programs) is not any(name in packages for name in ("nftables", "iptables"))
    if how == "packages":
        assert has_pyroute2(facts) is not any("pyroute2" in name for name in packages)
    if how == "venv":
        assert not any("pyroute2" in name or name == "python3-iptables" for name in packages)
