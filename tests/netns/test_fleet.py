# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What operators do to many routers: the table, taking links out, and drills, by their playbooks and on the router."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
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


def holes(router: Host) -> list[str]:
    """Tables and chains of a drill."""
    found = router.run("nft list tables").stdout
    if shutil.which("iptables-legacy"):
        found += router.run("iptables-legacy -t raw -S; iptables-legacy -t mangle -S").stdout
    return [line for line in found.splitlines() if "mwan_drill" in line]


def playbook(
    net: Topology, name: str | Path, *args: str, code: int = 0, check: bool = False, **given: Any
) -> PlaybookResult:
    path = name if isinstance(name, Path) else f"playbooks/{name}.yml"
    result = run_playbook(net, path, given, args=args, check=check, expect_success=False)
    assert result.returncode == code, result.stdout
    return result


def evening(directory: Path, *plays: tuple[str, str]) -> Path:
    """A playbook of an operator's own: playbooks of ours, each for its hosts."""
    imported = [{"import_playbook": f"multiwan.linux.{name}", "vars": {"mwan_hosts": hosts}} for name, hosts in plays]
    path = directory / "evening.yml"
    path.write_text(json.dumps(imported), encoding="utf-8")
    return path


def shown(result: PlaybookResult) -> list[Any]:
    """What the playbooks told."""
    return [found["msg"] for found in result.results_of("ansible.builtin.debug")]


def refused(result: PlaybookResult, host: str) -> str:
    return str([task.result["msg"] for task in result.tasks if (task.host, task.outcome) == (host, "failed")][-1])


