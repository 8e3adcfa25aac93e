# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""flow.converge on the model router: idempotence, check mode, undo, backends, reboot."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from _mwan import changes, inspection, store
from _mwan.apply import ApplyError, NotKeptError
from _mwan.document import Document
from _mwan.errors import InputError, KernelError
from _mwan.firewall.model import Firewall, FirewallLink
from _mwan.flow import Outcome, converge
from _mwan.kernel import DEFAULT, MAIN, IpRule, Marked, Nexthop, Route
from _mwan.model import Settings
from unit.model_kernel import OURS, ModelRouter
from unit.worlds import LAN, TWO_LINKS, apply, facts, set_health


@pytest.fixture
def router() -> ModelRouter:
    return ModelRouter(facts())


def with_backend(name: str) -> Callable[[Document], Document]:
    return lambda stored: replace(stored, settings=Settings.parse("settings", {"firewall_backend": name}))


# The tasks of the role, in its order: options, and what earlier tasks declared.
LINKS = {"links": TWO_LINKS["links"], "state": "present", "purge": False}
SNAT = {"snat": TWO_LINKS["snat"], "state": "present", "purge": False}
RP_FILTER = {**dict.fromkeys(changes.RP_FILTER), **TWO_LINKS["rp_filter"], "state": "present"}
POLICIES = {key: TWO_LINKS[key] for key in ("policies", "rules", "default_policy")} | {
    "state": "present",
    "purge": True,
}
KNOWN_LINKS = {"links": TWO_LINKS["links"]}
KNOWN = {**KNOWN_LINKS, "snat": TWO_LINKS["snat"]}
TASKS = (
    (changes.links, LINKS, {}),
    (changes.snat, SNAT, KNOWN_LINKS),
    (changes.rp_filter, RP_FILTER, KNOWN),
    (changes.policies, POLICIES, KNOWN),
)


def play(router: ModelRouter, tasks: Any = TASKS, check: bool = False) -> list[Outcome]:
    return [task(router, *item, check=check) for item in tasks]


def task(router: ModelRouter, change: Any, params: Mapping[str, Any], known: Mapping[str, Any], check: bool) -> Outcome:
    def assumed(stored: Document) -> Document:
        return changes.assume(stored, known)

    return converge(router.ports, lambda stored: change(stored, params), check, assumed if known else None)


def test_a_second_run_changes_nothing(router: ModelRouter) -> None:
    assert apply(router, TWO_LINKS).changed
    before, router.faults.writes = router.snapshot(), 0
    again = apply(router, TWO_LINKS)
    assert (again.changed, again.actions, again.diff) == (False, [], [])
    assert router.faults.writes == 0
    assert router.snapshot() == before


def test_every_task_of_a_second_play_changes_nothing(router: ModelRouter) -> None:
    play(router)
    assert [outcome.actions for outcome in play(router)] == [[], [], [], []]


def test_check_mode_of_a_play_on_a_fresh_router_writes_nothing_and_tells_what_the_play_then_does(
    router: ModelRouter,
) -> None:
    before = router.snapshot()
    predicted = play(router, check=True)
    assert router.snapshot() == before
    assert router.faults.writes == 0
    done = play(router)
    assert [outcome.actions for outcome in predicted] == [outcome.actions for outcome in done]
    assert [changed_lines(outcome) for outcome in predicted] == [changed_lines(outcome) for outcome in done]


def changed_lines(outcome: Outcome) -> list[tuple[str, set[str]]]:
    """What a diff takes away and adds, but for the document, which in check mode lacks what `assume` does not carry."""
    return [
        (entry["before_header"], set(entry["before"].splitlines()) ^ set(entry["after"].splitlines()))
        for entry in outcome.diff
        if entry["before_header"] != store.DOCUMENT
    ]


def test_the_order_of_modules_does_not_matter_where_references_allow_it(router: ModelRouter) -> None:
    play(router)
    other = ModelRouter(facts())
    play(other, (TASKS[2], TASKS[0], TASKS[3], TASKS[1]))
    assert other.snapshot() == router.snapshot()


