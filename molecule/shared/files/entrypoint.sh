#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# First process of every container; becomes systemd once the cables are in, so that a boot finds the network devices
# as a real machine does. (The container starts without a network: cables can be plugged only into a namespace that lives.)
set -eu

until [ -e /run/lab-plugged ]; do
    sleep 0.1
done

# A router writes network settings, which belong to its own network namespace. All other settings stay read-only:
# they are the machine's.
mount --bind /proc/sys/net /proc/sys/net
mount -o remount,bind,rw /proc/sys/net

exec /sbin/init
