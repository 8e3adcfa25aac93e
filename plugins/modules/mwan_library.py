#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Put the library that this very module runs with onto the router, for the restore at boot and the command line."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mwan_library
short_description: Install the library of the collection on a router
version_added: 0.1.0
description:
  - Writes the library that the modules use, and the programs that are given, to a directory named after their
    content, and points C(current) to it. A release is complete before it is switched to, and two never mix.
  - The release before stays, for programs that still run from it; older ones are removed.
options:
  directory:
    description: Where releases are kept.
    type: path
    default: /usr/local/lib/mwan
  programs:
    description: Text of each program by name. They are installed executable beside the library.
    type: dict
    default: {}
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
"""

RETURN = r"""
release:
  description: Directory of the release that is current.
  returned: success
  type: str
  sample: /usr/local/lib/mwan/1d02311e6211
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.multiwan.linux.plugins.module_utils import library


def main() -> None:
    spec = {
        "directory": {"type": "path", "default": "/usr/local/lib/mwan"},
        "programs": {"type": "dict", "default": {}},
    }
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
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
