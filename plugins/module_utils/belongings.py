# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The user of the prober, and what it shares with root's modules: files that are there as they should be."""

from __future__ import annotations

import glob
import grp
import os
import pwd
import stat
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from ._mwan import local, store
from ._mwan.errors import KernelError
from ._mwan.firewall.nftables import Runner
from ._mwan.removal import Step
from .library import read_text

ROOT = "root"
FOR_ALL = 0o644
# of the account in /etc/passwd, which tells it from one that was there before
COMMENT = "multi-WAN prober"
MARK = "# multiwan.linux: "
# What was declared, hooks and the operator's word are root's to write, and the prober reads them; the group of the
# first directory passes on. The last one is for both: nothing of root's is changed there by following a link.
DIRECTORIES = (
    ("/etc/mwan", True, 0o2750),
    ("/etc/mwan/hooks.d", False, 0o755),
    ("/var/lib/mwan", False, 0o755),
    ("/var/lib/mwan/kept", True, 0o2770),
)
# stored before there was a prober
SHARED = (store.DOCUMENT, store.KEPT)


def steps(user: str, run: Runner) -> Iterator[Step]:
    """Make the user with its group, and the directories; each is looked at right before it is made."""
    if _user(user) is None:
        yield Step(f"useradd --system {user}", partial(_add, user, run))
    for path, shared, mode in DIRECTORIES:
        if _differs(path, user if shared else ROOT, mode):
            yield Step(f"install -d {path}", partial(_directory, path, user if shared else ROOT, mode))
    for path in SHARED:
        if os.path.lexists(path) and _differs(path, user, local.PRIVATE):
            yield Step(f"chgrp {user} {path}", partial(_share, path, user))


def _user(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def _group(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _add(name: str, run: Runner) -> None:
    group = ["--user-group"] if _group(name) is None else ["--gid", name]
    words = ["--system", *group, "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
    status, _out, err = run(["useradd", *words, "--comment", COMMENT, name], "")
    if status:
        raise KernelError("useradd", name, err.strip())


def _differs(path: str, group: str, mode: int) -> bool:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return True
    return (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) != (0, _group(group), mode)


def _directory(path: str, group: str, mode: int) -> None:
    os.makedirs(path, exist_ok=True)
    _give(path, os.O_DIRECTORY, group, mode)


def _share(path: str, group: str) -> None:
    _give(path, os.O_NONBLOCK, group, local.PRIVATE)


def _give(path: str, flags: int, group: str, mode: int) -> None:
    """To root and this group; a link in its place is refused (ELOOP)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | flags)
    try:
        os.fchown(descriptor, 0, _group(group) or 0)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def files(wanted: Mapping[str, str]) -> Iterator[tuple[str, Step]]:
    """The paths that are to be written, with the step that does.

    The group is left alone: below /usr/local, Debian's directories pass on one of their own.
    """
    for path, text in sorted(wanted.items()):
        if read_text(path) != text or _kept_by(path) != (0, FOR_ALL):
            yield path, Step(f"write {path}", partial(local.Files().write, path, text, FOR_ALL))


def _kept_by(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_uid, stat.S_IMODE(found.st_mode)


def marked(directories: Iterable[str]) -> list[str]:
    """What the role's template of Squid's configuration begins with."""
    found = [path for place in directories for path in sorted(glob.glob(os.path.join(glob.escape(place), "*.conf")))]
    return [path for path in found if (read_text(path) or "").startswith(MARK)]
