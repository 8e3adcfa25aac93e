# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What the command line prints: figures, tables, the status with and without a prober, events."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from _mwan.console import control, events, status, table, words
from _mwan.console.status import Picture
from _mwan.console.table import Column
from _mwan.console.tail import Tail
from _mwan.desired import compile_state
from _mwan.document import Document
from _mwan.errors import KernelError
from _mwan.health import Health
from unit.worlds import TWO_LINKS, facts

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0 s"), (0.34, "0.3 s"), (9, "9 s"), (61, "1 min 1 s"), (120, "2 min"), (3599, "59 min 59 s"),
     (7201, "2 h"), (93600, "1 d 2 h"), (-3, "0 s")],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (120_000, "120 kB"),
        (999_600, "1.0 MB"),
        (12_345_678_901, "12.3 GB"),
        (10**18, "1000 PB"),
    ],
)
def test_octets(number: int | None, text: str) -> None:
    assert words.octets(number) == text


@pytest.mark.parametrize(
    ("part", "text"),
    [(None, "-"), (0.0, "0 %"), (0.0001, "< 0.1 %"), (0.004, "0.4 %"), (0.666, "67 %"), (1.0, "100 %")],
)
def test_percent(part: float | None, text: str) -> None:
    assert words.percent(part) == text


def test_times_are_read_from_seconds_and_from_iso_text() -> None:
    assert words.moment(NOW) == NOW
    assert words.moment("2027-01-15T08:00:00Z") == words.moment("2027-01-15T09:00:00+01:00") == NOW
    assert words.moment("soon") is words.moment(None) is words.moment(True) is None


# tables

COLUMNS = (Column("NAME"), Column("SIZE", right=True, optional=1), Column("MORE", optional=2), Column("WHY"))
ROWS = [
    {"NAME": "first", "SIZE": "1", "MORE": "something", "WHY": "no answer for two seconds from anybody at all"},
    {"NAME": "b", "SIZE": "1000", "MORE": "-", "WHY": ""},
]


def test_a_wide_table_is_aligned() -> None:
    assert table.render(COLUMNS, ROWS, 100) == [
        "NAME   SIZE  MORE       WHY",
        "first     1  something  no answer for two seconds from anybody at all",
        "b      1000  -",
    ]


def test_text_is_wrapped_beside_the_columns_and_below_them_where_there_is_no_room() -> None:
    assert table.render(COLUMNS, ROWS, 50)[1:4] == [
        "first     1  something  no answer for two seconds",
        "                        from anybody at all",
        "b      1000  -",
    ]
    narrow = table.render(COLUMNS, ROWS, 30)
    assert narrow[1] == "first     1  something"
    assert " ".join(line.strip() for line in narrow[2:4]) == ROWS[0]["WHY"]


def test_columns_that_can_be_done_without_go_first() -> None:
    assert table.render(COLUMNS, ROWS, 20)[0] == "NAME   SIZE  WHY"
    assert table.render(COLUMNS, ROWS, 8)[0] == "NAME   WHY"


def test_colour_surrounds_the_cell_and_moves_nothing() -> None:
    painted = table.render(COLUMNS, ROWS, 100, lambda title, text: "red" if (title, text) == ("NAME", "b") else None)
    assert painted[2] == "\x1b[31mb    \x1b[0m  1000  -"
    assert painted[:2] == table.render(COLUMNS, ROWS, 100)[:2]


# the status


def picture(states: Mapping[str, str] | None = None, wish: Mapping[str, Any] = TWO_LINKS, **fields: Any) -> Picture:
    document, seen = Document.parse(wish), facts(**fields.pop("machine", {}))
    health = Health(states or {}, fields.pop("released", {})).drained(fields.get("drained", {}))
    return Picture(document, compile_state(document, seen, health), seen, health, NOW, **fields)


def answer(**links: dict[str, Any]) -> dict[str, Any]:
    """The prober's, with these links."""
    return {"version": "abc", "started": NOW - 100, "held": False, "converge": {"last_error": None}, "links": links}


def text(pictured: Picture, width: int = 150) -> str:
    return "\n".join(status.lines(status.build(pictured), NOW, width))


UP = {"state": "up", "since_wall": NOW - 93600, "reason": "answers", "loss": 0.0, "rtt": 0.0123}
DOWN = {"state": "down", "since_wall": NOW - 65, "reason": "no answer for 2.0 s", "loss": 1.0, "rtt": None}


