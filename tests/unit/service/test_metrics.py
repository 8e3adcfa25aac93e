# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What the page of metrics says of a status."""

from __future__ import annotations

import pytest
from _mwan.health import STATES
from _mwan.service.counters import Counters
from _mwan.service.metrics import render
from unit.service.pages import TARGETS, families, samples, status, value

PAGE = render(status())
ISP_A, ISP_B = {"link": "isp_a", "device": "wan1"}, {"link": "isp_b", "device": "ppp0"}


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("mwan_build_info", {"version": "0.1.0"}, 1),
        ("mwan_start_time_seconds", {}, 1699999999.5),
        ("mwan_held", {}, 0),
        ("mwan_link_up", ISP_A, 1),
        ("mwan_link_up", ISP_B, 0),
        ("mwan_link_serving", ISP_A, 1),
        ("mwan_link_serving", ISP_B, 0),
        ("mwan_link_ready", ISP_B, 1),
        ("mwan_link_since_timestamp_seconds", ISP_A, 1700000000),
        ("mwan_link_silence_seconds", ISP_A, 0.98),
        ("mwan_link_silence_seconds", ISP_B, 2.98),
        ("mwan_link_silence_limit_seconds", ISP_A, 2),
        ("mwan_link_loss_ratio", ISP_A, 0),
        ("mwan_link_round_trip_seconds", ISP_A, 0.02),
        ("mwan_target_loss_ratio", {"link": "isp_a", "target": TARGETS[1]}, 0),
        ("mwan_target_excluded", {"link": "isp_b", "target": TARGETS[0]}, 0),
        ("mwan_probes_sent_total", {"link": "isp_b", "target": TARGETS[0]}, 3),
        ("mwan_probes_refused_total", {"link": "isp_a", "target": "gateway"}, 0),
        ("mwan_probes_failed_total", {"link": "isp_a", "target": TARGETS[0]}, 0),
        ("mwan_probe_round_trip_seconds_count", {"link": "isp_b", "target": TARGETS[0]}, 1),
        ("mwan_probe_round_trip_seconds_sum", {"link": "isp_a", "target": TARGETS[0]}, 0.06),
        ("mwan_probe_round_trip_seconds_bucket", {"link": "isp_a", "target": TARGETS[0], "le": "0.01"}, 0),
        ("mwan_probe_round_trip_seconds_bucket", {"link": "isp_a", "target": TARGETS[0], "le": "0.02"}, 3),
        ("mwan_probe_round_trip_seconds_bucket", {"link": "isp_a", "target": TARGETS[0], "le": "+Inf"}, 3),
        ("mwan_link_state_changes_total", {"link": "isp_b", "from": "suspect", "to": "down"}, 1),
        ("mwan_link_state_changes_total", {"link": "isp_a", "from": "suspect", "to": "down"}, 0),
        ("mwan_converges_total", {"result": "changed"}, 1),
        ("mwan_converges_total", {"result": "unchanged"}, 0),
        ("mwan_converge_last_successful", {}, 1),
        ("mwan_converge_duration_seconds_bucket", {"le": "0.05"}, 1),
        ("mwan_reloads_total", {"result": "failed"}, 0),
        ("mwan_reload_last_successful", {}, 1),
        ("mwan_hooks_total", {"result": "failed"}, 0),
        ("mwan_netlink_overruns_total", {}, 0),
        ("mwan_device_receive_bytes_total", {"device": "wan1"}, 1000),
        ("mwan_device_transmit_bytes_total", {"device": "ppp0"}, 6),
        ("mwan_link_connections", {"link": "isp_a"}, 25),
        ("mwan_connections_counted_timestamp_seconds", {}, 1700000100),
        ("mwan_connections_count_duration_seconds", {}, 0.125),
    ],
)
def test_told(name: str, labels: dict[str, str], expected: float) -> None:
    assert value(PAGE, name, **labels) == expected


def test_a_link_is_in_one_state() -> None:
    told = samples(PAGE)
    states = {
        state: told["mwan_link_state", frozenset({**ISP_B, "state": state}.items())]  # each is there
        for state in STATES
    }
    assert states == {**dict.fromkeys(STATES, 0), "down": 1}


@pytest.mark.parametrize(
    ("state", "up", "serving"),
    [("unknown", 1, 1), ("up", 1, 1), ("degraded", 1, 1), ("suspect", 1, 0), ("drained", 1, 0), ("down", 0, 0)],
)
def test_up_and_serving(state: str, up: int, serving: int) -> None:
    given = status()
    given["links"]["isp_a"]["state"] = state
    page = render(given)
    assert (value(page, "mwan_link_up", **ISP_A), value(page, "mwan_link_serving", **ISP_A)) == (up, serving)


def test_lines_of_one_name_stand_together_after_their_help_and_type() -> None:
    order = [line.split()[2] for line in PAGE.splitlines() if line.startswith("# HELP")]
    assert order == list(families(PAGE))
    current = ""
    for line in PAGE.splitlines():
        if line.startswith("#"):
            current = line.split()[2]
        else:
            assert line.startswith(current), line


def test_a_young_process_leaves_out_what_it_does_not_know() -> None:
    given = status(links={}, counters=Counters().dump(), traffic={})
    page = render(given)
    told = families(page)
    assert "mwan_build_info" in told
    assert "mwan_converges_total" in told
    assert not {"mwan_link_state", "mwan_converge_last_successful", "mwan_link_connections"} & set(told)


def test_a_refused_configuration() -> None:
    assert value(render(status(problem="links[0].weight: -1 is no weight")), "mwan_reload_last_successful") == 0


def test_a_link_without_targets_has_no_quality() -> None:
    given = status()
    given["links"]["isp_a"].update(targets=[], loss=None, rtt=None)
    page = render(given)
    assert value(page, "mwan_link_loss_ratio", **ISP_A) is None
    assert value(page, "mwan_link_loss_ratio", **ISP_B) == 0


@pytest.mark.parametrize(
    ("drained", "since"), [({"since": "2023-11-14T22:15:00+00:00", "why": "test"}, 1700000100), ({"why": "test"}, None)]
)
def test_a_drained_link_is_so_since_it_was_drained(drained: dict[str, str], since: float | None) -> None:
    given = status()
    given["links"]["isp_a"].update(state="drained", drained=drained)
    assert value(render(given), "mwan_link_since_timestamp_seconds", **ISP_A) == since


def test_connections_that_cannot_be_counted_are_left_out() -> None:
    page = render(status(traffic={"devices": {"wan1": {"received": 1, "sent": 2}}, "error": "not permitted"}))
    assert value(page, "mwan_device_receive_bytes_total", device="wan1") == 1
    assert not {"mwan_link_connections", "mwan_connections_counted_timestamp_seconds"} & set(families(page))


def test_two_targets_of_one_label_are_one_series_with_the_worse_figures() -> None:
    given = status()
    first = given["links"]["isp_a"]["targets"][0]
    twins = [{**first, "loss": 0.25, "excluded": True}, {**first, "loss": 0.5}, {**first, "loss": None}]
    given["links"]["isp_a"]["targets"] = twins
    page = render(given)
    names = {"link": "isp_a", "target": first["target"]}
    assert value(page, "mwan_target_loss_ratio", **names) == 0.5
    assert value(page, "mwan_target_excluded", **names) == 1


def test_labels_are_escaped() -> None:
    given = status()
    given["links"]["isp_a"]["targets"][0]["target"] = '/bin/check "a\\b"\n'
    assert value(render(given), "mwan_target_excluded", link="isp_a", target=r"/bin/check \"a\\b\"\n") == 0
