# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Choices as x_tables rules, with packets followed through them: no kernel is needed to see where they lead."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from _mwan.balancing import BUCKETS, buckets, in_turn
from _mwan.firewall.choices import Choice, Chooser, Classification, Condition, NetworkSet, Way
from _mwan.firewall.iptables_choices import LONGEST_CHAIN, bucket_of, bytecode
from _mwan.firewall.iptables_rules import chains, render, table_rules
from _mwan.firewall.iptables_sets import sets
from _mwan.firewall.model import Firewall, FirewallLink
from hypothesis import given
from hypothesis import strategies as st
from unit.xtables_walk import Packet, Tables, bpf, within

MASK, FOREIGN = 0x3F00, 0xA5FF00A5 & ~0x3F00
MARKS = {"isp_a": 0x100, "isp_b": 0x200, "isp_c": 0x300}
POLICY = 0x900
LINKS = tuple(FirewallLink(name, mark, f"wan{mark >> 8}") for name, mark in MARKS.items())
NETWORKS = ("192.168.0.0/16", "192.168.1.0/24", "10.0.0.0/8", "0.0.0.0/0")
addresses = st.sampled_from(("192.168.1.1", "192.168.7.1", "10.9.9.9", "172.16.0.1"))
anywhere = st.integers(0, 2**32 - 1).map(lambda number: str(ipaddress.IPv4Address(number)))


def tables(classification: Classification) -> Tables:
    found = {item.name: set(item.networks or ()) for item in sets(classification)}
    return Tables(table_rules(Firewall(MASK, LINKS, classification=classification))["mangle"], found)


def spreading(algorithm: str, weights: Sequence[int], **more: Any) -> Classification:
    ways = tuple(Way(name, MARKS[name], weight) for name, weight in zip(MARKS, weights, strict=False))
    chooser = Chooser("p", POLICY, algorithm, ways, members=tuple(MARKS.items()), **more)
    return Classification((Choice("all", chooser="p"),), (), (chooser,))


def forward(live: Tables, **of: Any) -> Packet:
    """The first packet of a connection, through prerouting; marks of others are there before and after."""
    packet = Packet(mark=FOREIGN, connection=FOREIGN, **of)
    live.walk("MWAN_PREROUTING", packet)
    assert (packet.mark & ~MASK, packet.connection & ~MASK) == (FOREIGN, FOREIGN)
    return packet


def leave(live: Tables, packet: Packet) -> None:
    """As routing by its mark has it: out by the link."""
    packet.out = f"wan{(packet.mark & MASK) >> 8}"
    live.walk("MWAN_POSTROUTING", packet)
    assert packet.connection & ~MASK == FOREIGN


def chosen(live: Tables, **of: Any) -> int:
    return forward(live, **of).mark & MASK


# conditions

ranges = st.lists(st.integers(1, 60), unique=True, max_size=40).map(
    lambda ports: tuple((port * 1000, port * 1000 + (port % 2) * 500) for port in sorted(ports))
)
conditions = st.builds(
    Condition,
    sources=st.lists(st.sampled_from(NETWORKS), unique=True, max_size=3).map(tuple),
    source_set=st.sampled_from((None, None, "lan")),
    destinations=st.lists(st.sampled_from(("7.7.7.0/24", "7.7.8.0/24")), unique=True).map(tuple),
    device=st.sampled_from((None, None, "lan0", "lan1")),
    protocol=st.just(6),
    source_ports=st.just(()),
    destination_ports=ranges,
    dscp=st.sampled_from((None, None, 46)),
    mac=st.sampled_from((None, None, "02:00:00:00:00:01")),
    mark=st.sampled_from((None, None, (0x10000, 0xFF0000))),
    times=st.lists(st.sampled_from(((0, 0, 1440), (1, 480, 1020), (2, 480, 1020), (1, 0, 60))), unique=True).map(tuple),
    user=st.sampled_from((None, None, 7)),
    group=st.sampled_from((None, None, 8)),
)
packets = st.fixed_dictionaries(
    {
        "source": addresses,
        "destination": st.sampled_from(("7.7.7.7", "7.7.8.8", "7.7.9.9")),
        "device": st.sampled_from(("lan0", "lan1")),
        "protocol": st.sampled_from((6, 17)),
        "destination_port": st.integers(1, 120).map(lambda half: half * 500),
        "dscp": st.sampled_from((0, 46)),
        "mac": st.sampled_from(("02:00:00:00:00:01", "02:00:00:00:00:02")),
        "mark": st.sampled_from((0, 0x10000, 0x1FF0000)),
        "when": st.sampled_from(((0, 0), (1, 59), (1, 60), (1, 480), (2, 1019), (2, 1020), (6, 1439))),
        "user": st.sampled_from((0, 7)),
        "group": st.sampled_from((0, 8)),
    }
)
LAN = NetworkSet("lan", ("192.168.7.0/24", "172.16.0.0/12"))


