# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What the pages of the documentation declare is accepted by role and library, and what they say to run is there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml
from _mwan import changes
from _mwan.document import Document
from _mwan.flow import Outcome, converge
from _mwan.hostfacts import HostFacts, Wanted
from _mwan.kernel import DEFAULT, MAIN, Address, Device, Facts, Nexthop, Route
from _mwan.model import Settings
from _mwan.watch.settings import ProbeOverrides
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from lab import guides
from lab.guides import CHECKOUT, Block
from unit import programs
from unit.model_kernel import ModelRouter

ROLE = CHECKOUT / "roles/router"
SETTINGS = ("mark_mask", "table_base", "rule_priority", "ip_forward", "multipath_hash", "firewall_backend", "classify")
LAN_ADDRESS = "192.168.101.254"
DECLARING = [block for page in guides.pages() for block in guides.blocks(page) if block.variables]
IDS = [block.place for block in DECLARING]


def specs() -> dict[str, Any]:
    """Of the role; a block that shows some variables need not repeat the links."""
    options: dict[str, Any] = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]
    return {name: {**option, "required": False} for name, option in options["options"].items()}


@pytest.mark.parametrize("block", DECLARING, ids=IDS)
def test_the_role_accepts_it(block: Block) -> None:
    assert ArgumentSpecValidator(specs()).validate(block.variables).error_messages == []


@pytest.mark.parametrize("block", DECLARING, ids=IDS)
def test_a_router_is_brought_to_it(block: Block) -> None:
    """One that has the devices; then it is as declared, and a second run finds nothing to do."""
    variables = completed(block.variables)
    router = ModelRouter(machine(variables))
    outcome = applied(router, variables)
    assert outcome.changed
    assert {name for name, link in outcome.links.items() if link["pending"]} == set()
    assert not applied(router, variables).changed


def completed(variables: Mapping[str, Any]) -> dict[str, Any]:
    """With what a page that shows a part of a configuration takes for granted: the links and policies it refers to."""
    kinds = ("mwan_links", "mwan_policies", "mwan_rules", "mwan_sets", "mwan_snat", "mwan_dnat")
    whole = {**{kind: [] for kind in kinds}, "mwan_default_policy": "", **variables}
    squid = whole.get("mwan_squid", {})
    rules = [*whole["mwan_rules"], squid, *squid.get("outgoing", ())]
    asked = {name for name in (*(rule.get("policy") for rule in rules), whole["mwan_default_policy"]) if name}
    links = [item["link"] for item in (*rules, *whole["mwan_snat"], *whole["mwan_dnat"]) if item.get("link")]
    links += [member["link"] for policy in whole["mwan_policies"] for member in policy["members"]]
    whole["mwan_links"] = whole["mwan_links"] + missing(whole["mwan_links"], links or ["isp_a"], device="given_{}")
    members = [{"link": whole["mwan_links"][0]["name"]}]
    whole["mwan_policies"] = whole["mwan_policies"] + missing(whole["mwan_policies"], asked, members=members)
    sets = re.findall(r"'@(\w+)'", str(rules))
    whole["mwan_sets"] = whole["mwan_sets"] + missing(whole["mwan_sets"], sets, networks=["198.51.100.0/24"])
    return whole


def missing(listed: list[dict[str, Any]], names: Any, **fields: Any) -> list[dict[str, Any]]:
    """Objects with these fields for the names that are not listed."""
    wanted = sorted(set(names) - {item["name"] for item in listed})
    return [
        {"name": name, **{key: value.format(n) if key == "device" else value for key, value in fields.items()}}
        for n, name in enumerate(wanted)
    ]


def machine(variables: Mapping[str, Any]) -> Facts:
    """A machine with the devices of the links, their addresses and, as from DHCP, their gateways."""
    devices, addresses, learned = {"lo": Device("lo"), "lan0": Device("lan0")}, [Address("lan0", LAN_ADDRESS, 24)], {}
    for number, link in enumerate(variables["mwan_links"]):
        name, gateway = link["device"], link.get("gateway")
        devices[name] = Device(name, point_to_point=gateway is None)
        near = gateway if gateway not in (None, "auto") else f"100.64.{number}.1"
        addresses += own_addresses(name, near, link.get("address"))
        if gateway == "auto":
            learned[name] = (Route(MAIN, DEFAULT, 100 + number, nexthops=(Nexthop(name, near),)),)
    return Facts(devices, tuple(dict.fromkeys(addresses)), defaults=learned)


def host(wanted: Wanted) -> HostFacts:
    """One on which everything that rules name is there."""
    return HostFacts(
        users=dict.fromkeys(wanted.users, 1000),
        groups=dict.fromkeys(wanted.groups, 1000),
        cgroups=dict.fromkeys(wanted.cgroups, 1000),
        files=dict.fromkeys(wanted.files, "192.0.2.0/24\n"),
    )


def own_addresses(device: str, gateway: str, declared: str | None) -> Iterator[Address]:
    hosts = list(IPv4Network(f"{gateway}/24", strict=False).hosts())
    yield Address(device, declared if declared not in (None, "auto") else str(hosts[99]), 24)


