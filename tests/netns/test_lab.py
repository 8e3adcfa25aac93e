# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The lab itself: without any balancing, a router configured by hand reaches the server through each provider."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lab import hostguard, impair, topology
from lab.ansible import run_module, run_playbook
from lab.host import HELPERS, LabError
from lab.lab import Lab, lab_processes
from lab.topology import Topology
from lab.traffic import AccessLogServer, EchoServer, LongLived, LongLivedTcp, LongLivedUdp, UdpFlood, fetch_many

TESTS = str(Path(__file__).resolve().parents[1])
BUILDERS = [
    topology.two_links,
    topology.three_links,
    topology.same_gateway,
    topology.shared_segment,
    topology.existing_routers,
    topology.point_to_point,
    topology.dhcp,
]


def use_link(net: Topology, link: str, source: str | None = None) -> None:
    """Plain routing and SNAT over one link, by hand."""
    uplink = net.uplinks[link]
    via = f"via {uplink.gateway} " if uplink.gateway else ""
    net.router.sysctl("net.ipv4.ip_forward", 1)
    net.router.ip(f"route replace default {via}dev {uplink.device}")
    net.router.nft(
        f"""table ip hand
        delete table ip hand
        table ip hand {{
          chain out {{
            type nat hook postrouting priority 100;
            oifname "{uplink.device}" ip saddr 192.168.101.0/24 snat to {source or uplink.address}
          }}
        }}"""
    )


@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_server_is_reached_through_each_provider(build: Callable[[], Topology]) -> None:
    with build() as net, AccessLogServer(net.server) as server:
        for link, source in net.sources.items():
            use_link(net, link)
            assert fetch_many(net.client, 5).sources == {source: 5}
        assert server.sources() == dict.fromkeys(net.sources.values(), 5)
        assert net.spoofed() == 0


def test_sixty_links_each_carry() -> None:
    with topology.many_links(60) as net, AccessLogServer(net.server):
        for link in ("link1", "link37", "link60"):
            use_link(net, link)
            assert fetch_many(net.client, 3).sources == {net.sources[link]: 3}


def test_wrong_source_never_comes_back_and_is_counted(two_links: Topology) -> None:
    with AccessLogServer(two_links.server) as server:
        use_link(two_links, "isp_a", source=two_links.sources["isp_b"])
        fetched = fetch_many(two_links.client, 3, timeout=0.5)
        assert [trial["error"] for trial in fetched.failures] == ["timeout"] * 3
        assert server.log_lines() == []
    assert two_links.spoofed() >= 3


def test_access_log_is_apache_combined(two_links: Topology) -> None:
    use_link(two_links, "isp_a")
    with AccessLogServer(two_links.server) as server:
        fetch_many(two_links.client, 1, path="/robots.txt")
        stamp = r"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\]"
        pattern = rf'5\.5\.5\.5 - - {stamp} "GET /robots\.txt HTTP/1\.1" 404 8 "-" "multiwan lab"'
        assert [bool(re.fullmatch(pattern, line)) for line in server.log_lines()] == [True]


def test_a_thousand_connections_of_nine_clients() -> None:
    with topology.two_links(clients=9) as net, AccessLogServer(net.server) as server, AccessLogServer(net.router, 81):
        use_link(net, "isp_b")
        destinations = [f"7.7.7.{n}" for n in range(1, 21)]
        fetched = fetch_many(net.client, 1000, destinations, sources=net.client_addresses)
        assert (fetched.sources, fetched.failures) == ({"6.6.6.6": 1000}, [])
        assert len(server.log_lines()) == len(fetched.durations) == 1000
        on_lan = fetch_many(net.client, 90, topology.LAN_ROUTER, sources=net.client_addresses, port=81)
        assert on_lan.sources == dict.fromkeys(net.client_addresses, 10)


@pytest.mark.parametrize("kind", [LongLivedTcp, LongLivedUdp])
def test_long_lived_flows_tell_of_gaps(two_links: Topology, kind: type[LongLived]) -> None:
    use_link(two_links, "isp_a")
    with EchoServer(two_links.server), kind(two_links.client, number=5, sources=two_links.client_addresses) as flows:
        with impair.black_hole(two_links, "isp_a"):
            time.sleep(0.4)
        time.sleep(2.0)  # TCP sends again after a timeout of at least 0.2 s, then twice as long
        stats = flows.stop()
    assert [list(flow.sources) for flow in stats] == [["5.5.5.5"]] * 5
    assert all(flow.error is None and flow.longest_gap is not None and flow.longest_gap > 0.35 for flow in stats)
    lost = [len(flow.missing) for flow in stats]
    assert lost == [0] * 5 if kind is LongLivedTcp else min(lost) >= 10