def holds(asked: Condition, packet: Packet) -> bool:
    day, minute = packet.when
    return (
        (not asked.sources or any(within(packet.source, network) for network in asked.sources))
        and (not asked.source_set or any(within(packet.source, network) for network in LAN.networks))
        and (not asked.destinations or any(within(packet.destination, network) for network in asked.destinations))
        and asked.device in (None, packet.device)
        and asked.protocol in (None, packet.protocol)
        and (not asked.destination_ports or any(a <= packet.destination_port <= b for a, b in asked.destination_ports))
        and asked.dscp in (None, packet.dscp)
        and asked.mac in (None, packet.mac)
        and (not asked.mark or packet.mark & asked.mark[1] == asked.mark[0])
        and (not asked.times or any(day == on and first <= minute < end for on, first, end in asked.times))
        and asked.user in (None, packet.user)
        and asked.group in (None, packet.group)
    )


@given(st.lists(conditions, min_size=1, max_size=5), st.lists(packets, min_size=1, max_size=8))
def test_the_first_rule_whose_condition_holds_decides_and_counts(
    asked: list[Condition], sent: list[dict[str, Any]]
) -> None:
    # the second is left alone, so that what follows it is seen not to be asked
    choices = tuple(
        Choice(f"r{number}", condition, None if number == 1 else 0x100 * (number + 1))
        for number, condition in enumerate(asked)
    )
    live = tables(Classification(choices, choices, sets=(LAN,), excluded=("7.7.9.0/24",)))
    expected: Counter[str] = Counter()
    for hook in ("MWAN_PREROUTING", "MWAN_OUTPUT"):
        for fields in sent:
            packet = Packet(**fields)
            met = [choice for choice in choices if holds(choice.condition, packet)]
            if packet.destination == "7.7.9.9":
                met = []
            expected.update([met[0].rule] if met else [])
            before = packet.mark
            live.walk(hook, packet)
            assert packet.mark == before | (met[0].mark or 0 if met else 0)
    assert live.counted == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"mark": 0x100},
        {"connection": 0x100},
        {"state": "ESTABLISHED", "connection": 0},
        {"destination": "255.255.255.255"},
    ],
)
def test_only_new_connections_that_nobody_has_marked_are_asked(fields: dict[str, Any]) -> None:
    live = tables(Classification((Choice("all", mark=0x300),)))
    packet = Packet(**fields)
    live.walk("MWAN_PREROUTING", packet)
    assert packet.mark == fields.get("mark", fields.get("connection", 0))
    assert not live.counted


def test_long_lists_cost_their_sum_and_not_their_product() -> None:
    networks = tuple(f"10.0.{number}.0/24" for number in range(100))
    both = Condition(sources=networks, destinations=networks, protocol=6, destination_ports=((80, 80),) * 30)
    live = tables(Classification((Choice("both", both, 0x100), Choice("next", mark=0x200))))
    assert sum(map(len, live.chains.values())) < 250
    assert chosen(live, source="10.0.99.1", destination="10.0.98.1") == 0x100
    assert chosen(live, source="10.0.99.1", destination="10.1.0.1") == 0x200
    assert live.counted == {"both": 1, "next": 1}


