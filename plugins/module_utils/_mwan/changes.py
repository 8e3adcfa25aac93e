# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The changes that modules make to the stored document: pure functions from document and parameters to document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .document import Document, merge, parse_list, without
from .forwards import Dnat
from .model import Link, Policy, RpFilter, Settings, Snat
from .rules import AddressSet, Rule

KINDS: dict[str, Any] = {
    "links": Link,
    "policies": Policy,
    "rules": Rule,
    "sets": AddressSet,
    "snat": Snat,
    "dnat": Dnat,
}
SETTINGS = (
    *("mark_mask", "table_base", "rule_priority", "ip_forward", "multipath_hash", "firewall_backend"),
    *("classify", "probe"),
)
RP_FILTER = ("mode", "all", "default", "devices", "src_valid_mark", "blackhole")


def links(document: Document, params: Mapping[str, Any]) -> Document:
    if params["state"] == "absent":
        return replace(document, links=without(document.links, (item["name"] for item in params["links"])))
    listed = parse_list(Link, "links", params["links"])
    return replace(document, links=merge(document.links, listed, params["purge"]))


def settings(document: Document, declared: Mapping[str, Any]) -> Document:
    """Those that are given; the others stay."""
    given = {key: declared[key] for key in SETTINGS if declared.get(key) is not None}
    return replace(document, settings=Settings.parse("settings", {**document.settings.dump(), **given}))


def policies(document: Document, params: Mapping[str, Any]) -> Document:
    """Policies, rules, the sets they refer to, and the default.

    A default_policy of '' means none; left out, it stays unless it is removed here.
    """
    default = document.default_policy if params["default_policy"] is None else params["default_policy"] or None
    if params["state"] == "absent":
        gone = {item["name"] for item in params["policies"]}
        return replace(
            document,
            policies=without(document.policies, gone),
            rules=without(document.rules, (item["name"] for item in params["rules"])),
            sets=without(document.sets, (item["name"] for item in params.get("sets", ()))),
            default_policy=None if default in gone else default,
        )
    return replace(
        document,
        policies=merge(document.policies, parse_list(Policy, "policies", params["policies"]), params["purge"]),
        rules=merge(document.rules, parse_list(Rule, "rules", params["rules"]), params["purge"]),
        sets=merge(document.sets, parse_list(AddressSet, "sets", params.get("sets")), params["purge"]),
        default_policy=default,
    )


def snat(document: Document, params: Mapping[str, Any]) -> Document:
    listed = parse_list(Snat, "snat", params["snat"])
    if params["state"] == "absent":
        return replace(document, snat=without(document.snat, (item.key for item in listed)))
    return replace(document, snat=merge(document.snat, listed, params["purge"]))


def dnat(document: Document, params: Mapping[str, Any]) -> Document:
    if params["state"] == "absent":
        return replace(document, dnat=without(document.dnat, (item["name"] for item in params["dnat"])))
    return replace(document, dnat=merge(document.dnat, parse_list(Dnat, "dnat", params["dnat"]), params["purge"]))


def rp_filter(document: Document, params: Mapping[str, Any]) -> Document:
    if params["state"] == "absent":
        return replace(document, rp_filter=RpFilter())
    return replace(document, rp_filter=RpFilter.parse("rp_filter", {key: params[key] for key in RP_FILTER}))


def unlisted(document: Document, params: Mapping[str, Any]) -> list[str]:
    """What is stored of the kinds a module was given, and was not among them; a role purges when this is not empty."""
    found = []
    for kind, option in KINDS.items():
        if kind in params:
            given = parse_list(option, kind, params[kind]) if params["state"] == "present" else ()
            listed = {item.key for item in given}
            found += [_label(kind, item) for item in getattr(document, kind) if item.key not in listed]
    return found


def _label(kind: str, item: Any) -> str:
    name = item.name if kind != "snat" else "{} from {}".format(item.link, ", ".join(item.sources) or "all")
    return f"{kind}: {name}"


def is_all(document: Document, declared: Mapping[str, Any]) -> bool:
    """Whether the document is what a whole play declares, so that the rest of it would change nothing."""
    if assume(document, declared).check() != document:
        return False
    listed = {"links": declared.get("links") or (), "state": "present"}
    return not (declared.get("purge") and unlisted(document, listed))


def assume(document: Document, declared: Mapping[str, Any]) -> Document:
    """What earlier tasks of a play declare. Links are never purged here: a role purges them last."""
    purge = bool(declared.get("purge"))
    result = settings(document, declared)
    if declared.get("links"):
        result = links(result, {"links": declared["links"], "state": "present", "purge": False})
    if any(declared.get(key) is not None for key in ("policies", "rules", "sets", "default_policy")):
        params = {key: declared.get(key) or [] for key in ("policies", "rules", "sets")}
        result = policies(
            result, {**params, "default_policy": declared.get("default_policy"), "state": "present", "purge": purge}
        )
    if declared.get("snat") is not None:
        result = snat(result, {"snat": declared["snat"], "state": "present", "purge": purge})
    if declared.get("dnat") is not None:
        # those that are not listed may take the same as those that are, so a role purges them in the same task
        alone = bool(declared.get("purge", True))
        result = dnat(result, {"dnat": declared["dnat"], "state": "present", "purge": alone})
    if declared.get("rp_filter") is not None:
        result = rp_filter(result, {**dict.fromkeys(RP_FILTER), **declared["rp_filter"], "state": "present"})
    return result
