"""What a claim asks for: one record a resource, and the key under which tunnels share it.

Two claims share a resource when their keys are equal; it goes with the last of them (promise P4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from updown.model.objects import MAIN_TABLE, Address, Link, Path, Route, Rule, netns_of
from updown.model.record import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Union

FOLLOW_ALL = "auto"
"""An rp_filter value: 0, or 2 where `all` is 1, since the kernel takes the larger of the two (net/ipv4/fib_frontend.c). Of
accept_ra: 0 where 2 would be heeded."""


class Device(NamedTuple):
    """A tunnel device: `with_last` says whether it is deleted with the last claim, if we made it."""

    link: Link
    shared: bool
    with_last: bool
    by_daemon: bool = False  # the daemon makes and deletes it; we only use it
    follow: bool = False  # it is down while no tunnel is up
    multicast: bool | None = None  # None: as it is


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
    table: int = MAIN_TABLE  # of the host route; in another one only marked packets look there


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
    size: int = 0  # bytes of a segment; 0: what the MTU and the routes leave


if TYPE_CHECKING:
    Resource = Union[Device, Sysctl, Address, SourceAddress, PeerRoute, Route, Rule, Mtu, Clamp]
else:
    Resource = object


def split(name: str) -> tuple[str, str]:
    """Kind and rest of a resource's key."""
    kind, _, rest = name.partition(" ")
    return kind, rest


def device_of(asked: Resource) -> str:
    """The tunnel device that `asked` hangs on."""
    return asked.link.name if isinstance(asked, Device) else asked.device


def load_sum(stored: list[Any] | None) -> MtuSum | None:
    """A sum as JSON has it; raises ValueError or TypeError for anything else."""
    if stored is None:
        return None
    size, parts, tunnel = stored
    return MtuSum(size, tuple((name, part) for name, part in parts), tunnel)


class DeletionRule(NamedTuple):
    """The row of the deletion table (docs/deletion.md) that a claim stands in, decided when the claim is made."""

    any_remote: bool  # the device serves several peers
    with_last: bool  # with its last claim


Resources = tuple[Resource, ...]


EMPTY: Mapping[Any, Any] = MappingProxyType({})

RouteKey = tuple[str, int, int, str]
"""Destination, table, metric: what makes two routes one in the kernel; and their namespace."""


class Observed(NamedTuple):
    """Answers of the kernel; a missing key was not asked, None means it is not there."""

    links: Mapping[str, Link | None] = EMPTY
    addresses: Mapping[str, tuple[Address, ...]] = EMPTY  # by device
    routes: Mapping[RouteKey, Route | None] = EMPTY
    paths: Mapping[str, Path | None] = EMPTY  # by address: how a packet would go now, outside our devices
    others: Mapping[str, tuple[Route, ...]] = EMPTY  # by device: IPv4 routes not ours, where an address is removed
    things: Mapping[str, Any] = EMPTY  # by kind, of the concerns that stand alone: what its reader in kernel/ gives
    doubtful: Mapping[Any, str] = EMPTY  # of what is left: what may go with a removed address, with the address
    moved: frozenset[str] = frozenset()  # of what is left: peers to whom the way is looked for anew
    parents: Mapping[str, Link | None] = EMPTY  # by what asks for it, a name or `to ADDRESS`
    ahead: Mapping[RouteKey, Route] = EMPTY  # by a wanted route's key: somebody else's to its prefix that packets take first


class Left(Observed):
    """What of that is left after a plan's removals, with what the kernel takes along gone."""


def route_key(route: Route) -> RouteKey:
    """The key under which `Observed.routes` holds the route that stands where `route` would."""
    return (route.destination, route.table, route.metric, netns_of(route.device))


def follows_tunnels(wants: Sequence[object]) -> bool:
    """Whether a device among these follows its tunnels."""
    return any(isinstance(want, Device) and want.follow for want in wants)
