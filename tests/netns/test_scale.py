# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""As many links as the mark field holds."""

from __future__ import annotations

import pytest
from lab import topology
from lab.balance import policy
from lab.engine import Engine, RefusedError
from lab.traffic import AccessLogServer, fetch_many


@pytest.mark.parametrize(("number", "mask"), [(60, "0x3f00"), (250, "0xff00")])
def test_many_links(backend: str, number: int, mask: str) -> None:
    with topology.many_links(number) as net, Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle(mwan_mark_mask=mask)
        wanted = 3 * number
        fetched = fetch_many(net.client, wanted)
        assert fetched.failures == []
        assert set(fetched.sources) <= set(net.sources.values())
        assert len(fetched.sources) > number * 0.8
        assert net.spoofed() == 0
        more = engine.variables["mwan_links"][: number // 2]
        kept = [link["name"] for link in more]
        engine.settle(
            mwan_links=more, mwan_policies=[policy(*kept)], mwan_snat=net.variables["mwan_snat"][: number // 2]
        )
        assert set(fetch_many(net.client, 60).sources) <= {net.sources[name] for name in kept}


def test_mask_with_too_few_ids_is_refused() -> None:
    with topology.two_links() as net, Engine(net) as engine:
        with pytest.raises(RefusedError, match="mark_mask"):
            engine.apply(mwan_mark_mask="0x100")
        assert "mwan" not in net.router.ip("rule show")
