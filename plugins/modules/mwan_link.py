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
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.multiwan.linux.plugins.module_utils import arguments, runner
from ansible_collections.multiwan.linux.plugins.module_utils._mwan import changes


def main() -> None:
    spec = {"links": arguments.links(), "probe": arguments.probe(), **arguments.listing(), **arguments.settings()}
    runner.run(AnsibleModule(argument_spec=spec, supports_check_mode=True), changes.links)


if __name__ == "__main__":
    main()
