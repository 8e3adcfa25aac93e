# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Settings of hypothesis: HYPOTHESIS_PROFILE=long looks deeper and takes minutes."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

# without Phase.explain, which runs a failing example many more times
COMMON = {
    "phases": [Phase.explicit, Phase.generate, Phase.shrink],
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("usual", max_examples=100, derandomize=True, **COMMON)
settings.register_profile("long", max_examples=3000, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "usual"))
