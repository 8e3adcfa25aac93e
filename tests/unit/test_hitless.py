# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""A change is walked one write at a time on the model router, with packets looked up after each."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from _mwan import layout, store
from _mwan.desired import compile_state
from _mwan.resolve import ResolvedLink
from hypothesis import assume, example, given, note
from hypothesis import strategies as st
from unit import worlds
from unit.model_kernel import ModelRouter
from unit.walk import Led, Packet, Way, led, lookup, pin, translated

CLIENTS = ("192.168.101.7", "192.168.102.7")
FORWARDED = tuple(
    Packet(client, server, protocol, port)
    for client in CLIENTS
    for server in ("7.7.7.7", "198.51.100.9")
    for protocol, port in ((6, 443), (17, 5060))
)
OWN = (Packet("0.0.0.0", "7.7.7.7", device="lo"), Packet("0.0.0.0", "7.7.7.7", 17, 5060, "lo"))
NEW = (*FORWARDED, *OWN)
Look = Callable[[ModelRouter], dict[Any, Any]]


def change(before: tuple[Any, Any, Any], after: tuple[Any, Any, Any], look: Look) -> list[dict[Any, Any]]:
    """What `look` sees at the start, after each write, and at the end, of the run from one world to the other."""
    (wish, machine, health), (next_wish, next_machine, next_health) = before, after
    router = ModelRouter(worlds.facts(**machine))
    worlds.set_health(router, health)
    worlds.apply(router, wish)
    router.set_facts(worlds.facts(**next_machine))
    worlds.set_health(router, next_health)
    seen = [look(router)]
    router.faults.after_write = lambda: seen.append(look(router))
    outcome = worlds.apply(router, next_wish)
    note("\n".join(outcome.actions))
    return seen


def new_ways(router: ModelRouter) -> dict[Packet, frozenset[Led]]:
    return {packet: led(router, packet) for packet in NEW}


def out(ways: frozenset[Led]) -> bool:
    return all(led.way.out for led in ways)


def check_new_connections(seen: list[dict[Packet, frozenset[Led]]]) -> None:
    for packet in NEW:
        ways = [state[packet] for state in seen]
        if out(ways[0]) and out(ways[-1]):
            assert all(map(out, ways)), (packet, ways)


def in_service(router: ModelRouter) -> dict[str, ResolvedLink]:
    document, health = store.load_document(router.files), store.load_health(router.files)
    links = compile_state(document, router.routing.facts(), health).links
    return {name: link for name, link in links.items() if not link.pending}


def pinned_ways(router: ModelRouter) -> dict[int, Way]:
    """Where packets of connections pinned to each mark go, as far as the firewall gives them their mark back."""
    marks = {link.mark for firewall in router.loaded() for link in firewall.links}
    return {mark: lookup(router, Packet(CLIENTS[0], "7.7.7.7", mark=mark)) for mark in marks}


def check_pinned(seen: list[dict[int, Way]]) -> None:
    for mark in seen[0].keys() & seen[-1].keys():
        first, last = seen[0][mark], seen[-1][mark]
        if first.out and last.out:
            assert all(state.get(mark) in (first, last) for state in seen), (mark, [state.get(mark) for state in seen])


def leaving(router: ModelRouter) -> dict[tuple[str, str | None], bool]:
    """Every nexthop that our tables may choose for a new connection, and whether a firewall pins what leaves by it."""
    ours = [led.way for ways in new_ways(router).values() for led in ways if led.way.table >= 1000]
    firewalls = router.loaded()
    return {hop: any(pin(firewall, *hop) for firewall in firewalls) for way in ours for hop in way.hops}


def check_all_pinned(seen: list[dict[tuple[str, str | None], bool]]) -> None:
    for state in seen:
        assert all(state.values()), state


def policies_lead_to(router: ModelRouter) -> set[int]:
    """The marks that new connections led by policies get."""
    links = {rule.table for rule in router.routing.rules() if rule.priority == 1000 + layout.MARK}
    found = [led for ways in new_ways(router).values() for led in ways if led.way.table >= 1000]
    ways = [led.way for led in found if led.by_policy or led.way.table not in links]
    pins = [pin(firewall, *hop) for way in ways for hop in way.hops for firewall in router.loaded()]
    return {link.mark for link in pins if link}


def given_up(router: ModelRouter) -> dict[str, Any]:
    """What is reset now, what was forgotten so far, and where new connections are led meanwhile."""
    return {
        "reset": {reset.mark for firewall in router.loaded() for reset in firewall.resets},
        "forgotten": [which for which in router.routing.flushed if which.part],
        "led to": policies_lead_to(router),
    }


def check_given_up(seen: list[dict[str, Any]]) -> None:
    """Only links that no policy leads to: a connection that begins is not taken for one that was there."""
    for state in seen:
        assert not state["reset"] & state["led to"], state
    for before, state in pairwise(seen):
        forgotten = {which.mark for which in state["forgotten"][len(before["forgotten"]) :]}
        assert not forgotten & state["led to"], state


