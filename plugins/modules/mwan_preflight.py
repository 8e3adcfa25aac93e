#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Tell whether a host can be a multi-WAN router, what works against it, and what has to be installed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mwan_preflight
short_description: Tell what a host lacks to be a multi-WAN router, and what works against it
version_added: 0.1.0
description:
  - Looks at a host before anything is installed, and at other software on it that manages routes, rules or the
    firewall. Each finding is told with what ends it. Changes nothing.
  - What the kernel has to do is tried in network namespaces that are made for it and are gone afterwards. The kernel
    may load modules for it, as it would when the router is configured.
  - Needs no library. It is the first task of the role.
options:
  service:
    description: Whether the prober is to run as C(mwan.service).
    type: bool
    default: true
  firewall_backend:
    description: As with the other modules. With V(auto), it is looked at what they would use.
    type: str
    choices: [auto, nftables, iptables]
    default: auto
  accept:
    description: Names of findings that are known and wanted. They neither fail nor warn. A name of none is refused.
    type: list
    elements: str
    default: []
  install:
    description:
      - How what is missing is to be installed.
      - V(auto) takes packages where those of the distribution are new enough, else a virtual environment; V(none)
        leaves it to the administrator, and what is missing is an error then.
    type: str
    choices: [auto, packages, venv, none]
    default: auto
  declared:
    description:
      - All that is to be declared, as O(multiwan.linux.mwan_link#module:validate) takes it, and of the settings those
        that matter.
      - Wrong values, and what does not fit together, are refused before anything is installed. What the router has
        stored is not looked at.
    type: dict
author:
  - The multiwan.linux contributors (@multiwan)
extends_documentation_fragment:
  - multiwan.linux.attributes
attributes:
  diff_mode:
    support: none
requirements:
  - python >= 3.9
seealso:
  - name: Preflight
    description: All findings, what they mean, and what to do.
    link: https://github.com/multiwan/linux/blob/main/docs/preflight.md
"""

EXAMPLES = r"""
- name: See whether this host can be a router
  multiwan.linux.mwan_preflight:
    accept: [ufw_forward]
  register: host

- name: Install what is missing
  ansible.builtin.package:
    name: "{{ host.packages }}"
  when: host.packages | length > 0
"""

RETURN = r"""
findings:
  description: What was found and is not accepted, errors first. With an error the module fails.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: By this it can be accepted., type: str, returned: always}
    severity: {description: V(error) or V(warning)., type: str, returned: always}
    what: {description: What was found., type: str, returned: always}
    remedy: {description: What ends it., type: str, returned: always}
os:
  description: The distribution as os-release has it, with C(id), C(version_id) and the list C(like).
  returned: always
  type: dict
  sample: {id: ubuntu, version_id: "24.04", like: [debian]}
python:
  description: Release of the interpreter that ran this module, and of the libraries C(pyroute2) and C(iptc) that it
    finds; null where there is none, empty where it is not known.
  returned: always
  type: dict
  sample: {version: 3.11.2, pyroute2: 0.7.2, iptc: null}
install:
  description: What has to be done, V(none), V(packages) or V(venv).
  returned: always
  type: str
  sample: packages
packages:
  description: Packages of the distribution that are missing, also for a virtual environment.
  returned: always
  type: list
  elements: str
  sample: [python3-pyroute2, nftables]
compiler:
  description: Packages to be installed besides for a virtual environment with python-iptables, unless it comes as a
    wheel that was built elsewhere.
  returned: always
  type: list
  elements: str
  sample: []
backend:
  description: The firewall that would be used, V(nftables) or V(iptables).
  returned: always
  type: str
kernel:
  description:
    - What was tried, with null for what works, and else what was said. What is not listed could not be tried yet,
      such as the firewall before its program is installed.
    - C(least_connections) is needed by that algorithm only.
  returned: always
  type: dict
  sample: {rules: null, multipath: null, firewall: null, random: null, least_connections: null}
"""

from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.multiwan.linux.plugins.module_utils._mwan import changes, values
from ansible_collections.multiwan.linux.plugins.module_utils._mwan.document import Document
from ansible_collections.multiwan.linux.plugins.module_utils._mwan.errors import InputError
from ansible_collections.multiwan.linux.plugins.module_utils._mwan.preflight import findings, install, managers
from ansible_collections.multiwan.linux.plugins.module_utils._mwan.preflight.facts import INSTALLS, Asked, Facts
from ansible_collections.multiwan.linux.plugins.module_utils._mwan.preflight.host import Host


def main() -> None:
    spec = {
        "service": {"type": "bool", "default": True},
        "firewall_backend": {"type": "str", "choices": ["auto", "nftables", "iptables"], "default": "auto"},
        "accept": {"type": "list", "elements": "str", "default": []},
        "install": {"type": "str", "choices": list(INSTALLS), "default": "auto"},
        "declared": {"type": "dict"},
    }
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    params = module.params
    accepted = _accepted(module)
    _check_declared(module)
    asked = Asked(params["service"], params["firewall_backend"], params["install"])
    facts = Host(lambda command, text: module.run_command(command, data=text, handle_exceptions=False)).facts(asked)
    found = findings.found(managers.CHECKS, asked, facts, accepted)
    for finding in found:
        if finding.severity == findings.WARNING:
            module.warn(str(finding))
    result = {"changed": False, "findings": [asdict(finding) for finding in found], **_told(asked, facts)}
    refusal = findings.refused(found)
    if refusal:
        module.fail_json(msg=refusal, **result)
    module.exit_json(**result)


def _check_declared(module: AnsibleModule) -> None:
    try:
        changes.assume(Document(), module.params["declared"] or {}).check()
    except InputError as exc:
        module.fail_json(msg=str(exc), option=exc.option)


def _accepted(module: AnsibleModule) -> list[str]:
    known = [check.name for check in managers.CHECKS]
    try:
        return [values.choice("accept", name, known) for name in module.params["accept"]]
    except InputError as exc:
        module.fail_json(msg=str(exc), option=exc.option)


def _told(asked: Asked, facts: Facts) -> dict[str, Any]:
    needed = install.decide(asked, facts)
    return {
        "os": {"id": facts.os.id, "version_id": facts.os.version_id, "like": list(facts.os.like)},
        "python": {name: getattr(facts.python, name) for name in ("version", "pyroute2", "iptc")},
        "install": needed.how,
        "packages": list(needed.packages),
        "compiler": list(needed.compiler),
        "backend": facts.backend,
        "kernel": dict(facts.kernel.features),
    }


if __name__ == "__main__":
    main()
