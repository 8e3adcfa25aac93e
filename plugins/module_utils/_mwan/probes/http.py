# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors

"""HTTP and HTTPS requests: whether the far end is who it should be, and not the login page of a captive portal."""

from __future__ import annotations

import asyncio
import errno
import io
import socket
import ssl
from functools import lru_cache
from http.client import HTTPException, HTTPResponse, IncompleteRead
from urllib.parse import urlsplit

from .attempts import PATIENCE
from .binding import Binding, Sink, reason
from .tcp import ConnectingProbe

STATUS = 200
PORTS = {"http": 80, "https": 443}
END_OF_HEAD = b"\r\n\r\n"
MOST_BYTES = 65536


class WrongAnswerError(Exception):
    """It answered, and not as it should."""


class HttpProbe(ConnectingProbe):
    """GET `url` from `address`; the name in the URL is only said to the server, never resolved.

    A reply is one of the wanted `status` with `body` in its first 64 KiB when one is given. Another status, another
    body, a certificate of somebody else, no HTTP, and a connection refused or broken off are refused(); `verify` False
    takes any certificate, for a router whose clock is wrong. Raises ValueError for a URL of another kind.
    """

    def __init__(
        self,
        url: str,
        address: str,
        binding: Binding,
        sink: Sink,
        loop: asyncio.AbstractEventLoop,
        *,
        status: int = STATUS,
        body: str = "",
        verify: bool = True,
        patience: float = PATIENCE,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in PORTS or not parts.hostname or not url.isascii() or " " in url:
            raise ValueError(f"url {url!r}: http://HOST/... or https://HOST/... is needed")
        super().__init__(address, parts.port or PORTS[parts.scheme], binding, sink, loop, patience)
        self.host = parts.hostname
        self.context = tls_context(verify) if parts.scheme == "https" else None
        self.wanted = Wanted(status, body.encode())
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        name = parts.netloc.rpartition("@")[2]
        self.request = (
            f"GET {target} HTTP/1.1\r\nHost: {name}\r\nUser-Agent: mwan\r\nAccept: */*\r\n"
            "Cache-Control: no-cache\r\nConnection: close\r\n\r\n"
        ).encode()

    def reset(self, seq: int, when: float) -> None:
        self.sink.refused(seq, when, "connection refused")

    def connected(self, seq: int, sock: socket.socket) -> None:
        exchange = Exchange(self.wanted, self.loop.create_future())
        task = self.loop.create_task(self._ask(seq, sock, exchange))

        def never_begun(_unused: asyncio.Task[None]) -> None:
            if exchange.transport is None:
                sock.close()

        task.add_done_callback(never_begun)
        self.attempts.goes_on(seq, lambda: self._cancel(task))

    @staticmethod
    def _cancel(task: asyncio.Task[None]) -> None:
        task.cancel()

    async def _ask(self, seq: int, sock: socket.socket, exchange: Exchange) -> None:
        try:
            self.wanted.check(await self._exchange(sock, exchange))
        except (OSError, HTTPException, WrongAnswerError) as error:
            self._ended(seq, error)
        else:
            self._ended(seq, None)

    def _ended(self, seq: int, error: Exception | None) -> None:
        when = self.loop.time()
        self.attempts.ended(seq)
        if error is None:
            self.sink.replied(seq, when)
        elif not (isinstance(error, OSError) and error.errno == errno.ETIMEDOUT):
            self.sink.refused(seq, when, explained(error))

    async def _exchange(self, sock: socket.socket, exchange: Exchange) -> bytes:
        """TLS on top of a transport that is at hand: asyncio leaves one open whose handshake is cancelled."""
        plain, _unused = await self.loop.create_connection(lambda: exchange, sock=sock)
        try:
            if self.context is None:
                plain.write(self.request)
                return await exchange.answer
            secure = await self.loop.start_tls(plain, exchange, self.context, server_hostname=self.host)
            if secure is None:
                raise WrongAnswerError("it hung up during the handshake")
            secure.write(self.request)
            return await exchange.answer
        finally:
            plain.abort()


class Exchange(asyncio.Protocol):
    """Collects an answer until it is enough or the far end hangs up."""

    def __init__(self, wanted: Wanted, answer: asyncio.Future[bytes]) -> None:
        self.wanted = wanted
        self.answer = answer
        self.transport: asyncio.BaseTransport | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self.wanted.enough(self._data):
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """An error after the whole answer, as of a TLS connection that was cut instead of closed, changes nothing."""
        if exc is not None and not self._data and not self.answer.done():
            self.answer.set_exception(exc)
        self._end()

    def _end(self) -> None:
        if not self.answer.done():
            self.answer.set_result(self._data)


class Wanted:
    """The expected answer."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body

    def enough(self, data: bytes) -> bool:
        """Whether waiting for more cannot change the verdict."""
        head, found, rest = data.partition(END_OF_HEAD)
        return len(data) >= MOST_BYTES or (found != b"" and (self.body in rest or head[9:12] != b"%d" % self.status))

    def check(self, data: bytes) -> None:
        """Raises WrongAnswerError or HTTPException."""
        if not data:
            raise WrongAnswerError("it hung up without an answer")
        response = HTTPResponse(_Received(data))  # type: ignore[arg-type]  # all it takes of a socket is makefile()
        response.begin()
        if response.status != self.status:
            raise WrongAnswerError(unexpected(response))
        if self.body not in data.partition(END_OF_HEAD)[2] and self.body not in content(response):
            raise WrongAnswerError(f"the answer does not contain {self.body.decode()!r}: a captive portal?")


class _Received:
    """Bytes in the place of a socket."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self.data)


def content(response: HTTPResponse) -> bytes:
    """The body, out of its chunks if it is in any."""
    try:
        return response.read()
    except IncompleteRead as error:
        return error.partial


def unexpected(response: HTTPResponse) -> str:
    location = response.getheader("Location")
    if 300 <= response.status < 400 and location:
        return f"status {response.status}, redirected to {location[:200]!r}: a captive portal?"
    return f"status {response.status}"


def explained(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not valid: {error.verify_message}"
    if isinstance(error, OSError):
        return reason(error)
    if isinstance(error, HTTPException):
        return "the answer is not HTTP"
    return str(error)


@lru_cache(maxsize=2)
def tls_context(verify: bool) -> ssl.SSLContext:
    """Shared by all probes: loading the system's certificates takes milliseconds and megabytes."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
