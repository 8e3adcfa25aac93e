# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Choices as x_tables rules. Pure.

A rule that has decided goes to a chain that sets the packet's mark (`-g`), and from its end back to where the choosing
was begun: no further rule is asked. Every rule of MWAN_CHOOSE and MWAN_CHOOSE_OWN that decides for a declared one bears
its name as a comment, by which packets are counted.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from math import gcd

from ..balancing import BUCKETS, HASHES, PER_PACKET, RANDOM, ROUND_ROBIN, SOURCE_DESTINATION_HASH, in_turn
from .choices import Choice, Chooser, Classification, Way
from .iptables_conditions import conditions
from .iptables_sets import shortened, sticky_set
from .model import Firewall
from .xtables import Extension, Rule, connmark, set_connmark

MARKED = "MWAN_MARK_"
# XT_EXTENSION_MAXNAMELEN is 29, and iptables takes one less
LONGEST_CHAIN = 28
# turns that are rules of one chain
SHORT_ROUND = 8
RETURN = Extension("RETURN")
NEW = Extension("conntrack", (("ctstate", "NEW"),))
ORIGINAL = Extension("conntrack", (("ctdir", "ORIGINAL"),))


def prerouting(firewall: Firewall) -> Iterator[Rule]:
    """What comes behind the restored mark: each in turn, the time of clients prolonged, new connections led."""
    classification, mask = firewall.classification, firewall.mask
    for chooser in classification.per_packet():
        chosen = connmark(chooser.mark, mask)
        yield Rule("MWAN_PREROUTING", _chain("TURN", chooser), (chosen, ORIGINAL), goto=True)
    if classification.sticky():
        yield Rule("MWAN_PREROUTING", Extension("MWAN_REFRESH"), (connmark(0, mask, invert=True), ORIGINAL))
    if classification.forwarded:
        yield Rule("MWAN_PREROUTING", Extension("MWAN_CHOOSE"), _undecided(mask))


def again(firewall: Firewall, to_be_reset: Iterable[Rule]) -> Iterator[Rule]:
    """What has lost its mark is led as if it were new, so that it is told whether it would find another way."""
    if firewall.classification.forwarded:
        yield from (replace(rule, target=Extension("MWAN_AGAIN")) for rule in to_be_reset)


def output(firewall: Firewall) -> Iterator[Rule]:
    if firewall.classification.own:
        yield Rule("MWAN_OUTPUT", Extension("MWAN_CHOOSE_OWN"), _undecided(firewall.mask))


def postrouting(firewall: Firewall) -> Iterator[Rule]:
    """New connections of sticky policies bear the policy's mark until here."""
    for chooser in firewall.classification.sticky():
        chosen = connmark(chooser.mark, firewall.mask)
        yield Rule("MWAN_POSTROUTING", _chain("KEEP", chooser), (NEW, chosen), goto=True)


def saved(firewall: Firewall) -> Iterator[Rule]:
    """What is left to the main table, and leaves by no link, is known by its other packets, too."""
    main, mask = firewall.classification.main, firewall.mask
    if main is not None:
        yield Rule("MWAN_SAVE", set_connmark(main, mask), (connmark(0, mask), _packet_mark(main, mask)))


def chains(firewall: Firewall) -> Iterator[Rule]:
    """All that the three lead to."""
    rules = list(_chains(firewall))
    yield from rules
    for name in sorted({rule.target.name for rule in rules if rule.target.name.startswith(MARKED)}):
        yield Rule(name, Extension("MARK", (("set-xmark", f"{name[len(MARKED) :]}/0x{firewall.mask:x}"),)))


def _chains(firewall: Firewall) -> Iterator[Rule]:
    classification, mask = firewall.classification, firewall.mask
    yield from _asked("MWAN_CHOOSE", classification.forwarded, classification)
    yield from _asked("MWAN_CHOOSE_OWN", classification.own, classification)
    if firewall.resets:
        routed = [_routed(choice, classification) for choice in classification.forwarded]
        yield from _asked("MWAN_AGAIN", routed, classification)
    for chooser in classification.choosers:
        yield from _chooser(chooser, mask)
    for chooser in classification.per_packet():
        yield from _turns(_chain("TURN", chooser).name, chooser.ways)
    for chooser in classification.sticky():
        yield from _refreshed(chooser, mask)
        yield from _kept(chooser, mask)


def _undecided(mask: int) -> tuple[Extension, ...]:
    return NEW, connmark(0, mask), _packet_mark(0, mask)


def _packet_mark(mark: int, mask: int) -> Extension:
    return Extension("mark", (("mark", f"0x{mark:x}/0x{mask:x}"),))


# the choices


