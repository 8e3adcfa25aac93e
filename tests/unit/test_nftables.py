# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nft is given: the text of choosers, and from the table that is live to the next one."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from _mwan.balancing import ALGORITHMS
from _mwan.errors import KernelError
from _mwan.firewall.choices import Choice, Chooser, Classification, Condition, NetworkSet, Way
from _mwan.firewall.model import Firewall, FirewallLink, SourceNat
from _mwan.firewall.nftables import Nftables
from _mwan.firewall.nftables_live import transactions
from _mwan.firewall.nftables_table import contents, render
from _mwan.firewall.nftables_text import USUAL, Means

MASK = 0x3F00
LINKS = (FirewallLink("isp_a", 0x100, "wan1"), FirewallLink("isp_b", 0x200, "wan2"))
WAYS = (Way("isp_a", 0x100, 6), Way("isp_b", 0x200, 2))
MEMBERS = (("isp_a", 0x100), ("isp_b", 0x200))
CHOOSER = Chooser("balanced", 0x500, "random", WAYS, members=MEMBERS)


def firewall(
    *choosers: Chooser, rules: tuple[Choice, ...] = (), own: tuple[Choice, ...] = (), **more: object
) -> Firewall:
    default = tuple(Choice("", chooser=chooser.name) for chooser in choosers[:1])
    classification = Classification((*rules, *default), own, choosers, **more)  # type: ignore[arg-type]
    return Firewall(MASK, LINKS, classification=classification)


def chain(text: str, name: str) -> list[str]:
    """The statements of a chain; none where there is no such chain."""
    found = re.search(rf"^    chain {re.escape(name)} \{{\n(.*?)^    \}}", text, re.MULTILINE | re.DOTALL)
    return [line.strip() for line in found[1].splitlines()] if found else []


SPREAD = {
    "random": [
        "numgen random mod 4 vmap { 0-2 : goto mark_0x00000100, 3 : goto mark_0x00000200 }",
    ],
    "round_robin": [
        "numgen inc mod 4 vmap { 0 : goto mark_0x00000100, 1 : goto mark_0x00000100, "
        "2 : goto mark_0x00000200, 3 : goto mark_0x00000100 }",
    ],
    "source_hash": [
        "jhash ip saddr mod 4096 seed 0x6d77616e vmap "
        "{ 0-3071 : goto mark_0x00000100, 3072-4095 : goto mark_0x00000200 }",
    ],
    "source_destination_hash": [
        "jhash ip saddr . ip daddr mod 4096 seed 0x6d77616e vmap "
        "{ 0-3071 : goto mark_0x00000100, 3072-4095 : goto mark_0x00000200 }",
    ],
    "least_connections": ["jump mark_0x00000500", "queue num 7705 bypass"],
    "multipath": ["goto mark_0x00000500"],
}


