# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Argument specifications, one for each kind of object, shared by the modules."""

from __future__ import annotations

from typing import Any

from ._mwan import reactions
from ._mwan.model import LAST_RESORTS, PROTOCOLS, RP_MODES, Settings
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
        "algorithm": {"type": "str", "choices": ["multipath"], "default": "multipath"},
        "members": {"type": "list", "elements": "dict", "options": member},
        "last_resort": {"type": "str", "choices": list(LAST_RESORTS), "default": "unreachable"},
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
    options = {
        "name": {"type": "str", "required": True},
        "source": {"type": "str"},
        "destination": {"type": "str"},
        "device": {"type": "str"},
        "protocol": {"type": "str", "choices": list(PROTOCOLS)},
        "source_port": {"type": "str"},
        "destination_port": {"type": "str"},
        "policy": {"type": "str"},
        "link": {"type": "str"},
    }
    return {"type": "list", "elements": "dict", "default": [], "options": options}


def snat() -> Spec:
    options = {
        "link": {"type": "str", "required": True},
        "source": {"type": "list", "elements": "str", "default": []},
        "to": {"type": "str", "default": "auto"},
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
