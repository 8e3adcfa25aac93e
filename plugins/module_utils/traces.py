# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the collection has left on a router beside the kernel: the service, files and directories."""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import signal
import socket
import struct
import time
from collections.abc import Iterable

from . import environment
from ._mwan import layout, local, store
from ._mwan.console.control import SOCKET as CONTROL
from .belongings import COMMENT
from .library import OURS

# beside releases and environments: links, a former state of them that a rename was to replace, and wheels
OTHERS = ("current", "current.new", environment.NAME, environment.NAME + ".new", "wheels")

UNIT = "/etc/systemd/system/mwan.service"
UNIT_CHANGES = UNIT + ".d"
HOOKS = "/etc/mwan/hooks.d"
# what mwand and mwanctl have, and nothing else is in; what hooks have left in /run ends with the next boot anyway
TREES = ("/run/mwan", "/var/lib/mwan")
COMMAND = "/usr/local/sbin/mwanctl"
SHARE = "/usr/local/share/"
MANUAL, COMPLETIONS = SHARE + "man/man8", SHARE + "bash-completion/completions"
FILES = (
    *(store.DOCUMENT, *layout.FILES, UNIT, "/etc/systemd/system/multi-user.target.wants/mwan.service"),
    *(MANUAL + "/mwanctl.8", MANUAL + "/mwand.8", COMPLETIONS + "/mwanctl.bash"),
)
# Gone with the last file in them, in this order. Those of manual pages, completions and iproute2 stay, even empty:
# they may have been there before, and packages and people put files into them without looking.
DIRECTORIES = (HOOKS, "/etc/mwan", UNIT_CHANGES)
TEXTFILE = re.compile(r"^ExecStart=.* --metrics-textfile (\S+)$", re.MULTILINE)
LOCK_OF_IPTABLES = "/run/xtables.lock"
CREDENTIALS = struct.Struct("=3i")  # process, user, group (unix(7), SO_PEERCRED)
PATIENCE = 10.0  # seconds for a prober that is told to end; the unit gives it five


def found(directory: str) -> list[str]:
    """Files and directories of ours that are there; `directory` is the library's."""
    files = [*FILES, *_textfile(), *_half_written()]
    files += [COMMAND] if _leads_into(COMMAND, directory) else []
    files += [os.path.join(directory, name) for name in _names(directory) if _is_ours(name)]
    return [path for path in (*files, *TREES) if os.path.lexists(path)]


def remove(paths: Iterable[str], directory: str) -> None:
    """Remove them, and the directories that are empty then; raises OSError."""
    for path in paths:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    for place in (*DIRECTORIES, directory):
        if os.path.isdir(place) and not os.listdir(place):
            os.rmdir(place)
    _give_back_lock()


def kept() -> list[str]:
    """What somebody else has put beside ours, and stays."""
    beside = [path for path in _paths("/etc/mwan") if path not in (store.DOCUMENT, HOOKS)]
    return [*_paths(HOOKS), *_paths(UNIT_CHANGES), *(path for path in beside if path not in _half_written())]


def account_is_ours(user: str = local.PROBERS_GROUP) -> bool:
    """Whether the role has made the prober's account, or there is none, and its group may be left."""
    try:
        return pwd.getpwnam(user).pw_gecos == COMMENT
    except KeyError:
        return True


def _is_ours(name: str) -> bool:
    return name in OTHERS or bool(OURS.match(name) or environment.OURS.match(name))


def _leads_into(link: str, directory: str) -> bool:
    return os.path.islink(link) and os.readlink(link).startswith(directory + "/")


def _textfile() -> list[str]:
    """The metrics that the service has written, as its unit says."""
    try:
        with open(UNIT, encoding="utf-8") as unit:
            return TEXTFILE.findall(unit.read())
    except OSError:
        return []


def _half_written() -> list[str]:
    """What was being written when the machine stopped."""
    places = dict.fromkeys(os.path.dirname(path) for path in (store.DOCUMENT, *layout.FILES))
    return [path for place in places for path in _paths(place) if os.path.basename(path).startswith(".mwan-")]


def _paths(directory: str) -> list[str]:
    return [os.path.join(directory, name) for name in _names(directory)]


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _give_back_lock() -> None:
    """To root alone, as iptables makes it."""
    try:
        if grp.getgrgid(os.stat(LOCK_OF_IPTABLES).st_gid).gr_name == local.PROBERS_GROUP:
            os.chown(LOCK_OF_IPTABLES, 0, 0)
            os.chmod(LOCK_OF_IPTABLES, 0o600)
    except (OSError, KeyError):
        pass


def prober() -> int | None:
    """The process that listens at the prober's socket, whoever has started it; None where there is none."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(CONTROL)
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        except OSError:
            return None
    return int(CREDENTIALS.unpack(credentials)[0])


def end_prober() -> bool:
    """End the prober, whoever has started it; False when it goes on, or is started again at once."""
    deadline = time.monotonic() + PATIENCE
    process = prober()
    if process:
        os.kill(process, signal.SIGTERM)
    while local.prober_runs() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not local.prober_runs()
