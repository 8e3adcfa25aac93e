# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Run the prober out of the checkout, in the namespace this runs in.

Arguments: directory of the library's parent (`plugins/module_utils`), path of the program, and the program's own.
"""

from __future__ import annotations

import runpy
import sys

library, program, *arguments = sys.argv[1:]
sys.path.insert(0, library)

import _mwan  # noqa: E402

# as the package is called on a router
sys.modules["mwan"] = _mwan
sys.argv = [program, *arguments]
runpy.run_path(program, run_name="__main__")
