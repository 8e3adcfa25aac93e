# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the command line shows: from data to text, pure but for `control`, which asks the prober."""
