# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Which probes there are, when they are made anew, and whose answers still count."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from _mwan.document import Document
from _mwan.model import Settings
from _mwan.probes import Binding, Sink
from _mwan.resolve import resolve
from _mwan.service import named
from _mwan.service.counters import Counters
from _mwan.service.probing import Probing, Way
from _mwan.watch.judge import Watch
from _mwan.watch.link import GATEWAY
from _mwan.watch.settings import ProbeSettings
from unit.service.world import VirtualLoop
from unit.worlds import facts

DOCUMENT = Document.parse(
    {"links": [{"name": "isp_a", "device": "wan1", "gateway": "5.5.5.1"}, {"name": "line", "device": "ppp0"}]}
)


def settings(*targets: Any) -> ProbeSettings:
    return ProbeSettings.parse("probe", {"targets": list(targets)})


THREE = settings("192.0.2.1", "tcp://192.0.2.2:443", "arp")


class Recorded:
    """A probe that does nothing, and what it was made with."""

    def __init__(self, target: Mapping[str, Any], binding: Binding, sink: Sink) -> None:
        self.target, self.binding, self.sink = target, binding, sink
        self.asked: list[int] = []
        self.closed = False

    def start(self) -> None:
        """Nothing to prepare."""

    def send(self, seq: int) -> None:
        self.asked.append(seq)

    def close(self) -> None:
        self.closed = True


class Bench:
    def __init__(self, **probed: ProbeSettings) -> None:
        self.loop = VirtualLoop()
        self.made: list[Recorded] = []
        self.heard: list[float] = []
        self.settings = probed
        self.counters = Counters()
        self.counters.configure({name: [target.label for target in item.targets] for name, item in probed.items()})
        self.watch = Watch(probed, {}, 0.0)
        self.probing = Probing(self.watch, self.counters, self.heard.append, self._make, self.loop)
        self.follow()

    def _make(self, target: Mapping[str, Any], binding: Binding, sink: Sink, _loop: object) -> Recorded:
        self.made.append(Recorded(target, binding, sink))
        return self.made[-1]

    def follow(self, **changed: Way | None) -> None:
        self.probing.follow({name: changed.get(name, way(name)) for name in self.settings}, self.settings)

    def open(self) -> list[Recorded]:
        return [probe for probe in self.made if not probe.closed]


def way(name: str, **changed: Any) -> Way | None:
    seen = facts(**changed)
    return Way.of(resolve(DOCUMENT, seen)[name], seen, Settings())


@pytest.fixture(autouse=True)
def closed_loops(monkeypatch: pytest.MonkeyPatch) -> Any:
    loops: list[VirtualLoop] = []
    made = VirtualLoop.__init__

    def remembered(self: VirtualLoop) -> None:
        made(self)
        loops.append(self)

    monkeypatch.setattr(VirtualLoop, "__init__", remembered)
    yield
    for loop in loops:
        loop.close()


def test_targets_are_bound_to_their_link() -> None:
    bench = Bench(isp_a=THREE)
    assert [probe.target["kind"] for probe in bench.made] == ["icmp", "tcp", "arp", "arp"]
    assert {probe.binding for probe in bench.made} == {Binding("wan1", "5.5.5.5", 0x100)}
    assert [probe.target["address"] for probe in bench.made[2:]] == ["5.5.5.1", "5.5.5.1"], "the gateway's"
    assert bench.probing.targets("isp_a", gateway=False) == [0, 1, 2]
    assert bench.probing.targets("isp_a", gateway=True) == [0, 1, 2, GATEWAY]
    assert bench.probing.targets("nobody", gateway=True) == []


def test_a_line_without_gateway_has_none_to_ask() -> None:
    bench = Bench(line=THREE)
    assert [probe.target["kind"] for probe in bench.made] == ["icmp", "tcp"]
    assert bench.probing.targets("line", gateway=True) == [0, 1, 2]
    bench.probing.send("line", 2, 0.0)
    assert bench.watch.snapshot(0.0)["line"]["targets"][2]["error"] == "the link has no gateway to ask for"


def test_what_stays_goes_on_and_what_changes_is_made_anew() -> None:
    bench = Bench(isp_a=THREE)
    bench.follow()
    assert len(bench.made) == 4
    for changed in (
        replace(way("isp_a"), gateway="5.5.5.2"),
        replace(way("isp_a"), index=77),
        replace(way("isp_a"), binding=Binding("wan1", "5.5.5.9", 0x100)),
    ):
        before = bench.open()
        bench.follow(isp_a=changed)
        assert all(probe.closed for probe in before)
        assert len(bench.open()) == 4
    bench.settings = {"isp_a": settings("192.0.2.9")}
    bench.follow()
    assert [probe.target["address"] for probe in bench.open()] == ["192.0.2.9", "5.5.5.1"]
    bench.settings = {}
    bench.follow()
    assert bench.open() == []


def test_a_link_without_a_way_is_silent_and_goes_on_where_it_was() -> None:
    bench = Bench(isp_a=THREE)
    bench.follow(isp_a=None)
    assert (len(bench.open()), bench.probing.targets("isp_a", gateway=True)) == (4, [])
    bench.follow()
    assert (len(bench.made), bench.probing.targets("isp_a", gateway=False)) == (4, [0, 1, 2])
    bench.probing.close()
    assert bench.open() == []


def test_a_link_that_is_not_ready_has_no_way() -> None:
    assert way("isp_a") is not None
    for changed in ({"wan1": None}, {"wan1": {"up": False}}, {"wan1": {"carrier": False}}, {"lost": "5.5.5.5"}):
        if changed.get("lost"):
            assert way("isp_a", lost="5.5.5.5") != way("isp_a")
        else:
            assert way("isp_a", **changed) is None


