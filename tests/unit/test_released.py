# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Which connections are given up, and what a run does about them."""

from __future__ import annotations

from typing import Any

import pytest
from _mwan import layout, pins, store
from _mwan.apply import ApplyError
from _mwan.desired import compile_state
from _mwan.document import Document
from _mwan.errors import KernelError
from _mwan.firewall.model import Firewall, FirewallLink, Reset
from _mwan.health import Health
from _mwan.kernel import OTHERS, UNANSWERED, Address, Marked, Pin
from _mwan.released import Release
from unit.model_kernel import ModelRouter
from unit.worlds import TWO_LINKS, apply, facts, set_health

MASK = 0x3F00
ADDRESSES = {0x100: "5.5.5.5", 0x200: "6.6.6.6"}
BOTH_DOWN, BOTH_BACK = Release("down", "down"), Release("failback", "failback")


def others(mark: int) -> Marked:
    """All but TCP, and but what came in by the link."""
    return Marked(mark, MASK, OTHERS, spared=(ADDRESSES[mark],))


def policy(name: str = "balanced", *members: Any, **reactions: Any) -> dict[str, Any]:
    return {"name": name, "members": members or [{"link": "isp_a"}, {"link": "isp_b"}], **reactions}


def wish(*policies: Any, **more: Any) -> dict[str, Any]:
    return {**TWO_LINKS, "policies": list(policies), "rules": [], **more}


BACK = {"failback": {"tcp": "reset", "other": "reroute"}}
TIERS = wish(policy("balanced", {"link": "isp_a"}, {"link": "isp_b", "tier": 2}, **BACK))
NAMED = {"rules": [{"name": "voip", "link": "isp_b"}]}

