# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The command line on a router: what it shows, what it explains, and what it takes out of service."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from lab.ansible import run_module
from lab.balance import about, policy
from lab.console import FILES, command, ctl, told
from lab.engine import Engine
from lab.impair import black_hole
from lab.prober import Prober
from lab.talk import Talk
from lab.topology import Topology
from lab.traffic import AccessLogServer, EchoServer, fetch_many

A, B = "5.5.5.5", "6.6.6.6"
VOIP = {"name": "voip", "protocol": "udp", "destination_port": "5060-5061", "link": "isp_b"}


@pytest.fixture
def managed(two_links: Topology) -> Iterator[Topology]:
    """A router at 3:1, in service."""
    two_links.variables["mwan_policies"] = [policy(("isp_a", 3), ("isp_b", 1))]
    with Engine(two_links) as engine:
        engine.apply(mwan_rules=[VOIP])
        yield two_links


# what is there


def test_installed_it_runs_by_itself(managed: Topology) -> None:
    """From the files that the library module installs, with the interpreter in its first line."""
    text = f"#!{sys.executable}\n{(FILES / 'mwanctl').read_text(encoding='utf-8')}"
    run_module(managed, "mwan_library", {"programs": {"mwanctl": text}})
    for words in (["status"], ["explain", "--to", "7.7.7.7"], ["diff"], ["use", "isp_a", "--", "true"]):
        done = managed.router.run(["/usr/local/lib/mwan/current/mwanctl", *words], check=False)
        assert (done.returncode, done.stderr) == (0, ""), words


def test_status_without_a_prober_says_so_and_calls_no_link_down(managed: Topology) -> None:
    text = ctl(managed.router, "status")
    assert re.search(r"^isp_a +wan1 +unknown +- +- +- +75 % ", text, re.MULTILINE)
    assert "The prober (mwand) is not running" in text
    assert "down" not in text
    assert told(managed.router, "status", "--check", code=3)["summary"] == "MWAN UNKNOWN: the prober is not running"


def test_status_shows_what_passes_over_the_links(managed: Topology) -> None:
    with EchoServer(managed.server), Talk(managed.client, want=A):
        status = told(managed.router, "status")
    assert status["links"]["isp_a"]["connections"] >= 1
    assert status["links"]["isp_a"]["received"] > 0
    assert status["policies"]["balanced"] == {
        "shares": {"isp_a": 0.75, "isp_b": 0.25}, "tier": 1, "last_resort": "unreachable", "default": True
    }  # fmt: skip
    managed.router.ip("link set wan2 down")
    text = ctl(managed.router, "status")
    assert re.search(r"^isp_b +wan2 +pending .* device wan2 is down$", text, re.MULTILINE)


def test_status_and_events_of_a_prober_that_runs(managed: Topology) -> None:
    router = managed.router
    probe = {"profile": "fast", "targets": ["1.1.1.1", "8.8.8.8"]}
    managed.variables["mwan_links"] = [{**link, "probe": probe} for link in managed.variables["mwan_links"]]
    with Engine(managed) as engine:
        engine.apply(mwan_rules=[])
    with Prober(router) as prober:
        for name in ("isp_a", "isp_b"):
            prober.wait_for(name, "up")
        assert ctl(router, "status", "--check") == "MWAN OK: 2 of 2 links take new connections\n"
        follower = router.popen(command("events", "--follow", "--number", "0", "--link", "isp_a"))
        time.sleep(2)
        with black_hole(managed, "isp_a"):
            prober.wait_for("isp_a", "down")
            prober.wait_settled()
            text = ctl(router, "status", columns=160)
            assert re.search(r"^isp_a +wan1 +down .* 0 % .*no answer for", text, re.MULTILINE)
            assert re.search(r"^isp_b +wan2 +up +\d+ s +0 % +\d+\.\d ms +100 % ", text, re.MULTILINE)
            assert "not running" not in text
            assert ctl(router, "status", "--check", code=1) == "MWAN WARNING: isp_a down\n"
            assert "the last that takes new connections of balanced" in ctl(router, "drain", "isp_b", code=1)
            assert "no answer for" in ctl(router, "explain", "--from", "192.168.101.1", "--to", "7.7.7.7")
            assert "refused by the prober" in ctl(router, "failback", "isp_a", code=1)
        assert re.search(r"isp_a +suspect -> down +no answer for .*\(suspect for", ctl(router, "events"))
        assert {event["link"] for event in map(json.loads, ctl(router, "events", "--json", "--link", "isp_b").splitlines())} == {"isp_b"}  # fmt: skip  # noqa: E501
        assert ctl(router, "events", "-n", "1").count("\n") == 1
        time.sleep(1)
        follower.send_signal(signal.SIGINT)
        followed = follower.communicate(timeout=10)[0]
        assert re.search(r"^\S+ \S+  isp_a +suspect -> down", followed, re.MULTILINE)
        assert "isp_b" not in followed
        assert follower.returncode == 130


