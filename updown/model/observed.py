"""What the kernel shows for the resources one event touches, and nothing more (promise P9)."""

from __future__ import annotations

from updown.model.objects import Address, Link, Path, Route, Rule, netns_of
from updown.model.record import NamedTuple
from updown.model.resources import Clamp

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
