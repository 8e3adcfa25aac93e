# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role in a repository of its user: included, in parts, with a virtual environment, and with what it refuses."""

from __future__ import annotations

import importlib.metadata
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from lab.ansible import PlaybookResult, run_playbook
from lab.state import snapshot
from lab.topology import Topology

VENV = "/usr/local/lib/mwan/venv"
NOTHING: dict[str, Any] = {"mwan_links": [], "mwan_policies": [], "mwan_default_policy": "", "mwan_snat": []}
# decided on the controller; the rest asks the router
LOCAL = ("validate_argument_spec", "assert", "fail", "debug", "include_tasks", "include_role", "set_fact")
INCLUDED = """
- hosts: mwan_routers
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: multiwan.linux.router
      vars: {mwan_links: "{{ all_links[:1] }}", mwan_snat: [], mwan_policies: [], mwan_default_policy: ""}
    - ansible.builtin.include_role:
        name: multiwan.linux.router
      vars: {mwan_links: "{{ all_links[1:] }}"}
  vars:
    mwan_purge: false
"""


def asked(result: PlaybookResult) -> list[str]:
    """The modules that ran on the router, in their order."""
    names = [task.action.rpartition(".")[2] for task in result.tasks if task.outcome != "skipped"]
    return [name for name in names if name not in LOCAL]


def wheels(place: Path) -> Path:
    """A directory with the pyroute2 that runs these tests, as a wheel."""
    found = importlib.metadata.distribution("pyroute2")
    place.mkdir()
    with zipfile.ZipFile(place / f"pyroute2-{found.version}-py3-none-any.whl", "w") as archive:
        for file in found.files or ():
            if not str(file).startswith("..") and file.suffix != ".pyc":
                archive.write(str(file.locate()), str(file))
    return place


def test_no_op_asks_five_times_at_most_and_not_more_for_more_links(two_links: Topology) -> None:
    net = two_links
    run_playbook(net)
    assert asked(run_playbook(net)) == ["mwan_library", "mwan_link", "mwan_info"]
    with_preflight = {"mwan_preflight": True, "mwan_accept": ["mwan_mine"]}
    assert asked(run_playbook(net, extra_vars=with_preflight))[0] == "mwan_preflight"
    # drift is still found by the first of them, and by the library
    net.router.run("ip rule del priority 1999; rm /usr/local/share/man/man8/mwand.8")
    assert run_playbook(net, check=True).changed == 2
    assert run_playbook(net).changed == 2
    assert run_playbook(net).changed == 0


def test_included_twice_and_in_parts(two_links: Topology, tmp_path: Path) -> None:
    net, router = two_links, two_links.router
    play = tmp_path / "play.yml"
    play.write_text(INCLUDED, encoding="utf-8")
    variables: dict[str, Any] = {"all_links": net.variables["mwan_links"]}
    pipelined = {**variables, "ansible_pipelining": True}
    assert run_playbook(net, play, variables).failed == 0
    again = run_playbook(net, play, pipelined)
    assert again.changed == 0
    assert asked(again) == ["mwan_library", "mwan_link", "mwan_info"] * 2
    stored = json.loads(router.run("cat /etc/mwan/mwan.json").stdout)
    assert [link["name"] for link in stored["links"]] == ["isp_a", "isp_b"]
    before = snapshot(router)
    less = {
        "mwan_links": net.variables["mwan_links"][:1],
        "mwan_policies": [],
        "mwan_default_policy": "",
        "mwan_snat": [],
    }
    assert asked(run_playbook(net, extra_vars=less, args=["--tags", "install"])) == ["mwan_library"]
    assert asked(run_playbook(net, extra_vars=less, args=["--tags", "verify"])) == ["mwan_info"]
    assert snapshot(router) == before
    assert "mwan_library" not in asked(run_playbook(net, extra_vars=less, args=["--tags", "configure"]))
    assert "mwan_isp_b" not in router.ip("rule")


