# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which way new connections go, in the language of nft: a lookup for each block of choices, a chain for each outcome.

Every chain that writes a mark writes a constant, so that foreign bits survive; nothing follows such a chain, because
all of them are gone to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import gcd

from ..balancing import BUCKETS, LEAST_CONNECTIONS, MULTIPATH, PER_PACKET, RANDOM, SOURCE_DESTINATION_HASH, in_turn
from ..networks import address
from .blocks import Block, Box, compiled
from .choices import Choice, Chooser, Classification, Condition, Way
from .model import Firewall
from .nftables_sticky import SOURCES, lookups
from .nftables_text import COUNTER, SET, Chain, Means, elements, written

SELECTORS = {
    "device": "iifname",
    "sources": "ip saddr",
    "destinations": "ip daddr",
    "protocol": "meta l4proto",
    "source_ports": "th sport",
    "destination_ports": "th dport",
    "mac": "ether saddr",
    "user": "meta skuid",
    "group": "meta skgid",
    "dscp": "ip dscp",
}
# any constant: the same clients fall into the same buckets after every load
SEED = 0x6D77616E
DAY = 24 * 60  # minutes


def forwarded(firewall: Firewall) -> Iterator[str]:
    """The rule that asks the choices about what is forwarded; it comes after what restores marks."""
    if firewall.classification.forwarded:
        yield f"{_new(firewall)} jump choose"


def again(firewall: Firewall) -> Iterator[str]:
    """What has lost its mark, because its connection is given up, is led as if it were new: so it is told whether it
    would find another way."""
    if firewall.classification.forwarded:
        yield f"{_away(firewall)} jump choose"


def own(firewall: Firewall) -> Iterator[str]:
    if firewall.classification.own:
        yield f"{_new(firewall)} jump choose_own"


def _new(firewall: Firewall) -> str:
    return f"ct state new ct mark & 0x{firewall.mask:08x} == 0x0 {_away(firewall)}"


def _away(firewall: Firewall) -> str:
    """What leaves the networks here, and is nobody's yet."""
    excluded = ", ".join(firewall.classification.excluded)
    beyond = "fib daddr type != { local, broadcast, multicast }" + (
        f" ip daddr != {{ {excluded} }}" if excluded else ""
    )
    return f"meta mark & 0x{firewall.mask:08x} == 0x0 {beyond}"


def every_packet(firewall: Firewall) -> Iterator[tuple[str, str]]:
    """Where packets of connections go that have no link, by connection mark."""
    for chooser in firewall.classification.per_packet():
        yield f"0x{chooser.mark:08x}", f"goto every_{chooser.name}"


def left_alone(firewall: Firewall) -> Iterator[tuple[str, str]]:
    """The same of those that are left to the main table, and did not leave by a link."""
    main = firewall.classification.main
    if main is not None:
        yield f"0x{main:08x}", _led(main)


def kept(firewall: Firewall) -> Iterator[str]:
    """Has these be known by their other packets, too."""
    main, mask = firewall.classification.main, firewall.mask
    if main is not None:
        yield f"meta mark & 0x{mask:08x} == 0x{main:08x} {written('ct', main, mask)}"


def chains(firewall: Firewall, means: Means) -> Iterator[Chain]:
    classification = firewall.classification
    if not classification:
        return
    for name, choices in (("choose", classification.forwarded), ("choose_own", classification.own)):
        if choices:
            yield Chain(name, tuple(_lookups(choices, classification, means)))
            yield from _outcomes(choices, bool(firewall.resets))
    for chooser in classification.choosers:
        # what is asked once more: the route alone chooses, and nothing is kept
        begun = [f"ct state != new {_led(chooser.mark)}"] if firewall.resets else []
        yield from _chooser(chooser, firewall.mask, begun)
    for mark in sorted(_marks(classification)):
        yield Chain(f"mark_0x{mark:08x}", (written("meta", mark, firewall.mask),))


