# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Times, losses and rates, each measured against something else in the same run, in networks of the lab.

apply       what configuring a router costs, beside a shell script and batches of ip and nft
hitless     packets lost while the configuration changes
forwarding  packets and connections a second, beside plain routing with one masquerade rule
"""
