# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Other software that manages networks or firewalls on the same host, and how it leaves ours alone."""

from __future__ import annotations

import re
from fnmatch import fnmatch

from .configs import Filter, assignments, effective, mapping, switched, sysctls
from .facts import IPTABLES, Asked, Facts
from .findings import HOST, WARNING, Check, Told
from .install import numbers

SYSTEMD = ("/etc", "/run", "/usr/local/lib", "/usr/lib")
SYSCTLS = ("/usr/lib/sysctl.d/*.conf", "/run/sysctl.d/*.conf", "/etc/sysctl.d/*.conf", "/etc/sysctl.conf")
TUNNELS = "/etc/wireguard/*.conf"
# from this release on, NetworkManager leaves routes alone whose protocol is none of its own
IGNORES_PROTOCOLS = (1, 36)


def _networkd(asked: Asked, facts: Facts) -> Told | None:
    """systemd-networkd deletes rules (it can be told not to since 249) and routes (246) that it did not make.

    Seen of 252: by `networkctl reload` once a .network file has changed, and by `networkctl reconfigure`; of other
    releases it is told of restarts, too (systemd issues 19106, 22077).
    """
    if "systemd-networkd.service" not in facts.units:
        return None
    network = assignments(effective(facts.texts, "networkd", SYSTEMD), "Network")
    settings = ("ManageForeignRoutingPolicyRules", "ManageForeignRoutes")
    lacking = [f"{name}=no" for name in settings if switched(network.get(name), True)]
    if not lacking:
        return None
    until = "until the prober has put them back" if asked.service else "and no prober puts them back"
    return Told(
        "systemd-networkd deletes rules and routes of others when it configures a link anew, as after its restart or "
        f"networkctl reload, and connections go astray {until}",
        "Write [Network] and below it {} to /etc/systemd/networkd.conf.d/mwan.conf, one setting a line, and restart "
        "systemd-networkd".format(" and ".join(lacking)),
    )


def _network_manager(_asked: Asked, facts: Facts) -> Told | None:
    version = numbers(facts.network_manager)
    if "NetworkManager.service" not in facts.units or not version or version >= IGNORES_PROTOCOLS:
        return None
    return Told(
        f"NetworkManager {facts.network_manager} may delete routes of others on the devices it manages",
        "Use 1.36 or newer, or leave ipv4.route-table of the links' profiles at 0",
    )


def _firewalld_ipv6(_asked: Asked, facts: Facts) -> Told | None:
    settings = _firewalld(facts)
    word = settings.get("IPv6_rpfilter", "yes").lower()
    if "firewalld.service" not in facts.units or not facts.ipv6 or not (word == "strict" or switched(word, False)):
        return None
    return Told(
        "IPv6_rpfilter of firewalld drops IPv6 packets that come in by another uplink than their answer would leave by",
        "Set IPv6_rpfilter=loose (firewalld 2.1 and older: no) in /etc/firewalld/firewalld.conf, then firewall-cmd "
        "--reload",
    )


def _firewalld_forward(_asked: Asked, facts: Facts) -> Told | None:
    """It forwards between two zones where a policy, or the target of the first, says so; masquerading does not (1.3.3).

    Devices that are in no zone by name are in the default one, but nothing is forwarded between them. NetworkManager
    names those it manages.
    """
    zones = list(facts.files("/etc/firewalld/zones/*.xml"))
    policies = list(facts.files("/etc/firewalld/policies/*.xml"))
    allowed = any('target="ACCEPT"' in text for text in zones) or any(map(_lets_through, policies))
    one_zone = "NetworkManager.service" in facts.units and not any(map(_has_members, zones))
    if "firewalld.service" not in facts.units or allowed or one_zone:
        return None
    return Told(
        "firewalld refuses what is forwarded from one of its zones to another, also where that one masquerades",
        "Put the LAN and the links into zones, and allow it by a policy: firewall-cmd --permanent --new-policy "
        "lan_out; then firewall-cmd --permanent --policy lan_out with each of --add-ingress-zone=internal, "
        "--add-egress-zone=external and --set-target=ACCEPT; then firewall-cmd --reload",
    )


def _lets_through(policy: str) -> bool:
    forwards = re.search(r'<egress-zone name="(?!HOST")', policy)
    return bool(forwards and re.search(r'target="ACCEPT"|<(service|port|protocol|rule|source-port)\b', policy))


def _has_members(zone: str) -> bool:
    return "<interface " in zone or "<source " in zone


def _firewalld_iptables(_asked: Asked, facts: Facts) -> Told | None:
    legacy = _firewalld(facts).get("FirewallBackend", "nftables").lower() == IPTABLES
    if "firewalld.service" not in facts.units or facts.backend != IPTABLES or not legacy:
        return None
    return Told(
        "firewalld flushes all chains of iptables, ours too, when it is reloaded; the prober puts them back within "
        "some seconds",
        "Use mwan_firewall_backend: nftables, or set FirewallBackend=nftables in /etc/firewalld/firewalld.conf",
    )


def _firewalld(facts: Facts) -> dict[str, str]:
    return assignments(facts.files("/etc/firewalld/firewalld.conf"))


def _ufw_forward(_asked: Asked, facts: Facts) -> Told | None:
    if not _ufw_enabled(facts):
        return None
    policy = assignments(facts.files("/etc/default/ufw")).get("DEFAULT_FORWARD_POLICY", "DROP")
    routed = any(re.search(r"^-A ufw-user-forward .*-j ACCEPT", text, re.M) for text in facts.files("/etc/ufw/*.rules"))
    if policy.upper() == "ACCEPT" or routed:
        return None
    return Told(
        "ufw drops what is forwarded",
        "Allow it by route rules, such as: ufw route allow in on lan0; or set "
        'DEFAULT_FORWARD_POLICY="ACCEPT" in /etc/default/ufw, then ufw reload',
    )


