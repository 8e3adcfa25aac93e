# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""`mwanctl rules`: what each rule has taken, in the order in which they are asked."""

from __future__ import annotations

from _mwan.console import rules
from _mwan.document import Document

DOCUMENT = Document.parse(
    {
        "links": [{"name": "isp_a", "device": "wan1", "gateway": "5.5.5.1"}],
        "policies": [{"name": "only_a", "members": [{"link": "isp_a"}]}],
        "settings": {"classify": "marks"},
        "rules": [
            {"name": "voip", "protocol": "udp", "link": "isp_a"},
            {"name": "sip", "protocol": "udp", "destination_port": "5060", "policy": "only_a"},
            {"name": "mail", "protocol": "tcp", "destination_port": "25", "target": "unreachable"},
        ],
    }
)


def test_rules_are_told_with_what_they_took() -> None:
    built = rules.build(DOCUMENT, {"voip": (17, 3502), "mail": (0, 0)})
    assert rules.lines(built, 80) == [
        "RULE  NEW  OCTETS  TO",
        "voip   17    3502  link isp_a",
        "sip     -       -  policy only_a; never matches, voip takes all of it",
        "mail    0       0  unreachable",
    ]
    assert (built[1]["covered_by"], built[1]["destination_port"]) == ("voip", "5060")


def test_no_rules_are_told_as_none() -> None:
    assert rules.lines(rules.build(Document(), {}), 80) == ["No rule is declared."]
