# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What docs/monitoring offers works, by promtool's word, and asks for nothing that the prober does not tell."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from _mwan.service.metrics import render
from unit.service.pages import families, names, samples, status

CHECKOUT = Path(__file__).resolve().parents[2]
MONITORING = CHECKOUT / "docs" / "monitoring"
RULES, RULE_TESTS = MONITORING / "mwan.rules.yml", MONITORING / "mwan.rules.test.yml"
PAGE = render(status())
# of the node exporter, which reads the text file
FOREIGN = {"node_textfile_mtime_seconds": {"file"}}
SCRAPED = {"job", "instance"}
# what Grafana puts into an expression
GRAFANA = {"$__rate_interval": "5m", "$__range": "6h", "$instance": ".*", "$link": ".*"}

SELECTOR = re.compile(r"\b((?:mwan|node)_[a-z_]+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)")


@pytest.fixture(scope="session")
def promtool() -> str:
    found = shutil.which("promtool", path=f"{CHECKOUT / '.cache'}{os.pathsep}{os.environ['PATH']}")
    if found is None and os.environ.get("CI"):
        pytest.fail("no promtool; tools/setup.sh promtool fetches it")
    return found or pytest.skip("no promtool; tools/setup.sh promtool fetches it on Debian and Ubuntu")


def run(*command: str | Path, text: str = "") -> str:
    """What the command says; the test fails with it when the command does."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((MONITORING / "mwan-dashboard.json").read_text())
    return found


def dashboard_expressions() -> dict[str, str]:
    """By panel and letter, as Prometheus gets them."""
    found = {}
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for variable, value in GRAFANA.items():
                expression = expression.replace(variable, value)
            found[f"{panel['title']} {target['refId']}"] = expression
    return found


def expressions() -> Iterator[tuple[str, str]]:
    yield from dashboard_expressions().items()
    for rule in alerts():
        yield rule["alert"], rule["expr"]


# promtool


def test_the_page_is_as_prometheus_wants_it(promtool: str) -> None:
    assert run(promtool, "check", "metrics", text=PAGE) == ""


def test_the_alert_rules_are_valid(promtool: str) -> None:
    assert f"{len(alerts())} rules found" in run(promtool, "check", "rules", RULES)


def test_the_alert_rules_pass_their_tests(promtool: str) -> None:
    run(promtool, "test", "rules", RULE_TESTS)


def test_the_dashboard_asks_what_prometheus_understands(promtool: str, tmp_path: Path) -> None:
    """Also when two routers are shown at once; and each expression gives something."""
    asked = dashboard_expressions().values()
    recorded = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(asked)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    shown = {
        "expr": 'group by (__name__) ({__name__=~"panel:.+"})',
        "eval_time": "10m",
        "exp_samples": [{"labels": rule["record"], "value": 1} for rule in recorded],
    }
    scene = {"interval": "15s", "input_series": list(series_of_two_routers()), "promql_expr_test": [shown]}
    tests = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [scene]}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))
    assert run(promtool, "test", "rules", tmp_path / "tests.yml").strip().endswith("SUCCESS")


def series_of_two_routers() -> Iterator[dict[str, str]]:
    """The page's samples for a quarter of an hour, in the notation of promtool; what only grows does so."""
    kinds = families(PAGE)
    for (name, labels), value in samples(PAGE).items():
        grows = kinds.get(name) != "gauge"
        for instance in ("r1", "r2"):
            pairs = sorted({*labels, ("job", "mwan"), ("instance", instance)})
            given = ",".join(f'{label}="{text}"' for label, text in pairs)
            yield {"series": f"{name}{{{given}}}", "values": "0+1x60" if grows else f"{value}+0x60"}


# what is asked for is told


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_metrics_and_labels_exist(where: str, expression: str) -> None:
    known: dict[str, set[str]] = {name: set(SCRAPED) for name in names(PAGE)}
    for name, labels in samples(PAGE):
        known[name] |= {label for label, _value in labels}
    known.update({name: labels | SCRAPED for name, labels in FOREIGN.items()})
    asked = SELECTOR.findall(expression)
    assert asked, where
    for name, matchers in asked:
        assert name in known, where
        assert set(MATCHER.findall(matchers)) <= known[name], where


def test_every_alert_is_seen_to_fire_and_not_to() -> None:
    tested = [
        test for group in yaml.safe_load(RULE_TESTS.read_text())["tests"] for test in group.get("alert_rule_test", ())
    ]
    listed = {rule["alert"] for rule in alerts()}
    assert {test["alertname"] for test in tested if test["exp_alerts"]} == listed
    assert {test["alertname"] for test in tested if not test["exp_alerts"]} == listed


def test_every_metric_is_in_the_table() -> None:
    text = (CHECKOUT / "docs" / "monitoring.md").read_text()
    table = dict(re.findall(r"^\| `(mwan_[a-z_]+)[^`]*` \| (\w+) \|", text, re.MULTILINE))
    assert table == families(PAGE)


# Grafana


def test_panels_have_their_own_number_and_place() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"], (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_variables_are_declared_and_every_panel_asks_the_chosen_source() -> None:
    board = dashboard()
    declared = {variable["name"] for variable in board["templating"]["list"]}
    asked = [target for panel in board["panels"] for target in panel.get("targets", ())]
    used = {name for target in asked for name in re.findall(r"\$(\w+)", target["expr"]) if not name.startswith("__")}
    assert used | {"datasource"} == declared
    assert {target["datasource"]["uid"] for target in asked} == {"${datasource}"}
    assert all(f"${name}" in GRAFANA for name in used)
