# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The prober as a process on a router: what it does when it starts, while it runs, and when it is ended."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from lab import impair
from lab.balance import policy
from lab.engine import Engine
from lab.host import Host
from lab.monitor import Monitor
from lab.prober import Prober
from lab.state import forget_everything, snapshot
from lab.topology import TARGETS, Topology
from lab.traffic import AccessLogServer, fetch_many
from lab.wait import wait_until

# returns at once, however often it failed before
PROBE: dict[str, Any] = {"targets": list(TARGETS), "up_after": "1s", "damping": {"longest": "1s"}}
DOCUMENT = "/etc/mwan/mwan.json"
LISTENER = """
import socket
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.bind("/run/systemd/journal/socket")
with open("/run/journal", "wb", 0) as out:
    while True:
        out.write(journal.recv(65536))
"""


@pytest.fixture
def router(two_links: Topology) -> Host:
    return two_links.router


def declare(engine: Engine, **variables: Any) -> None:
    engine.apply(mwan_probe={**PROBE, "profile": "fast"}, **variables)


def both_up(prober: Prober) -> None:
    """Also where they have only just been declared."""
    wait_until(lambda: list(prober.states().values()) == ["up", "up"], 10)
    prober.wait_settled()


def edit(router: Host, change: Callable[[dict[str, Any]], object]) -> None:
    """Alter the stored document as a run of the playbook would, in one step."""
    document = json.loads(router.run(["cat", DOCUMENT]).stdout)
    change(document)
    replace(router, json.dumps(document))


def replace(router: Host, text: str) -> None:
    router.run(f"cat > {DOCUMENT}.new && mv {DOCUMENT}.new {DOCUMENT}", input=text)


# start and end


def test_an_empty_kernel_is_restored_at_start(two_links: Topology, backend: str) -> None:
    with Engine(two_links, backend) as engine, AccessLogServer(two_links.server):
        declare(engine)
        whole = snapshot(two_links.router)
        forget_everything(two_links.router)
        with Prober(two_links.router) as prober:
            assert snapshot(two_links.router) == whole
            both_up(prober)
            assert set(fetch_many(two_links.client, 40).sources) == {"5.5.5.5", "6.6.6.6"}
            assert prober.stop() == 0
        assert snapshot(two_links.router) == whole
        assert set(fetch_many(two_links.client, 40).sources) == {"5.5.5.5", "6.6.6.6"}


def test_nothing_declared_is_nothing_done(router: Host) -> None:
    before = snapshot(router)
    with Prober(router) as prober:
        assert (prober.status()["links"], prober.status()["converge"]["runs"]) == ({}, 0)
    assert snapshot(router) == before


def test_a_second_one_refuses_to_run(router: Host) -> None:
    with Prober(router), Prober(router, ready=False) as second:
        assert second.wait_end() == 1
        assert "another mwand runs" in second.log()
    with Prober(router) as third:
        assert third.states() == {}


@pytest.mark.parametrize("moment", ["suspect", "down"])
def test_killed_in_an_outage_and_started_again(two_links: Topology, moment: str) -> None:
    router = two_links.router
    with Engine(two_links) as engine, AccessLogServer(two_links.server):
        # suspect for long enough to be seen so, killed so and found so
        engine.apply(mwan_probe={**PROBE, "profile": "fast", "dead": "1s" if moment == "down" else "3s"})
        with impair.black_hole(two_links, "isp_a"):
            with Prober(router) as first:
                first.wait_for("isp_a", moment)
                first.wait_settled()
                if moment == "down":  # and its connections released
                    wait_until(lambda: first.status()["links"]["isp_a"]["released"] == "down", 3)
                    first.wait_settled()
                since = first.status()["links"]["isp_a"]["since_wall"]
                first.kill()
            before = snapshot(router)
            with Prober(router) as second:
                assert second.states()["isp_a"] == moment
                assert second.status()["links"]["isp_a"]["since_wall"] == pytest.approx(since, abs=0.01)
                second.wait_for("isp_a", "down")
                time.sleep(1.5)
                assert second.changes("isp_a")[-1] == "down"
                assert second.changes("isp_a").count("down") == 1
                if moment == "down":
                    assert second.status()["converge"]["changed"] == 0
                    assert snapshot(router) == before
                assert dict(fetch_many(two_links.client, 20).sources) == {"6.6.6.6": 20}
                assert engine.apply(check=True).actions == []


