# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors

"""The legacy iptables adapter on the running kernel.

Each test moves its own process into a fresh network namespace and back; namespaces die with their last process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest
from _mwan.errors import KernelError
from _mwan.firewall import iptables, xtables_lock
from _mwan.firewall.iptables import Iptables, legacy_in_use
from _mwan.firewall.model import Firewall, FirewallLink, SourceNat
from lab.inside import namespace, network_capabilities_only

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(iptables.Iptables().unavailable() is not None, reason="python-iptables is missing"),
    pytest.mark.skipif(shutil.which("iptables-legacy") is None, reason="iptables-legacy is missing"),
]

PAIR = Firewall(
    mask=0x3F00,
    links=(
        FirewallLink("isp_a", 0x100, "wan1"),
        FirewallLink("isp_b", 0x200, "wan2"),
        FirewallLink("dsl", 0x300, "seg0", "192.168.100.1", "02:00:00:00:00:01", 3),
        FirewallLink("lte", 0x400, "seg0", "192.168.100.2", None, 4),
    ),
    snat=(
        SourceNat(0x100, "wan1", ("192.168.101.0/24", "10.0.0.1/32"), "5.5.5.5"),
        SourceNat(0x200, "wan2", (), None),
    ),
)

GIVEN_UP = PAIR.resetting({0x100: True, 0x200: False, 0x300: True})

# A host that has rules of its own: Docker-like, in the hooks we use and in one we do not.
FOREIGN = """\
*mangle
:tenant - [0:0]
-A PREROUTING -i lan0 -j MARK --set-xmark 0x10000/0x10000
-A POSTROUTING -j tenant
-A tenant -p tcp -m tcp --dport 22 -m comment --comment "MWAN_SAVE is not here" -j RETURN
COMMIT
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
COMMIT
*filter
[7:777] -A FORWARD -i docker0 -j ACCEPT
COMMIT
"""


@pytest.fixture(autouse=True)
def netns(monkeypatch, tmp_path):
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "xtables.lock"))
    with namespace():
        yield


def run(*command, **options):
    return subprocess.run(command, check=True, text=True, capture_output=True, timeout=60, **options).stdout


def save(*options):
    """Return what iptables-save prints, without its comments and without the counters of hooks."""
    lines = run("iptables-legacy-save", *options).splitlines()
    return [re.sub(r" \[\d+:\d+\]$", "", line) for line in lines if not line.startswith("#")]


def restore(text, *options):
    run("iptables-legacy-restore", *options, input=text)


def legacy(*words):
    run("iptables-legacy", *words)


def tables():
    with open("/proc/net/ip_tables_names", encoding="ascii") as names:
        return set(names.read().split())


@pytest.mark.parametrize(("firewall", "kept_in"), [(PAIR, {"mangle", "nat"}), (GIVEN_UP, {"mangle", "nat", "filter"})])
def test_rendered_text_is_what_replace_installs(firewall, kept_in):
    Iptables().replace(firewall)
    assert tables() == kept_in
    installed = [save("-t", table) for table in sorted(kept_in)]
    with namespace():
        restore(Iptables().render(firewall), "--noflush")
        assert [save("-t", table) for table in sorted(kept_in)] == installed


def test_packets_are_left_without_a_mark_only_while_they_are_answered(monkeypatch):
    written = []
    write = iptables._write_table
    monkeypatch.setattr(iptables, "_write_table", lambda *work: (written.append(work[1]), write(*work)))
    fewer = PAIR.resetting({0x100: True})
    for firewall in (PAIR, fewer, GIVEN_UP, fewer, PAIR, GIVEN_UP):
        Iptables().replace(firewall)
    Iptables().remove()
    pairs = [table for table in written if table != "nat"]
    assert " ".join(pairs) == (
        "mangle filter mangle filter mangle mangle filter mangle filter filter mangle mangle filter"
    )


def test_pair_installs_the_rules_of_each_concern():
    Iptables().replace(PAIR)
    rules = save()
    pin = "-j CONNMARK --set-xmark"
    assert "-A MWAN_ARRIVE -m policy --dir in --pol ipsec -j RETURN" in rules
    assert "-A MWAN_SNAT -m policy --dir out --pol ipsec -j RETURN" in rules
    assert "-A MWAN_PREROUTING -m connmark --mark 0x0/0x3f00 -j MWAN_ARRIVE" in rules
    assert f"-A MWAN_ARRIVE -i seg0 -m mac --mac-source 02:00:00:00:00:01 {pin} 0x300/0x3f00" in rules
    assert [rule for rule in rules if rule.startswith("-A MWAN_SAVE")] == [
        "-A MWAN_SAVE -m policy --dir out --pol ipsec -j RETURN",
        f"-A MWAN_SAVE -o wan1 {pin} 0x100/0x3f00",
        f"-A MWAN_SAVE -o wan2 {pin} 0x200/0x3f00",
        f"-A MWAN_SAVE -o seg0 -m realm --realm 0x3 {pin} 0x300/0x3f00",
        f"-A MWAN_SAVE -o seg0 -m realm --realm 0x4 {pin} 0x400/0x3f00",
        f"-A MWAN_SAVE -o seg0 -m connmark --mark 0x0/0x3f00 {pin} 0x300/0x3f00",
    ]
    assert "-A MWAN_SNAT -s 10.0.0.1/32 -o wan1 -m connmark --mark 0x100/0x3f00 -j SNAT --to-source 5.5.5.5" in rules
    assert "-A MWAN_SNAT -o wan2 -m connmark --mark 0x200/0x3f00 -j MASQUERADE" in rules


def test_replace_twice_changes_nothing():
    Iptables().replace(PAIR)
    first, listing = save(), Iptables().listing()
    Iptables().replace(PAIR)
    assert (save(), Iptables().listing()) == (first, listing)


def test_remove_gives_back_the_rules_that_were_there():
    restore(FOREIGN, "--counters")
    before = save("--counters")
    Iptables().replace(PAIR)
    assert [rule for rule in save("--counters") if "MWAN_" not in rule or "not here" in rule] == before
    Iptables().remove()
    assert save("--counters") == before
    assert Iptables().listing() == ""


def test_nothing_is_created_by_reading_or_removing():
    port = Iptables()
    port.remove()
    port.replace(Firewall(mask=0x3F00))
    assert (port.listing(), port.render(Firewall(mask=0x3F00)), legacy_in_use()) == ("", "", False)
    assert tables() == set()


def test_only_the_tables_that_get_rules_are_created():
    Iptables().replace(dataclasses.replace(PAIR, snat=()))
    assert tables() == {"mangle"}


def test_nat_chain_goes_with_the_last_source_nat():
    Iptables().replace(PAIR)
    Iptables().replace(dataclasses.replace(PAIR, snat=()))
    assert save("-t", "nat") == [
        "*nat",
        ":PREROUTING ACCEPT",
        ":INPUT ACCEPT",
        ":OUTPUT ACCEPT",
        ":POSTROUTING ACCEPT",
        "COMMIT",
    ]


@pytest.mark.parametrize(
    "change",
    [
        "-t mangle -D MWAN_SAVE 2",
        "-t mangle -F MWAN_ARRIVE",
        "-t mangle -R MWAN_SAVE 1 -o wan1 -j CONNMARK --set-xmark 0x200/0x3f00",
        "-t mangle -R MWAN_SAVE 1 ! -o wan1 -j CONNMARK --set-xmark 0x100/0x3f00",
        "-t mangle -R MWAN_SAVE 1 -o wan1+ -j CONNMARK --set-xmark 0x100/0x3f00",
        "-t mangle -R MWAN_PREROUTING 1 -m connmark --mark 0x0/0x3f00 -g MWAN_ARRIVE",
        "-t mangle -R MWAN_PREROUTING 1 -m connmark --mark 0x0/0x3f00 -j MWAN_OUTPUT",
        "-t mangle -A MWAN_SAVE -j RETURN",
        "-t mangle -I MWAN_SAVE -m limit --limit 3/s",
        "-t mangle -N MWAN_EXTRA",
        "-t mangle -D PREROUTING -j MWAN_PREROUTING",
        "-t mangle -A PREROUTING -j MWAN_PREROUTING",
        "-t mangle -R OUTPUT 1 -p udp -j MWAN_OUTPUT",
        "-t mangle -I POSTROUTING -j ACCEPT",
        "-t mangle -A FORWARD -s 10.0.0.0/8 -j MWAN_SAVE",
        "-t nat -R MWAN_SNAT 1 -o wan1 -m connmark --mark 0x100/0x3f00 -j SNAT --to-source 5.5.5.6",
        "-t nat -R MWAN_SNAT 1 -s 192.168.0.0/16 -o wan1 -m connmark --mark 0x100/0x3f00 -j SNAT --to-source 5.5.5.5",
        "-t nat -I POSTROUTING -s 10.0.0.0/8 -j MASQUERADE",
    ],
)
def test_change_by_hand_shows_in_the_listing_and_replace_repairs_it(change):
    port = Iptables()
    port.replace(PAIR)
    intact = port.listing()
    legacy(*change.split())
    assert port.listing() != intact
    port.replace(PAIR)
    assert port.listing() == intact


def test_changes_of_others_do_not_show_in_the_listing():
    port = Iptables()
    port.replace(PAIR)
    intact = port.listing()
    restore(FOREIGN, "--noflush")
    legacy("-t", "mangle", "-A", "POSTROUTING", "-j", "ACCEPT")
    assert port.listing() == intact
    port.replace(PAIR)
    assert port.listing() == intact


def test_remove_takes_jumps_and_chains_made_by_hand_along():
    restore(FOREIGN)
    before = save()
    Iptables().replace(PAIR)
    for words in ("-N MWAN_OLD", "-A tenant -j MWAN_OLD", "-A MWAN_OLD -g MWAN_SAVE", "-I FORWARD -j MWAN_SAVE"):
        legacy("-t", "mangle", *words.split())
    Iptables().remove()
    assert save() == before


def test_legacy_is_in_use_once_a_table_holds_a_rule():
    save("-t", "filter")
    legacy("-t", "filter", "-L")
    assert tables() == {"filter"}
    assert not legacy_in_use()
    legacy("-A", "INPUT", "-j", "ACCEPT")
    assert legacy_in_use()


def test_size_of_filter_counts_while_connections_are_given_up():
    Iptables().replace(GIVEN_UP)
    before = iptables.sizes()
    legacy("-F", "MWAN_FORWARD")
    assert {table for table, size in iptables.sizes().items() if size != before[table]} == {"filter"}
    Iptables().replace(PAIR)
    assert set(iptables.sizes()) == {"mangle", "nat"}


@pytest.mark.parametrize("firewall", [PAIR, GIVEN_UP], ids=["", "connections given up"])
def test_capabilities_do_without_the_list_of_tables(monkeypatch, firewall):
    """As the prober runs: CAP_NET_ADMIN opens the tables, but not the list of them, which is root's."""
    Iptables().replace(firewall)
    listing, before = Iptables().listing(), tables()
    with tempfile.TemporaryDirectory() as directory:
        lock = Path(directory, "xtables.lock")
        Path(directory).chmod(0o755)
        monkeypatch.setenv("XTABLES_LOCKFILE", str(lock))
        with network_capabilities_only(lock):
            with pytest.raises(PermissionError):
                tables()
            assert Iptables().listing() == listing != ""
            assert not legacy_in_use()
            Iptables().replace(dataclasses.replace(PAIR, snat=()))
            assert Iptables().listing() not in ("", listing)
    assert tables() == before
    assert not [rule for rule in save("-t", "filter") if "MWAN" in rule]
    assert legacy_in_use()


