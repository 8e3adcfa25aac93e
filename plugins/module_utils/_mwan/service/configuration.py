# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stored document and the operator's word, and whether somebody has written them anew."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from .. import store
from ..document import Document
from ..errors import InputError, KernelError
from ..ports import FilePort

PATHS = (store.DOCUMENT, store.DRAINED)
Stamp = tuple[tuple[int, int, int], ...]


class Configuration:
    """`document` is the last good one; `problem` says what is wrong with the newest, "" when nothing is.

    `stored` is whether there is one at all: to what was never declared, or was removed, nothing may be done.
    """

    def __init__(self, files: FilePort, look: Callable[[], Stamp]) -> None:
        self._files, self._look = files, look
        self._stamp: Stamp | None = None
        self.document = Document()
        self.drained: dict[str, dict[str, Any]] = {}
        self.stored = False
        self.problem = ""

    def is_new(self) -> bool:
        """Whether the files are others than when they were last read."""
        return self._look() != self._stamp

    def load(self) -> None:
        """Read the files; a document that cannot be used changes nothing but `problem`."""
        self._stamp = self._look()
        try:
            self.drained = store.load_drained(self._files)
            stored = self._files.read(store.DOCUMENT) is not None
            self.document, self.problem, self.stored = store.load_document(self._files), "", stored
        except (InputError, KernelError) as exc:
            self.problem = str(exc)


def last_health(files: FilePort) -> Any:
    """The health document of an earlier process, as it is; None where there is none that can be read."""
    try:
        return json.loads(files.read(store.HEALTH) or "null")
    except (ValueError, KernelError):
        return None


def stamp() -> Stamp:
    """Modification time, inode and size of each file."""
    return tuple(_stamp(path) for path in PATHS)


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0, 0
    # of the inode, whose time also moves when a file that could not be read is given to us
    return found.st_ctime_ns, found.st_ino, found.st_size
