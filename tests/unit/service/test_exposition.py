# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""How the page of metrics is fetched over loopback, and written to a file."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from _mwan.errors import InputError, KernelError
from _mwan.local import Files
from _mwan.service import exposition
from _mwan.service.exposition import (
    MOST_BYTES,
    MOST_CLIENTS,
    Exposition,
    Textfile,
    listening_address,
    page_of,
)
from _mwan.service.metrics import CONTENT_TYPE
from unit.service.pages import TRAFFIC, status

HEAD_END = b"\r\n\r\n"
GET = b"GET /metrics HTTP/1.1\r\nHost: router\r\n\r\n"


async def told() -> str:
    return 'mwan_held 0\nmwan_link_up{link="ä"} 1\n'


async def refused() -> str:
    raise KernelError("read", "/proc/net/dev", "Permission denied")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serving(
    scene: Callable[[int], Awaitable[None]], page: exposition.Page = told, host: str = "127.0.0.1"
) -> Exposition:
    """Run the scene, which is given the port, while the page is served."""
    port = free_port()
    server = Exposition((host, port), page)

    async def run() -> None:
        await server.start()
        try:
            await asyncio.wait_for(scene(port), 10)
        finally:
            await server.close()

    asyncio.run(run())
    return server


async def ask(port: int, request: bytes, host: str = "127.0.0.1") -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request)
        return await reader.read()
    finally:
        writer.close()


def answer(request: bytes, page: exposition.Page = told) -> tuple[str, dict[str, str], bytes]:
    """Status line, headers and body of what is answered."""
    answers: list[bytes] = []

    async def scene(port: int) -> None:
        answers.append(await ask(port, request))

    serving(scene, page)
    head, _end, body = answers[0].partition(HEAD_END)
    first, *rest = head.decode().split("\r\n")
    return first, dict(line.split(": ", 1) for line in rest), body


def test_the_page_is_answered() -> None:
    first, headers, body = answer(GET)
    assert first == "HTTP/1.1 200 OK"
    assert headers["Content-Type"] == CONTENT_TYPE
    assert headers["Content-Length"] == str(len(body))
    assert headers["Connection"] == "close"
    assert body.decode() == asyncio.run(told())


def test_a_query_is_no_part_of_the_path() -> None:
    assert answer(b"GET /metrics?debug=1 HTTP/1.0\r\n\r\n")[0] == "HTTP/1.1 200 OK"


def test_healthy_needs_no_page() -> None:
    first, _headers, body = answer(b"GET /-/healthy HTTP/1.1\r\n\r\n", refused)
    assert (first, body) == ("HTTP/1.1 200 OK", b"ok\n")


def test_a_page_that_cannot_be_made_is_said() -> None:
    first, _headers, body = answer(GET, refused)
    assert first == "HTTP/1.1 500 Internal Server Error"
    assert body == b"read /proc/net/dev: Permission denied\n"


@pytest.mark.parametrize(
    ("request_line", "first"),
    [
        (b"GET / HTTP/1.1", "HTTP/1.1 404 Not Found"),
        (b"GET /metrics/../etc/passwd HTTP/1.1", "HTTP/1.1 404 Not Found"),
        (b"POST /metrics HTTP/1.1", "HTTP/1.1 405 Method Not Allowed"),
        (b"HEAD /-/healthy HTTP/1.1", "HTTP/1.1 405 Method Not Allowed"),
        (b"GET /metrics", "HTTP/1.1 400 Bad Request"),
        (b"GET  /metrics HTTP/1.1", "HTTP/1.1 400 Bad Request"),
        (b"GET /metrics HTTP/2.0", "HTTP/1.1 400 Bad Request"),
        (b"\xff\x00 \xfe HTTP/1.1", "HTTP/1.1 404 Not Found"),
        (b"", "HTTP/1.1 400 Bad Request"),
    ],
)
def test_anything_else_is_refused(request_line: bytes, first: str) -> None:
    assert answer(request_line + HEAD_END)[0] == first


def test_a_refused_method_is_told_which_is_allowed() -> None:
    assert answer(b"DELETE /metrics HTTP/1.1\r\n\r\n")[1]["Allow"] == "GET"


async def dropped(port: int, request: bytes) -> bytes:
    try:
        return await ask(port, request)
    except ConnectionError:
        return b""


def test_a_request_is_bounded() -> None:
    async def scene(port: int) -> None:
        assert await dropped(port, b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 3 * MOST_BYTES + HEAD_END) == b""
        assert b"200 OK" in await ask(port, GET)

    serving(scene)


def test_a_slow_client_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "PATIENCE", 0.05)

    async def scene(port: int) -> None:
        assert await dropped(port, b"GET /metrics HT") == b""
        assert b"200 OK" in await ask(port, GET)

    serving(scene)


def test_a_client_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "PATIENCE", 0.05)

    async def large() -> str:
        return "x" * 50_000_000

    async def scene(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(GET)
        await asyncio.sleep(0.5)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(50_000_000)
        writer.close()

    serving(scene, large)


def test_clients_are_bounded() -> None:
    async def scene(port: int) -> None:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _unused in range(MOST_CLIENTS)]
        assert await dropped(port, GET) == b""
        for _reader, writer in idle:
            writer.close()
        await asyncio.sleep(0.1)
        assert b"200 OK" in await ask(port, GET)

    serving(scene)