# choosers


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_round_robin_goes_in_turn(weights: list[int]) -> None:
    live = tables(spreading("round_robin", weights))
    turns = in_turn(weights) * 3
    assert [chosen(live) for _unused in turns] == [list(MARKS.values())[turn] for turn in turns]


def test_a_long_round_costs_a_packet_little() -> None:
    live = tables(spreading("round_robin", (256, 255, 253)))
    marks = list(MARKS.values())
    assert sum(map(len, live.chains.values())) < 1600
    turns = in_turn((256, 255, 253))
    assert [chosen(live) for _unused in turns] == [marks[turn] for turn in turns]
    assert live.asked / len(turns) < 30


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_random_gives_each_its_share(weights: list[int]) -> None:
    """Drawn anew at each rule: the share of what reaches a rule, and is taken there, comes to the weight's."""
    live = tables(spreading("random", weights))
    left, shares = 1.0, []
    for rule in live.chains["MWAN_BY_p"]:
        chance = float(dict(rule.matches[0].options)["probability"]) if rule.matches else 1.0
        shares.append(left * chance)
        left *= 1 - chance
    assert shares == pytest.approx([weight / sum(weights) for weight in weights])
    assert chosen(live, draw=0.0) == MARKS["isp_a"]
    assert chosen(live, draw=1.0) == list(MARKS.values())[len(weights) - 1]


@given(anywhere, anywhere, st.integers(0, BUCKETS - 1))
def test_programs_find_the_predicted_bucket(source: str, destination: str, high: int) -> None:
    packet = Packet(source=source, destination=destination)
    for both, bucket in ((False, bucket_of(source)), (True, bucket_of(source, destination))):
        assert 0 <= bucket < BUCKETS
        assert bpf({"bytecode": bytecode(high, both)}, packet) == (bucket <= high)


@pytest.mark.parametrize("algorithm", ["source_hash", "source_destination_hash"])
def test_clients_follow_their_bucket(algorithm: str) -> None:
    homes = dict.fromkeys(MARKS, 1)
    clients = [f"192.168.{net}.{host}" for net in (1, 2) for host in range(1, 255)]

    def found(*alive: str) -> dict[str, int]:
        parts = tuple((low, high, MARKS[name]) for low, high, name in buckets(homes, alive))
        live = tables(spreading(algorithm, (1, 1, 1), buckets=parts))
        return {client: chosen(live, source=client) for client in clients}

    whole, without = found(*MARKS), found("isp_a", "isp_c")
    assert all(abs(share - len(clients) / 3) < 60 for share in Counter(whole.values()).values())
    assert {client for client in clients if without[client] != whole[client]} == {
        client for client in clients if whole[client] == MARKS["isp_b"]
    }
    assert set(without.values()) == {MARKS["isp_a"], MARKS["isp_c"]}
    assert found(*MARKS) == whole