def _ufw_rp_filter(_asked: Asked, facts: Facts) -> Told | None:
    settings = sysctls(facts.files("/etc/ufw/sysctl.conf"))
    if not _ufw_enabled(facts) or settings.get("net.ipv4.conf.all.rp_filter") != "1":
        return None
    return Told(
        "ufw switches strict reverse-path filtering on for all devices whenever it starts",
        "Take net/ipv4/conf/all/rp_filter and net/ipv4/conf/default/rp_filter out of /etc/ufw/sysctl.conf",
    )


def _ufw_enabled(facts: Facts) -> bool:
    return switched(assignments(facts.files("/etc/ufw/ufw.conf")).get("ENABLED"), False)


def _docker(_asked: Asked, facts: Facts) -> Told | None:
    """It sets the policy of FORWARD to DROP where it is what switches forwarding on, as after a boot.

    `ip-forward-no-drop` is an option since release 28; with its nftables backend (29) it leaves forwarding alone.
    """
    if "docker.service" not in facts.units:
        return None
    options = mapping(next(facts.files("/etc/docker/daemon.json"), ""))
    harmless = options.get("ip-forward-no-drop") or options.get("ip-forward") is False
    if harmless or options.get("iptables") is False or options.get("firewall-backend") == "nftables":
        return None
    chains = Filter(facts.filter)
    forwards = sysctls(facts.files(*SYSCTLS)).get("net.ipv4.ip_forward") == "1"
    if chains.accepts("DOCKER-USER") or (forwards and not chains.drops("FORWARD")):
        return None
    return Told(
        "docker drops what is forwarded and not its own: it sets the policy of FORWARD to that where it switches "
        "forwarding on, as after a boot",
        'Set "ip-forward-no-drop": true in /etc/docker/daemon.json (docker 28 and newer), or accept in its chain what '
        "you forward: iptables -I DOCKER-USER -i lan0 -j ACCEPT; iptables -I DOCKER-USER -m conntrack --ctstate "
        "ESTABLISHED,RELATED -j ACCEPT",
    )


def _wg_quick(_asked: Asked, facts: Facts) -> Told | None:
    """For a tunnel that takes everything, wg-quick(8) adds rules without a priority, unless a table is given.

    The kernel puts these before the lowest rule that is there (fib_default_rule_pref in net/core/fib_rules.c).
    """
    tunnels = [path for path, text in sorted(facts.texts.items()) if fnmatch(path, TUNNELS) and _takes_all(text)]
    if not tunnels:
        return None
    return Told(
        f"wg-quick ({', '.join(tunnels)}) puts rules before ours whenever its tunnel comes up after the router was "
        "configured, and they lead everything into it",
        "Give the tunnel a Table, such as 100, and what leads to it a rule behind ours: PostUp = ip rule add pref "
        "30000 not fwmark 0x10000/0x10000 lookup 100, with FwMark = 0x10000; and what shall use it a rule of "
        "mwan_rules with target: main",
    )


def _takes_all(tunnel: str) -> bool:
    """Keys are in any case to wg-quick."""
    table = re.search(r"^\s*Table\s*=\s*(\S+)", tunnel, re.MULTILINE | re.IGNORECASE)
    everything = re.search(r"^\s*AllowedIPs\s*=(.*[\s,])?[\d.]+/0\b", tunnel, re.MULTILINE | re.IGNORECASE)
    return bool(everything) and (table[1].lower() if table else "auto") == "auto"


def _iptables_variant(_asked: Asked, facts: Facts) -> Told | None:
    if facts.backend != IPTABLES or not facts.iptables_by_nft:
        return None
    return Told(
        "rules of iptables are in nftables here (iptables-nft), and ours would be in legacy iptables: packets pass "
        "both, and neither shows the other",
        "Use mwan_firewall_backend: nftables; to look at our rules, use iptables-legacy",
    )


def _balancers(_asked: Asked, facts: Facts) -> Told | None:
    """FireHOL's link-balancer deletes each rule that it does not know."""
    found = [name for path, name in BALANCERS.items() if any(_says_something(text) for text in facts.files(path))]
    if not found:
        return None
    return Told(
        "{} manages routes and rules of several links here, too".format(" and ".join(found)),
        "Let one of both do it: stop and disable the other, and remove its rules",
    )


def _says_something(text: str) -> bool:
    return any(line.strip()[:1] not in ("", "#") for line in text.splitlines())


BALANCERS = {
    "/etc/firehol/link-balancer.conf": "FireHOL's link-balancer",
    "/etc/shorewall/providers": "Shorewall (providers)",
}
CHECKS: tuple[Check, ...] = (
    *HOST,
    Check("networkd", WARNING, _networkd),
    Check("network_manager", WARNING, _network_manager),
    Check("firewalld_ipv6", WARNING, _firewalld_ipv6),
    Check("firewalld_forward", WARNING, _firewalld_forward),
    Check("firewalld_iptables", WARNING, _firewalld_iptables),
    Check("ufw_forward", WARNING, _ufw_forward),
    Check("ufw_rp_filter", WARNING, _ufw_rp_filter),
    Check("docker", WARNING, _docker),
    Check("wg_quick", WARNING, _wg_quick),
    Check("iptables_variant", WARNING, _iptables_variant),
    Check("balancer", WARNING, _balancers),
)
