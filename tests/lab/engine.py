# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The library against a lab router, with the role's variables and in the role's order, but without the controller.

A playbook run takes seconds, one of these a tenth of one; what a test asserts is the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .topology import Topology
from .traffic import Helper

LIBRARY = Path(__file__).resolve().parents[2] / "plugins" / "module_utils"
RP_FILTER_DEFAULTS = {
    "mode": None,
    "all": None,
    "default": None,
    "devices": None,
    "src_valid_mark": True,
    "blackhole": [],
}


class RefusedError(Exception):
    """What a module would have failed with; `kind` is the library's exception class."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Outcome:
    """What one run, or the several of a role, did (or would do)."""

    actions: list[str]
    diff: list[dict[str, str]]
    warnings: list[str]
    links: dict[str, dict[str, Any]]
    unlisted: list[str]

    @property
    def changed(self) -> bool:
        return bool(self.actions)

    def has(self, *words: str) -> bool:
        """Whether one action contains all these words."""
        return any(all(word in action for word in words) for action in self.actions)


class Engine(Helper):
    """The router of a topology under management by one firewall backend.

    `variables` are the role's, taken from the topology; apply() takes others, which hold for later runs too.
    """

    def __init__(self, topology: Topology, backend: str = "auto") -> None:
        self.topology = topology
        self.variables: dict[str, Any] = {"mwan_firewall_backend": backend, **topology.variables}
        super().__init__(topology.router, "engine.py", str(LIBRARY), backend)

    @property
    def backend(self) -> str:
        return str(self.variables["mwan_firewall_backend"])

    def apply(self, check: bool = False, **variables: Any) -> Outcome:
        """Run the role's modules in its order. In check mode each assumes what those before it declare."""
        self.variables.update(variables)
        outcomes = [self.links(check), self.snat(check), self.dnat(check), self.rp_filter(check), self.policies(check)]
        if outcomes[1].unlisted:
            outcomes.append(self.snat(check, purge=True))
        if outcomes[0].unlisted:
            outcomes.append(self.links(check, purge=True))
        return Outcome(
            actions=[action for outcome in outcomes for action in outcome.actions],
            diff=[part for outcome in outcomes for part in outcome.diff],
            warnings=outcomes[-1].warnings,
            links=outcomes[-1].links,
            unlisted=outcomes[-1].unlisted,
        )

    def settle(self, **variables: Any) -> Outcome:
        """apply(), and prove that a second run finds nothing to do."""
        outcome = self.apply(**variables)
        again = self.apply()
        assert again.actions == [], f"the second run would still do: {again.actions}"
        return outcome

    def remove_all(self) -> Outcome:
        """Declare nothing: all that is ours goes."""
        return self.apply(
            mwan_links=[],
            mwan_policies=[],
            mwan_rules=[],
            mwan_snat=[],
            mwan_dnat=[],
            mwan_rp_filter={},
            mwan_blackhole=[],
            mwan_default_policy="",
        )

    def links(self, check: bool = False, purge: bool = False) -> Outcome:
        assume = {**self._policies(), **self._nat(), "purge": True} if purge else None
        return self.run("links", {"links": self._links(), "state": "present", "purge": purge}, check, assume)

    def snat(self, check: bool = False, purge: bool = False) -> Outcome:
        assume = {"links": self._links(), **({**self._policies(), "purge": True} if purge else {})}
        return self.run("snat", {"snat": self._snat(), "state": "present", "purge": purge}, check, assume)

    def dnat(self, check: bool = False) -> Outcome:
        params = {"dnat": self._nat()["dnat"], "state": "present", "purge": True}
        return self.run("dnat", params, check, {"links": self._links(), "snat": self._snat()})

    def rp_filter(self, check: bool = False) -> Outcome:
        declared = {**self.variables.get("mwan_rp_filter", {}), "blackhole": self.variables.get("mwan_blackhole", [])}
        params = {**RP_FILTER_DEFAULTS, **declared, "state": "present"}
        return self.run("rp_filter", params, check, {"links": self._links(), **self._nat()})

    def policies(self, check: bool = False) -> Outcome:
        params = {**self._policies(), "state": "present", "purge": True}
        return self.run("policies", params, check, {"links": self._links(), **self._nat()})

    def _links(self) -> list[dict[str, Any]]:
        return list(self.variables["mwan_links"])

    def _snat(self) -> list[dict[str, Any]]:
        return list(self.variables.get("mwan_snat", []))

    def _nat(self) -> dict[str, Any]:
        return {"snat": self._snat(), "dnat": list(self.variables.get("mwan_dnat", []))}

    def _policies(self) -> dict[str, Any]:
        return {
            "policies": self.variables.get("mwan_policies", []),
            "rules": self.variables.get("mwan_rules", []),
            "sets": self.variables.get("mwan_sets", []),
            "default_policy": self.variables.get("mwan_default_policy", ""),
        }

    def _settings(self) -> dict[str, Any]:
        names = ("mark_mask", "table_base", "rule_priority", "firewall_backend", "ip_forward", "multipath_hash",
                 "classify", "probe")  # fmt: skip
        return {name: self.variables[f"mwan_{name}"] for name in names if f"mwan_{name}" in self.variables}

    def run(
        self, change: str, params: dict[str, Any], check: bool = False, assume: dict[str, Any] | None = None
    ) -> Outcome:
        """One module: `change` is links, snat, dnat, rp_filter or policies. Raises RefusedError."""
        request = {
            "change": change, "params": params, "check": check, "assume": assume, "settings": self._settings()
        }  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise RefusedError(answer["kind"], answer["error"])
        assert answer.pop("changed") == bool(answer["actions"])
        return Outcome(**answer)
