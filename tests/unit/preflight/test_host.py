# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of a host, from a tree of files, and what its kernel is asked, by a runner that answers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from _mwan.preflight import host, trial
from _mwan.preflight.facts import Asked, Facts, Kernel, Os
from _mwan.preflight.findings import CHOICES
from _mwan.preflight.host import Host

MIGHTY = "Name:\tpython3\nCapEff:\t000001ffffffffff\n"
POWERLESS = "Name:\tpython3\nCapEff:\t00000000a80405fb\n"
BY_NFT = Asked(backend="nftables")


class Programs:
    """A runner of programs: status and error output by a word of the command or its input, 0 for all others."""

    def __init__(self, refusals: Mapping[str, tuple[int, str]] | None = None, output: str = "") -> None:
        self.refusals = refusals or {}
        self.output = output
        self.ran: list[list[str]] = []

    def __call__(self, command: list[str], text: str) -> tuple[int, str, str]:
        self.ran.append(command)
        words = "\n".join([*command, text])
        for word, (status, err) in self.refusals.items():
            if word in words:
                return status, "", err
        return 0, self.output, ""


def tree(root: Path, files: Mapping[str, str]) -> str:
    for name, text in {"/proc/self/status": MIGHTY, **files}.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return str(root)


def facts(root: Path, files: Mapping[str, str], asked: Asked = BY_NFT, run: Programs | None = None) -> Facts:
    return Host(run or Programs(), tree(root, files)).facts(asked)


def test_host_is_read_from_its_files(tmp_path: Path) -> None:
    found = facts(
        tmp_path,
        {
            "/etc/os-release": 'ID="rocky"\nVERSION_ID="9.4"\nID_LIKE="rhel centos fedora"\n',
            "/proc/sys/net/ipv4/ip_forward": "0\n",
            "/proc/sys/net/ipv4/fib_multipath_hash_policy": "0\n",
            "/proc/sys/net/netfilter/nf_conntrack_max": "65536\n",
            "/proc/net/if_inet6": "00000000000000000000000000000001 01 80 10 80 lo\n"
            "20010db8000000000000000000000001 02 40 00 80 eth0\n",
            "/run/systemd/system/x": "",
            "/etc/yum.repos.d/epel.repo": "[epel]\nenabled=1\n",
            "/usr/lib64/NetworkManager/1.46.0-3.el9/libnm-settings-plugin-ifcfg-rh.so": "",
            "/etc/systemd/networkd.conf.d/mwan.conf": "[Network]\n",
            "/run/systemd/units/invocation:firewalld.service": "",
            "/etc/systemd/system/multi-user.target.wants/docker.service": "",
        },
    )
    assert found.os == Os("rocky", "9.4", ("rhel", "centos", "fedora"))
    assert (found.systemd, found.sysctls_writable, found.multipath, found.epel, found.ipv6) == (True,) * 5
    assert (found.connections, found.network_manager) == (65536, "1.46.0-3.el9")
    assert found.units == {"firewalld.service", "docker.service"}
    assert found.texts["/etc/systemd/networkd.conf.d/mwan.conf"] == "[Network]\n"
    assert "/usr/lib64" not in found.texts


def test_what_is_not_there_is_told_so(tmp_path: Path) -> None:
    found = facts(
        tmp_path,
        {
            "/proc/net/if_inet6": "fe800000000000000000000000000001 02 40 20 80 eth0\n",
            "/etc/yum.repos.d/epel.repo": "[epel]\nenabled=0\n",
        },
    )
    assert found.os == Os()
    assert (found.systemd, found.sysctls_writable, found.multipath, found.epel, found.ipv6) == (False,) * 5
    assert (found.connections, found.network_manager, found.units, found.filter) == (None, "", frozenset(), "")


def test_a_link_of_systemd_to_nothing_is_a_unit_that_runs(tmp_path: Path) -> None:
    """It names the invocation, which is no file."""
    (tmp_path / "run/systemd/units").mkdir(parents=True)
    (tmp_path / "run/systemd/units/invocation:systemd-networkd.service").symlink_to("a5eeb9a7fca14c0690295c02c4c2208c")
    assert facts(tmp_path, {}).units == {"systemd-networkd.service"}


