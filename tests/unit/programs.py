# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The programs of the role, read as modules are."""

from __future__ import annotations

import importlib
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

FILES = Path(__file__).parents[2] / "roles/router/files"


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the program defines; on a router, the library is called mwan."""
    for module in list(filter(is_ours, sys.modules)):
        monkeypatch.setitem(sys.modules, module[1:], sys.modules[module])
    source = (FILES / name).read_text()
    for module in [line.split()[1] for line in source.splitlines() if line.startswith("from mwan")]:
        monkeypatch.setitem(sys.modules, module, importlib.import_module(f"_{module}"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    return runpy.run_path(str(FILES / name))


def is_ours(name: str) -> bool:
    return name == "_mwan" or name.startswith("_mwan.")
