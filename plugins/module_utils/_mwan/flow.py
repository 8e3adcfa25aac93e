# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one flow: options to desired state, observe, plan, stop here in check mode, apply, observe, plan is empty.

Modules, the restore at boot and everything else that changes a router call `converge`; they differ only in the
change they make to the stored document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from . import layout, pins, report, store
from .apply import NotKeptError, apply_plan
from .classify import check_files, queues
from .desired import Desired, check_default_kept, compile_state, table_names
from .document import Document
from .errors import InputError
from .firewall.model import Firewall
from .health import Health, last_word
from .inbound import check_forwards
from .kernel import Facts, State
from .model import AUTO
from .plan import LoadedFirewall, Operation, make_plan, predict
from .ports import FirewallPort, Router
from .released import DOWN
from .resolve import check_present

Change = Callable[[Document], Document]
ReadHealth = Callable[[], Health]

# Seconds. The kernel repeats an unanswered ARP request after one; a gateway on the segment answers in milliseconds.
NEIGHBOUR_WAIT = 1.0
PATIENCE = 0.2


@dataclass(frozen=True)
class Outcome:
    """What a run found and did (or would do).

    `actions` are the operations as commands, `links` each link's resolved values.
    """

    changed: bool
    actions: list[str]
    diff: list[dict[str, str]]
    warnings: tuple[str, ...]
    document: Document
    links: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class _Planned:
    document: Document
    desired: Desired
    observed: State
    operations: tuple[Operation, ...]


def converge(
    router: Router,
    change: Change,
    check: bool = False,
    assume: Change | None = None,
    strict: bool = True,
    read_health: ReadHealth | None = None,
) -> Outcome:
    """Bring the router to the stored document as altered by `change`.

    In check mode nothing is written, and `assume` is applied first: what earlier tasks of the same play would have
    done, so that a fresh router can be checked with every task of a play. `strict` refuses what contradicts devices
    that are present; restoring at boot takes what is there. `read_health` stands in for the stored health.
    Raises InputError before anything is touched, KernelError and ApplyError from the kernel.
    """
    with nullcontext() if check or router.lock is None else router.lock():
        stored = store.load_document(router.files)
        assumed = (assume(stored) if check and assume else stored).check()
        wanted = change(assumed).check()
        run = Run(router, read_health or _stored_health(router), stored, wanted, strict)
        observed = run.observe_after(assumed) if check and assume else run.observe()
        if strict and not check:
            check_files(wanted, run.facts)
        planned = run.plan(observed)
        loaded = store.recorded_firewall(router.files)
        if not check:
            run.apply(planned)
        before = assumed if check else stored
        outcome = _outcome(planned, before, loaded)
        return replace(outcome, warnings=(*outcome.warnings, *_last_words(router, run.health, planned.desired)))


def open_run(router: Router) -> Run:
    """A run over the stored document as it is, to look at the router with."""
    stored = store.load_document(router.files)
    return Run(router, _stored_health(router), stored, stored, strict=False)


def _stored_health(router: Router) -> ReadHealth:
    return lambda: store.load_health(router.files)


def _last_words(router: Router, health: Health, desired: Desired) -> list[str]:
    """What health keeps out although nobody will say any more that it is back."""
    left = [link for link in health.kept_out() if link in desired.links]
    return [last_word(link) for link in left] if left and not router.prober_runs() else []


def _outcome(planned: _Planned, before: Document, loaded: store.Loaded) -> Outcome:
    """`loaded` shows what drifted in the words of the tool that listed it, line by line, not in ours against its."""
    names = {**table_names(before), **table_names(planned.document)}
    actions = report.actions(planned.operations, names)
    drifted = planned.observed.firewall not in ("", loaded.text)
    diff = report.diff(planned.observed, planned.operations, names, {loaded.text: loaded.listing} if drifted else {})
    texts = {"before": store.declared_text(before), "after": store.declared_text(planned.document)}
    if texts["before"] != texts["after"]:
        actions.append(f"store {store.DOCUMENT}")
        diff.append({"before_header": store.DOCUMENT, "after_header": store.DOCUMENT, **texts})
    return Outcome(bool(actions), actions, diff, planned.desired.warnings, planned.document, describe_links(planned))


def describe_links(planned: _Planned) -> dict[str, dict[str, Any]]:
    settings = planned.document.settings
    return {
        link.name: {
            "id": link.ident,
            "mark": f"0x{settings.mark(link.ident):x}",
            "table": settings.table(link.ident),
            "device": link.device,
            "gateway": link.gateway,
            "address": link.address,
            "pending": link.pending,
        }
        for link in planned.desired.links.values()
    }