def test_closing_lets_go_of_clients_and_of_the_port() -> None:
    waiting: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    ports: list[int] = []

    async def scene(port: int) -> None:
        ports.append(port)
        waiting.append(await asyncio.open_connection("127.0.0.1", port))
        await asyncio.sleep(0.05)

    serving(scene)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ports[0]), 1)


def test_a_port_in_use_is_said_and_can_be_tried_again() -> None:
    async def run() -> None:
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", 0))
            holder.listen()
            port = holder.getsockname()[1]
            server = Exposition(("127.0.0.1", port), told)
            with pytest.raises(KernelError, match=rf"listen 127\.0\.0\.1 port {port}: .*in use"):
                await server.start()
        await server.start()
        assert b"200 OK" in await ask(port, GET)
        await server.close()

    asyncio.run(run())


async def asked(port: int) -> bytes:
    """Nothing, while nobody listens there."""
    with suppress(ConnectionRefusedError):
        return await ask(port, GET)
    return b""


def test_a_port_in_use_is_awaited_and_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "RETRY", 0.01)
    failures: list[KernelError] = []

    async def run() -> None:
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", 0))
            holder.listen()
            port = holder.getsockname()[1]
            task = asyncio.ensure_future(Exposition(("127.0.0.1", port), told).run(failures.append))
            await asyncio.sleep(0.1)
        async with asyncio.timeout(10):
            while not (answered := await asked(port)):
                await asyncio.sleep(0.01)
        assert b"200 OK" in answered
        task.cancel()
        await asyncio.wait({task})
        with pytest.raises(ConnectionRefusedError):
            await ask(port, GET)

    asyncio.run(run())
    assert len(failures) == 1


def has_ipv6() -> bool:
    with suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


@pytest.mark.skipif(not has_ipv6(), reason="no ::1 here")
def test_ipv6() -> None:
    async def scene(port: int) -> None:
        assert b"200 OK" in await ask(port, GET, "::1")

    serving(scene, host="::1")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9783", ("127.0.0.1", 9783)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("[::1]:9783", ("::1", 9783)),
        ("[fe80:0::1]:65535", ("fe80::1", 65535)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert listening_address("--metrics-listen", text) == address


@pytest.mark.parametrize(
    "text", ["", "9783", ":9783", "localhost:9783", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "::1:9783", "1:٣"]
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match=r"--metrics-listen: .* is not an address and a port"):
        listening_address("--metrics-listen", text)


def test_the_page_is_made_of_status_and_traffic_in_a_thread() -> None:
    threads: list[threading.Thread] = []

    def traffic() -> dict[str, object]:
        threads.append(threading.current_thread())
        return TRAFFIC

    page = asyncio.run(page_of(lambda: {**status(), "traffic": None}, traffic)())
    assert 'mwan_link_connections{link="isp_a"} 25\n' in page
    assert threads[0] is not threading.main_thread()


# the file


async def written(path: Path, text: str) -> None:
    while not path.exists() or path.read_text() != text:
        await asyncio.sleep(0.01)


def test_the_file_is_written_again_and_removed_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "PERIOD", 0.01)
    path, pages = tmp_path / "mwan.prom", iter(range(10**6))

    async def page() -> str:
        return f"page {min(next(pages), 5)}\n"

    async def run() -> None:
        task = asyncio.ensure_future(Textfile(Files(), str(path), page).run(pytest.fail))
        await asyncio.wait_for(written(path, "page 5\n"), 10)
        assert path.stat().st_mode & 0o777 == 0o644
        task.cancel()
        await asyncio.wait({task})

    asyncio.run(run())
    assert list(tmp_path.iterdir()) == []


def test_a_failure_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "PERIOD", 0.01)
    directory = tmp_path / "collected"
    directory.write_text("in the way")
    path, failures = directory / "mwan.prom", []

    async def run() -> None:
        task = asyncio.ensure_future(Textfile(Files(), str(path), told).run(failures.append))
        while not failures:
            await asyncio.sleep(0.01)
        directory.unlink()
        await asyncio.wait_for(written(path, await told()), 10)
        task.cancel()
        await asyncio.wait({task})

    asyncio.run(run())
    assert str(path) in str(failures[0])


def test_an_end_by_mistake_is_told(tmp_path: Path) -> None:
    async def wrong() -> str:
        raise KeyError("state")

    contexts: list[dict[str, Any]] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: contexts.append(context))
        wrong_one = loop.create_task(Textfile(Files(), str(tmp_path / "mwan.prom"), wrong).run(pytest.fail))
        cancelled = loop.create_task(Textfile(Files(), str(tmp_path / "other.prom"), told).run(pytest.fail))
        await asyncio.sleep(0.05)
        cancelled.cancel()
        await asyncio.wait({wrong_one, cancelled})

    asyncio.run(run())
    assert [repr(context["exception"]) for context in contexts] == ["KeyError('state')"]


class SlowFiles:
    """A disk that takes until `go`."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.calls: list[str | None] = []

    def read(self, _path: str) -> str | None:
        return None

    def write(self, _path: str, text: str | None, _mode: int = 0o644) -> None:
        self.begun.set()
        self.go.wait(10)
        self.calls.append(text)


def test_a_late_writer_does_not_bring_the_file_back() -> None:
    files = SlowFiles()

    async def run() -> None:
        task = asyncio.ensure_future(Textfile(files, "/mwan.prom", told).run(pytest.fail))
        await asyncio.to_thread(files.begun.wait, 10)
        task.cancel()
        files.go.set()
        await asyncio.wait({task})

    asyncio.run(run())
    assert files.calls[-1] is None