def chooser(algorithm: str, **more: object) -> Chooser:
    return replace(
        CHOOSER,
        algorithm=algorithm,
        buckets=((0, 3071, 0x100), (3072, 4095, 0x200)) if algorithm.endswith("hash") else (),
        queue=7705 if algorithm == "least_connections" else None,
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("algorithm", sorted(SPREAD))
def test_how_connections_are_spread(algorithm: str) -> None:
    text = render(firewall(chooser(algorithm)))
    assert chain(text, "choose") == ["goto by_balanced"]
    assert chain(text, "by_balanced") == SPREAD[algorithm]
    keep = "meta mark set meta mark & 0xffffc0ff"
    for mark in (0x100, 0x200, 0x500):
        assert chain(text, f"mark_0x{mark:08x}") == [f"{keep} | 0x{mark:08x}"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_without_a_way_routing_decides(algorithm: str) -> None:
    text = render(firewall(chooser(algorithm, ways=())))
    assert "goto mark_0x00000500" in chain(text, "spread_balanced" if algorithm == "per_packet" else "by_balanced")


@pytest.mark.parametrize("algorithm", sorted({*ALGORITHMS} - {"multipath", "source_hash", "source_destination_hash"}))
def test_one_way_needs_no_drawing(algorithm: str) -> None:
    text = render(firewall(chooser(algorithm, ways=WAYS[:1])))
    assert "numgen" not in text
    assert "queue" not in text


def test_least_connections_by_weights_are_the_multipath_route_s() -> None:
    text = render(firewall(replace(chooser("least_connections"), queue=None)))
    assert chain(text, "by_balanced") == ["goto mark_0x00000500"]


def test_each_packet_of_some_connections_is_sent_its_own_way() -> None:
    text = render(firewall(chooser("per_packet")))
    remember = "ct mark set ct mark & 0xffffc0ff | 0x00000500"
    assert chain(text, "by_balanced") == [remember, "goto spread_balanced"]
    assert chain(text, "every_balanced") == ["ct direction original goto spread_balanced"]
    assert chain(text, "spread_balanced") == SPREAD["round_robin"]
    dispatch = "0x00000500 : goto every_balanced"
    assert [dispatch in " ".join(chain(text, hook)) for hook in ("prerouting", "output")] == [True, False]
    assert "0x00000500 : accept" in chain(text, "postrouting")[3]


@pytest.mark.parametrize(
    ("by", "client"), [("source", "ip saddr"), ("source_destination", "ip saddr . ct original ip daddr")]
)
def test_clients_are_remembered_where_they_leave(by: str, client: str) -> None:
    text = render(firewall(chooser("random", sticky=300, sticky_by=by, ways=WAYS[1:])))
    put = f"update @sticky-balanced-isp_b {{ {client} timeout 300s }}"
    # only links that serve are asked for; all are filled, and kept
    assert chain(text, "by_balanced") == [
        "ct mark set ct mark & 0xffffc0ff | 0x00000500",
        f"{client} @sticky-balanced-isp_b goto mark_0x00000200",
        "goto mark_0x00000200",
    ]
    assert "0x0 : goto save, 0x00000500 : goto stick-balanced, 0x00000100 : accept" in chain(text, "postrouting")[3]
    assert chain(text, "stick-balanced")[:2] == ["ct mark set ct mark & 0xffffc0ff | 0x00000000", "jump save"]
    assert chain(text, "stick-balanced-isp_b") == [put, f"delete @sticky-balanced-isp_a {{ {client} }}"]
    assert chain(text, "restore_isp_b") == [
        f"ct direction original {client} @sticky-balanced-isp_b {put}",
        "meta mark set meta mark & 0xffffc0ff | 0x00000200",
    ]


CONDITIONS = [
    (Condition(sources=("10.0.0.0/8", "7.7.7.7/32")), "ip saddr { 10.0.0.0/8, 7.7.7.7/32 }"),
    (Condition(source_set="others"), "ip saddr @set_others"),
    (Condition(destination_set="ours"), "ip daddr { 10.1.0.0/16 }"),
    (Condition(device="lan0", protocol=47), 'iifname { "lan0" } meta l4proto { 47 }'),
    (
        Condition(protocol=6, source_ports=((1, 9),), destination_ports=((80, 80), (90, 99))),
        "meta l4proto { 6 } th sport { 1-9 } th dport { 80, 90-99 }",
    ),
    (Condition(dscp=46), "ip dscp { 46 }"),
    (Condition(mac="02:00:00:00:00:01"), "ether saddr { 02:00:00:00:00:01 }"),
    (Condition(mark=(0x10000, 0xFF0000)), "meta mark & 0x00ff0000 == 0x00010000"),
    (Condition(user=13, group=14), "meta skuid { 13 } meta skgid { 14 }"),
    (Condition(times=((6, 0, 1440),)), "meta day { 0 }"),
    (Condition(times=tuple((day, 60, 120) for day in range(7))), "meta hour 3600-7199"),
    (
        Condition(times=((0, 0, 60), (1, 0, 60), (6, 1380, 1440))),
        "meta day { 1, 2 } meta hour 0-3599 goto rule_one|meta day { 0 } meta hour 82800-86399",
    ),
]


@pytest.mark.parametrize(("condition", "text"), CONDITIONS)
def test_a_condition_by_itself_reads_as_it_is(condition: Condition, text: str) -> None:
    sets = (NetworkSet("ours", ("10.1.0.0/16",)), NetworkSet("others", external=True))
    rendered = render(firewall(rules=(Choice("one", condition, 0x100),), sets=sets))
    assert chain(rendered, "choose") == f"{text} goto rule_one".split("|")
    assert " ".join(chain(rendered, "rule_one")) == 'counter name "rule_one" goto mark_0x00000100'


def test_conditions_of_one_shape_are_one_map() -> None:
    rules = tuple(
        Choice(f"r{n}", Condition(sources=(source,), protocol=6, destination_ports=(ports,)), 0x100)
        for n, (source, ports) in enumerate(
            (("10.0.0.1/32", (80, 80)), ("10.0.0.0/30", (80, 90)), ("0.0.0.0/0", (22, 22)))
        )
    )
    (lookup,) = chain(render(firewall(rules=rules)), "choose")
    # what they have in common is asked by itself
    assert lookup.startswith("meta l4proto { 6 } ip saddr . th dport vmap { 10.0.0.1 . 80 : goto rule_r0, ")
    assert "0.0.0.0/0 . 22 : goto rule_r2" in lookup
    assert "10.0.0.2/31 . 80-90 : goto rule_r1" in lookup


def test_control_groups_are_named_where_nft_looks_for_them() -> None:
    rules = (Choice("squid", Condition(cgroup=("system.slice/squid.service", 4711)), 0x100, own=True),)
    text = render(firewall(own=rules), Means(cgroups="unified/"))
    assert chain(text, "choose_own") == [
        "# system.slice/squid.service is 4711",
        'socket cgroupv2 level 2 "unified/system.slice/squid.service" goto own_rule_squid',
    ]


def test_what_is_left_to_routing_is_counted_only() -> None:
    own = (Choice("dns", Condition(protocol=17), own=True), Choice("all", Condition(), 0x200, own=True))
    text = render(firewall(rules=(Choice("all", Condition(), 0x200),), own=own))
    assert chain(text, "own_rule_dns") == ['counter name "rule_dns"']
    assert text.count("    counter rule_all {") == 1, "one for forwarded and own together"
    hooks = ("prerouting", "output")
    assert [line.rsplit(" ", 1)[1] for hook in hooks for line in chain(text, hook) if "choose" in line] == [
        *("choose", "choose_own")
    ]


def test_only_new_connections_that_go_out_are_asked_about() -> None:
    (asked,) = (
        line
        for line in chain(render(firewall(CHOOSER, excluded=("10.0.0.0/8", "224.0.0.0/4"))), "prerouting")
        if "choose" in line
    )
    assert asked == (
        "ct state new ct mark & 0x00003f00 == 0x0 meta mark & 0x00003f00 == 0x0 "
        "fib daddr type != { local, broadcast, multicast } ip daddr != { 10.0.0.0/8, 224.0.0.0/4 } jump choose"
    )


def test_marks_are_written_behind_others_at_mangle() -> None:
    """Of chains with one priority the newest goes first, and ours are new whenever they are loaded."""
    text = render(firewall(CHOOSER))

    for name in ("prerouting", "output", "postrouting"):
        assert f"hook {name} priority mangle + 1;" in chain(text, name)[0]


def test_what_is_encrypted_is_no_link_s() -> None:
    model = replace(firewall(), snat=(SourceNat(0x100, "wan1", (), None),))
    for means in (USUAL, Means(ipsec=False)):
        text = render(model, means)
        for name in ("arrive", "save", "source_nat"):
            told = [index for index, line in enumerate(chain(text, name)) if "ipsec exists return" in line]
            maps = [index for index, line in enumerate(chain(text, name)) if "vmap" in line]
            assert told == ([maps[0] - 1] if means.ipsec else [])


def test_who_is_given_up_is_asked_about_once_more_and_changes_nothing() -> None:
    """By the rules, and the routes of policies; it is neither counted, nor remembered, nor does it take a turn."""
    rules = (Choice("one", Condition(protocol=17), 0x100),)
    model = firewall(chooser("round_robin", sticky=60), rules=rules).resetting({0x100: True})
    text = render(model)
    beyond, asked, end = chain(text, "unmarked_isp_a")
    assert (beyond, end) == ('iifname "wan1" return', "accept")
    assert asked.startswith("meta mark & 0x00003f00 == 0x0 fib daddr type != {")
    assert asked.endswith(" jump choose")
    assert chain(text, "rule_one")[0] == 'ct state new counter name "rule_one"'
    assert chain(text, "by_balanced")[0] == "ct state != new goto mark_0x00000500"


# from one table to the next

LISTING = """table inet mwan {
    counter rule_old {
    }

    counter rule_voip {
    }

    set sticky-balanced-isp_a {
        type ipv4_addr
        size 131072
        flags timeout,dynamic
    }

    set sticky-balanced-isp_b {
        type ipv4_addr . ipv4_addr
        size 131072
        flags dynamic,timeout
    }

    map theirs {
        type ipv4_addr : verdict
        flags interval
    }

    ct helper theirs_too {
        type "ftp" protocol tcp
        l3proto ip
    }

    chain prerouting {
        type filter hook prerouting priority mangle + 1; policy accept;
        meta nfproto != ipv4 return
    }

    chain pin_gone.1 {
        ct mark set ct mark & 0xffffc0ff | 0x00000300
    }
}
""".replace("    ", "\t")


class Nft:
    """Answers as nft does; keeps what it was given."""

    def __init__(self, listing: str = "", refusal: str = "", refusals: int = 0) -> None:
        self.listing, self.refusal, self.refusals = listing, refusal, refusals
        self.loads: list[str] = []

    def __call__(self, command: list[str], text: str) -> tuple[int, str, str]:
        assert command[:2] == ["env", "TZ=UTC"] or "list" not in command, "hours are listed in the zone of who asks"
        if "-f" in command:
            self.loads.append(text)
            return (1, "", self.refusal) if self.refusal or len(self.loads) <= self.refusals else (0, "", "")
        return (0, self.listing, "") if self.listing else (1, "", "Error: No such file or directory")


@pytest.fixture
def model() -> Firewall:
    voip = Choice("voip", Condition(protocol=17), 0x100)
    return firewall(chooser("random", sticky=60), rules=(voip,), sets=(NetworkSet("others", external=True),))


def as_listed(text: str) -> str:
    """Text of ours as nft lists it, as far as anybody reads it."""
    return text.replace("    ", "\t")


def test_a_table_that_is_not_there_is_loaded_whole(model: Firewall) -> None:
    nft = Nft()
    Nftables(nft).replace(model)
    assert nft.loads == [f"add table inet mwan\n{contents(model, USUAL).numbered(1).text()}"]
    assert nft.loads[0].count("    set sticky-") == 2


def test_every_chain_that_is_led_to_is_there(model: Firewall) -> None:
    for number in (1, 12):
        text = contents(model, USUAL).numbered(number).text()
        led = set(re.findall(r"(?:goto|jump) ([^ ,\n]+)", text))
        assert led <= set(re.findall(r"^    chain (\S+\.\d+) ", text, re.MULTILINE))
        assert {name.rpartition(".")[2] for name in led} == {str(number)}


def test_words_of_nft_are_names_too() -> None:
    names = (("goto", 0x100), ("jump", 0x200))
    links = tuple(FirewallLink(name, mark, name) for name, mark in names)
    rules = (Choice("goto", Condition(cgroup=("a goto by_own/jump save", 7)), chooser="own", own=True),)
    own = chooser("round_robin", name="own", sticky=60, members=names)
    own = replace(own, ways=tuple(Way(name, mark, 1) for name, mark in names))
    model = replace(firewall(own, own=rules), links=links)
    text = contents(model, USUAL).numbered(3).text()
    assert 'socket cgroupv2 level 2 "a goto by_own/jump save" goto own_rule_goto.3' in text
    assert "ip saddr @sticky-own-goto goto mark_0x00000100.3" in text
    assert "update @sticky-own-jump { ip saddr timeout 60s }" in text
    assert "0x00000100 : goto restore_goto.3, 0x00000200 : goto restore_jump.3" in text
    assert len(re.findall(r"^    chain choose_own\.3 ", text, re.MULTILINE)) == 1


def test_rules_that_packets_are_in_stay_with_all_they_look_up(model: Firewall) -> None:
    """Until the new ones, complete before, are in force: lookups of both would find nothing in that instant."""
    former = replace(model, classification=Classification())
    resetting = model.resetting({0x100: True})
    for before, after in (
        (former, model),
        (resetting, former),
        (former, resetting),
        (model, replace(model, mask=0xFF)),
    ):
        live = contents(before, USUAL).numbered(1).chains
        prepared, switch, rest = transactions(
            contents(after, USUAL), as_listed(contents(before, USUAL).numbered(1).text())
        )
        assert re.findall("^(?:delete|flush)|priority", prepared, re.MULTILINE) == []
        hooked = {item.name for item in live if item.hook}
        wanted = {item.name for item in contents(after, USUAL).chains if item.hook}
        assert told("flush", switch) == hooked
        assert told("delete", switch) == hooked - wanted
        assert all(re.fullmatch(r"goto \w+\.2", chain(switch, name)[1]) for name in wanted)
        assert all(word not in switch for word in ("@", "map", "{ 0"))
        assert told("delete chain", rest) == {item.name for item in live if not item.hook}


def told(command: str, text: str) -> set[str]:
    """The names of what a command is given for."""
    return set(re.findall(rf"^{command}.* (\S+)$", text, re.MULTILINE))


def test_what_packets_and_others_filled_stays(model: Firewall) -> None:
    listing = LISTING.replace("ipv4_addr . ipv4_addr", "ipv4_addr")
    prepared, switch, rest = transactions(contents(model, USUAL), listing)
    assert switch.startswith("flush chain inet mwan prerouting\ntable inet mwan {")
    assert rest.splitlines() == [
        *(f"{verb} chain inet mwan pin_gone.1" for verb in ("add", "flush")),
        "delete map inet mwan theirs",
        "delete chain inet mwan pin_gone.1",
        "delete counter inet mwan rule_old",
        "delete ct helper inet mwan theirs_too",
    ]
    for kept in ("set sticky-", "counter rule_voip"):
        assert kept not in prepared
    for made in ("set set_others {", "chain pin_isp_a.2 {"):
        assert made in prepared


def test_what_is_in_the_way_goes_with_all_rules(model: Firewall) -> None:
    """The kernel refuses a set of the same name and another type, and so it does whatever else is in the way."""
    nft = Nft(LISTING, refusals=1)
    Nftables(nft).replace(model)
    refused, whole = nft.loads
    head, _table, anew = whole.partition("table inet mwan {")
    assert told("delete", refused) == set()
    assert "flush chain inet mwan pin_gone.1\n" in head.partition("delete set inet mwan sticky-balanced-isp_b\n")[0]
    assert told("delete chain", head) == {"prerouting", "pin_gone.1"}
    assert "set sticky-balanced-isp_b {" in anew


def test_the_number_of_clients_is_no_drift() -> None:
    plain = "\tset sticky-a-b {\n\t\tsize 131072\n\t}\n"
    assert Nftables(Nft(plain.replace("131072", "131072\t# count 3"))).listing() == plain


def test_counters_by_rule() -> None:
    listing = """table inet mwan {
    counter rule_voip {
        packets 7 bytes 420
    }
    counter rule_web_2 {
        packets 0 bytes 0
    }
}
""".replace("    ", "\t")
    assert Nftables(Nft(listing)).counters() == {"voip": (7, 420), "web_2": (0, 0)}
    assert Nftables(Nft()).counters() == {}


def test_a_kernel_without_queues_is_told_from_others() -> None:
    model = firewall(chooser("least_connections"))
    refusal = "Error: Could not process rule: No such file or directory\n        queue num 7705 bypass\n"
    with pytest.raises(KernelError, match="method: weights"):
        Nftables(Nft(refusal=refusal)).replace(model)
    with pytest.raises(KernelError, match="busy") as caught:
        Nftables(Nft(refusal="Error: Could not process rule: Device or resource busy\n")).replace(model)
    assert "weights" not in str(caught.value)
