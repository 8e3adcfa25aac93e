# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The Ansible side against the library: specs, documentation and role speak of the same options."""

from __future__ import annotations

import importlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from _mwan import changes
from _mwan.document import Document
from _mwan.errors import InputError
from _mwan.explain import OPTIONS
from _mwan.forwards import Dnat
from _mwan.model import Link, Member, Policy, RpFilter, Settings, Snat
from _mwan.reactions import Failback, OnDown
from _mwan.rules import AddressSet, Rule
from _mwan.watch.settings import Damping, ProbeOverrides, ProbeSettings, Thresholds
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.multiwan.linux.plugins.module_utils import arguments

ROOT = Path(__file__).parents[2]
ROLE = ROOT / "roles/router/meta/argument_specs.yml"
KINDS = {"links": Link, "policies": Policy, "rules": Rule, "sets": AddressSet, "snat": Snat, "dnat": Dnat}
CHANGES = {"mwan_link": changes.links, "mwan_policy": changes.policies, "mwan_snat": changes.snat,
           "mwan_dnat": changes.dnat, "mwan_rpfilter": changes.rp_filter}  # fmt: skip
SPECS: dict[str, dict[str, Any]] = {
    "mwan_link": {"links": arguments.links(), "probe": arguments.probe(),
                  **arguments.listing(), **arguments.settings()},
    "mwan_policy": {"policies": arguments.policies(), "rules": arguments.rules(), "sets": arguments.sets(),
                    "default_policy": {"type": "str"},
                    "ip_forward": {"type": "bool"}, "multipath_hash": {"type": "str", "choices": list(Settings.HASHES)},
                    "classify": {"type": "str", "choices": list(Settings.CLASSIFIERS)},
                    **arguments.listing(), **arguments.settings()},
    "mwan_snat": {"snat": arguments.snat(), **arguments.listing(), **arguments.settings()},
    "mwan_dnat": {"dnat": arguments.dnat(), **arguments.listing(), **arguments.settings()},
    "mwan_rpfilter": {**arguments.rp_filter(), "state": arguments.listing()["state"], **arguments.settings()},
}  # fmt: skip


def known_to_model(kind: Any) -> set[str]:
    """The keys a model class accepts, as its refusal of another one lists them."""
    with pytest.raises(InputError, match="is not an option") as caught:
        kind.parse("x", {"no such option": 1})
    return set(caught.value.remedy.removeprefix("Known are ").split(", "))


@pytest.mark.parametrize("name", KINDS)
def test_a_list_of_objects_has_the_options_of_its_model(name: str) -> None:
    assert set(getattr(arguments, name)()["options"]) == known_to_model(KINDS[name])


def test_a_policy_member_has_the_options_of_its_model() -> None:
    assert set(arguments.policies()["options"]["members"]["options"]) == known_to_model(Member)


def test_probing_has_the_options_of_its_settings() -> None:
    options = arguments.probe()["options"]
    assert set(options) == known_to_model(ProbeOverrides) == {field.name for field in fields(ProbeSettings)}
    assert set(options["damping"]["options"]) == known_to_model(Damping)
    assert set(options["loss"]["options"]) == set(options["rtt"]["options"]) == {f.name for f in fields(Thresholds)}


@pytest.mark.parametrize(("name", "kind"), [("on_down", OnDown), ("failback", Failback)])
def test_what_becomes_of_connections_has_the_options_of_its_model(name: str, kind: Any) -> None:
    assert set(arguments.policies()["options"][name]["options"]) == known_to_model(kind)


def test_reverse_path_filtering_has_the_options_of_its_model() -> None:
    assert set(arguments.rp_filter()) == known_to_model(RpFilter) == set(changes.RP_FILTER)


def test_every_setting_can_be_given_to_some_module() -> None:
    given = {option for spec in SPECS.values() for option in spec}
    assert known_to_model(Settings) <= given


def documentation(module: str) -> Any:
    return importlib.import_module(f"ansible_collections.multiwan.linux.plugins.modules.{module}")


def examples() -> list[Any]:
    return [
        pytest.param(module, task[f"multiwan.linux.{module}"], id=task["name"])
        for module in CHANGES
        for task in yaml.safe_load(documentation(module).EXAMPLES)
        if f"multiwan.linux.{module}" in task
    ]


@pytest.mark.parametrize(("module", "params"), examples())
def test_an_example_of_the_documentation_is_accepted(module: str, params: Any) -> None:
    checked = ArgumentSpecValidator(SPECS[module]).validate(params)
    assert checked.error_messages == []
    lte = [{"name": name, "device": name} for name in ("isp_a", "isp_b", "lte")]
    links = changes.settings(Document.parse({"links": lte}), checked.validated_parameters)
    if module == "mwan_policy":
        links = changes.policies(links, {**checked.validated_parameters, "default_policy": ""})
    CHANGES[module](links, checked.validated_parameters).check()


@pytest.mark.parametrize("module", CHANGES)
def test_a_modules_documentation_names_exactly_its_options(module: str) -> None:
    fragment = importlib.import_module("ansible_collections.multiwan.linux.plugins.doc_fragments.settings")
    shared = yaml.safe_load(fragment.ModuleDocFragment.DOCUMENTATION)["options"]
    documented = yaml.safe_load(documentation(module).DOCUMENTATION)["options"] | shared
    compare(documented, SPECS[module], "suboptions")


def test_what_can_be_asked_of_a_path_is_documented_and_understood() -> None:
    spec = arguments.path()
    compare(yaml.safe_load(documentation("mwan_path").DOCUMENTATION)["options"], spec, "suboptions")
    assert set(OPTIONS) | {"down"} == set(spec)


def compare(documented: dict[str, Any], specs: dict[str, Any], below: str) -> None:
    assert set(documented) == set(specs)
    for option, spec in specs.items():
        told = documented[option]
        keys = ("type", "elements", "default", "required")
        assert [told.get(key) for key in keys] == [spec.get(key) for key in keys], option
        assert set(told.get("choices", ())) == set(spec.get("choices", ())), option
        compare(told.get(below, {}), spec.get("options", {}), below)


@pytest.mark.parametrize(("variable", "spec"), [
    ("mwan_links", arguments.links()), ("mwan_probe", arguments.probe()), ("mwan_policies", arguments.policies()),
    ("mwan_rules", arguments.rules()), ("mwan_snat", arguments.snat()),
    ("mwan_dnat", arguments.dnat()),
])  # fmt: skip
def test_a_variable_of_the_role_has_the_options_of_the_module(variable: str, spec: dict[str, Any]) -> None:
    options = yaml.safe_load(ROLE.read_text())["argument_specs"]["main"]["options"]
    same_names(options[variable].get("options", {}), spec["options"])


def same_names(told: dict[str, Any], specs: dict[str, Any]) -> None:
    assert set(told) == set(specs)
    for option, spec in specs.items():
        assert set(told[option].get("choices", ())) == set(spec.get("choices", ())), option
        same_names(told[option].get("options", {}), spec.get("options", {}))


def test_the_roles_defaults_are_those_of_its_argument_specs() -> None:
    options = yaml.safe_load(ROLE.read_text())["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((ROOT / "roles/router/defaults/main.yml").read_text())
    assert set(defaults) <= set(options)
    declared = {name: option["default"] for name, option in options.items() if "default" in option}
    assert {name: defaults.get(name) for name in declared} == declared
