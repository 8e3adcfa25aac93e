# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What a virtual environment is made of: nothing that runs as root is fetched unseen."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.multiwan.linux.plugins.module_utils.environment import Environment, Wheels

ROLE = Path(__file__).resolve().parents[2] / "roles/router"
PINNED = re.compile(r"[a-z0-9-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64}\Z")
PYPI = Wheels()


def requirements(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


class Pip:
    """Notes what it is asked, and makes nothing but the directory."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def run(self, command: list[str], _text: str) -> tuple[int, str, str]:
        self.asked.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir()
        return 0, "", ""


def make(directory: Path, texts: list[str], wheels: Wheels = PYPI) -> Pip:
    pip = Pip()
    for step in Environment(str(directory), "/usr/bin/python3", texts, wheels, pip.run).steps():
        step.work()
    return pip


def of_role(**variables: Any) -> list[list[str]]:
    """The requirements of each run of pip that the role asks for."""
    return [requirements(text) for text in asked_by_role(**variables)["requirements"]]


def asked_by_role(**variables: Any) -> dict[str, Any]:
    extra = json.dumps({"mwan_firewall_backend": "iptables", **variables})
    ansible = [sys.executable, "-m", "ansible", "adhoc", "localhost", "-i", "localhost,", "--playbook-dir", ROLE]
    files = ["-e", f"@{ROLE}/defaults/main.yml", "-e", f"@{ROLE}/vars/main.yml", "-e", extra]
    done = subprocess.run([*ansible, *files, "-m", "debug", "-a", "var=mwan_venv"], capture_output=True, check=True)
    asked: dict[str, Any] = json.loads(done.stdout.decode().partition("=> ")[2])["mwan_venv"]
    return asked


@pytest.mark.parametrize("name", sorted(path.name for path in (ROLE / "files").glob("requirements*.txt")))
def test_all_that_is_installed_is_pinned_with_its_hash(name: str) -> None:
    wanted = requirements((ROLE / "files" / name).read_text())
    assert wanted
    assert all(PINNED.match(line) for line in wanted)


def test_pip_compiles_with_what_was_installed_before_and_fetches_nothing_for_it(tmp_path: Path) -> None:
    pip = make(tmp_path, ["setuptools\n", "python-iptables\n"])
    installs = [command for command in pip.asked if "install" in command]
    assert len(installs) == 2
    assert all("--no-build-isolation" in command for command in installs)


def test_source_is_compiled_with_pinned_tools_and_a_wheel_is_taken_as_it_was_built() -> None:
    names = [[line.partition("==")[0] for line in texts] for texts in of_role()]
    assert names == [["pyroute2"], ["setuptools", "wheel"], ["python-iptables"]]
    assert all(PINNED.match(line) for texts in of_role() for line in texts)
    pyroute2, compiled = of_role(mwan_wheels="wheels")
    assert PINNED.match(pyroute2[0])
    assert compiled == ["python-iptables==1.2.0"]


def test_other_wheels_make_another_environment_and_those_of_the_former_go(tmp_path: Path) -> None:
    place, texts = tmp_path / "wheels", ["pyroute2\n"]
    place.mkdir()
    for name in ("old.whl", "new.whl"):
        (place / name).touch()
    assert make(tmp_path, texts, Wheels(str(place), ["old.whl", "new.whl"])).asked
    former = os.readlink(tmp_path / "venv")
    assert not make(tmp_path, texts, Wheels(str(place), ["new.whl", "old.whl"])).asked
    pip = make(tmp_path, texts, Wheels(str(place), ["new.whl"]))
    assert ["--no-index", "--find-links", str(place)] in (command[7:10] for command in pip.asked)
    assert os.readlink(tmp_path / "venv") != former
    assert [path.name for path in place.iterdir()] == ["new.whl"]


def test_role_tells_the_names_of_the_wheels(tmp_path: Path) -> None:
    (tmp_path / "pyroute2-0.9.7-py3-none-any.whl").touch()
    assert asked_by_role(mwan_wheels=str(tmp_path))["wheel_names"] == ["pyroute2-0.9.7-py3-none-any.whl"]
    assert asked_by_role()["wheel_names"] == []
