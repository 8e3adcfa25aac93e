# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Everything is as it was before the first run, and the host does what it did."""

from __future__ import annotations

import re

from lab import connections, container, new_tag, play, run


def test_everything_is_as_it_was() -> None:
    before = run("router", "cat /root/before").splitlines()
    after = run("router", "/usr/local/lib/lab/everything.sh").splitlines()

    assert (sorted(set(after) - set(before)), sorted(set(before) - set(after))) == ([], [])
    assert after == before


def test_the_lan_leaves_by_the_main_tables_default_route() -> None:
    assert set(connections("client", "7.7.7.7", new_tag(), 40)) == {"5.5.5.5"}
    assert run("router", "curl --silent --max-time 5 http://7.7.7.7/own/") == "5.5.5.5\n"


def test_the_service_and_the_command_are_gone() -> None:
    assert run("router", "systemctl is-system-running").strip() == "running"
    assert container("router").run("systemctl cat mwan.service").rc != 0
    assert container("router").run("command -v mwanctl").rc != 0


def test_a_second_run_changes_nothing() -> None:
    assert re.search(r"^router .* changed=0 .* failed=0 ", play("multiwan.linux.uninstall"), re.MULTILINE)
