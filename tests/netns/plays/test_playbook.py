# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The same as users run it: the playbook with check mode and diff, and the modules with what they refuse."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from lab import topology
from lab.ansible import PlaybookResult, run_module, run_playbook
from lab.state import snapshot
from lab.topology import Topology
from lab.traffic import AccessLogServer, fetch_many

MODULES = ("mwan_link", "mwan_snat", "mwan_dnat", "mwan_rpfilter", "mwan_policy")
LINKS = {"links": [{"name": "isp_a", "device": "wan1", "gateway": "5.5.5.1"}]}


def actions(result: PlaybookResult) -> list[str]:
    return [
        action for module in MODULES for answer in result.results_of(module) for action in answer.get("actions", [])
    ]


def test_check_shows_the_whole_plan_and_the_run_follows_it() -> None:
    with topology.two_links(weights=(3, 1)) as net:
        before = snapshot(net.router)
        planned = run_playbook(net, check=True, diff=True)
        assert snapshot(net.router) == before
        assert planned.failed == 0
        for words in ("+1999: from all lookup mwan_balanced", "nexthop via 5.5.5.1 dev wan1 weight 3", "rp_filter"):
            assert words in planned.stdout
        done = run_playbook(net)
        assert actions(done) == actions(planned) != []
        after = snapshot(net.router)
        again = run_playbook(net, diff=True)
        assert (again.changed, actions(again)) == (0, [])
        assert snapshot(net.router) == after
        with AccessLogServer(net.server):
            fetched = fetch_many(net.client, 60)
            assert (set(fetched.sources), fetched.failures) == ({"5.5.5.5", "6.6.6.6"}, [])


def test_playbook_during_an_outage_changes_nothing(two_links: Topology) -> None:
    net = two_links
    run_playbook(net)
    health = {"links": {"isp_a": {"state": "down"}}}
    net.router.run(["tee", "/run/mwan/health.json"], input=json.dumps(health))
    assert run_playbook(net).changed > 0, "the overlay itself is applied once"
    before = snapshot(net.router)
    assert run_playbook(net).changed == 0
    assert snapshot(net.router) == before
    assert "dev wan1" not in net.router.ip("route show table mwan_balanced")


def test_change_is_planned_as_it_is_done(two_links: Topology) -> None:
    """A link that goes, a weight that changes, a forward under another name; in check mode on a router in service."""
    net = two_links
    web = {"name": "web", "protocol": "tcp", "port": 8080, "to": "192.168.101.1", "to_port": 80}
    run_playbook(net, extra_vars={"mwan_dnat": [{**web, "source": "7.7.7.0/24", "hairpin": True}]})
    variables: dict[str, Any] = {
        "mwan_links": net.variables["mwan_links"][:1],
        "mwan_snat": net.variables["mwan_snat"][:1],
        "mwan_dnat": [{**web, "name": "www", "link": "isp_a", "protocol": ["tcp", "udp"]}],
        "mwan_policies": [{"name": "balanced", "members": [{"link": "isp_a"}], "last_resort": "blackhole"}],
    }
    before = snapshot(net.router)
    planned = run_playbook(net, extra_vars=variables, check=True, diff=True)
    assert snapshot(net.router) == before
    assert actions(run_playbook(net, extra_vars=variables)) == actions(planned) != []
    assert run_playbook(net, extra_vars=variables).changed == 0