def test_inbound_to_the_router_and_through_a_provider(two_links: Topology, shared_segment: Topology) -> None:
    for net, address in ((two_links, "5.5.5.5"), (shared_segment, "192.168.122.65")):
        use_link(net, next(iter(net.uplinks)))
        with AccessLogServer(net.router), EchoServer(net.router), LongLivedUdp(net.server, address) as udp:
            assert fetch_many(net.server, 5, address, sources=["7.7.7.7"]).sources == {"7.7.7.7": 5}
            (stats,) = udp.stop()
            assert stats.answered > 0
            assert stats.missing == []


UNFILTERED = """
import socket, sys
sys.path.insert(0, sys.argv[1])
import server
seen, sock = (socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) for _ in range(2))
seen.setblocking(False)
sock.setblocking(False)
message = server.ICMP_HEADER.pack(int(sys.argv[2]), 0, 0, 1, 1) + server.MAGIC + b" text"
sums = server.checksum(message).to_bytes(2, sys.byteorder)
sock.sendto(message[:2] + sums + message[4:], ("127.0.0.1", 0))
server.echo_pings(sock)
while True:
    print(seen.recv(2048)[28:].decode())
"""


@pytest.mark.parametrize(("kind", "answered"), [(8, True), (0, False)], ids=["echo", "echo-reply"])
def test_answers_to_pings_are_not_answered(two_links: Topology, kind: int, answered: bool) -> None:
    """A raw socket hears all of ICMP until it has its filter; a host that pings would answer its answers."""
    command = [sys.executable, "-I", "-c", UNFILTERED, str(HELPERS), str(kind)]
    seen = two_links.client.run(command, check=False).stdout.splitlines()
    assert "mwan-lab text" in seen
    assert ("mwan-lab text 127.0.0.1" in seen) is answered


def test_flood_is_counted_exactly(two_links: Topology) -> None:
    use_link(two_links, "isp_a")
    result = UdpFlood(two_links.client, two_links.server, pps=20_000, seconds=1.0, flows=7).wait()
    assert (sum(result.sent), result.duplicates) == (20_000, 0)
    assert result.lost <= result.dropped_by_machine  # nothing, unless the machine is overloaded
    assert result.sources == [["5.5.5.5"]] * 7
    assert result.seconds < 2.0
    with impair.one_way_loss(two_links, "isp_a", "up", 20):
        lossy = UdpFlood(two_links.client, two_links.server, pps=5_000, seconds=1.0, flows=2, port=10).wait()
    assert 800 < lossy.lost < 1200
    assert sum(map(len, lossy.missing)) == lossy.lost


def test_carrier_goes_and_comes_back(two_links: Topology) -> None:
    def carrier() -> str:
        return two_links.router.run(["cat", "/sys/class/net/wan1/carrier"]).stdout.strip()

    assert carrier() == "1"
    with impair.cable_pulled(two_links, "isp_a"):
        assert carrier() == "0"
    assert carrier() == "1"


def test_switch_hides_a_provider_that_is_unplugged(shared_segment: Topology) -> None:
    use_link(shared_segment, "router2")
    with AccessLogServer(shared_segment.server), impair.provider_unplugged(shared_segment, "router1"):
        (device,) = shared_segment.router.ip_json("link show dev wan0")
        assert device["operstate"] == "UP"
        assert fetch_many(shared_segment.client, 5).sources == {"192.168.122.66": 5}
        use_link(shared_segment, "router1")
        assert fetch_many(shared_segment.client, 2, timeout=0.5).answered == 0


IMPAIRMENTS: dict[str, Callable[[Topology], impair.Impairment]] = {
    "black_hole": lambda net: impair.black_hole(net, "isp_a"),
    "up": lambda net: impair.one_way_loss(net, "isp_a", "up"),
    "down": lambda net: impair.one_way_loss(net, "isp_a", "down"),
    "gateway_dead": lambda net: impair.gateway_dead(net, "isp_a"),
}


@pytest.mark.parametrize("name", IMPAIRMENTS)
def test_impairment_stops_one_link_and_is_undone(two_links: Topology, name: str) -> None:
    with AccessLogServer(two_links.server):
        use_link(two_links, "isp_a")
        with IMPAIRMENTS[name](two_links):
            assert fetch_many(two_links.client, 3, timeout=0.4).answered == 0
            use_link(two_links, "isp_b")
            assert fetch_many(two_links.client, 3).sources == {"6.6.6.6": 3}
        use_link(two_links, "isp_a")
        assert fetch_many(two_links.client, 3).sources == {"5.5.5.5": 3}


