# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What the library thinks of the way that packets take on this host.

Arguments: directory of the library's parent (`plugins/module_utils`). Reads a list of packets as JSON (the fields of
`trace.Packet`) and prints, for each, the kind of the route (null: none), its table, and its live nexthops.
"""

from __future__ import annotations

import json
import sys

sys.path.insert(0, sys.argv[1])

from _mwan import local, netlink, store
from _mwan.desired import compile_state
from _mwan.shares import routing
from _mwan.trace import Packet

routes = netlink.Netlink()
files = local.Files()
facts = routes.facts()
desired = compile_state(store.load_document(files), facts, store.load_health(files))
fib = routing(desired, facts, routes.surroundings())
answers = []
for packet in json.load(sys.stdin):
    found = fib.trace(Packet(**packet)).found
    hops = [[hop.device, hop.gateway] for hop in found.nexthops] if found else []
    answers.append([found.kind, found.route.table, hops] if found else [None, None, hops])
print(json.dumps(answers))
