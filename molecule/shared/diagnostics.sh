#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# Print the state of the containers of one run, for the log of a failed one.
#
#     diagnostics.sh PREFIX
set -uo pipefail

prefix=$1

show() {
    local container=$1
    shift
    echo "--- ${container#"$prefix"-}: $*"
    # cut, since systemd logs what modules are called with
    timeout 10 podman exec "$container" "$@" 2>&1 | cut --characters=-500 | tail --lines=200
}

for container in $(podman ps --all --filter "label=mwan-molecule=$prefix" --format '{{.Names}}' | sort); do
    echo "=== $container"
    timeout 10 podman logs --tail 20 "$container" 2>&1
    show "$container" ip -brief address
    show "$container" ip rule
    show "$container" ip route show table all type unicast
    show "$container" systemctl --no-pager --failed
    show "$container" journalctl --no-pager --lines 40
done

show "$prefix-router" journalctl --no-pager --lines 200
show "$prefix-router" systemctl --no-pager --lines 0 status mwan.service
show "$prefix-router" mwanctl status --drift
show "$prefix-router" mwanctl events
show "$prefix-router" ip route show table all
show "$prefix-router" ip neigh
show "$prefix-router" sh -c '! command -v nft >/dev/null || nft list ruleset'
show "$prefix-router" sh -c '! command -v iptables-legacy-save >/dev/null || iptables-legacy-save --counters'
show "$prefix-router" sysctl --all --pattern '^net\.ipv4\.(ip_forward|fib_multipath|conf\..*(rp_filter|linkdown|src_valid))'
show "$prefix-router" sh -c 'conntrack -L | tail -n 40'
show "$prefix-router" sh -c 'cd / && head -c 20000 /etc/mwan/mwan.json /run/mwan/*.json'
show "$prefix-server" tail --lines=40 /var/log/nginx/access.log
