# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Keep one network and mount namespace alive, and leave nothing behind when the owner ends.

Run with one argument, a JSON object: ``state`` (directory of this host), ``forward`` (IPv4 forwarding) and
``overlay`` (false: build the private directories without overlayfs). Prints ``ready`` once everything stands.

Standard input is a pipe whose other end the owner holds. Its end, for whatever reason (close, exception, SIGKILL of
the owner), is the order to kill every process of the namespace, remove the state directory and exit. A pipe and not
PR_SET_PDEATHSIG, because that signal is sent when the *thread* that started us ends.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import sys
import time
from pathlib import Path

# linux/sched.h, linux/mount.h, linux/if.h, linux/sockios.h
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 0x1000, 0x4000, 0x40000, 2
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1

PRIVATE = ("/etc", "/usr/local/lib", "/usr/local/bin", "/usr/local/sbin", "/usr/local/share", "/var/lib")
# What an installed router would have left: a lab host is always a fresh machine. Two of them whole, because the role
# writes deeper in them than a directory is private without overlayfs.
FORGET = (
    "/etc/mwan",
    "/etc/iproute2/rt_tables.d/mwan.conf",
    "/etc/iproute2/rt_protos.d/mwan.conf",
    "/etc/sysctl.d/90-mwan.conf",
    "/etc/systemd/system/mwan.service",
    "/usr/local/lib/mwan",
    "/var/lib/mwan",
    "/usr/local/bin/mwanctl",
    "/usr/local/sbin/mwanctl",
    "/usr/local/share/man",
    "/usr/local/share/bash-completion",
)
libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def mount(source: str, target: Path, kind: str, flags: int = 0, data: str = "") -> None:
    result = libc.mount(source.encode(), str(target).encode(), kind.encode(), flags, data.encode() or None)
    checked(result, f"mount {kind or 'bind'} on {target}")


def overlay(original: Path, store: Path) -> None:
    (store / "upper").mkdir(parents=True)
    (store / "work").mkdir()
    mount("overlay", original, "overlay", 0, f"lowerdir={original},upperdir={store}/upper,workdir={store}/work")


def stand_in(original: Path, store: Path) -> None:
    """The same view without overlayfs: /etc is copied, elsewhere every entry of the first level is bound."""
    if original == Path("/etc"):
        shutil.copytree(original, store, symlinks=True, ignore_dangling_symlinks=True)
    else:
        store.mkdir()
        for entry in original.iterdir():
            if str(entry) not in FORGET:
                bind_entry(entry, store / entry.name)
    mount(str(store), original, "", MS_BIND | MS_REC)


def bind_entry(entry: Path, place: Path) -> None:
    if entry.is_symlink():
        place.symlink_to(entry.readlink())
    elif entry.is_dir():
        place.mkdir()
        mount(str(entry), place, "", MS_BIND | MS_REC)
    elif entry.is_file():
        place.touch()
        mount(str(entry), place, "", MS_BIND)


def forget(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def private_directories(state: Path, use_overlay: bool) -> None:
    store = state / "private"
    store.mkdir()
    mount("tmpfs", store, "tmpfs", 0, "mode=0755")
    for name in PRIVATE:
        original, place = Path(name), store / name.strip("/").replace("/", "-")
        if original.is_dir():
            (overlay if use_overlay else stand_in)(original, place)
    for name in FORGET:
        if Path(name).exists():
            forget(Path(name))
    mount("tmpfs", Path("/run"), "tmpfs", 0, "mode=0755")
    Path("/run/lock").mkdir()


def sysctl(key: str, value: int) -> None:
    path = Path("/proc/sys", key)
    if path.exists():
        path.write_text(f"{value}\n", encoding="ascii")


def known_sysctls(forward: bool) -> None:
    """A new namespace inherits the machine's IPv4 settings (net.core.devconf_inherit_init_net): set what matters."""
    for scope in ("all", "default"):
        sysctl(f"net/ipv6/conf/{scope}/disable_ipv6", 1)
        sysctl(f"net/ipv4/conf/{scope}/rp_filter", 0)
        sysctl(f"net/ipv4/conf/{scope}/ignore_routes_with_linkdown", 0)
        sysctl(f"net/ipv4/conf/{scope}/src_valid_mark", 0)
        sysctl(f"net/ipv4/conf/{scope}/send_redirects", 0)
    sysctl("net/ipv4/ip_forward", int(forward))


def loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack_from("16sH", fcntl.ioctl(sock, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def network_namespace() -> str:
    return os.readlink("/proc/self/ns/net")


def inhabitants() -> list[int]:
    """Every other process in our network namespace."""
    ours = network_namespace()
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and int(entry) != os.getpid() and os.readlink(f"/proc/{entry}/ns/net") == ours:
                found.append(int(entry))
        except OSError:  # it ended while we looked
            continue
    return found


def kill_inhabitants() -> None:
    deadline = time.monotonic() + 5.0
    while (pids := inhabitants()) and time.monotonic() < deadline:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.002)


def remove_state(state: Path) -> None:
    libc.umount2(str(state / "private").encode(), MNT_DETACH)
    shutil.rmtree(state, ignore_errors=True)
    lab = state.parent
    if not list(lab.glob("host-*")):  # the last host puts out the light
        shutil.rmtree(lab, ignore_errors=True)


def build(options: dict[str, object]) -> None:
    checked(libc.unshare(CLONE_NEWNS | CLONE_NEWNET), "unshare")
    mount("none", Path("/"), "", MS_REC | MS_PRIVATE)
    mount("sysfs", Path("/sys"), "sysfs")
    private_directories(Path(str(options["state"])), bool(options["overlay"]))
    known_sysctls(bool(options["forward"]))
    loopback_up()


def main() -> None:
    options = json.loads(sys.argv[1])
    state = Path(options["state"])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    outside = network_namespace()
    try:
        build(options)
        print("ready", flush=True)
        while os.read(0, 1):
            pass
    finally:
        if network_namespace() != outside:  # never where we came from, should unshare have failed
            kill_inhabitants()
        remove_state(state)


if __name__ == "__main__":
    main()
