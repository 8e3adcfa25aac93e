# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Scenarios of molecule that are others in part."""

from __future__ import annotations

from pathlib import Path

MOLECULE = Path(__file__).parents[2] / "molecule"


def files(scenario: str) -> dict[str, str]:
    """Contents by relative path, but for what a scenario says of itself."""
    base = MOLECULE / scenario
    found = (path for path in base.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(base)): path.read_text() for path in found if path.name != "molecule.yml"}


def test_another_distribution_is_asked_all_that_the_first_one_is() -> None:
    """By links to files: ansible-test takes none to directories."""
    assert files("trixie") == files("default")
    assert {path for path in MOLECULE.rglob("*") if path.is_symlink() and path.is_dir()} == set()