NEXT = {
    "links": [
        {"name": "isp_b", "device": "wan2", "gateway": "6.6.6.1", "weight": 2},
        {"name": "lte", "device": "ppp0", "weight": 4},
    ],
    "policies": [{"name": "balanced", "members": [{"link": "isp_b"}, {"link": "lte", "tier": 2}]}],
    "default_policy": "balanced",
    "rules": [{"name": "voip", "protocol": "udp", "destination_port": "5060-5061", "link": "isp_b"}],
}


def writes_of(wish: Mapping[str, Any], next_wish: Mapping[str, Any]) -> int:
    router = ModelRouter(facts())
    apply(router, wish)
    router.faults.writes = 0
    apply(router, next_wish)
    return router.faults.writes


PATHS = {"first": ({}, TWO_LINKS), "change": (TWO_LINKS, NEXT), "removal": (TWO_LINKS, {})}
REFUSALS = [(name, index) for name, path in PATHS.items() for index in range(1, writes_of(*path) + 1)]


@pytest.mark.parametrize(("path", "refused"), REFUSALS)
def test_a_refused_write_is_undone_and_the_next_run_gets_there(router: ModelRouter, path: str, refused: int) -> None:
    wish, next_wish = PATHS[path]
    apply(router, wish)
    before = router.snapshot()
    router.faults.writes, router.faults.refuse = 0, refused
    with pytest.raises((ApplyError, KernelError), match="refused as told"):
        apply(router, next_wish)
    assert router.snapshot() == before
    apply(router, next_wish)
    straight = ModelRouter(facts())
    apply(straight, wish)
    apply(straight, next_wish)
    assert router.snapshot() == straight.snapshot()


def test_an_error_names_the_refused_action_and_what_was_undone(router: ModelRouter) -> None:
    router.faults.refuse = 12
    with pytest.raises(ApplyError) as caught:
        apply(router, TWO_LINKS)
    assert caught.value.failed in str(caught.value)
    assert len(caught.value.undone) == 11
    assert caught.value.done == []
    assert "the 11 operations before it were undone" in str(caught.value)


def test_the_document_is_stored_only_when_all_else_is_in_place(router: ModelRouter) -> None:
    links = []
    router.faults.after_write = lambda: links.append(len(store.load_document(router.files).links))
    apply(router, TWO_LINKS)
    assert links == [0] * (len(links) - 1) + [2]


def test_a_run_that_is_killed_does_not_lose_what_the_host_had(router: ModelRouter) -> None:
    before = dict(router.sysctl.values)

    def die() -> None:
        raise KeyboardInterrupt

    for writes in (8, 16, 24):
        killed = ModelRouter(facts())
        left = iter(range(writes))
        killed.faults.after_write = lambda left=left: None if next(left, None) is not None else die()
        with pytest.raises(KeyboardInterrupt):
            apply(killed, TWO_LINKS)
        killed.faults.after_write = lambda: None
        apply(killed, TWO_LINKS)
        apply(killed, {})
        assert killed.sysctl.values == before


def test_what_is_not_kept_is_set_once_more_and_then_told_with_what_was_done(router: ModelRouter) -> None:
    key = "net/ipv4/ip_forward"
    router.faults.after_write = lambda: router.sysctl.values.update({key: "0"})
    with pytest.raises(NotKeptError) as caught:
        apply(router, TWO_LINKS)
    assert f"sysctl {key} = 1 (was 0)" in caught.value.done
    assert key in str(caught.value)
    assert store.load_document(router.files).link("isp_a").device == "wan1"


@pytest.mark.parametrize(("former", "latter"), [("nftables", "iptables"), ("iptables", "nftables")])
def test_another_backend_takes_over_completely(router: ModelRouter, former: str, latter: str) -> None:
    apply(router, TWO_LINKS)
    converge(router.ports, with_backend(former))
    predicted = converge(router.ports, with_backend(latter), check=True)
    done = converge(router.ports, with_backend(latter))
    assert predicted.actions == done.actions
    assert predicted.diff == done.diff
    firewall = next(entry for entry in done.diff if entry["before_header"] == "firewall")
    assert firewall["after"].startswith(f"# {latter}")
    assert [port.name for port in (router.nftables, router.iptables) if port.listing()] == [latter]
    assert not converge(router.ports, lambda stored: stored).changed