def translations(router: ModelRouter) -> dict[tuple[str, str], bool]:
    found: dict[tuple[str, str], bool] = {}
    for firewall in router.loaded():
        for link in firewall.exclusive():
            for client in CLIENTS:
                found[link.device, client] = found.get((link.device, client), False) or translated(
                    firewall, link, client
                )
    return found


def check_translated(seen: list[dict[tuple[str, str], bool]]) -> None:
    for device, client in seen[0]:
        if seen[0][device, client] and seen[-1].get((device, client)):
            assert all(state.get((device, client)) for state in seen), (device, client, seen)


def moves_to_unplugged(wish: Any, next_wish: Any, machine: Any) -> bool:
    """Whether a link is moved to a device without carrier: whoever is led to the link at that moment has lost it."""
    unplugged = {name for name, changed in machine.items() if name != "lost" and changed == {"carrier": False}}
    former = {link["name"]: link["device"] for link in wish["links"]}
    return any(link["device"] in unplugged - {former.get(link["name"])} for link in next_wish["links"])


def moves_from_what_has_come(wish: Any, next_wish: Any, machine: Any, next_machine: Any) -> bool:
    """Whether a link is moved while devices come or go.

    What the former choices were is worked out from what is there now. One may lead to a link whose former device has
    come at this moment, and which never had a route over it.
    """
    former = {link["name"]: link["device"] for link in wish["links"]}
    moved = any(former.get(link["name"], link["device"]) != link["device"] for link in next_wish["links"])
    return moved and machine != next_machine


def rewrites_a_match(wish: Any, next_wish: Any) -> bool:
    """Whether a rule of the same place and target gets other matches.

    The kernel may not hold both (IpRule.clashes); then the old goes right before the new comes, and for that instant
    the rules after it decide.
    """
    pairs = zip(wish["rules"], next_wish["rules"], strict=False)
    targets = ("link", "policy", "target")
    return any(
        {**old, "name": ""} != {**new, "name": ""} and all(old.get(key) == new.get(key) for key in targets)
        for old, new in pairs
    )


NOT_YET = {"links": [{"name": "lte", "device": "usb0", "gateway": "172.20.0.1"}], "rules": [], "classify": "routing"}
MOVED = {
    "links": [{"name": "lte", "device": "seg0", "gateway": "192.168.100.3"}],
    "policies": [{"name": "balanced", "members": [{"link": "lte"}], "algorithm": "random"}],
    "default_policy": "balanced",
    "rules": [],
}


@given(worlds.wishes(), worlds.wishes(), worlds.machines(), worlds.machines(), worlds.healths(), worlds.healths())
# what is chosen needs a route, which needs a firewall that knows the device
@example(NOT_YET, MOVED, {}, {}, {}, {})
def test_no_step_leaves_a_connection_without_its_way(
    wish: Any, next_wish: Any, machine: Any, next_machine: Any, health: Any, next_health: Any
) -> None:
    assume(not moves_to_unplugged(wish, next_wish, next_machine))
    assume(not rewrites_a_match(wish, next_wish))

    def look(router: ModelRouter) -> dict[str, Any]:
        return {
            "new": new_ways(router),
            "pinned": pinned_ways(router),
            "leaving": leaving(router),
            "translated": translations(router),
        }

    seen = change((wish, machine, health), (next_wish, next_machine, next_health), look)
    if not moves_from_what_has_come(wish, next_wish, machine, next_machine):
        check_new_connections([state["new"] for state in seen])
    check_pinned([state["pinned"] for state in seen])
    check_all_pinned([state["leaving"] for state in seen[1:]])
    check_translated([state["translated"] for state in seen])


THREE_LINKS = {
    "links": [
        {"name": "isp_a", "device": "wan1", "gateway": "5.5.5.1"},
        {"name": "isp_b", "device": "wan2", "gateway": "6.6.6.1"},
        {"name": "lte", "device": "ppp0"},
    ],
    "policies": [
        {"name": "balanced", "members": [{"link": "isp_a"}, {"link": "isp_b"}, {"link": "lte", "tier": 2}],
         "failback": {"tcp": "reset", "other": "reroute"}},
        {"name": "voice", "members": [{"link": "isp_b"}, {"link": "lte"}],
         "failback": {"tcp": "reset", "other": "reroute"}},
    ],
    "default_policy": "balanced",
    "rules": [{"name": "voip", "protocol": "udp", "destination_port": "5060", "policy": "voice"}],
}  # fmt: skip
words = st.fixed_dictionaries({name: worlds.health_words() for name in ("isp_a", "isp_b", "lte")})


@given(words, words, worlds.ALGORITHMS, worlds.ALGORITHMS)
def test_connections_are_given_up_only_where_no_policy_leads(
    health: Any, next_health: Any, algorithm: str, other: str
) -> None:
    balanced, voice = THREE_LINKS["policies"]
    wish = {**THREE_LINKS, "policies": [{**balanced, "algorithm": algorithm}, {**voice, "algorithm": other}]}
    check_given_up(change((wish, {}, health), (wish, {}, next_health), given_up))