def test_what_a_prober_that_does_not_run_keeps_out_is_told(managed: Topology) -> None:
    """Stopped in an outage, it leaves its last word, which routing follows."""
    router, part = managed.router, "link isp_a is kept out by the last word"
    router.run(["tee", "/run/mwan/health.json"], input=json.dumps({"links": {"isp_a": {"state": "down"}}}))
    restored = router.run(command("restore"), check=False)
    assert (restored.returncode, part in restored.stderr) == (0, True)
    assert part in " ".join(ctl(router, "status").split())
    holder = router.popen(["flock", "/run/mwan/mwand.lock", "sleep", "20"])
    try:
        while router.run("flock --nonblock /run/mwan/mwand.lock true", check=False).returncode == 0:
            pass
        assert part not in router.run(command("restore"), check=False).stderr, "it runs"
    finally:
        holder.terminate()
        holder.wait()
    router.run("rm /run/mwan/health.json")
    assert router.run(command("restore"), check=False).stderr == ""


def test_watching_draws_again(managed: Topology) -> None:
    watcher = managed.router.popen(command("status", "--watch", "0.2"))
    time.sleep(4)
    watcher.send_signal(signal.SIGINT)
    shown = watcher.communicate(timeout=10)[0]
    assert shown.count("LINK ") > 1
    assert "\x1b" not in shown, "no colour and no clearing where nobody watches a terminal"


MISTAKES = [
    (["drain", "isp_x"], 1, "The links are isp_a, isp_b"),
    (["undrain", "isp_x"], 1, "The links are isp_a, isp_b"),
    (["use", "isp_x", "--", "true"], 1, "The links are isp_a, isp_b"),
    (["use", "isp_a"], 1, "COMMAND is missing"),
    (["failback", "isp_a"], 1, "the prober (mwand) is not running"),
    (["events", "--link", "isp_x"], 1, "The links are isp_a, isp_b"),
    (["explain", "--to", "nowhere"], 1, "--to: 'nowhere' is not an IPv4 address"),
    (["explain", "--to", "7.7.7.7", "--down", "isp_x"], 1, "The links are isp_a, isp_b"),
    (["check-config", "/nowhere"], 1, "does not exist"),
    (["status", "--watch", "0"], 2, "0.1 to 3600"),
    (["nonsense"], 2, "invalid choice"),
]


def test_mistakes_are_told_with_what_would_do(managed: Topology) -> None:
    for words, code, part in MISTAKES:
        assert part in ctl(managed.router, *words, code=code)


def test_other_users_are_told_what_they_lack(managed: Topology) -> None:
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    assert ctl(managed.router, "links") == "isp_a\nisp_b\n"
    for words in (["status"], ["drain", "isp_a"], ["use", "isp_a", "--", "true"]):
        done = managed.router.run([*as_nobody, *command(*words)], check=False)
        assert done.returncode == 1
        assert "Permission denied (you are not root)" in done.stderr
    managed.router.run("chmod 750 /etc/mwan && chgrp -R 65534 /etc/mwan /var/lib/mwan/kept")
    for words in (["status"], ["explain", "--to", "7.7.7.7"], ["links"]):
        done = managed.router.run([*as_nobody, *command(*words)], check=False)
        assert (done.returncode, done.stderr) == (0, ""), "who may read the configuration may look"
        assert "isp_a" in done.stdout


