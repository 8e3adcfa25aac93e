# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host needs to become a router, and what on it would work against one: facts, findings, and what to install.

Needs nothing but Python: it runs before anything is installed.
"""