def test_each_link_has_a_line() -> None:
    seen = picture(
        {"isp_a": "down", "isp_b": "up"},
        prober=answer(isp_a=DOWN, isp_b=UP),
        octets={"wan1": {"received": 1500, "sent": 2}},
        connections={0x200: 7},
    )
    assert text(seen).splitlines()[:3] == [
        "LINK   DEVICE  STATE      SINCE   LOSS      RTT  SHARE  CONNS      IN  OUT  WHY",
        "isp_a  wan1    down   1 min 5 s  100 %        -    0 %      0  1.5 kB  2 B  no answer for 2.0 s",
        "isp_b  wan2    up       1 d 2 h    0 %  12.3 ms  100 %      7       -    -  answers",
    ]
    assert "prober" not in text(seen)


def test_without_a_prober_its_last_word_stands_and_nobody_is_called_down() -> None:
    told = {"isp_a": {"state": "up", "since": "2027-01-15T07:00:00+00:00", "reason": "answers", "loss": 0.5}}
    seen = picture({"isp_a": "up"}, told=told, written="2027-01-15T07:59:50+00:00")
    lines = text(seen).splitlines()
    assert lines[1].split()[2] == "up"
    assert "1 h" in lines[1]
    assert "50 %" not in lines[1], "a figure that nobody measures any more"
    assert "The prober (mwand) is not running" in text(seen)
    assert "wrote last, 10 s ago" in text(seen)
    assert "presumed up" in text(picture())
    assert "down" not in text(picture())
    assert "does not answer (permission denied)" in text(picture(silent="does not answer (permission denied)"))


def test_a_drained_link_shows_who_drained_it_and_how_to_end_it() -> None:
    drained = {"isp_a": {"since": "2027-01-15T07:00:00+00:00", "why": "new modem"}}
    seen = picture({"isp_a": "up"}, drained=drained, prober=answer(isp_a=UP, isp_b=UP))
    built = status.build(seen)["links"]["isp_a"]
    assert (built["state"], built["since"], built["reason"]) == ("drained", NOW - 3600, "new modem")
    assert built["shares"] == {"balanced": 0.0}
    assert "`mwanctl undrain isp_a`" in text(seen)
    both = status.build(picture({"isp_a": "down"}, drained=drained, prober=answer(isp_a=DOWN)))["links"]["isp_a"]
    assert (both["state"], both["reason"]) == ("down", "no answer for 2.0 s")
    assert "isp_a is drained as well" in text(picture({"isp_a": "down"}, drained=drained, prober=answer(isp_a=DOWN)))


def test_what_keeps_a_link_out_is_told() -> None:
    assert "device wan1 is down" in text(picture(machine={"wan1": {"up": False}})).splitlines()[1]
    assert "wan1 has no carrier" in text(picture(machine={"wan1": {"carrier": False}})).splitlines()[1]


def test_notes_tell_what_the_table_cannot() -> None:
    held = {**answer(isp_a=UP), "held": True, "converge": {"last_error": "nft says no"}, "problem": "bad weight"}
    seen = text(picture({"isp_a": "down"}, released={"isp_a": "down", "isp_b": "failback"}, prober=held))
    for part in ("silence moves nothing", "isp_a is given up", "isp_b is being left", "nft says no", "bad weight"):
        assert part in seen
    assert "what the kernel does may differ" in seen, "the shares are computed"


SILENT = {**UP, "silence": 303.4, "held": "no target answers on any link"}


def test_trouble_of_the_helper_of_least_connections_is_told() -> None:
    told = {"running": True, "problem": None}
    assert "mwan-balance" not in text(picture(prober={**answer(), "balance": told}))
    assert status.build(picture(prober={**answer(), "balance": told}))["balance"] == told
    told = {"running": True, "problem": "queue 7701 of policy balanced cannot be answered"}
    assert "cannot do its work: queue 7701" in text(picture(prober={**answer(), "balance": told}))
    assert "connections are spread by weight" in text(picture(prober={**answer(), "balance": {"running": False}}))


def test_a_link_that_is_held_does_not_say_that_it_answers() -> None:
    seen = text(picture(prober={**answer(isp_a=SILENT, isp_b=SILENT), "held": True}))
    assert "silent for 5 min 3 s, held: no target answers on any link" in seen
    assert "  answers" not in seen


