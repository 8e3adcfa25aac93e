# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What operators do to many routers: the table, taking links out, and drills, by their playbooks and on the router."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from _mwan.drill.hole import Hole, disarm
from _mwan.firewall.iptables import Iptables
from lab.ansible import PlaybookResult, run_module, run_playbook
from lab.console import FILES, command, ctl, told
from lab.engine import Engine
from lab.host import Host
from lab.topology import Topology
from lab.traffic import AccessLogServer, fetch_many
from lab.watched import watched

FAST = {"profile": "fast", "targets": ["1.1.1.1", "8.8.8.8"]}
LINK = {"mwan_link": "isp_b"}


def holes(router: Host) -> list[str]:
    """Tables and chains of a drill."""
    found = router.run("nft list tables").stdout
    if shutil.which("iptables-legacy"):
        found += router.run("iptables-legacy -t raw -S; iptables-legacy -t mangle -S").stdout
    return [line for line in found.splitlines() if "mwan_drill" in line]


def playbook(net: Topology, name: str, *args: str, code: int = 0, check: bool = False, **given: Any) -> PlaybookResult:
    result = run_playbook(net, f"playbooks/{name}.yml", given, args=args, check=check, expect_success=False)
    assert result.returncode == code, result.stdout
    return result


def shown(result: PlaybookResult) -> Any:
    """What the playbook told."""
    return result.results_of("ansible.builtin.debug")[0]["msg"]


def refused(result: PlaybookResult) -> str:
    return str([task.result["msg"] for task in result.tasks if task.outcome == "failed"][-1])


def install(router: Topology) -> None:
    text = f"#!{sys.executable}\n{(FILES / 'mwanctl').read_text(encoding='utf-8')}"
    run_module(router, "mwan_library", {"programs": {"mwanctl": text}})
    router.router.run("ln -s /usr/local/lib/mwan/current/mwanctl /usr/local/sbin/mwanctl")


def two_more(net: Topology, directory: Path) -> str:
    """An inventory with a router that nobody reaches, and one without anything of ours."""
    (directory / "ssh").write_text("#!/bin/sh\necho 'no route to host' >&2\nexit 255\n", encoding="utf-8")
    (directory / "ssh").chmod(0o755)
    hosts = {
        "away": {"ansible_connection": "ssh", "ansible_ssh_executable": str(directory / "ssh")},
        "bare": {"ansible_connection": "local", "ansible_python_interpreter": str(net.client.interpreter())},
    }
    path = directory / "more.json"
    path.write_text(json.dumps({"all": {"children": {"mwan_routers": {"hosts": hosts}}}}), encoding="utf-8")
    return str(path)


def test_playbooks_of_operators(two_links: Topology, tmp_path: Path) -> None:
    net, output = two_links, tmp_path / "fleet.json"
    with watched(net, probe=FAST) as prober:
        install(net)

        more = ("-i", two_more(net, tmp_path))
        result = playbook(net, "status", *more, code=2, mwan_strict=True, mwan_format="json", mwan_output=str(output))
        fleet = json.loads(output.read_text(encoding="utf-8"))
        assert {name: router["state"] for name, router in fleet["routers"].items()} == {
            "away": "unreachable", "bare": "no mwan", "router": "told"
        }  # fmt: skip
        link = fleet["routers"]["router"]["links"]["isp_a"]
        assert (link["state"], link["share"], fleet["routers"]["router"]["drift"]) == ("up", 0.5, [])
        assert "no route to host" in fleet["problems"][0]
        assert (result.recap["changed"], len(fleet["problems"])) == (0, 2)

        words = playbook(net, "drill", mwan_drill_seconds=3, mwan_wait_seconds=20, mwan_drill_spare=["7.7.7.9"], **LINK)
        assert [line.strip() for line in shown(words)][-2:] == ["spared: 7.7.7.9", "all is as before"]
        assert words.changed == 0
        assert prober.changes("isp_b")[-3:] == ["suspect", "down", "up"]
        assert holes(net.router) == []

        assert "The links are isp_a, isp_b" in refused(playbook(net, "drain", code=2, mwan_link="isp_x"))
        assert playbook(net, "drain", check=True, **LINK).changed == 1
        assert told(net.router, "status")["links"]["isp_b"]["state"] == "up"
        done = playbook(net, "drain", mwan_why="new modem", mwan_wait_connections=9, **LINK)
        assert (done.changed, "isp_b is drained" in shown(done)) == (1, True)
        assert told(net.router, "drain", "isp_b")["changed"] is False
        assert told(net.router, "status")["links"]["isp_b"]["reason"] == "new modem"
        assert "is drained" in refused(playbook(net, "drill", code=2, **LINK))
        assert playbook(net, "undrain", **LINK).changed == 1
        assert told(net.router, "undrain", "isp_b")["changed"] is False


@pytest.mark.skipif(Iptables().unavailable() is not None, reason="no legacy iptables here")
def test_a_drill_fails_one_of_two_links_on_a_device_and_leaves_nothing(shared_segment: Topology) -> None:
    net, router = shared_segment, shared_segment.router
    kept, cut = net.sources
    with watched(net, "iptables") as prober:
        before = told(router, "show")["observed"]
        running = router.popen(command("drill", cut, "--seconds", "5", "--wait", "20", "--json"))
        prober.wait_for(cut, "down")
        prober.wait_settled()
        assert "is the only one that is up" in ctl(router, "drill", kept, "--dry-run", code=1)
        assert holes(router) != []
        fetched = fetch_many(net.client, 20)
        assert (set(fetched.sources), fetched.failures) == ({net.sources[kept]}, [])
        report = json.loads(running.communicate(timeout=40)[0])
        assert (running.returncode, report["problems"]) == (0, [])
        assert 0 < report["suspect"] < report["down"] < report["seconds"]
        assert report["up"] > 0
        assert holes(router) == []
        assert told(router, "show")["observed"] == before


def test_the_hole_is_filled_when_nobody_lives_to_do_it(shared_segment: Topology) -> None:
    net, router = shared_segment, shared_segment.router
    with Engine(net) as engine, AccessLogServer(net.server):
        engine.settle()
        (hardware,) = {entry["lladdr"] for entry in router.ip_json("neigh show 192.168.100.2") if "lladdr" in entry}
        hole = Hole("nft", "wan0", "192.168.100.2", hardware, spared=("7.7.7.9",))
        assert router.run(["sh", "-c", hole.arm(5)]).stdout.strip().isdigit()
        router.run(["sh", "-c", hole.dig()])
        ctl(router, "use", "router2", "--", "ping", "-c1", "-W1", "7.7.7.7", code=1)
        ctl(router, "use", "router2", "--", "ping", "-c1", "-W1", "7.7.7.9")
        ctl(router, "use", "router1", "--", "ping", "-c1", "-W1", "7.7.7.7")
        assert router.run(["sh", "-c", hole.there()], check=False).returncode == 0
        assert router.run(["sh", "-c", hole.dig()], check=False).returncode != 0
        deadline = time.monotonic() + 15
        while router.run(["sh", "-c", hole.there()], check=False).returncode == 0:
            assert time.monotonic() < deadline, "it is still there"
            time.sleep(0.1)
        assert holes(router) == []
        deadline = time.monotonic() + 15
        waiting = router.run(["sh", "-c", hole.arm(60)]).stdout.strip()
        router.run(["sh", "-c", disarm(waiting)])
        while Path(f"/proc/{waiting}").exists():
            assert time.monotonic() < deadline, "it waits still"
            time.sleep(0.1)