def test_stopping_in_an_outage_moves_nothing(two_links: Topology, router: Host) -> None:
    with Engine(two_links) as engine:
        declare(engine)
        with impair.black_hole(two_links, "isp_a"), Prober(router) as prober:
            prober.wait_for("isp_a", "down")
            prober.wait_settled()
            before = snapshot(router)
            assert prober.stop() == 0
            assert snapshot(router) == before
            assert engine.apply(check=True).actions == []


# failures


def test_a_silent_provider(two_links: Topology, backend: str) -> None:
    with Engine(two_links, backend) as engine, AccessLogServer(two_links.server), Prober(two_links.router) as prober:
        declare(engine)
        both_up(prober)
        with impair.black_hole(two_links, "isp_a"):
            prober.wait_for("isp_a", "suspect", 2)
            prober.wait_settled()
            fetched = fetch_many(two_links.client, 20)
            assert (dict(fetched.sources), fetched.failures) == ({"6.6.6.6": 20}, [])
            prober.wait_for("isp_a", "down", 2)
        prober.wait_for("isp_a", "up")
        prober.wait_settled()
        assert set(fetch_many(two_links.client, 40).sources) == {"5.5.5.5", "6.6.6.6"}
        assert prober.changes("isp_a")[-3:] == ["suspect", "down", "up"]
        assert prober.changes("isp_b") == ["up"]
        event = next(event for event in prober.events() if event["after"] == "down")
        assert re.match(rf"no answer for 1\.[0-4] s from {', '.join(TARGETS)}", event["reason"])
        assert {"loss", "rtt", "targets"} <= event["evidence"].keys()
        assert 0.2 < event["duration"] < 1.5, "in the state before"
        assert f"isp_a: suspect -> down: {event['reason']}" in prober.log()


