#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Declare reverse-path filtering."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mwan_rpfilter
short_description: Reverse-path filtering and black holes of a multi-WAN router
version_added: 0.1.0
description:
  - Declares what takes effect on each device. The kernel applies the higher of C(conf.all.rp_filter) and the device's
    own value, so the module keeps the former at none unless told otherwise, and refuses a combination that the kernel
    cannot give.
  - V(none) accepts any source (0), V(strict) only what would be answered by the same device (1), V(loose) what could be
    answered at all (2).
  - Values are set now and kept in C(/etc/sysctl.d/90-mwan.conf). The given options replace all of what was declared
    before.
options:
  mode:
    description: Mode of every device that is not named in O(devices), and of devices that appear later.
    type: str
    choices: [none, strict, loose]
  all:
    description: Value of C(conf.all), below which no device can be. V(none) by default once anything is declared.
    type: str
    choices: [none, strict, loose]
  default:
    description: Mode of devices that appear later. That of O(mode) by default.
    type: str
    choices: [none, strict, loose]
  devices:
    description: Modes by device name.
    type: dict
  src_valid_mark:
    description: Have the filter look packets up with their mark, so that O(mode=strict) is right on links too.
    type: bool
    default: true
  blackhole:
    description: Networks that must never be routed. A more specific or connected network inside one stays reachable.
    type: list
    elements: str
    default: []
  state:
    description: V(absent) gives the sysctls back as they were, and takes the black holes away.
    type: str
    choices: [present, absent]
    default: present
author:
  - The multiwan.linux contributors (@multiwan)
extends_documentation_fragment:
  - multiwan.linux.settings
  - multiwan.linux.attributes
"""

EXAMPLES = r"""
- name: Strict towards the LAN, loose elsewhere, no private networks over the links
  multiwan.linux.mwan_rpfilter:
    mode: loose
    devices: {lan0: strict}
    blackhole: [10.0.0.0/8, 172.16.0.0/12]
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
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.multiwan.linux.plugins.module_utils import arguments, runner
from ansible_collections.multiwan.linux.plugins.module_utils._mwan import changes


def main() -> None:
    spec = {
        **arguments.rp_filter(),
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        **arguments.settings(),
    }
    runner.run(AnsibleModule(argument_spec=spec, supports_check_mode=True), changes.rp_filter)


if __name__ == "__main__":
    main()