def within(seconds: float, done: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


def install(router: Topology) -> None:
    text = f"#!{sys.executable}\n{(FILES / 'mwanctl').read_text(encoding='utf-8')}"
    run_module(router, "mwan_library", {"programs": {"mwanctl": text}})
    router.router.run("ln -s /usr/local/lib/mwan/current/mwanctl /usr/local/sbin/mwanctl")


def script(path: Path, *lines: str) -> str:
    path.write_text("\n".join(("#!/bin/sh", *lines, "")), encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def inventory(directory: Path, **hosts: dict[str, str]) -> tuple[str, str]:
    path = directory / "more.json"
    path.write_text(json.dumps({"all": {"children": {"mwan_routers": {"hosts": hosts}}}}), encoding="utf-8")
    return "-i", str(path)


def two_more(net: Topology, directory: Path) -> tuple[str, str]:
    """A router that nobody reaches, and one without anything of ours."""
    ssh = script(directory / "ssh", "echo 'no route to host' >&2", "exit 255")
    return inventory(
        directory,
        away={"ansible_connection": "ssh", "ansible_ssh_executable": ssh},
        bare={"ansible_connection": "local", "ansible_python_interpreter": str(net.client.interpreter())},
    )


def by_ssh(net: Topology, directory: Path) -> tuple[str, str]:
    """The router over SSH and sudo, `hidden` where sshd tells nothing, and `wrong` with a link that it has not."""
    last = "for last; do :; done"
    plain = script(directory / "ssh", last, 'exec sh -c "$last"')
    sshd = script(directory / "sshd", last, 'SSH_CONNECTION="7.7.7.9 50000 5.5.5.5 22" exec sh -c "$last"')
    sudo = script(directory / "sudo", "unset SSH_CONNECTION", 'while [ "$1" != /bin/sh ]; do shift; done', 'exec "$@"')
    there = {"ansible_python_interpreter": str(net.router.interpreter()), "mwan_link": "isp_b"}
    over = {
        "ansible_connection": "ssh",
        "ansible_become": "true",
        "ansible_become_exe": sudo,
        "ansible_pipelining": "true",
    }
    return inventory(
        directory,
        router={**there, **over, "ansible_ssh_executable": sshd, "ansible_ssh_transfer_method": "piped"},
        hidden={**there, **over, "ansible_ssh_executable": plain},
        wrong={**there, "ansible_connection": "local", "mwan_link": "isp_x"},
    )


def test_playbooks_of_operators(two_links: Topology, tmp_path: Path) -> None:
    net, output = two_links, tmp_path / "fleet.json"
    with watched(net, probe=FAST) as prober:
        install(net)

        more = two_more(net, tmp_path)
        result = playbook(net, "status", *more, code=2, mwan_strict=True, mwan_format="json", mwan_output=str(output))
        fleet = json.loads(output.read_text(encoding="utf-8"))
        assert {name: router["state"] for name, router in fleet["routers"].items()} == {
            "away": "unreachable", "bare": "no mwan", "router": "told"
        }  # fmt: skip
        link = fleet["routers"]["router"]["links"]["isp_a"]
        assert (link["state"], link["share"], fleet["routers"]["router"]["drift"]) == ("up", 0.5, [])
        assert "no route to host" in fleet["problems"][0]
        assert (result.recap["changed"], len(fleet["problems"])) == (0, 2)

        there = by_ssh(net, tmp_path)
        path = evening(
            tmp_path, ("drill", "router"), ("drain", "router:wrong"), ("undrain", "router"), ("drill", "hidden")
        )
        given: dict[str, Any] = {
            "mwan_drill_seconds": 3,
            "mwan_wait_seconds": 20,
            "mwan_why": "new modem",
            "mwan_wait_connections": 9,
        }
        done = playbook(net, path, *there, code=2, **given)
        drilled, drained, undrained = shown(done)
        assert [line.strip() for line in drilled][-2:] == ["spared: 7.7.7.9", "all is as before"]
        assert ("isp_b is drained" in drained, "isp_b" in undrained) == (True, True)
        assert [task.name for task in done.tasks if task.changed] == ["Drain the link", "Give the link back"]
        prober.wait_for("isp_b", "up")
        events = [event for event in prober.events() if event.get("link") == "isp_b"]
        assert [event["after"] for event in events][-5:] == ["suspect", "down", "up", "drained", "up"]
        assert events[-2]["reason"] == "new modem"
        assert holes(net.router) == []
        assert "The links are isp_a, isp_b" in refused(done, "wrong")
        assert "Nothing tells where the router sees the controller" in refused(done, "hidden")

        path = evening(tmp_path, ("drain", "router"), ("drill", "wrong"))
        tried = playbook(net, path, *there, code=2, check=True)
        assert [task.name for task in tried.tasks if task.changed] == ["Drain the link"]
        assert "The links are isp_a, isp_b" in refused(tried, "wrong")
        assert told(net.router, "undrain", "isp_b")["changed"] is False


@pytest.mark.skipif(Iptables().unavailable() is not None, reason="no legacy iptables here")
def test_a_drill_fails_one_of_two_links_on_a_device_and_leaves_nothing(shared_segment: Topology) -> None:
    net, router = shared_segment, shared_segment.router
    kept, cut = net.sources
    with watched(net, "iptables", FAST) as prober:
        before = told(router, "show")["observed"]
        running = router.popen(command("drill", cut, "--seconds", "5", "--wait", "20", "--json"))
        prober.wait_for(cut, "down")
        prober.wait_settled()
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

        def shell(text: str) -> str:
            return router.run(["sh", "-c", text]).stdout.strip()

        def succeeds(text: str) -> bool:
            return router.run(["sh", "-c", text], check=False).returncode == 0

        switch = shell(hole.arm(60))
        shell(hole.dig())
        assert succeeds(hole.there())
        assert not succeeds(hole.dig())
        ctl(router, "use", "router2", "--", "ping", "-c1", "-W1", "7.7.7.7", code=1)
        ctl(router, "use", "router2", "--", "ping", "-c1", "-W1", "7.7.7.9")
        ctl(router, "use", "router1", "--", "ping", "-c1", "-W1", "7.7.7.7")
        shell(disarm(switch))
        within(15, lambda: not Path(f"/proc/{int(switch)}").exists(), "it waits still")
        assert succeeds(hole.there())
        shell(hole.arm(1))
        within(15, lambda: not succeeds(hole.there()), "it is still there")
        assert holes(router) == []
