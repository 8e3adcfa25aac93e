# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The firewall through legacy x_tables; the only file that imports python-iptables (`iptc`).

Facts about python-iptables 1.0.1 to 1.2.0 which this file works around:

* Opening a table creates it in the kernel, so tables are opened only when they exist or are about to get rules.
* A rule that jumps looks its target up in all five tables, creating each: our rules know only their own table.
* Tables are cached per process and commit when they are freed: ours are opened without autocommit and forgotten.
* `Chain.append_rule` and the reading of rules pass options through the process's standard output, and decoding an
  extension which the library does not know well can crash: rules are appended as bytes and read as bytes.
* It does not take the lock that keeps iptables programs from overwriting each other's changes.
"""

from __future__ import annotations

import ctypes
import os
import re
import socket
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from typing import Any

from ..errors import KernelError
from .ipsets import Ipsets
from .iptables_entries import count, counted, describe
from .iptables_rules import CHAINS, JUMPS, PREFIX, chains, render, table_rules
from .iptables_sets import sets
from .model import Firewall
from .xtables import Extension, Rule
from .xtables_lock import xtables_lock

# A pin without source NAT would send connections out with an inner address, so the NAT rules, which match nothing
# without pins, are there before the pins and go after them. So do the rules in filter that answer what mangle leaves
# without a mark: if nothing answered that, it would leave by another link with an address of this one.
_SET_UP_ORDER = ("nat", "filter", "mangle")
_LESS_TO_ANSWER_ORDER = ("nat", "mangle", "filter")
_REMOVE_ORDER = ("mangle", "filter", "nat")
_PRESUMED = ("mangle", "nat")  # in use as long as there are any rules of ours
_also_ours: set[str] = set()

_IPT_SO_GET_INFO = 64
_GETINFO = struct.Struct("=32sI5I5III")


class Iptables:
    """FirewallPort on legacy x_tables. Rules live in chains named MWAN_*, each hook has one jump as its first rule.

    A rule anywhere that jumps to one of our chains counts as ours, because it cannot outlive the chain.
    """

    name = "iptables"

    def unavailable(self) -> str | None:
        """Say what is missing, with the packages that have it."""
        try:
            _iptc()
        except KernelError as error:
            return f"{error.reason}; it is in python3-iptables on Debian and Ubuntu, elsewhere pip has python-iptables"
        return None

    def render(self, firewall: Firewall) -> str:
        """Return what `replace` installs, in the form of iptables-save."""
        return render(firewall)

    def listing(self) -> str:
        """Return our chains and the positions of the jumps to them, read from the kernel; raises KernelError.

        The text of an extension is its revision and its data as hexadecimal words of the host. Sets of ours are named
        with a digest of what we have put into them.
        """
        return "".join([*map(_list_table, sorted(_our_tables())), Ipsets().listing()])

    def replace(self, firewall: Firewall) -> None:
        """Make `firewall` the live state, each set and each table in one kernel operation; raises KernelError.

        Rules that go on counting begin with what they, or others of the same name, had counted. What they count between
        the reading and the writing of a table is lost.
        """
        wanted = sets(firewall.classification)
        if wanted:
            Ipsets().load(wanted)
        _write_tables("replace", table_rules(firewall))
        Ipsets().discard([item.name for item in wanted])

    def remove(self) -> None:
        """Take away our jumps, chains and sets; raises KernelError.

        Empty tables stay: the kernel cannot unload one. So do sets that others have filled.
        """
        _write_tables("remove", dict.fromkeys(CHAINS, ()))
        Ipsets().discard()

    def counters(self) -> Mapping[str, tuple[int, int]]:
        """Packets and octets that each declared rule has led, by its name; raises KernelError."""
        if "mangle" not in _our_tables():
            return {}
        with _opened("count", "mangle") as table, _reporting("count", "iptables table mangle"):
            return _counted(table)


def legacy_in_use() -> bool:
    """Tell whether any legacy table of this network namespace holds a rule or a user chain (ours count too).

    Does not need python-iptables; raises KernelError when the kernel refuses to say. The prober's user may not look and
    is told no: the backend was chosen, and stored, before it runs.
    """
    return any(_holds_more_than_policies(table) for table in _live_tables())


@cache
def _iptc() -> Any:
    """The library, loaded at first use.

    That takes 0.2 s and runs modprobe and ldconfig, which nftables hosts need not pay.
    """
    try:
        import iptc
    # without the C libraries of iptables it fails with AttributeError, TypeError or its own error
    except Exception as exc:
        raise KernelError("load", "python-iptables", f"python-iptables cannot be loaded ({exc})") from exc
    return iptc


def _refusals() -> tuple[Any, ...]:
    iptc = _iptc()
    return OSError, iptc.IPTCError, iptc.XTablesError


def _live_tables(presumed: Collection[str] = ()) -> Collection[str]:
    """Return the tables instantiated in this network namespace; none where x_tables is not even loaded.

    The list is root's alone (mode 0440, xt_proto_init in net/netfilter/x_tables.c), and CAP_NET_ADMIN does not open it,
    unlike the tables themselves: whoever lives with that gets the `presumed` ones.
    """
    path = "/proc/net/ip_tables_names"
    with _reporting("read", path), suppress(FileNotFoundError):
        try:
            with open(path, encoding="ascii") as names:
                return names.read().split()
        except PermissionError:
            return presumed
    return ()


def _our_tables() -> set[str]:
    """The live ones; where their list is denied, whether filter is among them is told by what mangle leaves to it."""
    live = _live_tables(_PRESUMED)
    if live is _PRESUMED and re.search("^-A MWAN_PREROUTING .* -j RETURN$", _list_table("mangle"), re.MULTILINE):
        return set(CHAINS)
    return CHAINS.keys() & set(live)


def sizes() -> dict[str, tuple[int, int]]:
    """How many entries, and octets, the tables have that hold rules of ours; raises KernelError.

    It takes microseconds, and hardly anybody changes a table without changing that. Asking creates a table, so filter
    is among them only where this process has put rules into it.
    """
    return {table: _info(table)[-2:] for table in (*_PRESUMED, *_also_ours)}


def _holds_more_than_policies(table: str) -> bool:
    """Compare the number of entries with that of an empty table: one policy per hook and the end marker."""
    info = _info(table)
    hooks, entries = info[1], info[-2]
    return bool(entries > bin(hooks).count("1") + 1)


def _info(table: str) -> tuple[Any, ...]:
    """What the kernel tells of a table: name, hooks, ten offsets, entries, octets (struct ipt_getinfo)."""
    buffer = ctypes.create_string_buffer(table.encode(), _GETINFO.size)
    length = ctypes.c_uint32(_GETINFO.size)
    libc = ctypes.CDLL(None, use_errno=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        if libc.getsockopt(channel.fileno(), socket.IPPROTO_IP, _IPT_SO_GET_INFO, buffer, ctypes.byref(length)):
            raise KernelError("inspect", "iptables table " + table, os.strerror(ctypes.get_errno()))
    return _GETINFO.unpack(buffer.raw)


def _order(rules: Mapping[str, Sequence[Rule]], live: Collection[str]) -> tuple[str, ...]:
    if not rules["mangle"]:
        return _REMOVE_ORDER
    answered = _list_table("filter").count("\n-A ") if "filter" in live else 0
    return _LESS_TO_ANSWER_ORDER if len(rules["filter"]) < answered else _SET_UP_ORDER


def _write_tables(operation: str, rules: Mapping[str, Sequence[Rule]]) -> None:
    """A table of others that holds nothing of ours, and shall not, is not written."""
    live = _our_tables()
    order = _order(rules, live)
    pending = [(table, rules[table]) for table in order if rules[table] or (table in live and _list_table(table))]
    committed: list[str] = []
    with xtables_lock(operation) if pending else nullcontext():
        for table, wanted in pending:
            try:
                _write_table(operation, table, wanted)
            except KernelError as error:
                raise KernelError(error.operation, error.subject, error.reason + _aftermath(committed)) from error
            committed.append(table)


def _aftermath(committed: Sequence[str]) -> str:
    if not committed:
        return "; nothing was changed"
    return "; already committed: table " + ", ".join(committed)


def _write_table(operation: str, name: str, rules: Sequence[Rule]) -> None:
    with _opened(operation, name) as table:
        with _reporting(operation, "iptables table " + name):
            so_far = _counted(table)
            _drop_jumps(table)
            _prepare_chains(table, chains(name, rules) if rules else ())
        rule_class = type("_TableRule", (_iptc().Rule,), {"tables": [table]})
        for rule in rules:
            with _reporting(operation, f"iptables table {name}, chain {rule.chain}"):
                entry = _encode(rule_class(), rule)
                # libiptc sets the counters of what it appends to those of the entry
                count(entry, *so_far.pop(_comment(rule), (0, 0)))
                table.append_entry(rule.chain, entry)
        for hook, chain in JUMPS[name] if rules else ():
            with _reporting(operation, f"iptables table {name}, chain {hook}"):
                table.insert_entry(hook, _encode(rule_class(), _jump(hook, chain)), 0)
        with _reporting(operation, f"iptables table {name}, commit"):
            table.commit()
    if name not in _PRESUMED:
        (_also_ours.add if rules else _also_ours.discard)(name)


def _comment(rule: Rule) -> str:
    return next((match.options[0][1] for match in rule.matches if match.name == "comment"), "")


def _counted(table: Any) -> dict[str, tuple[int, int]]:
    """What the rules of our chains have counted, by their comments."""
    found: dict[str, tuple[int, int]] = {}
    for chain in filter(_is_ours, _chains(table)):
        for entry in _entries(table, chain):
            name, packets, octets = counted(_raw(entry), entry.target_offset)
            before = found.get(name, (0, 0))
            found[name] = before[0] + packets, before[1] + octets
    found.pop("", None)
    return found


def _jump(hook: str, chain: str) -> Rule:
    return Rule(hook, Extension(chain))


def _drop_jumps(table: Any) -> None:
    # Last first, so that the numbers of the others stay true. libiptc deletes by number, the Table class does not.
    for chain, number, _entry in reversed(list(_jumps(table))):
        if table._iptc.iptc_delete_num_entry(chain.encode(), number, table._handle) != 1:
            raise _iptc().IPTCError(f"can't delete jump {number} of chain {chain}: {table.strerror()}")


def _prepare_chains(table: Any, wanted: Sequence[str]) -> None:
    """Leave exactly the wanted chains of ours, empty. All are emptied before any goes: they refer to each other."""
    present = list(filter(_is_ours, _chains(table)))
    for chain in present:
        table.flush_entries(chain)
    for chain in present:
        if chain not in wanted:
            table.delete_chain(chain)
    for chain in wanted:
        if chain not in present:
            table.create_chain(chain)


def _encode(blank: Any, rule: Rule) -> Any:
    """Return the bytes of `rule` as the kernel takes them.

    libxtables keeps the state of an extension between its creation and its last option, so each is finished before
    the next is begun.
    """
    if rule.protocol is not None:
        blank.protocol = rule.protocol
    if rule.source is not None:
        blank.src = rule.source
    if rule.destination is not None:
        blank.dst = rule.destination
    if rule.in_device is not None:
        blank.in_interface = rule.in_device
    if rule.out_device is not None:
        blank.out_interface = rule.out_device
    for match in rule.matches:
        _set_options(blank.create_match(match.name), match)
    _set_options(blank.create_target(rule.target.name, goto=rule.goto), rule.target)
    return blank.rule


def _set_options(live: Any, extension: Extension) -> None:
    for name, value in extension.options:
        quoted = value[:1] == '"'
        live.set_parameter(name, value.strip('"') if quoted or " " not in value else value.split())
    # Not only a check: SNAT and MASQUERADE count their address ranges here. The public final_check() would first
    # print and parse all options again by way of the standard output.
    live._final_check()


def _list_table(name: str) -> str:
    with _opened("list", name) as table, _reporting("list", "iptables table " + name):
        ours = list(filter(_is_ours, _chains(table)))
        lines = [f":{chain}" for chain in ours]
        lines += [f"-I {chain} {at + 1} {_text(table, entry)}" for chain, at, entry in _jumps(table)]
        lines += [f"-A {chain} {_text(table, entry)}" for chain in ours for entry in _entries(table, chain)]
    return "\n".join(["*" + name, *lines, ""]) if lines else ""


def _chains(table: Any) -> list[str]:
    return [chain.name for chain in table.chains]


def _is_ours(chain: str) -> bool:
    return chain.startswith(PREFIX)


def _entries(table: Any, chain: str) -> Iterator[Any]:
    entry = table.first_rule(chain)
    while entry:
        yield entry
        entry = table.next_rule(entry)


def _jumps(table: Any) -> Iterator[tuple[str, int, Any]]:
    """Yield chain, number from 0 and entry of each rule outside our chains that jumps to one of them."""
    for chain in _chains(table):
        if _is_ours(chain):
            continue
        for number, entry in enumerate(_entries(table, chain)):
            if _is_ours(_target(table, entry)):
                yield chain, number, entry


def _target(table: Any, entry: Any) -> str:
    """Return the name of a verdict, chain or extension; '' for a rule that only counts."""
    return (table.get_target(entry) or b"").decode("ascii", "backslashreplace")


def _text(table: Any, entry: Any) -> str:
    return describe(_raw(entry), entry.target_offset, _target(table, entry))


def _raw(entry: Any) -> bytes:
    return ctypes.string_at(ctypes.addressof(entry), entry.next_offset)


@contextmanager
def _opened(operation: str, name: str) -> Iterator[Any]:
    """Give the table as the kernel has it now; what is not committed at the end is dropped."""
    iptc = _iptc()
    with _reporting(operation, "iptables table " + name):
        table = iptc.Table(name, False)
    try:
        yield table
    finally:
        table.close()
        iptc.Table._cache.pop(name, None)


@contextmanager
def _reporting(operation: str, subject: str) -> Iterator[None]:
    try:
        yield
    except KernelError:
        raise
    except OSError as error:
        raise KernelError(operation, subject, _reason(error)) from error
    except _refusals() as error:
        raise KernelError(operation, subject, _reason(error)) from error


def _reason(error: Exception) -> str:
    """python-iptables formats the C string of the reason as a bytes literal."""
    return str(error).replace(": b'", ": ").replace(': b"', ": ").rstrip("'\"")