def test_at_each_step_of_a_change_of_backend_one_of_them_is_loaded(router: ModelRouter) -> None:
    apply(router, TWO_LINKS)
    loaded = []
    router.faults.after_write = lambda: loaded.append(len(router.loaded()))
    converge(router.ports, with_backend("iptables"))
    assert min(loaded) >= 1


@pytest.mark.parametrize("refused", range(1, 5))
def test_a_refused_change_of_backend_is_undone(router: ModelRouter, refused: int) -> None:
    apply(router, TWO_LINKS)
    before = router.snapshot()
    router.faults.writes, router.faults.refuse = 0, refused
    with pytest.raises((ApplyError, KernelError)):
        converge(router.ports, with_backend("iptables"))
    assert router.snapshot() == before


def test_auto_stays_with_the_backend_in_use(router: ModelRouter) -> None:
    router.nftables.missing = "no nft here"
    apply(router, TWO_LINKS)
    assert router.iptables.live
    router.nftables.missing = None
    assert not apply(router, TWO_LINKS).changed


def test_auto_follows_a_legacy_firewall(router: ModelRouter) -> None:
    apply_to = replace(router.ports, legacy_firewall=True)
    converge(apply_to, lambda stored: changes.links(stored, LINKS))
    assert router.iptables.live
    assert not router.nftables.live


def test_a_backend_that_cannot_be_used_is_refused_with_its_reason(router: ModelRouter) -> None:
    router.iptables.missing = "python-iptables is missing"
    with pytest.raises(InputError, match="firewall_backend: 'iptables' cannot be used: python-iptables is missing"):
        converge(router.ports, with_backend("iptables"))


def test_the_hosts_sysctls_are_given_back_when_nothing_is_declared_any_more(router: ModelRouter) -> None:
    before = router.snapshot()
    apply(router, TWO_LINKS)
    assert router.sysctl.values["net/ipv4/ip_forward"] == "1"
    apply(router, {})
    after = router.snapshot()
    assert after["sysctls"] == before["sysctls"]
    assert after == before


def test_a_mode_taken_back_gives_only_the_devices_own_value_back(router: ModelRouter) -> None:
    apply(router, TWO_LINKS)
    assert router.sysctl.values["net/ipv4/conf/lan0/rp_filter"] == "1"
    apply(router, {**TWO_LINKS, "rp_filter": {}})
    assert router.sysctl.values["net/ipv4/conf/lan0/rp_filter"] == "2"
    assert router.sysctl.values["net/ipv4/ip_forward"] == "1"


def test_who_cannot_keep_files_in_etc_repairs_all_else_without_them(router: ModelRouter) -> None:
    """The prober is not root: a sysctl.d file that somebody removed must not keep it from moving traffic."""
    apply(router, TWO_LINKS)
    names = [path for path in router.files.texts if path.startswith("/etc/") and path != store.DOCUMENT]
    assert names
    for path in names:
        router.files.write(path, None)
    router.routing.insert_rule(IpRule(1500, MAIN), OURS)
    outcome = converge(replace(router.ports, boot_files=False), lambda stored: stored)
    assert outcome.actions == ["ip rule delete priority 1500 from all lookup main protocol mwan"]
    assert all(router.files.read(path) is None for path in names)
    assert apply(router, TWO_LINKS).actions == [f"add file {path}" for path in sorted(names)]


def test_a_reboot_is_restored_from_the_document(router: ModelRouter) -> None:
    apply(router, TWO_LINKS)
    before = router.snapshot()
    router.reboot()
    assert router.snapshot() != before
    restored = converge(router.ports, lambda stored: stored, strict=False)
    assert restored.changed
    assert router.snapshot() == before


def test_an_outage_is_not_drift(router: ModelRouter) -> None:
    apply(router, TWO_LINKS)
    set_health(router, {"isp_a": "down"})
    assert apply(router, TWO_LINKS).changed
    tier_one = next(route for route in router.routing.routes() if route.table == 1003 and route.metric == 1)
    assert [hop.device for hop in tier_one.nexthops] == ["wan2"]
    assert not apply(router, TWO_LINKS).changed


