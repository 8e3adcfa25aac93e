# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Test networks in namespaces of their own; nothing of the machine is read or written.

host       one machine
lab, tun   several machines, and the cables and lines between them
topology   the networks the tests need, with the role variables that describe them
traffic    servers, connections, long-lived flows, floods
clients    LAN clients that go on whatever happens, and what each saw of an outage
impair     what goes wrong on a link
ansible    how a router is configured
console    how it is operated
guides     what the pages of the documentation tell people to write and to run
hostguard  the proof that the machine was left alone
helpers    what runs inside the hosts

Standard library only, but for `guides`, which reads YAML, and `ansible`, which starts ansible-core; needs root,
iproute2, nftables and util-linux.
"""
