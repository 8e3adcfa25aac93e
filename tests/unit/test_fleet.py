# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Many routers as data and as a table."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from _mwan.console import status
from ansible.errors import AnsibleFilterError
from ansible_collections.multiwan.linux.plugins.filter.fleet import FilterModule as Fleet
from ansible_collections.multiwan.linux.plugins.filter.fleet_table import FilterModule as FleetTable
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
NOW = 1_800_000_000.0
UP: dict[str, Any] = {"state": "up", "since": NOW - 93600, "reason": "answers", "loss": 0.0, "rtt": 0.0123,
                      "shares": {"other": 0.1, "balanced": 0.75}, "connections": 7}  # fmt: skip
DOWN = {**UP, "state": "down", "since": NOW - 65, "reason": 'no "answer"', "rtt": None, "shares": {"balanced": 0}}
POLICIES = {"other": {"default": False}, "balanced": {"default": True}}

collect, lines = Fleet().filters()["fleet"], FleetTable().filters()["fleet_table"]


def told(code: int = 0, summary: str = "MWAN OK", drift: tuple[str, ...] = (), **links: Any) -> dict[str, Any]:
    prober = {"running": True, "silent": None, "version": "1d02311e6211"}
    data = {"at": NOW, "release": "1d02311e6211", "prober": prober, "policies": POLICIES, "links": links}
    return {"rc": code, "stdout": json.dumps({**data, "code": code, "summary": summary, "drift": list(drift)})}


AWAY = {"unreachable": True, "msg": "Task failed: ssh: timed out"}
BARE = {"rc": 2, "stdout": "", "stderr": "", "msg": "Error executing command."}
BROKEN = {
    "rc": 3,
    "stdout": "",
    "stderr": "mwanctl: /etc/mwan/mwan.json: '{' is not JSON",
    "msg": "non-zero return code",
}


def test_each_router_is_told_by_what_it_answered() -> None:
    fleet = collect({"r10": told(isp_a=UP), "r9": AWAY, "r1": BARE, "r2": BROKEN, "r3": {}})
    assert list(fleet["routers"]) == ["r1", "r2", "r3", "r9", "r10"]
    states = {name: (router["state"], router["reason"]) for name, router in fleet["routers"].items()}
    assert states == {
        "r1": ("no mwan", "mwanctl is not installed"),
        "r2": ("failed", "mwanctl: /etc/mwan/mwan.json: '{' is not JSON"),
        "r3": ("failed", "no answer"),
        "r9": ("unreachable", "ssh: timed out"),
        "r10": ("told", None),
    }
    assert [problem.partition(":")[0] for problem in fleet["problems"]] == ["r1", "r2", "r3", "r9"]
    assert fleet["summary"] == "5 routers: 2 failed, 1 in order, 1 no mwan, 1 unreachable; 1 link: 1 up"
    link = fleet["routers"]["r10"]["links"]["isp_a"]
    assert (link["since"], link["share"], link["connections"]) == (93600, 0.75, 7)


def test_what_the_router_itself_finds_wrong_is_a_problem() -> None:
    fleet = collect({"r1": told(1, "MWAN WARNING: isp_b down", isp_a=UP, isp_b=DOWN), "r2": told(isp_a=UP)})
    assert fleet["problems"] == ["r1: MWAN WARNING: isp_b down"]
    assert fleet["summary"] == "2 routers: 1 in order, 1 not in order; 3 links: 1 down, 2 up"


def test_the_table_has_a_line_for_each_link_and_the_routers_own_once() -> None:
    links: dict[str, Any] = {"isp_a": UP, "isp_b": DOWN}
    fleet = collect({"edge2": told(1, "MWAN WARNING: isp_b down", ("ip rule add",), **links), "edge10": AWAY})
    assert lines(fleet) == [
        "ROUTER  LINK   STATE            SINCE  LOSS      RTT  SHARE  DRIFT  PROBER  VERSION       WHY",
        "edge2   isp_a  up             1 d 2 h   0 %  12.3 ms   75 %      1  runs    1d02311e6211  answers",
        "        isp_b  down         1 min 5 s   0 %        -    0 %                               no 'answer'",
        "edge10         unreachable                                                                ssh: timed out",
        "",
        "edge2: MWAN WARNING: isp_b down",
        "edge10: unreachable: ssh: timed out",
        "",
        "2 routers: 1 not in order, 1 unreachable; 2 links: 1 down, 1 up",
    ]


def test_a_router_without_links_and_a_fleet_without_routers_are_shown() -> None:
    assert lines(collect({"r1": told(3, "MWAN UNKNOWN: no link is declared")}))[1].split()[:3] == ["r1", "no", "links"]
    assert lines(collect({})) == ["0 routers: none; 0 links: none"]


