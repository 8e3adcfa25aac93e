# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Gather what routers answered."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet
short_description: Gather what multi-WAN routers say of themselves
version_added: 0.1.0
description:
  - Takes what C(mwanctl status --check --drift --json) printed on each router, and what kept others from answering.
  - The playbook C(multiwan.linux.status) does it for you.
positional: _input
options:
  _input:
    description: Results of the task that ran the command, by inventory name.
    type: dict
    required: true
author:
  - The multiwan.linux contributors (@multiwan)
seealso:
  - plugin: multiwan.linux.fleet_table
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Ask the routers
  ansible.builtin.command:
    argv: [/usr/local/sbin/mwanctl, status, --check, --drift, --json]
  register: told
  changed_when: false
  failed_when: false
  ignore_unreachable: true

- name: Stop where a link is down anywhere
  ansible.builtin.assert:
    that: fleet.routers | dict2items | map(attribute='value.links') | map('dict2items') | flatten
      | selectattr('value.state', 'eq', 'down') | length == 0
  run_once: true
  vars:
    fleet: "{{ {inventory_hostname: told} | multiwan.linux.fleet }}"
"""

RETURN = r"""
_value:
  description: The routers, and what is not right with them.
  type: dict
  contains:
    routers:
      description:
        - Each router by its name. C(state) is V(told), V(unreachable), V(no mwan) or V(failed), C(reason) why it did
          not tell anything, C(code) and C(summary) are those of C(mwanctl status --check), C(links) each link with
          state, C(since) (seconds), reason, loss, rtt, share and connections.
        - Of a router that tells, C(drift) are the differences from what is declared, C(prober) and C(release) what
          runs there.
      type: dict
    problems:
      description: A line for each router that is not in order.
      type: list
      elements: str
    summary:
      description: How many routers and links are how.
      type: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.multiwan.linux.plugins.plugin_utils import fleet as library


def fleet(answers: Any) -> dict[str, Any]:
    if not isinstance(answers, Mapping) or not all(isinstance(answer, Mapping) for answer in answers.values()):
        raise AnsibleFilterError("multiwan.linux.fleet: give the results of a task by inventory name")
    return library.collect(answers)


class FilterModule:
    """What Ansible asks a file of filters for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"fleet": fleet}
