# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A failover drill: one link is silently cut off for a while, and what the router makes of it is measured."""
