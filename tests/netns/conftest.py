# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Tests against the real kernel, in namespaces of their own; skipped, with the reason, where that is impossible."""

from __future__ import annotations

import os
import shutil
import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path

import ansible
import pytest
from _mwan.firewall.iptables import Iptables
from lab import hostguard, topology
from lab.topology import Topology

NEEDED = ("ip", "nft", "unshare", "nsenter", "tc")


def why_not() -> str | None:
    """The reason these tests cannot run here, if there is one."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        return f"needs {', '.join(missing)} (packages iproute2, nftables, util-linux)"
    tried = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, text=True, check=False)
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    ours = [item for item in items if here in item.path.parents]
    reason = why_not() if ours else None
    if reason:
        for item in ours:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def machine_left_alone() -> Iterator[None]:
    """Fails the run when the machine's own network configuration changed under it."""
    before = hostguard.machine_state()
    yield
    changed = hostguard.differences(before, hostguard.machine_state())
    assert not changed, f"the tests, or something else meanwhile, changed this machine:\n{changed}"


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter that has Ansible's modules, but neither pyroute2 nor python-iptables."""
    place = tmp_path_factory.mktemp("bare")
    venv.create(place, symlinks=True)
    site = next((place / "lib").iterdir()) / "site-packages"
    (site / "ansible").symlink_to(Path(ansible.__file__).parent, target_is_directory=True)
    return str(place / "bin" / "python")


@pytest.fixture
def two_links() -> Iterator[Topology]:
    with topology.two_links() as built:
        yield built


@pytest.fixture
def three_links() -> Iterator[Topology]:
    with topology.three_links() as built:
        yield built


@pytest.fixture
def same_gateway() -> Iterator[Topology]:
    with topology.same_gateway() as built:
        yield built


@pytest.fixture
def shared_segment() -> Iterator[Topology]:
    with topology.shared_segment() as built:
        yield built


@pytest.fixture
def existing_routers() -> Iterator[Topology]:
    with topology.existing_routers() as built:
        yield built


@pytest.fixture
def point_to_point() -> Iterator[Topology]:
    if not Path("/dev/net/tun").exists():
        pytest.skip("no /dev/net/tun")
    with topology.point_to_point() as built:
        yield built


@pytest.fixture
def dhcp() -> Iterator[Topology]:
    with topology.dhcp() as built:
        yield built


@pytest.fixture(params=["nftables", "iptables"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each firewall the router can be managed with; what works over one works over the other."""
    if request.param == "iptables" and (problem := Iptables().unavailable()):
        pytest.skip(problem)
    return str(request.param)
