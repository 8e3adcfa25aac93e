# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The multiwan.linux library: a pure core and thin kernel adapters. Never imports ansible."""
