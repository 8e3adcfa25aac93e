# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What is declared for the connections of a link that goes down, or that better ones take the place of."""

from __future__ import annotations

from typing import Any

import pytest
from _mwan.document import Document
from _mwan.errors import InputError
from _mwan.reactions import Failback, OnDown

LINKS = [{"name": name, "device": name} for name in ("isp_a", "isp_b", "lte")]


def document(*policies: dict[str, Any], rules: Any = ()) -> Document:
    return Document.parse({"links": LINKS, "policies": list(policies), "rules": list(rules)})


def policy(name: str, *links: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "members": [{"link": link} for link in links], **more}


@pytest.mark.parametrize(
    ("written", "parsed"),
    [
        ({}, OnDown("reset", "reroute")),
        ({"tcp": None, "other": None}, OnDown()),
        ({"tcp": "keep"}, OnDown("keep", "reroute")),
        ({"other": "keep"}, OnDown("reset", "keep")),
    ],
)
def test_on_down(written: Any, parsed: OnDown) -> None:
    found = document(policy("p", "isp_a", on_down=written))
    assert found.on_down("isp_a") == parsed
    assert OnDown.parse("x", parsed.dump()) == parsed


@pytest.mark.parametrize(
    ("written", "parsed"),
    [
        ({}, Failback("keep", "keep", 0, None, False)),
        ({"after": None, "window": None, "manual": None}, Failback()),
        ({"tcp": "reset", "other": "reroute", "after": "10min"}, Failback("reset", "reroute", 600)),
        ({"after": 1.5}, Failback(after=1.5)),
        ({"window": "02:00-04:30"}, Failback(window=(120, 270))),
        ({"window": "22:00 - 00:00"}, Failback(window=(1320, 0))),
        ({"manual": True}, Failback(manual=True)),
        ({"manual": "no"}, Failback(manual=False)),
    ],
)
def test_failback(written: Any, parsed: Failback) -> None:
    assert document(policy("p", "isp_a", failback=written)).failback("isp_a") == parsed
    assert Failback.parse("x", parsed.dump()) == parsed


REFUSED = [
    ({"on_down": {"tcp": "reroute"}}, "on_down.tcp", "'reroute' is not known. Choose one of reset, keep"),
    ({"on_down": {"other": "reset"}}, "on_down.other", "'reset' is not known. Choose one of reroute, keep"),
    ({"on_down": {"udp": "keep"}}, "on_down.udp", "is not an option"),
    ({"on_down": "keep"}, "on_down", "'keep' is not a mapping"),
    ({"failback": {"after": -1}}, "failback.after", "is not a time in range. Give seconds from 0 to 604800"),
    ({"failback": {"after": "8 days"}}, "failback.after", "is not a time in range"),
    ({"failback": {"window": "2:00-4:00"}}, "failback.window", 'is not a time of day. Give it as text such as "02:00'),
    ({"failback": {"window": "02:00-24:00"}}, "failback.window", "is not a time of day"),
    ({"failback": {"window": 120}}, "failback.window", "120 is not a time of day"),
    ({"failback": {"window": "02:00-02:00"}}, "failback.window", "ends as it starts. Leave it out for the whole day"),
    ({"failback": {"manual": "maybe"}}, "failback.manual", "'maybe' is neither true nor false"),
    ({"failback": {"manual": 1.5}}, "failback.manual", "1.5 is neither true nor false"),
]


@pytest.mark.parametrize(("written", "option", "message"), REFUSED)
def test_a_reaction_that_cannot_be_is_refused(written: Any, option: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        document(policy("p", "isp_a", **written))
    assert caught.value.option == f"policies[0].{option}"
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("key", "first", "second", "shown"),
    [
        ("on_down", {"tcp": "keep"}, {}, "{'tcp': 'reset', 'other': 'reroute'}"),
        ("failback", {}, {"tcp": "reset"}, "{'tcp': 'reset', 'other': 'keep', 'after': 0.0, 'manual': False}"),
    ],
)
def test_policies_that_share_a_link_agree(key: str, first: Any, second: Any, shown: str) -> None:
    policies = (
        policy("balanced", "isp_a", "isp_b", **{key: first}),
        policy("voice", "lte", "isp_b", **{key: second}),
    )
    with pytest.raises(InputError) as caught:
        document(*policies)
    assert str(caught.value) == (
        f"policies.voice.{key}: {shown} is not that of policy balanced, and link isp_b is in both. Connections carry "
        f"the mark of their link only: give both policies the same {key}, or take isp_b out of one of them"
    )
    apart = policies[0], policy("voice", "lte", **{key: second})
    assert document(*apart).links[2].name == "lte"


def test_equal_meaning_agrees_however_it_is_written() -> None:
    found = document(
        policy("balanced", "isp_a", failback={"after": "1min", "manual": "false"}),
        policy("voice", "isp_a", failback={"after": 60}, on_down={"tcp": "reset"}),
    )
    assert found.failback("isp_a") == Failback(after=60)


def test_connections_that_cannot_be_told_apart_are_not_led_back() -> None:
    mixed = document(
        policy("p", "isp_a", "isp_b", failback={"tcp": "reset"}), rules=[{"name": "mail", "link": "isp_b"}]
    )
    assert mixed.failback("isp_a") == Failback(tcp="reset")
    assert mixed.failback("isp_b") is None, "a rule names it"
    assert mixed.failback("lte") is None, "in no policy"
    assert (mixed.on_down("isp_b"), mixed.on_down("lte")) == (OnDown(), OnDown())


def test_what_nobody_declared_is_not_stored() -> None:
    """So that the file of a router that was set up before stays as it is, and an older release can still read it."""
    plain = document(policy("p", "isp_a", on_down={}, failback={"tcp": "keep"})).dump()
    assert not {"on_down", "failback"} & plain["policies"][0].keys()
    assert not {"probe", "rate"} & plain["links"][0].keys()
    assert "probe" not in plain["settings"]
