# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is found on a host that works against a router, and what ends that. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from .facts import IPTABLES, NONE, PACKAGES, Asked, Facts
from .install import has_packages, missing

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True)
class Finding:
    """`severity` error: what is declared would not work. warning: it works until something happens."""

    name: str
    severity: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what}. {self.remedy}."


class Told(NamedTuple):
    """What a check says: the words that depend on the host."""

    what: str
    remedy: str


Test = Callable[[Asked, Facts], "Told | None"]


@dataclass(frozen=True)
class Check:
    name: str
    severity: str
    test: Test

    def run(self, asked: Asked, facts: Facts) -> Finding | None:
        told = self.test(asked, facts)
        return Finding(self.name, self.severity, *told) if told else None


def run(checks: Iterable[Check], asked: Asked, facts: Facts) -> tuple[Finding, ...]:
    """Errors first, each kind in the order of the checks."""
    found = [finding for finding in (check.run(asked, facts) for check in checks) if finding]
    return tuple(sorted(found, key=lambda finding: finding.severity != ERROR))


def refused(findings: Iterable[Finding]) -> str:
    """The message that a play ends with: all errors with their remedies, '' where there are none."""
    errors = [finding for finding in findings if finding.severity == ERROR]
    if not errors:
        return ""
    lines = [f"  {finding}" for finding in errors]
    accepted = "A finding that is known and wanted can be accepted by its name (role: mwan_accept)."
    return "\n".join(["This host cannot be the router that is declared.", *lines, accepted])


# the host itself


def _privilege(_asked: Asked, facts: Facts) -> Told | None:
    if facts.root:
        return None
    return Told(
        "routes, rules and firewall need root with CAP_NET_ADMIN, which this user or container does not have",
        "Set become: true; start a container with --cap-add NET_ADMIN",
    )


def _systemd(asked: Asked, facts: Facts) -> Told | None:
    if facts.systemd or not asked.service:
        return None
    return Told(
        "the prober is a service of systemd, and systemd does not run here",
        "Set mwan_manage_service: false and have another supervisor run /usr/local/lib/mwan/current/mwand",
    )


def _sysctls(_asked: Asked, facts: Facts) -> Told | None:
    if facts.sysctls_writable or not facts.root:
        return None
    return Told(
        "/proc/sys/net is read-only, so forwarding and reverse-path filtering cannot be set",
        "Let the container write it: --privileged, or --security-opt unmask=/proc/sys with podman; "
        "with systemd-nspawn SYSTEMD_NSPAWN_API_VFS_WRITABLE=network",
    )


def _missing(asked: Asked, facts: Facts) -> Told | None:
    lacking = missing(facts)
    if asked.install != NONE or not lacking:
        return None
    return Told(
        f"{_listed(lacking)} missing for the modules, and mwan_install: none leaves it to you",
        "Install what is missing, or set mwan_install: auto",
    )


def _packages(asked: Asked, facts: Facts) -> Told | None:
    if asked.install != PACKAGES or not missing(facts) or has_packages(facts):
        return None
    return Told(
        f"{_listed(missing(facts))} missing, and this distribution has no package that is new enough and for this "
        "Python, and mwan_install: packages allows nothing else",
        "Set mwan_install: auto or venv; on EL 10, enable EPEL; or run modules with /usr/bin/python3",
    )


def _listed(words: list[str]) -> str:
    return ", ".join(words) + (" are" if len(words) > 1 else " is")


# the kernel

MODULES = "Install the full kernel of the distribution, or one with {}, and reboot"


def _rules(_asked: Asked, facts: Facts) -> Told | None:
    said = facts.kernel.features.get("rules")
    if said is None:
        return None
    return Told(f"this kernel has no policy routing ({said})", MODULES.format("CONFIG_IP_MULTIPLE_TABLES"))


def _multipath(_asked: Asked, facts: Facts) -> Told | None:
    if facts.multipath and facts.kernel.features.get("multipath") is None:
        return None
    said = facts.kernel.features.get("multipath") or "there is no net.ipv4.fib_multipath_hash_policy"
    return Told(f"this kernel has no multipath routes ({said})", MODULES.format("CONFIG_IP_ROUTE_MULTIPATH"))


def _firewall(_asked: Asked, facts: Facts) -> Told | None:
    said = facts.kernel.features.get("firewall")
    if said is None:
        return None
    words = "the kernel, or the program, does not take the firewall that marks and translates connections: "
    other = "or use mwan_firewall_backend: " + ("nftables" if facts.backend == IPTABLES else "iptables")
    options = "CONFIG_NETFILTER_XT_*" if facts.backend == IPTABLES else "CONFIG_NF_TABLES_INET, NFT_CT, NFT_NAT"
    return Told(words + said, f"{MODULES.format(options)}, {other}")


def _choices(_asked: Asked, facts: Facts) -> Told | None:
    lacking = [name for name in CHOICES if facts.kernel.features.get(name)]
    if not lacking or facts.kernel.features.get("firewall"):
        return None
    said = next(str(facts.kernel.features[name]) for name in lacking)
    what = "the kernel refuses what these need: {} ({})".format(", ".join(lacking), said)
    return Told(what, "Do without them, or install the full kernel of the distribution and reboot")


def _untried(_asked: Asked, facts: Facts) -> Told | None:
    if not facts.kernel.untried or not facts.root:
        return None
    return Told(
        f"what the kernel can do was not tried: {facts.kernel.untried}",
        "Nothing has to be done: if something is missing, the module that needs it says so and changes nothing. "
        "In a container, --cap-add SYS_ADMIN lets it be tried",
    )


def _connections(_asked: Asked, facts: Facts) -> Told | None:
    if facts.connections is None or facts.connections >= FEW:
        return None
    return Told(
        f"only {facts.connections} connections can be tracked; when the table is full, new ones are dropped",
        "Write net.netfilter.nf_conntrack_max = 131072 to /etc/sysctl.d/; an entry takes some 300 octets",
    )


# what policies, source NAT and forwards need beyond the pins
CHOICES = ("random", "round_robin", "source_hash", "sticky", "port_forwards")
# the kernel's own default for a host with 128 MB (nf_conntrack_core.c: 64 k with 1 GB, 256 k with 4 GB)
FEW = 16384

HOST: tuple[Check, ...] = (
    Check("privilege", ERROR, _privilege),
    Check("systemd", ERROR, _systemd),
    Check("sysctl", ERROR, _sysctls),
    Check("missing", ERROR, _missing),
    Check("packages", ERROR, _packages),
    Check("policy_routing", ERROR, _rules),
    Check("multipath", ERROR, _multipath),
    Check("firewall", ERROR, _firewall),
    Check("choices", WARNING, _choices),
    Check("untried", WARNING, _untried),
    Check("conntrack", WARNING, _connections),
)


def found(checks: Iterable[Check], asked: Asked, facts: Facts, accept: Iterable[str]) -> tuple[Finding, ...]:
    """The findings that are not accepted."""
    accepted = set(accept)
    return tuple(finding for finding in run(checks, asked, facts) if finding.name not in accepted)