def test_answers_are_told_with_what_they_took() -> None:
    bench = Bench(isp_a=THREE)
    bench.probing.send("isp_a", 0, 1.0)
    bench.made[0].sink.replied(bench.made[0].asked[0], 1.25)
    bench.probing.send("isp_a", 1, 1.3)
    bench.made[1].sink.refused(bench.made[1].asked[0], 1.4, "unreachable")
    bench.probing.send("isp_a", 0, 1.5)
    bench.made[0].sink.failed(bench.made[0].asked[1], "no buffer")
    assert bench.heard[:2] == [1.25, 1.4], "before the watch is told"
    targets = bench.watch.snapshot(2.0)["isp_a"]["targets"]
    assert (targets[0]["heard_ago"], targets[0]["error"]) == (0.75, "no buffer")
    probes = bench.counters.dump()["probes"]["isp_a"]
    assert (probes["192.0.2.1"]["sent"], probes["192.0.2.1"]["answered"], probes["192.0.2.1"]["failed"]) == (2, 1, 1)
    assert probes["192.0.2.1"]["seconds"]["sum"] == 0.25
    assert probes["tcp://192.0.2.2:443"]["refused"] == 1


def test_answers_to_former_probes_are_not_heard() -> None:
    bench = Bench(isp_a=THREE)
    bench.probing.send("isp_a", 0, 1.0)
    former = bench.made[0]
    bench.follow(isp_a=replace(way("isp_a"), index=77))
    before = bench.watch.snapshot(2.0)
    former.sink.replied(former.asked[0], 1.5)
    former.sink.refused(former.asked[0], 1.5, "unreachable")
    former.sink.failed(former.asked[0], "gone")
    assert bench.watch.snapshot(2.0) == before
    assert bench.heard == []


def test_numbers_are_never_used_again() -> None:
    """The watch knows a probe by its number, also over a change of configuration."""
    bench = Bench(isp_a=THREE)
    for index in range(20):
        bench.follow(isp_a=replace(way("isp_a"), index=index))
        bench.probing.send("isp_a", index % 3, float(index))
    asked = [seq for probe in bench.made for seq in probe.asked]
    assert len(set(asked)) == len(asked) == 20


def test_what_cannot_be_made_tells_why() -> None:
    bench = Bench(isp_a=settings("192.0.2.1"))

    def impossible(*_arguments: object) -> Recorded:
        raise ValueError("this cannot be")

    bench.probing._make = impossible  # type: ignore[assignment]
    bench.follow(isp_a=replace(way("isp_a"), index=77))
    bench.probing.send("isp_a", 0, 0.0)
    assert bench.watch.snapshot(0.0)["isp_a"]["targets"][0]["error"] == "this cannot be"


# names

PAGE = {"kind": "http", "url": "http://check.example/", "resolver": "192.0.2.53"}


class Heard:
    def __init__(self) -> None:
        self.failures: list[str] = []

    def failed(self, _seq: int, why: str) -> None:
        self.failures.append(why)


class Names:
    """A resolver that gives these answers in turn, and then the last one for ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Any) -> None:
        self.answers, self.asked, self.made = list(answers), 0, list[Recorded]()
        monkeypatch.setattr(named, "lookup", self._lookup)
        monkeypatch.setattr(named, "make", self._make)
        self.loop, self.sink = VirtualLoop(), Heard()
        self.probe = named.make_probe(PAGE, Binding("wan1", None, 1), self.sink, self.loop)  # type: ignore[arg-type]
        self.probe.start()

    async def _lookup(self, name: str, resolver: str, _binding: Binding, _loop: object) -> list[str]:
        assert (name, resolver) == ("check.example", "192.0.2.53")
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return list(answer)

    def _make(self, target: Mapping[str, Any], binding: Binding, sink: Sink, _loop: object) -> Recorded:
        self.made.append(Recorded(target, binding, sink))
        return self.made[-1]

    def run(self, seconds: float) -> None:
        self.loop.call_later(seconds, self.loop.stop)
        self.loop.run_forever()

    def end(self) -> None:
        self.probe.close()
        self.run(0)


def test_a_name_is_looked_up_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    silence = OSError(errno.ETIMEDOUT, "timed out")
    names = Names(monkeypatch, ["7.7.7.1", "7.7.7.2"], ["7.7.7.2", "7.7.7.1"], silence, ["7.7.7.9"])
    names.run(1)
    names.probe.send(1)
    assert [probe.target["address"] for probe in names.made] == ["7.7.7.1"]
    names.run(2 * named.REFRESH)
    assert (names.asked, len(names.made)) == (3, 1), "one of the addresses still, and then nobody answered"
    names.run(named.RETRY)
    assert [probe.target["address"] for probe in names.made] == ["7.7.7.1", "7.7.7.9"]
    assert (names.made[0].closed, names.made[0].asked, names.sink.failures) == (True, [1], [])
    names.end()
    assert names.made[1].closed


@pytest.mark.parametrize(
    ("answer", "failures"),
    [
        (OSError(errno.ETIMEDOUT, "timed out"), []),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), ["check.example cannot be looked up"]),
        ([], ["192.0.2.53 knows no address"]),
    ],
)
def test_without_an_address_a_silent_resolver_is_silence(
    monkeypatch: pytest.MonkeyPatch, answer: Any, failures: list[str]
) -> None:
    names = Names(monkeypatch, answer)
    names.run(1)
    names.probe.send(1)
    assert [why[: len(start)] for why, start in zip(names.sink.failures, failures, strict=True)] == failures
    names.end()
