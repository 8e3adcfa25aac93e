# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at this host: files, what its kernel tells of itself, and one program for the rest."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from glob import glob
from importlib.util import find_spec

from ..errors import KernelError
from ..firewall.iptables import legacy_in_use
from ..firewall.nftables import SBIN, Runner
from ..store import KEPT
from .configs import assignments, mapping
from .facts import AUTO, IPTABLES, NFTABLES, Asked, Facts, Os, Python
from .managers import BALANCERS, SYSCTLS, SYSTEMD, TUNNELS
from .trial import RESTORE, try_kernel

PROGRAMS = ("nft", "iptables-legacy", RESTORE, "gcc")
UNITS = ("systemd-networkd", "NetworkManager", "firewalld", "docker")
TEXTS = (
    "/etc/os-release",
    "/usr/lib/os-release",
    *(f"{directory}/systemd/networkd.conf" for directory in SYSTEMD),
    *(f"{directory}/systemd/networkd.conf.d/*.conf" for directory in SYSTEMD),
    *SYSCTLS,
    "/etc/firewalld/firewalld.conf",
    "/etc/firewalld/zones/*.xml",
    "/etc/firewalld/policies/*.xml",
    "/etc/default/ufw",
    "/etc/ufw/*.conf",
    "/etc/ufw/*.rules",
    "/etc/docker/daemon.json",
    TUNNELS,
    *BALANCERS,
)
CAP_NET_ADMIN = 12  # linux/capability.h
# a release of the distribution's that nobody can tell: it was built without its version control
UNKNOWN = re.compile(r"0(\.0)*(\.post\d+)?(\+.*)?\Z")


