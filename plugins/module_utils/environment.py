# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A virtual environment with what the library needs, for hosts whose distribution has none or an older one."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ._mwan.errors import KernelError
from ._mwan.firewall.nftables import Runner
from ._mwan.removal import Step
from .library import lead

NAME = "venv"
# an environment that was made whole; what a machine that stopped has left has none
WHOLE = "whole"
OURS = re.compile(r"venv-[0-9a-f]{12}\Z")


class Wheels(NamedTuple):
    """`names` are the files in `directory` that packages are taken from. Without a directory, PyPI is asked."""

    directory: str = ""
    names: Sequence[str] = ()

    def source(self) -> list[str]:
        return ["--no-index", "--find-links", self.directory] if self.directory else []

    def clean(self) -> None:
        """Away with those of an earlier environment."""
        for name in os.listdir(self.directory) if self.directory else ():
            path = os.path.join(self.directory, name)
            if name not in self.names and os.path.isfile(path):
                os.unlink(path)


class Environment:
    """One content, made aside under a name that tells it; `venv` is a link to the one in use.

    `requirements` are texts of requirements files, each for a run of pip of its own. Raises KernelError.
    """

    def __init__(self, directory: str, python: str, requirements: Sequence[str], wheels: Wheels, run: Runner) -> None:
        # another release of Python looks for packages elsewhere
        content = "\0".join([os.path.realpath(python), *requirements, *sorted(wheels.names)])
        self.directory = directory
        self.path = os.path.join(directory, f"{NAME}-{hashlib.sha256(content.encode()).hexdigest()[:12]}")
        self._python = python
        self._requirements = requirements
        self._wheels = wheels
        self._run = run

    def steps(self) -> Iterator[Step]:
        if current(self.directory) != self.path or not self._is_whole():
            yield Step(f"make {self.path}, and use it", self._switch)

    def _is_whole(self) -> bool:
        return os.path.exists(os.path.join(self.path, WHOLE))

    def _switch(self) -> None:
        former = current(self.directory)
        if not self._is_whole():
            self._make()
        lead(os.path.join(self.directory, NAME), self.path)
        # the prober runs from the former one until it is started again
        discard(self.directory, {self.path, former})

    def _make(self) -> None:
        self._wheels.clean()
        shutil.rmtree(self.path, ignore_errors=True)
        os.makedirs(self.directory, mode=0o755, exist_ok=True)
        self._do([self._python, "-m", "venv", self.path])
        pip = [os.path.join(self.path, "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        # else what compiles is fetched as it is today, and runs as root
        pip.append("--no-build-isolation")
        for number, text in enumerate(self._requirements, 1):
            listed = os.path.join(self.path, f"requirements-{number}.txt")
            with open(listed, "w", encoding="utf-8") as handle:
                handle.write(text)
            self._do([*pip, *self._wheels.source(), "--requirement", listed])
        with open(os.path.join(self.path, WHOLE), "w", encoding="utf-8"):
            pass

    def _do(self, command: list[str]) -> None:
        status, out, err = self._run(command, "")
        if status:
            raise KernelError("make", self.path, f"{' '.join(command)}: {(err or out).strip()}")


def current(directory: str) -> str | None:
    try:
        return os.readlink(os.path.join(directory, NAME))
    except OSError:
        return None


def leave(directory: str) -> Iterator[Step]:
    """No environment is wanted any more."""
    if current(directory):
        yield Step(f"give up {current(directory)}", lambda: _leave(directory))


def _leave(directory: str) -> None:
    former = current(directory)
    os.unlink(os.path.join(directory, NAME))
    discard(directory, {former})


def discard(directory: str, kept: set[str | None]) -> None:
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if OURS.match(name) and path not in kept:
            shutil.rmtree(path, ignore_errors=True)
