# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Marks and source NAT: a neutral model and one adapter for each netfilter front end."""
