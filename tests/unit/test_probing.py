# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""How each link is watched: its own settings over those for all, over the defaults; and what it carries."""

from __future__ import annotations

from typing import Any

import pytest
from _mwan import changes, values
from _mwan.document import Document
from _mwan.errors import InputError
from _mwan.watch.settings import PROFILES, ProbeOverrides, ProbeSettings, Thresholds
from _mwan.watch.target_spec import Target
from hypothesis import given
from hypothesis import strategies as st


def document(general: Any = None, **links: Any) -> Document:
    listed = [{"name": name, "device": name, "probe": probe} for name, probe in links.items()]
    return Document.parse({"settings": {"probe": general}, "links": listed})


def test_what_nobody_gives_has_its_default() -> None:
    assert document(isp_a=None, isp_b={}).probe_settings() == {"isp_a": ProbeSettings(), "isp_b": ProbeSettings()}


def test_a_link_goes_before_all_links_and_these_before_the_default() -> None:
    found = document(
        {"targets": ["192.0.2.1"], "up_after": "1min", "loss": {"enter": 10, "leave": 2}, "flush_delay": 0},
        isp_a={"up_after": 30, "loss": {"enter": 20}},
        isp_b={"targets": []},
    ).probe_settings()
    assert [target.label for target in found["isp_a"].targets] == ["192.0.2.1"]
    assert found["isp_b"].targets == ()
    assert (found["isp_a"].up_after, found["isp_b"].up_after) == (30, 60)
    assert found["isp_a"].loss == Thresholds(20, 20), "a value is replaced as a whole"
    assert found["isp_a"].flush_delay == found["isp_b"].flush_delay == 0
    assert found["isp_a"].rtt is None


@pytest.mark.parametrize(
    ("general", "own", "timing"),
    [
        ({"profile": "fast"}, {}, PROFILES["fast"]),
        ({"profile": "fast"}, {"profile": "calm"}, PROFILES["calm"]),
        ({"interval": "100ms", "dead": 5}, {}, (0.1, 5)),
        ({"interval": "100ms", "dead": 5}, {"profile": "calm"}, PROFILES["calm"]),
        ({"interval": "100ms", "dead": 5}, {"profile": "default"}, PROFILES["default"]),
        ({"interval": "100ms", "dead": 5}, {"profile": "calm", "dead": 6}, (1, 6)),
        ({"interval": "100ms", "dead": 5}, {"dead": 6}, (0.1, 6)),
        ({"profile": "metered"}, {"interval": 5}, (5, 20)),
    ],
)
def test_a_links_profile_comes_with_its_own_timing(general: Any, own: Any, timing: tuple[float, float]) -> None:
    found = document(general, isp_a=own).probe_settings()["isp_a"]
    assert (found.interval, found.dead) == timing


@pytest.mark.parametrize(
    ("general", "own", "option"),
    [
        ({"profile": "quick"}, {}, "settings.probe.profile"),
        ({"dead": 0.5}, {}, "settings.probe.dead"),
        ({"dead": 0.5}, {"dead": 1}, "settings.probe.dead"),
        ({"targets": ["192.0.2.1"], "quorum": 2}, {}, "settings.probe.quorum"),
        ({"quorum": 3}, {"targets": ["192.0.2.1"]}, "links.isp_a.probe.quorum"),
        ({"interval": 1}, {"dead": 1}, "links.isp_a.probe.dead"),
        ({}, {"up_after": "1h"}, "links.isp_a.probe.damping.longest"),
        ({}, {"flush_delay": -1}, "links[0].probe.flush_delay"),
        ({}, {"targets": ["nowhere"]}, "links[0].probe.targets[0].address"),
        ({}, "fast", "links[0].probe"),
    ],
)
def test_what_does_not_fit_together_is_named_where_it_is_declared(general: Any, own: Any, option: str) -> None:
    with pytest.raises(InputError) as caught:
        document(general, isp_a=own)
    assert caught.value.option == option
    assert caught.value.remedy