# wish, word on isp_a, word on isp_b, what is given up
CASES = {
    "down": (wish(policy()), "down/down", "up", {"isp_a": BOTH_DOWN}),
    "down, not released": (wish(policy()), "down", "up", {}),
    "released, and up again": (wish(policy()), "up/down", "up", {}),
    "released, and suspect": (wish(policy()), "suspect/down", "up", {}),
    "no other": (wish(policy()), "down/down", "down/down", {}),
    "the other drained": (wish(policy()), "down/down", "drained", {}),
    "the other suspect": (wish(policy()), "down/down", "suspect", {}),
    "the other degraded": (wish(policy()), "down/down", "degraded", {"isp_a": BOTH_DOWN}),
    "the other in another policy": (
        wish(policy("balanced", {"link": "isp_a"}), policy("other", {"link": "isp_b"})), "down/down", "up", {},
    ),
    "in no policy": (wish(policy("balanced", {"link": "isp_b"})), "down/down", "up", {}),
    "TCP kept": (wish(policy(on_down={"tcp": "keep"})), "down/down", "up", {"isp_a": Release("", "down")}),
    "others kept": (wish(policy(on_down={"other": "keep"})), "down/down", "up", {"isp_a": Release("down", "")}),
    "all kept": (wish(policy(on_down={"tcp": "keep", "other": "keep"})), "down/down", "up", {}),
    "failback": (TIERS, "up", "up/failback", {"isp_b": BOTH_BACK}),
    "failback while it serves": (TIERS, "down", "up/failback", {}),
    "failback that keeps": (
        wish(policy("balanced", {"link": "isp_a"}, {"link": "isp_b", "tier": 2})), "up", "up/failback", {},
    ),
    "failback of a link that a rule names": ({**TIERS, **NAMED}, "up", "up/failback", {}),
    "down of a link that a rule names": ({**TIERS, **NAMED}, "up", "down/down", {"isp_b": BOTH_DOWN}),
    "failback with nothing to go to": (TIERS, "drained", "drained/failback", {}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_given_up(case: str) -> None:
    declared, on_a, on_b, expected = CASES[case]
    words = {name: word.partition("/") for name, word in (("isp_a", on_a), ("isp_b", on_b))}
    health = Health(
        {name: word[0] for name, word in words.items()}, {name: word[2] for name, word in words.items() if word[2]}
    )
    desired = compile_state(Document.parse(declared), facts(), health)
    assert desired.releases == expected
    marks = {"isp_a": 0x100, "isp_b": 0x200}
    resets = {reset.mark: reset.own for reset in desired.firewall.resets}
    assert resets == {marks[name]: release.reset == "down" for name, release in expected.items() if release.reset}, (
        "the router's own connections are let alone while the link works"
    )


def test_own_connections_stay_where_a_command_probes() -> None:
    """It may have no way to set a mark, and would never see its link return."""
    probed = [{**TWO_LINKS["links"][0], "probe": {"targets": [{"kind": "command", "command": ["/bin/true"]}]}}]
    declared = {**wish(policy()), "links": [*probed, *TWO_LINKS["links"][1:]]}
    health = Health({"isp_a": "down", "isp_b": "up"}, {"isp_a": "down"})
    (reset,) = compile_state(Document.parse(declared), facts(), health).firewall.resets
    assert (reset.mark, reset.own) == (0x100, False)


# runs


@pytest.fixture
def router() -> ModelRouter:
    router = ModelRouter(facts())
    apply(router, TIERS)
    router.routing.flushed.clear()
    return router


def run(router: ModelRouter, declared: Any = TIERS, **words: str) -> list[str]:
    """The commands of a run under these words of the prober; a check foretells them, a second run repeats none."""
    set_health(router, words)
    router.routing.flushed.clear()
    foretold = apply(router, declared, check=True)
    assert router.routing.flushed == []
    outcome = apply(router, declared)
    assert (outcome.actions, outcome.diff) == (foretold.actions, foretold.diff)
    writes = router.faults.writes
    assert apply(router, declared).actions == []
    assert router.faults.writes == writes
    return outcome.actions


def kinds(actions: list[str]) -> list[str]:
    """Each kind of command once, in order."""
    words = (("ip ", "steer"), ("conntrack", "forget"), ("replace nftables", "load"), ("store", "store"))
    found = [next(kind for start, kind in words if action.startswith(start)) for action in actions]
    return [kind for index, kind in enumerate(found) if kind not in found[:index]]


def resets(router: ModelRouter) -> list[tuple[int, bool]]:
    (firewall,) = router.loaded()
    return [(reset.mark, reset.own) for reset in firewall.resets]


def test_order_of_a_link_that_goes_down_and_comes_back(router: ModelRouter) -> None:
    down = run(router, isp_a="down/down")
    assert kinds(down) == ["steer", "forget", "load", "store"]
    assert down[-1] == f"store {layout.PINS}"
    assert router.routing.flushed == [others(0x100), Marked(0x100, MASK, UNANSWERED)]
    assert resets(router) == [(0x100, True)]
    back = run(router, isp_a="up", isp_b="up")
    assert kinds(back) == ["load", "steer", "store"]
    assert (router.routing.flushed, resets(router)) == ([], [])


def test_failback_forgets_no_attempts_and_resets_none_of_the_routers_own(router: ModelRouter) -> None:
    run(router, isp_a="down/down")
    run(router, isp_a="up", isp_b="up")
    actions = run(router, isp_a="up", isp_b="up/failback")
    assert kinds(actions) == ["forget", "load", "store"]
    assert router.routing.flushed == [others(0x200)]
    assert resets(router) == [(0x200, False)]


def test_released_link_is_acted_on_when_another_can_take_over(router: ModelRouter) -> None:
    assert kinds(run(router, isp_a="down/down", isp_b="down/down")) == ["steer"]
    assert kinds(run(router, isp_a="down/down", isp_b="up")) == ["steer", "forget", "load", "store"]


def test_one_link_comes_back_as_another_goes_down(router: ModelRouter) -> None:
    """Two loads: the one's connections are let alone before, the other's reset after new ones are led elsewhere."""
    run(router, isp_a="down/down")
    actions = run(router, isp_a="up", isp_b="down/down")
    loads = [index for index, action in enumerate(actions) if action.startswith("replace nftables")]
    steered = [index for index, action in enumerate(actions) if action.startswith("ip ")]
    assert len(loads) == 2
    assert loads[0] < min(steered) < max(steered) < loads[1]


def test_diff_shows_what_becomes_of_connections(router: ModelRouter) -> None:
    set_health(router, {"isp_a": "down/down"})
    diff = {entry["before_header"]: entry for entry in apply(router, TIERS, check=True).diff}
    assert '"reset": "down"' in diff[layout.PINS]["after"]
    assert '"reset": "down"' not in diff[layout.PINS]["before"]
    assert "reject with tcp reset" in diff["firewall"]["after"]


def writes(*words: str) -> range:
    """The writes of the last of these runs, each under one word on isp_a, counted from 1."""
    router = ModelRouter(facts())
    for word in words:
        router.faults.writes = 0
        set_health(router, {"isp_a": word})
        apply(router, TIERS)
    return range(1, router.faults.writes + 1)


def refused_run(router: ModelRouter, word: str, refused: int) -> None:
    set_health(router, {"isp_a": word})
    before = router.snapshot()
    router.faults.writes, router.faults.refuse = 0, refused
    with pytest.raises((ApplyError, KernelError), match="refused as told"):
        apply(router, TIERS)
    assert router.snapshot() == before
    router.routing.flushed.clear()
    apply(router, TIERS)


@pytest.mark.parametrize("refused", writes("up", "down/down"))
def test_refused_write_is_undone_and_the_next_run_gives_up_all(router: ModelRouter, refused: int) -> None:
    """What was forgotten may be forgotten again: it is remembered only when all is done."""
    refused_run(router, "down/down", refused)
    assert router.routing.flushed == [others(0x100), Marked(0x100, MASK, UNANSWERED)]
    assert resets(router) == [(0x100, True)]


@pytest.mark.parametrize("refused", writes("down/down", "up"))
def test_refused_return_leaves_the_resets_until_the_next_run(router: ModelRouter, refused: int) -> None:
    run(router, isp_a="down/down")
    refused_run(router, "up", refused)
    assert (router.routing.flushed, resets(router)) == ([], [])


def test_policy_that_learns_to_keep_takes_the_resets_away(router: ModelRouter) -> None:
    run(router, isp_a="down/down")
    keeping = wish(policy("balanced", {"link": "isp_a"}, {"link": "isp_b", "tier": 2}, on_down={"tcp": "keep"}))
    actions = [action for action in run(router, keeping, isp_a="down/down") if layout.PINS not in action]
    assert kinds([action for action in actions if store.DOCUMENT not in action]) == ["load"]
    assert resets(router) == []


# addresses


def test_connections_of_an_address_that_is_gone_are_forgotten(router: ModelRouter) -> None:
    router.set_facts(facts(lost="5.5.5.5"))
    actions = run(router, isp_a="up")
    assert router.routing.flushed == [Marked(0x100, MASK, address="5.5.5.5")]
    forgotten = actions.index("conntrack -D --mark 0x100/0x3f00 (of address 5.5.5.5)")
    assert {"ip", "replace"} >= {action.split()[0] for action in actions[:forgotten]}, "after all else is in place"
    assert [action.split()[0] for action in actions[forgotten:]] == ["conntrack", "ip", "store"], "but the old rule"


def test_former_address_that_stays_is_remembered_until_it_goes(router: ModelRouter) -> None:
    renumbered = {**TIERS, "links": [{**TIERS["links"][0], "address": "5.5.5.6"}, TIERS["links"][1]]}
    run(router, renumbered)
    assert router.routing.flushed == []
    assert store.load_pins(router.files)["isp_a"].sources == ("5.5.5.5", "5.5.5.6")
    router.set_facts(facts(lost="5.5.5.5"))
    run(router, renumbered)
    assert router.routing.flushed == [Marked(0x100, MASK, address="5.5.5.5")]
    assert store.load_pins(router.files)["isp_a"].sources == ("5.5.5.6",)


def test_link_without_an_address_keeps_what_it_had(router: ModelRouter) -> None:
    router.set_facts(facts(wan1=None))
    run(router)
    assert router.routing.flushed == []
    router.set_facts(facts())
    run(router)
    assert router.routing.flushed == []
    router.set_facts(facts(wan1=None))
    run(router)
    moved = facts(lost="5.5.5.5")
    router.set_facts(moved)
    run(router)
    assert router.routing.flushed == [Marked(0x100, MASK, address="5.5.5.5")]


def test_address_on_another_device_is_of_no_use_to_the_link(router: ModelRouter) -> None:
    """A link that moves to another device leaves by it, where the provider takes no address of the former one."""
    moved = {**TIERS, "links": [{"name": "isp_a", "device": "ppp0"}, TIERS["links"][1]]}
    run(router, moved)
    assert router.routing.flushed == [Marked(0x100, MASK, address="5.5.5.5")]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"links": {"isp_a": {"mark": 256, "sources": "5.5.5.9"}}}',
                                     '{"links": {"isp_a": {"mark": 512, "sources": ["5.5.5.9"]}}}'])  # fmt: skip