def test_buckets_are_filled_evenly_whatever_the_addresses_have_in_common() -> None:
    for step in (1, 4, 256, 65536, 3 << 20):
        firsts = [
            bucket_of(str(ipaddress.IPv4Address(0x0A000000 + step * number & 0xFFFFFFFF))) for number in range(1024)
        ]
        quarters = Counter(bucket * 4 // BUCKETS for bucket in firsts)
        assert all(abs(quarters[quarter] - 256) < 80 for quarter in range(4)), (step, quarters)


def test_without_ways_the_policys_table_decides() -> None:
    for algorithm in ("multipath", "random", "round_robin", "source_hash", "source_destination_hash", "per_packet"):
        assert chosen(tables(spreading(algorithm, ()))) == POLICY


def test_fewest_connections_are_asked_of_the_queue() -> None:
    packet = forward(tables(spreading("least_connections", (1, 1), queue=7709)))
    assert (packet.mark & MASK, packet.queue) == (POLICY, 7709), "the policy's table decides when nobody answers"
    for weights, mark in (((1,), 0x100), ((), POLICY)):
        packet = forward(tables(spreading("least_connections", weights, queue=7709)))
        assert (packet.mark & MASK, packet.queue) == (mark, None), "there is nothing to ask"
    packet = forward(tables(spreading("least_connections", (1, 1))))
    assert (packet.mark & MASK, packet.queue) == (POLICY, None)


def test_packets_of_one_connection_go_in_turn() -> None:
    live = tables(spreading("per_packet", (2, 1)))
    packet = forward(live)
    seen = [packet.mark & MASK]
    for _unused in range(5):
        leave(live, packet)
        packet.mark, packet.state = FOREIGN, "ESTABLISHED"
        live.walk("MWAN_PREROUTING", packet)
        seen.append(packet.mark & MASK)
    assert seen == [0x100, 0x200, 0x100] * 2
    assert packet.connection == FOREIGN | POLICY, "for life"
    packet.mark, packet.direction = FOREIGN, "REPLY"
    live.walk("MWAN_PREROUTING", packet)
    assert packet.mark == FOREIGN | POLICY


# clients that stay


@pytest.mark.parametrize("algorithm", ["random", "round_robin", "source_hash", "least_connections", "multipath"])
@pytest.mark.parametrize("by", ["source", "source_destination"])
def test_clients_stay_until_their_link_is_gone(algorithm: str, by: str) -> None:
    more = {"sticky": 300, "sticky_by": by, "buckets": ((0, BUCKETS - 1, 0x100),)}
    live = tables(spreading(algorithm, (1, 1), **more))
    clients = {
        "source": [("192.168.1.1", "7.7.7.7"), ("192.168.1.1", "8.8.8.8")],
        "source_destination": [("192.168.1.1", "7.7.7.7"), ("192.168.1.1", "7.7.7.7")],
    }[by]
    (source, destination), (again, elsewhere) = clients
    packet = forward(live, source=source, destination=destination)
    assert packet.connection & MASK == POLICY
    packet.mark = FOREIGN | 0x200  # whoever has decided
    leave(live, packet)
    assert packet.connection & MASK == 0x200
    key = source if by == "source" else f"{source},{destination}"
    assert [name for name, held in live.sets.items() if key in held] == [sets_of("isp_b", by)]
    for _unused in range(3):
        packet = forward(live, source=again, destination=elsewhere)
        assert packet.mark & MASK == 0x200
        leave(live, packet)
    others = tables(spreading(algorithm, (1,), **more))
    others.sets = live.sets
    packet = forward(others, source=source, destination=destination)
    packet.mark = FOREIGN | 0x100
    leave(others, packet)
    assert [name for name, held in live.sets.items() if key in held] == [sets_of("isp_a", by)]


def sets_of(link: str, by: str) -> str:
    return f"mwan_p{'.' if by == 'source' else ':'}{link}"


def test_what_leaves_by_no_member_leaves_no_trace() -> None:
    live = tables(spreading("random", (1, 1), sticky=300))
    live.sets[sets_of("isp_a", "source")].add("192.168.1.1")
    packet = forward(live)
    packet.mark = FOREIGN  # as a route to a VPN has it
    leave(live, packet)
    assert packet.connection == FOREIGN
    assert live.sets[sets_of("isp_a", "source")] == {"192.168.1.1"}


def test_what_left_by_another_link_than_it_was_sent_by_moves_no_client() -> None:
    """It has a route of its own; where routing was to choose, that cannot be told."""
    for decided, moved in ((0x100, False), (0x200, True), (POLICY, True)):
        live = tables(spreading("random", (1, 1), sticky=300))
        packet = forward(live)
        packet.mark, packet.out = FOREIGN | decided, "wan2"
        live.walk("MWAN_POSTROUTING", packet)
        assert packet.connection == FOREIGN | 0x200
        assert live.sets[sets_of("isp_b", "source")] == ({packet.source} if moved else set())


def test_only_packets_of_clients_prolong_their_stay() -> None:
    live = tables(spreading("random", (1, 1), sticky=300))
    prolonged = [rule for rule in live.chains["MWAN_REFRESH"] if ("timeout", "300") in rule.target.options]
    assert len(prolonged) == len(MARKS)
    for direction, known in (("ORIGINAL", True), ("ORIGINAL", False), ("REPLY", True)):
        live.sets[sets_of("isp_a", "source")] = {"192.168.1.1"} if known else set()
        packet = Packet(connection=0x100, state="ESTABLISHED", direction=direction)
        live.asked = 0
        live.walk("MWAN_PREROUTING", packet)
        assert (live.asked > len(live.chains["MWAN_PREROUTING"])) == (direction == "ORIGINAL")
        assert live.sets[sets_of("isp_a", "source")] == ({"192.168.1.1"} if known else set()), "nobody new comes in"


def test_connections_that_are_given_up_are_asked_once_more_and_take_nothing() -> None:
    """They get the mark that shows by which way a new one would go: no turn, no count, no stay, and the pin stays."""
    classification = spreading("round_robin", (1, 1), sticky=300)
    aside = Choice("aside", Condition(destinations=("9.9.9.9/32",)), 0x300)
    classification = replace(classification, forwarded=(aside, *classification.forwarded), excluded=("7.7.8.0/24",))
    found = {item.name: set(item.networks or ()) for item in sets(classification)}
    firewall = Firewall(MASK, LINKS, classification=classification).resetting({0x200: True})
    live = Tables(table_rules(firewall)["mangle"], found)
    for destination, mark in (("7.7.7.7", POLICY), ("9.9.9.9", 0x300), ("7.7.8.8", 0)):
        packet = Packet(destination=destination, mark=FOREIGN, connection=FOREIGN | 0x200, state="ESTABLISHED")
        live.walk("MWAN_PREROUTING", packet)
        assert (packet.mark, packet.connection) == (FOREIGN | mark, FOREIGN | 0x200)
    assert not live.counted
    assert [chosen(live) for _unused in range(2)] == [0x100, 0x200]
    for more in ({"device": "wan2"}, {"connection": FOREIGN | 0x100}):
        packet = Packet(**{"connection": FOREIGN | 0x200, "state": "ESTABLISHED", **more})  # type: ignore[arg-type]
        live.walk("MWAN_PREROUTING", packet)
        assert packet.mark & MASK == packet.connection & MASK, "none of these is given up"


# names


def test_names_fit_the_kernel_and_stay_apart() -> None:
    names = ["p" * 31 + "1", "p" * 31 + "2", "p"]
    choosers = tuple(
        Chooser(
            name, 0x900 + 0x100 * number, "random", (Way("isp_a", 0x100, 1),), sticky=60, members=(("l" * 32, 0x100),)
        )
        for number, name in enumerate(names)
    )
    declared = tuple(NetworkSet(name, ("10.0.0.0/8",)) for name in names)
    classification = Classification(tuple(Choice(name, chooser=name) for name in names), (), choosers, declared)
    found = [item.name for item in sets(classification)]
    assert len(set(found)) == 6
    assert all(len(name) <= 31 and name.startswith("mwan_") for name in found)
    firewall = Firewall(MASK, LINKS, classification=classification)
    rules = table_rules(firewall)["mangle"]
    made = [name for name in chains("mangle", rules) if name.startswith(("MWAN_BY", "MWAN_KEEP", "MWAN_MOVE"))]
    assert len(made) == len(set(made)) == 9
    assert all(len(name) <= LONGEST_CHAIN for name in made)


def test_text_shows_the_sets_and_what_they_hold() -> None:
    chooser = Chooser("p", POLICY, "random", (Way("isp_a", 0x100, 1),), sticky=60, members=(("isp_a", 0x100),))
    classification = Classification(
        (Choice("all", chooser="p"),), (), (chooser,), (LAN, NetworkSet("blocked", external=True))
    )
    text = render(Firewall(MASK, LINKS, classification=classification))
    assert text.splitlines()[:5] == [
        "create mwan_lan hash:net",
        "add mwan_lan 192.168.7.0/24",
        "add mwan_lan 172.16.0.0/12",
        "create mwan_blocked hash:net timeout 0",
        "create mwan_p.isp_a hash:ip timeout 0",
    ]
    assert "-A MWAN_CHOOSE -m comment --comment all -g MWAN_BY_p" in text
