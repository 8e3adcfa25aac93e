# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The control socket towards clients that mean ill, or nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from _mwan.service.control import MOST_CLIENTS, Control


def talk(path: Path, what: Callable[[Control], Awaitable[None]]) -> None:
    """Do this beside a server with little patience."""

    async def serve() -> None:
        mistakes: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: mistakes.append(context))
        control = Control({"status": lambda _request: {"fine": True}}, list, str(path), patience=0.1)
        await control.start()
        await what(control)
        await control.close()
        assert mistakes == []

    asyncio.run(serve())


def test_what_is_nested_too_deep_is_hung_up(tmp_path: Path) -> None:
    async def nested(_control: Control) -> None:
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "control"))
        writer.write(b'{"command":' + b"[" * 60000 + b"\n")
        assert await reader.read() == b""

    talk(tmp_path / "control", nested)


def test_idle_clients_make_room_and_followers_stay(tmp_path: Path) -> None:
    path = str(tmp_path / "control")

    async def idle(control: Control) -> None:
        follower, asks = await asyncio.open_unix_connection(path)
        asks.write(b'{"command": "events", "follow": true}\n')
        assert json.loads(await follower.readline()) == {"events": []}
        crowd = [await asyncio.open_unix_connection(path) for _client in range(MOST_CLIENTS - 1)]
        await asyncio.sleep(0.3)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"command": "status"}\n')
        assert json.loads(await reader.readline()) == {"fine": True}
        control.tell({"event": "reload"})
        assert json.loads(await asyncio.wait_for(follower.readline(), 2)) == {"event": "reload"}
        for _reader, crowding in [*crowd, (reader, writer), (follower, asks)]:
            crowding.close()

    talk(tmp_path / "control", idle)