def test_a_first_default_policy_without_a_way_out_is_refused(router: ModelRouter) -> None:
    wish = {**TWO_LINKS, "links": [{"name": "isp_a", "device": "wan9", "gateway": "5.5.5.1"}], "rules": [], "snat": []}
    wish["policies"] = [{"name": "balanced", "members": [{"link": "isp_a"}]}]
    before = router.snapshot()
    with pytest.raises(InputError, match=r"default_policy: .* would lose its way out"):
        apply(router, wish, strict=True)
    assert router.snapshot() == before
    wish["policies"][0]["last_resort"] = "main"
    apply(router, wish, strict=True)


def test_a_default_policy_that_serves_may_lose_all_its_links(router: ModelRouter) -> None:
    apply(router, TWO_LINKS, strict=True)
    set_health(router, {"isp_a": "down", "isp_b": "down"})
    apply(router, TWO_LINKS, strict=True)
    kinds = {route.kind for route in router.routing.routes() if route.table == 1003}
    assert kinds == {"unreachable"}


def test_the_connections_of_a_link_that_goes_begin_anew_and_what_came_late_is_forgotten(router: ModelRouter) -> None:
    apply(router, TWO_LINKS)
    outcome = apply(router, NEXT)
    assert router.routing.flushed.count(Marked(0x100, 0x3F00)) == 3, "once as it came anew, twice as it went"
    first, last = positions(outcome.actions, "conntrack -D --mark 0x100/0x3f00")
    _with_old_pins, without_old_pins = positions(outcome.actions, "replace nftables rules")
    assert first < without_old_pins < last
    assert last > max(index for index, action in enumerate(outcome.actions) if action.startswith("ip "))


def positions(actions: list[str], wanted: str) -> list[int]:
    return [index for index, action in enumerate(actions) if action == wanted]


def test_an_object_of_others_in_our_place_is_an_error_and_stays(router: ModelRouter) -> None:
    foreign = Route(1001, DEFAULT, nexthops=(Nexthop("lan0"),))
    router.routing.rib[foreign.key] = (foreign, 4)
    before = router.snapshot()
    with pytest.raises(ApplyError, match="EEXIST"):
        apply(router, TWO_LINKS)
    assert router.snapshot() == before


@pytest.mark.parametrize(("old", "new"), [({"source": LAN}, {}), ({}, {"source": LAN}), ({"protocol": "tcp"}, {})])
def test_a_rule_the_kernel_cannot_tell_from_its_successor_is_exchanged_in_one_go(
    router: ModelRouter, old: dict[str, str], new: dict[str, str]
) -> None:
    rule = {"name": "office", "link": "isp_b"}
    apply(router, {**TWO_LINKS, "rules": [{**rule, **old}]})
    outcome = apply(router, {**TWO_LINKS, "rules": [{**rule, **new}]})
    deleted, added = (action for action in outcome.actions if action.startswith("ip rule"))
    assert deleted.startswith("ip rule delete priority 1200 ")
    assert added.startswith("ip rule add priority 1200 ")
    assert outcome.actions.index(added) == outcome.actions.index(deleted) + 1


def test_info_tells_what_is_there_without_writing(router: ModelRouter) -> None:
    apply(router, TWO_LINKS)
    router.routing.insert_rule(IpRule(900, MAIN, mark=0x100, mask=0xFFFFFFFF), 4)
    router.routing.insert_rule(IpRule(901, MAIN, mark=0x10000, mask=0xFF0000), 4)
    router.sysctl.values["net/ipv4/conf/lan0/rp_filter"] = "0"
    router.faults.writes = 0
    found = inspection.inspect(router.ports)
    assert router.faults.writes == 0
    assert found["foreign"] == ["900: from all fwmark 0x100/0xffffffff lookup main"]
    assert found["drift"] == ["sysctl net/ipv4/conf/lan0/rp_filter = 1 (was 0)"]
    assert found["effective"]["rp_filter"]["wan1"] == "loose"
    assert found["links"]["isp_a"]["mark"] == "0x100"
    assert found["effective"]["defaults"]["mwan_isp_b"].startswith("default via 6.6.6.1 dev wan2 src 6.6.6.6")