def test_what_the_prober_needs_is_stored_as_declared(two_links: Topology) -> None:
    """Half a second as a number and as text, suboptions left out, and a link that needs the targets of all."""
    net = two_links
    first, second = net.variables["mwan_links"]
    reactions = {"on_down": {"tcp": "keep"}, "failback": {"tcp": "reset", "after": "10min", "window": "22:00-02:00"}}
    probe = {"targets": ["7.7.7.7", "tcp://7.7.7.8:443", "arp"], "interval": 0.5, "degraded": "reweight"}
    variables: dict[str, Any] = {
        "mwan_probe": {
            **probe,
            "targets": [*probe["targets"], {"kind": "http", "url": "https://7.7.7.9/", "verify": False}],
        },
        "mwan_links": [
            {**first, "probe": {"dead": "3s", "quorum": 4, "loss": {"enter": "7%"}}, "rate": "100mbit"},
            second,
        ],
        "mwan_policies": [{**net.variables["mwan_policies"][0], **reactions}],
    }
    planned = run_playbook(net, extra_vars=variables, check=True)
    assert (planned.failed, net.router.run("ls /etc/mwan", check=False).returncode) == (0, 2)
    assert actions(run_playbook(net, extra_vars=variables)) == actions(planned)
    stored = json.loads(net.router.run("cat /etc/mwan/mwan.json").stdout)
    assert [target["kind"] for target in stored["settings"]["probe"].pop("targets")] == ["icmp", "tcp", "arp", "http"]
    assert stored["settings"]["probe"] == {"interval": 0.5, "degraded": "reweight"}
    assert stored["links"][0]["probe"] == {"dead": 3.0, "quorum": 4, "loss": {"enter": 7.0, "leave": 7.0}}
    assert (stored["links"][0]["rate"], "probe" in stored["links"][1]) == (100_000_000, False)
    assert stored["policies"][0]["on_down"] == {"tcp": "keep", "other": "reroute"}
    assert stored["policies"][0]["failback"]["window"] == "22:00-02:00"
    assert run_playbook(net, extra_vars=variables).changed == 0
    assert run_playbook(net).failed == 0
    plain = json.loads(net.router.run("cat /etc/mwan/mwan.json").stdout)
    assert not {"probe", "rate"} & {*plain["settings"], *plain["links"][0]}, "left out of the variables, it goes"


@pytest.mark.parametrize(
    ("module", "args", "message"),
    [
        ("mwan_link", {"links": [{"name": "isp_a", "device": "wan1", "gateway": "5.5.5"}]}, "gateway"),
        ("mwan_link", {"links": [{**LINKS["links"][0], "probe": {"dead": "100ms"}}]}, "leaves no time for a second"),
        ("mwan_link", {"probe": {"targets": ["http://ex\u00e4mple.net/"]}}, "settings.probe.targets[0].url"),
        ("mwan_link", {"probe": {"interval": "often"}}, "'often' is not a time in range"),
        ("mwan_link", {"links": [{**LINKS["links"][0], "address": "9.9.9.9"}]}, "is not an address of wan1"),
        ("mwan_policy", {"policies": [{"name": "one", "members": [{"link": "isp_x"}]}]}, "isp_x"),
        ("mwan_policy", {"default_policy": "nowhere"}, "nowhere"),
        ("mwan_snat", {"snat": [{"link": "isp_x"}]}, "isp_x"),
        ("mwan_rpfilter", {"mode": "none", "all": "strict"}, "cannot take effect"),
        ("mwan_rpfilter", {"blackhole": ["0.0.0.0/0"]}, "would discard everything"),
        ("mwan_link", {**LINKS, "mark_mask": "0x500"}, "has holes"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_bad_input_is_refused(
    two_links: Topology, module: str, args: dict[str, Any], message: str, check: bool
) -> None:
    before = snapshot(two_links.router)
    result = run_module(two_links, module, args, check=check)
    assert result["failed"]
    assert message in result["msg"]
    assert snapshot(two_links.router) == before


def run_with(net: Topology, python: str, prefix: list[str]) -> dict[str, Any]:
    """mwan_link as run_module() runs it, with another interpreter or as another user."""
    helpers = Path(run_module.__code__.co_filename).parent / "helpers" / "run_module.py"
    run_module(net, "mwan_info")  # makes the collection's directory
    arguments = json.dumps({**LINKS, "_ansible_check_mode": False})
    command = [*prefix, python, str(helpers), str(net.lab.directory / "collections"), "multiwan.linux.mwan_link"]
    done = net.router.run(command, check=False, input=arguments)
    return dict(json.loads(done.stdout))


def test_without_root_it_says_so(two_links: Topology) -> None:
    two_links.lab.directory.chmod(0o755)
    result = run_with(two_links, sys.executable, ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])
    assert result["failed"]
    assert "root" in result["msg"]
    assert "become" in result["msg"]


def test_without_pyroute2_it_names_the_package(two_links: Topology, bare_python: str) -> None:
    result = run_module(two_links, "mwan_link", LINKS, python=bare_python)
    assert result["failed"]
    assert "pyroute2" in result["msg"]
    assert "python3-pyroute2" in result["msg"]