def test_carrier_loss_is_acted_on_within_milliseconds(two_links: Topology) -> None:
    with (
        Engine(two_links) as engine,
        Prober(two_links.router) as prober,
        Monitor(two_links.router, devices=["wan1"], tables=[1003]) as monitor,
    ):
        declare(engine)
        took = []
        for _trial in range(5):
            both_up(prober)
            monitor.rest()
            with impair.cable_pulled(two_links, "isp_a"):
                lost = monitor.wait("LinkEvent", carrier=False)
                led_away = monitor.wait("OwnRouteEvent")
                took.append(led_away["when"] - lost["when"])
                assert led_away["route"]["nexthops"] == [
                    {"device": "wan2", "gateway": "6.6.6.1", "weight": 1, "onlink": False, "realm": None}
                ]
                prober.wait_for("isp_a", "down")
        assert sorted(took)[len(took) // 2] < 0.02, "half of it, on a machine with nothing else to do"


def test_carrier_loss_waits_for_nobody_who_holds_the_lock(two_links: Topology) -> None:
    with (
        Engine(two_links) as engine,
        Prober(two_links.router) as prober,
        Monitor(two_links.router, devices=["wan1"], tables=[1003]) as monitor,
    ):
        declare(engine)
        both_up(prober)
        monitor.rest()
        holder = two_links.router.popen(["flock", "--no-fork", "/run/mwan/lock", "sleep", "20"])
        try:
            time.sleep(0.5)
            with impair.cable_pulled(two_links, "isp_a"):
                lost = monitor.wait("LinkEvent", carrier=False)
                led_away = monitor.wait("OwnRouteEvent")
                assert led_away["when"] - lost["when"] < 0.5
                prober.wait_for("isp_a", "down")
        finally:
            holder.kill()
            holder.wait()


def test_a_device_that_is_made_anew_is_probed_again(point_to_point: Topology) -> None:
    net = point_to_point
    name = next(iter(net.uplinks))
    with Engine(net) as engine, AccessLogServer(net.server), Prober(net.router) as prober:
        declare(engine)
        both_up(prober)
        with impair.hung_up(net, name):
            prober.wait_for(name, "down")
            wait_until(lambda: "does not exist" in str(prober.status()["links"][name]["pending"]), 2)
        prober.wait_for(name, "up")
        prober.wait_settled()
        assert net.sources[name] in fetch_many(net.client, 40).sources
        with impair.black_hole(net, name):
            prober.wait_for(name, "suspect")


def test_a_process_that_stood_still_blames_nobody(two_links: Topology) -> None:
    with Engine(two_links) as engine, Prober(two_links.router) as prober:
        declare(engine)
        both_up(prober)
        with prober.stopped():
            time.sleep(3)
        time.sleep(1.5)
        assert prober.changes("isp_a") == prober.changes("isp_b") == ["up"]
        assert "stood still for" in prober.log()


# configuration


def test_a_document_that_is_no_good_keeps_the_old_one_running(two_links: Topology, router: Host) -> None:
    with Engine(two_links) as engine, AccessLogServer(two_links.server), Prober(router) as prober:
        declare(engine)
        both_up(prober)
        good = router.run(["cat", DOCUMENT]).stdout
        edit(router, lambda document: document["links"][0].update(weight="heavy"))
        wait_until(lambda: bool(prober.status()["problem"]), 3)
        assert "links[0].weight" in prober.status()["problem"]
        assert "links[0].weight" in prober.ask("reload")["error"]
        assert [event["event"] for event in prober.events() if event["event"] == "reload_failed"] == ["reload_failed"]
        with impair.black_hole(two_links, "isp_a"):
            prober.wait_for("isp_a", "down")
            prober.wait_settled()
            assert dict(fetch_many(two_links.client, 20).sources) == {"6.6.6.6": 20}
        assert "heavy" in router.run(["cat", DOCUMENT]).stdout, "somebody's work, to be corrected"
        replace(router, good)
        prober.reload()
        assert prober.status()["problem"] == ""
        prober.wait_for("isp_a", "up")


def test_links_come_and_go_without_a_restart(two_links: Topology, router: Host) -> None:
    with Engine(two_links) as engine, AccessLogServer(two_links.server), Prober(router) as prober:
        variables = two_links.variables
        first = [link for link in variables["mwan_links"] if link["name"] == "isp_a"]
        both = list(variables["mwan_links"])
        declare(
            engine,
            mwan_links=first,
            mwan_policies=[policy(("isp_a", 1))],
            mwan_snat=[snat for snat in variables["mwan_snat"] if snat["link"] == "isp_a"],
        )
        prober.wait_for("isp_a", "up")
        declare(engine, mwan_links=both, mwan_policies=variables["mwan_policies"], mwan_snat=variables["mwan_snat"])
        prober.wait_for("isp_b", "up")
        assert prober.changes("isp_a") == ["up"], "what stays keeps its state"
        assert set(json.loads(router.run(["cat", "/run/mwan/health.json"]).stdout)["links"]) == {"isp_a", "isp_b"}
        engine.remove_all()
        wait_until(lambda: prober.states() == {}, 3)
        assert prober.status()["problem"] == ""


def test_drained_and_undrained(two_links: Topology, router: Host) -> None:
    drained = {"links": {"isp_a": {"since": "2026-01-01T00:00:00+00:00", "why": "works on the line"}}}
    with Engine(two_links) as engine, AccessLogServer(two_links.server), Prober(router) as prober:
        declare(engine)
        both_up(prober)
        router.run("mkdir -p /var/lib/mwan && cat > /var/lib/mwan/drained.json", input=json.dumps(drained))
        assert prober.ask("reload") == {"done": True}
        prober.wait_settled()
        assert prober.status()["links"]["isp_a"]["probed"] == "up"
        assert prober.states()["isp_a"] == "drained"
        assert dict(fetch_many(two_links.client, 20).sources) == {"6.6.6.6": 20}
        router.run("rm /var/lib/mwan/drained.json")
        prober.wait_for("isp_a", "up", 3)
        assert prober.changes("isp_a") == ["up", "drained", "up"]


# what others do


@pytest.mark.parametrize(
    "command",
    [
        "ip rule del priority 1999",
        "ip rule add priority 1300 lookup main protocol 77",
        "ip route del default metric 1 table 1003",
        "ip route replace default via 6.6.6.1 dev wan2 metric 1 table 1003 proto 77",
        "ip route flush table 1001",
        "nft delete table inet mwan",
    ],
)
def test_what_others_change_is_repaired_within_a_second(two_links: Topology, router: Host, command: str) -> None:
    with Engine(two_links) as engine, Prober(router) as prober:
        declare(engine)
        both_up(prober)
        before = snapshot(router)
        router.run(command)
        wait_until(lambda: snapshot(router) == before, 1)
        prober.wait_settled()
        assert "repaired what others changed" in prober.log()


def test_who_keeps_deleting_is_not_fought_at_full_speed(two_links: Topology, router: Host) -> None:
    with Engine(two_links) as engine, Prober(router) as prober:
        declare(engine)
        both_up(prober)
        before = prober.status()["converge"]["runs"]
        router.run("for i in $(seq 200); do ip rule del priority 1999 2>/dev/null; sleep 0.02; done")
        runs = prober.status()["converge"]["runs"] - before
        assert 3 <= runs <= 12
        assert "somebody keeps changing what is ours" in prober.log()


# what operators and programs see


def test_hooks_get_the_event_and_hold_nothing_up(two_links: Topology, router: Host) -> None:
    hook = """#!/bin/sh
        echo "$MWAN_EVENT $MWAN_LINK $MWAN_BEFORE $MWAN_AFTER" >> /run/told; cat >> /run/events; sleep 60
    """
    router.run(
        "mkdir -p /etc/mwan/hooks.d; cat > /etc/mwan/hooks.d/10-tell; chmod +x /etc/mwan/hooks.d/10-tell", input=hook
    )
    router.run("echo exit 1 > /etc/mwan/hooks.d/20-not-executable")
    with Engine(two_links) as engine:
        declare(engine)
        with Prober(router) as prober:
            both_up(prober)
            with impair.black_hole(two_links, "isp_a"):
                prober.wait_for("isp_a", "down", 3)
            wait_until(lambda: bool(router.run("cat /run/events", check=False).stdout), 3)
            assert router.run(["cat", "/run/told"]).stdout.splitlines()[0].startswith("state isp_")
            event = json.loads(router.run(["cat", "/run/events"]).stdout.splitlines()[0])
            assert (event["event"], event["before"], event["after"]) == ("state", "unknown", "up")


def test_slow_and_broken_clients_harm_nobody(two_links: Topology) -> None:
    with Engine(two_links) as engine, Prober(two_links.router) as prober:
        declare(engine)
        with prober.connected() as slow, prober.connected() as rude, prober.connected() as gone:
            slow.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    slow.send(b'{"command": "status"}\n' * 100)
            rude.sendall(b"\x00" * 1000 + b"\n")
            assert rude.recv(10) == b""
            gone.sendall(b'{"command": "events", "follow": true}\n')
            gone.close()
            assert "error" in prober.ask("no such command")
            assert "error" in prober.ask("failback", link="isp_z")
            both_up(prober)


def test_events_are_followed_as_they_come(two_links: Topology) -> None:
    with Engine(two_links) as engine, Prober(two_links.router) as prober:
        declare(engine)
        both_up(prober)
        with prober.connected() as connection, connection.makefile("rw", encoding="utf-8") as stream:
            stream.write('{"command": "events", "follow": true}\n')
            stream.flush()
            assert [event["after"] for event in json.loads(stream.readline())["events"] if event["link"]] == [
                "up",
                "up",
            ]
            with impair.cable_pulled(two_links, "isp_b"):
                event = json.loads(stream.readline())
            assert (event["link"], event["after"], event["reason"]) == ("isp_b", "down", "device wan2 has no carrier")


def test_the_journal_gets_fields(two_links: Topology, router: Host) -> None:
    """A socket stands in for journald's; without one the lines carry their priority."""
    router.run("mkdir -p /run/systemd/journal")
    listener = router.popen([sys.executable, "-I", "-c", LISTENER])
    wait_until(lambda: router.run("test -S /run/systemd/journal/socket", check=False).returncode == 0, 5)
    with Engine(two_links) as engine, Prober(router, JOURNAL_STREAM="1:1") as prober:
        declare(engine)
        both_up(prober)
        assert "isp_a" not in prober.log()
    listener.kill()
    said = router.run(["cat", "/run/journal"]).stdout
    assert "MESSAGE=isp_a: unknown -> up: answers" in said
    assert "PRIORITY=5\nSYSLOG_IDENTIFIER=mwand\n" in said
    assert "MWAN_LINK=isp_a\nMWAN_BEFORE=unknown\nMWAN_AFTER=up\n" in said
    router.run("rm /run/systemd/journal/socket")
    with Prober(router, JOURNAL_STREAM="1:1") as prober:
        prober.ask("reload")
        with impair.cable_pulled(two_links, "isp_a"):
            prober.wait_for("isp_a", "down")
        assert "<4>isp_a: up -> down: device wan1 has no carrier" in prober.log()


def test_the_service_manager_is_told(two_links: Topology, router: Host) -> None:
    with Engine(two_links) as engine:
        declare(engine)
        with Prober(router, WATCHDOG_USEC="2000000") as prober:
            prober.wait_said("WATCHDOG=1", 3)
            prober.said.clear()
            prober.wait_said("WATCHDOG=1", 3)
            both_up(prober)
            prober.reload()
            assert "STATUS=2 links, all well" in prober.said


def test_watching_can_be_checked_without_running(two_links: Topology, router: Host) -> None:
    with Engine(two_links) as engine:
        declare(engine)
        checked = Prober(router, "--check", ready=False)
        assert checked.wait_end() == 0
        assert json.loads(checked.log())["isp_a"]["interval"] == 0.2
        replace(router, "{")
        checked = Prober(router, "--check", ready=False)
        assert checked.wait_end() == 1
        assert "is not JSON" in checked.log()
