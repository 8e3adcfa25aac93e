# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Routers and their administrators' wishes, for tables and for hypothesis."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from _mwan import changes, store
from _mwan.document import Document, parse_list
from _mwan.flow import Outcome, converge
from _mwan.forwards import Dnat
from _mwan.kernel import DEFAULT, MAIN, Address, Device, Facts, Nexthop, Route
from _mwan.model import Link, Policy, RpFilter, Settings, Snat
from _mwan.rules import Rule
from hypothesis import strategies as st
from unit.model_kernel import ModelRouter

LAN = "192.168.101.0/24"
GUESTS = "192.168.102.0/24"
LEARNED = {
    device: (Route(MAIN, DEFAULT, metric, nexthops=(Nexthop(device, gateway),)),)
    for device, gateway, metric in (("wan1", "5.5.5.1", 100), ("wan2", "6.6.6.1", 200))
}
ADDRESSES = (
    Address("lan0", "192.168.101.254", 24),
    Address("wan1", "5.5.5.5", 24),
    Address("wan1", "5.5.5.6", 24),
    Address("wan2", "6.6.6.6", 24),
    Address("seg0", "192.168.100.100", 24),
    Address("ppp0", "10.64.0.2", 32, peer="10.64.0.1"),
    Address("ppp1", "10.64.0.2", 32, peer="10.64.9.1"),
)
# what can be a link: device, gateways that tell links on it apart, fixed addresses it may have
SLOTS = (
    ("wan1", "5.5.5.1"), ("wan1", "auto"), ("wan2", "6.6.6.1"), ("wan2", "203.0.113.9"), ("ppp0", None),
    ("ppp0", "auto"), ("ppp1", None), ("seg0", "192.168.100.1"), ("seg0", "192.168.100.2"),
    ("seg0", "192.168.100.3"), ("usb0", "172.20.0.1"),
)  # fmt: skip
NAMES = ("isp_a", "isp_b", "lte", "dsl", "cable")


def facts(lost: str = "", **changed: Any) -> Facts:
    """The usual machine without the address `lost`; other keywords name a device and what differs, None: it is gone."""
    devices = {name: Device(name, point_to_point=name.startswith("ppp")) for name in
               ("lo", "lan0", "wan1", "wan2", "seg0", "ppp0", "ppp1")}  # fmt: skip
    for name, fields in changed.items():
        if fields is None:
            del devices[name]
        else:
            devices[name] = replace(devices.get(name, Device(name)), **fields)
    return Facts(
        devices=devices,
        addresses=tuple(item for item in ADDRESSES if item.device in devices and item.address != lost),
        neighbours={("seg0", "192.168.100.1"): "02:00:00:00:00:01", ("seg0", "192.168.100.2"): "02:00:00:00:00:02"},
        defaults={name: routes for name, routes in LEARNED.items() if name in devices},
    )


def apply(router: ModelRouter, wish: Mapping[str, Any], **options: Any) -> Outcome:
    """Converge to exactly these objects, as all the modules of a play with purge would."""
    return converge(router.ports, lambda stored: wished(stored, wish), **{"strict": False, **options})


def wished(stored: Document, wish: Mapping[str, Any]) -> Document:
    probed = changes.settings(stored, {"probe": wish.get("probe") or {}})
    return replace(
        probed,
        settings=replace(probed.settings, classify=wish.get("classify", Settings.classify)),
        links=parse_list(Link, "links", wish.get("links")),
        policies=parse_list(Policy, "policies", wish.get("policies")),
        rules=parse_list(Rule, "rules", wish.get("rules")),
        snat=parse_list(Snat, "snat", wish.get("snat")),
        dnat=parse_list(Dnat, "dnat", wish.get("dnat")),
        default_policy=wish.get("default_policy"),
        rp_filter=RpFilter.parse("rp_filter", wish.get("rp_filter") or {}),
    )


def set_health(router: ModelRouter, states: Mapping[str, str]) -> None:
    """Each link's state, and after a slash by which word its connections are released."""
    words = {name: state.partition("/") for name, state in states.items()}
    links = {name: {"state": state, "released": released or None} for name, (state, _slash, released) in words.items()}
    router.files.texts[store.HEALTH] = json.dumps({"links": links})