def test_os_release_of_the_vendor_counts_where_there_is_no_other(tmp_path: Path) -> None:
    assert facts(tmp_path, {"/usr/lib/os-release": "ID=debian\n"}).os == Os("debian")


@pytest.mark.parametrize(
    ("asked", "kept", "expected"),
    [
        ("auto", '{"backend": "iptables"}', "iptables"),
        ("auto", '{"backend": "nftables"}', "nftables"),
        ("nftables", '{"backend": "iptables"}', "nftables"),
        ("iptables", "{}", "iptables"),
    ],
)
def test_backend_is_the_one_that_the_modules_would_use(tmp_path: Path, asked: str, kept: str, expected: str) -> None:
    found = facts(tmp_path, {"/var/lib/mwan/kept/kept.json": kept}, Asked(backend=asked))
    assert found.backend == expected


@pytest.mark.parametrize(("legacy", "expected"), [(True, "iptables"), (False, "nftables")])
def test_backend_of_a_new_router_follows_what_its_firewall_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, legacy: bool, expected: str
) -> None:
    monkeypatch.setattr(host, "legacy_in_use", lambda: legacy)
    assert facts(tmp_path, {}, Asked()).backend == expected


def test_without_the_capability_nothing_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    run = Programs()
    found = facts(tmp_path, {"/proc/self/status": POWERLESS}, Asked(backend="iptables"), run)
    assert (found.root, found.kernel, run.ran) == (False, Kernel(), [])


@pytest.mark.parametrize(
    ("metadata", "release"),
    [
        ("pyroute2-0.9.7.dist-info", "0.9.7"),
        ("pyroute2-0.7.11-py3.12.egg-info", "0.7.11"),
        ("pyroute2-0.6.9.egg-info", "0.6.9"),
        # distributions build it without its version control; then dpkg is asked
        ("pyroute2-0.post0.egg-info", "0.7.12"),
        ("pyroute2-0.0.0.dist-info", "0.7.12"),
        ("pyroute2.core-0.6.9.egg-info", "0.7.12"),
    ],
)
def test_release_of_a_library_is_that_of_its_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metadata: str, release: str
) -> None:
    library = tmp_path / "site-packages" / "pyroute2" / "__init__.py"
    (tmp_path / "site-packages" / metadata).mkdir(parents=True)
    monkeypatch.setattr(host, "find_spec", lambda name: ModuleSpec(name, None, origin=str(library)))
    status = (
        "Package: python3-pyroute2-minimal\nVersion: 9\n\n"
        "Package: python3-pyroute2\nStatus: install ok installed\nVersion: 1:0.7.12-0ubuntu2\n\n"
        "Package: x\nVersion: 8\n"
    )
    assert facts(tmp_path, {"/var/lib/dpkg/status": status}).python.pyroute2 == release
    unknown = facts(tmp_path, {"/var/lib/dpkg/status": "Package: x\nVersion: 8\n"}).python.pyroute2
    assert unknown == (release if release in metadata else "")


def test_library_that_is_not_there_has_no_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "find_spec", lambda _name: None)
    found = facts(tmp_path, {}).python
    assert (found.pyroute2, found.iptc) == (None, None)


def test_python_makes_virtual_environments_where_it_has_its_own_pip(tmp_path: Path) -> None:
    assert not facts(tmp_path, {"/usr/bin/python3.11": ""}).python.venv
    (tmp_path / "usr/bin/python3").symlink_to("python3.11")
    assert not facts(tmp_path, {"/usr/lib/python3.12/ensurepip/__init__.py": ""}).python.venv
    assert facts(tmp_path, {"/usr/lib64/python3.11/ensurepip/__init__.py": ""}).python.venv


