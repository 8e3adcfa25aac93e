# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The router comes back as it was: a link was drained before the reboot of side_effect.yml."""

from __future__ import annotations

from lab import accesses, connections, new_tag, run, run_json, wait_until

SERVER = "7.7.7.7"
LINKS = {"isp_a": "5.5.5.5", "isp_b": "6.6.6.6"}


def sources(count: int) -> set[str]:
    """The addresses that the server saw of so many connections of the client."""
    tag = new_tag()
    connections("client", SERVER, tag, count)
    return {access.source for access in accesses("server", tag)}


def test_a_drained_link_stays_so() -> None:
    assert sources(20) == {LINKS["isp_a"]}
    link = run_json("router", "mwanctl status --json")["links"]["isp_b"]
    assert (link["state"], link["drained"]["why"]) == ("drained", "line test")

    run("router", "mwanctl undrain isp_b")
    wait_until(lambda: sources(20) == set(LINKS.values()))


def test_it_is_as_it_should_be() -> None:
    assert run("router", "systemctl is-enabled mwan && systemctl is-active mwan") == "enabled\nactive\n"
    assert "as it should be" in run("router", "mwanctl diff")
