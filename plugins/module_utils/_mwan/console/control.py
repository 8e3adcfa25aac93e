# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ask the prober over its control socket: one JSON object a line, each way."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any

from ..errors import KernelError

SOCKET = "/run/mwan/control"
PATIENCE = 5.0  # seconds; the prober answers between two probes


class NotRunningError(KernelError):
    """Nobody listens: the prober is not running."""


def ask(request: Mapping[str, Any], path: str = SOCKET) -> dict[str, Any]:
    """The prober's answer; raises NotRunningError, and KernelError with what it refused or when it is silent."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(PATIENCE)
            line.connect(path)
            line.sendall(json.dumps(dict(request)).encode() + b"\n")
            answer = json.loads(_line(line))
    except (FileNotFoundError, ConnectionRefusedError) as exc:
        raise NotRunningError("ask", "the prober", "it is not running") from exc
    except socket.timeout as exc:
        raise KernelError("ask", "the prober", f"no answer within {PATIENCE:.0f} s") from exc
    except OSError as exc:
        raise KernelError("ask", "the prober", str(exc.strerror)) from exc
    except ValueError as exc:
        raise KernelError("ask", "the prober", "its answer is not JSON") from exc
    if not isinstance(answer, dict) or "error" in answer:
        raise KernelError("refused", "by the prober", str(answer.get("error") if isinstance(answer, dict) else answer))
    return answer


def _line(line: socket.socket) -> bytes:
    with line.makefile("rb") as stream:
        return stream.readline()