def applied(router: ModelRouter, variables: Mapping[str, Any]) -> Outcome:
    """As the role's tasks together leave it."""
    settings = {name: variables[f"mwan_{name}"] for name in SETTINGS if f"mwan_{name}" in variables}
    rp_filter = {**variables.get("mwan_rp_filter", {}), "blackhole": variables.get("mwan_blackhole", [])}
    lists = {kind: variables[f"mwan_{kind}"] for kind in ("links", "policies", "rules", "sets", "snat", "dnat")}
    declared = {**lists, "default_policy": variables["mwan_default_policy"], "rp_filter": rp_filter, "purge": True}

    def change(stored: Document) -> Document:
        probed = changes.settings(stored, {"probe": variables.get("mwan_probe", {})})
        given = Settings.parse("settings", {**probed.settings.dump(), **settings})
        return changes.assume(replace(probed, settings=given), declared)

    return converge(replace(router.ports, look_up=host), change)


def test_probing_fits_together() -> None:
    for block in DECLARING:
        general = ProbeOverrides.parse("mwan_probe", block.variables.get("mwan_probe", {}))
        general.settings("mwan_probe")
        for link in block.variables.get("mwan_links", ()):
            ProbeOverrides.parse(link["name"], link.get("probe", {})).over(general).settings(link["name"])


def test_pages_that_shall_declare_something_do() -> None:
    """So that a page whose blocks are no longer found is not taken for a good one."""
    assert {place.partition(":")[0] for place in IDS} >= {"README.md", "setups.md", "variables.md", "rules.md"}


# commands

# what pages may tell people to type; a slip of the pen is not among them
TYPED = """
    ansible ansible-doc ansible-galaxy ansible-inventory ansible-playbook ansible-vault apt apt-get at bridge cat chgrp
    chmod chown conntrack cp curl dig dnf docker ethtool firewall-cmd fuser getent git grep ip ipset iptables
    iptables-legacy journalctl jq ls make mwanctl mwand netplan networkctl nft nmcli nstat pip ping promtool resolvectl
    rm shorewall ss ssh sudo sysctl systemctl systemd-run tail tc tcpdump tracepath ufw update-alternatives watch wg
"""
PROGRAMS = frozenset(TYPED.split())


def typed() -> Iterator[tuple[str, list[str]]]:
    """Every command of a block that begins with one, in words, with the page it is on."""
    for page in guides.pages():
        for block in guides.command_blocks(page):
            if Path(block[0].split()[0]).name in PROGRAMS:
                for line in block:
                    words = shlex.split(line, comments=True)
                    if not words[0].endswith(":"):  # a variable
                        yield page.name, words


def test_what_stands_among_commands_is_one() -> None:
    unknown = {f"{page}: {' '.join(words)}" for page, words in typed() if Path(words[0]).name not in PROGRAMS}
    assert unknown == set()


def test_mwanctl_understands_what_pages_say_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = programs.load("mwanctl", monkeypatch)["parser"]()
    known = next(action for action in parser._actions if action.dest == "subcommand").choices
    asked = [words for _page, words in typed() if words[0] == "mwanctl"]
    assert len(asked) > 20
    for words in asked:
        ends = [n for n, word in enumerate(words) if word in ("|", "&&", ">") or word.endswith(";")]
        first, *others = words[1 : min(ends, default=len(words))]
        assert first.rstrip(",") in known
        if others and not first.endswith(","):
            parser.parse_args([first, *others])  # ends the test where it does not understand


# messages

SOURCES = [
    file
    for place in ("plugins", "roles")
    for file in (CHECKOUT / place).rglob("*")
    if file.suffix in (".py", ".yml") and file.is_file()
]
# what stands for something else in a message: a device, an option, a number, or anything
STANDS_FOR = re.compile(r"\.\.\.|[A-Z]{4,}|\bN\b|`")


def messages() -> list[str]:
    """Those that the page explains for a playbook that fails."""
    table = (CHECKOUT / "docs/troubleshooting.md").read_text().partition("## The playbook fails")[2].partition("## ")[0]
    return [row.split("|")[1].strip() for row in table.splitlines() if row.startswith("| ")][1:]


def test_messages_that_are_explained_are_said() -> None:
    """By a module, the library or the role; one is Ansible's own."""
    said = " ".join(file.read_text() for file in SOURCES)
    found = messages()
    assert len(found) > 15
    pieces = [piece.strip(" ,:;()") for message in found for piece in STANDS_FOR.split(message)]
    assert {piece for piece in pieces if piece not in said} == {
        "Failed to import the required Python library (pyroute2"
    }


# links


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in guides.HEADING.findall(page.read_text()))
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", guides.pages(), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]*(?:#[^)]*)?)\)", page.read_text()):
        name, _hash, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


# pictures

READABLE = 4.5  # contrast that WCAG 2 asks of text, level AA
FILLS = ("bg", "box", "head", "ours")


def palettes(svg: str) -> tuple[dict[str, str], dict[str, str]]:
    """The fill of each class, in light and in dark; text without a class is `text`."""
    light, dark = (
        dict(re.findall(r"^ *\.?(\w+) \{[^}]*?fill: (#[0-9a-f]{6});", part, re.MULTILINE))
        for part in svg.split("@media (prefers-color-scheme: dark)", 1)
    )
    return light, {**light, **dark}


def contrast(one: str, other: str) -> float:
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("picture", sorted((CHECKOUT / "docs/images").glob("*.svg")), ids=lambda path: path.name)
def test_pictures_are_readable_in_light_and_dark(picture: Path) -> None:
    svg = picture.read_text()
    for palette in palettes(svg):
        for text in ("text", "quiet", "a", "b"):
            for fill in FILLS:
                assert contrast(palette[text], palette[fill]) >= READABLE, (text, fill, palette[text], palette[fill])
    assert len(set(palettes(svg)[0].values())) > len(FILLS)
