# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The library on the router: whole releases, switched at once, and a command that restores the router with them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from lab.ansible import CHECKOUT, run_module, run_playbook
from lab.state import unnumbered
from lab.traffic import AccessLogServer, fetch_many

DIRECTORY = "/usr/local/lib/mwan"


def install(topology, text="#!/bin/sh\nexit 0\n", **options):
    return run_module(topology, "mwan_library", {"programs": {"tool": text}}, **options)


def listing(topology):
    return topology.router.run(f"find {DIRECTORY} -type f -o -type l 2>/dev/null | sort", check=False).stdout.split()


def test_second_run_changes_nothing_and_check_mode_writes_nothing(two_links):
    assert install(two_links, check=True)["changed"]
    assert listing(two_links) == []
    first = install(two_links)
    assert first["changed"]
    files = listing(two_links)
    assert f"{first['release']}/mwan/firewall/nftables.py" in files
    assert f"{first['release']}/tool" in files
    assert not install(two_links)["changed"]
    assert listing(two_links) == files


def test_installed_library_is_the_one_of_the_collection(two_links):
    release = install(two_links)["release"]
    source = CHECKOUT / "plugins/module_utils/_mwan"
    for name in ("flow.py", "netlink.py", "firewall/iptables.py"):
        assert two_links.router.run(["cat", f"{release}/mwan/{name}"]).stdout == (source / name).read_text()


def test_upgrade_switches_at_once_and_keeps_the_release_before(two_links):
    releases = [install(two_links, f"#!/bin/sh\nexit {number}\n")["release"] for number in (1, 2, 3)]
    assert len(set(releases)) == 3
    assert two_links.router.run(["readlink", f"{DIRECTORY}/current"]).stdout.strip() == releases[2]
    assert two_links.router.run([f"{DIRECTORY}/current/tool"], check=False).returncode == 3
    kept = two_links.router.run(["ls", "-A", DIRECTORY]).stdout.split()
    assert sorted(kept) == sorted(["current", *(Path(path).name for path in releases[1:])])


def test_release_removed_by_hand_is_installed_again(two_links):
    release = install(two_links)["release"]
    two_links.router.run(["rm", "-r", release])
    assert install(two_links)["changed"]
    assert f"{release}/tool" in listing(two_links)


def test_what_others_keep_in_the_directory_stays(two_links):
    """A directory that is given may be in use for other things; only old releases of ours are removed from it."""
    foreign = ["site/script.sh", "1d02311e6211-saved/tool", "notes.txt", "abc/tool"]
    for path in foreign:
        two_links.router.run(f"mkdir -p $(dirname {DIRECTORY}/{path}) && echo kept > {DIRECTORY}/{path}")
    for number in (1, 2, 3):
        install(two_links, f"#!/bin/sh\nexit {number}\n")
    for path in foreign:
        assert two_links.router.run(["cat", f"{DIRECTORY}/{path}"]).stdout == "kept\n"
    names = two_links.router.run(["ls", "-A", DIRECTORY]).stdout.split()
    assert len(names) == len(foreign) + 3


@pytest.mark.parametrize("name", ["tool", "mwan/flow.py", "mwan/firewall/__init__.py"])
def test_damaged_release_is_repaired(two_links, name):
    """A power cut can leave files of a release empty, or short."""
    path = f"{install(two_links)['release']}/{name}"
    whole = two_links.router.run(["cat", path]).stdout
    for damage in ("printf '' >", "printf 'import ' >", "rm"):
        two_links.router.run(f"{damage} {path}")
        assert install(two_links, check=True)["changed"]
        assert install(two_links)["changed"]
        assert two_links.router.run(["cat", path]).stdout == whole
        assert not install(two_links)["changed"]


def test_role_without_the_service_installs_its_programs_and_nothing_of_the_service(two_links):
    """All stays root's, and mwand is there for another supervisor."""
    run_playbook(two_links, extra_vars={"mwan_python": sys.executable})
    router = two_links.router
    assert json.loads(router.run([f"{DIRECTORY}/current/mwand", "--check"]).stdout).keys() == {"isp_a", "isp_b"}
    # it has what it imports, and wants the prober at its input
    assert "on non-socket" in router.run([f"{DIRECTORY}/current/mwan-balance"], check=False).stderr
    assert router.run(["stat", "--format=%A %U %G", "/etc/mwan/mwan.json"]).stdout == "-rw-r----- root root\n"
    assert router.run(["stat", "--format=%A %U %G", "/run/mwan/lock"]).stdout == "-rw-r----- root root\n"
    assert router.run(["stat", "--format=%A %U %G", "/var/lib/mwan/kept/kept.json"]).stdout == "-rw-r----- root root\n"
    for absent in ("test -e /etc/systemd/system/mwan.service", "getent passwd mwan"):
        assert router.run(absent, check=False).returncode != 0


def test_command_restores_the_router_after_everything_was_flushed(two_links):
    run_playbook(two_links, extra_vars={"mwan_python": sys.executable})
    router = two_links.router
    before = state(router)
    router.run("ip rule | awk -F: '/proto mwan/ {print $1}' | while read p; do ip rule del priority $p; done")
    router.run("ip route flush table all proto 77; nft delete table inet mwan; rm -rf /run/mwan", check=False)
    assert state(router) != before
    assert "ip rule add priority 1999" in router.run(["/usr/local/sbin/mwanctl", "restore"]).stdout
    assert state(router) == before
    assert router.run(["/usr/local/sbin/mwanctl", "restore"]).stdout == ""
    with AccessLogServer(two_links.server):
        assert set(fetch_many(two_links.client, 40, "7.7.7.7").sources) == {"5.5.5.5", "6.6.6.6"}


def state(router):
    commands = ("ip rule", "ip route show table all proto 77", "nft list ruleset")
    return [unnumbered(router.run(command).stdout) for command in commands]


def test_restart_is_due_until_the_service_starts_and_files_are_roots(two_links):
    """The run that installs may end before it restarts; a later one, which changes nothing, has to know."""
    router, unit = two_links.router, "/etc/systemd/system/mwan.service"

    def run(text="[Service]\n", **options):
        found = run_module(two_links, "mwan_library", {"files": {unit: text}}, **options)
        return found["changed"], found["renewed"]

    assert run(check=True) == (True, True)
    assert router.run("ls /run/mwan/restart", check=False).returncode != 0
    assert [run(), run(), run(check=True)] == [(True, True), (False, True), (False, True)]
    router.run("rm /run/mwan/restart")  # as the unit does, see the template
    assert run() == (False, False)
    template = (CHECKOUT / "roles/router/templates/mwan.service.j2").read_text(encoding="utf-8")
    assert "\nExecStartPre=-/bin/rm -f /run/mwan/restart\n" in template
    assert "ansible_managed" not in template, "who runs the play is no reason to restart"
    assert run("[Service]\nNice=1\n") == (True, True)
    for spoilt in (f"chmod 0666 {unit}", f"chown 65534 {unit}"):
        router.run(spoilt)
        assert run("[Service]\nNice=1\n")[0]
        assert router.run(["stat", "--format=%a %u", unit]).stdout == "644 0\n"
