# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a new connection would go, and why, worked out from what is declared. Pure: nothing is sent.

question.py is what is asked, of which router; walk.py follows the packet through firewall and routing, led.py through
port forwards; answer.py puts together what came of it, rules.py and remarks.py what is told beside it.
"""

from .answer import explain
from .question import OPTIONS, TIME, Question, View

__all__ = ["OPTIONS", "TIME", "Question", "View", "explain"]
