# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A control group whose processes have a packet mark on every socket they make, so that all of them leave by one link.

A BPF program of type CGROUP_SOCK is run by the kernel for every IPv4 and IPv6 socket that a process of the group
creates (inet_create, BPF_CGROUP_INET_SOCK_CREATE, Linux 4.14 for the mark); `ip vrf exec` binds sockets to a device
the same way. The group is reached over a mount of our own that has no place in the file system (fsmount, Linux 5.2),
so it works wherever the host keeps its groups, and in containers that show none.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
from contextlib import suppress

from .errors import KernelError

PREFIX = "mwan-use-"

# asm/unistd.h of each architecture; the others have the same number everywhere but on alpha
BPF = {
    "x86_64": 321, "i386": 357, "i686": 357, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "s390x": 351,
    "armv6l": 386, "armv7l": 386, "ppc64le": 361, "ppc64": 361, "mips": 4355, "mips64": 5315,
}  # fmt: skip
FSOPEN, FSCONFIG, FSMOUNT = 430, 431, 432
# linux/mount.h
CLOEXEC, FSCONFIG_CMD_CREATE = 1, 6
# linux/bpf.h
BPF_PROG_LOAD, BPF_PROG_ATTACH = 5, 8
PROG_TYPE_CGROUP_SOCK, CGROUP_INET_SOCK_CREATE = 9, 2
# a group inside this one may have its own program instead, so that `use` can be nested
ALLOW_OVERRIDE = 1
# struct bpf_sock: bound_dev_if, family, type, protocol, mark
MARK_OFFSET = 16
# asm-generic/socket.h
SO_MARK = getattr(socket, "SO_MARK", 36)


class MarkedGroup:
    """A new group below that of this process, whose sockets carry `mark` in the bits of `mask`; raises KernelError."""

    def __init__(self, mark: int, mask: int) -> None:
        self.mark = mark
        self.mask = mask
        self.name = f"{PREFIX}{os.getpid()}"
        self._parent = _own_group()
        try:
            _drop_left(self._parent)
            os.mkdir(self.name, dir_fd=self._parent)
            self._group = os.open(self.name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._parent)
        except OSError as exc:
            raise _refused("make a control group", exc) from exc
        try:
            _attach(self._group, _program(mark, mask))
        except KernelError:
            self.remove()
            raise

    def enter(self) -> None:
        """Move this process in, and see that its sockets are marked from now on; raises KernelError."""
        try:
            processes = os.open("cgroup.procs", os.O_WRONLY, dir_fd=self._group)
            os.write(processes, b"0")
            os.close(processes)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                found = probe.getsockopt(socket.SOL_SOCKET, SO_MARK)
        except OSError as exc:
            raise _refused("enter the control group", exc) from exc
        if found & self.mask != self.mark:
            raise KernelError("mark", "the command's sockets", f"they have mark 0x{found:x} instead")

    def remove(self) -> bool:
        """Take the group away; False while processes live in it, which keep their mark."""
        os.close(self._group)
        try:
            os.rmdir(self.name, dir_fd=self._parent)
        except OSError:
            return False
        finally:
            os.close(self._parent)
        return True


def _own_group() -> int:
    """An open directory: this process's group in the unified hierarchy, or the hierarchy's root."""
    try:
        context = _call(FSOPEN, b"cgroup2", CLOEXEC)
        _call(FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0)
        mount = _call(FSMOUNT, context, CLOEXEC, 0)
        os.close(context)
        group = os.open(_own_path(), os.O_RDONLY | os.O_DIRECTORY, dir_fd=mount)
        os.close(mount)
    except OSError as exc:
        raise _refused("mount", exc, "the cgroup2 file system") from exc
    return group


def _own_path() -> str:
    """From the root of our cgroup namespace, which is that of the mount as well (cgroup_namespaces(7))."""
    with open("/proc/self/cgroup", encoding="ascii") as listed:
        paths = [line.rstrip("\n")[3:] for line in listed if line.startswith("0::")]
    path = paths[0].lstrip("/") if paths else ""
    return "." if not path or ".." in path.split("/") else path


def _drop_left(parent: int) -> None:
    """Remove groups whose command went on in the background after its `use` had ended, and has ended since."""
    for name in os.listdir(parent):
        if name.startswith(PREFIX) and not os.path.exists(f"/proc/{name[len(PREFIX) :]}"):
            with suppress(OSError):
                os.rmdir(name, dir_fd=parent)


def _program(mark: int, mask: int) -> int:
    """Load the program; raises KernelError.

    `sock->mark = (sock->mark & ~mask) | mark; return 1` (the socket may be made); r1 is the socket.
    """
    code = b"".join(
        (
            _instruction(0x61, 0x12, MARK_OFFSET, 0),  # r2 = *(u32 *)(r1 + 16)
            _instruction(0x54, 0x02, 0, ~mask & 0xFFFFFFFF),  # w2 &= ~mask
            _instruction(0x44, 0x02, 0, mark),  # w2 |= mark
            _instruction(0x63, 0x21, MARK_OFFSET, 0),  # *(u32 *)(r1 + 16) = r2
            _instruction(0xB7, 0x00, 0, 1),  # r0 = 1
            _instruction(0x95, 0x00, 0, 0),  # exit
        )
    )
    held, license_ = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")
    addresses = ctypes.addressof(held), ctypes.addressof(license_)
    # union bpf_attr for BPF_PROG_LOAD: no log, flags 0, no name, no device, the attach type this is loaded for
    fields = (PROG_TYPE_CGROUP_SOCK, len(code) // 8, *addresses, 0, 0, 0, 0, 0, b"", 0, CGROUP_INET_SOCK_CREATE)
    try:
        return _bpf(BPF_PROG_LOAD, struct.pack("=IIQQIIQII16sII", *fields))
    except OSError as exc:
        raise _refused("load", exc, "the BPF program that marks sockets") from exc


def _instruction(code: int, registers: int, offset: int, value: int) -> bytes:
    """struct bpf_insn; destination and source register share an octet, the destination in its low half where the
    machine is little endian."""
    if struct.pack("=H", 1)[0] == 0:
        registers = (registers & 0xF) << 4 | registers >> 4
    return struct.pack("=BBhI", code, registers, offset, value)


def _attach(group: int, program: int) -> None:
    try:
        _bpf(BPF_PROG_ATTACH, struct.pack("=IIII", group, program, CGROUP_INET_SOCK_CREATE, ALLOW_OVERRIDE))
    except OSError as exc:
        raise _refused("attach", exc, "the BPF program that marks sockets") from exc
    finally:
        os.close(program)


def _bpf(command: int, attributes: bytes) -> int:
    number = BPF.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"the system call's number on {platform.machine()} is not known here")
    held = ctypes.create_string_buffer(attributes, len(attributes))
    return _call(number, command, held, len(attributes))


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _refused(operation: str, error: OSError, subject: str = "for the command") -> KernelError:
    hints = {errno.EPERM: "; it takes root with CAP_SYS_ADMIN", errno.ENOSYS: "; it takes Linux 5.2 or newer"}
    return KernelError(operation, subject, f"{error.strerror}{hints.get(error.errno or 0, '')}")
