# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Run the prober out of the checkout, in the namespace this runs in.

Arguments: directory of the library's parent (`plugins/module_utils`), path of the program, and the program's own.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

library, program, *arguments = sys.argv[1:]
# The package as it is called on a router. Two names of one module would be two modules, each with errors of its own.
named = Path("/run/lab-library/mwan")
named.parent.mkdir(exist_ok=True)
if not named.is_symlink():
    named.symlink_to(Path(library, "_mwan"))
sys.path.insert(0, str(named.parent))
os.environ["PYTHONPATH"] = str(named.parent)  # for what the program starts
sys.argv = [program, *arguments]
runpy.run_path(program, run_name="__main__")
