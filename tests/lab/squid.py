# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The real Squid and the real nginx on lab hosts, as packages bring them; what they write is in the host's /run."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .host import Host, LabError
from .topology import SERVER
from .traffic import HTTP_PORT, Fetched, fetch_many

PROXY_PORT = 3128
SQUID_USER = "proxy"  # of Debian's package
CONFIG = "/etc/squid/squid.conf"  # the package's own, which includes conf.d
LISTENS = "Accepting HTTP Socket connections"  # said at the start, and after each new configuration
START_SECONDS = 20.0

# Every request is to show the way it takes: no cache, and no connection is used twice.
SQUID = """
http_access allow localnet
cache deny all
memory_cache_shared off
server_persistent_connections off
client_persistent_connections off
shutdown_lifetime 0 seconds
pinger_enable off
netdb_filename none
coredump_dir /run/squid
cache_log /run/squid/cache.log
access_log stdio:/run/squid/access.log
"""

NGINX = """
pid /run/nginx/pid;
error_log /run/nginx/error.log;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
  access_log /run/nginx/access.log combined;
  client_body_temp_path /run/nginx/body;
  proxy_temp_path /run/nginx/proxy;
  fastcgi_temp_path /run/nginx/fastcgi;
  uwsgi_temp_path /run/nginx/uwsgi;
  scgi_temp_path /run/nginx/scgi;
  server {{
    listen {port} backlog=1024;
    location = / {{ return 200 "$remote_addr\\n"; }}
    location / {{ return 404 "$remote_addr\\n"; }}
  }}
}}
"""


class Nginx:
    """A web server on every address of a host, which answers with the source it saw. Ends with the host."""

    def __init__(self, host: Host, port: int = HTTP_PORT) -> None:
        self.host = host
        host.run("mkdir -p /run/nginx && cat > /run/nginx/nginx.conf", input=NGINX.format(port=port))
        host.run("nginx -e /run/nginx/error.log -c /run/nginx/nginx.conf")  # listens when it returns

    def log_lines(self) -> list[str]:
        return self.host.run("cat /run/nginx/access.log").stdout.splitlines()

    def sources(self) -> Counter[str]:
        """Requests per source address, from the access log."""
        return Counter(line.split(" ", 1)[0] for line in self.log_lines())

    def forget(self) -> None:
        """Begin a new access log."""
        self.host.run("truncate --size=0 /run/nginx/access.log")


class Squid:
    """A proxy on every address of a host, with the package's configuration, that of the lab, and `config`.

    Returns when it listens; ends with the context, or with the host.
    """

    def __init__(self, host: Host, config: str = "") -> None:
        self.host = host
        host.run("mount -t tmpfs shared /dev/shm")  # of the machine, and Squid's names in it are always the same
        host.run(f"mkdir -p /run/squid && chown {SQUID_USER}: /run/squid && rm -f /run/squid/cache.log")
        self._write(config)
        self._process = host.popen(["squid", "-N", "-f", CONFIG], stdout=subprocess.DEVNULL)
        self.read = 0
        self.settle(1)

    def configure(self, config: str) -> None:
        """Another `config`, taken into use as an administrator does."""
        self._write(config)
        self.host.run("squid -k reconfigure")
        self.settle(self.read + 1)

    def settle(self, times: int) -> None:
        """Wait until it listens with the configuration it has read as the `times`th, the first one at its start."""
        deadline = time.monotonic() + START_SECONDS
        while self.log().count(LISTENS) < times:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"{self.host.name}: squid does not listen:\n{self.log()}")
            time.sleep(0.05)
        self.read = times

    def _write(self, config: str) -> None:
        self.host.run("cat > /etc/squid/conf.d/lab.conf", input=SQUID + config)

    def log(self) -> str:
        """What it wrote for its administrator."""
        return self.host.run("cat /run/squid/cache.log", check=False).stdout

    def __enter__(self) -> Squid:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # it would take its time to say goodbye
        self._process.wait()


def browse(
    client: Host, proxy: str, number: int, *, url: str = f"http://{SERVER}/", sources: Sequence[str] = ()
) -> Fetched:
    """`number` requests through the proxy at that address, each over a connection of its own."""
    return fetch_many(client, number, proxy, port=PROXY_PORT, path=url, sources=sources, concurrency=20)


def installed() -> bool:
    """Whether this machine has both programs (tools/setup.sh servers)."""
    return all(Path("/usr/sbin", name).exists() for name in ("squid", "nginx"))