def test_a_link_that_answers_again_says_when_it_is_up() -> None:
    seen = picture({"isp_a": "down"}, prober=answer(isp_a={**DOWN, "up_in": 12.34}, isp_b={**UP, "up_in": None}))
    assert "isp_a answers again, and is up in 12 s if it goes on" in text(seen)
    assert "isp_b answers again" not in text(seen)
    assert "answers again" not in text(picture({"isp_a": "down"}, told={"isp_a": {**DOWN, "up_in": 5}}))


def test_shares_of_several_policies_and_of_a_lower_tier_are_listed() -> None:
    wish = {**TWO_LINKS, "policies": [*TWO_LINKS["policies"], {"name": "voice", "members": [{"link": "isp_b"}]}]}
    seen = text(picture(wish=wish))
    assert "policy balanced (default), tier 1: isp_a 75 %, isp_b 25 %" in seen
    assert "policy voice, tier 1: isp_b 100 %" in seen
    assert "policy" not in text(picture()), "the table says it all"
    assert "no link can take new connections; last resort: unreachable" in text(
        picture({"isp_a": "down", "isp_b": "down"})
    )


def test_octets_of_a_shared_device_are_told_once() -> None:
    routers = [{"name": f"r{n}", "device": "seg0", "gateway": f"192.168.100.{n}"} for n in (1, 2)]
    seen = text(picture(wish={"links": routers}, octets={"seg0": {"received": 10, "sent": 20}}))
    assert seen.count("shared  shared") == 2
    assert "seg0, shared by r1 and r2: 10 B in, 20 B out" in seen


def test_a_router_without_links() -> None:
    assert text(picture(wish={})) == "No link is declared on this router."


def test_it_fits_a_narrow_terminal() -> None:
    seen = picture({"isp_a": "down"}, prober=answer(isp_a={**DOWN, "reason": "no answer from " + "9.9.9.9, " * 9}))
    for width in (50, 80):
        assert max(map(len, text(seen, width).splitlines())) <= width


@pytest.mark.parametrize(
    ("states", "running", "code", "part"),
    [
        ({}, True, status.OK, "2 of 2 links"),
        ({"isp_a": "down"}, True, status.WARNING, "isp_a down"),
        ({"isp_a": "suspect"}, True, status.WARNING, "isp_a suspect"),
        ({"isp_a": "down", "isp_b": "down"}, True, status.CRITICAL, "balanced"),
        ({"isp_a": "down", "isp_b": "down"}, False, status.CRITICAL, "balanced"),
        ({"isp_a": "drained"}, True, status.OK, "1 of 2"),
        ({}, False, status.UNKNOWN, "not running"),
    ],
)
def test_one_line_for_monitoring(states: dict[str, str], running: bool, code: int, part: str) -> None:
    seen = picture(states, prober=answer() if running else None)
    found, line = status.check(status.build(seen))
    assert found == code
    assert line.startswith(f"MWAN {status.VERDICTS[code]}: ")
    assert part in line


@pytest.mark.parametrize(
    ("links", "told", "code", "part"),
    [
        ({"isp_a": SILENT, "isp_b": SILENT}, {"held": True}, status.CRITICAL, "isp_b silent for 5 min 3 s, held"),
        ({"isp_a": DOWN, "isp_b": SILENT}, {"held": True}, status.CRITICAL, "no target answers on any link"),
        ({"isp_a": {**SILENT, "held": "its targets answer on no link"}}, {}, status.WARNING, "isp_a silent for"),
        ({}, {"converge": {"last_error": "nft says\nno"}}, status.CRITICAL, "nft says no"),
        ({}, {"converge": {"last_error": None, "running_for": 25.0}}, status.CRITICAL, "began 25 s ago"),
        ({}, {"converge": {"last_error": None, "running_for": 5.0}}, status.OK, "2 of 2 links"),
        ({}, {"problem": "bad weight"}, status.WARNING, "bad weight"),
    ],
)
def test_what_the_prober_is_in_trouble_with_is_for_monitoring(
    links: dict[str, Any], told: dict[str, Any], code: int, part: str
) -> None:
    states = {name: link["state"] for name, link in links.items()}
    found, line = status.check(status.build(picture(states, prober={**answer(**links), **told})))
    assert found == code
    assert part in line