def test_lock_held_by_another_program_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(xtables_lock, "LOCK_SECONDS", 0.1)
    with open(tmp_path / "xtables.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(KernelError, match=r"replace .*xtables\.lock: held by another program for 0\.1 s"):
            Iptables().replace(PAIR)
    assert tables() == set()


def test_refused_rule_names_table_and_chain_and_leaves_all_as_it_was():
    Iptables().replace(PAIR)
    before = save("-t", "mangle")
    bad = FirewallLink("bad", 0x500, "seg1", "192.168.100.9", "not a mac", 5)
    broken = dataclasses.replace(PAIR, links=(*PAIR.links, bad), snat=())
    with pytest.raises(KernelError, match=r"table mangle, chain MWAN_ARRIVE: .*already committed: table nat"):
        Iptables().replace(broken)
    assert save("-t", "mangle") == before
    Iptables().replace(PAIR)
    assert save("-t", "mangle") == before


@pytest.mark.parametrize("count", [60, 250])
def test_many_links(count, record_testsuite_property):
    links = tuple(FirewallLink(f"link{n}", n << 8, f"uplink-name-{n:03}") for n in range(1, count + 1))
    snat = tuple(SourceNat(link.mark, link.device, ("192.168.101.0/24",), "5.5.5.5") for link in links)
    start = time.perf_counter()
    Iptables().replace(Firewall(0xFF00, links, snat))
    replaced = time.perf_counter()
    listing = Iptables().listing()
    record_testsuite_property(f"iptables_{count}_links_replace_ms", round((replaced - start) * 1000))
    record_testsuite_property(f"iptables_{count}_links_listing_ms", round((time.perf_counter() - replaced) * 1000))
    # CONNMARK: two for each link, two that restore, one that forgets
    assert listing.count(":2{") == 2 * count + 3
    assert f"-o uplink-name-{count:03} -j CONNMARK:2{{{count << 8:x} ff00 ffffffff}}" in listing


@contextlib.contextmanager
def neighbour(device, address, peer):
    """Join `device` with this address to another namespace, whose end has the address `peer`; give its process id."""
    process = subprocess.Popen(["unshare", "-n", "sleep", "120"])
    try:
        home = os.readlink("/proc/self/ns/net")
        deadline = time.monotonic() + 10
        while os.readlink(f"/proc/{process.pid}/ns/net") == home and time.monotonic() < deadline:
            time.sleep(0.01)
        run("ip", "link", "add", device, "type", "veth", "peer", "name", "up0", "netns", str(process.pid))
        run("ip", "address", "add", address, "dev", device)
        run("ip", "link", "set", device, "up")
        inside(process.pid, "ip", "address", "add", peer, "dev", "up0")
        inside(process.pid, "ip", "link", "set", "up0", "up")
        yield process.pid
    finally:
        process.kill()
        process.wait()


def inside(pid, *command):
    return run("nsenter", "-t", str(pid), "-n", *command)


def marks(*conditions):
    """Return the connection marks of the conntrack entries that meet the conditions."""
    entries = run("conntrack", "-L", *conditions).splitlines()
    return [int(re.search(r" mark=(\d+)", entry).group(1)) for entry in entries]


def rule_counter(table, chain):
    """Return the packets counted by the first rule of a chain."""
    rule = next(line for line in run("iptables-legacy-save", "-c", "-t", table).splitlines() if f"-A {chain} " in line)
    return int(rule[1:].split(":")[0])


def test_forwarded_connection_is_pinned_and_foreign_bits_survive():
    with (
        neighbour("lan0", "192.168.101.254/24", "192.168.101.1/24") as client,
        neighbour("wan1", "5.5.5.5/24", "5.5.5.1/24") as provider,
    ):
        inside(client, "ip", "route", "add", "default", "via", "192.168.101.254")
        with open("/proc/sys/net/ipv4/ip_forward", "w", encoding="ascii") as forward:
            forward.write("1")
        legacy("-t", "mangle", "-A", "PREROUTING", "-j", "CONNMARK", "--set-xmark", "0x20000/0x20000")
        legacy("-t", "mangle", "-A", "PREROUTING", "-j", "MARK", "--set-xmark", "0x10000/0x10000")
        legacy("-t", "mangle", "-A", "FORWARD", "-m", "mark", "--mark", "0x10100/0xffffffff")
        Iptables().replace(PAIR)
        inside(client, "ping", "-c", "3", "-i", "0.1", "-W", "2", "5.5.5.1")
        assert marks("-p", "icmp", "--orig-src", "192.168.101.1", "--reply-dst", "5.5.5.5") == [0x20100]
        assert rule_counter("mangle", "FORWARD") == 5  # all but the first packet, which was not pinned yet
        inside(provider, "ping", "-c", "1", "-W", "2", "5.5.5.5")
        assert marks("-p", "icmp", "--orig-src", "5.5.5.1") == [0x20100]


def test_no_connection_slips_through_while_rules_are_replaced():
    other = dataclasses.replace(PAIR, links=(PAIR.links[0], *PAIR.links[2:]), snat=PAIR.snat[:1])
    Iptables().replace(PAIR)
    with neighbour("wan1", "5.5.5.5/24", "5.5.5.1/24"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        ports = range(10000, 18000)
        flood = threading.Thread(target=lambda: [sender.sendto(b"x", ("5.5.5.1", port)) for port in ports])
        flood.start()
        replaced = 0
        while flood.is_alive():
            Iptables().replace(other if replaced % 2 else PAIR)
            replaced += 1
        flood.join()
        assert replaced > 3
        assert marks("-p", "udp", "--orig-dst", "5.5.5.1") == [0x100] * len(ports)
