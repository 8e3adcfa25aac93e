# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fewest connections: the helper that is asked for every new connection, and the weights that follow the counts."""