TWO_LINKS: dict[str, Any] = {
    "links": [
        {"name": "isp_a", "device": "wan1", "gateway": "5.5.5.1", "weight": 3},
        {"name": "isp_b", "device": "wan2", "gateway": "6.6.6.1"},
    ],
    "policies": [{"name": "balanced", "members": [{"link": "isp_a"}, {"link": "isp_b"}]}],
    "default_policy": "balanced",
    "rules": [{"name": "voip", "source": "192.168.101.64/26", "protocol": "udp", "destination_port": "5060-5061",
               "link": "isp_b"}],
    "snat": [{"link": "isp_a", "source": LAN}, {"link": "isp_b", "source": LAN, "to": "masquerade"}],
    "rp_filter": {"mode": "loose", "devices": {"lan0": "strict"}, "blackhole": ["10.0.0.0/8"]},
}  # fmt: skip


# hypothesis


@st.composite
def links(draw: st.DrawFn) -> list[dict[str, Any]]:
    slots = draw(st.lists(st.sampled_from(SLOTS), max_size=5, unique=True).filter(_told_apart))
    names = draw(st.permutations(NAMES))
    return [
        {"name": name, "device": device, "gateway": gateway, "weight": draw(st.integers(0, 4)), **draw(probing())}
        for name, (device, gateway) in zip(names, slots, strict=False)
    ]


def _told_apart(slots: list[tuple[str, str | None]]) -> bool:
    devices = [device for device, _gateway in slots]
    return not any(gateway in (None, "auto") and devices.count(device) > 1 for device, gateway in slots)


def probing() -> st.SearchStrategy[dict[str, Any]]:
    probe = st.fixed_dictionaries({}, optional={
        "degraded": st.sampled_from(("keep", "reweight", "out")), "profile": st.sampled_from(("fast", "metered")),
        "targets": st.sampled_from(([], ["arp", "192.0.2.1"])), "rtt": st.just({"enter": "150ms"}),
    })  # fmt: skip
    return st.fixed_dictionaries({}, optional={"probe": probe, "rate": st.sampled_from(("100mbit", 64000))})


# MULTIPATH is the one that policy routing alone can do
ALGORITHMS = st.sampled_from(("multipath", "random", "source_hash", "least_connections"))


@st.composite
def policies(draw: st.DrawFn, names: list[str], marks: bool = False) -> list[dict[str, Any]]:
    """All with one word on connections, as those that share a link must have."""
    given = draw(reactions())
    chosen = draw(st.lists(st.sampled_from(("balanced", "backup", "voice")), max_size=3, unique=True)) if names else []
    return [
        {"name": name, "members": draw(members(names)),
         "last_resort": draw(st.sampled_from(("unreachable", "blackhole", "main"))),
         "algorithm": draw(ALGORITHMS) if marks else "multipath", **given}
        for name in chosen
    ]  # fmt: skip


def reactions() -> st.SearchStrategy[dict[str, Any]]:
    tcp, other = st.sampled_from(("reset", "keep")), st.sampled_from(("reroute", "keep"))
    late = {"after": st.just("10min"), "window": st.just("22:00-02:00"), "manual": st.booleans()}
    return st.fixed_dictionaries({}, optional={
        "on_down": st.fixed_dictionaries({}, optional={"tcp": tcp, "other": other}),
        "failback": st.fixed_dictionaries({}, optional={"tcp": tcp, "other": other, **late}),
    })  # fmt: skip


@st.composite
def members(draw: st.DrawFn, names: list[str]) -> list[dict[str, Any]]:
    chosen = draw(st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True))
    listed = [{"link": name, "weight": draw(st.integers(0, 3)), "tier": draw(st.integers(1, 3))} for name in chosen]
    listed[0]["weight"] = max(1, listed[0]["weight"])
    return listed


@st.composite
def rules(draw: st.DrawFn, link_names: list[str], policy_names: list[str], marks: bool = False) -> list[dict[str, Any]]:
    targets = [("link", name) for name in link_names] + [("policy", name) for name in policy_names]
    targets += [("target", "main"), ("target", "unreachable")] if marks else []
    names = (
        draw(st.lists(st.sampled_from(("voip", "web", "guests", "rest")), max_size=4, unique=True)) if targets else []
    )
    return [{"name": name, **dict([draw(st.sampled_from(targets))]), **draw(matches(marks))} for name in names]


