# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What an administrator may write about probing, and its canonical form."""

from __future__ import annotations

from typing import Any

import pytest
from _mwan.errors import InputError
from _mwan.watch.settings import PROFILES, ProbeSettings, Thresholds
from _mwan.watch.target_spec import Target
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("written", "canonical", "label"),
    [
        ("192.0.2.1", {"kind": "icmp", "address": "192.0.2.1"}, "192.0.2.1"),
        ("icmp://192.0.2.1", {"kind": "icmp", "address": "192.0.2.1"}, "192.0.2.1"),
        ({"address": "192.0.2.1"}, {"kind": "icmp", "address": "192.0.2.1"}, "192.0.2.1"),
        ("tcp://192.0.2.1:443", {"kind": "tcp", "address": "192.0.2.1", "port": 443}, "tcp://192.0.2.1:443"),
        (
            "http://192.0.2.1:80/a?b=c#d",
            {"kind": "http", "url": "http://192.0.2.1/a?b=c", "status": 200, "verify": True},
            "http://192.0.2.1/a?b=c",
        ),
        (
            {"kind": "http", "url": "https://Example.net", "address": "192.0.2.1", "status": "204", "body": "ok"},
            {
                "kind": "http",
                "url": "https://example.net/",
                "address": "192.0.2.1",
                "status": 204,
                "body": "ok",
                "verify": True,
            },
            "https://example.net/",
        ),
        (
            {"kind": "http", "url": "https://192.0.2.1/", "verify": "no"},
            {"kind": "http", "url": "https://192.0.2.1/", "status": 200, "verify": False},
            "https://192.0.2.1/",
        ),
        (
            {"kind": "http", "url": "http://example.net:8080/", "resolver": "192.0.2.53"},
            {
                "kind": "http",
                "url": "http://example.net:8080/",
                "resolver": "192.0.2.53",
                "status": 200,
                "verify": True,
            },
            "http://example.net:8080/",
        ),
        (
            "dns://192.0.2.53",
            {"kind": "dns", "address": "192.0.2.53", "query": ".", "record": "NS"},
            "dns://192.0.2.53/.",
        ),
        (
            {"kind": "dns", "address": "192.0.2.53", "query": "Example.NET.", "record": "a"},
            {"kind": "dns", "address": "192.0.2.53", "query": "example.net", "record": "A"},
            "dns://192.0.2.53/example.net",
        ),
        ("arp", {"kind": "arp"}, "arp"),
        ("arp://192.0.2.1", {"kind": "arp", "address": "192.0.2.1"}, "arp://192.0.2.1"),
        (
            {"kind": "command", "command": "/usr/bin/check --link 'a b'"},
            {"kind": "command", "command": ["/usr/bin/check", "--link", "a b"]},
            "/usr/bin/check --link a b",
        ),
    ],
)
def test_a_target_has_one_form(written: Any, canonical: Any, label: str) -> None:
    target = Target.parse("target", written)
    assert target.dump() == canonical
    assert target.label == label
    assert Target.parse("target", canonical) == target


@pytest.mark.parametrize(
    ("written", "option"),
    [
        ("", "t.address"),
        (7, "t"),
        ("example.net", "t.address"),
        ("224.0.0.1", "t.address"),
        ("ftp://192.0.2.1/", "t"),
        ("tcp://192.0.2.1", "t.address"),
        ("tcp://192.0.2.1:0", "t.port"),
        ("http://example.net/", "t.url"),
        ("http://user@192.0.2.1/", "t.url"),
        ("http://192.0.2.1:99999/", "t.url"),
        ("http:///", "t.url"),
        ("http://192.0.2.1/\u00e4", "t.url"),
        ("http://192.0.2.1:\u0663/", "t.url"),
        ({"kind": "http", "url": "http://ex\u00e4mple.net/", "address": "192.0.2.1"}, "t.url"),
        ({"kind": "http", "url": "http://\u2100.net/", "address": "192.0.2.1"}, "t.url"),
        ({"kind": "http", "url": "https://192.0.2.1/", "verify": "maybe"}, "t.verify"),
        ({"kind": "tcp", "address": "192.0.2.1", "port": 443, "verify": False}, "t.verify"),
        ("http://300.1.2.3/", "t.url"),
        ({"kind": "http", "url": "http://192.0.2.1/", "address": "192.0.2.2"}, "t.address"),
        ({"kind": "http", "url": "http://192.0.2.1/", "status": 42}, "t.status"),
        ({"kind": "http", "url": "http://192.0.2.1/", "body": ""}, "t.body"),
        ({"kind": "tcp", "address": "192.0.2.1"}, "t.port"),
        ({"kind": "icmp", "address": "192.0.2.1", "port": 5}, "t.port"),
        ({"kind": "ping", "address": "192.0.2.1"}, "t.kind"),
        ({"kind": "dns", "address": "192.0.2.1", "query": "-bad-.net"}, "t.query"),
        ({"kind": "dns", "address": "192.0.2.1", "record": "MX"}, "t.record"),
        ({"kind": "command", "command": "check"}, "t.command"),
        ({"kind": "command", "command": "/bin/check 'x"}, "t.command"),
        ({"kind": "command", "command": []}, "t.command"),
    ],
)
def test_a_bad_target_is_named(written: Any, option: str) -> None:
    with pytest.raises(InputError) as caught:
        Target.parse("t", written)
    assert caught.value.option == option