@pytest.mark.parametrize(
    ("executable", "base", "expected"),
    [
        ("/usr/bin/python3", "/usr", True),
        (os.path.realpath("/usr/bin/python3"), "/usr", True),
        ("/usr/bin/python3.99", "/usr", False),
        ("/usr/bin/python3", "/srv/venv", False),
    ],
)
def test_packages_are_for_the_python_of_the_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executable: str, base: str, expected: bool
) -> None:
    monkeypatch.setattr("sys.executable", executable)
    monkeypatch.setattr("sys.prefix", "/usr")
    monkeypatch.setattr("sys.base_prefix", base)
    assert facts(tmp_path, {}).python.packaged is expected


# the kernel

EVERYTHING = ("nft", trial.RESTORE)
ALL = dict.fromkeys(("rules", "multipath", "firewall", *CHOICES, trial.ASKED_FOR))


def test_kernel_that_takes_all_is_asked_twice() -> None:
    run = Programs()
    assert trial.try_kernel(run, "nftables", EVERYTHING).features == ALL
    assert len(run.ran) == 2
    assert all(command[:3] == trial.ALONE for command in run.ran)


@pytest.mark.parametrize(
    ("refusals", "expected"),
    [
        ({"ip rule": (trial.NO_RULES, "no rules")}, {"rules": "no rules"}),
        ({"ip rule": (trial.NO_MULTIPATH, "no weights")}, {"rules": None, "multipath": "no weights"}),
        ({"ip rule": (trial.NO_PROGRAM, "")}, {}),
    ],
)
def test_routing_that_is_refused_is_told(
    refusals: Mapping[str, tuple[int, str]], expected: dict[str, str | None]
) -> None:
    assert trial.try_kernel(Programs(refusals), "nftables", ()).features == expected


def test_queue_that_is_refused_is_told_of_least_connections_only() -> None:
    found = trial.try_kernel(Programs({"queue num": (1, "no queue")}), "nftables", EVERYTHING).features
    assert "no queue" in str(found.pop(trial.ASKED_FOR))
    assert set(found.values()) == {None}


@pytest.mark.parametrize(
    ("word", "lacking"),
    [
        ("numgen random", {"random"}),
        ("numgen inc", {"round_robin"}),
        ("jhash", {"source_hash"}),
        ("timeout", {"sticky"}),
    ],
)
def test_choice_that_is_refused_is_told_by_its_name(word: str, lacking: set[str]) -> None:
    found = trial.try_kernel(Programs({word: (1, "refused")}), "nftables", EVERYTHING).features
    assert {name for name, said in found.items() if said} - {trial.ASKED_FOR} == lacking


def test_source_nat_that_is_refused_is_told_of_the_firewall() -> None:
    for backend, word in (("nftables", "masquerade"), ("iptables", "MASQUERADE")):
        found = trial.try_kernel(Programs({word: (1, "no nat")}), backend, EVERYTHING).features
        assert found["firewall"] == "no nat"


@pytest.mark.parametrize("backend", ["nftables", "iptables"])
def test_sample_has_what_it_is_to_try(backend: str) -> None:
    """It would try nothing if its links were not in service."""
    texts: list[str] = []

    def run(_command: list[str], text: str) -> tuple[int, str, str]:
        texts.append(text)
        return 0, "", ""

    trial.try_kernel(run, backend, EVERYTHING)
    words = {
        "nftables": ("numgen random", "numgen inc", "jhash", "dnat", "snat ip to", "masquerade", "queue num", "reject"),
        "iptables": ("statistic", "DNAT", "SNAT", "MASQUERADE", "NFQUEUE", "REJECT", "CONNMARK", "connmark"),
    }[backend]
    assert [word for word in words if word not in texts[-1]] == []


def test_host_that_makes_no_namespace_is_told_to_be_untried() -> None:
    told = "unshare: unshare failed: Operation not permitted"
    assert trial.try_kernel(Programs({"unshare": (1, told)}), "nftables", EVERYTHING) == Kernel(untried=told)

    def missing(command: list[str], _text: str) -> tuple[int, str, str]:
        raise FileNotFoundError(2, "No such file or directory", command[0])

    assert "No such file" in trial.try_kernel(missing, "nftables", EVERYTHING).untried
