# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""One client asks through one proxy; the web server's access log tells whose address each request came from."""

from __future__ import annotations

import platform
import re
from collections import Counter

import pytest
from lab import accesses, binomial_bounds, new_tag, run

PROXY = "http://192.168.101.254:3128"
PAGE = "7.7.7.7"
MANY_SERVERS = "7.7.8.[1-200]"
A, B = "5.5.5.5", "6.6.6.6"
SHARE_OF_A = 3 / 4
REQUESTS = 200
CONFIG = "/etc/squid/conf.d/multiwan.conf"
# Before that, the link of a connection of the router's own was chosen before its port (docs/squid.md).
PORT_COUNTS_SINCE = (6, 16)


def browse(path: str, host: str = PAGE, *, times: int = 20) -> dict[str, int]:
    """Requests per source address that the server logged, of so many the client made through the proxy."""
    return _logged(f"curl --silent --fail --max-time 60 --proxy {PROXY}", path, host, times)


def without_proxy(times: int = 20) -> dict[str, int]:
    return _logged("curl --silent --fail --max-time 60 --no-keepalive --header 'Connection: close'", "", PAGE, times)


def _logged(curl: str, path: str, host: str, times: int) -> dict[str, int]:
    tag = path + new_tag()
    told = Counter(run("client", f"{curl} %s", f"http://{host}/{tag}/[1-{times}]").split())
    logged = accesses("server", tag)
    assert Counter(access.source for access in logged) == told
    assert len({access.connection for access in logged}) == len(logged), "each request over a connection of its own"
    return dict(told)


def kernel() -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", platform.release())[:2])


def test_the_proxy_runs_as_the_distribution_brings_it() -> None:
    assert run("router", "systemctl is-active squid mwan").split() == ["active"] * 2
    assert run("router", "ps -o user= -C squid").split()[-1] == "proxy"


@pytest.mark.skipif(kernel() < PORT_COUNTS_SINCE, reason="needs kernel 6.16")
def test_one_page_is_asked_for_from_both_addresses_by_the_policy() -> None:
    seen = browse("", times=REQUESTS)

    assert set(seen) == {A, B}
    low, high = binomial_bounds(REQUESTS, SHARE_OF_A)
    assert low <= seen[A] <= high


def test_many_servers_are_asked_from_both_addresses() -> None:
    tag = new_tag()
    run("client", f"curl --silent --fail --max-time 60 --proxy {PROXY} %s", f"http://{MANY_SERVERS}/{tag}/1")
    seen = Counter(access.source for access in accesses("server", tag))

    assert set(seen) == {A, B}
    low, high = binomial_bounds(REQUESTS, SHARE_OF_A)
    assert low <= seen[A] <= high


@pytest.mark.parametrize(("path", "source"), [("video-", A), ("updates-", B)])
def test_what_the_proxy_tells_apart_goes_its_own_way(path: str, source: str) -> None:
    assert browse(path) == {source: 20}


def test_what_is_not_the_proxys_goes_by_the_default_policy() -> None:
    assert without_proxy() == {B: 20}
    assert run("router", "curl --silent --max-time 5 %s", f"http://{PAGE}/own/").strip() == B


def test_its_half_of_the_configuration_is_what_was_declared() -> None:
    lines = [line for line in run("router", "cat %s", CONFIG).splitlines() if line and not line.startswith("#")]

    assert lines == ["tcp_outgoing_mark 0x10000 video", "tcp_outgoing_address 10.255.0.1 updates !video"]
    assert run("router", "squid -k parse 2>&1 | grep --count --extended-regexp 'WARNING|ERROR|FATAL' || true") == "0\n"


def test_requests_go_on_when_a_provider_is_drained() -> None:
    run("router", "mwanctl drain isp_a --why %s", "line test")
    try:
        assert browse("") == {B: 20}
    finally:
        run("router", "mwanctl undrain isp_a")
