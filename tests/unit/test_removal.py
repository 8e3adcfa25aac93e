# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What takes our chains away, when a play has nothing left to do, and names that are nearly those of variables."""

from __future__ import annotations

import pwd
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from _mwan import changes
from _mwan.document import Document
from _mwan.removal import removal_text
from ansible_collections.multiwan.linux.plugins.filter.misspelt import misspelt
from ansible_collections.multiwan.linux.plugins.module_utils.traces import account_is_ours
from jinja2 import Environment

ROOT = Path(__file__).parents[2]

LISTED = """
-P PREROUTING ACCEPT
-N DOCKER
-N MWAN_OUTPUT
-N MWAN_SAVE
-A PREROUTING -s 10.0.0.0/8 -j DOCKER
-A OUTPUT -j MWAN_OUTPUT
-A MWAN_OUTPUT -j MWAN_SAVE
"""
DECLARED: dict[str, Any] = {
    "links": [{"name": "isp_a", "device": "wan1"}],
    "snat": [{"link": "isp_a"}],
    "policies": [{"name": "all", "members": [{"link": "isp_a"}]}],
    "default_policy": "all",
    "ip_forward": False,
    "purge": True,
}


def test_jumps_go_before_chains_and_those_of_others_stay() -> None:
    lines = ["*mangle", "-D OUTPUT -j MWAN_OUTPUT", "-F MWAN_OUTPUT", "-F MWAN_SAVE", "-X MWAN_OUTPUT", "-X MWAN_SAVE"]
    assert removal_text("mangle", LISTED) == "\n".join([*lines, "COMMIT", ""])
    assert removal_text("mangle", "-P INPUT ACCEPT\n-N DOCKER\n") == ""


@pytest.mark.parametrize(
    "more",
    [
        {"links": [*DECLARED["links"], {"name": "isp_b", "device": "wan2"}]},
        {"links": [{"name": "isp_a", "device": "wan2"}]},
        {"snat": []},
        {"default_policy": ""},
        {"ip_forward": True},
        {"multipath_hash": "layer3"},
        {"rp_filter": {"mode": "loose"}},
        {"probe": {"profile": "fast"}},
    ],
)
def test_anything_declared_otherwise_is_left_to_do(more: dict[str, Any]) -> None:
    document = changes.assume(Document(), DECLARED).check()
    assert changes.is_all(document, DECLARED)
    assert not changes.is_all(document, {**DECLARED, **more})


def test_a_link_that_is_not_listed_is_left_to_purge() -> None:
    second = {"name": "isp_b", "device": "wan2"}
    document = changes.assume(Document(), {**DECLARED, "links": [*DECLARED["links"], second]}).check()
    assert not changes.is_all(document, DECLARED)
    assert changes.is_all(document, {**DECLARED, "purge": False})


def test_near_names_are_told_and_names_of_others_are_not() -> None:
    known = ["mwan_links", "mwan_policies", "mwan_snat"]
    names = ["mwan_links", "mwan_link", "mwan_polices", "mwan_links_of_berlin", "mwan_why", "mwan_snat_a"]
    assert misspelt(names, known) == {"mwan_link": "mwan_links", "mwan_polices": "mwan_policies"}


def test_the_refusal_of_near_names_ends_with_the_line_that_accepts_them() -> None:
    tasks = yaml.safe_load((ROOT / "roles" / "router" / "tasks" / "check.yml").read_text(encoding="utf-8"))
    task = next(task for task in tasks if "mwan_misspelt" in task.get("vars", ()))
    message = task["ansible.builtin.assert"]["fail_msg"]
    near = {"mwan_probes": "mwan_probe", "mwan_snats": "mwan_snat"}
    told = Environment().from_string(message).render(mwan_misspelt=near, mwan_accept=["docker"])
    assert told.endswith(" mwan_accept: [docker, mwan_probes, mwan_snats]")
    assert "{} is no variable of the role, which has {}.".format(*next(iter(near.items()))) in told
    assert "difference(mwan_accept)" in task["vars"]["mwan_misspelt"]


@pytest.mark.parametrize(("comment", "ours"), [("multi-WAN prober", True), ("", False), ("Maria Wanner", False)])
def test_an_account_of_somebody_else_is_not_ours(monkeypatch: pytest.MonkeyPatch, comment: str, ours: bool) -> None:
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: SimpleNamespace(pw_gecos=comment))
    assert account_is_ours() is ours


def test_no_account_may_have_left_its_group() -> None:
    assert account_is_ours("nobody-of-this-name")
