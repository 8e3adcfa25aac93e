# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The sets of legacy x_tables on the running kernel, each test in a network namespace of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _mwan.errors import KernelError
from _mwan.firewall.ipsets import Ipsets
from _mwan.firewall.iptables_sets import NETWORKS, PAIRS, SOURCES, Ipset
from lab.inside import namespace, network_capabilities_only
from pyroute2 import IPSet

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

OFFICE = Ipset("mwan_office", NETWORKS, ("10.0.0.0/8", "192.168.1.7/32", "172.16.0.0/12"))
BLOCKED = Ipset("mwan_blocked")
CLIENTS = Ipset("mwan_p.isp_a", SOURCES, sticky=True)


@pytest.fixture(autouse=True)
def netns() -> Iterator[None]:
    with namespace():
        yield


def others(deed: str, *words: Any, **more: Any) -> Any:
    """As another program would."""
    with IPSet() as sets:
        return list(getattr(sets, deed)(*words, **more) or ())


def content(name: str) -> set[str]:
    found = set()
    for message in others("list", name):
        for element in (message.get_attr("IPSET_ATTR_ADT") or {"attrs": []})["attrs"]:
            data = element[1]
            address = data.get_attr("IPSET_ATTR_IP_FROM").get_attr("IPSET_ATTR_IPADDR_IPV4")
            found.add(f"{address}/{data.get_attr('IPSET_ATTR_CIDR') or 32}")
    return found


def names() -> set[str]:
    return {message.get_attr("IPSET_ATTR_SETNAME") for message in others("list")}


def test_sets_get_their_content_and_keep_what_others_and_packets_put_in() -> None:
    port, sets = Ipsets(), (OFFICE, BLOCKED, CLIENTS)
    assert port.listing() == ""
    port.load(sets)
    assert content("mwan_office") == set(OFFICE.networks or ())
    listing = port.listing()
    others("add", "mwan_blocked", "7.7.7.0/24", etype="net")
    others("add", "mwan_p.isp_a", "192.168.1.1", timeout=60)
    port.load(sets)
    assert port.listing() == listing, "neither is drift"
    assert content("mwan_blocked") == {"7.7.7.0/24"}
    assert content("mwan_p.isp_a") == {"192.168.1.1/32"}
    others("delete", "mwan_office", "10.0.0.0/8", etype="net")
    assert port.listing() != listing
    port.load(sets)
    assert port.listing() == listing
    port.load([Ipset("mwan_office", NETWORKS, ("1.2.3.4/32",))])
    assert content("mwan_office") == {"1.2.3.4/32"}
    assert names() == {item.name for item in sets}, "no temporary one stays"


def test_thousands_of_clients_have_room() -> None:
    """Packets add them, and for a packet the kernel makes no room."""
    Ipsets().load([CLIENTS, BLOCKED])
    sizes = {
        message.get_attr("IPSET_ATTR_SETNAME"): message.get_attr("IPSET_ATTR_DATA").get_attr("IPSET_ATTR_HASHSIZE")
        for message in others("list")
    }
    assert sizes == {"mwan_p.isp_a": 1 << 14, "mwan_blocked": 1 << 10}


def test_everything_can_be_in_a_set() -> None:
    Ipsets().load([Ipset("mwan_all", NETWORKS, ("0.0.0.0/0",))])
    assert content("mwan_all") == {"0.0.0.0/1", "128.0.0.0/1"}


def test_a_set_of_ours_can_be_given_to_others_and_back() -> None:
    port = Ipsets()
    port.load([OFFICE])
    port.load([Ipset("mwan_office")])
    assert (content("mwan_office"), port.listing()) == (set(), "")
    others("add", "mwan_office", "7.7.7.0/24", etype="net")
    port.load([OFFICE])
    assert content("mwan_office") == set(OFFICE.networks or ())
    assert port.listing().startswith("ipset mwan_office hash:net 3 ")


def test_what_is_not_wanted_goes_but_for_what_others_have_filled() -> None:
    port = Ipsets()
    others("create", "mwanted", "hash:ip")
    others("create", "crowdsec", "hash:ip")
    port.load([OFFICE, BLOCKED, CLIENTS, Ipset("mwan_empty")])
    others("add", "mwan_blocked", "7.7.7.0/24", etype="net")
    others("add", "mwan_p.isp_a", "192.168.1.1", timeout=60)
    port.discard(["mwan_office"])
    assert names() == {"mwanted", "crowdsec", "mwan_office", "mwan_blocked"}
    port.discard()
    assert names() == {"mwanted", "crowdsec", "mwan_blocked"}


def test_a_set_that_an_administrator_has_made_is_taken_as_it_is() -> None:
    others("create", "mwan_blocked", "hash:ip", timeout=0)
    others("add", "mwan_blocked", "7.7.7.7", timeout=0)
    Ipsets().load([BLOCKED])
    assert content("mwan_blocked") == {"7.7.7.7/32"}


def test_many_networks_fit() -> None:
    networks = tuple(f"{net >> 8}.{net & 255}.{host}.0/24" for net in range(256, 456) for host in range(200))
    Ipsets().load([Ipset("mwan_many", NETWORKS, networks)])
    assert Ipsets().listing().startswith(f"ipset mwan_many hash:net {len(networks)} ")


def test_refusals_name_the_set_and_what_would_do() -> None:
    others("create", "mwan_office", "hash:ip")
    with pytest.raises(KernelError, match="ipset swap mwan_office: it is there, and of another type; destroy it"):
        Ipsets().load([OFFICE])
    pairs = Ipset("mwan_p:isp_a", PAIRS, sticky=True)
    try:
        others("create", "pairs", PAIRS)
    except Exception:
        reason = "mwan_p:isp_a: the kernel has no sets of this type; load the module ip_set_hash_netnet"
        with pytest.raises(KernelError, match=reason):
            Ipsets().load([pairs])
    else:
        Ipsets().load([pairs])
        assert "mwan_p:isp_a hash:net,net 0" in Ipsets().listing()


def test_the_probers_capabilities_are_enough(tmp_path: Path) -> None:
    with network_capabilities_only(tmp_path / "lock"):
        port = Ipsets()
        port.load([OFFICE, CLIENTS])
        port.load([Ipset("mwan_office", NETWORKS, ("1.2.3.4/32",))])
        assert port.listing().count("\n") == 2
        port.discard()
        assert port.listing() == ""