def _marks(classification: Classification) -> set[int]:
    found = {choice.mark for choice in (*classification.forwarded, *classification.own) if choice.mark is not None}
    for chooser in classification.choosers:
        found |= {chooser.mark, *(way.mark for way in chooser.ways), *(mark for _low, _high, mark in chooser.buckets)}
    return found


# what is asked


def _lookups(choices: tuple[Choice, ...], classification: Classification, means: Means) -> Iterator[str]:
    for block in compiled(choices, classification.sets):
        lookup = _lookup(block, choices)
        if block.gate.cgroup:
            # nft looks the number up; where it is another one, so must be this text, to be loaded again
            yield "# {} is {}".format(*block.gate.cgroup)
        yield from (f"{gate}{lookup}" for gate in _gates(block.gate, means))


def _lookup(block: Block, choices: tuple[Choice, ...]) -> str:
    if not block.keys:
        return _verdict(choices[block.elements[0][1]])
    selector = " . ".join(SELECTORS[key] for key in block.keys)
    found = ((_element(block.keys, box), _verdict(choices[position])) for box, position in block.elements)
    return f"{selector} vmap {{ {elements(found)} }}"


def _verdict(choice: Choice) -> str:
    if choice.rule:
        return f"goto {_name(choice)}"
    return _target(choice) or "return"


def _name(choice: Choice) -> str:
    return ("own_" if choice.own else "") + COUNTER + choice.rule


def _target(choice: Choice) -> str:
    if choice.chooser:
        return f"goto by_{choice.chooser}"
    return "" if choice.mark is None else _led(choice.mark)


def _led(mark: int) -> str:
    return f"goto mark_0x{mark:08x}"


def _outcomes(choices: Iterable[Choice], again: bool) -> Iterator[Chain]:
    """`again`: not only new connections are asked, and these are not counted."""
    for choice in choices:
        if choice.rule:
            counter, target = f'counter name "{COUNTER}{choice.rule}"', _target(choice)
            rules = (f"ct state new {counter}", target) if again else (f"{counter} {target}",)
            yield Chain(_name(choice), tuple(rule.rstrip() for rule in rules if rule))


def _gates(gate: Condition, means: Means) -> Iterator[str]:
    """What comes before the lookup, or the verdict; once for each time of day."""
    parts = [*_listed(gate), *_single(gate), *_cgroup(gate, means)]
    for time in _times(gate.times):
        yield "".join(f"{part} " for part in (*parts, *time))


def _listed(gate: Condition) -> Iterator[str]:
    for name, key in (("source_set", "sources"), ("destination_set", "destinations")):
        if getattr(gate, name):
            yield f"{SELECTORS[key]} @{SET}{getattr(gate, name)}"
        elif getattr(gate, key):
            yield f"{SELECTORS[key]} {{ {', '.join(getattr(gate, key))} }}"


def _single(gate: Condition) -> Iterator[str]:
    for key in ("device", "protocol", "source_ports", "destination_ports", "dscp", "mac", "user", "group"):
        value = getattr(gate, key)
        if value not in (None, ()):
            spans = value if isinstance(value, tuple) else ((value, value),)
            yield f"{SELECTORS[key]} {{ {', '.join(_span(key, span) for span in spans)} }}"
    if gate.mark:
        value, mask = gate.mark
        yield f"meta mark & 0x{mask:08x} == 0x{value:08x}"


def _cgroup(gate: Condition, means: Means) -> Iterator[str]:
    if gate.cgroup:
        path, _number = gate.cgroup
        yield f'socket cgroupv2 level {path.count("/") + 1} "{means.cgroups}{path}"'


def _times(times: tuple[tuple[int, int, int], ...]) -> Iterator[list[str]]:
    """Days that share their hours together. Numbers, because nft takes names of hours for local time.

    The kernel's week begins on Sunday, and its day has seconds.
    """
    days: dict[tuple[int, int], list[int]] = {}
    for day, first, end in times:
        days.setdefault((first, end), []).append((day + 1) % 7)
    for (first, end), listed in days.items():
        named = [f"meta day {{ {', '.join(map(str, sorted(listed)))} }}"] if len(listed) < 7 else []
        yield [*named, *([f"meta hour {first * 60}-{end * 60 - 1}"] if end - first < DAY else [])]
    if not times:
        yield []


