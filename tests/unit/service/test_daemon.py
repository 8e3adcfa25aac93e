# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The whole prober in virtual time, on a model of the kernel: what it does, and what holds whatever happens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from _mwan import store
from _mwan.service.converging import Result
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.service.world import TARGETS, World
from unit.watch.scenes import FOREVER
from unit.watch.simulator import Path
from unit.worlds import LAN

PROBE: dict[str, Any] = {"targets": list(TARGETS), "up_after": 2, "damping": {"longest": 4, "half_life": 10}}
LINKS = [
    {"name": "isp_a", "device": "wan1", "gateway": "5.5.5.1"},
    {"name": "isp_b", "device": "wan2", "gateway": "6.6.6.1"},
    {"name": "line", "device": "ppp0"},
]


def wish(*tiers: int, **policy: Any) -> dict[str, Any]:
    """A link for each tier, the default policy over them, and how they are probed."""
    links = LINKS[: len(tiers)]
    members = [{"link": link["name"], "tier": tier} for link, tier in zip(links, tiers, strict=True)]
    return {
        "links": links,
        "policies": [{"name": "balanced", "members": members, **policy}],
        "default_policy": "balanced",
        "snat": [{"link": link["name"], "source": LAN} for link in links],
        "rp_filter": {"mode": "loose"},
        "probe": PROBE,
    }


def dark(start: float, end: float = FOREVER) -> Path:
    return Path(rtt=0.02, dark=[(start, end)])


def world(declared: Mapping[str, Any], **paths: Path) -> World:
    sound = {str(link["name"]): Path(rtt=0.02) for link in declared["links"]}
    return World(declared, {**sound, **paths})


def ways(shown: World) -> set[str]:
    """The devices of the best route of the default policy."""
    routes = [route for route in shown.router.routing.routes() if route.table == shown.policy_tables["balanced"]]
    best = min(routes, key=lambda item: item.metric)
    return {hop.device for hop in best.nexthops}


def released(shown: World, link: str) -> list[str | None]:
    """What each health document said, without repetitions."""
    told = [document["links"][link]["released"] for document in shown.health if link in document["links"]]
    return [one for one, before in zip(told, [object(), *told], strict=False) if one != before]


def test_a_black_hole_from_the_first_silence_to_the_return() -> None:
    with world(wish(1, 1), isp_a=dark(10, 20)).start() as shown:
        assert (shown.run(9).states(), ways(shown)) == ({"isp_a": "up", "isp_b": "up"}, {"wan1", "wan2"})
        assert (shown.run(2.5).states()["isp_a"], ways(shown)) == ("suspect", {"wan2"})
        assert (shown.run(1).states()["isp_a"], released(shown, "isp_a")) == ("down", [None])
        shown.run(1)
        assert released(shown, "isp_a") == [None, "down"]
        assert [which.mark for which in shown.router.routing.flushed[-1:]] == [0x100]
        shown.run(10)
        assert (shown.states()["isp_a"], ways(shown)) == ("up", {"wan1", "wan2"})
        assert released(shown, "isp_a") == [None, "down", None]
        assert shown.changes("isp_a") == ["up", "suspect", "down", "up"]
        assert shown.changes("isp_b") == ["up"]
        assert shown.drift() == []


def test_carrier_loss_needs_no_delay() -> None:
    with world(wish(1, 1)).start() as shown:
        shown.run(5)
        shown.device("wan1", carrier=False)
        shown.run(0.01)
        assert (shown.states()["isp_a"], shown.orders[-1].steer) == ("down", True), "before all facts are read anew"
        shown.run(0.09)
        assert (shown.states()["isp_a"], ways(shown), released(shown, "isp_a")) == ("down", {"wan2"}, [None, "down"])
        before = sum(shown.probed.values())
        shown.run(2)
        assert sum(shown.probed.values()) - before <= 13, "over the other link only"
        shown.device("wan1")
        shown.run(5)
        assert (shown.states()["isp_a"], ways(shown)) == ("up", {"wan1", "wan2"})