def test_a_gateway_that_stops_answering_is_no_change(router: ModelRouter) -> None:
    """Told from its neighbour by that address, it would lose its inbound connections by a run in an outage."""
    segment = {
        "links": [
            {"name": "one", "device": "seg0", "gateway": "192.168.100.1"},
            {"name": "two", "device": "seg0", "gateway": "192.168.100.2"},
        ],
        "policies": [{"name": "both", "members": [{"link": "one"}, {"link": "two"}]}],
        "default_policy": "both",
    }
    assert unknown_gateways(apply(router, segment)) == []
    router.set_facts(replace(facts(), neighbours={}))
    outcome = apply(router, segment)
    assert not outcome.changed
    assert unknown_gateways(outcome) == []


def unknown_gateways(outcome: Outcome) -> list[str]:
    return [warning for warning in outcome.warnings if "link-layer" in warning]


def test_in_check_mode_drift_is_told_by_the_task_that_would_repair_it(router: ModelRouter) -> None:
    play(router)
    rule = next(iter(router.ports.routing.rules()))
    router.ports.routing.change_rule(rule, None)
    assert [outcome.changed for outcome in play(router, check=True)] == [True, False, False, False]


def test_a_link_that_goes_from_a_shared_device_keeps_its_gateway_until_nothing_leads_there() -> None:
    pair = (
        FirewallLink("one", 0x100, "seg0", "192.168.100.1", "02:00:00:00:00:01", 1),
        FirewallLink("two", 0x200, "seg0", "192.168.100.2", "02:00:00:00:00:02", 2),
    )
    alone = Firewall(0x3F00, (FirewallLink("one", 0x100, "seg0"),))
    assert alone.keeping(Firewall(0x3F00, pair)).links == pair
    assert alone.keeping(alone) == alone
    assert Firewall(0x3F00, pair).keeping(alone).links == pair


def test_what_the_router_keeps_has_a_file_of_its_own(router: ModelRouter) -> None:
    play(router)
    declared, kept = (json.loads(router.files.texts[path]) for path in (store.DOCUMENT, store.KEPT))
    assert not declared.keys() & kept.keys()
    assert kept == {"backend": "nftables", "originals": store.load_document(router.files).originals}
    assert kept["originals"]["net/ipv4/ip_forward"] == "0"


def test_what_an_older_release_kept_in_the_document_moves_out_of_it(router: ModelRouter) -> None:
    play(router)
    texts = router.files.texts
    old = {**json.loads(texts[store.DOCUMENT]), **json.loads(texts.pop(store.KEPT))}
    new, texts[store.DOCUMENT] = texts[store.DOCUMENT], json.dumps(old)
    before = store.load_document(router.files)
    play(router)
    assert (store.load_document(router.files), texts[store.DOCUMENT]) == (before, new)


def test_who_may_not_write_to_etc_leaves_the_document_alone(router: ModelRouter) -> None:
    play(router)
    texts = router.files.texts
    old = json.dumps({**json.loads(texts[store.DOCUMENT]), **json.loads(texts.pop(store.KEPT))})
    texts[store.DOCUMENT] = old
    converge(replace(router.ports, boot_files=False), lambda stored: stored, strict=False)
    assert texts[store.DOCUMENT] == old
    assert "originals" in json.loads(texts[store.KEPT])


@pytest.mark.parametrize("text", ["{", "[]", '{"originals": {"kernel/core_pattern": "|/tmp/x"}}', '{"backend": "pf"}'])
def test_what_was_kept_and_makes_no_sense_is_not_known(router: ModelRouter, text: str) -> None:
    play(router)
    router.files.texts[store.KEPT] = text
    found = store.load_document(router.files)
    assert (found.originals, found.backend) == ({}, None)


@pytest.mark.parametrize(("before", "after"), [("marks", "routing"), ("routing", "marks")])
def test_what_tells_rules_apart_changes_together_with_the_rules(before: str, after: str) -> None:
    """A play as a whole is checked by what it declares, not by what is stored until its rules are."""
    rules = {"marks": [{"name": "night", "link": "isp_a", "time": {"hours": "22:00-06:00"}}], "routing": []}
    links = [{"name": "isp_a", "device": "wan1", "gateway": "5.5.5.1"}]
    stored = Document.parse({"settings": {"classify": before}, "links": links, "rules": rules[before]})
    declared = changes.assume(stored, {"classify": after, "rules": rules[after], "purge": True}).check()
    assert (declared.settings.classify, len(declared.rules)) == (after, len(rules[after]))
