# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The dialled line is hung up and dialled anew with another address; then the router is rebooted."""

from __future__ import annotations

from contained import Container, Service
from lab import connections, new_tag, reboot, run, run_json, wait_until

from tests.lab.clients import Clients
from tests.lab.impair import timed
from tests.lab.seen import FLOWS, RESET_ONCE, disturbed, resets, slowest, sources
from tests.lab.topology import SERVER, SERVER_PREFIX
from tests.lab.traffic import EchoServer
from tests.lab.watched import happened

CABLE, LINE, REDIALLED = "5.5.9.100", "22.2.2.2", "22.2.2.22"
UNIT = "/etc/systemd/system/line.service"
SOON = 3.0  # seconds


def assert_served_by(*expected: str) -> None:
    assert set(connections("client", SERVER, new_tag(), 40)) == set(expected)


def test_line_is_dialled_anew_with_another_address() -> None:
    client, server, prober = Container("client"), Container("server"), Service(Container("router"))
    server.ip(f"route replace local {SERVER_PREFIX} dev lo")
    with (
        EchoServer(server),
        Clients(client, **FLOWS, want=LINE) as clients,
        Clients(client, **FLOWS, want=CABLE) as neighbours,
    ):
        _unused, hung = timed(lambda: run("router", "systemctl stop line"))
        moved = clients.outages(hung, patience=SOON)
        assert (sources(moved), resets(moved)) == ({CABLE}, RESET_ONCE)
        assert slowest(moved) < SOON
        run("router", f"sed --in-place 's/replace {LINE} /replace {REDIALLED} /' {UNIT} && systemctl daemon-reload")
        run("router", "systemctl start line")
        prober.wait_for("dsl", "up")
        prober.wait_settled()
        assert_served_by(CABLE, REDIALLED)
        assert disturbed(neighbours, hung) == []
        assert happened(prober) == ["dsl up down", "dsl down up"]


def test_all_is_back_after_a_reboot() -> None:
    reboot("router")

    # what the router was before may have the address for another 24 s
    wait_until(lambda: run("router", "mwanctl status --check || true").startswith("MWAN OK"), 40)
    assert_served_by(CABLE, REDIALLED)
    assert run_json("router", "mwanctl diff --json")["actions"] == []