def test_settings_for_all_links_are_checked_without_any_link() -> None:
    with pytest.raises(InputError, match="leaves no time for a second probe"):
        document({"dead": 0.5})


OWN = st.fixed_dictionaries({}, optional={
    "targets": st.lists(st.integers(1, 9).map("192.0.2.{}".format), max_size=3, unique=True),
    "profile": st.sampled_from(sorted(PROFILES)),
    "interval": st.sampled_from((0.1, "250ms")), "dead": st.sampled_from((20, "1min")),
    "up_after": st.sampled_from((1, "90s")), "loss": st.sampled_from((7, {"enter": "9%", "leave": 3})),
    "rtt": st.just({"enter": "80ms"}), "degraded": st.sampled_from(("keep", "reweight", "out")),
    "damping": st.just({"half_life": 60}), "flush_delay": st.sampled_from((0, "3s")),
})  # fmt: skip


@given(OWN, OWN)
def test_what_is_stored_means_the_same_and_has_one_form(general: Any, own: Any) -> None:
    found = document(general, isp_a=own)
    again = Document.parse(found.dump())
    assert again == found
    assert again.dump() == found.dump()
    assert again.probe_settings() == found.probe_settings()


@given(OWN, OWN)
def test_each_value_comes_from_the_first_place_that_gives_it(general: Any, own: Any) -> None:
    found = document(general, isp_a=own).probe_settings()["isp_a"].dump()
    places = [ProbeOverrides.parse("x", place).dump() for place in (own, general)]
    for key, value in found.items():
        if key not in ("interval", "dead"):
            given_values = [place[key] for place in places if key in place]
            assert value == (given_values or [ProbeSettings().dump().get(key)])[0]


def test_what_modules_pass_for_left_out_suboptions_is_left_out() -> None:
    noise = {"targets": None, "loss": None, "damping": {"half_life": None, "longest": None}, "rtt": None}
    params = {"links": [{"name": "isp_a", "device": "wan1", "gateway": None, "probe": noise, "rate": None}],
              "state": "present", "purge": False}  # fmt: skip
    found = changes.links(Document(), params).check()
    assert found.probe_settings()["isp_a"] == ProbeSettings()
    target = {"kind": "http", "url": "https://192.0.2.1", "status": None, "verify": None}
    assert Target.parse("x", target) == Target.parse("x", "https://192.0.2.1/")


def test_earlier_tasks_are_assumed_to_declare_probing_too() -> None:
    """A link may ask for as many answers as there are targets for all links, which an earlier task declares."""
    declared = {"probe": {"targets": [f"192.0.2.{i}" for i in range(1, 6)]},
                "links": [{"name": "isp_a", "device": "wan1", "probe": {"quorum": 5}}]}  # fmt: skip
    assert changes.assume(Document(), declared).check().probe_settings()["isp_a"].quorum == 5
    with pytest.raises(InputError, match=r"links\.isp_a\.probe\.quorum: 5 is more than the 3 targets"):
        changes.assume(Document(), {**declared, "probe": {}}).check()


@pytest.mark.parametrize(
    ("written", "bits"),
    [("100mbit", 10**8), ("2.5 gbit", 2_500_000_000), ("500Kbit", 500_000), (64000, 64000), ("64000", 64000),
     (1e6, 10**6), ("9600bit", 9600)],
)  # fmt: skip
def test_a_rate_is_kept_in_bits_per_second(written: Any, bits: int) -> None:
    found = Document.parse({"links": [{"name": "isp_a", "device": "wan1", "rate": written}]})
    assert found.link("isp_a").rate == bits
    assert Document.parse(found.dump()) == found


@pytest.mark.parametrize("written", ["fast", "100MB", "0", 999, -1, True, "10tbit", float("inf"), [], "100 mbit/s"])
def test_a_rate_that_is_none_is_refused(written: Any) -> None:
    with pytest.raises(InputError, match="is not a data rate") as caught:
        values.rate("links[0].rate", written)
    assert caught.value.option == "links[0].rate"
