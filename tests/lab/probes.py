# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The library's probes on a lab host, from the outside: make, send, and wait for what they say."""

from __future__ import annotations

import datetime
import json
import queue
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .engine import LIBRARY, Engine
from .host import Host
from .topology import Topology
from .traffic import Helper, Teller

Verdict = dict[str, Any]


class Prober(Teller):
    """One process with any number of probes by name."""

    def __init__(self, host: Host) -> None:
        super().__init__(host, "probe.py", str(LIBRARY))
        self.seq = 0

    def order(self, do: str, **what: Any) -> None:
        self.write(json.dumps({"do": do, **what}))

    def make(self, name: str, target: Mapping[str, Any], binding: Mapping[str, Any]) -> None:
        self.order("make", name=name, target=target, binding=binding)

    def send(self, name: str) -> int:
        self.seq += 1
        self.order("send", name=name, seq=self.seq)
        return self.seq

    def next(self, timeout: float = 2.0) -> Verdict | None:
        """The next verdict of any probe; None when none came in time."""
        try:
            return self.told.get(timeout=timeout)
        except queue.Empty:
            return None

    def ask(self, name: str, timeout: float = 2.0) -> Verdict:
        """Send once, and the verdict on that one; `what` is "silence" when there is none."""
        seq = self.send(name)
        deadline = time.monotonic() + timeout
        while (verdict := self.next(max(0.0, deadline - time.monotonic()))) is not None:
            if (verdict["probe"], verdict["seq"]) == (name, seq):
                return verdict
        return {"probe": name, "what": "silence", "seq": seq}

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """As a machine that was paused. nsenter has become the process itself."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def cost(self) -> dict[str, Any]:
        """CPU seconds so far, peak memory, descriptors, threads, numbers of verdicts, and the loop's time."""
        self.order("cost")
        while verdict := self.next(10):
            if "cpu" in verdict:
                return verdict
        raise TimeoutError("no answer from the prober")


def bindings(topology: Topology, engine: Engine) -> dict[str, dict[str, Any]]:
    """Converge the router; link name -> what to bind a probe to."""
    links = engine.apply().links
    return {
        name: {"device": uplink.device, "source": uplink.address, "mark": int(links[name]["mark"], 16)}
        for name, uplink in topology.uplinks.items()
    }


class Answers(Helper):
    """An HTTP, HTTPS and DNS server on every address of a host; helpers/answers.py says what it answers to what."""

    def __init__(self, host: Host) -> None:
        self.log = host.state / "answers.log"
        certificate = host.state / "answers.pem"
        make_certificate(certificate)
        super().__init__(host, "answers.py", "--log", str(self.log), "--certificate", str(certificate))

    def asked(self) -> list[str]:
        """Each request as "SOURCE KIND WHAT"."""
        return self.log.read_text(encoding="utf-8").splitlines()


CERTIFIED = "check.example"


def make_certificate(path: Path) -> None:
    """Key and self-signed certificate for CERTIFIED."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CERTIFIED)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - datetime.timedelta(1))
    builder = builder.not_valid_after(now + datetime.timedelta(1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(CERTIFIED)]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))


class Seen:
    """Counts the questions each provider gets from its customer: the first packets of TCP connections, all of other
    protocols, and ARP requests."""

    def __init__(self, topology: Topology) -> None:
        self.uplinks = topology.uplinks
        for uplink in self.uplinks.values():
            came = f'iifname "{uplink.customer_device}"'
            uplink.provider.nft(
                f"""table ip seen {{
                  counter asked {{ }}
                  chain c {{
                    type filter hook prerouting priority -310;
                    {came} tcp flags & (syn | ack) == syn counter name asked
                    {came} ip protocol != tcp counter name asked
                  }}
                }}
                table arp seen {{
                  counter asked {{ }}
                  chain c {{ type filter hook input priority 0; {came} arp operation request counter name asked; }}
                }}"""
            )

    def packets(self, family: str = "ip") -> dict[str, int]:
        """Link name -> packets since the last call."""
        return {name: self._take(uplink.provider, family) for name, uplink in self.uplinks.items()}

    @staticmethod
    def _take(provider: Host, family: str) -> int:
        said = provider.run(["nft", "-j", "reset", "counters", "table", family, "seen"]).stdout
        return sum(item["counter"]["packets"] for item in json.loads(said)["nftables"] if "counter" in item)
