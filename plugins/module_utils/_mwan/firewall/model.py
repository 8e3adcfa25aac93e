# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the firewall has to do for the links, free of any backend's syntax.

Both backends render the same `Firewall`:

* arrive: a connection without a pin that arrives on a link from beyond its device's own networks is pinned to it;
  so is one older than our rules that has an address of the link, whichever side speaks first;
* restore: a packet of a pinned connection gets the pin as its packet mark before routing (prerouting and output);
* save: a new connection without a pin that leaves by a link is pinned to it (postrouting);
* choose: a new connection without a pin is sent to the way that rules and policies say (choices.py);
* snat: a pinned connection that leaves by its link's device gets the link's source address;
* dnat: a new connection to an address of a link is led to another host (inbound.py);
* reset: what those send who began a TCP connection pinned to a link that is given up is answered with a reset (forward,
  output). Such a packet gets no packet mark, so that it is routed as a new one would be, by a link that serves: without
  carrier or device of its own link, it would be refused before any rule could answer it.

Only the bits of `mask` are written, in packet mark and connection mark alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..networks import collapsed
from .choices import Classification
from .inbound import DestinationNat


@dataclass(frozen=True)
class FirewallLink:
    """One link as the firewall sees it.

    `addresses` are those that no other link has; `networks` are the connected networks of the device. `gateway` is set
    only where several links share `device`; then `mac` (the gateway's link-layer address, lower case, or None while the
    neighbour is unknown) tells arriving packets apart, and `realm` (the link's id, put on its nexthops) tells leaving
    packets apart where the backend cannot match the nexthop's address.
    """

    name: str
    mark: int
    device: str
    gateway: str | None = None
    mac: str | None = None
    realm: int | None = None
    addresses: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()

    @property
    def shared(self) -> bool:
        return self.gateway is not None


@dataclass(frozen=True)
class SourceNat:
    """Rewrite the source of connections pinned to `mark` that leave by `device`.

    `sources` are IPv4 prefixes; empty means any source. `to` is an address, or None for masquerade.
    """

    mark: int
    device: str
    sources: tuple[str, ...]
    to: str | None


@dataclass(frozen=True)
class Reset:
    """Answer those who began a TCP connection pinned to `mark`, so that they begin anew over another link.

    Let alone is who would be led to this very link again (by `device`, or `gateway` and `realm`, as in FirewallLink):
    by a rule, or by the kernel, which falls back to a lower tier by itself. So is who is asked, and who began it from
    beyond `device`, but for its own `networks`, whose hosts need no gateway. So is what goes to these hosts, and what
    would not leave by a link's device. So is a connection that was never
    answered: it is forgotten, and the next attempt takes another link. `own`: connections of the router itself, too,
    but not those of sockets that set a packet mark of ours, as the prober's do. A reset that passes is let through, or
    else the far end would never hear of it.
    """

    mark: int
    device: str
    gateway: str | None = None
    realm: int | None = None
    networks: tuple[str, ...] = ()
    own: bool = True


