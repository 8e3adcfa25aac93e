# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Port forwards: what is refused, what takes the same, what links have of them, and what both backends make of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest
from _mwan import changes, inspection
from _mwan.desired import Desired, compile_state
from _mwan.document import Document
from _mwan.errors import InputError
from _mwan.firewall import iptables_rules, nftables
from _mwan.firewall.inbound import DestinationNat, Return, returns
from _mwan.firewall.model import Firewall
from _mwan.forwards import Dnat, overlaps
from _mwan.health import Health
from _mwan.kernel import Facts
from hypothesis import given
from hypothesis import strategies as st
from unit.model_kernel import ModelRouter
from unit.worlds import apply, facts

A = {"name": "isp_a", "device": "wan1", "gateway": "5.5.5.1"}
B = {"name": "isp_b", "device": "wan2", "gateway": "6.6.6.1"}
SEGMENT = [{"name": name, "device": "seg0", "gateway": f"192.168.100.{n}"} for name, n in (("r1", 1), ("r2", 2))]
WEB = {"name": "web", "protocol": "tcp", "port": "80", "to": "192.168.101.10"}


def document(*forwards: dict[str, Any], links: list[dict[str, Any]] | None = None) -> Document:
    return Document.parse({"links": links or [A, B], "dnat": list(forwards)})


def compiled(*forwards: dict[str, Any], machine: Facts | None = None, **more: Any) -> Desired:
    return compile_state(document(*forwards, **more), machine or facts(), Health())


def web(**changed: Any) -> dict[str, Any]:
    return {key: value for key, value in {**WEB, **changed}.items() if value is not None}


REFUSED = [
    # the forward, option, what the message says
    (web(name="Web"), "dnat[0].name", "'Web' is not a name"),
    (web(name=None), "dnat[0].name", "is not a name"),
    (web(to=None), "dnat[0].to", "is missing. Give the address of the host that is to answer"),
    (web(to="192.168.101.0/24"), "dnat[0].to", "is not an IPv4 address"),
    (web(to="host.example"), "dnat[0].to", "is not an IPv4 address"),
    (web(to="192.168.101.12-192.168.101.10"), "dnat[0].to", "Give it as 192.168.101.10-192.168.101.12"),
    (web(to="192.168.101.10-"), "dnat[0].to", "is not an IPv4 address"),
    (web(to=["192.168.101.10"]), "dnat[0].to", "is not an IPv4 address"),
    (web(to="127.0.0.1"), "dnat[0].to", "nothing from elsewhere gets there. Give an address of one of the router's"),
    (web(address="127.0.0.1"), "dnat[0].address", "nothing from elsewhere gets there"),
    (web(address="5.5.5.0/24"), "dnat[0].address", "is not an IPv4 address"),
    (web(protocol=None), "dnat[0].protocol", "is missing, and only some protocols have ports. Give protocol as one of"),
    (web(protocol="icmp", port=None), "dnat[0].protocol", "'icmp' is not known. Choose one of tcp, udp, dccp, sctp"),
    (web(port=None), "dnat[0].port", "is missing. Give a port, a range such as 1-65535, or leave protocol out as well"),
    (web(port="0"), "dnat[0].port", "Give a whole number from 1 to 65535"),
    (web(port="http"), "dnat[0].port", "is no port. Give a port, a range such as 8000-8010"),
    (web(port="90-80"), "dnat[0].port", "ends before it starts. Give it as 80-90"),
    (web(protocol=None, port=None, to_port="80"), "dnat[0].to_port", "has nothing to change. Give protocol and port"),
    (web(port="80-89", to_port="8080-8090"), "dnat[0].to_port", "is not as long as port 80-89. Give one port, or a"),
    (web(port="80", to_port="8080-8081"), "dnat[0].to_port", "is not as long as port 80. Give one port, or a"),
    (web(port="1000-1256", to_port="2000-2256"), "dnat[0].to_port",
     "maps 257 ports one by one. Give ranges of 256 ports at most, or leave to_port out to keep the ports"),
    (web(source="10.0.0.1/8"), "dnat[0].source", "Did you mean 10.0.0.0/8?"),
    (web(hairpin="maybe"), "dnat[0].hairpin", "is neither true nor false"),
    (web(ports="80"), "dnat[0].ports", "is not an option. Known are address, hairpin, link, name, port"),
    (web(link="isp_x"), "dnat.web.link", "'isp_x' is not a declared link. Known are: isp_a, isp_b"),
]  # fmt: skip


