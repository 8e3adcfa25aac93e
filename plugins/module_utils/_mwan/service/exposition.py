# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the metrics leave: answered over HTTP, or written to a file for the node exporter's textfile collector."""

from __future__ import annotations

import asyncio
import ipaddress
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from ..errors import InputError, KernelError
from ..ports import FilePort
from .metrics import CONTENT_TYPE, render

Page = Callable[[], Awaitable[str]]
Failed = Callable[[KernelError], None]

METRICS, HEALTHY = "/metrics", "/-/healthy"
PLAIN = "text/plain; charset=utf-8"
MOST_BYTES = 8192  # of a request; Prometheus sends 300
MOST_CLIENTS = 8
PATIENCE = 5.0  # seconds for a request to come in, and for its answer to be taken
PERIOD = 15.0  # seconds between two writings of the file
RETRY = 10.0  # seconds until a port that could not be had is tried again
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 500: "Internal Server Error"}


def page_of(status: Callable[[], Mapping[str, Any]], traffic: Callable[[], Mapping[str, Any]]) -> Page:
    """The page, made anew each time. `status` must give data of its own each time; `traffic` is asked in a thread.

    So is the page made there: it takes 10 ms for 60 links, and counting connections more.
    """

    async def page() -> str:
        now = status()
        return await asyncio.to_thread(lambda: render({**now, "traffic": traffic()}))

    return page


def listening_address(option: str, text: str) -> tuple[str, int]:
    """Host and port of "127.0.0.1:9783" or "[::1]:9783"; raises InputError."""
    host, _colon, port = text.rpartition(":")
    try:
        address = ipaddress.ip_address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
        if (address.version == 6) != host.startswith("[") or not (port.isascii() and port.isdigit()):
            raise ValueError
        number = int(port)
    except ValueError:
        number = 0
    if not 1 <= number <= 65535:
        raise InputError(option, text, "is not an address and a port", "Give one such as 127.0.0.1:9783 or [::1]:9783")
    return str(address), number


def tell_end(task: asyncio.Task[None]) -> None:
    """Tell of a mistake of ours that ended a task: asyncio would when nobody holds it any more, which is too late."""
    if not task.cancelled() and task.exception():
        context = {"message": "the metrics are not told any more", "exception": task.exception(), "task": task}
        task.get_loop().call_exception_handler(context)


def once(failed: Failed) -> Failed:
    """Tells what is new: the same trouble again and again would fill the journal."""
    told = ""

    def tell(exc: KernelError) -> None:
        nonlocal told
        if str(exc) != told:
            told = str(exc)
            failed(exc)

    return tell


class Exposition:
    """Answers GET /metrics with what `page` gives, and GET /-/healthy for as long as the event loop runs.

    One request for each connection, read no further than its first line. There is neither encryption nor a password: an
    address other than the loopback's tells the page to everybody who reaches it.
    """

    def __init__(self, address: tuple[str, int], page: Page) -> None:
        self._address = address
        self._page = page
        self._server: asyncio.AbstractServer | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def run(self, failed: Failed) -> None:
        """Until cancelled. A port that cannot be had, or an address that is not there yet, is told once and awaited."""
        tell = once(failed)
        try:
            while self._server is None:
                try:
                    await self.start()
                except KernelError as exc:
                    tell(exc)
                    await asyncio.sleep(RETRY)
            await asyncio.get_running_loop().create_future()
        finally:
            await self.close()

    async def start(self) -> None:
        """Listen from now on; raises KernelError, and can be tried again then."""
        host, port = self._address
        try:
            self._server = await asyncio.start_server(self._accept, host, port, limit=MOST_BYTES)
        except OSError as exc:
            raise KernelError("listen", f"{host} port {port}", str(exc.strerror)) from exc

    async def close(self) -> None:
        """Stop listening, and let go of clients that are being answered."""
        if self._server:
            self._server.close()
            self._server = None
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= MOST_CLIENTS:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A client that is too slow, sends too much or goes away is dropped without an answer."""
        try:
            with suppress(OSError, EOFError, asyncio.TimeoutError, asyncio.LimitOverrunError):
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
                writer.write(await self._answer(head))
                await asyncio.wait_for(writer.drain(), PATIENCE)
                writer.close()
                await asyncio.wait_for(writer.wait_closed(), PATIENCE)
        finally:
            writer.transport.abort()

    async def _answer(self, head: bytes) -> bytes:
        words = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return response(400, "not an HTTP/1 request\n")
        path = words[1].partition("?")[0]
        if path not in (METRICS, HEALTHY):
            return response(404, f"there are {METRICS} and {HEALTHY}\n")
        if words[0] != "GET":
            return response(405, "only GET\n", "Allow: GET\r\n")
        if path == HEALTHY:
            return response(200, "ok\n")
        try:
            return response(200, await self._page(), content_type=CONTENT_TYPE)
        except KernelError as exc:
            return response(500, f"{exc}\n")


def response(status: int, text: str, headers: str = "", content_type: str = PLAIN) -> bytes:
    body = text.encode("utf-8", "replace")
    head = (
        f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        f"Connection: close\r\n{headers}\r\n"
    )
    return head.encode("ascii") + body


class Textfile:
    """Writes the page to `path` every PERIOD seconds; a reader sees the old or the new one whole."""

    def __init__(self, files: FilePort, path: str, page: Page) -> None:
        self._files = files
        self._path = path
        self._page = page
        self._lock = threading.Lock()
        self._over = False

    async def run(self, failed: Failed) -> None:
        """Until cancelled; then the file is removed, so that nobody takes it for the present."""
        tell, task = once(failed), asyncio.current_task()
        if task:
            task.add_done_callback(tell_end)
        try:
            while True:
                try:
                    await asyncio.to_thread(self._write, await self._page())
                except KernelError as exc:
                    tell(exc)
                await asyncio.sleep(PERIOD)
        finally:
            with suppress(KernelError):
                self._remove()

    def _write(self, text: str) -> None:
        """In a thread, because disks are slow; one that is still writing when all is over must not be the last."""
        with self._lock:
            if not self._over:
                self._files.write(self._path, text)

    def _remove(self) -> None:
        with self._lock:
            self._over = True
            self._files.write(self._path, None)