def _asked(chain: str, choices: Sequence[Choice], classification: Classification) -> Iterator[Rule]:
    if not choices:
        return
    nearby = Extension("addrtype", (("dst-type", "LOCAL,BROADCAST,MULTICAST"),))
    yield Rule(chain, RETURN, (nearby,))
    for network in classification.excluded:
        yield Rule(chain, RETURN, destination=network)
    rest = chain
    for number, choice in enumerate(choices, start=1):
        verdict = RETURN
        if choice.chooser is not None:
            verdict = _chain("BY", classification.chooser(choice.chooser))
        elif choice.mark is not None:
            verdict = _marking(choice.mark)
        after = f"{chain}_{number}"
        counter = (Extension("comment", (("comment", choice.rule),)),) if choice.rule else ()
        rules = list(conditions(choice.condition, rest, after, verdict, counter))
        yield from rules
        rest = after if any(rule.target.name == after for rule in rules) else rest


def _routed(choice: Choice, classification: Classification) -> Choice:
    """For what is asked once more: a policy's route decides, and nothing is counted or kept."""
    mark = classification.chooser(choice.chooser).mark if choice.chooser is not None else choice.mark
    return Choice("", choice.condition, mark)


def _marking(mark: int) -> Extension:
    return Extension(f"{MARKED}0x{mark:x}")


def _chain(purpose: str, chooser: Chooser) -> Extension:
    return Extension(shortened(f"MWAN_{purpose}_{chooser.name}", LONGEST_CHAIN))


# the choosers


def _chooser(chooser: Chooser, mask: int) -> Iterator[Rule]:
    chain = _chain("BY", chooser).name
    if chooser.sticky or chooser.algorithm == PER_PACKET:
        yield Rule(chain, set_connmark(chooser.mark, mask))
    if chooser.sticky:
        for way in chooser.ways:
            yield _to(chain, way.mark, _match_set(chooser, way.name))
    if _asks(chooser) or chooser.algorithm == PER_PACKET:
        # what is decided when nobody answers for the queue, or there is no way
        yield Rule(chain, _marking(chooser.mark))
    yield from _spread(chain, chooser)


def _asks(chooser: Chooser) -> bool:
    """Nobody is asked where there is one answer, or none."""
    return chooser.queue is not None and len(chooser.ways) > 1


def _spread(chain: str, chooser: Chooser) -> Iterator[Rule]:
    if _asks(chooser):
        # A program that answers has the packet accepted, so that no rule behind it in this hook of the table is asked.
        yield Rule(chain, Extension("NFQUEUE", (("queue-num", str(chooser.queue)), ("queue-bypass", ""))))
    elif chooser.algorithm == PER_PACKET:
        yield Rule(chain, _chain("TURN", chooser), goto=True)
    elif chooser.algorithm == RANDOM and chooser.ways:
        yield from _drawn(chain, chooser.ways)
    elif chooser.algorithm == ROUND_ROBIN and chooser.ways:
        yield from _turns(chain, chooser.ways)
    elif chooser.queue is not None and chooser.ways:
        yield _to(chain, chooser.ways[0].mark)
    elif chooser.algorithm in HASHES and chooser.buckets:
        yield from _by_hash(chain, chooser)
    else:
        yield _to(chain, chooser.mark)


def _to(chain: str, mark: int, *matches: Extension) -> Rule:
    return Rule(chain, _marking(mark), matches, goto=True)


def _drawn(chain: str, ways: Sequence[Way]) -> Iterator[Rule]:
    """Each rule is asked only by what those before it have left."""
    left = sum(way.weight for way in ways)
    for way in ways[:-1]:
        chance = f"{way.weight / left:.10f}"
        yield _to(chain, way.mark, Extension("statistic", (("mode", "random"), ("probability", chance))))
        left -= way.weight
    yield _to(chain, ways[-1].mark)


