# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The prober under systemd: what it may do, and what its end and a dark provider leave for the clients."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from lab import connections, dark, new_tag, run, states, wait_until

SERVER = "7.7.7.7"
LINKS = {"isp_a": "5.5.5.5", "isp_b": "6.6.6.6"}
NET_ADMIN_AND_NET_RAW = "0000000000003000"  # linux/capability.h: 12 and 13
# of chains, the order and the numbers of loads tell nothing
CHAINS = r"nft list table inet mwan | sed -E 's/(chain|goto|jump) ([a-z0-9_-]+)\.[0-9]+/\1 \2/g' | sort"
KEPT = ("ip rule", "ip route show table all proto mwan", CHAINS)


def unit(name: str) -> str:
    """A property of the unit as systemd has it."""
    return run("router", "systemctl show mwan.service --property=%s --value", name).strip()


def kept() -> list[str]:
    return [run("router", command) for command in KEPT]


def both_links_are_up() -> bool:
    return states() == dict.fromkeys(LINKS, "up")


def sources(count: int = 80) -> set[str]:
    """The addresses that the server saw of so many connections of the client."""
    return set(connections("client", SERVER, new_tag(), count))


@pytest.fixture(autouse=True)
def running_as_ever() -> Iterator[None]:
    yield
    assert unit("ActiveState") == "active"
    wait_until(both_links_are_up, 30)


def test_it_is_ready_and_watched() -> None:
    assert run("router", "systemctl is-active mwan") == "active\n"
    assert unit("Type") == "notify"
    assert unit("StatusText") == "2 links, all well"
    assert (unit("Restart"), unit("StartLimitIntervalUSec")) == ("always", "0")
    assert unit("WatchdogUSec") == "30s"


def test_it_tells_metrics_where_it_was_asked_to() -> None:
    for told in ("cat /run/mwan/mwan.prom", "curl --silent --fail http://127.0.0.1:9783/metrics"):
        assert 'mwan_link_state{link="isp_a",device="wan1",state="up"} ' in run("router", told)


def test_it_has_two_capabilities_and_no_more() -> None:
    status = dict(line.split(":\t", 1) for line in run("router", "cat /proc/%s/status", unit("MainPID")).splitlines())
    user = run("router", "id --user mwan").strip()

    assert status["Uid"].split() == [user] * 4
    assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {NET_ADMIN_AND_NET_RAW}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_it_is_fenced_in() -> None:
    judged = run("router", "systemd-analyze security --no-pager mwan.service")
    exposure = re.search(r"Overall exposure level for mwan\.service: (\S+)", judged)

    assert exposure
    assert float(exposure[1]) <= 2.0, judged
    # what it says of other units is theirs
    assert "mwan" not in run("router", "systemd-analyze verify --man=no mwan.service 2>&1")


def test_only_its_group_may_hold_the_lock() -> None:
    assert run("router", "stat --format='%A %G' /run/mwan/lock") == "-rw-r----- mwan\n"


def test_a_document_it_may_not_read_is_read_when_it_may() -> None:
    run("router", "chown root:root /etc/mwan/mwan.json && systemctl restart mwan")
    assert "Permission denied" in unit("StatusText")

    run("router", "chgrp mwan /etc/mwan/mwan.json")
    wait_until(lambda: unit("StatusText") == "2 links, all well", 5)


def test_reload_keeps_the_process_and_repairs_what_is_missing() -> None:
    process = unit("MainPID")
    before = kept()
    run("router", "nft delete table inet mwan")
    run("router", "systemctl reload mwan")

    wait_until(lambda: kept() == before, 5)
    assert unit("MainPID") == process


def test_killing_it_moves_nothing() -> None:
    process, before = unit("MainPID"), kept()
    run("router", "systemctl kill --signal=KILL mwan")

    assert kept() == before
    assert sources() == set(LINKS.values())
    wait_until(lambda: unit("MainPID") not in (process, "0") and unit("ActiveState") == "active")
    assert both_links_are_up()
    assert kept() == before


def test_stopping_it_moves_nothing() -> None:
    before = kept()
    run("router", "systemctl stop mwan")
    try:
        assert kept() == before
        assert sources() == set(LINKS.values())
    finally:
        run("router", "systemctl start mwan")
    assert both_links_are_up()
    assert kept() == before


def test_systemd_replaces_it_when_it_hangs() -> None:
    run("router", "mkdir -p /run/systemd/system/mwan.service.d")
    run("router", "printf '[Service]\\nWatchdogSec=3\\n' > /run/systemd/system/mwan.service.d/watchdog.conf")
    run("router", "systemctl daemon-reload && systemctl restart mwan")
    process = unit("MainPID")
    time.sleep(4)
    assert unit("MainPID") == process

    run("router", "systemctl kill --signal=STOP mwan")
    wait_until(lambda: unit("MainPID") not in (process, "0") and unit("ActiveState") == "active", 15)
    run("router", "rm -r /run/systemd/system/mwan.service.d && systemctl daemon-reload && systemctl restart mwan")


def test_the_command_is_explained_and_completed() -> None:
    completed = "source /usr/local/share/bash-completion/completions/mwanctl.bash; complete -p mwanctl"

    assert "mwanctl" in run("router", "bash -c %s", completed)
    assert run("router", "head -c 1 /usr/local/share/man/man8/mwanctl.8") in (".", "'")


@pytest.fixture
def hook() -> Iterator[str]:
    """Where a hook writes what it was told, and whether it can ping from inside the sandbox."""
    script = '#!/bin/sh\nping -qc1 -W1 1.1.1.1 >&2 && echo "$MWAN_LINK $MWAN_BEFORE $MWAN_AFTER" >> /run/mwan/told\n'
    run("router", "printf %s > /etc/mwan/hooks.d/10-tell && chmod 755 /etc/mwan/hooks.d/10-tell", script)
    yield "/run/mwan/told"
    run("router", "rm -f /etc/mwan/hooks.d/10-tell /run/mwan/told")


def test_clients_are_led_away_when_a_provider_goes_dark(hook: str) -> None:
    ask = f"$(curl --silent --max-time 0.5 http://{SERVER}/{new_tag()}/ || echo none)"
    twenty = f"n=0; until [ $n = 20 ]; do [ {ask} = {LINKS['isp_b']} ] && n=$((n+1)) || n=0; done"
    with dark("isp_a"):
        begun = time.monotonic()
        run("client", "timeout 20 sh -c %s", twenty)
        assert time.monotonic() - begun < 8
        wait_until(lambda: states() == {"isp_a": "down", "isp_b": "up"}, 5)
        wait_until(lambda: "isp_a suspect down" in run("router", "cat %s || true", hook), 5)
    wait_until(both_links_are_up, 30)
    assert sources() == set(LINKS.values())


def test_a_device_that_comes_late_is_taken_in() -> None:
    run("router", "systemctl stop mwan && ip link set wan2 down && ip link set wan2 name later && systemctl start mwan")
    try:
        assert sources(10) == {LINKS["isp_a"]}
        assert states()["isp_b"] == "down"
    finally:
        run("router", "ip link set later name wan2 && ip link set wan2 up")
    wait_until(both_links_are_up, 30)
    assert sources() == set(LINKS.values())
