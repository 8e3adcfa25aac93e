#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Put the library that this very module runs with onto the router, for the restore at boot and the command line; or
take away everything that the collection has put there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mwan_library
short_description: Install the library of the collection on a router
version_added: 0.1.0
description:
  - Writes the library that the modules use, and the programs that are given, to a directory named after their
    content, and points C(current) to it. A release is complete before it is switched to, and two never mix.
  - The release before stays, for programs that still run from it; older ones are removed.
  - With O(state=absent) makes the router a plain host again. The service is stopped and removed, routes, rules,
    firewall and sets of ours go, sysctls are given back, tracked connections of the links are forgotten, and the files
    of modules and role are removed. It works where nothing was ever installed, and without pyroute2.
options:
  directory:
    description: Where releases are kept.
    type: path
    default: /usr/local/lib/mwan
  programs:
    description: Text of each program by name. They are installed executable beside the library.
    type: dict
    default: {}
  state:
    description:
      - V(present) installs the library, V(absent) removes everything that modules and role have left on the host.
      - What somebody else has put beside it stays, and a warning names it. So do packages, and the user and group
        that the role has made, which it removes by itself.
    type: str
    choices: [present, absent]
    default: present
author:
  - The multiwan.linux contributors (@multiwan)
extends_documentation_fragment:
  - multiwan.linux.attributes
"""

EXAMPLES = r"""
- name: Install the library and its command
  multiwan.linux.mwan_library:
    programs:
      mwanctl: "{{ lookup('ansible.builtin.file', 'mwanctl') }}"

- name: Make it a plain host again
  multiwan.linux.mwan_library:
    state: absent
"""

RETURN = r"""
release:
  description: Directory of the release that is current.
  returned: O(state=present)
  type: str
  sample: /usr/local/lib/mwan/1d02311e6211
actions:
  description: What is removed, in its order. In check mode, what would be.
  returned: O(state=absent)
  type: list
  elements: str
  sample: ["systemctl disable --now mwan.service", "ip rule del priority 1999 from all lookup mwan_balanced"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.multiwan.linux.plugins.module_utils import library, uninstall


def main() -> None:
    spec = {
        "directory": {"type": "path", "default": "/usr/local/lib/mwan"},
        "programs": {"type": "dict", "default": {}},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    (uninstall.run if module.params["state"] == "absent" else install)(module)


def install(module: AnsibleModule) -> None:
    release = library.Release(module.params["directory"], module.params["programs"])
    changed = not release.is_current()
    before = release.current()
    if changed and not module.check_mode:
        try:
            release.install()
        except OSError as exc:
            module.fail_json(msg=f"cannot install {release.path}: {exc}")
    result = {"changed": changed, "release": release.path}
    if module._diff:
        result["diff"] = {"before": f"{before}\n", "after": f"{release.path}\n"}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
