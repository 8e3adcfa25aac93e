# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The gateway is a router with two links, so there is something to take away."""

from __future__ import annotations

from lab import connections, new_tag, run


def test_the_lan_uses_both_links() -> None:
    assert set(connections("client", "7.7.7.7", new_tag(), 40)) == {"5.5.5.5", "6.6.6.6"}


def test_the_list_of_everything_tells_what_came() -> None:
    before = set(run("router", "cat /root/before").splitlines())
    after = set(run("router", "/usr/local/lib/lab/everything.sh").splitlines())
    kinds = {line.split(":")[0] for line in after - before}

    assert kinds >= {"rule", "route", "nftables", "connection", "sysctl", "file", "content", "user", "group", "unit"}
    assert "runs" in kinds