def test_dead_gateway_fails_its_neighbour_entry(two_links: Topology) -> None:
    two_links.router.sysctl("net.ipv4.neigh.wan1.retrans_time_ms", 50)
    with impair.gateway_dead(two_links, "isp_a"):
        assert fetch_many(two_links.router, 1, "5.5.5.1", timeout=1.0).answered == 0
        (entry,) = two_links.router.ip_json("neigh show to 5.5.5.1")
        assert entry["state"] == ["FAILED"]


def test_loss_is_about_what_was_asked(two_links: Topology) -> None:
    use_link(two_links, "isp_a")
    with (
        EchoServer(two_links.server),
        impair.loss(two_links, "isp_a", 30),
        LongLivedUdp(two_links.client, number=20, interval=0.005) as flows,
    ):
        time.sleep(0.5)
        stats = flows.stop()
    sent, answered = sum(flow.sent for flow in stats), sum(flow.answered for flow in stats)
    assert 0.4 < answered / sent < 0.6  # 0.7 of each direction


def test_rate_is_limited(two_links: Topology) -> None:
    use_link(two_links, "isp_a")
    with impair.rate(two_links, "isp_a", kbit=1000):
        slow = UdpFlood(two_links.client, two_links.server, pps=1000, seconds=1.0, flows=1, size=1000).wait()
    assert 80 < sum(slow.received) < 250  # 125 a second, and a burst
    fast = UdpFlood(two_links.client, two_links.server, pps=1000, seconds=0.5, flows=1, size=1000, port=10).wait()
    assert fast.lost == 0


def test_line_is_hung_up_and_dialled_again(point_to_point: Topology) -> None:
    net = point_to_point
    with AccessLogServer(net.server):
        with impair.hung_up(net, "line_x"):
            assert "ppp0" not in net.router.ip("-br link")
            assert "ppp1" in net.router.ip("-br link")
        use_link(net, "line_x")
        assert fetch_many(net.client, 3).sources == {"11.1.1.1": 3}


def test_lease_changes_address_and_gateway(dhcp: Topology) -> None:
    impair.lease_changed(dhcp, "isp_a", "5.5.5.77", "5.5.5.2")
    (route,) = dhcp.router.ip_json("route show default dev wan1")
    assert (route["gateway"], route["prefsrc"], route["protocol"]) == ("5.5.5.2", "5.5.5.77", "dhcp")
    with AccessLogServer(dhcp.server):
        assert fetch_many(dhcp.router, 2, timeout=1).sources == {"5.5.5.77": 2}


def test_cables_have_unequal_indexes(two_links: Topology) -> None:
    for host in two_links.lab.hosts.values():
        for device in host.ip_json("link show type veth"):
            assert device["ifindex"] != device["link_index"]


@pytest.mark.parametrize("overlay", [True, False])
def test_what_a_host_writes_stays_in_it(overlay: bool) -> None:
    new = "/usr/local/share/man/man8"
    where = ["/etc", "/etc/sysctl.d", "/usr/local/lib", "/usr/local/bin", "/usr/local/share", new, "/run"]
    places = [f"{directory}/mwan-lab-proof" for directory in where]
    with Lab() as lab:
        one, other = lab.host("one", overlay=overlay), lab.host("other", overlay=overlay)
        one.run(["mkdir", "-p", new])
        one.run(["touch", *places])
        one.run(["ls", *places, "/etc/passwd"])
        assert other.run(["ls", *places], check=False).stdout == ""
        assert not any(Path(place).exists() for place in places)
        assert one.run("ls /sys/class/net").stdout.split() == ["lo"]
        assert one.run("ls /run").stdout.split() == ["lock", "mwan-lab-proof"]


def test_two_labs_do_not_meet(two_links: Topology) -> None:
    with topology.two_links() as other, AccessLogServer(other.server), AccessLogServer(two_links.server) as server:
        use_link(other, "isp_a")
        assert fetch_many(other.client, 2).sources == {"5.5.5.5": 2}
        assert server.log_lines() == []


def test_trials_never_share_a_port() -> None:
    with Lab() as lab:
        host = lab.host("one")
        first = [host.take_ports(100) for _unused in range(5)]
        assert len(set(first)) == 5


def test_close_leaves_nothing_not_even_what_was_started(two_links: Topology) -> None:
    lab = two_links.lab
    lab.hosts["client"].popen("trap '' TERM HUP INT; (setsid sleep 600 &) ; sleep 600")
    namespaces = {host.namespace() for host in lab.hosts.values()}
    lab.close()
    lab.close()
    assert lab.leftovers() == []
    assert not namespaces & {link for link in map(network_of_process, Path("/proc").iterdir()) if link}


