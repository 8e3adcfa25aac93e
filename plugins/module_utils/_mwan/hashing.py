# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hashes by which the firewall divides clients among buckets, worked out as the kernel does (nft_jhash_eval)."""

from __future__ import annotations

import ipaddress
import struct

from .balancing import BUCKETS, SOURCE_DESTINATION_HASH
from .firewall import iptables_choices
from .firewall.nftables_choices import SEED

WORD = 0xFFFFFFFF
START = 0xDEADBEEF  # JHASH_INITVAL (include/linux/jhash.h)
# by how many bits each of the seven final steps turns
TURNS = (14, 11, 25, 16, 4, 14, 24)


def jhash(data: bytes, seed: int) -> int:
    """Bob Jenkins' lookup3 as the kernel's `jhash` has it, for 12 bytes at most: longer keys are mixed before."""
    words: tuple[int, ...] = struct.unpack("<3I", data.ljust(12, b"\0"))
    state = [(word + START + len(data) + seed) & WORD for word in words]
    for step, turn in enumerate(TURNS):
        # c by b, a by c, b by a, and again
        target, source = (step + 2) % 3, (step + 1) % 3
        state[target] = ((state[target] ^ state[source]) - _turned(state[source], turn)) & WORD
    return state[2]


def _turned(word: int, bits: int) -> int:
    return (word << bits | word >> (32 - bits)) & WORD


def bucket_of(backend: str | None, algorithm: str, source: str, destination: str) -> int | None:
    """Which of the buckets a client falls into with this firewall; None where that is not known yet.

    nftables scales the hash to the number of buckets and does not divide (reciprocal_scale).
    """
    key = [source, destination] if algorithm == SOURCE_DESTINATION_HASH else [source]
    if backend == "nftables":
        return jhash(b"".join(ipaddress.IPv4Address(address).packed for address in key), SEED) * BUCKETS >> 32
    return iptables_choices.bucket_of(*key) if backend == "iptables" else None
