# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Configuration files of other software, as far as it matters to us."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

TRUE = {"1", "yes", "y", "true", "t", "on"}
FALSE = {"0", "no", "n", "false", "f", "off"}


def assignments(texts: Iterable[str], section: str = "") -> dict[str, str]:
    """What KEY=VALUE lines of files say, read in order; those of one section where one is named.

    Later ones win, and white space, quotes and whole-line comments do not count.
    """
    found: dict[str, str] = {}
    for text in texts:
        inside = not section
        for line in map(str.strip, text.splitlines()):
            if line.startswith("[") and section:
                inside = line == f"[{section}]"
            elif inside and line[:1] not in ("", "#", ";") and "=" in line:
                key, _sign, value = line.partition("=")
                found[key.strip()] = value.strip().strip("\"'")
    return found


def switched(text: str | None, default: bool) -> bool:
    """A boolean as systemd and firewalld write it; what is neither is the default."""
    word = (text or "").lower()
    return word in TRUE or (word not in FALSE and default)


def mapping(text: str) -> Mapping[str, Any]:
    """A JSON object, empty where it is none."""
    try:
        data = json.loads(text)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def sysctls(texts: Iterable[str]) -> dict[str, str]:
    """Of sysctl.d(5): keys with dots, whichever way they are written, and without the "-" that ignores failures."""
    return {key.lstrip("-").replace("/", "."): value for key, value in assignments(texts).items()}


def effective(texts: Mapping[str, str], name: str, directories: Iterable[str]) -> Iterator[str]:
    """The texts that systemd reads of a file NAME.conf: the first one found, then the drop-ins by their name.

    A drop-in of an earlier directory replaces one of the same name in a later one (systemd.unit(5) has the same rules).
    """
    drop_ins: dict[str, str] = {}
    main = None
    for directory in directories:
        main = texts.get(f"{directory}/systemd/{name}.conf") if main is None else main
        for path, text in texts.items():
            if path.startswith(f"{directory}/systemd/{name}.conf.d/"):
                drop_ins.setdefault(path.rpartition("/")[2], text)
    yield main or ""
    yield from (drop_ins[file] for file in sorted(drop_ins))


class Filter:
    """The chains of the filter table, as iptables-save writes them or nft lists those of the nft variant."""

    HEAD = re.compile(r"^\s*chain (\S+) \{$|^:(\S+) (\S+)")
    POLICY = re.compile(r"policy (\w+);")

    def __init__(self, text: str) -> None:
        self.chains: dict[str, list[str]] = {}
        self.policies: dict[str, str] = {}
        current = ""
        for line in map(str.strip, text.splitlines()):
            head = self.HEAD.match(line)
            policy = self.POLICY.search(line)
            if head:
                current = head[1] or head[2]
                self.chains[current] = []
                self.policies[current] = (head[3] or "").lower()
            elif policy and current:
                self.policies[current] = policy[1].lower()
            elif line.startswith("-A "):
                self.chains.setdefault(line.split()[1], []).append(line)
            elif line != "}" and current:
                self.chains[current].append(line)

    def drops(self, chain: str) -> bool:
        return self.policies.get(chain) == "drop"

    def accepts(self, chain: str) -> bool:
        """Whether a rule of the chain lets anything through."""
        return any(re.search(r"\baccept\b|-j ACCEPT\b", rule) for rule in self.chains.get(chain, ()))
