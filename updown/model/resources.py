"""What a claim asks for: one record a resource, and the key under which tunnels share it.

Two claims share a resource when their keys are equal; it goes with the last of them (promise P4).
"""

from __future__ import annotations

from collections.abc import Sequence

from updown.model.objects import MAIN_TABLE, Address, Link, Path, Route, Rule, netns_of
from updown.model.record import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Union

FOLLOW_ALL = "auto"
"""An rp_filter value: 0, or 2 where `all` is 1, since the kernel takes the larger of the two (net/ipv4/fib_frontend.c). Of
accept_ra: 0 where 2 would be heeded."""


class Device(NamedTuple):
    """A tunnel device: `goes` says whether it is deleted with the last claim, if we made it."""

    link: Link
    shared: bool
    with_last: bool
    by_daemon: bool = False  # the daemon makes and deletes it; we only use it
    follow: bool = False  # it is down while no tunnel is up


class Sysctl(NamedTuple):
    """A file below /proc/sys, and the text it should hold."""

    device: str
    path: str
    value: str


class SourceAddress(NamedTuple):
    """An address that routes prefer as source: put on the device unless this machine has it already."""

    device: str
    address: str


class PeerRoute(NamedTuple):
    """A way to the peer outside the tunnel, along the path the kernel takes now."""

    peer: str
    device: str  # the tunnel that must not carry the tunnel's own packets
    underlay: str  # the physical device the daemon names; may be empty
    local: str  # our end: once it moves, the way is looked for anew


class MtuSum(NamedTuple):
    """The bytes that are left for a packet, and what they are left of: the underlay, then each part of its ESP or AH."""

    size: int
    parts: tuple[tuple[str, int], ...]
    tunnel: bool = True  # whole packets are carried; else a packet's own header stays


class Mtu(NamedTuple):
    """What one tunnel allows on a device; the least of all is the device's."""

    device: str
    size: int  # bytes
    six: bool = False  # there is IPv6 inside, which needs 1280
    total: MtuSum | None = None  # where it was worked out


class Clamp(NamedTuple):
    """An nftables table of ours that keeps TCP segments small enough for a device; `mtu` 0: by the routes alone."""

    device: str
    mtu: int = 0  # bytes; the plan fills it in
    slave: bool = False  # of a VRF


if TYPE_CHECKING:
    Resource = Union[Device, Sysctl, Address, SourceAddress, PeerRoute, Route, Rule, Mtu, Clamp]
else:
    Resource = object

KINDS: dict[str, type[Any]] = {
    "device": Device,
    "sysctl": Sysctl,
    "address": Address,
    "source": SourceAddress,
    "peer": PeerRoute,
    "route": Route,
    "rule": Rule,
    "mtu": Mtu,
    "firewall": Clamp,
}


def key_of(want: Resource) -> str:
    """The key of what `want` asks for; it begins with the kind's word."""
    if isinstance(want, Device):
        return f"device {want.link.name}"
    if isinstance(want, Sysctl):
        return f"sysctl {want.path}"
    if isinstance(want, Address):
        return f"address {want.device} {want.address}"
    if isinstance(want, SourceAddress):
        return f"source {want.device} {want.address}"
    if isinstance(want, PeerRoute):
        return f"peer {want.peer}"
    if isinstance(want, Mtu):
        return f"mtu {want.device} {'six' if want.six else 'any'} {want.size:05}"  # in the order of their sizes
    if isinstance(want, Clamp):
        return f"firewall {want.device}"
    netns = netns_of(want.device)
    there = f" @{netns}" if netns else ""
    if isinstance(want, Rule):
        said = f"{want.source or 'all'} {want.iif or '-'} {want.fwmark}/{want.fwmask}"
        return f"rule {want.family} {want.priority} {said} {want.table}{there}"
    table = "main" if want.table == MAIN_TABLE else str(want.table)
    return f"route {table} {want.destination} {want.metric}{there}"


def split(name: str) -> tuple[str, str]:
    """Kind and rest of a resource's key."""
    kind, _, rest = name.partition(" ")
    return kind, rest


def device_of(want: Resource) -> str:
    """The tunnel device that `want` hangs on."""
    return want.link.name if isinstance(want, Device) else want.device


def dump(want: Resource) -> list[Any]:
    """`want` for JSON."""
    kind = next(word for word, record in KINDS.items() if isinstance(want, record))
    return [kind, *(list(field) if isinstance(field, Link) else field for field in want)]


def load(stored: list[Any]) -> Resource:
    """What `dump` stored; raises ValueError for anything else."""
    kind, *fields = stored
    record = KINDS.get(kind)
    if record is None:
        raise ValueError(f"no want is of kind {kind}")
    try:
        if record is Device:
            fields[0] = Link(*fields[0])
        if record is Route:
            fields[-2] = tuple(fields[-2])
        if record is Mtu:
            fields[-1] = load_sum(fields[-1])
        made: Resource = record(*fields)
    except (TypeError, IndexError):
        raise ValueError(f"a {kind} has other fields") from None
    return made


def load_sum(stored: list[Any] | None) -> MtuSum | None:
    """A sum as JSON has it; raises ValueError or TypeError for anything else."""
    if stored is None:
        return None
    size, parts, tunnel = stored
    return MtuSum(size, tuple((name, part) for name, part in parts), tunnel)


class DeletionRule(NamedTuple):
    """The row of design's deletion table a claim stands in, decided when the claim is made."""

    any_remote: bool  # the device serves several peers
    with_last: bool  # with its last claim


Resources = tuple[Resource, ...]


RouteKey = tuple[str, int, int, str]
"""Destination, table, metric: what makes two routes one in the kernel; and their namespace."""


class Observed(NamedTuple):
    """Answers of the kernel; a missing key was not asked, None means it is not there."""

    links: dict[str, Link | None]
    addresses: dict[str, tuple[Address, ...]]  # by device
    routes: dict[RouteKey, Route | None]
    paths: dict[str, Path | None]  # by address: how a packet would go now, outside our devices
    sysctls: dict[str, str | None]  # by path below /proc/sys
    rules: frozenset[Rule]  # of ours and of others, that are as one of those asked for
    others: dict[str, tuple[Route, ...]]  # by device: IPv4 routes that are not ours, where an address is removed
    tables: dict[str, Clamp | None]  # by device: the nftables table of ours


def route_key(route: Route) -> RouteKey:
    """The key under which `Observed.routes` holds the route that stands where `route` would."""
    return (route.destination, route.table, route.metric, netns_of(route.device))


def follows_tunnels(wants: Sequence[object]) -> bool:
    """Whether a device among these follows its tunnels."""
    return any(isinstance(want, Device) and want.follow for want in wants)
