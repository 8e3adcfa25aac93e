# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policy routing rules: their words, which of them exclude each other, and their way over netlink and back."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest
from _mwan import messages, nfnetlink, rtnl
from _mwan.errors import KernelError
from _mwan.kernel import Facts, IpRule
from _mwan.plan import Operation
from hypothesis import given
from hypothesis import strategies as st
from unit.model_kernel import ModelRouter

MARKED: dict[str, Any] = {"mark": 0x100, "mask": 0x3F00}
DSCP, SPORT_MASK, DPORT_MASK = 25, 28, 29  # linux/fib_rules.h
UNRESOLVED = 4


def goto(target: int, priority: int = 10, **more: Any) -> IpRule:
    return IpRule(priority, 0, action="goto", target=target, **more)


def nop(priority: int = 10, **more: Any) -> IpRule:
    return IpRule(priority, 0, action="nop", **more)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (goto(2000), "from all goto 2000"),
        (goto(2000, **MARKED), "from all fwmark 0x100/0x3f00 goto 2000"),
        (goto(300, device="lo", inverted=True), "not from all iif lo goto 300"),
        (nop(), "from all nop"),
        (IpRule(10, 100, out_device="wan1"), "from all oif wan1 lookup 100"),
        (IpRule(10, 100, user=(13, 13)), "from all uidrange 13-13 lookup 100"),
        (
            IpRule(
                10,
                100,
                source="1.2.3.0/24",
                destination="5.5.5.0/24",
                device="lo",
                protocol=6,
                source_port=(1, 2),
                destination_port=(5, 5),
                suppress_default=True,
                out_device="wan1",
                user=(13, 20),
                inverted=True,
                **MARKED,
            ),
            "not from 1.2.3.0/24 to 5.5.5.0/24 fwmark 0x100/0x3f00 iif lo oif wan1 uidrange 13-20 ipproto 6 "
            "sport 1-2 dport 5 lookup 100 suppress_prefixlength 0",
        ),
    ],
)
def test_words_are_those_of_ip_rule(rule: IpRule, words: str) -> None:
    assert rule.words("100") == words
    assert str(rule) == f"10: {words}"


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        (goto(300), goto(400), True),
        (goto(300), nop(), False),
        (goto(300), IpRule(10, 100), False),
        (goto(300), goto(300, inverted=True), True),
        (goto(300, device="lo"), goto(300, device="lo", inverted=True), True),
        (goto(300, device="lo"), goto(300, device="lan0", inverted=True), False),
        (goto(300, **MARKED), goto(400, mark=0x200, mask=0x3F00), False),
        (IpRule(10, 100, out_device="wan1"), IpRule(10, 100, out_device="wan2"), False),
        (IpRule(10, 100, out_device="wan1"), IpRule(10, 100), True),
        (IpRule(10, 100, out_device="wan1"), IpRule(10, 101, out_device="wan1"), False),
        (IpRule(10, 100, out_device="wan1"), IpRule(10, 100, source="5.5.5.5/32"), False),
        (IpRule(10, 100, user=(13, 13)), IpRule(10, 100, user=(13, 14)), False),
        (IpRule(10, 100, user=(0, 0)), IpRule(10, 100), True),
    ],
)
def test_clashes(one: IpRule, other: IpRule, clash: bool) -> None:
    assert (one.clashes(other), other.clashes(one)) == (clash, clash)


def test_a_plan_tells_them_as_commands() -> None:
    operation = Operation("rule", None, goto(2000, **MARKED))
    command = "priority 10 from all fwmark 0x100/0x3f00 goto 2000 protocol mwan"
    assert operation.describe({0: "unspec"}) == f"ip rule add {command}"
    assert operation.inverse().describe({}) == f"ip rule delete {command}"


ranges = st.tuples(st.integers(1, 1000), st.integers(1, 1000)).map(sorted).map(lambda pair: (pair[0], pair[1]))
selectors = st.fixed_dictionaries(
    {},
    optional={
        "source": st.just("10.0.0.0/8"),
        "destination": st.just("7.7.7.7/32"),
        "device": st.sampled_from(("lo", "lan0")),
        "out_device": st.sampled_from(("wan1", "wan2")),
        "user": st.just((0, 0)) | ranges,
        "protocol": st.sampled_from((6, 17)),
        "source_port": ranges,
        "destination_port": ranges,
        "inverted": st.booleans(),
    },
)
deeds = st.one_of(
    st.builds(lambda table, suppress: {"table": table, "suppress_default": suppress}, st.integers(1, 9), st.booleans()),
    st.builds(lambda target: {"table": 0, "action": "goto", "target": target}, st.integers(100, 200)),
    st.just({"table": 0, "action": "nop"}),
)
rules = st.builds(
    lambda priority, selector, mark, deed: IpRule(priority, **{**selector, **mark, **deed}),
    st.sampled_from((10, 11)),
    selectors,
    st.sampled_from(({}, MARKED, {"mark": 0, "mask": 0x3F00})),
    deeds,
)


def octets(rule: IpRule, flags: int = 0, more: bytes = b"") -> bytes:
    """The rule as the kernel tells it, with more flags and attributes."""
    sent = bytearray(messages.rule_message(rule) + more)
    struct.pack_into("=I", sent, 0, len(sent))
    place = rtnl.HEADER.size + 8
    struct.pack_into("=I", sent, place, struct.unpack_from("=I", sent, place)[0] | flags)
    return bytes(sent)


@given(rules, st.sampled_from((0, UNRESOLVED, 8, 16)))
def test_reads_back_what_it_sends(rule: IpRule, flags: int) -> None:
    message = messages.decoded(messages.RULE, octets(rule, flags))
    assert messages.rule(message) == rule
    assert messages.rule_is_plain(message)


@pytest.mark.parametrize(
    ("number", "value", "plain"),
    [
        (SPORT_MASK, b"\xff\xff", True),
        (DPORT_MASK, b"\xff\xff", True),
        (DPORT_MASK, b"\x01\x00", False),
        (DSCP, b"\x0a", False),
    ],
)
def test_conditions_younger_than_the_reader_are_not_passed_over(number: int, value: bytes, plain: bool) -> None:
    sent = octets(IpRule(10, 100, user=(13, 13)), more=nfnetlink.attribute(number, value))
    assert messages.rule_is_plain(messages.decoded(messages.RULE, sent)) is plain


@given(rules, rules)
def test_what_does_not_clash_lives_side_by_side(one: IpRule, other: IpRule) -> None:
    """In the model kernel, whichever comes first, and either is deleted without the other."""
    if one == other or one.clashes(other):
        return
    for first, second in ((one, other), (other, one)):
        routing = ModelRouter(Facts()).routing
        routing.change_rule(None, first)
        routing.change_rule(None, second)
        routing.change_rule(second, None)
        assert routing.rules() == {first}


def test_the_model_kernel_refuses_what_the_kernel_refuses() -> None:
    routing = ModelRouter(Facts()).routing
    with pytest.raises(KernelError, match="EINVAL"):
        routing.change_rule(None, goto(10))
    routing.change_rule(None, goto(300, device="lo"))
    for twin in (goto(400, device="lo"), goto(300, device="lo", inverted=True)):
        with pytest.raises(KernelError, match="EEXIST"):
            routing.change_rule(None, twin)
    routing.change_rule(replace(goto(400), device="lo"), None)
    assert routing.rules() == set()
