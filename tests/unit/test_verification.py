# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What the end of the role fails for."""

from __future__ import annotations

from ansible_collections.multiwan.linux.plugins.module_utils.verification import problems


def test_a_prober_of_a_former_release_is_a_problem() -> None:
    prober = {"links": {"isp_a": "up"}, "outdated": False}
    found = {"drift": [], "links": {"isp_a": {}}, "prober": prober}
    assert problems(found) == []
    assert "installed before" in problems({**found, "prober": {**prober, "outdated": True}})[0]
