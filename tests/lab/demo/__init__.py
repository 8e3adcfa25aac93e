# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What `make demo` shows. `acts` is the performance, `scenes` the networks it is given on; the others help."""