@pytest.mark.parametrize(("forward", "option", "message"), REFUSED, ids=[f"{row[1]}-{row[2][:30]}" for row in REFUSED])
def test_refused(forward: dict[str, Any], option: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        document(forward)
    assert caught.value.option == option
    assert message in str(caught.value)


TOGETHER = [
    # what the second forward differs in from the first, and whether both can be
    ({}, False),
    ({"port": "79-81"}, False),
    ({"port": "81"}, True),
    ({"protocol": "udp"}, True),
    ({"protocol": ["udp", "tcp"]}, False),
    ({"protocol": None, "port": None}, False),
    ({"link": "isp_a"}, False),
    ({"address": "5.5.5.5"}, False),
    ({"address": "5.5.5.5", "link": "isp_b"}, True),
    ({"address": "198.51.100.7"}, True),
    ({"source": "203.0.113.0/24"}, False),
    ({"to": "192.168.101.11", "hairpin": True}, False),
]


@pytest.mark.parametrize(("differs", "together"), TOGETHER)
def test_two_that_take_the_same_are_refused(differs: dict[str, Any], together: bool) -> None:
    links = [{**A, "address": "5.5.5.5"}, B]
    both = WEB, web(name="other", **differs)
    if together:
        assert len(document(*both, links=links).dnat) == 2
        return
    for pair in (both, both[::-1]):
        with pytest.raises(InputError) as caught:
            document(*pair, links=links)
        assert caught.value.option == "dnat." + pair[1]["name"]
        assert f"takes what {pair[0]['name']} takes" in str(caught.value)


def test_links_tell_two_apart_but_not_for_the_lan_where_they_share_the_address() -> None:
    pair = [web(name=link["name"], link=link["name"]) for link in SEGMENT]
    assert len(document(*pair, links=SEGMENT).dnat) == 2
    with pytest.raises(InputError, match=r"dnat\.r2 takes what r1 takes"):
        document(*({**forward, "hairpin": True} for forward in pair), links=SEGMENT)
    fixed = [{**link, "address": f"192.168.100.10{n}"} for n, link in enumerate(SEGMENT)]
    assert len(document(*({**forward, "hairpin": True} for forward in pair), links=fixed).dnat) == 2


def test_source_tells_two_apart() -> None:
    office, home = web(source=["203.0.113.0/24"]), web(name="home", source=["198.51.100.1", "10.0.0.0/8"])
    assert len(document(office, home).dnat) == 2
    with pytest.raises(InputError, match="takes what home takes"):
        document(home, web(source=["10.1.0.0/16"]))


# properties

NETWORKS = ("10.0.0.0/30", "10.0.0.2/31", "10.0.0.4/30")


@st.composite
def declared(draw: st.DrawFn) -> dict[str, Any]:
    """One forward in any of the forms an administrator may write."""
    low = draw(st.integers(1, 7))
    number = draw(st.integers(1, 3))
    ranges = {"port": f"{low}-{low + number - 1}", "to_port": draw(st.sampled_from((None, "9", f"20-{19 + number}")))}
    protocols = draw(st.lists(st.sampled_from(("tcp", "udp", "sctp")), min_size=1, max_size=2))
    return {
        "link": draw(st.sampled_from((None, "isp_a", "isp_b"))),
        **draw(st.sampled_from(({}, {**ranges, "protocol": protocols}))),
        "address": draw(st.sampled_from((None, "198.51.100.7", "198.51.100.8"))),
        "to": draw(st.sampled_from(("192.168.101.1", "192.168.101.1-192.168.101.3"))),
        "source": draw(st.lists(st.sampled_from(NETWORKS), max_size=2)),
        "hairpin": draw(st.booleans()),
    }


def parsed(listed: Iterable[dict[str, Any]]) -> list[Dnat]:
    return [Dnat.parse("dnat", {"name": f"f{n}", **data}) for n, data in enumerate(listed)]


@given(declared())
def test_what_is_stored_is_its_own_canonical_form(data: dict[str, Any]) -> None:
    (forward,) = parsed([data])
    assert Dnat.parse("dnat", forward.dump()) == forward


def points(forward: Dnat) -> set[tuple[str, int, int]]:
    """Every protocol, port and sender it takes, of those that occur here."""
    low, high = forward.ports or (0, 10)
    senders = forward.sources or ("10.0.0.0/28",)
    return {
        (protocol, port, int(address))
        for protocol in forward.protocols or ("tcp", "udp", "sctp", "icmp")
        for port in range(low, high + 1)
        for source in senders
        for address in IPv4Network(source)
    }


@given(st.lists(declared(), max_size=6))
def test_two_overlap_where_a_packet_is_taken_by_both(listed: list[dict[str, Any]]) -> None:
    forwards = parsed(listed)
    found = {(first.name, later.name) for _place, first, later in overlaps((1, forward) for forward in forwards)}
    assert found == {
        (first.name, later.name)
        for number, first in enumerate(forwards)
        for later in forwards[number + 1 :]
        if points(first) & points(later)
    }


@given(st.lists(declared(), max_size=8))
def test_no_two_translations_take_the_same_whatever_was_declared(listed: list[dict[str, Any]]) -> None:
    """Also where addresses came together that nobody could know of: the first one has it."""
    known = replace(Document.parse({"links": [A, B]}), dnat=tuple(parsed(listed)))
    taken: set[Any] = set()
    for nat in compile_state(known, facts(), Health()).firewall.dnat:
        one = Dnat(
            "x", None, (nat.protocol,) if nat.protocol else (), None, nat.ports, nat.to, None, nat.sources, False
        )
        points_of = {(nat.device, nat.address, *point) for point in points(one)}
        assert not points_of & taken
        taken |= points_of


# what links have of them


def taken(desired: Desired) -> list[tuple[str | None, int | None, str, str | None]]:
    return [(nat.device, nat.mark, nat.address, nat.protocol) for nat in desired.firewall.dnat]


def test_every_address_of_every_link_is_taken() -> None:
    assert taken(compiled(web(protocol=["udp", "tcp"]))) == [
        ("wan1", None, address, protocol) for address in ("5.5.5.5", "5.5.5.6") for protocol in ("tcp", "udp")
    ] + [("wan2", None, "6.6.6.6", protocol) for protocol in ("tcp", "udp")]
    assert taken(compiled(web(link="isp_b"))) == [("wan2", None, "6.6.6.6", "tcp")]
    assert taken(compiled(WEB, machine=facts(lost="5.5.5.5", wan2=None))) == [("wan1", None, "5.5.5.6", "tcp")]


def test_a_named_address_need_not_be_on_a_device() -> None:
    nobodys = web(address="198.51.100.7", protocol=None, port=None, hairpin=True)
    assert taken(compiled(nobodys)) == [(device, None, "198.51.100.7", None) for device in ("wan1", "wan2", None)]


def test_a_shared_device_is_told_apart_by_the_pin_where_a_link_is_named() -> None:
    assert taken(compiled(WEB, links=SEGMENT)) == [("seg0", None, "192.168.100.100", "tcp")]
    assert taken(compiled(web(link="r2"), links=SEGMENT)) == [("seg0", 0x200, "192.168.100.100", "tcp")]


def test_clients_in_the_network_of_the_host_are_translated() -> None:
    def networks(to: str) -> set[tuple[str, ...]]:
        return {nat.networks for nat in compiled(web(to=to, hairpin=True)).firewall.dnat if nat.device is None}

    assert networks("192.168.101.10-192.168.102.1") == {("192.168.101.0/24",)}
    assert networks("172.16.0.1") == networks("192.168.101.254") == {()}, "beyond another router; the router itself"
    assert {nat.networks for nat in compiled(web(hairpin=True)).firewall.dnat if nat.device} == {()}


def test_address_that_came_to_be_named_twice_stays_with_the_first() -> None:
    both = WEB, web(name="named", address="5.5.5.6", to="192.168.101.11", hairpin=True)
    desired = compiled(*both)
    assert [(nat.device, nat.to[0]) for nat in desired.firewall.dnat if nat.address == "5.5.5.6"] == [
        *(("wan1", "192.168.101.10"), ("wan2", "192.168.101.11"), (None, "192.168.101.11")),
    ]
    assert desired.warnings == ("forward named has no effect to 5.5.5.6 on isp_a as long as web takes the same",)
    router = ModelRouter(facts())
    with pytest.raises(InputError, match=r"dnat\.named takes what web takes: tcp 80 to 5\.5\.5\.6 on every link, and"):
        apply(router, {"links": [A, B], "dnat": both}, strict=True)
    assert router.snapshot() == ModelRouter(facts()).snapshot()


def test_a_link_that_goes_keeps_its_forwards_until_it_is_gone() -> None:
    old, new = compiled(web(hairpin=True)).firewall, compiled(web(hairpin=True), links=[A]).firewall
    assert set(new.keeping(old).dnat) == {*new.dnat, *(nat for nat in old.dnat if nat.device == "wan2")}
    assert new.keeping(new) == new
    moved = compiled(WEB, links=[{**A, "device": "wan2", "gateway": "6.6.6.1"}]).firewall
    assert {(nat.device, nat.address) for nat in moved.keeping(new).dnat} >= {("wan1", "5.5.5.5"), ("wan2", "6.6.6.6")}


def test_they_are_told_with_all_that_is_declared() -> None:
    router = ModelRouter(facts())
    apply(router, {"links": [A, B], "dnat": [WEB]})
    assert inspection.inspect(router.ports)["desired"]["dnat"] == [{**WEB, "protocol": ["tcp"]}]


# changes


def test_absent_takes_away_by_name() -> None:
    stored = document(WEB, web(name="mail", port="25"))
    gone = changes.dnat(stored, {"dnat": [{"name": "web", "to": None}], "state": "absent", "purge": False})
    assert [forward.name for forward in gone.dnat] == ["mail"]


def test_a_renamed_forward_can_be_checked_before_it_is_there() -> None:
    """The tasks after that of forwards assume that those which are not listed are gone, unless they are to stay."""
    stored, renamed = document(WEB), [web(name="www")]
    assert changes.assume(stored, {"dnat": renamed}).check().dnat[0].name == "www"
    with pytest.raises(InputError, match=r"dnat\.www takes what web takes"):
        changes.assume(stored, {"dnat": renamed, "purge": False}).check()


# the backends

ONE_OF_EACH = Firewall(
    mask=0x3F00,
    links=compiled(WEB, links=[A, *SEGMENT]).firewall.links,
    dnat=(
        DestinationNat("wan1", None, (), "5.5.5.5", "tcp", (80, 80), ("192.168.101.10", "192.168.101.10")),
        DestinationNat("wan1", None, (), "5.5.5.5", "tcp", (90, 91), ("192.168.101.10",) * 2, (190, 191)),
        DestinationNat("wan1", None, (), "5.5.5.5", "tcp", (92, 99), ("192.168.101.10", "192.168.101.11"), (80, 80)),
        DestinationNat("wan1", None, ("10.0.0.0/8", "192.0.2.1/32"), "5.5.5.5", "udp", (5, 9), ("192.168.101.10",) * 2),
        DestinationNat("seg0", 0x200, (), "192.168.100.100", None, None, ("192.168.101.10",) * 2),
        DestinationNat(
            None, None, (), "5.5.5.5", "dccp", (80, 80), ("192.168.101.10",) * 2, None, ("192.168.101.0/24",)
        ),
    ),
)


def test_nftables_has_a_map_for_each_form() -> None:
    lines = [line.strip() for line in nftables.render(ONE_OF_EACH).splitlines()]
    hooks = [number for number, line in enumerate(lines) if line.startswith("type nat hook")]
    assert [lines[number + 1] for number in hooks] == ["meta nfproto != ipv4 return"] * 3
    assert [line for line in lines if "dnat ip to" in line] == [
        'iifname "seg0" ct mark & 0x00003f00 == 0x00000200 dnat ip to ip daddr map { '
        "192.168.100.100 : 192.168.101.10 }",
        'dnat ip to iifname . ip daddr . tcp dport map { "wan1" . 5.5.5.5 . 80 : 192.168.101.10 }',
        'dnat ip to iifname . ip daddr . tcp dport map { "wan1" . 5.5.5.5 . 90 : 192.168.101.10 . 190, '
        '"wan1" . 5.5.5.5 . 91 : 192.168.101.10 . 191 }',
        'dnat ip to iifname . ip daddr . tcp dport map { "wan1" . 5.5.5.5 . 92-99 : '
        "192.168.101.10-192.168.101.11 . 80 }",
        "dnat ip to iifname . ip saddr . ip daddr . udp dport map { "
        '"wan1" . 10.0.0.0/8 . 5.5.5.5 . 5-9 : 192.168.101.10, '
        '"wan1" . 192.0.2.1/32 . 5.5.5.5 . 5-9 : 192.168.101.10 }',
        'iifname != { "seg0", "wan1" } dnat ip to ip daddr . dccp dport map { 5.5.5.5 . 80 : 192.168.101.10 }',
        "dnat ip to ip daddr . dccp dport map { 5.5.5.5 . 80 : 192.168.101.10 }",
    ]
    assert [line for line in lines if line.endswith("masquerade")] == [
        "ct status dnat fib saddr type local ct original ip daddr . ip daddr { 5.5.5.5 . 192.168.101.10 } masquerade",
        "ct status dnat ip saddr . ct original ip daddr . ip daddr { 192.168.101.0/24 . 5.5.5.5 . 192.168.101.10 } "
        "masquerade",
    ]


def test_iptables_has_a_rule_for_each() -> None:
    lines = iptables_rules.render(ONE_OF_EACH).splitlines()
    port = "-A MWAN_DNAT -p tcp -d 5.5.5.5 -i wan1 -m tcp --dport"
    assert [line for line in lines if line.startswith(("-A MWAN_DNAT", "-A MWAN_HAIRPIN", "-A MWAN_SNAT"))] == [
        f"{port} 80 -j DNAT --to-destination 192.168.101.10",
        f"{port} 90:91 -j DNAT --to-destination 192.168.101.10:190-191/90",
        f"{port} 92:99 -j DNAT --to-destination 192.168.101.10-192.168.101.11:80",
        *(
            f"-A MWAN_DNAT -p udp -s {source} -d 5.5.5.5 -i wan1 -m udp --dport 5:9 "
            "-j DNAT --to-destination 192.168.101.10"
            for source in ("10.0.0.0/8", "192.0.2.1/32")
        ),
        "-A MWAN_DNAT -d 192.168.100.100 -i seg0 -m connmark --mark 0x200/0x3f00 -j DNAT "
        "--to-destination 192.168.101.10",
        "-A MWAN_DNAT -i seg0 -j RETURN",
        "-A MWAN_DNAT -i wan1 -j RETURN",
        "-A MWAN_DNAT -j MWAN_HAIRPIN",
        "-A MWAN_HAIRPIN -p 33 -d 5.5.5.5 -m dccp --dport 80 -j DNAT --to-destination 192.168.101.10",
        "-A MWAN_SNAT -m conntrack --ctstate DNAT --ctorigdst 5.5.5.5 -m iprange --dst-range "
        "192.168.101.10-192.168.101.10 -m addrtype --src-type LOCAL -j MASQUERADE",
        "-A MWAN_SNAT -s 192.168.101.0/24 -m conntrack --ctstate DNAT --ctorigdst 5.5.5.5 -m iprange --dst-range "
        "192.168.101.10-192.168.101.10 -j MASQUERADE",
    ]


def test_the_number_of_nftables_rules_does_not_grow_with_that_of_forwards() -> None:
    many = [web(name=f"f{n}", port=str(n), to=f"192.168.101.{n % 200 + 1}", hairpin=True) for n in range(1, 301)]
    assert nftables.render(compiled(*many).firewall).count("dnat ip to") == 3


def test_nothing_is_there_without_forwards() -> None:
    empty = replace(ONE_OF_EACH, dnat=())
    assert "nat hook" not in nftables.render(empty)
    assert "*nat" not in iptables_rules.render(empty)


def test_hosts_that_several_forwards_lead_to_are_named_once() -> None:
    def nat(port: int, first: str, last: str) -> DestinationNat:
        to = f"192.168.101.{first}", f"192.168.101.{last}"
        return DestinationNat(None, None, (), "5.5.5.5", "tcp", (port, port), to, None, ("192.168.101.0/24",))

    hosts = [nat(80, "10", "12"), nat(81, "11", "11"), nat(82, "13", "14"), nat(83, "20", "20")]
    ranges = [("192.168.101.10", "192.168.101.14"), ("192.168.101.20", "192.168.101.20")]
    assert returns(hosts) == tuple(
        Return(network, "5.5.5.5", to) for network in (None, "192.168.101.0/24") for to in ranges
    )
