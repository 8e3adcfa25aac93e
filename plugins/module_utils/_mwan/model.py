# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the administrator declares: links, policies, source NAT, reverse-path filtering (rules are in rules.py).

Every object is built by `parse` from plain data (module parameters or the stored document), is canonical from then
on, and gives the same plain data back by `dump`. `key` is the object's identity; equality is equality of content.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from . import values
from .balancing import ALGORITHMS, LEAST_CONNECTIONS, MULTIPATH, PER_PACKET, LeastConnections, Sticky
from .errors import InputError
from .reactions import Failback, OnDown
from .watch.settings import ProbeOverrides

AUTO = "auto"
MASQUERADE = "masquerade"
FIREWALLS = ("nftables", "iptables")
LAST_RESORTS = ("unreachable", "blackhole", "main")
RP_MODES = {"none": 0, "strict": 1, "loose": 2}


def _without_none(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value is not None}


@dataclass(frozen=True)
class Link:
    """One way to the Internet.

    `gateway` None means a point-to-point device; "auto" follows what the kernel has learned. `probe` is what this link
    is watched by other than the others; `rate` what it can carry, in bits per second, None where that is not known.
    """

    name: str
    device: str
    gateway: str | None
    address: str
    weight: int
    probe: ProbeOverrides = field(default_factory=ProbeOverrides)
    rate: int | None = None

    @property
    def key(self) -> str:
        return self.name

    @classmethod
    def parse(cls, option: str, data: Any) -> Link:
        data = values.only_keys(option, data, ("name", "device", "gateway", "address", "weight", "probe", "rate"))
        for needed in ("name", "device"):
            if needed not in data:
                raise InputError(f"{option}.{needed}", None, "is missing", "Every link has a name and a device")
        gateway, source = data.get("gateway"), data.get("address", AUTO)
        return cls(
            name=values.name(option + ".name", data["name"]),
            device=values.device(option + ".device", data["device"]),
            gateway=gateway if gateway in (None, AUTO) else values.address(option + ".gateway", gateway),
            address=source if source == AUTO else values.address(option + ".address", source),
            weight=values.weight(option + ".weight", data.get("weight", 1)),
            probe=ProbeOverrides.parse(option + ".probe", data.get("probe", {})),
            rate=_optional(values.rate, option, data, "rate"),
        )

    def dump(self) -> dict[str, Any]:
        return _without_none({**vars(self), "probe": self.probe.dump() or None})


@dataclass(frozen=True)
class Member:
    """A link's part in a policy. `weight` None means the link's own weight; tier 1 serves before tier 2."""

    link: str
    weight: int | None
    tier: int

    @classmethod
    def parse(cls, option: str, data: Any) -> Member:
        data = values.only_keys(option, data, ("link", "weight", "tier"))
        if "link" not in data:
            raise InputError(option + ".link", None, "is missing", "Name the link")
        weight = data.get("weight")
        return cls(
            link=values.name(option + ".link", data["link"]),
            weight=None if weight is None else values.weight(option + ".weight", weight),
            tier=values.integer(option + ".tier", data.get("tier", 1), 1, values.MAX_TIER),
        )


