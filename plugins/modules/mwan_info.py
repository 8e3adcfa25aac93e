#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Tell what is declared on a multi-WAN router, what is there, and where they differ."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mwan_info
short_description: Look at a multi-WAN router
version_added: 0.1.0
description:
  - Returns what is declared, what the kernel has, what takes effect, and where they differ. Changes nothing.
options:
  verify:
    description: Fail where the router is not as declared. A link that is down is no failure.
    type: bool
    default: false
  service:
    description: With O(verify), fail also where no prober watches the declared links.
    type: bool
    default: false
author:
  - The multiwan.linux contributors (@multiwan)
extends_documentation_fragment:
  - multiwan.linux.attributes
attributes:
  diff_mode:
    support: none
requirements:
  - python >= 3.9
  - pyroute2 >= 0.7.2 (C(python3-pyroute2) on Debian 12, Ubuntu 24.04, EPEL 10 and newer)
"""

EXAMPLES = r"""
- name: Look
  multiwan.linux.mwan_info:
  register: router

- name: Stop if somebody changed the routing by hand, or nobody watches the links
  multiwan.linux.mwan_info:
    verify: true
    service: true
"""

RETURN = r"""
desired:
  description: The stored document.
  returned: success
  type: dict
links:
  description: Every declared link with its id, mark, table, device, the gateway and address it has now, its health, and
    why it is pending, if it is.
  returned: success
  type: dict
observed:
  description: Our rules, routes and firewall as they are, as text.
  returned: success
  type: dict
  contains:
    rules: {description: Rules as C(ip rule) prints them., type: list, elements: str, returned: success}
    routes: {description: Routes as C(ip route) prints them., type: list, elements: str, returned: success}
    firewall: {description: Firewall rules., type: str, returned: success}
    rule_counters:
      description: New connections that each rule has taken, by name, with C(packets) and C(octets) of their first
        packets; empty with C(classify=routing).
      type: dict
      returned: success
effective:
  description: What the kernel does with it.
  returned: success
  type: dict
  contains:
    rp_filter: {description: Mode in effect by device., type: dict, returned: success}
    defaults: {description: The default route in effect of each of our tables., type: dict, returned: success}
drift:
  description: The operations that the next run would do; empty when the router is as declared.
  returned: success
  type: list
  elements: str
shadowed:
  description:
    - Rules of others that new connections no longer reach, because the default policy takes them before.
    - A higher C(rule_priority) of the modules, such as 6000 beside tailscale, lets them be looked at first.
  returned: success
  type: list
  elements: str
foreign:
  description: Rules of others that use bits of our mask or our tables.
  returned: success
  type: list
  elements: str
prober:
  description: The state of each link by the word of the prober, and whether it was not restarted since another was
    installed; null where none runs.
  returned: with O(verify) and O(service)
  type: dict
  sample: {links: {isp_a: up, isp_b: down}, outdated: false}
warnings_found:
  description: Remarks, such as a link whose device does not exist.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.multiwan.linux.plugins.module_utils import runner, verification
from ansible_collections.multiwan.linux.plugins.module_utils._mwan import inspection


def main() -> None:
    spec = {"verify": {"type": "bool", "default": False}, "service": {"type": "bool", "default": False}}
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    router = runner.open_router(module)
    if module.params["verify"]:
        found = runner.guarded(module, lambda: verification.settled(router, module.params["service"]))
        for link in verification.out_of_service(found):
            module.warn(link)
    else:
        found = runner.guarded(module, lambda: inspection.inspect(router))
    problems = verification.problems(found) if module.params["verify"] else []
    if problems:
        module.fail_json(msg="the router does not do what was declared: " + "; ".join(problems), **found)
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
