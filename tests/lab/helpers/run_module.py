# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Run one module of a collection as Ansible's wrapper would, without the wrapper.

Arguments: directory that holds `ansible_collections`, fully qualified module name. Standard input: the module's
arguments as JSON. The module prints its JSON result and exits.
"""

from __future__ import annotations

import json
import runpy
import sys

sys.path.insert(0, sys.argv[1])
namespace, collection, module = sys.argv[2].split(".")
package = (
    "ansible.modules" if namespace == "ansible" else f"ansible_collections.{namespace}.{collection}.plugins.modules"
)
arguments = json.dumps({"ANSIBLE_MODULE_ARGS": json.load(sys.stdin)}).encode()
sys.argv = [module]

from ansible.module_utils import basic  # noqa: E402  (after sys.argv, which it may read)

basic._ANSIBLE_ARGS = arguments
basic._ANSIBLE_PROFILE = "legacy"  # asked for since ansible-core 2.19, ignored before
runpy.run_module(f"{package}.{module}", run_name="__main__")