def test_what_a_prober_that_does_not_run_keeps_out_is_told() -> None:
    gone, mute = picture({"isp_a": "down"}), picture({"isp_a": "down"}, silent="does not answer")
    assert "link isp_a is kept out by the last word" in text(gone)
    assert "link isp_a is kept out" in status.check(status.build(gone))[1]
    assert "kept out" not in text(mute) + text(picture({"isp_a": "down"}, prober=answer(isp_a=DOWN)))


def test_a_router_without_links_is_unknown_to_monitoring() -> None:
    assert status.check(status.build(picture(wish={})))[0] == status.UNKNOWN


# events

CHANGE = {"time": NOW, "event": "state", "link": "isp_a", "before": "up", "after": "down",
          "reason": "no answer for 2.0 s", "duration": 7200.0}  # fmt: skip


def test_events_are_chosen_by_link_and_broken_lines_left_out() -> None:
    lines = [
        json.dumps(CHANGE),
        '{"time": 1, "ev',
        json.dumps({**CHANGE, "link": "isp_b"}),
        "[]",
        '{"event": "reload"}',
    ]
    assert [event.get("link") for event in events.parse(lines)] == ["isp_a", "isp_b", None]
    assert [event["link"] for event in events.parse(lines, "isp_b")] == ["isp_b"]


def test_an_event_in_words() -> None:
    line = events.line(CHANGE)
    assert line.startswith(words.local_time(NOW))
    assert line.endswith("  isp_a       up -> down           no answer for 2.0 s  (up for 2 h)")
    failed = events.line({"time": NOW, "event": "converge_failed", "link": None, "reason": "nft says no"})
    assert failed.endswith("converge failed  nft says no")
    assert events.line({"event": "converge_failed", "reason": "nft:\nyou must be root"}).endswith(
        "nft: you must be root"
    )


def test_lines_that_come_are_told_once_across_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_text("old\n")
    tail = Tail(str(path))
    writer = path.open("a")
    assert list(tail.new()) == []
    writer.write("one\ntw")
    writer.flush()
    assert list(tail.new()) == ["one"]
    writer.write("o\nlast\n")
    writer.close()
    path.rename(tmp_path / "events.1")
    assert list(tail.new()) == ["two", "last"]
    path.write_text("new\n")
    assert list(tail.new()) == ["new"]
    assert list(tail.new()) == []
    tail.close()


def test_a_file_that_appears_later_is_told_whole(tmp_path: Path) -> None:
    tail = Tail(str(tmp_path / "events"))
    assert list(tail.new()) == []
    (tmp_path / "events").write_text("first\n")
    assert list(tail.new()) == ["first"]
    tail.close()


# the control socket


@contextmanager
def prober(path: Path, reply: bytes) -> Iterator[list[bytes]]:
    """Somebody who answers one request with these octets."""
    asked: list[bytes] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        line, _address = listener.accept()
        with line, line.makefile("rb") as stream:
            asked.append(stream.readline())
            line.sendall(reply)

    server = threading.Thread(target=serve)
    server.start()
    try:
        yield asked
    finally:
        server.join(5)
        listener.close()


def test_a_question_and_its_answer(tmp_path: Path) -> None:
    with prober(tmp_path / "control", b'{"links": {}}\n') as asked:
        assert control.ask({"command": "status"}, str(tmp_path / "control")) == {"links": {}}
    assert asked == [b'{"command": "status"}\n']


@pytest.mark.parametrize(
    ("reply", "part"),
    [(b'{"error": "isp_a serves"}\n', "isp_a serves"), (b"", "not JSON"), (b"hello\n", "not JSON"), (b"[]\n", r"\[\]")],
)
def test_a_refusal_is_an_error_with_its_text(tmp_path: Path, reply: bytes, part: str) -> None:
    with prober(tmp_path / "control", reply), pytest.raises(KernelError, match=part):
        control.ask({"command": "failback"}, str(tmp_path / "control"))


def test_nobody_there_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(control.NotRunningError):
        control.ask({"command": "status"}, str(tmp_path / "control"))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "control"))
    listener.close()
    with pytest.raises(control.NotRunningError):
        control.ask({"command": "status"}, str(tmp_path / "control"))
