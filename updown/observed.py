"""What the kernel shows for the resources one event touches, and nothing more (promise P9)."""

from __future__ import annotations

from typing import Dict, FrozenSet, Optional, Tuple

from updown.desired import Clamp
from updown.record import NamedTuple
from updown.state import Address, Link, Path, Route, Rule, netns_of

RouteKey = Tuple[str, int, int, str]
"""Destination, table, metric: what makes two routes one in the kernel; and their namespace."""


class Observed(NamedTuple):
    """Answers of the kernel; a missing key was not asked, None means it is not there."""

    links: Dict[str, Optional[Link]]
    addresses: Dict[str, Tuple[Address, ...]]  # by device
    routes: Dict[RouteKey, Optional[Route]]
    paths: Dict[str, Optional[Path]]  # by address: how a packet would go now, outside our devices
    sysctls: Dict[str, Optional[str]]  # by path below /proc/sys
    rules: FrozenSet[Rule]  # of ours and of others, that are as one of those asked for
    others: Dict[str, Tuple[Route, ...]]  # by device: IPv4 routes that are not ours, where an address is removed
    tables: Dict[str, Optional[Clamp]]  # by device: the nftables table of ours


def route_key(route: Route) -> RouteKey:
    """The key under which `Observed.routes` holds the route that stands where `route` would."""
    return (route.destination, route.table, route.metric, netns_of(route.device))