class Run:
    """One run over one router: the facts are taken once, and everything is computed from them."""

    def __init__(
        self, router: Router, read_health: ReadHealth, stored: Document, wanted: Document, strict: bool
    ) -> None:
        self.router = router
        self._read_health = read_health
        self.health = read_health()
        self.stored = stored
        # the document the live firewall was made from; in check mode the one assumed before this run
        self.former = stored
        self.wanted = wanted
        self._compiled: list[tuple[Document, tuple[Desired, LoadedFirewall]]] = []
        self.facts = self._facts(wanted)
        if strict:
            check_present(wanted, self.facts)
            check_forwards(wanted, self.facts)
        self.strict = strict
        self.port = choose_backend(router, wanted)

    def _facts(self, document: Document) -> Facts:
        """The kernel's facts; where links share a device, their gateways' link-layer addresses are looked up first.

        A gateway that does not answer keeps the address it had, and is not waited for as long.
        """
        facts = self.router.facts(self.stored, document)
        shared = {
            (link.device, str(link.gateway)) for link in document.links if link.gateway and document.shares_device(link)
        }
        silent = {pair for pair in shared if pair[0] in facts.devices} - facts.neighbours.keys()
        if not silent:
            return facts
        known = store.known_neighbours(self.router.files)
        self.router.routing.learn_neighbours(silent, PATIENCE if silent <= known.keys() else NEIGHBOUR_WAIT)
        facts = self.router.facts(self.stored, document)
        return replace(facts, neighbours={**known, **facts.neighbours})

    def compile(self, document: Document) -> tuple[Desired, LoadedFirewall]:
        """What the document comes to by the facts; worked out once for each that is equal."""
        for known, compiled in self._compiled:
            if known == document:
                return compiled
        desired = compile_state(document, self.facts, self.health, realms=self.port.name == "iptables")
        compiled = desired, self._loaded(desired.firewall)
        self._compiled.append((document, compiled))
        return compiled

    def _loaded(self, firewall: Firewall) -> LoadedFirewall:
        return LoadedFirewall(firewall, self.port.render(firewall))

    def observe(self) -> State:
        """Our objects as they are, with every sysctl and file that this or the stored document has to do with."""
        keys: set[str] = set(self.stored.originals)
        paths: set[str] = set()
        for document in (self.stored, self.wanted):
            state = self.compile(document)[0].state
            keys |= state.sysctls.keys()
            paths |= state.files.keys()
        routing = self.router.routing
        return State(
            routes=routing.routes(),
            rules=routing.rules(),
            sysctls=self.router.sysctl.read(keys),
            files={path: self.router.files.read(path) for path in paths},
            firewall=store.live_firewall(self.router.files, self.port),
            former_firewall=self._former_listing(),
            pins=store.load_pins(self.router.files),
            balance=self.router.files.read(layout.BALANCE),
        )

    def observe_after(self, assumed: Document) -> State:
        """What would be there once `assumed` had been converged."""
        observed = self.observe()
        after = predict(observed, self._operations(assumed, observed)[1])
        self.former = assumed
        return after

    def plan(self, observed: State) -> _Planned:
        desired, operations = self._operations(self.wanted, observed)
        if self.strict:
            check_default_kept(desired.state, observed, self.wanted)
        document = replace(
            self.wanted,
            originals=self._originals(observed),
            backend=self.port.name if desired.firewall else None,
        )
        return _Planned(document, desired, observed, operations)

    def _operations(self, document: Document, observed: State) -> tuple[Desired, tuple[Operation, ...]]:
        desired, firewall = self.compile(document)
        former = self.compile(self.former)[0].firewall.resetting(_resets(observed))
        state = replace(
            desired.state,
            firewall=firewall.text,
            sysctls={**desired.state.sysctls, **self._given_back(desired.state, observed)},
            files=desired.state.files if self.router.boot_files else {},
            balance=queues(desired.firewall),
            pins=pins.wanted(document, desired.links, self.facts, desired.releases, observed.pins),
        )
        desired = replace(desired, state=state)
        live = LoadedFirewall(former, observed.firewall)
        # none when the final rules are live: then nothing leads to the links that go any more
        settled = observed.firewall in ("", firewall.text)
        transition = firewall if settled else self._loaded(firewall.model.keeping(former))
        moves = transition.model.moves(former)
        early = replace(transition.model, classification=former.classification)
        preparing = self._loaded(early) if moves and not settled else transition
        operations = make_plan(state, observed, document.settings, firewall, live, transition, preparing)
        return desired, tuple(self._address(item) for item in operations) + self._former_backend(observed)

    def _address(self, operation: Operation) -> Operation:
        return replace(operation, subject=self.port.name) if operation.kind == "firewall" else operation

    def _former_listing(self) -> str:
        """The live rules of the backend used until now, where another one takes over."""
        former = self.stored.backend
        if former is None or former == self.port.name:
            return ""
        port = self.router.firewalls[former]
        return "" if port.unavailable() else port.listing()

    def _former_backend(self, observed: State) -> tuple[Operation, ...]:
        """The removal of those rules, once the other backend serves."""
        former, listing = self.stored.backend, observed.former_firewall
        if not listing:
            return ()
        compiled = compile_state(self.stored, self.facts, self.health, realms=former == "iptables")
        model = compiled.firewall.resetting(_resets(observed))
        return (Operation("former firewall", LoadedFirewall(model, listing), None, str(former)),)

    def _given_back(self, desired: State, observed: State) -> Mapping[str, str]:
        return {
            key: value
            for key, value in self._hosts_own().items()
            if key not in desired.sysctls and key in observed.sysctls
        }

    def _originals(self, observed: State) -> dict[str, str]:
        """The host's own values of the sysctls we hold, as they were before we first set them."""
        held = self.compile(self.wanted)[0].state.sysctls
        known = self._hosts_own()
        return {key: known.get(key, observed.sysctls[key]) for key in sorted(held) if key in observed.sysctls}

    def _hosts_own(self) -> dict[str, str]:
        """The host's own values of what we hold; a device that came meanwhile would have got the host's default."""
        known = self.stored.originals
        held = self.compile(self.stored)[0].state.sysctls
        defaults = {key: "net/ipv4/conf/default/" + key.rpartition("/")[2] for key in held if "/conf/" in key}
        return {**{key: known[source] for key, source in defaults.items() if source in known}, **known}

    def apply(self, planned: _Planned) -> None:
        """Carry out the plan and store the document; the host's own sysctl values are stored before the first change.

        A run that is killed in the middle must not lose them. Raises NotKeptError when the kernel, or somebody else,
        does not keep what was set: everything is done and stored then, and the next run starts from what is there.
        """
        names = {**table_names(self.stored), **table_names(self.wanted)}
        early = replace(self.stored, originals={**planned.document.originals, **self.stored.originals})
        operations = (*self._storing(early), *planned.operations)
        apply_plan(self.router, operations, names)
        apply_plan(self.router, self._storing(planned.document), names, operations)
        if planned.operations:
            self._verify(planned.operations, names)

    def _storing(self, document: Document) -> tuple[Operation, ...]:
        """Who may not write to /etc declares nothing: there the file stays as it is, also in an older form."""
        files = store.stored_files(document).items()
        changes = [Operation("document", self.router.files.read(path), text, path) for path, text in files]
        return tuple(
            item
            for item in changes
            if item.before != item.after and (self.router.boot_files or item.subject != store.DOCUMENT)
        )

    def _verify(self, done: tuple[Operation, ...], names: Mapping[int, str]) -> None:
        """Look again, and once more set what has not stayed: an address may have changed in the meantime."""
        left = self._left()
        if left:
            apply_plan(self.router, left, names)
            left = self._left()
        if left:
            raise NotKeptError(report.actions(done, names), report.actions(left, names))

    def _left(self) -> tuple[Operation, ...]:
        """By what is known now: the prober leads new connections away from a dead link without waiting for this run."""
        self.facts, self.health = self._facts(self.wanted), self._read_health()
        self._compiled.clear()
        return self._operations(self.wanted, self.observe())[1]


def _resets(observed: State) -> dict[int, bool]:
    """The resets in force: health says only which are to be."""
    return {pin.mark: pin.reset == DOWN for pin in observed.pins.values() if pin.reset}


def choose_backend(router: Router, document: Document) -> FirewallPort:
    """The declared backend.

    For "auto" the one in use here, else nftables unless the host's firewall is legacy iptables.
    """
    declared = document.settings.firewall_backend
    if document.backend and declared in (AUTO, document.backend):
        return router.firewalls[document.backend]
    if declared != AUTO:
        return _usable(router, declared)
    order = ("iptables", "nftables") if router.legacy_firewall else ("nftables", "iptables")
    problems = []
    for name in order:
        problem = router.firewalls[name].unavailable()
        if not problem:
            return router.firewalls[name]
        problems.append(f"{name}: {problem}")
    raise InputError(
        "firewall_backend", declared, "finds no backend ({})".format("; ".join(problems)), "Install nftables"
    )


def _usable(router: Router, name: str) -> FirewallPort:
    problem = router.firewalls[name].unavailable()
    if problem:
        raise InputError(
            "firewall_backend", name, f"cannot be used: {problem}", "Install what is missing, or choose auto"
        )
    return router.firewalls[name]
