#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Declare the ways to the Internet of a multi-WAN router."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mwan_link
short_description: Declare the uplinks of a multi-WAN router
version_added: 0.1.0
description:
  - Gives each link a routing table of its own with its default route and source address, a rule that sends its pinned
    connections there, and a rule for what has one of its device's addresses.
  - Pins connections that come in on a link to it, so that replies leave by the link they came in on, also those of
    hosts behind the router.
  - A link whose device does not exist yet can be declared. It is reported in RV(links) as pending and converges when
    the device appears and the module or the restore service runs again.
options:
  links:
    description: The links. The name is the identity; ids, marks and tables belong to it and do not move when others
      come or go.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the link, made of V(a-z), V(0-9) and V(_). Links and policies share one name space.
        type: str
        required: true
      device:
        description: Network device. Required unless O(state=absent).
        type: str
      gateway:
        description:
          - Address of the next router. V(auto) takes the one that DHCP, RA or PPP left as a default route for the
            device.
          - Left out on a point-to-point device, where none is needed.
          - Links that share a device are told apart by it.
        type: str
      address:
        description: Source address. V(auto), the default, is the device's address that reaches the gateway, whatever it
          is at the moment.
        type: str
      weight:
        description: Share of new connections relative to other links, where a policy does not say otherwise, from 0 to
          256. V(1) by default.
        type: int
      rate:
        description:
          - What the link can carry, in bits per second, or as text such as V(100mbit), V(2.5gbit) or V(500kbit), with
            factors of 1000. Not known by default.
          - While the link carries more than 80 % of it, a long round trip does not count against it.
        type: raw
      probe:
        description:
          - How the link is watched, where it differs from O(probe). What is given here takes the place of the whole
            value there.
          - Times are in seconds, or text with V(ms), V(s), V(min) or V(h), such as V(200ms).
        type: dict
        suboptions: &probe
          targets:
            description:
              - What is probed over the link, 16 targets at most. V(1.1.1.1), V(8.8.8.8) and V(9.9.9.9) by default.
              - An address is sent ICMP echo requests. V(tcp://192.0.2.1:443) connects, V(http://192.0.2.1/) and
                V(https://192.0.2.1/) fetch, V(dns://192.0.2.1/example.net) asks a name server, and V(arp) asks for the
                link-layer address of the link's gateway.
              - A dictionary gives more, with C(kind) (V(icmp), V(tcp), V(http), V(dns), V(arp) or V(command)) and,
                by kind, C(address); C(port); C(url), C(address) or C(resolver) for a name in it, C(status) (V(200)),
                C(body) (a text the answer contains), C(verify) (whether certificates count, V(true)); C(query) and
                C(record) (V(A), V(AAAA), V(NS), V(SOA)); C(command), a full path with arguments.
              - With an empty list only the kernel's word counts, on carrier, device and address.
            type: list
            elements: raw
          profile:
            description: Sets O(probe.interval) and O(probe.dead). V(fast) is 0.2 and 1 second, V(default) 0.5 and 2,
              V(calm) 1 and 4, V(metered) 10 and 20. V(default) by default.
            type: str
            choices: [fast, default, calm, metered]
          interval:
            description: Time between the probes of one target, from 0.05 to 3600 seconds. By the profile.
            type: raw
          dead:
            description: Silence of all targets after which the link is down, from 0.1 to 3600 seconds and at least two
              intervals. After half of it the link is suspect and takes no new connections while another one does. By
              the profile.
            type: raw
          up_after:
            description: How long a link that was down has to answer without a break before it is used again, from 1 to
              86400 seconds. V(20) by default; each further outage makes it longer.
            type: raw
          quorum:
            description: How many targets have to answer for the link to count as alive. V(1) by default.
            type: int
          loss:
            description: Share of lost probes, in percent, beyond which the link is degraded.
            type: dict
            suboptions:
              enter:
                description: Degraded above this, from 0.1 to 99. V(5) by default.
                type: raw
                required: true
              leave:
                description: Fine again below this. As O(probe.loss.enter) by default.
                type: raw
          rtt:
            description: Round-trip time beyond which the link is degraded. There is no limit by default.
            type: dict
            suboptions:
              enter:
                description: Degraded above this, from 0.001 to 60 seconds.
                type: raw
                required: true
              leave:
                description: Fine again below this. 80 % of O(probe.rtt.enter) by default.
                type: raw
          degraded:
            description: What becomes of a degraded link. V(keep), the default, leaves it as it is, V(reweight) halves
              its weight, V(out) gives it no new connections while another member of the policy takes them. Its
              existing connections stay.
            type: str
            choices: [keep, reweight, out]
          damping:
            description: How long a link that fails again and again has to wait.
            type: dict
            suboptions:
              half_life:
                description: Time after which an earlier outage counts half, from 1 to 86400 seconds. V(300) by default.
                type: raw
              longest:
                description: The longest wait, from O(probe.up_after) to 86400 seconds. V(900) by default.
                type: raw
          flush_delay:
            description: Time between finding the link down by silence, or without its address or learned gateway, and
              moving its existing connections to others, from 0 to 3600 seconds. V(1) by default. Lost carrier or
              device do not wait.
            type: raw
  probe:
    description:
      - How links are watched that do not say otherwise.
      - Left out, the stored value stays; an empty dictionary means the defaults.
    type: dict
    suboptions: *probe
  state:
    description: Whether the listed links are declared, or taken away.
    type: str
    choices: [present, absent]
    default: present
  purge:
    description: Take away every one of the links that is not listed.
    type: bool
    default: false
author:
  - The multiwan.linux contributors (@multiwan)
extends_documentation_fragment:
  - multiwan.linux.settings
  - multiwan.linux.attributes
"""

EXAMPLES = r"""
- name: Two uplinks
  multiwan.linux.mwan_link:
    links:
      - {name: isp_a, device: wan1, gateway: 5.5.5.1, weight: 3}
      - {name: isp_b, device: ppp0}

- name: Two routers on one segment
  multiwan.linux.mwan_link:
    links:
      - {name: router_1, device: wan0, gateway: 192.168.100.1}
      - {name: router_2, device: wan0, gateway: 192.168.100.2}

- name: Watch a satellite link calmly, and take it out while it is lossy
  multiwan.linux.mwan_link:
    links:
      - {name: isp_a, device: wan1, gateway: 5.5.5.1, rate: 100mbit}
      - name: satellite
        device: wan3
        gateway: auto
        probe:
          profile: calm
          targets: [192.0.2.1, "tcp://192.0.2.2:443", arp]
          loss: {enter: 10, leave: 5}
          degraded: out
    probe:
      profile: fast
      rtt: {enter: 150ms}

- name: Take a link away
  multiwan.linux.mwan_link:
    links: [{name: isp_b}]
    state: absent
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
settled:
  description: With O(validate), whether all that it declares is stored and in effect, and nothing else is, so that the
    other modules would change nothing.
  returned: with O(validate)
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.multiwan.linux.plugins.module_utils import arguments, runner
from ansible_collections.multiwan.linux.plugins.module_utils._mwan import changes


def main() -> None:
    spec = {"links": arguments.links(), "probe": arguments.probe(), **arguments.listing(), **arguments.settings()}
    runner.run(AnsibleModule(argument_spec=spec, supports_check_mode=True), changes.links)


if __name__ == "__main__":
    main()