def test_what_is_left_out_comes_from_the_profile() -> None:
    for profile, (interval, dead) in PROFILES.items():
        settings = ProbeSettings.parse("probe", {"profile": profile})
        assert (settings.interval, settings.dead, settings.up_after) == (interval, dead, 20.0)
    assert ProbeSettings.parse("probe", {}) == ProbeSettings()
    assert ProbeSettings.parse("probe", {"profile": "calm", "interval": "250ms"}).interval == 0.25


def test_times_and_shares_take_units() -> None:
    settings = ProbeSettings.parse(
        "probe",
        {
            "interval": "200 ms",
            "dead": "1.5s",
            "up_after": "2min",
            "rtt": "150ms",
            "loss": {"enter": "10%", "leave": 4},
        },
    )
    assert (settings.interval, settings.dead, settings.up_after) == (0.2, 1.5, 120.0)
    assert settings.rtt == Thresholds(0.15, 0.12)
    assert settings.loss == Thresholds(10.0, 4.0)


@pytest.mark.parametrize(
    ("written", "option"),
    [
        ({"profile": "quick"}, "p.profile"),
        ({"interval": 0}, "p.interval"),
        ({"interval": "1 day"}, "p.interval"),
        ({"interval": True}, "p.interval"),
        ({"interval": float("nan")}, "p.interval"),
        ({"dead": 0.9}, "p.dead"),
        ({"quorum": 4}, "p.quorum"),
        ({"quorum": 0}, "p.quorum"),
        ({"targets": "192.0.2.1"}, "p.targets"),
        ({"targets": ["192.0.2.1", {"address": "192.0.2.1"}]}, "p.targets"),
        ({"targets": [f"192.0.2.{i}" for i in range(1, 18)]}, "p.targets"),
        ({"targets": ["192.0.2.1", "x"]}, "p.targets[1].address"),
        ({"loss": {"leave": 3}}, "p.loss.enter"),
        ({"loss": {"enter": 5, "leave": 6}}, "p.loss.leave"),
        ({"loss": 100}, "p.loss.enter"),
        ({"rtt": 100}, "p.rtt.enter"),
        ({"rtt": {"enter": 0.1, "exit": 0.05}}, "p.rtt.exit"),
        ({"degraded": "drop"}, "p.degraded"),
        ({"damping": {"longest": 5}}, "p.damping.longest"),
        ({"damping": 5}, "p.damping"),
        ({"size": 5}, "p.size"),
        ({"flush_delay": -1}, "p.flush_delay"),
        ({"flush_delay": "2h"}, "p.flush_delay"),
    ],
)
def test_a_bad_setting_is_named(written: Any, option: str) -> None:
    with pytest.raises(InputError) as caught:
        ProbeSettings.parse("p", written)
    assert caught.value.option == option


ADDRESSES = st.integers(1, 250).map("192.0.2.{}".format)
TARGETS = st.one_of(
    ADDRESSES,
    st.builds("tcp://{}:{}".format, ADDRESSES, st.integers(1, 65535)),
    st.builds("http://{}/{}".format, ADDRESSES, st.sampled_from(("", "x?y=1"))),
    st.builds("dns://{}/{}".format, ADDRESSES, st.sampled_from(("", "example.net", "A.B.c."))),
    st.just("arp"),
)
WRITTEN = st.fixed_dictionaries(
    {"targets": st.lists(TARGETS, max_size=5, unique_by=lambda text: Target.parse("target", text))},
    optional={
        "profile": st.sampled_from(sorted(PROFILES)),
        "dead": st.floats(20, 100),
        "up_after": st.integers(1, 900),
        "loss": st.floats(0.1, 99),
        "rtt": st.one_of(st.floats(0.002, 50), st.integers(2, 900).map("{}ms".format)),
        "degraded": st.sampled_from(("keep", "reweight", "out")),
        "flush_delay": st.floats(0, 3600),
        "damping": st.fixed_dictionaries({}, optional={"half_life": st.floats(1, 900), "longest": st.just("1h")}),
    },
)


@given(WRITTEN)
def test_what_is_dumped_parses_to_the_same(written: dict[str, Any]) -> None:
    settings = ProbeSettings.parse("probe", written)
    assert ProbeSettings.parse("probe", settings.dump()) == settings
    assert ProbeSettings.parse("probe", settings.dump()).dump() == settings.dump()