@dataclass(frozen=True)
class Firewall:
    """The whole of our netfilter state.

    `links` and `resets` are sorted by mark, `snat` and `dnat` keep the administrator's order.
    """

    mask: int
    links: tuple[FirewallLink, ...] = ()
    snat: tuple[SourceNat, ...] = ()
    resets: tuple[Reset, ...] = ()
    classification: Classification = field(default_factory=Classification)
    dnat: tuple[DestinationNat, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.links)

    def exclusive(self) -> tuple[FirewallLink, ...]:
        """Links that have their device to themselves."""
        return tuple(link for link in self.links if not link.shared)

    def shared(self) -> tuple[FirewallLink, ...]:
        """Links told apart by gateway because they share a device."""
        return tuple(link for link in self.links if link.shared)

    def addressed(self) -> tuple[tuple[FirewallLink, str], ...]:
        """Links by the addresses that tell older connections: those given one by source NAT, and those begun to one."""
        return tuple((link, address) for link in self.links for address in link.addresses)

    def neighbourhoods(self) -> tuple[tuple[str, str], ...]:
        """Device and network of every host that is reached without a gateway; networks of a device do not overlap."""
        found: dict[str, set[str]] = {}
        for link in self.links:
            found.setdefault(link.device, set()).update(link.networks)
        return tuple((device, network) for device, networks in sorted(found.items()) for network in collapsed(networks))

    def shared_fallbacks(self) -> tuple[FirewallLink, ...]:
        """The first link of each shared device.

        It takes what leaves by the device to no known gateway (its neighbours).
        """
        first: dict[str, FirewallLink] = {}
        for link in self.shared():
            first.setdefault(link.device, link)
        return tuple(first.values())

    def lasting(self) -> tuple[int, ...]:
        """The marks that connections keep, each once: of links, per-packet policies, and what is left to routing."""
        classification = self.classification
        policies = (chooser.mark for chooser in classification.per_packet())
        main = () if classification.main is None else (classification.main,)
        return tuple(dict.fromkeys((*(link.mark for link in self.links), *policies, *main)))

    def devices(self) -> tuple[str, ...]:
        """By which connections that are given up would leave; others, as to a VPN or a LAN, are none of ours."""
        return tuple(sorted({link.device for link in self.links}))

    def own_resets(self) -> tuple[Reset, ...]:
        """Those that connections of the router itself are answered with, too."""
        return tuple(reset for reset in self.resets if reset.own)

    def resetting(self, own: Mapping[int, bool]) -> Firewall:
        """This firewall with resets for the links of these marks."""
        links = {link.mark: link for link in reversed(self.links)}
        found = [(links[mark], with_own) for mark, with_own in sorted(own.items()) if mark in links]
        return replace(self, resets=tuple(_reset(link, with_own) for link, with_own in found))

    def moves(self, old: Firewall) -> bool:
        """Whether a link is on another device than before."""
        before = {link.mark: link.device for link in old.links}
        return any(before.get(link.mark, link.device) != link.device for link in self.links)

    def keeping(self, old: Firewall) -> Firewall:
        """This firewall, and the links of `old` that go; of the resets those that were there before.

        Loaded while routes still send new connections over links that are about to go, so that none of them
        leaves without a pin and a source address. Only what would take a staying link's packets is left out: a
        link that goes from a device which another has to itself, and had not shared with it before. Connections are
        reset only after new ones are led away from their link, and no longer before these are led back. New choices
        hold at once, since what they lead to is there; old ones go only when policy routing has taken their place.
        """
        shared_before = {(link.mark, link.device): link for link in old.shared()}
        staying = tuple(link if link.shared else shared_before.get(_place(link), link) for link in self.links)
        places = {_place(link) for link in staying}
        exclusive = {link.device for link in staying if not link.shared}
        used = {link.device for link in staying}
        kept = tuple(
            link
            for link in old.links
            if _place(link) not in places
            and (link.device not in used or (link.shared and link.device not in exclusive))
        )
        marks = {_place(link) for link in kept}
        snat = tuple(rule for rule in old.snat if (rule.mark, rule.device) in marks)
        dnat = tuple(rule for rule in old.dnat if rule.device in {link.device for link in kept} - used)
        common = replace(
            self,
            resets=tuple(reset for reset in self.resets if reset in old.resets),
            classification=self.classification or old.classification,
        )
        # staying links first: they are the fallback of a device they share
        return replace(common, links=staying + kept, snat=self.snat + snat, dnat=self.dnat + dnat) if kept else common


def _reset(link: FirewallLink, own: bool) -> Reset:
    return Reset(link.mark, link.device, link.gateway, link.realm, collapsed(link.networks), own)


def _place(link: FirewallLink) -> tuple[int, str]:
    return link.mark, link.device