@dataclass(frozen=True)
class Policy:
    """How new connections are spread over members; `last_resort` is what happens when no member can carry them.

    `on_down` and `failback` say what becomes of existing ones.
    """

    name: str
    members: tuple[Member, ...]
    last_resort: str
    algorithm: str = MULTIPATH
    least_connections: LeastConnections = field(default_factory=LeastConnections)
    sticky: Sticky = field(default_factory=Sticky)
    on_down: OnDown = field(default_factory=OnDown)
    failback: Failback = field(default_factory=Failback)

    KEYS = (
        *("name", "algorithm", "members", "last_resort", "least_connections", "sticky"),
        *("on_down", "failback"),
    )

    @property
    def key(self) -> str:
        return self.name

    @classmethod
    def parse(cls, option: str, data: Any) -> Policy:
        data = values.only_keys(option, data, cls.KEYS)
        if not data.get("members"):
            raise InputError(option + ".members", data.get("members"), "is empty", "Name at least one link")
        members = tuple(Member.parse(f"{option}.members[{i}]", item) for i, item in enumerate(data["members"]))
        values.unique(option + ".members", (member.link for member in members))
        policy = cls(
            name=values.name(option + ".name", data.get("name")),
            members=members,
            last_resort=values.choice(option + ".last_resort", data.get("last_resort", "unreachable"), LAST_RESORTS),
            algorithm=values.choice(option + ".algorithm", data.get("algorithm", MULTIPATH), ALGORITHMS),
            least_connections=LeastConnections.parse(option + ".least_connections", data.get("least_connections", {})),
            sticky=Sticky.parse(option + ".sticky", data.get("sticky", 0)),
            on_down=OnDown.parse(option + ".on_down", data.get("on_down", {})),
            failback=Failback.parse(option + ".failback", data.get("failback", {})),
        )
        policy._check_algorithm(option)
        return policy

    def _check_algorithm(self, option: str) -> None:
        if self.least_connections != LeastConnections() and self.algorithm != LEAST_CONNECTIONS:
            raise InputError(
                option + ".least_connections",
                self.least_connections.dump(),
                f"says nothing to algorithm {self.algorithm}",
                f"Give algorithm: {LEAST_CONNECTIONS}, or leave it out",
            )
        if self.sticky and self.algorithm == PER_PACKET:
            raise InputError(
                option + ".sticky",
                self.sticky.timeout,
                "contradicts algorithm per_packet, which keeps no client on one link",
                "Leave it out, or choose another algorithm",
            )

    @property
    def by_routing(self) -> bool:
        """Whether the kernel's multipath route alone chooses."""
        return (self.algorithm == MULTIPATH or self.follows_counts) and not self.sticky

    @property
    def follows_counts(self) -> bool:
        """Whether the weights of its route follow the counts of connections."""
        return self.algorithm == LEAST_CONNECTIONS and self.least_connections.method == "weights"

    def dump(self) -> dict[str, Any]:
        members = [_without_none(vars(member)) for member in self.members]
        usual = {
            "least_connections": LeastConnections(),
            "sticky": Sticky(),
            "on_down": OnDown(),
            "failback": Failback(),
        }
        return {
            "name": self.name,
            "algorithm": self.algorithm,
            "members": members,
            "last_resort": self.last_resort,
            **{key: getattr(self, key).dump() for key, value in usual.items() if getattr(self, key) != value},
        }


def _optional(parse: Any, option: str, data: Mapping[str, Any], key: str) -> Any:
    return parse(f"{option}.{key}", data[key]) if key in data else None


@dataclass(frozen=True)
class Snat:
    """Source NAT on one link for `sources` (empty: all): to an address, to the link's own ("auto"), or masquerade."""

    link: str
    sources: tuple[str, ...]
    to: str

    @property
    def key(self) -> tuple[str, tuple[str, ...]]:
        return self.link, self.sources

    @classmethod
    def parse(cls, option: str, data: Any) -> Snat:
        data = values.only_keys(option, data, ("link", "source", "to"))
        listed = data.get("source", [])
        listed = [listed] if isinstance(listed, str) else listed
        to = data.get("to", AUTO)
        return cls(
            link=values.name(option + ".link", data.get("link")),
            sources=values.prefixes(option + ".source", listed),
            to=to if to in (AUTO, MASQUERADE) else values.address(option + ".to", to),
        )

    def dump(self) -> dict[str, Any]:
        return {"link": self.link, "source": list(self.sources), "to": self.to}


@dataclass(frozen=True)
class RpFilter:
    """Reverse-path filtering (RFC 3704) as it shall take effect.

    `mode` holds for every device not named in `devices`, `default` for devices created later. The kernel applies the
    higher of conf.all and conf.DEVICE (Documentation/networking/ip-sysctl.rst, rp_filter), so a device can never be
    below `all`, which therefore stays at none unless it is given.
    """

    mode: str | None = None
    all: str | None = None
    default: str | None = None
    devices: tuple[tuple[str, str], ...] = ()
    src_valid_mark: bool = True
    blackhole: tuple[str, ...] = ()

    @classmethod
    def parse(cls, option: str, data: Any) -> RpFilter:
        data = values.only_keys(option, data, ("mode", "all", "default", "devices", "src_valid_mark", "blackhole"))
        modes = {
            key: values.choice(f"{option}.{key}", data[key], RP_MODES) if key in data else None
            for key in ("mode", "all", "default")
        }
        devices = data.get("devices") or {}
        result = cls(
            **modes,
            devices=tuple(sorted(cls._device_mode(option, *item) for item in devices.items())),
            src_valid_mark=bool(data.get("src_valid_mark", True)),
            blackhole=tuple(sorted({cls._blackhole(option, item) for item in data.get("blackhole") or ()})),
        )
        result._check_reachable(option)
        return result

    @staticmethod
    def _device_mode(option: str, device: str, mode: Any) -> tuple[str, str]:
        where = f"{option}.devices.{device}"
        return values.device(where, device), values.choice(where, mode, RP_MODES)

    @staticmethod
    def _blackhole(option: str, item: Any) -> str:
        prefix = values.prefix(option + ".blackhole", item)
        if prefix == values.EVERYWHERE:
            raise InputError(
                option + ".blackhole", item, "would discard everything", "Name the networks that must never be routed"
            )
        return prefix

    def _check_reachable(self, option: str) -> None:
        """Refuse what max(conf.all, conf.DEVICE) cannot give."""
        floor = RP_MODES[self.all or "none"]
        wanted = [("mode", self.mode), ("default", self.default)] + [
            ("devices." + name, mode) for name, mode in self.devices
        ]
        for key, mode in wanted:
            if mode is not None and RP_MODES[mode] < floor:
                raise InputError(
                    f"{option}.{key}",
                    mode,
                    f"cannot take effect: the kernel applies the higher of all ({self.all}) and the device's own",
                    "Leave 'all' out, or set it to none, and give 'mode' and 'devices' what you want",
                )

    @property
    def declared(self) -> bool:
        """Whether any filter mode is declared, so that the sysctls are ours to keep."""
        return bool(self.mode or self.all or self.default or self.devices)

    def dump(self) -> dict[str, Any]:
        data = _without_none(vars(self))
        return {**data, "devices": dict(self.devices), "blackhole": list(self.blackhole)}