def _element(keys: tuple[str, ...], box: Box) -> str:
    return " . ".join(_span(key, span) for key, span in zip(keys, box))


def _span(key: str, span: tuple[object, object]) -> str:
    low, high = span
    if key == "device":
        return f'"{low}"'
    if key in ("sources", "destinations"):
        return _addresses(low, high)  # type: ignore[arg-type]
    return str(low) if low == high else f"{low}-{high}"


def _addresses(low: int, high: int) -> str:
    """A network where it is one."""
    size = high - low + 1
    if size & (size - 1) == 0 and low % size == 0:
        return f"{address(low)}/{33 - size.bit_length()}" if size > 1 else address(low)
    return f"{address(low)}-{address(high)}"


# who takes it


def _chooser(chooser: Chooser, mask: int, begun: list[str]) -> Iterator[Chain]:
    """Where a link takes what comes later, too, the connection has the policy's mark until it has left."""
    remembered = chooser.sticky or chooser.algorithm == PER_PACKET
    rules = [*begun, written("ct", chooser.mark, mask)] if remembered else [*begun]
    rules += [f"{lookup} {_led(mark)}" for lookup, mark in lookups(chooser)]
    if chooser.algorithm != PER_PACKET:
        yield Chain(f"by_{chooser.name}", (*rules, *_spread(chooser)))
        return
    # one rule for the first packet and the others: they are counted together
    yield Chain(f"by_{chooser.name}", (*rules, f"goto spread_{chooser.name}"))
    yield Chain(f"every_{chooser.name}", (f"ct direction original goto spread_{chooser.name}",))
    yield Chain(f"spread_{chooser.name}", tuple(_spread(chooser)))


def _spread(chooser: Chooser) -> Iterator[str]:
    if chooser.algorithm == MULTIPATH or not chooser.ways:
        yield _led(chooser.mark)
    elif len(chooser.ways) == 1:
        yield _led(chooser.ways[0].mark)
    elif chooser.algorithm == LEAST_CONNECTIONS:
        yield from _queue(chooser)
    else:
        yield _drawn(chooser)


def _drawn(chooser: Chooser) -> str:
    if chooser.buckets:
        fields = f"{SOURCES} . ip daddr" if chooser.algorithm == SOURCE_DESTINATION_HASH else SOURCES
        return f"jhash {fields} mod {BUCKETS} seed 0x{SEED:x} vmap {{ {_shares(chooser.buckets)} }}"
    if chooser.algorithm == RANDOM:
        spans = list(_weighed(chooser.ways))
        total = spans[-1][1] + 1
        return f"numgen random mod {total} vmap {{ {_shares(spans)} }}"
    turns = in_turn(_reduced(chooser.ways))
    found = ((number, number, chooser.ways[turn].mark) for number, turn in enumerate(turns))
    return f"numgen inc mod {len(turns)} vmap {{ {_shares(found)} }}"


def _queue(chooser: Chooser) -> Iterator[str]:
    """Until it is answered, and where nobody answers, it is the multipath route's."""
    if chooser.queue is None:
        yield _led(chooser.mark)
    else:
        yield f"jump mark_0x{chooser.mark:08x}"
        yield f"queue num {chooser.queue} bypass"


def _shares(parts: Iterable[tuple[int, int, int]]) -> str:
    return elements((_span("", (low, high)), _led(mark)) for low, high, mark in parts)


def _weighed(ways: tuple[Way, ...]) -> Iterator[tuple[int, int, int]]:
    below = 0
    for way, weight in zip(ways, _reduced(ways)):
        yield below, below + weight - 1, way.mark
        below += weight


def _reduced(ways: tuple[Way, ...]) -> list[int]:
    """Weights without what all of them have in common: a shorter round."""
    common = gcd(*(way.weight for way in ways))
    return [way.weight // common for way in ways]
