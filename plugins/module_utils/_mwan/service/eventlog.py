# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The events of late: a file of JSON lines that is bounded, and the last of them at hand."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Mapping
from typing import Any

from ..errors import KernelError

EVENTS = "/run/mwan/events.jsonl"
FORMER = EVENTS + ".1"
MOST_BYTES = 1 << 20
AT_HAND = 1000


class EventLog:
    """Events as mappings, oldest first."""

    def __init__(self, path: str = EVENTS, most: int = MOST_BYTES) -> None:
        self._path, self._most = path, most
        self.recent: deque[dict[str, Any]] = deque(maxlen=AT_HAND)

    def load(self) -> None:
        """Remember what an earlier process wrote."""
        for path in (self._path + ".1", self._path):
            try:
                with open(path, encoding="utf-8") as handle:
                    self.recent.extend(found for found in map(_parsed, handle) if found)
            except OSError:
                continue

    def add(self, event: Mapping[str, Any]) -> None:
        """Raises KernelError when it cannot be written; it is at hand then, too."""
        self.recent.append(dict(event))
        try:
            with open(self._path, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(event) + "\n")
                full = handle.tell() >= self._most
            if full:
                os.rename(self._path, self._path + ".1")
        except OSError as exc:
            raise KernelError("write", self._path, str(exc.strerror)) from exc


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
