# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The archive for Galaxy installs without a network, holds what users need and nothing else, and works."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
SHIPPED = {"plugins", "roles", "playbooks", "meta", "docs", "changelogs", "LICENSES"}
PAGES = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "COPYING"}
# of ansible-galaxy
LISTS = {"MANIFEST.json", "FILES.json"}
# What lies about in a checkout that is worked in
CLUTTER = [".venv/bin/python", ".cache/x", "docs/_build/index.html", "plugins/__pycache__/x.pyc", "old-0.0.1.tar.gz"]


class Installed:
    """The collection as a user has it who installed the archive."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self.root = scratch / "collections/ansible_collections/multiwan/linux"

    def run(self, *command: str) -> str:
        """Without the settings of this machine, and where whatever asks a server fails."""
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._scratch),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_HOME": str(self._scratch / "ansible"),
            "ANSIBLE_COLLECTIONS_PATH": str(self._scratch / "collections"),
            "ANSIBLE_GALAXY_SERVER": "http://127.0.0.1:9/",
        }
        done = subprocess.run(command, env=env, cwd=self._scratch, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def files(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if not path.is_dir()}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    scratch = tmp_path_factory.mktemp("artifact")
    source = scratch / "source"
    subprocess.run([CHECKOUT / "tools/export.sh", source], check=True)
    for name in CLUTTER:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("clutter\n")
    collection = Installed(scratch)
    collection.run("ansible-galaxy", "collection", "build", "--output-path", str(scratch), str(source))
    (archive,) = scratch.glob("multiwan-linux-*.tar.gz")
    collection.run("ansible-galaxy", "collection", "install", "--offline", str(archive))
    return collection


def names(*patterns: str) -> set[str]:
    """What plugins, playbooks or roles the checkout has, by their full names."""
    paths = {path for pattern in patterns for path in CHECKOUT.glob(pattern)}
    return {f"multiwan.linux.{path.stem}" for path in paths if path.name != "__init__.py"}


def test_it_holds_what_users_need_and_nothing_else(installed: Installed) -> None:
    listed = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *SHIPPED, *PAGES], cwd=CHECKOUT, text=True
    )
    wanted = {name for name in listed.splitlines() if (CHECKOUT / name).exists()}
    shipped = installed.files() - LISTS
    assert {Path(name).parts[0] for name in shipped} == SHIPPED | PAGES
    assert shipped <= wanted
    # what is left out under these directories makes the archive, and is of no use once it is made
    unpacked = wanted - shipped
    assert all(name == "docs/conf.py" or name.startswith("changelogs/fragments/") for name in unpacked), unpacked
    assert {"docs/index.md", "docs/images/topology.svg"} <= shipped


def test_it_needs_no_other_collection(installed: Installed) -> None:
    about = json.loads((installed.root / "MANIFEST.json").read_text())["collection_info"]
    assert (about["namespace"], about["name"], about["dependencies"]) == ("multiwan", "linux", {})
    assert all(about[key] for key in ("version", "authors", "license", "tags", "description", "repository", "issues"))


@pytest.mark.parametrize(
    ("kind", "pattern"), [("module", "plugins/modules/*.py"), ("filter", "plugins/filter/*"), ("role", "roles/*")]
)
def test_everything_in_it_is_documented(installed: Installed, kind: str, pattern: str) -> None:
    told = installed.run("ansible-doc", "--json", "--list", "--type", kind, "multiwan.linux")
    assert set(json.loads(told)) == names(pattern)


def test_its_playbooks_are_found_by_name_and_can_be_read(installed: Installed) -> None:
    playbooks = names("playbooks/*.yml")
    assert "multiwan.linux.site" in playbooks
    told = installed.run("ansible-playbook", "--syntax-check", "--inventory", "router,", *sorted(playbooks))
    assert told.count("playbook: ") == len(playbooks)


def test_it_is_kept_only_when_every_other_job_went_well() -> None:
    jobs = yaml.safe_load((CHECKOUT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    assert set(jobs["archive"]["needs"]) == set(jobs) - {"archive"}