class Host:
    """`root` is where its files are; `run(command, stdin)` starts a program, as in firewall/nftables.py."""

    def __init__(self, run: Runner, root: str = "") -> None:
        self._run = run
        self._root = root

    def facts(self, asked: Asked) -> Facts:
        texts = dict(self._texts())
        backend = self._backend(asked)
        privileged = self._privileged()
        programs = frozenset(name for name in PROGRAMS if shutil.which(name, path=SBIN))
        return Facts(
            os=_os(texts),
            python=self._python(),
            backend=backend,
            programs=programs,
            root=privileged,
            systemd=self._exists("/run/systemd/system"),
            sysctls_writable=os.access(self._root + "/proc/sys/net/ipv4/ip_forward", os.W_OK),
            multipath=self._exists("/proc/sys/net/ipv4/fib_multipath_hash_policy"),
            epel=any(re.search(r"^enabled\s*=\s*1", text, re.M) for text in self._read("/etc/yum.repos.d/epel*.repo")),
            connections=self._connections(),
            ipv6=self._ipv6(),
            network_manager=self._network_manager(),
            iptables_by_nft=privileged and backend == IPTABLES and self._iptables_by_nft(),
            units=frozenset(f"{name}.service" for name in UNITS if self._used(f"{name}.service")),
            texts=texts,
            filter=self._filter() if privileged and self._used("docker.service") else "",
            kernel=try_kernel(self._run, backend, programs) if privileged else Facts.kernel,
        )

    # the host

    def _privileged(self) -> bool:
        """Root is not enough in a container that was given no such capability."""
        status = assignments(text.replace(":", "=") for text in self._read("/proc/self/status"))
        return bool(int(status.get("CapEff", "0"), 16) >> CAP_NET_ADMIN & 1) and os.geteuid() == 0

    def _connections(self) -> int | None:
        return next((int(text) for text in self._read("/proc/sys/net/netfilter/nf_conntrack_max")), None)

    def _ipv6(self) -> bool:
        """Whether a device has an address of more than its segment; the fourth word is the scope, 00 for global."""
        lines = next(self._read("/proc/net/if_inet6"), "").splitlines()
        return any(line.split()[3] == "00" for line in lines)

    def _backend(self, asked: Asked) -> str:
        """That which the modules would choose once what is missing is installed (flow.choose_backend)."""
        if asked.backend != AUTO:
            return asked.backend
        kept = mapping(next(self._read(KEPT), "")).get("backend")
        if kept in (NFTABLES, IPTABLES):
            return str(kept)
        with suppress(KernelError):
            return IPTABLES if legacy_in_use() else NFTABLES
        return NFTABLES

    def _python(self) -> Python:
        return Python(
            version=platform.python_version(),
            pyroute2=self._release("pyroute2", "pyroute2"),
            iptc=self._release("iptc", "python_iptables"),
            venv=self._makes_venvs(),
            packaged=_is_of_the_distribution(),
        )

    def _release(self, module: str, distribution: str) -> str | None:
        """The release of an installed library, '' where nothing tells it.

        By the name of the metadata beside it: importlib.metadata takes longer to load than the whole look.
        """
        spec = find_spec(module)
        if spec is None or not spec.origin:
            return None
        beside = os.listdir(os.path.dirname(os.path.dirname(spec.origin)))
        form = re.compile(rf"{distribution}-([^-]+?)(?:-py[\d.]+)?\.(?:dist|egg)-info\Z")
        told = next((match[1] for match in map(form.match, beside) if match), "0")
        return self._packaged(f"python3-{module}") if UNKNOWN.match(told) else told

    def _makes_venvs(self) -> bool:
        """Whether the distribution's Python can, by its own pip; Debian and Ubuntu package that separately."""
        release = os.path.basename(os.path.realpath(f"{self._root}/usr/bin/python3"))
        return bool(glob(f"{self._root}/usr/lib*/{release}/ensurepip"))

    def _packaged(self, package: str) -> str:
        """What dpkg has installed: Debian and Ubuntu package pyroute2 without its release."""
        listed = next(self._read("/var/lib/dpkg/status"), "")
        found = re.search(rf"^Package: {package}\n(?:.+\n)*?Version: (?:\d+:)?([\d.]+)", listed, re.M)
        return found[1] if found else ""

    # other software

    def _used(self, unit: str) -> bool:
        """Whether it runs, or is started at boot; systemd keeps a link for each unit that is active."""
        return self._exists(f"/run/systemd/units/invocation:{unit}") or bool(
            glob(f"{self._root}/etc/systemd/system/*.wants/{unit}")
        )

    def _network_manager(self) -> str:
        """Its release, by the name of the directory of its plugins."""
        places = [glob(f"{self._root}/usr/{place}/NetworkManager/[0-9]*") for place in ("lib", "lib64", "lib/*")]
        return next((os.path.basename(path) for found in places for path in sorted(found)), "")

    def _iptables_by_nft(self) -> bool:
        """Whether the variant of iptables that speaks to nftables has tables here."""
        program = shutil.which("iptables-nft-save", path=SBIN)
        return bool(program and re.search(r"^\*", self._run([program], "")[1], re.M))

    def _filter(self) -> str:
        """The filter table of iptables; its variant of nftables cannot tell of one that holds what it does not know."""
        program = shutil.which("iptables-save", path=SBIN)
        return self._run([program, "-t", "filter"], "")[1] if program else ""

    # files

    def _exists(self, path: str) -> bool:
        return os.path.lexists(self._root + path)

    def _texts(self) -> Iterator[tuple[str, str]]:
        for pattern in TEXTS:
            for path in glob(self._root + pattern):
                with suppress(OSError):
                    yield path[len(self._root) :], _text(path)

    def _read(self, pattern: str) -> Iterator[str]:
        for path in sorted(glob(self._root + pattern)):
            with suppress(OSError):
                yield _text(path)


def _is_of_the_distribution() -> bool:
    """Whether this is what its packages of libraries are for: no virtual environment, and no other release."""
    real = (os.path.realpath(path) for path in (sys.executable, "/usr/bin/python3"))
    return sys.prefix == sys.base_prefix and len(set(real)) == 1


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as handle:
        return handle.read()


def _os(texts: dict[str, str]) -> Os:
    known = assignments([texts.get("/etc/os-release") or texts.get("/usr/lib/os-release", "")])
    return Os(known.get("ID", ""), known.get("VERSION_ID", ""), tuple(known.get("ID_LIKE", "").split()))
