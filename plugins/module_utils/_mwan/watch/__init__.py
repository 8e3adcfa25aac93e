# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which links are alive, decided from what probes and the kernel report. Pure: no input or output, no clock of its own.

settings.py and target_spec.py hold what the administrator declares. machine.py is the rule, as a table; link.py finds
which of the table's conditions hold; target.py, window.py, quality.py and damping.py keep the figures for that;
judge.py watches all links of a router and is what a prober talks to.
"""
