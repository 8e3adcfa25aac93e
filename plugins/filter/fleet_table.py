# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Show many routers as a table."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_table
short_description: Show multi-WAN routers as a table
version_added: 0.1.0
description:
  - Makes a table of what P(multiwan.linux.fleet#filter) has gathered, with a row for each link, sorted by router.
  - The share is that of the default policy, and the drift the number of differences from what is declared.
positional: _input
options:
  _input:
    description: What P(multiwan.linux.fleet#filter) returned.
    type: dict
    required: true
  width:
    description: The longest line. Columns that do not fit are left out.
    type: int
    default: 120
author:
  - The multiwan.linux contributors (@multiwan)
seealso:
  - plugin: multiwan.linux.fleet
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the routers
  ansible.builtin.debug:
    msg: "{{ {inventory_hostname: told} | multiwan.linux.fleet | multiwan.linux.fleet_table(width=100) }}"
  run_once: true
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.multiwan.linux.plugins.plugin_utils import fleet as library


def fleet_table(fleet: Any, width: int = library.WIDTH) -> list[str]:
    if not isinstance(fleet, Mapping) or "routers" not in fleet:
        raise AnsibleFilterError("multiwan.linux.fleet_table: give what multiwan.linux.fleet returned")
    return library.lines(fleet, width)


class FilterModule:
    """What Ansible asks a file of filters for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"fleet_table": fleet_table}
