# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Releases of the library on a router. The library travels with the module anyway, so nothing else is transferred."""

from __future__ import annotations

import hashlib
import os
import pkgutil
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import ModuleType

from . import _mwan

# Imported for what they import in turn: everything the programs on the router need travels with the module.
from ._mwan import cgroup, flow, host, inspection
from ._mwan.balance import helper
from ._mwan.console import events, explain, reading, rules, tail
from ._mwan.drill import course
from ._mwan.service import main

PACKAGE = "mwan"
# how our directories are called: a digest, or a release that was being written when the machine stopped
OURS = re.compile(r"[0-9a-f]{12}\Z|\.new-")
ENTRY_POINTS = (cgroup, course, events, explain, flow, helper, host, inspection, main, reading, rules, tail)


class Release:
    """One content of library and programs; its directory is named after a digest of it."""

    def __init__(self, directory: str, programs: Mapping[str, str]) -> None:
        self.directory = directory
        self.programs = programs
        self.files = dict(_sources(_mwan, PACKAGE))
        self.path = os.path.join(directory, self._digest()[:12])

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for name, content in sorted({**self.files, **self.programs}.items()):
            digest.update(f"{name}\0{content}\0".encode())
        return digest.hexdigest()

    def current(self) -> str | None:
        try:
            return os.readlink(self._link())
        except OSError:
            return None

    def is_current(self) -> bool:
        """Whether this release is switched to, and is whole: a power cut can leave files empty."""
        return self.current() == self.path and self._is_whole()

    def _is_whole(self) -> bool:
        contents = {**self.files, **self.programs}
        return all(read_text(os.path.join(self.path, name)) == content for name, content in contents.items())

    def _link(self) -> str:
        return os.path.join(self.directory, "current")

    def install(self) -> None:
        """Write the release beside the others, switch to it in one rename, and drop all but the one before."""
        former = self.current()
        os.makedirs(self.directory, mode=0o755, exist_ok=True)
        if not self._is_whole():
            shutil.rmtree(self.path, ignore_errors=True)
            self._write()
        lead(self._link(), self.path)
        self._clean({self.path, former, self._link()})

    def _write(self) -> None:
        temporary = tempfile.mkdtemp(prefix=".new-", dir=self.directory)
        for name, content in self.files.items():
            _write(os.path.join(temporary, name), content, 0o644)
        for name, content in self.programs.items():
            _write(os.path.join(temporary, name), content, 0o755)
        os.chmod(temporary, 0o755)
        os.rename(temporary, self.path)

    def _clean(self, kept: set[str | None]) -> None:
        for name in os.listdir(self.directory):
            path = os.path.join(self.directory, name)
            if path not in kept and OURS.match(name):
                shutil.rmtree(path, ignore_errors=True)


def _sources(package: ModuleType, name: str) -> Iterator[tuple[str, str]]:
    """Path and text of every module of a package, from the file system or from the archive the module came in."""
    yield os.path.join(name, "__init__.py"), _text(package.__name__, "__init__.py")
    for info in pkgutil.iter_modules(package.__path__):
        if info.ispkg:
            yield from _sources(import_module(f"{package.__name__}.{info.name}"), os.path.join(name, info.name))
        else:
            yield os.path.join(name, f"{info.name}.py"), _text(package.__name__, f"{info.name}.py")


def _text(package: str, name: str) -> str:
    data = pkgutil.get_data(package, name)
    if data is None:
        raise OSError(f"{package} has no {name}")
    return data.decode()


def lead(link: str, target: str) -> None:
    """Make the link lead there in one step, so that there is one at any time."""
    temporary = link + ".new"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(target, temporary)
    os.rename(temporary, link)


def _write(path: str, text: str, mode: int) -> None:
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    with open(path, "w", encoding="utf-8") as handle:
        os.fchmod(handle.fileno(), mode)
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())


def read_text(path: str) -> str | None:
    """None where there is none, or none that is text."""
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except (OSError, UnicodeDecodeError):
        return None