def matches(marks: bool = False) -> st.SearchStrategy[dict[str, Any]]:
    ports = {"protocol": st.sampled_from(("tcp", "udp")), "destination_port": st.sampled_from(("443", "5000-6000"))}
    addresses = {
        "source": st.sampled_from((None, LAN, GUESTS, "0.0.0.0/0")),
        "destination": st.sampled_from((None, "7.7.7.0/24")),
        "device": st.sampled_from((None, "lan0")),
        **({"dscp": st.sampled_from((None, "cs0", "ef"))} if marks else {}),
    }
    return st.fixed_dictionaries(addresses) | st.fixed_dictionaries({**addresses, **ports})


@st.composite
def snat(draw: st.DrawFn, names: list[str]) -> list[dict[str, Any]]:
    if not names:
        return []
    keys = st.tuples(st.sampled_from(names), st.sampled_from(((), (LAN,), (GUESTS,), (LAN, GUESTS))))
    to = st.sampled_from(("auto", "masquerade", "5.5.5.9"))
    chosen = draw(st.lists(keys, max_size=5, unique=True))
    return [{"link": link, "source": list(sources), "to": draw(to)} for link, sources in chosen]


@st.composite
def forwards(draw: st.DrawFn, names: list[str]) -> list[dict[str, Any]]:
    ports = draw(st.lists(st.sampled_from(("80", "443", "8000-8010")), max_size=3, unique=True)) if names else []
    return [
        {
            "name": f"to{port.partition('-')[0]}",
            "link": draw(st.sampled_from((None, *names))),
            "protocol": ["tcp"],
            "port": port,
            "to": "192.168.101.10",
            "hairpin": draw(st.booleans()),
        }
        for port in ports
    ]


def rp_filters() -> st.SearchStrategy[dict[str, Any]]:
    mode = st.sampled_from(("none", "strict", "loose"))
    return st.fixed_dictionaries({}, optional={
        "mode": mode, "default": mode, "devices": st.dictionaries(st.sampled_from(("lan0", "wan1", "tun9")), mode),
        "src_valid_mark": st.booleans(),
        "blackhole": st.lists(st.sampled_from(("10.0.0.0/8", "172.16.0.0/12", "192.0.2.1")), max_size=2),
    })  # fmt: skip


@st.composite
def wishes(draw: st.DrawFn) -> dict[str, Any]:
    """A whole configuration that is in itself in order."""
    listed = draw(links())
    names = [link["name"] for link in listed]
    marks = draw(st.booleans())
    policy_list = draw(policies(names, marks))
    policy_names = [policy["name"] for policy in policy_list]
    return {
        "links": listed,
        "probe": draw(probing()).get("probe"),
        "policies": policy_list,
        "default_policy": draw(st.sampled_from((*policy_names, None))),
        "rules": draw(rules(names, policy_names, marks)),
        "classify": "marks" if marks else "routing",
        "snat": draw(snat(names)),
        "dnat": draw(forwards(names)),
        "rp_filter": draw(rp_filters()),
    }


def machines() -> st.SearchStrategy[dict[str, Any]]:
    """What is different from the usual machine, as `facts` takes it: devices down, unplugged, gone or appeared."""
    change = st.sampled_from(({"up": False}, {"carrier": False}, None))
    return st.dictionaries(st.sampled_from(("wan1", "wan2", "seg0", "ppp0", "ppp1")), change, max_size=2).flatmap(
        lambda changed: st.sampled_from((changed, {**changed, "usb0": {}}, {**changed, "lost": "5.5.5.5"}))
    )


def healths() -> st.SearchStrategy[dict[str, str]]:
    return st.dictionaries(st.sampled_from(NAMES), health_words(), max_size=3)


def health_words() -> st.SearchStrategy[str]:
    """As `set_health` takes them; the word on release may be one that no longer fits."""
    return st.sampled_from(("up", "down", "drained", "suspect", "degraded", "down/down", "up/failback", "up/down"))