def test_nothing_is_led_anywhere_by_a_document_that_was_just_replaced() -> None:
    with world(wish(1, 1, 1)).start() as shown:
        shown.run(5)
        shown.orders.clear()
        shown.declare(wish(1, 1))
        shown.device("wan1", carrier=False)
        shown.run(0.1)
        assert shown.orders
        assert not any(order.steer for order in shown.orders)
        assert (ways(shown), shown.drift()) == ({"wan2"}, [])


def test_a_device_that_comes_late_and_anew() -> None:
    declared = wish(1, 1, 1)
    with world(declared) as shown:
        shown.tell = lambda _event: None
        shown.device("ppp0", gone=True)
        shown.router.reboot()
        shown.start().run(5)
        assert shown.states() == {"isp_a": "up", "isp_b": "up", "line": "down"}
        assert ways(shown) == {"wan1", "wan2"}
        for _dialled in range(2):
            shown.device("ppp0")
            shown.run(8)
            assert (shown.states()["line"], ways(shown)) == ("up", {"wan1", "wan2", "ppp0"})
            shown.device("ppp0", gone=True)
            shown.run(3)
            assert (shown.states()["line"], ways(shown)) == ("down", {"wan1", "wan2"})
        assert shown.open_probes <= 12


def test_another_address_is_followed() -> None:
    with world(wish(1, 1)).start() as shown:
        shown.run(5)
        shown.address("5.5.5.5", "5.5.5.77")
        shown.run(1)
        assert shown.drift() == []
        assert [binding.source for binding in shown.probed if binding.device == "wan1"] == ["5.5.5.5", "5.5.5.77"]
        shown.run(5)
        assert shown.changes("isp_a") == ["up"]


def test_all_links_dead_moves_nothing_and_says_so() -> None:
    with world(wish(1, 1), isp_a=dark(10, 40), isp_b=dark(10, 40)).start() as shown:
        shown.run(30)
        assert (shown.states(), ways(shown)) == ({"isp_a": "up", "isp_b": "up"}, {"wan1", "wan2"})
        assert (shown.status()["held"], shown.kinds()[-1]) == (True, "hold")
        shown.run(15)
        assert (shown.status()["held"], shown.kinds()[-1]) == (False, "hold_ended")
        assert shown.changes("isp_a") == shown.changes("isp_b") == ["up"]


@pytest.mark.parametrize("moment", [11.5, 13.0, 15.0])
def test_killed_in_an_outage_it_goes_on_where_it_was(moment: float) -> None:
    with world(wish(1, 1), isp_a=dark(10)).start() as shown:
        before = shown.run(moment).states()["isp_a"]
        since = shown.status()["links"]["isp_a"]["since_wall"]
        assert shown.restart().run(0.2).states()["isp_a"] == before != "up"
        assert shown.status()["links"]["isp_a"]["since_wall"] == pytest.approx(since, abs=0.001)
        shown.run(10)
        assert shown.changes("isp_a") == ["up", "suspect", "down"]
        assert released(shown, "isp_a") == [None, "down"]
        assert ways(shown) == {"wan2"}


def test_one_that_stood_still_blames_nobody() -> None:
    """Not even where the last answers before that were lost."""
    with world(wish(1, 1), isp_a=dark(4.2, 5.0), isp_b=Path(rtt=0.4)).start() as shown:
        shown.run(5)
        shown.loop.selector.now += 5
        shown.wall_offset -= 3600
        shown.run(10)
        assert shown.changes("isp_a") == shown.changes("isp_b") == ["up"]
        assert any("stood still" in line for line in shown.said)


