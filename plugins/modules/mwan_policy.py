#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Declare how new connections are spread over links."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mwan_policy
short_description: Spread new connections over the uplinks of a multi-WAN router
version_added: 0.1.0
description:
  - A policy is a set of links with weights and tiers. It becomes a multipath default route in a table of its own, and
    every new connection is pinned to the link that it chose.
  - Rules send some of the new connections to a policy or a link. The first that matches, in list order, decides.
  - Everything else goes to the default policy.
options:
  policies:
    description: The policies.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the policy. Links and policies share one name space.
        type: str
        required: true
      algorithm:
        description:
          - How a new connection chooses, always by weight.
          - V(multipath) is the kernel's hash over the connection's addresses and ports, in the routing table.
          - V(random) and V(round_robin) draw lots, or take turns.
          - V(source_hash) keeps all connections of a client on one link, V(source_destination_hash) those of a client
            to one destination. When a link dies only its own clients move, and they return with it.
          - V(least_connections) takes the link with the fewest open connections.
          - V(per_packet) sends the packets of a connection over all links in turn. Only for links of one provider that
            accepts the same source addresses on each of them, since nothing is translated; packets overtake each other.
          - The router's own connections take the kernel's way with all of them, where their source address is chosen.
        type: str
        choices: [multipath, random, round_robin, source_hash, source_destination_hash, least_connections, per_packet]
        default: multipath
      least_connections:
        description: How O(policies[].algorithm=least_connections) finds the link.
        type: dict
        suboptions:
          method:
            description: V(queue), the default, asks a process on the router about each new connection. While it does
              not run, the kernel's multipath route serves. V(weights) has the weights of that route follow the counts.
            type: str
            choices: [queue, weights]
          interval:
            description: How often the weights follow, in seconds or as text. V(5s) by default.
            type: raw
      sticky:
        description:
          - For how many seconds without a packet a client keeps its link for new connections. V(0), the default, is
            not at all. It outlives reloads and changes of weights; while its link is out, the client moves.
          - A dictionary of C(timeout) and C(by) says what a client is, its address (V(source), the default) or the
            pair of its address and the one it talks to (V(source_destination)).
        type: raw
      members:
        description: The links that take part. Required unless O(state=absent).
        type: list
        elements: dict
        suboptions:
          link:
            description: Name of the link.
            type: str
            required: true
          weight:
            description: Share of new connections, 0 to 256. The link's own weight by default. 0 takes no new
              connections and keeps the old ones.
            type: int
          tier:
            description: Members of tier 1 serve while any of them is up, then those of tier 2, and so on to 9.
            type: int
            default: 1
      last_resort:
        description:
          - What happens to new connections while no member can carry them.
          - V(unreachable) tells the sender, V(blackhole) discards, V(main) lets the lookup go on, to the rules that
            follow, the default policy, and at last the main routing table.
        type: str
        choices: [unreachable, blackhole, main]
        default: unreachable
      on_down:
        description:
          - What becomes of the connections of a member that goes down, once new ones are led to others. Nothing, while
            no other member lives.
          - Connections carry the mark of their link, not of a policy. Policies that share a link need the same value,
            here and in O(policies[].failback).
        type: dict
        suboptions:
          tcp:
            description: V(reset), the default, answers their next packet with a reset, so that clients connect anew
              over a live link. V(keep) lets them wait for the link.
            type: str
            choices: [reset, keep]
          other:
            description: V(reroute), the default, forgets them, so that their next packet takes a live link. V(keep)
              leaves them on their link.
            type: str
            choices: [reroute, keep]
      failback:
        description:
          - What becomes of the connections of a member that is well and takes no new ones any more, because members of
            an earlier tier are back.
          - Connections on a link that a rule names directly stay.
        type: dict
        suboptions:
          tcp:
            description: V(keep), the default, leaves them on their link for life. V(reset) answers their next packet
              with a reset.
            type: str
            choices: [reset, keep]
          other:
            description: V(keep), the default, leaves them on their link. V(reroute) forgets them, so that their next
              packet takes one of the earlier tier.
            type: str
            choices: [reroute, keep]
          after:
            description: How long the members of the earlier tier have to be back, in seconds or as text such as
              V(10min), a week at most. V(0) by default.
            type: raw
          window:
            description: When it may happen, as local time, such as V(02:00-04:00) or over midnight V(22:00-02:00). At
              any time by default.
            type: str
          manual:
            description: Only when the operator says so with C(mwanctl failback). V(false) by default.
            type: bool
  rules:
    description: Which new connections go where. All matches that are given must hold.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the rule.
        type: str
        required: true
      source:
        description: Source network, or a list of them, or a set behind an at sign such as V(@office).
        type: list
        elements: str
      destination:
        description: Destination network, or a list of them, or a set.
        type: list
        elements: str
      device:
        description: Device the packet came in on. V(lo) is the router's own traffic.
        type: str
      protocol:
        description: Transport protocol.
        type: str
        choices: [icmp, tcp, udp, dccp, gre, esp, sctp]
      source_port:
        description: Source ports and ranges such as V(5060-5061).
        type: list
        elements: str
      destination_port:
        description: Destination ports and ranges such as V(5060-5061).
        type: list
        elements: str
      dscp:
        description: Differentiated services code point, as a name such as V(ef) or V(af21), or a number.
        type: str
      mac:
        description: Link-layer address of the host on the LAN that sends it, or of the router it comes through.
        type: str
      mark:
        description: Packet mark that other software sets, as V(value/mask). Its bits are none of O(mark_mask).
        type: str
      time:
        description: When the rule holds, in the router's local time. Connections that exist go on when it ends.
        type: dict
        suboptions:
          days:
            description: Days of the week. All of them by default.
            type: list
            elements: str
            choices: [mon, tue, wed, thu, fri, sat, sun]
          hours:
            description: Time of the day, such as V(08:00-18:00). Hours over midnight belong to the day they begin on.
            type: str
      user:
        description: User, by name or number, whose processes on the router send it.
        type: str
      group:
        description: Group, by name or number, whose processes on the router send it.
        type: str
      cgroup:
        description: Control group, as a path below the root of version 2, such as V(system.slice/squid.service).
        type: str
      policy:
        description: Policy that takes the connection. Exactly one of this, O(rules[].link) and O(rules[].target) is
          given.
        type: str
      link:
        description: Link that takes the connection, and no other when it is down.
        type: str
      target:
        description: V(main) leaves the connection to the rules and tables of others, V(unreachable) refuses it.
        type: str
        choices: [main, unreachable]
  sets:
    description: Sets of networks that rules refer to by name.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the set.
        type: str
        required: true
      networks:
        description: Networks in the set.
        type: list
        elements: str
        default: []
      files:
        description: Files on the router with a network on each line, C(#) before remarks. They are read again at each
          run, and by the service every minute.
        type: list
        elements: str
        default: []
      external:
        description:
          - Whether others fill the set, such as dnsmasq or a script. It is made empty, and its content never touched.
          - With nftables it is the set C(set_NAME) of table C(inet mwan), with iptables the ipset C(mwan_NAME).
        type: bool
        default: false
  default_policy:
    description: Policy for everything no rule matches. An empty string means none. Left out, it stays as it is.
    type: str
  ip_forward:
    description: Whether to switch on forwarding of IPv4 packets. V(true) by default; V(false) leaves it to you.
    type: bool
  multipath_hash:
    description:
      - What the multipath hash covers. V(layer4), the default, covers addresses, protocol and ports, so that
        connections are spread one by one.
      - V(layer3) covers the addresses only, so that a pair of hosts stays on one link. V(inner_layer3) looks into
        tunnels.
    type: str
    choices: [layer3, layer4, inner_layer3]
  classify:
    description:
      - What tells apart the connections that rules send elsewhere. V(marks), the default, has the firewall mark them.
        Every match can be asked for then, packets are counted by rule, and with nftables the cost does not grow with
        the number of rules.
      - V(routing) has policy routing rules for each of them. Those stay when the firewall is flushed by others, and
        know addresses, ports, protocols, devices, users and marks only.
    type: str
    choices: [marks, routing]
  state:
    description: Whether the listed policies and rules are declared, or taken away.
    type: str
    choices: [present, absent]
    default: present
  purge:
    description: Take away every one of the policies and rules that is not listed.
    type: bool
    default: false
author:
  - The multiwan.linux contributors (@multiwan)
extends_documentation_fragment:
  - multiwan.linux.settings
  - multiwan.linux.attributes
"""

EXAMPLES = r"""
- name: Three quarters over isp_a, voice over isp_b
  multiwan.linux.mwan_policy:
    policies:
      - name: balanced
        members: [{link: isp_a, weight: 3}, {link: isp_b}]
    rules:
      - {name: voip, source: 192.168.10.0/24, protocol: udp, destination_port: 5060-5061, link: isp_b}
    default_policy: balanced

- name: A link that serves only while the others are down
  multiwan.linux.mwan_policy:
    policies:
      - name: balanced
        members: [{link: isp_a}, {link: isp_b}, {link: lte, tier: 2}]

- name: Leave the metered link at night, when the others have been back for ten minutes
  multiwan.linux.mwan_policy:
    policies:
      - name: balanced
        members: [{link: isp_a}, {link: isp_b}, {link: lte, tier: 2}]
        on_down: {tcp: reset, other: reroute}
        failback: {tcp: reset, other: reroute, after: 10min, window: "02:00-04:00"}
"""

RETURN = r"""
actions:
  description: The operations of the plan in their order, as the commands an administrator would type. In check mode,
    what would be done.
  returned: success
  type: list
  elements: str
  sample: ["ip route add default via 5.5.5.1 dev wan1 src 5.5.5.5 table mwan_isp_a proto mwan"]
links:
  description: Every declared link with its id, mark, table, device, and the gateway and address it has now; C(pending)
    says why it is not in service.
  returned: success
  type: dict
  sample:
    isp_a: {id: 1, mark: "0x100", table: 1001, device: wan1, gateway: 5.5.5.1, address: 5.5.5.5, pending: null}
unlisted:
  description: Objects of the module's kinds that are stored on the router and were not listed.
  returned: success
  type: list
  elements: str
  sample: ["links: isp_c"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.multiwan.linux.plugins.module_utils import arguments, runner
from ansible_collections.multiwan.linux.plugins.module_utils._mwan import changes
from ansible_collections.multiwan.linux.plugins.module_utils._mwan.model import Settings


def main() -> None:
    spec = {
        "policies": arguments.policies(),
        "rules": arguments.rules(),
        "sets": arguments.sets(),
        "default_policy": {"type": "str"},
        "ip_forward": {"type": "bool"},
        "multipath_hash": {"type": "str", "choices": list(Settings.HASHES)},
        "classify": {"type": "str", "choices": list(Settings.CLASSIFIERS)},
        **arguments.listing(),
        **arguments.settings(),
    }
    runner.run(AnsibleModule(argument_spec=spec, supports_check_mode=True), changes.policies)


if __name__ == "__main__":
    main()