@dataclass(frozen=True)
class Settings:
    """What holds for the whole router."""

    mark_mask: int = 0x3F00
    table_base: int = 1000
    rule_priority: int = 1000
    ip_forward: bool = True
    multipath_hash: str = "layer4"
    firewall_backend: str = AUTO
    # by what rules are told apart: marks of the firewall, or policy routing alone
    classify: str = "marks"
    # how links are watched that do not say otherwise
    probe: ProbeOverrides = field(default_factory=ProbeOverrides)

    # fib_multipath_hash_policy, Documentation/networking/ip-sysctl.rst
    HASHES: ClassVar[Mapping[str, int]] = {"layer3": 0, "layer4": 1, "inner_layer3": 2}
    BACKENDS = (AUTO, *FIREWALLS)
    CLASSIFIERS = ("marks", "routing")

    @classmethod
    def parse(cls, option: str, data: Any) -> Settings:
        known = (
            "mark_mask",
            "table_base",
            "rule_priority",
            "ip_forward",
            "multipath_hash",
            "firewall_backend",
            "classify",
            "probe",
        )
        data = values.only_keys(option, data, known)
        default = cls()
        return cls(
            mark_mask=_mask(option + ".mark_mask", data.get("mark_mask", default.mark_mask)),
            table_base=values.integer(option + ".table_base", data.get("table_base", default.table_base), 256, 2**31),
            rule_priority=values.integer(
                option + ".rule_priority", data.get("rule_priority", default.rule_priority), 1, 30000
            ),
            ip_forward=bool(data.get("ip_forward", default.ip_forward)),
            multipath_hash=values.choice(
                option + ".multipath_hash", data.get("multipath_hash", default.multipath_hash), cls.HASHES
            ),
            firewall_backend=values.choice(
                option + ".firewall_backend", data.get("firewall_backend", default.firewall_backend), cls.BACKENDS
            ),
            classify=values.choice(option + ".classify", data.get("classify", default.classify), cls.CLASSIFIERS),
            probe=ProbeOverrides.parse(option + ".probe", data.get("probe", {})),
        )

    def dump(self) -> dict[str, Any]:
        data = {**vars(self), "mark_mask": f"0x{self.mark_mask:x}", "probe": self.probe.dump() or None}
        return _without_none(data)

    @property
    def mark_shift(self) -> int:
        return (self.mark_mask & -self.mark_mask).bit_length() - 1

    @property
    def capacity(self) -> int:
        """How many ids fit: the field's all-ones value included, zero excluded (it means no pin)."""
        return self.mark_mask >> self.mark_shift

    @property
    def by_marks(self) -> bool:
        return self.classify == "marks"

    def mark(self, ident: int) -> int:
        return ident << self.mark_shift

    def table(self, ident: int) -> int:
        return self.table_base + ident


def _mask(option: str, value: Any) -> int:
    mask = values.integer(option, value, 1, 0xFFFFFFFF)
    field = mask >> ((mask & -mask).bit_length() - 1)
    if field & (field + 1):
        raise InputError(
            option, value, "has holes", "Give one run of set bits, such as 0x3f00 (63 ids) or 0xff00 (255 ids)"
        )
    return mask