def network_of_process(process: Path) -> str:
    try:
        return os.readlink(process / "ns" / "net") if process.name.isdigit() else ""
    except OSError:
        return ""


OWNER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from lab import topology
net = topology.two_links()
net.client.popen("echo started; sleep 600").stdout.readline()
print(net.lab.name, net.lab.directory, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_a_killed_owner(number: signal.Signals) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, TESTS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert owner.stdout is not None
    name, directory = owner.stdout.readline().split()
    before = len(lab_processes(name))
    owner.send_signal(number)
    owner.communicate(timeout=10)
    assert before >= 6  # five holders and the sleep
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and (lab_processes(name) or Path(directory).exists()):
        time.sleep(0.02)
    assert (lab_processes(name), Path(directory).exists()) == ([], False)


def test_failed_command_says_what_and_where(two_links: Topology) -> None:
    with pytest.raises(LabError, match=r"router: ip link show dev nowhere: exit 1\nDevice .nowhere. does not exist"):
        two_links.router.ip("link show dev nowhere")
    two_links.lab.configure(two_links.client, ["addr add nonsense dev eth0"])
    with pytest.raises(LabError, match=r"client: .*nonsense"):
        two_links.lab.settle()


PLAYBOOK = """
- hosts: mwan_routers
  become: true
  gather_facts: false
  tasks:
    - name: Devices of the router
      ansible.builtin.setup:
        gather_subset: ["!all", "!min", "interfaces"]
    - name: A file only the router sees
      ansible.builtin.copy:
        content: "{{ mwan_links[0].gateway }} {{ extra | default('') }}\\n"
        dest: /etc/mwan.txt
        mode: "0644"
    - name: It runs where the router is
      ansible.builtin.command: ip -br addr show dev wan1
      changed_when: false
    - name: It fails when told
      ansible.builtin.fail:
        msg: as told
      when: fail | default(false)
"""


def test_playbook_runs_in_the_router(two_links: Topology, tmp_path: Path) -> None:
    playbook = tmp_path / "site.yml"
    playbook.write_text(PLAYBOOK, encoding="utf-8")
    planned = run_playbook(two_links, playbook, check=True, diff=True)
    assert planned.changed == 1
    assert "+5.5.5.1" in planned.stdout
    first = run_playbook(two_links, playbook)
    assert (first.changed, first.failed) == (1, 0)
    assert "5.5.5.5/24" in first.results_of("ansible.builtin.command")[0]["stdout"]
    facts = first.results_of("setup")[0]["ansible_facts"]
    assert set(facts["ansible_interfaces"]) == {"lo", "lan0", "wan1", "wan2"}
    assert two_links.router.run("cat /etc/mwan.txt").stdout == "5.5.5.1 \n"
    assert not Path("/etc/mwan.txt").exists()
    failed = run_playbook(two_links, playbook, {"fail": True}, expect_success=False)
    assert (failed.changed, failed.failed, failed.tasks[-1].outcome) == (0, 1, "failed")


def test_failed_playbook_shows_its_output(two_links: Topology) -> None:
    with pytest.raises(LabError, match="could not be found"):
        run_playbook(two_links, "playbooks/nowhere.yml")


def test_module_runs_in_the_router(two_links: Topology) -> None:
    result = run_module(two_links, "ansible.builtin.command", {"argv": ["cat", "/sys/class/net/wan2/operstate"]})
    assert (result["stdout"], result["rc"]) == ("up", 0)
    refused = run_module(two_links, "ansible.builtin.command", {"argv": ["true"], "nonsense": 1})
    assert refused["failed"]
    assert "nonsense" in refused["msg"]


def test_guard_sees_what_a_careless_test_would_leave() -> None:
    look = "import json; from lab import hostguard; print(json.dumps(hostguard.machine_state()))"

    def state() -> dict[str, str]:
        command = ["env", f"PYTHONPATH={TESTS}", sys.executable, "-c", look]
        return dict(json.loads(host.run(command).stdout))

    with Lab() as lab:
        host = lab.host("one")
        before = state()
        assert hostguard.differences(before, state()) == ""
        host.ip("rule add fwmark 0x100/0x3f00 lookup 1001 priority 1001")
        host.nft("add table inet mwan")
        host.sysctl("net.ipv4.conf.lo.rp_filter", 2)
        host.run("mkdir /etc/mwan")
        seen = hostguard.differences(before, state())
    for trace in ("+1001:", "+table inet mwan", "/lo/rp_filter = 2", "+/etc/mwan"):
        assert trace in seen


def test_hosts_by_name_are_unique() -> None:
    with Lab() as lab:
        one = lab.host("one")
        with pytest.raises(LabError, match="a host one already"):
            lab.host("one")
        assert lab.hosts == {"one": one}
