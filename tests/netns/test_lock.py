# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The router's lock: root's modules and the prober's user take it in turn, and no other user can block them."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from _mwan import local
from _mwan.errors import KernelError
from _mwan.service import main

PROBER, STRANGER = 65533, 65532  # of nobody


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A lock that is not there yet, in a directory like the one that systemd makes for the prober."""
    with tempfile.TemporaryDirectory() as directory:
        os.chown(directory, PROBER, PROBER)
        Path(directory).chmod(0o2775)
        monkeypatch.setattr(local, "LOCK", f"{directory}/lock")
        yield Path(directory, "lock")


def taking(lock: Path, user: int) -> subprocess.CompletedProcess[str]:
    """Another user takes it, without waiting."""
    identity = [f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    command = ["setpriv", *identity, "flock", "--nonblock", "--conflict-exit-code", "9", str(lock), "true"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_lock_made_by_root_is_the_probers_too_and_nobody_elses(lock: Path, umask: int) -> None:
    former = os.umask(umask)
    try:
        with local.exclusive():
            assert taking(lock, PROBER).returncode == 9, "held, which it could find out"
    finally:
        os.umask(former)
    found = lock.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o640, PROBER)
    assert taking(lock, PROBER).returncode == 0
    assert "Permission denied" in taking(lock, STRANGER).stderr


def test_lock_made_by_the_prober_is_roots_too(lock: Path) -> None:
    assert taking(lock, PROBER).returncode == 0
    assert lock.stat().st_uid == PROBER
    with local.exclusive():
        assert taking(lock, PROBER).returncode == 9
    assert "Permission denied" in taking(lock, STRANGER).stderr


def test_lock_that_everybody_could_hold_is_closed_to_them(lock: Path) -> None:
    lock.touch(0o644)
    assert taking(lock, STRANGER).returncode == 0
    with local.exclusive():
        pass
    assert "Permission denied" in taking(lock, STRANGER).stderr


def test_lock_is_not_followed_to_another_file(lock: Path) -> None:
    """The directory is the prober's to write: root must not make, or open, what it points to."""
    other = lock.with_name("other")
    lock.symlink_to(other)
    with pytest.raises(KernelError, match="Too many levels of symbolic links"), local.exclusive():
        pass
    assert not other.exists()


def test_what_the_prober_leaves_in_place_of_the_lock_blocks_nobody(lock: Path) -> None:
    """Opening a FIFO waits for its other end, which nobody opens."""
    os.mkfifo(lock)
    with pytest.raises(KernelError, match="not a regular file"), local.exclusive():
        pass


@pytest.mark.parametrize("kind", ["fifo", "link"])
def test_what_the_prober_leaves_in_place_of_a_file_blocks_nobody(
    lock: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(local, "PROBERS", (f"{lock.parent}/",))
    path = lock.with_name("health.json")
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/etc/passwd")
    with pytest.raises(KernelError, match="not a regular file" if kind == "fifo" else "symbolic links"):
        local.Files().read(str(path))


def test_second_prober_is_refused_whoever_made_the_lock(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that root started by hand leaves a lock which the one of the service can take."""
    monkeypatch.setattr(main, "LOCK", str(lock))
    with main.only_one():
        assert taking(lock, PROBER).returncode == 9
        with pytest.raises(KernelError, match="another mwand runs"), main.only_one():
            pass
    assert taking(lock, PROBER).returncode == 0


def test_whether_the_prober_runs_is_told_by_its_lock(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "LOCK", str(lock))
    monkeypatch.setattr(local, "PROBER_LOCK", str(lock))
    assert not local.prober_runs(), "it never did"
    with main.only_one():
        assert local.prober_runs()
    assert not local.prober_runs()


def test_prober_starts_while_somebody_looks_whether_it_runs(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "LOCK", str(lock))
    monkeypatch.setattr(main, "LOOKED_AT", 10)
    looking = subprocess.Popen(["flock", "--shared", str(lock), "sleep", "1"])
    try:
        while taking(lock, 0).returncode == 0:
            assert looking.poll() is None
        with main.only_one():
            pass
    finally:
        looking.wait()


@pytest.mark.usefixtures("lock")
def test_lock_that_is_held_is_waited_for_and_named() -> None:
    with local.exclusive(), pytest.raises(KernelError, match="another run has held it"), local.exclusive(0.2):
        pass
