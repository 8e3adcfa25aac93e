# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Memory of the kernel's allocator: what is read, and which changes count."""

from __future__ import annotations

from bench.slabs import freed, parsed

LISTING = """\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>
nf_conntrack         208    208    256   16    1 : tunables    0    0    0 : slabdata     13     13      0
kmalloc-cg-64        640    700     64   64    1 : tunables    0    0    0 : slabdata     10     10      0
kmalloc-8           3782   6656      8  512    1 : tunables    0    0    0 : slabdata     13     13      0
"""


def test_only_general_objects_are_read() -> None:
    assert parsed(LISTING.splitlines()) == {"kmalloc-cg-64": (640, 64), "kmalloc-8": (3782, 8)}


def test_changes_of_about_one_for_each_client_count() -> None:
    before = {"a": (1100, 64), "b": (1000, 8), "c": (9000, 512), "d": (0, 32)}
    after = {"a": (90, 64), "b": (900, 8), "c": (1000, 512), "d": (1000, 32)}
    assert freed(before, after, clients=1000) == 1010 * 64