def test_what_is_misspelt_stops_the_play(two_links: Topology) -> None:
    net = two_links
    before = snapshot(net.router)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"mwan_polices": []}, "mwan_polices is no variable of the role, which has mwan_policies."),
        ({"mwan_links": [{"name": "isp_a", "device": "wan1", "gatway": "5.5.5.1"}]}, "gatway"),
        ({"mwan_install": "sometimes"}, "mwan_install"),
    ]
    for variables, message in wrong:
        refused = run_playbook(net, extra_vars=variables, expect_success=False)
        assert (refused.failed, asked(refused)) == (1, [])
        assert message in refused.stdout
    assert snapshot(net.router) == before
    far = {"mwan_preflight": True, "mwan_links": [{"name": "isp_a", "device": "wan1", "gateway": "5.5.5.999"}]}
    refused = run_playbook(net, extra_vars=far, expect_success=False)
    assert asked(refused) == ["mwan_preflight"]
    assert "links[0].gateway: '5.5.5.999' is not an IPv4 address" in refused.stdout
    assert snapshot(net.router) == before
    mine = {"mwan_polices": [], "mwan_accept": ["mwan_polices"], "mwan_links_of_berlin": []}
    assert run_playbook(net, extra_vars=mine, check=True).failed == 0


def test_virtual_environment_from_wheels(two_links: Topology, bare_python: str, tmp_path: Path) -> None:
    """The Python that Ansible is told has no library: modules go on with that of the environment."""
    net, router = two_links, two_links.router
    variables: dict[str, Any] = {
        "mwan_install": "venv",
        "mwan_wheels": str(wheels(tmp_path / "wheels")),
        "mwan_python": bare_python,
        "ansible_python_interpreter": str(router.interpreter(bare_python)),
        "mwan_requirement_texts": {"requirements.txt": "pyroute2\n"},
    }
    before = snapshot(router)
    planned = run_playbook(net, extra_vars=variables, check=True)
    assert "cannot be shown before this is installed: a virtual environment" in planned.stdout
    assert (snapshot(router), router.run("ls /usr/local/lib/mwan", check=False).returncode) == (before, 2)
    run_playbook(net, extra_vars=variables)
    assert router.run("head -n1 /usr/local/sbin/mwanctl").stdout == f"#!{VENV}/bin/python\n"
    assert "isp_a" in router.run(["/usr/local/sbin/mwanctl", "status", "--json"], check=False).stdout
    assert asked(run_playbook(net, extra_vars=variables))[-3:] == ["mwan_library", "mwan_link", "mwan_info"]
    former = router.run(["readlink", VENV]).stdout
    unknown: list[tuple[dict[str, Any], list[str]]] = [({"mwan_install": "none"}, [])]
    unknown += [({"mwan_preflight": True}, ["--skip-tags", "preflight"])]
    for more, args in unknown:
        again = run_playbook(net, extra_vars={**variables, **more}, args=args)
        assert (again.changed, router.run(["readlink", VENV]).stdout) == (0, former)
    assert asked(again)[0] == "mwan_preflight", "it tells what the library runs with"
    upgrade = {**variables, "mwan_requirement_texts": {"requirements.txt": "pyroute2>0.7\n"}}
    result = run_playbook(net, extra_vars=upgrade)
    assert result.results_of("mwan_library")[0]["renewed"]
    assert router.run(["readlink", VENV]).stdout != former
    assert len(router.run(f"ls -d {VENV}-*").stdout.split()) == 2, "what runs keeps the one it runs with"
    # the host has come to have all that is needed
    own = router.interpreter(str(Path(sys.executable).with_name("python3")))
    by_itself = {**upgrade, "mwan_install": "auto", "ansible_python_interpreter": str(own)}
    run_playbook(net, extra_vars=by_itself, args=["--tags", "install"])
    assert router.run("head -n1 /usr/local/sbin/mwanctl").stdout == f"#!{bare_python}\n"
    assert router.run(["readlink", VENV], check=False).stdout == ""