def test_a_document_that_is_no_good_and_then_good_again() -> None:
    with world(wish(1, 1), isp_a=dark(20)).start() as shown:
        shown.run(5)
        good = shown.router.files.texts[store.DOCUMENT]
        shown.router.files.texts[store.DOCUMENT] = "{"
        shown.run(20)
        assert (shown.status()["problem"] != "", ways(shown), shown.states()["isp_a"]) == (True, {"wan2"}, "down")
        assert shown.router.files.texts[store.DOCUMENT] == "{"
        shown.router.files.texts[store.DOCUMENT] = good
        shown.run(2)
        assert (shown.status()["problem"], shown.states()["isp_a"]) == ("", "down")
        assert shown.kinds() == ["reload_failed", "reload"]


def test_started_on_a_document_that_is_no_good_it_touches_nothing() -> None:
    with world(wish(1, 1)) as shown:
        shown.router.files.texts[store.DOCUMENT] = '{"schema": 99}'
        before = shown.router.snapshot()
        shown.start().run(120)
        assert shown.router.snapshot() == before
        assert shown.status()["ready"]


def test_a_document_that_went_stops_the_watching_and_leaves_the_kernel() -> None:
    with world(wish(1, 1)).start() as shown:
        shown.run(5)
        del shown.router.files.texts[store.DOCUMENT]
        before = shown.router.snapshot()
        shown.run(120)
        assert (shown.states(), shown.open_probes, shown.router.snapshot()) == ({}, 0, before)


def test_what_a_playbook_removed_stays_removed() -> None:
    with world(wish(1, 1)).start() as shown:
        shown.run(5)
        shown.declare({})
        assert shown.router.routing.routes() == frozenset()
        shown.run(120)
        assert shown.router.routing.routes() == frozenset()


def test_links_come_and_go() -> None:
    with world(wish(1, 1, 1)).start() as shown:
        shown.run(5)
        shown.declare(wish(1, 1))
        shown.run(5)
        assert (list(shown.states()), list(shown.health[-1]["links"])) == (["isp_a", "isp_b"], ["isp_a", "isp_b"])
        shown.declare(wish(1, 1, 1))
        shown.run(5)
        assert shown.states() == {"isp_a": "up", "isp_b": "up", "line": "up"}
        assert shown.changes("isp_a") == ["up"]
        assert shown.drift() == []


def test_a_pass_that_fails_is_tried_again_with_growing_patience() -> None:
    with world(wish(1, 1), isp_a=dark(10)).start() as shown:
        shown.run(5)
        broken, shown.router.routing.change_route = shown.router.routing.change_route, refuse  # type: ignore
        shown.run(60)
        status = shown.status()["converge"]
        assert 5 <= status["failed"] <= 10
        assert shown.kinds() == ["converge_failed"]
        assert shown.states()["isp_a"] == "down", "watching goes on"
        shown.router.routing.change_route = broken  # type: ignore[method-assign]
        shown.run(60)
        assert (shown.kinds()[-1], ways(shown)) == ("converge_recovered", {"wan2"})


def test_a_failure_that_the_next_pass_cures_is_no_event() -> None:
    """Devices come and go under a pass, too."""
    with world(wish(1, 1), isp_a=dark(10)).start() as shown:
        shown.run(9)
        routing = shown.router.routing
        working, routing.change_route = routing.change_route, refuse  # type: ignore[method-assign]
        while not shown.status()["converge"]["failed"]:
            shown.run(0.1)
        routing.change_route = working  # type: ignore[method-assign]
        shown.run(10)
        assert shown.status()["converge"]["failed"] == 1
        assert (shown.kinds(), ways(shown)) == ([], {"wan2"})


def refuse(*_arguments: object) -> None:
    raise RuntimeError("a mistake, of all things")


def test_others_are_corrected_at_once_and_then_more_and_more_slowly() -> None:
    with world(wish(1, 1)).start() as shown:
        shown.run(5)
        rule = next(rule for rule in shown.router.routing.rules() if rule.mark is not None)
        shown.delete_rule(rule)
        shown.run(0.1)
        assert rule in shown.router.routing.rules()
        before = shown.status()["converge"]["changed"]
        for _moment in range(600):
            if rule in shown.router.routing.rules():
                shown.delete_rule(rule)
            shown.run(0.1)
        assert 4 <= shown.status()["converge"]["changed"] - before <= 12
        shown.run(60)
        assert rule in shown.router.routing.rules()
        shown.delete_rule(rule)
        shown.run(40)
        assert rule in shown.router.routing.rules()


