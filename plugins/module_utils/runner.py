# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a module: check what it needs, make the change, converge, report. Modules hold nothing but their own change."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.common.respawn import has_respawned, respawn_module

from ._mwan import changes, host, messages
from ._mwan.apply import ApplyError, NotKeptError
from ._mwan.document import Document
from ._mwan.errors import InputError, KernelError
from ._mwan.firewall.nftables import Runner
from ._mwan.flow import Outcome, converge
from ._mwan.ports import Router

PYROUTE2_PACKAGE = (
    "pyroute2 (0.7.2 or newer; python3-pyroute2 on Debian 12, Ubuntu 24.04 and newer, and from EPEL on RHEL 10)"
)

# made by the role where distribution packages are missing or too old
VENV = "/usr/local/lib/mwan/venv"
VENV_PYTHON = VENV + "/bin/python"

Change = Callable[[Document, Mapping[str, Any]], Document]


def run(module: AnsibleModule, change: Change) -> None:
    """Converge the router to the stored document as altered by `change`, and exit the module."""
    params = module.params

    def altered(document: Document) -> Document:
        current = changes.settings(document, params)
        changes.assume(current, params["validate"] or {}).check()
        return change(current, params)

    def assumed(document: Document) -> Document:
        return changes.assume(changes.settings(document, params), params["assume"])

    def work() -> Outcome:
        earlier = None if params["assume"] is None else assumed
        return converge(open_router(module), altered, check=module.check_mode, assume=earlier)

    outcome = guarded(module, work)
    for warning in outcome.warnings:
        module.warn(warning)
    result: dict[str, Any] = {
        "changed": outcome.changed,
        "actions": outcome.actions,
        "links": outcome.links,
        "unlisted": changes.unlisted(outcome.document, params),
    }
    if params["validate"] is not None:
        result["settled"] = not outcome.changed and changes.is_all(outcome.document, params["validate"])
    if module._diff:
        result["diff"] = outcome.diff
    module.exit_json(**result)


def guarded(module: AnsibleModule, work: Callable[[], Any]) -> Any:
    """The result of `work`; what goes wrong in it ends the module with a message made for the person who reads it."""
    try:
        return work()
    except InputError as exc:
        module.fail_json(msg=str(exc), option=exc.option)
    except ApplyError as exc:
        module.fail_json(
            msg=str(exc), failed_action=exc.failed, undone=exc.undone, actions=exc.done, changed=bool(exc.done)
        )
    except NotKeptError as exc:
        module.fail_json(msg=str(exc), actions=exc.done, changed=True)
    except KernelError as exc:
        module.fail_json(msg=str(exc))
    return None


def respawn() -> None:
    """Go on with the Python of the role's virtual environment, where there is one.

    So modules work there whatever `ansible_python_interpreter` is. Returns where there is none.
    """
    if os.path.exists(VENV_PYTHON) and os.path.realpath(sys.prefix) != os.path.realpath(VENV) and not has_respawned():
        respawn_module(VENV_PYTHON)


def open_router(module: AnsibleModule) -> Router:
    """The router this module runs on; ends the module where a library or the privilege is missing."""
    respawn()
    if messages.PYROUTE2_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib(PYROUTE2_PACKAGE), exception=messages.PYROUTE2_IMPORT_ERROR)
    if os.geteuid() != 0:
        module.fail_json(msg="routing tables and firewall can only be managed by root; set become: true")
    return host.open_router(programs(module))


def programs(module: AnsibleModule) -> Runner:
    """Start a program by Ansible's means, with a text for its input."""
    return lambda command, text: module.run_command(command, data=text, handle_exceptions=True)
