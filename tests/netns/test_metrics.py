# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The metrics of a prober that runs: fetched over HTTP, and written to a file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from _mwan.service.metrics import render
from lab import impair
from lab.engine import Engine
from lab.host import Host
from lab.prober import Prober
from lab.topology import Topology
from lab.traffic import AccessLogServer, fetch_many
from lab.wait import wait_until
from unit.service.pages import families, status, value

CACHE = Path(__file__).resolve().parents[2] / ".cache"
ADDRESS, TEXTFILE = "127.0.0.1:9783", "/run/mwan/mwan.prom"
FETCH = "import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"
ISP_A, ISP_B = {"link": "isp_a", "device": "wan1"}, {"link": "isp_b", "device": "wan2"}


def fetch(router: Host, path: str = "/metrics") -> str:
    return router.run([sys.executable, "-I", "-c", FETCH, f"http://{ADDRESS}{path}"]).stdout


def test_an_outage_over_http(two_links: Topology) -> None:
    router = two_links.router
    with (
        Engine(two_links) as engine,
        AccessLogServer(two_links.server) as server,
        Prober(router, "--metrics-listen", ADDRESS) as prober,
    ):
        engine.apply()
        for link in ("isp_a", "isp_b"):
            prober.wait_for(link, "up")
        wait_until(lambda: fetch(router, "/-/healthy") == "ok\n")
        fetch_many(two_links.client, 40, "7.7.7.7")
        sources = server.sources()
        well = fetch(router)
        with impair.black_hole(two_links, "isp_a"):
            prober.wait_for("isp_a", "down")
            ill = fetch(router)
    for labels, address in ((ISP_A, "5.5.5.5"), (ISP_B, "6.6.6.6")):
        assert value(well, "mwan_link_state", **labels, state="up") == 1
        assert value(well, "mwan_link_serving", **labels) == 1
        assert value(well, "mwan_link_round_trip_seconds", **labels) < 0.5
        assert value(well, "mwan_probe_round_trip_seconds_count", link=labels["link"], target="1.1.1.1") >= 1
        # the probes are tracked connections, too
        assert value(well, "mwan_link_connections", link=labels["link"]) >= sources[address] > 0
        assert value(well, "mwan_device_receive_bytes_total", device=labels["device"]) > 1000
    assert value(well, "mwan_converge_last_successful") == value(well, "mwan_reload_last_successful") == 1
    assert abs(value(well, "mwan_start_time_seconds") - time.time()) < 60
    assert abs(value(well, "mwan_link_since_timestamp_seconds", **ISP_A) - time.time()) < 60
    assert [value(ill, "mwan_link_up", **labels) for labels in (ISP_A, ISP_B)] == [0, 1]
    assert value(ill, "mwan_link_state_changes_total", link="isp_a", **{"from": "suspect", "to": "down"}) == 1
    assert value(ill, "mwan_held") == 0
    # what the unit tests take for a status is one
    assert families(ill) == families(render(status()))


def test_the_page_is_as_prometheus_wants_it(two_links: Topology) -> None:
    promtool = shutil.which("promtool", path=f"{CACHE}{os.pathsep}{os.environ['PATH']}")
    if promtool is None:
        pytest.skip("no promtool; tools/setup.sh promtool fetches it on Debian and Ubuntu")
    with Engine(two_links) as engine, Prober(two_links.router, "--metrics-listen", ADDRESS) as prober:
        engine.apply()
        prober.wait_for("isp_a", "up")
        page = fetch(two_links.router)
    checked = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_the_file_is_there_while_the_prober_is(two_links: Topology) -> None:
    router = two_links.router
    with Engine(two_links) as engine:
        engine.apply()
        with Prober(router, "--metrics-textfile", TEXTFILE):
            wait_until(lambda: router.run(["test", "-e", TEXTFILE], check=False).returncode == 0)
            page = router.run(["cat", TEXTFILE]).stdout
            assert router.run(["stat", "--format=%a", TEXTFILE]).stdout == "644\n"
            # nothing listens unless asked to
            assert ":9783" not in router.run(["ss", "-Hltn"]).stdout
        assert "prom" not in router.run(["ls", "-A", "/run/mwan"]).stdout
    assert value(page, "mwan_build_info", version="files") == 1


def test_a_port_in_use_does_not_keep_it_from_probing(two_links: Topology) -> None:
    router = two_links.router
    with Engine(two_links) as engine, AccessLogServer(router, 9783):
        engine.apply()
        with Prober(router, "--metrics-listen", ADDRESS) as prober:
            prober.wait_for("isp_a", "up")
            wait_until(lambda: "listen 127.0.0.1 port 9783: " in prober.log())
            assert prober.stop() == 0


@pytest.mark.parametrize("address", ["localhost:9783", "127.0.0.1"])
def test_an_address_that_is_none_is_refused(two_links: Topology, address: str) -> None:
    prober = Prober(two_links.router, "--metrics-listen", address, ready=False)
    assert prober.wait_end() == 1
    assert f"--metrics-listen: '{address}' is not an address and a port" in prober.log()
