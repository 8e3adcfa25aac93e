# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Times, losses and rates, each measured against something else in the same run, in networks of the lab.

apply       what configuring a router costs, beside a shell script and batches of ip and nft
hitless     packets lost while the configuration changes
forwarding  packets and connections a second, beside plain routing with one masquerade rule
probing     what the probes alone cost, by kind
outages     the decision rule in simulated time: detection, and false alarms beside the rules of mwan3 and dpinger
failover    from a failure to its detection and to the clients' next answer, beside loops of ping and dpinger's rule
reaction    from the kernel's message to the replaced route
cost        CPU time, memory and descriptors of the whole prober, beside loops of ping
rules       what 1 to 1000 rules cost a new connection and a packet, as policy routing, as marks and as both
choosing    what each algorithm costs a new connection and a packet
connmark    marks that connections keep, beside marks that every packet gets anew
spread      how each algorithm spreads connections over links, and whose link changes when one goes and comes back
queue       least_connections: asking for each connection beside the kernel's own choice, and how well it balances
stickiness  memory and time of ten thousand sticky clients, and whether they stay
per-packet  order and throughput of one connection over two lines, packet by packet and per connection
"""
