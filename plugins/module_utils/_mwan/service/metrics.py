# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The process's status as Prometheus reads it (text format 0.0.4). Pure.

Names follow https://prometheus.io/docs/practices/naming/: base units, `_total` for what only grows. docs/monitoring.md
has the table for people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from ..console.words import moment
from ..health import RESTING, STATES

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
GAUGE, COUNTER, HISTOGRAM = "gauge", "counter", "histogram"
# what follows the family's name, the labels, and the value; None is left out
Sample = tuple[str, Mapping[str, str], Any]
Status = Mapping[str, Any]


@dataclass(frozen=True)
class Family:
    """All samples of one name."""

    name: str
    kind: str
    help: str
    samples: Iterable[Sample]

    def text(self) -> str:
        lines = [
            f"{self.name}{suffix}{_labels(labels)} {_number(value)}\n"
            for suffix, labels, value in self.samples
            if value is not None
        ]
        if not lines:
            return ""
        return "".join([f"# HELP {self.name} {self.help}\n# TYPE {self.name} {self.kind}\n", *lines])


def _labels(labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return repr(int(value) if isinstance(value, bool) else value)


def render(status: Status) -> str:
    """The page for a "status" answer of the control socket, to which "traffic" (traffic.py) may have been added."""
    sections = (_process, _links, _targets, _probes, _changes, _work, _traffic)
    return "".join(family.text() for section in sections for family in section(status))


def _one(value: Any, **labels: str) -> list[Sample]:
    return [("", labels, value)]


def _process(status: Status) -> Iterator[Family]:
    yield Family("mwan_build_info", GAUGE, "The version that runs.", _one(1, version=str(status["version"])))
    yield Family("mwan_start_time_seconds", GAUGE, "When the prober started.", _one(status["started"]))
    yield Family(
        "mwan_held",
        GAUGE,
        "Whether no target answers on any link, so that silence moves nothing.",
        _one(status["held"]),
    )


def _since(entry: Mapping[str, Any]) -> float | None:
    """Seconds since the epoch; None for a draining written by hand without its time."""
    drained = entry["drained"] if entry["state"] == "drained" else None
    return moment(drained.get("since") if drained else entry["since_wall"])


# name, help, and the value in a link's entry
LINK_GAUGES: tuple[tuple[str, str, Callable[[Mapping[str, Any]], Any]], ...] = (
    ("mwan_link_up", "Whether the link is not down.", lambda entry: entry["state"] != "down"),
    (
        "mwan_link_serving",
        "Whether the link's state lets new connections be placed on it.",
        lambda entry: entry["state"] not in RESTING,
    ),
    (
        "mwan_link_ready",
        "Whether the kernel has the link's carrier, device and address.",
        lambda entry: entry.get("ready"),
    ),
    (
        "mwan_link_since_timestamp_seconds",
        "Since when the link is in its state.",
        _since,
    ),
    (
        "mwan_link_silence_seconds",
        "How long ago anything proved the link alive.",
        lambda entry: entry.get("silence"),
    ),
    (
        "mwan_link_silence_limit_seconds",
        "The silence after which the link is down.",
        lambda entry: entry.get("limit"),
    ),
    (
        "mwan_link_loss_ratio",
        "Share of probes lost lately, 0 to 1, as the link is judged by.",
        lambda entry: entry.get("loss"),
    ),
    (
        "mwan_link_round_trip_seconds",
        "Mean round trip of probes lately, as the link is judged by.",
        lambda entry: entry.get("rtt"),
    ),
)


def _links(status: Status) -> Iterator[Family]:
    entries = status["links"]
    labels = {name: {"link": name, "device": entry["device"]} for name, entry in entries.items()}
    states: Iterator[Sample] = (
        ("", {**labels[name], "state": state}, entry["state"] == state)
        for name, entry in entries.items()
        for state in STATES
    )
    yield Family("mwan_link_state", GAUGE, "1 for the state a link is in, 0 for the others.", states)
    for metric, text, value in LINK_GAUGES:
        yield Family(metric, GAUGE, text, [("", labels[name], value(entry)) for name, entry in entries.items()])


def _targets(status: Status) -> Iterator[Family]:
    """Two targets of a link may bear one label: the worse figure is told."""
    lost: dict[tuple[str, str], float] = {}
    excluded: dict[tuple[str, str], bool] = {}
    for name, entry in status["links"].items():
        for target in entry.get("targets", ()):
            key = name, target["target"]
            excluded[key] = target["excluded"] or excluded.get(key, False)
            if target["loss"] is not None:
                lost[key] = max(target["loss"], lost.get(key, 0.0))
    yield Family("mwan_target_loss_ratio", GAUGE, "Share of a target's probes lost lately, 0 to 1.", _by_target(lost))
    yield Family(
        "mwan_target_excluded",
        GAUGE,
        "Whether a target is left out because it answers on no link.",
        _by_target(excluded),
    )


def _by_target(values: Mapping[tuple[str, str], Any]) -> list[Sample]:
    return [("", {"link": link, "target": target}, value) for (link, target), value in values.items()]


PROBE_COUNTERS = (
    ("sent", "Probes sent, those that could not be among them."),
    ("refused", "Probes that got a negative answer."),
    ("failed", "Probes that could not be sent, which says nothing of the path."),
)


def _probes(status: Status) -> Iterator[Family]:
    probes = status["counters"]["probes"]
    listed = {(link, target): counts for link, targets in probes.items() for target, counts in targets.items()}
    for key, text in PROBE_COUNTERS:
        samples = _by_target({names: counts[key] for names, counts in listed.items()})
        yield Family(f"mwan_probes_{key}_total", COUNTER, text, samples)
    trips = [
        sample
        for (link, target), counts in listed.items()
        for sample in _histogram(counts["seconds"], {"link": link, "target": target})
    ]
    yield Family("mwan_probe_round_trip_seconds", HISTOGRAM, "Round trips of the probes that were answered.", trips)


def _histogram(data: Mapping[str, Any], labels: Mapping[str, str]) -> Iterator[Sample]:
    sums = list(accumulate(data["counts"]))
    for bound, count in zip([*map(repr, data["bounds"]), "+Inf"], sums):
        yield "_bucket", {**labels, "le": bound}, count
    yield "_sum", labels, data["sum"]
    yield "_count", labels, sums[-1]


def _changes(status: Status) -> Iterator[Family]:
    samples: Iterator[Sample] = (
        ("", {"link": link, "from": item["from"], "to": item["to"]}, item["count"])
        for link, listed in status["counters"]["changes"].items()
        for item in listed
    )
    yield Family("mwan_link_state_changes_total", COUNTER, "Changes of a link's state.", samples)


def _work(status: Status) -> Iterator[Family]:
    counters = status["counters"]
    runs, reloads, hooks = counters["converges"], counters["reloads"], counters["hooks"]
    results = {"changed": runs["changed"], "unchanged": runs["ok"] - runs["changed"], "failed": runs["failed"]}
    yield Family(
        "mwan_converges_total", COUNTER, "Runs that brought the kernel to the wanted state.", _results(results)
    )
    yield Family(
        "mwan_converge_last_successful", GAUGE, "Whether the last of these runs succeeded.", _one(runs["last_ok"])
    )
    yield Family(
        "mwan_converge_duration_seconds", HISTOGRAM, "How long these runs took.", _histogram(runs["seconds"], {})
    )
    yield Family(
        "mwan_reloads_total", COUNTER, "Times the configuration was read again.", _results(_ok_or_failed(reloads))
    )
    yield Family(
        "mwan_reload_last_successful",
        GAUGE,
        "Whether the stored configuration is the one in force.",
        _one(not status["problem"]),
    )
    yield Family("mwan_hooks_total", COUNTER, "Hooks that were run.", _results(_ok_or_failed(hooks)))
    yield Family(
        "mwan_netlink_overruns_total",
        COUNTER,
        "Times the kernel dropped notifications, so that everything was read anew.",
        _one(counters["overruns"]),
    )


def _ok_or_failed(counts: Mapping[str, int]) -> dict[str, int]:
    return {"ok": counts["ok"], "failed": counts["failed"]}


def _results(counts: Mapping[str, int]) -> list[Sample]:
    return [("", {"result": result}, count) for result, count in counts.items()]


def _traffic(status: Status) -> Iterator[Family]:
    traffic = status.get("traffic", {})
    devices = traffic.get("devices", {})
    for key, name, text in (
        ("received", "mwan_device_receive_bytes_total", "Octets that came in by a device that carries links."),
        ("sent", "mwan_device_transmit_bytes_total", "Octets that left by a device that carries links."),
    ):
        samples = [("", {"device": device}, counts[key]) for device, counts in devices.items()]
        yield Family(name, COUNTER, text, samples)
    connections = traffic.get("connections", {})
    pinned = [("", {"link": link}, count) for link, count in connections.items()]
    yield Family("mwan_link_connections", GAUGE, "Connections pinned to a link.", pinned)
    yield Family(
        "mwan_connections_counted_timestamp_seconds",
        GAUGE,
        "When the connections were counted.",
        _one(traffic.get("counted")),
    )
    yield Family("mwan_connections_count_duration_seconds", GAUGE, "How long counting took.", _one(traffic.get("took")))
