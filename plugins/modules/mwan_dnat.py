#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Declare port forwards."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mwan_dnat
short_description: Port forwards over the uplinks of a multi-WAN router
version_added: 0.1.0
description:
  - Connections that are begun to an address of a link are led to a host behind the router. Replies leave by the link
    the connection came in by, so one host is reachable over several links at the same time.
  - The host sees the client's own address. Filtering is left to the host's firewall, which must let the connections
    pass to the new destination.
  - Existing connections are not touched when a forward is changed or taken away. They end by themselves.
options:
  dnat:
    description: The forwards. No two of them may take the same.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Identity of the forward. It consists of C(a-z), C(0-9) and C(_), and starts with a letter.
        type: str
        required: true
      link:
        description: Link the connection comes in by. Every link when left out.
        type: str
      protocol:
        description: One protocol or several. All of them when left out, that is the whole address, and then no ports.
        type: list
        elements: str
        choices: [tcp, udp, dccp, sctp]
      address:
        description:
          - Address the connection is begun to. It may be one that is routed to the router and on none of its devices.
          - When left out, every address that the link has at the time, also after it has changed.
        type: str
      port:
        description: Port the connection is begun to, or a range such as V(8000-8010). Needed with O(dnat[].protocol).
        type: str
      to:
        description:
          - Address of the host that answers. Needed unless O(state=absent).
          - A range such as V(192.168.101.10-192.168.101.12) is spread over by the kernel, by the client's address.
        type: str
      to_port:
        description:
          - Port of that host. The port stays as it is when left out.
          - One port for all, or a range as long as O(dnat[].port), then one to one, of 256 ports at most.
        type: str
      source:
        description: Networks the connection may come from. All of them when empty.
        type: list
        elements: str
        default: []
      hairpin:
        description:
          - Whether connections from devices that are no link's, such as the LAN, and from the router itself are led to
            the host, too, when they are begun to the same address.
          - A client in the same network as the host, and the router itself, appear to the host with the router's
            address, since replies would else not come back by the router.
        type: bool
        default: false
  state:
    description: Whether the listed forwards are declared, or taken away.
    type: str
    choices: [present, absent]
    default: present
  purge:
    description: Take away every one of the forwards that is not listed.
    type: bool
    default: false
author:
  - The multiwan.linux contributors (@multiwan)
extends_documentation_fragment:
  - multiwan.linux.settings
  - multiwan.linux.attributes
"""

EXAMPLES = r"""
- name: Servers behind the router
  multiwan.linux.mwan_dnat:
    dnat:
      # over every link, also for the LAN
      - {name: web, protocol: tcp, port: 443, to: 192.168.101.10, hairpin: true}
      # one to one: 8003 becomes 83; for one customer only
      - {name: test, link: isp_a, protocol: tcp, port: 8000-8010, to: 192.168.101.11, to_port: 80-90,
         source: [203.0.113.0/24]}
      # spread over three hosts
      - {name: dns, protocol: [tcp, udp], port: 53, to: 192.168.101.20-192.168.101.22}
      # all of an address that the provider routes to the router
      - {name: dmz, link: isp_b, address: 198.51.100.7, to: 192.168.102.7}

- name: Take one away
  multiwan.linux.mwan_dnat:
    dnat: [{name: test}]
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
    spec = {"dnat": arguments.dnat(), **arguments.listing(), **arguments.settings()}
    runner.run(AnsibleModule(argument_spec=spec, supports_check_mode=True), changes.dnat)


if __name__ == "__main__":
    main()
