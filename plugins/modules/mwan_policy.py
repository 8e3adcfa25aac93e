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
        description: How a new connection chooses. V(multipath) is the kernel's weighted hash over the connection's
          addresses and ports.
        type: str
        choices: [multipath]
        default: multipath
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
        description: Source network.
        type: str
      destination:
        description: Destination network.
        type: str
      device:
        description: Device the packet came in on. V(lo) is the router's own traffic.
        type: str
      protocol:
        description: Transport protocol.
        type: str
        choices: [icmp, tcp, udp, dccp, gre, esp, sctp]
      source_port:
        description: Source port, or a range such as V(5060-5061).
        type: str
      destination_port:
        description: Destination port, or a range such as V(5060-5061).
        type: str
      policy:
        description: Policy that takes the connection. Exactly one of this and O(rules[].link) is given.
        type: str
      link:
        description: Link that takes the connection, and no other when it is down.
        type: str
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
        "default_policy": {"type": "str"},
        "ip_forward": {"type": "bool"},
        "multipath_hash": {"type": "str", "choices": list(Settings.HASHES)},
        **arguments.listing(),
        **arguments.settings(),
    }
    runner.run(AnsibleModule(argument_spec=spec, supports_check_mode=True), changes.policies)


if __name__ == "__main__":
    main()