# where connections go


def test_explains_what_then_happens(managed: Topology) -> None:
    net = managed
    question = ("explain", "--from", "192.168.101.1", "--to", "7.7.7.7", "--port", "80")
    answer = told(net.router, *question)
    assert {way["seen_as"]: way["share"] for way in answer["ways"]} == {A: 0.75, B: 0.25}
    with AccessLogServer(net.server):
        assert about(fetch_many(net.client, 200).sources, {A: 3, B: 1})
    assert "isp_b takes none: down: as asked" in ctl(net.router, *question, "--down", "isp_b")
    assert "isp_b  100 %" in ctl(net.router, *question, "--protocol", "udp", "--port", "5060")
    both = ctl(net.router, *question, "--down", "isp_a", "--down", "isp_b")
    assert "last resort: unreachable" in both
    assert "host unreachable" in both


def test_explaining_a_router_that_drifted_says_so(managed: Topology) -> None:
    question = ("explain", "--to", "7.7.7.7")
    assert "mwanctl diff" not in ctl(managed.router, *question)
    managed.router.ip("rule del priority 1999")
    assert "mwanctl diff" in ctl(managed.router, *question)


def test_drift_is_shown_and_restored(managed: Topology) -> None:
    router = managed.router
    assert ctl(router, "diff") == "The router is as it should be.\n"
    router.ip("rule del priority 1999")
    text = ctl(router, "diff", code=1)
    assert "+1999: from all lookup mwan_balanced" in text
    assert "  ip rule add priority 1999" in text
    assert told(router, "diff", code=1)["actions"] == told(router, "restore")["actions"] != []
    assert told(router, "diff") == {"actions": [], "diff": []}
    router.run("echo '{' > /etc/mwan/mwan.json")
    assert "is not JSON" in ctl(router, "diff", code=2)


def test_configurations_are_checked(managed: Topology) -> None:
    router = managed.router
    counted = "links: 2, policies: 1, rules: 1, sets: 0, snat: 2, dnat: 0"
    assert ctl(router, "check-config") == f"/etc/mwan/mwan.json is in order ({counted})\n"
    document = json.loads(router.run(["cat", "/etc/mwan/mwan.json"]).stdout)
    document["policies"][0]["members"][0]["link"] = "isp_x"
    router.run(["tee", "/run/other.json"], input=json.dumps(document))
    text = ctl(router, "check-config", "/run/other.json", code=1)
    assert "policies.balanced.members.link: 'isp_x' is not a declared link. Known are: isp_a, isp_b" in text
    document["policies"][0]["members"][0]["link"] = "isp_a"
    document["links"][0]["probe"] = {"targets": ["not an address"]}
    router.run(["tee", "/run/other.json"], input=json.dumps(document))
    assert "probe.targets" in ctl(router, "check-config", "/run/other.json", code=1)


# out of service


@pytest.mark.parametrize("name", ["two_links", "shared_segment", "point_to_point"])
def test_a_drained_link_keeps_its_connections_and_takes_no_new_ones(
    request: pytest.FixtureRequest, backend: str, name: str
) -> None:
    net: Topology = request.getfixturevalue(name)
    (drained, source), (_unused, other) = net.sources.items()
    with Engine(net, backend) as engine, AccessLogServer(net.server), EchoServer(net.server):
        engine.settle()
        with Talk(net.client, want=source) as pinned:
            assert ctl(net.router, "drain", drained, "--why", "new modem").startswith(f"{drained} is drained")
            assert dict(fetch_many(net.client, 40).sources) == {other: 40}
            assert pinned.ask() == source
            assert engine.apply().actions == [], "a playbook does not give it back"
            net.router.run("rm -r /run/mwan")
            ctl(net.router, "restore")
            assert dict(fetch_many(net.client, 40).sources) == {other: 40}, "as after a reboot"
            assert "new modem" in ctl(net.router, "status")
            assert told(net.router, "drain", drained)["changed"] is False
            assert ctl(net.router, "undrain", drained) == f"{drained} takes new connections again\n"
            assert set(fetch_many(net.client, 60).sources) == {source, other}
            assert pinned.ask() == source
            assert told(net.router, "undrain", drained)["changed"] is False


