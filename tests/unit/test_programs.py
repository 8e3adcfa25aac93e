# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The programs of the role, as far as they are more than a command line: how they run others."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from _mwan.errors import KernelError
from unit import programs
from unit.programs import FILES

LIBRARY = Path(__file__).parents[2] / "plugins/module_utils/_mwan"
PROGRAMS = ("mwand", "mwanctl", "mwan-balance")


@pytest.fixture(params=["mwand", "mwanctl"])
def program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return programs.load(str(request.param), monkeypatch)


def test_a_program_that_hangs_is_killed_and_named(program: dict[str, Any]) -> None:
    run = program["run"]
    assert run(["sh", "-c", "cat; echo oops >&2; exit 3"], "text") == (3, "text", "oops\n")
    run.__globals__["PATIENCE"] = 0.2
    begun = time.monotonic()
    with pytest.raises(KernelError, match="run sleep: it did not end"):
        run(["sleep", "20"], "")
    assert time.monotonic() < begun + 5


def test_a_python_without_the_library_is_named_in_one_line_with_what_to_do(tmp_path: Path) -> None:
    """As that of a virtual environment whose distribution was upgraded."""
    (tmp_path / "mwan").symlink_to(LIBRARY)
    (tmp_path / "mwanctl").write_text((FILES / "mwanctl").read_text())
    bare = [sys.executable, "-I", "-S", "-B", tmp_path / "mwanctl"]
    for command in ("status", "diff"):
        done = subprocess.run([*bare, command], capture_output=True, text=True, check=False)
        assert done.returncode == (2 if command == "diff" else 1)
        (line,) = done.stderr.splitlines()
        assert "No module named 'pyroute2'" in line
        assert "run the role again" in line


def test_what_programs_import_travels_with_the_module() -> None:
    """Ansible sends what is imported, so each part of the library has to be reached from the entry points."""
    code = (
        "import sys; from ansible_collections.multiwan.linux.plugins.module_utils import library;"
        "print(*(name.partition('._mwan.')[2] for name in sys.modules if '._mwan.' in name))"
    )
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    sent = set(subprocess.check_output([sys.executable, "-c", code], text=True, env=path).split())
    lines = [line.split() for name in PROGRAMS for line in (FILES / name).read_text().splitlines()]
    imported = {(words[1], word.strip(",")) for words in lines if words[:1] == ["from"] for word in words[3:]}
    ours = {(module.partition(".")[2], name) for module, name in imported if module.split(".")[0] == "mwan"}
    assert len(ours) > 20
    files = {name: LIBRARY / module.replace(".", "/") / f"{name}.py" for module, name in ours}
    parts = {
        str(path.relative_to(LIBRARY).with_suffix("")).replace("/", ".") for path in files.values() if path.exists()
    }
    assert {module for module, _name in ours if module} | parts <= sent
