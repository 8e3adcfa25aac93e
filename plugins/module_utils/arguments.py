# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Argument specifications, one for each kind of object, shared by the modules."""

from __future__ import annotations

from typing import Any

from ._mwan import balancing, reactions
from ._mwan.model import LAST_RESORTS, RP_MODES, Settings
from ._mwan.rules import DAYS, PORT_PROTOCOLS, PROTOCOLS, TARGETS
from ._mwan.watch.settings import DEGRADED, PROFILES

Spec = dict[str, Any]


def settings() -> Spec:
    return {
        "mark_mask": {"type": "str"},
        "table_base": {"type": "int"},
        "rule_priority": {"type": "int"},
        "firewall_backend": {"type": "str", "choices": list(Settings.BACKENDS)},
        "assume": {"type": "dict"},
        "validate": {"type": "dict"},
    }


def listing() -> Spec:
    return {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "purge": {"type": "bool", "default": False},
    }


def links() -> Spec:
    options = {
        "name": {"type": "str", "required": True},
        "device": {"type": "str"},
        "gateway": {"type": "str"},
        "address": {"type": "str"},
        "weight": {"type": "int"},
        "probe": probe(),
        "rate": {"type": "raw"},
    }
    return {"type": "list", "elements": "dict", "default": [], "options": options}


def probe() -> Spec:
    """How links are watched. Times and shares are numbers, or text with a unit; the library reads them."""
    thresholds = {"type": "dict", "options": {"enter": {"type": "raw", "required": True}, "leave": {"type": "raw"}}}
    options = {
        "targets": {"type": "list", "elements": "raw"},
        "profile": {"type": "str", "choices": list(PROFILES)},
        "interval": {"type": "raw"},
        "dead": {"type": "raw"},
        "up_after": {"type": "raw"},
        "quorum": {"type": "int"},
        "loss": thresholds,
        "rtt": thresholds,
        "degraded": {"type": "str", "choices": list(DEGRADED)},
        "damping": {"type": "dict", "options": {"half_life": {"type": "raw"}, "longest": {"type": "raw"}}},
        "flush_delay": {"type": "raw"},
    }
    return {"type": "dict", "options": options}


def policies() -> Spec:
    member = {
        "link": {"type": "str", "required": True},
        "weight": {"type": "int"},
        "tier": {"type": "int", "default": 1},
    }
    options = {
        "name": {"type": "str", "required": True},
        "algorithm": {"type": "str", "choices": list(balancing.ALGORITHMS), "default": balancing.MULTIPATH},
        "members": {"type": "list", "elements": "dict", "options": member},
        "last_resort": {"type": "str", "choices": list(LAST_RESORTS), "default": "unreachable"},
        "least_connections": {
            "type": "dict",
            "options": {"method": {"type": "str", "choices": list(balancing.METHODS)}, "interval": {"type": "raw"}},
        },
        "sticky": {"type": "raw"},
        "on_down": {"type": "dict", "options": _reactions()},
        "failback": {
            "type": "dict",
            "options": {
                **_reactions(),
                "after": {"type": "raw"},
                "window": {"type": "str"},
                "manual": {"type": "bool"},
            },
        },
    }
    return {"type": "list", "elements": "dict", "default": [], "options": options}


def _reactions() -> Spec:
    return {
        "tcp": {"type": "str", "choices": list(reactions.TCP)},
        "other": {"type": "str", "choices": list(reactions.OTHER)},
    }


def rules() -> Spec:
    days = {"type": "list", "elements": "str", "choices": list(DAYS)}
    options = {
        "name": {"type": "str", "required": True},
        "source": {"type": "list", "elements": "str"},
        "destination": {"type": "list", "elements": "str"},
        "device": {"type": "str"},
        "protocol": {"type": "str", "choices": list(PROTOCOLS)},
        "source_port": {"type": "list", "elements": "str"},
        "destination_port": {"type": "list", "elements": "str"},
        "dscp": {"type": "str"},
        "mac": {"type": "str"},
        "mark": {"type": "str"},
        "time": {"type": "dict", "options": {"days": days, "hours": {"type": "str"}}},
        "user": {"type": "str"},
        "group": {"type": "str"},
        "cgroup": {"type": "str"},
        "policy": {"type": "str"},
        "link": {"type": "str"},
        "target": {"type": "str", "choices": list(TARGETS)},
    }
    return {"type": "list", "elements": "dict", "default": [], "options": options}


def sets() -> Spec:
    options = {
        "name": {"type": "str", "required": True},
        "networks": {"type": "list", "elements": "str", "default": []},
        "files": {"type": "list", "elements": "str", "default": []},
        "external": {"type": "bool", "default": False},
    }
    return {"type": "list", "elements": "dict", "default": [], "options": options}


def snat() -> Spec:
    options = {
        "link": {"type": "str", "required": True},
        "source": {"type": "list", "elements": "str", "default": []},
        "to": {"type": "str", "default": "auto"},
    }
    return {"type": "list", "elements": "dict", "default": [], "options": options}


def dnat() -> Spec:
    options = {
        "name": {"type": "str", "required": True},
        "link": {"type": "str"},
        "protocol": {"type": "list", "elements": "str", "choices": list(PORT_PROTOCOLS)},
        "address": {"type": "str"},
        "port": {"type": "str"},
        "to": {"type": "str"},
        "to_port": {"type": "str"},
        "source": {"type": "list", "elements": "str", "default": []},
        "hairpin": {"type": "bool", "default": False},
    }
    return {"type": "list", "elements": "dict", "default": [], "options": options}


def rp_filter() -> Spec:
    mode = {"type": "str", "choices": list(RP_MODES)}
    return {
        "mode": mode,
        "all": mode,
        "default": mode,
        "devices": {"type": "dict"},
        "src_valid_mark": {"type": "bool", "default": True},
        "blackhole": {"type": "list", "elements": "str", "default": []},
    }


def path() -> Spec:
    """A connection that is asked about."""
    return {
        "destination": {"type": "str", "required": True},
        "source": {"type": "str"},
        "device": {"type": "str"},
        "protocol": {"type": "str", "choices": list(PROTOCOLS)},
        "source_port": {"type": "int"},
        "destination_port": {"type": "int"},
        "dscp": {"type": "str"},
        "mark": {"type": "str"},
        "mac": {"type": "str"},
        "local": {"type": "bool", "default": False},
        "user": {"type": "str"},
        "group": {"type": "str"},
        "cgroup": {"type": "str"},
        "at": {"type": "str"},
        "down": {"type": "list", "elements": "str", "default": []},
    }
