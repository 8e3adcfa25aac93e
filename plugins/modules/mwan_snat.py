#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Declare source NAT for the links."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mwan_snat
short_description: Source NAT for the uplinks of a multi-WAN router
version_added: 0.1.0
description:
  - Connections that leave by a link they are pinned to get the link's source address. Nothing is translated on a link
    that is not listed.
options:
  snat:
    description: The translations, first match first. Link and sources together are the identity.
    type: list
    elements: dict
    default: []
    suboptions:
      link:
        description: Link the connection leaves by.
        type: str
        required: true
      source:
        description: Source networks that are translated. All of them when empty.
        type: list
        elements: str
        default: []
      to:
        description:
          - New source address. V(auto) is the link's address as it is now.
          - V(masquerade) has the kernel take the device's address for each connection.
        type: str
        default: auto
  state:
    description: Whether the listed translations are declared, or taken away.
    type: str
    choices: [present, absent]
    default: present
  purge:
    description: Take away every one of the translations that is not listed.
    type: bool
    default: false
author:
  - The multiwan.linux contributors (@multiwan)
extends_documentation_fragment:
  - multiwan.linux.settings
  - multiwan.linux.attributes
"""

EXAMPLES = r"""
- name: LAN clients leave with the address of the link
  multiwan.linux.mwan_snat:
    snat:
      - {link: isp_a, source: 192.168.101.0/24, to: 5.5.5.5}
      - {link: isp_b, source: 192.168.101.0/24}
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
    spec = {"snat": arguments.snat(), **arguments.listing(), **arguments.settings()}
    runner.run(AnsibleModule(argument_spec=spec, supports_check_mode=True), changes.snat)


if __name__ == "__main__":
    main()
