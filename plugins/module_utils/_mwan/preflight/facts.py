# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is known of a host before it becomes a router."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch

AUTO, PACKAGES, VENV, NONE = "auto", "packages", "venv", "none"
INSTALLS = (AUTO, PACKAGES, VENV, NONE)
NFTABLES, IPTABLES = "nftables", "iptables"
# the oldest pyroute2 whose messages are known to be right
PYROUTE2 = (0, 7, 2)


@dataclass(frozen=True)
class Asked:
    """What is to run here; `backend` is what was declared, as in the role."""

    service: bool = True
    backend: str = AUTO
    install: str = AUTO


@dataclass(frozen=True)
class Os:
    """Of os-release(5); `like` are the ids that it names as its relatives, nearest first."""

    id: str = ""
    version_id: str = ""
    like: tuple[str, ...] = ()

    @property
    def families(self) -> tuple[str, ...]:
        return (self.id, *self.like)


@dataclass(frozen=True)
class Python:
    """The interpreter that modules run with; `pyroute2` and `iptc` are releases, None where there is none.

    A release of '' is one that nothing tells. `packaged`: what the distribution packages is for it. `venv`: that of the
    distribution can make virtual environments.
    """

    version: str = ""
    pyroute2: str | None = None
    iptc: str | None = None
    venv: bool = True
    packaged: bool = True


@dataclass(frozen=True)
class Kernel:
    """What was tried of the kernel: by feature None where it works, else what was said.

    `untried` is why nothing could be.
    """

    features: Mapping[str, str | None] = field(default_factory=dict)
    untried: str = ""


@dataclass(frozen=True)
class Facts:
    """`backend` is the one that will be used. `programs` are those of ours that exist, `units` those that run or are
    started at boot, `texts` configuration files by path. `filter` is the forward policy of iptables, in the words of
    either variant.
    """

    os: Os = Os()
    python: Python = Python()
    backend: str = NFTABLES
    programs: frozenset[str] = frozenset()
    root: bool = True
    systemd: bool = True
    sysctls_writable: bool = True
    multipath: bool = True
    epel: bool = False
    # how many connections can be tracked; None where tracking is not loaded yet
    connections: int | None = None
    ipv6: bool = False
    network_manager: str = ""
    # tables of the variant of iptables that speaks to nftables
    iptables_by_nft: bool = False
    units: frozenset[str] = frozenset()
    texts: Mapping[str, str] = field(default_factory=dict)
    filter: str = ""
    kernel: Kernel = Kernel()

    def files(self, *patterns: str) -> Iterator[str]:
        """The texts of all files that match, in the order of the patterns, then of their paths."""
        for pattern in patterns:
            yield from (self.texts[path] for path in sorted(self.texts) if fnmatch(path, pattern))