def test_the_last_link_is_drained_by_force_only(managed: Topology) -> None:
    ctl(managed.router, "drain", "isp_a")
    assert "give --force" in ctl(managed.router, "drain", "isp_b", code=1)
    assert told(managed.router, "diff") == {"actions": [], "diff": []}
    ctl(managed.router, "drain", "isp_b", "--force")
    assert ctl(managed.router, "status", "--check", code=2).startswith("MWAN CRITICAL")


# the shell, and the manual


COMPLETIONS = [
    ("mwanctl dra", {"drain"}),
    ("mwanctl drain ", {"isp_a", "isp_b"}),
    ("mwanctl undrain isp_", {"isp_a", "isp_b"}),
    ("mwanctl drain --force isp_a", {"isp_a"}),
    ("mwanctl events --link ", {"isp_a", "isp_b"}),
    ("mwanctl explain --to 7.7.7.7 --down isp_b", {"isp_b"}),
    ("mwanctl explain --pro", {"--protocol"}),
    ("mwanctl explain --in wan", {"wan1", "wan2"}),
    ("mwanctl status --", {"--watch", "--check", "--drift", "--json", "--help"}),
    ("mwanctl use isp_a ", {"--", "--json", "--help"}),
    ("mwanctl use isp_a -- nsente", {"nsenter"}),
    ("mwanctl use isp_a -- cat /etc/passw", {"/etc/passwd"}),
]


def test_bash_completes(managed: Topology) -> None:
    tool = managed.router.state / "mwanctl"
    tool.write_text(f'#!/bin/sh\nexec {" ".join(command())} "$@"\n', encoding="utf-8")
    tool.chmod(0o755)
    script = f"""
        PATH={tool.parent}:$PATH
        . {FILES / "mwanctl.bash"}
        read -ra COMP_WORDS <<< "$1"
        [ "${{1% }}" = "$1" ] || COMP_WORDS+=("")
        COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
        compopt() {{ :; }}
        _mwanctl && printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    for line, offered in COMPLETIONS:
        found = set(managed.router.run(["bash", "-c", script, "complete", line]).stdout.split())
        assert offered <= found if " -- " in line else found == offered, (line, found)


def test_every_command_and_option_is_completed_and_in_the_manual(two_links: Topology) -> None:
    commands = set(re.findall(r"^    ([a-z-]+)(?: |$)", ctl(two_links.router, "--help"), re.MULTILINE))
    assert {"status", "use", "check-config"} < commands
    manual = (FILES / "mwanctl.8").read_text(encoding="utf-8")
    completion = (FILES / "mwanctl.bash").read_text(encoding="utf-8")
    for name in commands:
        assert f".It Cm {name}" in manual
        assert f"[{name}]=" in completion
        options = ctl(two_links.router, name, "--help").partition("options:")[2]
        for option in set(re.findall(r"--([a-z-]+)", options)) - {"help", "json"}:
            assert f"\\-{option}" in manual or option in ("number", "follow"), (name, option)
            assert f"--{option}" in completion, (name, option)


@pytest.mark.skipif(shutil.which("mandoc") is None and shutil.which("groff") is None, reason="no mandoc, no groff")
@pytest.mark.parametrize("page", ["mwanctl.8", "mwand.8"])
def test_the_manual_is_well_formed(page: str) -> None:
    tool = ["mandoc", "-T", "lint", "-W", "warning"] if shutil.which("mandoc") else ["groff", "-ww", "-mdoc", "-z"]
    done = subprocess.run([*tool, str(FILES / page)], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""