def test_differences_are_a_reason_to_warn_where_somebody_has_looked() -> None:
    status_of = {"links": {"isp_a": {**UP, "held": None}}, "policies": {}, "balance": None, "warnings": []}
    prober = {"running": True, "silent": None, "held": False, "stuck": None, "problem": ""}
    found = {**status_of, "prober": prober}
    assert status.check(found)[0] == status.OK
    assert status.check({**found, "drift": []})[0] == status.OK
    code, line = status.check({**found, "drift": ["add", "del"]})
    assert (code, line) == (
        status.WARNING, "MWAN WARNING: 2 differences from what is declared (see `mwanctl diff`)"
    )  # fmt: skip


NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,24}", fullmatch=True)
STATES = st.sampled_from(["up", "degraded", "suspect", "down", "drained", "pending", "unknown"])
TEXTS = st.text(alphabet="abc \"'%:{}-", max_size=200)
LINKS = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9_]{0,15}", fullmatch=True),
    st.builds(lambda state, reason: {**UP, "state": state, "reason": reason}, STATES, TEXTS),
    max_size=60,
)
ANSWERS = st.one_of(
    st.builds(lambda links, text: told(1, text, **links), LINKS, TEXTS),
    st.builds(lambda text: {"unreachable": True, "msg": text}, TEXTS),
)


@given(st.dictionaries(NAMES, ANSWERS, max_size=8))
def test_no_line_is_too_wide_and_every_router_and_link_has_one(answers: dict[str, Any]) -> None:
    fleet = collect(answers)
    found = lines(fleet)
    assert max(map(len, found)) <= 120
    assert not any('"' in line for line in found)
    rows = sum(max(1, len(router["links"])) for router in fleet["routers"].values())
    assert len(found) > rows
    for name, router in fleet["routers"].items():
        assert any(line.split()[:1] == [name] for line in found)
        assert all(any(link in line.split() for line in found) for link in router["links"])


def test_a_large_fleet_is_shown() -> None:
    links: dict[str, Any] = {f"link{number}": UP for number in range(60)}
    found = lines(collect({f"router{number}.example.net": told(**links) for number in range(100)}))
    assert len(found) == 1 + 100 * 60 + 2
    assert len({line.index("answers") for line in found if "answers" in line}) == 1


@pytest.mark.parametrize(("filtered", "value"), [(collect, []), (collect, {"r1": "text"}), (lines, {}), (lines, "x")])
def test_other_input_is_refused(filtered: Any, value: Any) -> None:
    with pytest.raises(AnsibleFilterError, match=r"multiwan\.linux\.fleet"):
        filtered(value)


# the page about it

PAGE = (ROOT / "docs/fleet.md").read_text(encoding="utf-8")


def test_the_page_names_playbooks_that_are_there_with_the_variables_they_read() -> None:
    named = set(re.findall(r"multiwan\.linux\.([a-z]+)\b(?!_)", PAGE)) - {"router", "fleet"}
    assert named == {path.stem for path in (ROOT / "playbooks").glob("*.yml")}
    rows = re.findall(r"^\| (`multiwan\.linux\..*?) \|.*?\| (.*?) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 5
    for playbooks, variables in rows:
        names = re.findall(r"multiwan\.linux\.(\w+)", playbooks)
        texts = "".join((ROOT / f"playbooks/{name}.yml").read_text(encoding="utf-8") for name in names)
        if "role: multiwan.linux.router" in texts:
            texts += (ROOT / "roles/router/defaults/main.yml").read_text(encoding="utf-8")
        assert all(variable in texts for variable in re.findall(r"`(mwan_\w+)`", variables))


def test_what_the_page_would_have_in_files_can_be_read() -> None:
    blocks = re.findall(r"```yaml\n(# \S+\n.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 6
    assert all(yaml.safe_load(block) for block in blocks)


@pytest.mark.parametrize(
    ("ending", "mailed"),
    [("exit 0", []), ("echo table >fleet.txt; exit 2", ["table", "the run"]), ("exit 4", ["No such file", "the run"])],
)
def test_the_mail_of_the_night_has_its_table_and_its_output(tmp_path: Path, ending: str, mailed: list[str]) -> None:
    line = next(line for line in PAGE.splitlines() if line.startswith("    0 6 * * *"))
    for name, text in (("ansible-playbook", f"echo the run; {ending}"), ("mail", "cat >mailed")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "fleet.txt").write_text("of yesterday", encoding="utf-8")
    (tmp_path / "mailed").touch()
    command = line.partition("* * *")[2].replace("/srv/routers", str(tmp_path))
    subprocess.run(["/bin/sh", "-c", command], env={"PATH": f"{tmp_path}:/usr/bin:/bin", "LC_ALL": "C"}, check=True)
    lines = (tmp_path / "mailed").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(mailed)
    assert all(word in line for word, line in zip(mailed, lines, strict=True))