def test_what_nobody_told_is_found_within_a_minute() -> None:
    with world(wish(1, 1)).start() as shown:
        shown.run(5)
        shown.router.nftables.meddling = " one rule less,"
        shown.run(61)
        assert shown.router.nftables.meddling == ""
        quiet = shown.status()["converge"]["runs"]
        assert shown.run(600).status()["converge"]["runs"] - quiet <= 10


def test_draining_and_failing_back() -> None:
    declared = wish(1, 2, failback={"tcp": "reset", "other": "reroute", "after": "5s"})
    with world(declared, isp_a=dark(10, 20)).start() as shown:
        assert shown.run(15).states() == {"isp_a": "down", "isp_b": "up"}
        assert ways(shown) == {"wan2"}
        shown.run(12)
        assert (shown.states()["isp_a"], ways(shown), released(shown, "isp_b")) == ("up", {"wan1"}, [None])
        shown.restart().run(10)
        assert released(shown, "isp_b") == [None, "failback"]
        store.save_drained(shown.router.files, {"isp_a": {"since": "2026-01-01", "why": "works"}})
        shown.run(2)
        assert (shown.states()["isp_a"], ways(shown), released(shown, "isp_b")[-1]) == ("drained", {"wan2"}, None)
        assert shown.changes("isp_a")[-1] == "drained"
        assert shown.drift() == []


def test_hours_of_trouble_leave_nothing_behind() -> None:
    """Hundreds of changes: neither probes nor timers add up."""
    flaps = [(float(start), start + 4.0) for start in range(10, 2000, 10)]
    with world(wish(1, 1), isp_a=Path(rtt=0.02, dark=flaps)).start() as shown:
        shown.run(100)
        probes, timers = shown.open_probes, len(shown.loop._scheduled)  # type: ignore[attr-defined]
        shown.run(900)
        for _time in range(300):
            shown.device("wan2", carrier=False)
            shown.run(0.1)
            shown.device("wan2")
            shown.run(0.3)
        assert shown.open_probes <= probes + 1
        assert len(shown.loop._scheduled) <= 3 * timers + 50  # type: ignore[attr-defined]
        assert shown.drift() == []


# whatever happens

MOMENTS = st.floats(1.0, 28.0)
STEPS = st.one_of(
    st.tuples(st.just("carrier"), st.sampled_from(("wan1", "wan2", "ppp0")), st.booleans()),
    st.tuples(st.just("gone"), st.just("ppp0"), st.booleans()),
    st.tuples(st.just("stall"), st.floats(0.1, 6.0), st.booleans()),
    st.tuples(st.just("restart"), st.none(), st.booleans()),
    st.tuples(st.just("refuse"), st.integers(1, 12), st.booleans()),
    st.tuples(st.just("drain"), st.sampled_from(("isp_a", "isp_b", "line")), st.booleans()),
    st.tuples(st.just("meddle"), st.none(), st.booleans()),
    st.tuples(st.just("bad"), st.none(), st.booleans()),
)


@st.composite
def troubled(draw: st.DrawFn) -> World:
    tiers = draw(st.sampled_from(((1, 1), (1, 2), (1, 1, 1), (1, 1, 2), (1, 2, 3))))
    failback = draw(st.sampled_from(({}, {"failback": {"tcp": "reset", "other": "reroute", "after": 2}})))
    declared = wish(*tiers, **failback)
    spans = st.lists(st.floats(0.5, 30.0), max_size=6, unique=True).map(sorted)
    paths = {
        str(link["name"]): Path(
            rtt=draw(st.sampled_from((0.005, 0.1))),
            loss=draw(st.sampled_from((0.0, 0.0, 0.2))),
            dark=list(zip(*[iter(draw(spans))] * 2, strict=False)),
        )
        for link in declared["links"]
    }
    return World(declared, paths, draw(st.integers(0, 9)))


