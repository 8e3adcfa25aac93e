# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The router's own files, sysctls and the lock that serialises everything that changes it."""

from __future__ import annotations

import fcntl
import grp
import os
import pwd
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Callable

from .errors import KernelError
from .hostfacts import HostFacts, Wanted

PROC_SYS = "/proc/sys/"
LOCK = "/run/mwan/lock"
# held by the prober as long as it runs
PROBER_LOCK = "/run/mwan/mwand.lock"
# there from the moment that something is installed for the prober until mwan.service starts with it
RESTART = "/run/mwan/restart"
# the prober's to write: what is there must neither block root's runs nor lead them elsewhere
PROBERS = ("/run/mwan/", "/var/lib/mwan/")
PRIVATE = 0o640
# where version 2 of the control groups is, alone or beside version 1 (cgroups(7), systemd's hybrid layout)
CGROUPS = ("/sys/fs/cgroup/cgroup.controllers", "/sys/fs/cgroup/unified/cgroup.controllers")
UNSEEN = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")
PROBERS_GROUP = "mwan"
_texts: dict[str, str] = {}
LOCK_WAIT = 30.0  # seconds; the longest apply measured is under two


class Sysctl:
    """The SysctlPort: keys in slash form, so that device names with dots stay whole."""

    def read(self, keys: Iterable[str]) -> Mapping[str, str]:
        found = {}
        for key in keys:
            try:
                with open(PROC_SYS + key, encoding="ascii") as handle:
                    found[key] = handle.read().strip()
            except OSError:
                continue
        return found

    def write(self, key: str, value: str) -> None:
        try:
            with open(PROC_SYS + key, "w", encoding="ascii") as handle:
                handle.write(value)
        except FileNotFoundError as exc:
            # a device that went a moment ago has nothing to be set; any other key should exist
            if not key.startswith("net/ipv4/conf/"):
                raise KernelError("sysctl", f"{key} = {value}", "the kernel does not have it") from exc
        except OSError as exc:
            raise KernelError("sysctl", f"{key} = {value}", str(exc.strerror)) from exc


class Files:
    """The FilePort: whole files, replaced by rename so that a reader sees the old or the new one."""

    def read(self, path: str) -> str | None:
        try:
            with os.fdopen(open_regular(path, os.O_RDONLY), encoding="utf-8") as handle:
                return handle.read()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise KernelError("read", path, str(exc.strerror)) from exc

    def write(self, path: str, text: str | None, mode: int = 0o644) -> None:
        try:
            if text is None:
                _remove(path)
            else:
                _replace(path, text, mode)
        except OSError as exc:
            raise KernelError("write", path, str(exc.strerror)) from exc


def open_regular(path: str, flags: int, mode: int = 0) -> int:
    """A descriptor of a regular file; raises OSError, and KernelError for what is none.

    Opening a FIFO waits for its other end (fifo(7)) unless O_NONBLOCK is given, to which regular files are indifferent.
    """
    flags |= os.O_NONBLOCK | (os.O_NOFOLLOW if path.startswith(PROBERS) else 0)
    descriptor = os.open(path, flags, mode)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise KernelError("open", path, "it is not a regular file; remove it")
    return descriptor


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _replace(path: str, text: str, mode: int) -> None:
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".mwan-", dir=directory)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            os.fchmod(handle.fileno(), mode)
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        os.rename(temporary, path)
    except BaseException:
        _remove(temporary)
        raise


def look_up(wanted: Wanted) -> HostFacts:
    """What rules name, as this host has it now. What cannot be read counts as absent."""
    return HostFacts(
        users={name: _number(name, lambda text: pwd.getpwnam(text).pw_uid) for name in wanted.users},
        groups={name: _number(name, lambda text: grp.getgrnam(text).gr_gid) for name in wanted.groups},
        cgroups={path: _cgroup(path) for path in wanted.cgroups},
        files={path: _text(path) for path in wanted.files},
        hidden=frozenset(filter(_hidden, wanted.files)),
        ahead=time.localtime().tm_gmtoff // 60,
    )


def _number(name: str, find: Callable[[str], int]) -> int | None:
    if name.isdigit():
        return int(name)
    try:
        return find(name)
    except KeyError:
        return None


def _cgroup(path: str) -> int | None:
    """The number that the kernel knows a control group by: its directory's inode (cgroup_id)."""
    for controllers in CGROUPS:
        with suppress(OSError):
            os.stat(controllers)
            return os.stat(os.path.join(os.path.dirname(controllers), path)).st_ino
    return None


def _text(path: str) -> str | None:
    """The file, or what it was when this process could read it last: a look that fails must not empty a set."""
    try:
        with os.fdopen(open_regular(path, os.O_RDONLY), encoding="utf-8", errors="replace") as handle:
            _texts[path] = handle.read()
    except (KernelError, OSError):
        pass
    return _texts.get(path)


def _hidden(path: str) -> bool:
    """Whether the prober cannot read it, which has a user of its own and sees no home directories (mwan.service)."""
    if path.startswith(UNSEEN):
        return True
    parents = [path[:at] for at, letter in enumerate(path) if letter == "/" and at]
    group = _number(PROBERS_GROUP, lambda text: grp.getgrnam(text).gr_gid)

    def allows(place: str, others: int, of_group: int) -> bool:
        found = os.stat(place)
        return bool(found.st_mode & (others | (of_group if found.st_gid == group else 0)))

    try:
        searched = all(allows(parent, stat.S_IXOTH, stat.S_IXGRP) for parent in parents)
        return not (searched and allows(path, stat.S_IROTH, stat.S_IRGRP))
    except OSError:
        return False


@contextmanager
def exclusive(patience: float = LOCK_WAIT) -> Iterator[None]:
    """Hold the router's lock; raises KernelError when another run keeps it for so many seconds."""
    lock = open_lock(LOCK)
    try:
        _wait_for(lock, patience)
        yield
    finally:
        os.close(lock)


def open_lock(path: str) -> int:
    """A descriptor to hold a lock by; raises KernelError.

    flock(2) is content with one that only reads, so who may read the file could block every run: nobody but its owner
    and the group that its directory passes on, whoever makes it, and with whatever umask.
    """
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        lock = open_regular(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, PRIVATE)
        found = os.fstat(lock)
        if os.geteuid() in (0, found.st_uid) and stat.S_IMODE(found.st_mode) != PRIVATE:
            os.fchmod(lock, PRIVATE)
    except OSError as exc:
        raise KernelError("open", path, str(exc.strerror)) from exc
    return lock


def prober_runs() -> bool:
    """Whether somebody holds the prober's lock; also when that cannot be told."""
    try:
        lock = open_regular(PROBER_LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except (OSError, KernelError):
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _wait_for(lock: int, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise KernelError("lock", LOCK, f"another run has held it for {patience:.0f} seconds") from None
            time.sleep(0.05)
