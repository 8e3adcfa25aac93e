# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make a router a plain host again, whatever of the collection is on it, and whatever is missing by now."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from . import runner, traces
from ._mwan import afterwards, local, messages, removal
from ._mwan.document import Document
from ._mwan.errors import InputError, KernelError

UNIT = os.path.basename(traces.UNIT)
SYSTEMD = "/run/systemd/system"  # there while it runs (sd_booted(3))


def run(module: AnsibleModule) -> None:
    """In this order: whoever repairs the router is stopped before there is something to repair."""
    runner.respawn()
    if os.geteuid() != 0:
        module.fail_json(msg="only root can take away what root has installed; set become: true")
    if not module.params["force"]:
        runner.guarded(module, lambda: afterwards.check(afterwards.session_of(os.getpid())))
    result: dict[str, Any] = {"changed": False, "actions": [], "diff": []}
    stop(module, result)
    runner.guarded(module, lambda: clear_kernel(module, result))
    remove_files(module, result)
    for path in traces.kept():
        module.warn(f"{path} stays, as the collection has not made it")
    result["account"] = traces.account_is_ours()
    if not result["account"]:
        module.warn(f"the account {local.PROBERS_GROUP} stays, as its comment says that the role has not made it")
    result["changed"] = bool(result["actions"])
    if not module._diff:
        del result["diff"]
    module.exit_json(**result)


def stop(module: AnsibleModule, result: dict[str, Any]) -> None:
    """Stop the service, and a prober that was started by other means."""
    serves = os.path.lexists(traces.UNIT) and os.path.isdir(SYSTEMD)
    if serves:
        result["actions"].append(f"systemctl disable --now {UNIT}")
        if not module.check_mode:
            module.run_command(["systemctl", "disable", "--now", UNIT], check_rc=True)
    process = traces.prober()
    if process and not serves:
        result["actions"].append(f"end mwand, process {process}")
    if not module.check_mode and not traces.end_prober():
        module.fail_json(msg="mwand goes on, or is started again at once. Stop what starts it; nothing was removed yet")


def clear_kernel(module: AnsibleModule, result: dict[str, Any]) -> None:
    """Under the lock, which is not made where nothing was ever installed."""
    with local.exclusive() if os.path.isdir(os.path.dirname(local.LOCK)) else nullcontext():
        document = removal.remembered()
        for step in chain(steps(module, document, result), removal.pins(document)):
            result["actions"].append(step.words)
            if not module.check_mode:
                step.work()


def steps(module: AnsibleModule, document: Document, result: dict[str, Any]) -> Iterable[removal.Step]:
    """What the plan, where there can be one, has left to do."""
    if messages.PYROUTE2_IMPORT_ERROR:
        return removal.by_hand(runner.programs(module), document)
    router = replace(runner.open_router(module), lock=None)
    try:
        outcome = removal.by_plan(router, module.check_mode)
    except (InputError, KernelError) as exc:
        module.warn(f"what is in the kernel is removed without a plan, which fails: {exc}")
        return removal.by_hand(runner.programs(module), document)
    result["actions"] += outcome.actions
    result["diff"] += outcome.diff
    return () if module.check_mode and outcome.changed else removal.forgotten_rules(router)


def remove_files(module: AnsibleModule, result: dict[str, Any]) -> None:
    paths = traces.found(module.params["directory"])
    result["actions"] += [f"rm -r {path}" for path in paths]
    had_unit = traces.UNIT in paths and os.path.isdir(SYSTEMD)
    if module.check_mode or not paths:
        return
    try:
        traces.remove(paths, module.params["directory"])
    except OSError as exc:
        module.fail_json(msg=f"cannot remove {exc.filename}: {exc.strerror}", **{**result, "changed": True})
    if had_unit:
        module.run_command(["systemctl", "daemon-reload"], check_rc=True)
        module.run_command(["systemctl", "reset-failed", UNIT])
