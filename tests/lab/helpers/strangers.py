# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Datagrams to the discard port, each from a new socket and so of a new connection.

Arguments: destination, seconds. Prints how many were sent; at most MOST a second, in bursts, so that others get a turn.
"""

from __future__ import annotations

import socket
import sys
import time

DISCARD = 9
MOST = 50_000
BURST = 50


def main() -> None:
    destination, seconds = sys.argv[1], float(sys.argv[2])
    end = time.monotonic() + seconds
    sent = 0
    while time.monotonic() < end:
        for _each in range(BURST):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.sendto(b"", (destination, DISCARD))
        sent += BURST
        time.sleep(BURST / MOST)
    print(sent)


if __name__ == "__main__":
    main()
