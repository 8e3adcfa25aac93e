# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The control socket: one JSON object a line in, one a line out.

{"command": "status"} is answered with the status, {"command": "reload"} and {"command": "failback", "link": NAME} with
{"done": true}, {"command": "events"} with {"events": [...]}, oldest first; with "follow": true each later event comes
as a line of its own, until the client hangs up. What cannot be done is answered with {"error": "text"}.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ..errors import KernelError

CONTROL = "/run/mwan/control"
MODE = 0o660
MOST_BYTES = 65536  # of a request
MOST_CLIENTS = 32
# Events that wait for a client which follows them but does not read; then it is hung up.
MOST_WAITING = 1000
PATIENCE = 10.0  # seconds for a request to come, and for an answer to be taken

Answer = dict[str, Any]
Command = Callable[[Mapping[str, Any]], Answer]


class RefusedError(Exception):
    """A command that cannot be done, and why."""


class Control:
    """`commands` by name, each from the request to the answer; `events` gives those at hand."""

    def __init__(
        self,
        commands: Mapping[str, Command],
        events: Callable[[], list[Answer]],
        path: str = CONTROL,
        patience: float = PATIENCE,
    ) -> None:
        self._commands, self._events, self._path, self._patience = commands, events, path, patience
        self._server: asyncio.AbstractServer | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._followers: set[asyncio.Queue[Answer | None]] = set()

    async def start(self) -> None:
        """Listen from now on, in the place of an earlier process; raises KernelError."""
        try:
            with suppress(FileNotFoundError):
                os.unlink(self._path)
            self._server = await asyncio.start_unix_server(self._accept, self._path, limit=MOST_BYTES)
            os.chmod(self._path, MODE)
        except OSError as exc:
            raise KernelError("listen", self._path, str(exc.strerror)) from exc

    async def close(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
            with suppress(OSError):
                os.unlink(self._path)
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    def tell(self, event: Answer) -> None:
        """Tell everybody who follows."""
        for queue in list(self._followers):
            if queue.qsize() >= MOST_WAITING:
                self._followers.discard(queue)
                queue.put_nowait(None)
            else:
                queue.put_nowait(event)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= MOST_CLIENTS:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the client hangs up, says nothing for too long, does not take its answers, or says what is no line.

        Who follows the events need not say anything.
        """
        try:
            with suppress(OSError, EOFError, ValueError, asyncio.TimeoutError):
                while line := await asyncio.wait_for(reader.readline(), self._patience):
                    request = parsed(line)
                    if request.get("command") == "events":
                        await self._tell_events(bool(request.get("follow")), reader, writer)
                    else:
                        await send(writer, self._answer(request))
        finally:
            writer.transport.abort()

    def _answer(self, request: Mapping[str, Any]) -> Answer:
        command = self._commands.get(str(request.get("command")))
        if command is None:
            return {"error": f"a command is one of: {', '.join(sorted([*self._commands, 'events']))}"}
        try:
            return command(request)
        except RefusedError as exc:
            return {"error": str(exc)}

    async def _tell_events(self, follow: bool, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[Answer | None] = asyncio.Queue()
        if follow:
            self._followers.add(queue)
        try:
            await send(writer, {"events": self._events()})
            if follow:
                await self._follow(queue, reader, writer)
        finally:
            self._followers.discard(queue)

    @staticmethod
    async def _follow(
        queue: asyncio.Queue[Answer | None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        gone = asyncio.ensure_future(reader.read(1))
        try:
            while not gone.done():
                event = asyncio.ensure_future(queue.get())
                await asyncio.wait({gone, event}, return_when=asyncio.FIRST_COMPLETED)
                if not event.done() or event.result() is None:
                    event.cancel()
                    raise EOFError
                await send(writer, event.result() or {})
        finally:
            gone.cancel()


def parsed(line: bytes) -> Mapping[str, Any]:
    """Raises ValueError for what is no JSON, or nested too deep; then it is hopeless to read on."""
    try:
        request = json.loads(line)
    except RecursionError as exc:
        raise ValueError("nested too deep") from exc
    return request if isinstance(request, dict) else {}


async def send(writer: asyncio.StreamWriter, answer: Answer) -> None:
    writer.write(json.dumps(answer).encode() + b"\n")
    await asyncio.wait_for(writer.drain(), PATIENCE)