def take(shown: World, step: tuple[str, Any, bool]) -> None:
    kind, what, on = step
    devices = {str(link["device"]) for link in json.loads(shown.router.files.texts[GOOD])["links"]}
    if kind == "carrier" and what in devices:
        shown.device(what, carrier=on)
    elif kind == "gone":
        shown.device(what, gone=on)
    elif kind == "stall":
        shown.loop.selector.now += what
    elif kind == "restart":
        shown.restart()
    elif kind == "refuse":
        shown.router.faults.refuse = shown.router.faults.writes + what
    elif kind == "drain":
        shown.router.faults.refuse = None  # the operator's writing is not what is tried here
        store.save_drained(shown.router.files, {what: {"since": "", "why": ""}} if on else {})
    elif kind == "meddle":
        shown.router.meddle(shown.random)
    elif kind == "bad":
        shown.router.files.texts[store.DOCUMENT] = "{" if on else shown.router.files.texts[GOOD]


GOOD = "the document, while it stands elsewhere"


@settings(max_examples=settings().max_examples // 3)
@given(troubled(), st.lists(st.tuples(MOMENTS, STEPS), max_size=8))
def test_health_and_kernel_agree_in_the_end(shown: World, steps: list[tuple[float, tuple[str, Any, bool]]]) -> None:
    with shown:
        shown.router.files.texts[GOOD] = shown.router.files.texts[store.DOCUMENT]
        shown.start()
        for moment, step in sorted(steps, key=lambda item: item[0]):
            shown.run(max(0.0, moment - shown.loop.time()))
            take(shown, step)
        shown.router.faults.refuse = None
        shown.router.files.texts[store.DOCUMENT] = shown.router.files.texts.pop(GOOD)
        shown.run(70)
        check_documents(shown)
        check_rest(shown)


def check_rest(shown: World) -> None:
    status = shown.status()
    assert status["settled"]
    assert shown.drift() == []
    written = json.loads(shown.router.files.texts[store.HEALTH])["links"]
    told = {name: (link["probed"], link["released"]) for name, link in status["links"].items()}
    assert {name: (entry["state"], entry["released"]) for name, entry in written.items()} == told
    ready = [name for name, link in status["links"].items() if link["ready"] and link["state"] != "drained"]
    if ready:
        assert any(status["links"][name]["state"] in ("up", "degraded") for name in ready), "all targets answer by now"


def check_documents(shown: World) -> None:
    """Of every health document that was ever written."""
    for document in shown.health:
        for entry in document["links"].values():
            assert entry["released"] in (None, "down", "failback")
            assert (entry["released"] == "down") <= (entry["state"] == "down")
            assert (entry["released"] == "failback") <= (entry["state"] not in ("down", "unknown"))


def test_a_link_that_dies_while_a_pass_hangs_is_left_and_no_sign_of_life_is_given() -> None:
    with world(wish(1, 1)).start() as shown:
        shown.run(5)
        manager = shown.daemon._equipment.manager
        signs: list[float] = []
        manager.watchdog = 15.0
        manager.say = lambda **words: signs.append(shown.loop.time()) if "WATCHDOG" in words else None  # type: ignore[method-assign]
        perform = shown.daemon._passes._perform
        hung = shown.loop.create_future()
        shown.daemon._passes._perform = lambda _order: hung
        shown.daemon.reload()
        shown.run(1)
        shown.device("wan1", carrier=False)
        shown.run(0.1)
        assert ways(shown) == {"wan2"}
        shown.run(120)
        assert [sign for sign in signs if sign > 27] == []
        shown.daemon._passes._perform = perform
        hung.set_result(Result(trouble="killed"))
        shown.run(30)
        assert (signs[-1] > 120, shown.drift()) == (True, [])