def _turns(chain: str, ways: Sequence[Way]) -> Iterator[Rule]:
    """Each packet takes the next turn of a round.

    The kernel counts from the beginning whenever anybody changes a rule of the table.
    """
    common = reduce(gcd, (way.weight for way in ways), 0)
    turns = in_turn([way.weight // common for way in ways])
    return _dealt(chain, [ways[index].mark for index in turns])


def _dealt(root: str, marks: Sequence[int], path: str = "") -> Iterator[Rule]:
    """Of N packets the first rule takes one, of N - 1 left to it the second, and so on.

    A long round is dealt to two chains first, so that a packet meets few rules; `path` tells them apart.
    """
    chain = _half(root, path)
    if len(marks) > SHORT_ROUND and len(set(marks)) > 1:
        odd = len(marks) % 2
        if odd:
            yield _to(chain, marks[0], _nth(len(marks)))
        yield Rule(chain, Extension(_half(root, path + "0")), (_nth(2),), goto=True)
        yield Rule(chain, Extension(_half(root, path + "1")), goto=True)
        yield from _dealt(root, marks[odd::2], path + "0")
        yield from _dealt(root, marks[odd + 1 :: 2], path + "1")
        return
    for left, mark in zip(range(len(marks), 0, -1), marks):
        alone = len(set(marks[-left:])) == 1
        yield _to(chain, mark, *(() if alone else (_nth(left),)))
        if alone:
            return


def _half(root: str, path: str) -> str:
    return shortened(f"{root}.{path}", LONGEST_CHAIN) if path else root


def _nth(every: int) -> Extension:
    return Extension("statistic", (("mode", "nth"), ("every", str(every)), ("packet", "0")))


def _by_hash(chain: str, chooser: Chooser) -> Iterator[Rule]:
    """The parts are in order, so each rule asks only whether the bucket is beyond its part."""
    both = chooser.algorithm == SOURCE_DESTINATION_HASH
    for _low, high, mark in chooser.buckets[:-1]:
        yield _to(chain, mark, Extension("bpf", (("bytecode", f'"{bytecode(high, both)}"'),)))
    yield _to(chain, chooser.buckets[-1][2])


# the hash: the finalizer of MurmurHash3, which leaves no pattern of addresses in its bits

_FACTORS = 0x85EBCA6B, 0xC2B2AE35
_SHIFTS = 16, 13, 16
_TO_BUCKET = 32 - (BUCKETS - 1).bit_length()

# classic BPF, linux/bpf_common.h; the packet begins with its IP header
_LOAD, _SHIFT_RIGHT, _MULTIPLY, _XOR_X, _TO_X, _IF_ABOVE, _END = 0x20, 0x74, 0x24, 0xAC, 0x07, 0x25, 0x06
_SOURCE, _DESTINATION = 12, 16


def bucket_of(source: str, destination: str | None = None) -> int:
    """The bucket, of BUCKETS, that the programs below find; the destination counts only where it is given."""
    mixed = _mixed(int(ipaddress.IPv4Address(source)))
    if destination is not None:
        mixed = _mixed(mixed ^ int(ipaddress.IPv4Address(destination)))
    return mixed >> _TO_BUCKET


def _mixed(value: int) -> int:
    for shift, factor in zip(_SHIFTS, (*_FACTORS, 1)):
        value = (value ^ value >> shift) * factor & 0xFFFFFFFF
    return value


def bytecode(high: int, both: bool) -> str:
    """The program that tells whether a packet's bucket is `high` at most, as iptables takes it."""
    program = [(_LOAD, 0, 0, _SOURCE), *_mixing()]
    if both:
        program += [(_TO_X, 0, 0, 0), (_LOAD, 0, 0, _DESTINATION), (_XOR_X, 0, 0, 0), *_mixing()]
    program += [(_SHIFT_RIGHT, 0, 0, _TO_BUCKET), (_IF_ABOVE, 1, 0, high), (_END, 0, 0, 1), (_END, 0, 0, 0)]
    return ",".join([str(len(program)), *(" ".join(map(str, instruction)) for instruction in program)])


def _mixing() -> Iterator[tuple[int, int, int, int]]:
    for shift, factor in zip(_SHIFTS, (*_FACTORS, None)):
        yield from ((_TO_X, 0, 0, 0), (_SHIFT_RIGHT, 0, 0, shift), (_XOR_X, 0, 0, 0))
        if factor is not None:
            yield _MULTIPLY, 0, 0, factor


# clients that stay


def _refreshed(chooser: Chooser, mask: int) -> Iterator[Rule]:
    for name, mark in chooser.members:
        known = _match_set(chooser, name)
        yield Rule("MWAN_REFRESH", _stay(chooser, name), (connmark(mark, mask), known))


def _kept(chooser: Chooser, mask: int) -> Iterator[Rule]:
    """What left by no member leaves no trace, and what was sent by one and left by another neither.

    So goes what has a route of its own in the main table. Where routing was to decide, that cannot be told.
    """
    keep, move = _chain("KEEP", chooser).name, _chain("MOVE", chooser)
    yield Rule(keep, set_connmark(0, mask))
    yield Rule(keep, Extension("MWAN_SAVE"))
    for _name, mark in chooser.members:
        for sent in (mark, chooser.mark):
            yield Rule(keep, move, (connmark(mark, mask), _packet_mark(sent, mask)), goto=True)
    for name, mark in chooser.members:
        gone = Extension("SET", (("del-set", _set(chooser, name)),))
        yield Rule(move.name, gone, (connmark(mark, mask, invert=True),))
        yield Rule(move.name, _stay(chooser, name), (connmark(mark, mask),))


def _stay(chooser: Chooser, member: str) -> Extension:
    return Extension("SET", (("add-set", _set(chooser, member)), ("exist", ""), ("timeout", str(chooser.sticky))))


def _match_set(chooser: Chooser, member: str) -> Extension:
    return Extension("set", (("match-set", _set(chooser, member)),))


def _set(chooser: Chooser, member: str) -> str:
    return "{} {}".format(sticky_set(chooser, member).name, "src" if chooser.sticky_by == "source" else "src,dst")
