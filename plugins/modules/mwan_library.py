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
    description: Text of each program by name. They are installed executable beside the library. In them, and in
      O(files), C(@PYTHON@) stands for the Python that the library runs with.
    type: dict
    default: {}
  files:
    description: Text of other files by path, for everybody to read.
    type: dict
    default: {}
  links:
    description: Symbolic links by path, with what they point to.
    type: dict
    default: {}
  look_in:
    description: Directories whose files C(*.conf) are told in RV(marked) where the role has written them.
    type: list
    elements: path
    default: []
  user:
    description: The user that the prober runs as. It is made with its group, and so are the directories that root's
      modules and the prober share. None by default; what is stored is root's alone then.
    type: str
  python:
    description: The Python that programs run with, or that their virtual environment is made with.
    type: path
    default: /usr/bin/python3
  venv:
    description:
      - A virtual environment that programs and modules run with, in C(venv) below O(directory). It is made aside when
        something of it changes, and switched to when it is whole.
      - Left out, none is made.
    type: dict
    suboptions:
      requirements:
        description: Texts of requirements files.
        type: list
        elements: str
        required: true
      wheels:
        description: Directory on the router that packages are taken from. PyPI is asked by default.
        type: path
      wheel_names:
        description: The files in O(venv.wheels). With others, the environment is made anew; what else is there is
          removed then.
        type: list
        elements: str
  venv_kept:
    description: Whether programs go on with a virtual environment that was made before, where O(venv) is left out.
      Else it is removed.
    type: bool
    default: true
  state:
    description:
      - V(present) installs the library, V(absent) removes everything that modules and role have left on the host.
      - What somebody else has put beside it stays, and a warning names it. So do packages, and the user and group
        that the role has made, which it removes by itself.
    type: str
    choices: [present, absent]
    default: present
  force:
    description: With O(state=absent), go on where the main table has no default route that works, or does not lead the
      SSH session that the module came over by the way it takes now. Such a run fails otherwise, also in check mode,
      and has removed nothing.
    type: bool
    default: false
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
renewed:
  description: Whether programs, what they run with, or a service among O(files) are new, so that the service has to be
    restarted. It is told until C(mwan.service) starts, also by later runs that change nothing.
  returned: O(state=present)
  type: bool
written:
  description: Those of O(files) that were written.
  returned: O(state=present)
  type: list
  elements: str
marked:
  description: Files in O(look_in) that the role has written.
  returned: O(state=present)
  type: list
  elements: str
account:
  description: Whether the account of the prober is the role's to remove, as its comment says; also where there is none.
  returned: O(state=absent)
  type: bool
actions:
  description: What is installed or removed, in its order. In check mode, what would be.
  returned: success
  type: list
  elements: str
  sample: ["systemctl disable --now mwan.service", "ip rule del priority 1999 from all lookup mwan_balanced"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.multiwan.linux.plugins.module_utils import installation, uninstall


def main() -> None:
    venv = {
        "requirements": {"type": "list", "elements": "str", "required": True},
        "wheels": {"type": "path"},
        "wheel_names": {"type": "list", "elements": "str"},
    }
    spec = {
        "directory": {"type": "path", "default": "/usr/local/lib/mwan"},
        # texts of many lines: each run would write them all to the router's log
        "programs": {"type": "dict", "default": {}, "no_log": True},
        "files": {"type": "dict", "default": {}, "no_log": True},
        "links": {"type": "dict", "default": {}},
        "look_in": {"type": "list", "elements": "path", "default": []},
        "user": {"type": "str"},
        "python": {"type": "path", "default": "/usr/bin/python3"},
        "venv": {"type": "dict", "options": venv, "required_together": [("wheels", "wheel_names")]},
        "venv_kept": {"type": "bool", "default": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "force": {"type": "bool", "default": False},
    }
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    (uninstall.run if module.params["state"] == "absent" else installation.run)(module)


if __name__ == "__main__":
    main()
