# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lines of a file that another process appends to and now and then begins anew under the same name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO

from .. import local


class Tail:
    """Tells whole lines, in order, each once, also those written to a file just before it was replaced."""

    def __init__(self, path: str) -> None:
        """What is in the file now is left out."""
        self._path = path
        self._file: IO[str] | None = self._opened()
        self._begun = ""
        if self._file:
            self._file.seek(0, os.SEEK_END)

    def new(self) -> Iterator[str]:
        """The lines since the last call."""
        yield from self._rest()
        if self._replaced():
            # what came between the last line and the replacement
            yield from self._rest()
            self.close()
            self._file = self._opened()
            yield from self._rest()

    def close(self) -> None:
        if self._file:
            self._file.close()
        self._file, self._begun = None, ""

    def _opened(self) -> IO[str] | None:
        try:
            return os.fdopen(local.open_regular(self._path, os.O_RDONLY), encoding="utf-8")
        except FileNotFoundError:
            return None

    def _rest(self) -> Iterator[str]:
        for piece in self._file or ():
            self._begun += piece
            if self._begun.endswith("\n"):
                line, self._begun = self._begun[:-1], ""
                yield line

    def _replaced(self) -> bool:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return False
        return self._file is None or found.st_ino != os.fstat(self._file.fileno()).st_ino
