# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Puts the test's own process elsewhere, and back: for adapters whose libraries speak to the kernel of the caller."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000


def _call(function: Callable[..., int], *arguments: object) -> None:
    if function(*arguments) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextmanager
def namespace() -> Iterator[None]:
    """A new network namespace, which dies with its last process."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        _call(libc.unshare, CLONE_NEWNET)
        try:
            yield
        finally:
            _call(libc.setns, home, CLONE_NEWNET)
    finally:
        os.close(home)


@contextmanager
def network_capabilities_only(lock: Path) -> Iterator[None]:
    """Another user with CAP_NET_ADMIN and CAP_NET_RAW, for whom the lock file is prepared."""
    libc = ctypes.CDLL(None, use_errno=True)
    version, capabilities = 0x20080522, 1 << 12 | 1 << 13  # linux/capability.h
    header, data = (ctypes.c_uint32 * 2)(version, 0), (ctypes.c_uint32 * 6)()
    lock.touch()
    os.chown(lock, 65534, 65534)
    groups = os.getgroups()
    os.setgroups([])
    # libxtables ends the process when the real user is another (exit status 111)
    os.setresgid(65534, 65534, 0)
    os.setresuid(65534, 65534, 0)
    try:
        _call(libc.capget, header, data)
        data[0] = capabilities
        _call(libc.capset, header, data)
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)
