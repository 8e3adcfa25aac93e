#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Tell where a multi-WAN router would send a new connection."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mwan_path
short_description: Tell where a multi-WAN router would send a new connection
version_added: 0.1.0
description:
  - Works out which rule and policy decide over a new connection, which links take it with which share, and which source
    address the far end sees, and why other rules and links do not.
  - Nothing is sent and nothing is changed. The answer comes from what is declared on the router, under the health its
    links have now, or would have if some were down, together with the rules and routes of others.
  - What a question leaves out counts as unknown, and rules that ask for it do not match.
  - The command C(mwanctl explain) on the router tells the same in words.
options:
  destination:
    description: Address that the connection goes to.
    type: str
    required: true
  source:
    description:
      - Address that the connection comes from.
      - When left out, the router itself connects, unless O(device) says where the connection comes in.
    type: str
  device:
    description: Device by which the connection comes in. Told by O(source) where that is in a network of the router.
    type: str
  protocol:
    description: Protocol. V(tcp) when left out and a port is given.
    type: str
    choices: [icmp, tcp, udp, dccp, gre, esp, sctp]
  source_port:
    description: Port that the connection comes from.
    type: int
  destination_port:
    description: Port that the connection goes to.
    type: int
  dscp:
    description: DSCP of its packets, a number or a name such as V(ef).
    type: str
  mark:
    description: Packet mark that other software sets, such as V(0x10000). Of the router's own connections, the one of
      the socket.
    type: str
  mac:
    description: Link-layer address that its packets come from.
    type: str
  local:
    description: Whether the router itself connects, O(source) being the address that the program has bound.
    type: bool
    default: false
  user:
    description: User whose process on the router connects, by name or number.
    type: str
  group:
    description: Group whose process on the router connects, by name or number.
    type: str
  cgroup:
    description: Control group whose process on the router connects, such as V(system.slice/squid.service).
    type: str
  at:
    description: Local time of the router to ask for, such as V(2026-11-21 09:00). Now when left out.
    type: str
  down:
    description: Links to take for down.
    type: list
    elements: str
    default: []
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
seealso:
  - module: multiwan.linux.mwan_policy
  - module: multiwan.linux.mwan_info
"""

EXAMPLES = r"""
- name: Where does telephony go?
  multiwan.linux.mwan_path: &call
    source: 192.168.10.20
    destination: 203.0.113.5
    protocol: udp
    destination_port: 5060
  register: voip

- name: It goes over isp_b, with the address that the provider of telephony knows
  ansible.builtin.assert:
    that:
      - voip.rule.name == 'voip'
      - voip.ways | map(attribute='link') == ['isp_b']
      - voip.ways[0].seen_as == '6.6.6.6'

- name: Where would it go if isp_b were down?
  multiwan.linux.mwan_path:
    <<: *call
    down: [isp_b]
  register: voip

- name: It goes over isp_a then
  ansible.builtin.assert:
    that: voip.ways | map(attribute='link') == ['isp_a']

- name: Squid's own requests on a working day
  multiwan.linux.mwan_path:
    destination: 203.0.113.80
    destination_port: 443
    user: proxy
    at: "2026-11-23 10:00"
"""

RETURN = r"""
packet:
  description: The connection asked about, with what was filled in.
  returned: success
  type: dict
rule:
  description: The declared rule that decides, its position in the list, counted from 1, and its target. None where
    none of them does, and the default policy decides.
  returned: success
  type: dict
  sample: {name: voip, position: 2, target: {policy: telephony}}
classified:
  description: The rules that the firewall asked, in order, and what came of each. Empty where it asks none.
  returned: success
  type: list
  elements: dict
  sample:
    - {name: web, position: 1, result: asks for protocol tcp, matches: false}
    - {name: voip, position: 2, result: matches, matches: true}
rules:
  description: The rules of policy routing that the kernel asks, in order, what each is for, and what came of it.
  returned: success
  type: list
  elements: dict
policy:
  description: Name of the policy that decides. None where a rule names a link or another target, or nothing decides.
  returned: success
  type: str
algorithm:
  description: How that policy spreads connections.
  returned: success
  type: str
sticky:
  description: For how long that policy keeps a client on its link. None where it does not.
  returned: success
  type: dict
  sample: {timeout: 600, by: source}
tier:
  description: Tier of the policy that serves.
  returned: success
  type: int
last_resort:
  description: What that policy does when no link can take a connection.
  returned: success
  type: str
outcome:
  description: Whether the connection is V(forwarded), meant for the router itself (V(local)), refused (V(unreachable),
    V(prohibit)), dropped (V(blackhole)), or leads nowhere (V(none)).
  returned: success
  type: str
ways:
  description: The ways it may take. They are several where connections are spread.
  returned: success
  type: list
  elements: dict
  contains:
    link: {description: Link. None where it leaves by another device., type: str, returned: success}
    device: {description: Device it leaves by., type: str, returned: success}
    gateway: {description: Next router., type: str, returned: success}
    share: {description: Part of such connections that go this way., type: float, returned: success}
    source: {description: Source address before source NAT., type: str, returned: success}
    seen_as: {description: Source address that the far end sees., type: str, returned: success}
    nat: {description: Kind of source NAT., type: str, returned: success}
passed_over:
  description: The other links of the policy, and why each takes none of these connections.
  returned: success
  type: dict
  sample: {isp_c: tier 2 serves when no link of tier 1 can}
pinned:
  description: The link that it is pinned to, since it comes in there.
  returned: success
  type: str
forwarded_to:
  description: Host and port that a port forward leads it to. None where none does.
  returned: success
  type: dict
  sample: {address: 192.168.101.10, port: 8443}
notes:
  description: Remarks, such as a link that is used although it is down, or a client that may stay on another link.
  returned: success
  type: list
  elements: str
"""

from datetime import datetime

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.multiwan.linux.plugins.module_utils import arguments, runner
from ansible_collections.multiwan.linux.plugins.module_utils._mwan.console import reading
from ansible_collections.multiwan.linux.plugins.module_utils._mwan.explain import OPTIONS, TIME, Question


def main() -> None:
    module = AnsibleModule(argument_spec=arguments.path(), supports_check_mode=True)
    asked = {**module.params, "at": module.params["at"] or datetime.now().strftime(TIME)}

    def work() -> dict[str, object]:
        question = Question.parse(asked, {name: name for name in OPTIONS})
        return reading.answer(runner.open_router(module), question, module.params["down"], "down")

    module.exit_json(changed=False, **runner.guarded(module, work))


if __name__ == "__main__":
    main()
