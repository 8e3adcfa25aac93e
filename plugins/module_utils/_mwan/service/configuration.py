# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stored document and the operator's word, and whether somebody has written them anew."""

from __future__ import annotations

import json
import os
from typing import Any

from .. import store
from ..document import Document
from ..errors import InputError, KernelError
from ..ports import FilePort

PATHS = (store.DOCUMENT, store.DRAINED)
Stamp = tuple[tuple[int, int, int], ...]


class Configuration:
    """`document` is the last good one; `problem` says what is wrong with the newest, "" when nothing is."""

    def __init__(self, files: FilePort) -> None:
        self._files = files
        self._stamp: Stamp | None = None
        self.document = Document()
        # until a document was understood nothing is known, and nothing may be done
        self.known = False
        self.drained: dict[str, dict[str, Any]] = {}
        self.problem = ""

    def is_new(self) -> bool:
        """Whether a file has another time, inode or size than when it was last read."""
        return stamp() != self._stamp

    def load(self) -> None:
        """Read the files; a document that cannot be used changes nothing but `problem`."""
        self._stamp = stamp()
        try:
            self.drained = store.load_drained(self._files)
            self.document, self.problem, self.known = store.load_document(self._files), "", True
        except (InputError, KernelError) as exc:
            self.problem = str(exc)


def last_health(files: FilePort) -> Any:
    """The health document of an earlier process, as it is; None where there is none that can be read."""
    try:
        return json.loads(files.read(store.HEALTH) or "null")
    except (ValueError, KernelError):
        return None


def stamp() -> Stamp:
    return tuple(_stamp(path) for path in PATHS)


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_ino, found.st_size