def test_nothing_is_forgotten_because_nothing_is_known(router: ModelRouter, content: str | None) -> None:
    router.files.write(layout.PINS, content)
    assert run(router) == [f"store {layout.PINS}"]
    assert router.routing.flushed == []
    assert store.load_pins(router.files)["isp_a"] == Pin(0x100, ("5.5.5.5",))


def test_pins_are_read_as_they_are_written() -> None:
    known = {"isp_a": Pin(0x100, ("5.5.5.5", "5.5.5.6"), "down", "down"), "isp_b": Pin(0x200)}
    assert pins.parse(pins.text(known)) == known
    assert pins.text({}) is None


def test_words_that_are_not_known_are_no_reset() -> None:
    content = '{"links": {"isp_a": {"mark": 256, "sources": [], "reset": "maybe", "flushed": 7}}}'
    assert pins.parse(content) == {"isp_a": Pin(0x100)}


# the firewall in a transition


LINK = FirewallLink("isp_a", 0x100, "wan1", networks=("5.5.5.0/24", "5.5.5.128/25"))


def test_reset_is_of_the_link_as_it_is_now() -> None:
    shared = FirewallLink("one", 0x200, "seg0", "192.168.100.1", None, 2)
    firewall = Firewall(MASK, (LINK, shared)).resetting({0x200: False, 0x100: True, 0x300: True})
    assert firewall.resets == (
        Reset(0x100, "wan1", networks=("5.5.5.0/24",)),
        Reset(0x200, "seg0", "192.168.100.1", 2, own=False),
    )


def test_only_resets_of_before_and_after_are_in_force_in_between() -> None:
    links = Firewall(MASK, (LINK, FirewallLink("isp_b", 0x200, "wan2"), FirewallLink("lte", 0x300, "ppp0")))
    before, after = links.resetting({0x100: True, 0x200: True}), links.resetting({0x200: True, 0x300: True})
    assert after.keeping(before).resets == links.resetting({0x200: True}).resets


def test_another_address_of_the_router_does_not_matter(router: ModelRouter) -> None:
    more = facts()
    router.set_facts(type(more)(more.devices, (*more.addresses, Address("wan1", "5.5.5.7", 24)), more.neighbours,
                                more.defaults))  # fmt: skip
    run(router)
    assert router.routing.flushed == []
