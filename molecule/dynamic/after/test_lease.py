# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What clients saw of the lease that changed under them in side_effect.yml."""

from __future__ import annotations

import json
from itertools import dropwhile

from lab import STEADY, accesses, run, run_json, steady

FORMER, ADDRESS, LINE = "5.5.5.100", "5.5.9.100", "22.2.2.2"
ERRORS_OF_NEW = 2  # each takes three seconds, and the link is suspect after half of one


def kept() -> list[list[str]]:
    """What each connection that was kept open had as answers, in their order."""
    *connections, _new = zip(*steady("client"), strict=True)
    return [list(answers) for answers in connections]


def test_the_link_has_the_new_address_and_gateway() -> None:
    link = run_json("router", "mwanctl status --json")["links"]["cable"]

    assert (link["state"], link["address"], link["gateway"]) == ("up", ADDRESS, "5.5.9.1")
    assert FORMER not in run("router", "ip rule; ip route show table all; nft list table inet mwan")


def test_connections_of_the_former_address_are_given_up() -> None:
    """Each met an error, and was begun anew elsewhere; no connection was seen from two addresses."""
    concerned = [answers for answers in kept() if answers[0] == FORMER]
    assert concerned
    for answers in concerned:
        after = [answer for answer in dropwhile(FORMER.__eq__, answers) if not answer.startswith("error")]
        assert len(after) < len(answers) - answers.count(FORMER), "an error"
        assert set(after) <= {ADDRESS, LINE}

    seen = {(access.connection, access.source) for access in accesses("server", STEADY)}
    assert len(seen) == len({connection for connection, _source in seen})
    assert run("router", "conntrack -L --reply-dst %s 2>/dev/null", FORMER) == ""


def test_connections_of_the_other_link_notice_nothing() -> None:
    others = [answers for answers in kept() if answers[0] == LINE]

    assert others
    assert {answer for answers in others for answer in answers} == {LINE}


def test_new_connections_take_the_new_address() -> None:
    new = [answers[-1] for answers in steady("client")]
    errors = [answer for answer in new if answer.startswith("error")]
    last = len(new) - new[::-1].index(FORMER)

    assert len(errors) <= ERRORS_OF_NEW
    assert {FORMER, LINE} <= set(new[:last])
    assert set(new[last:]) - set(errors) == {ADDRESS, LINE}


def test_the_prober_tells_of_the_one_link_only() -> None:
    events = [json.loads(line) for line in run("router", "mwanctl events --json").splitlines()]

    assert {event["link"] for event in events if event["after"] == "down"} == {"cable"}
