"""The way to the peer: the host route that keeps a tunnel's own packets outside of it, and what waits where there is none."""

from __future__ import annotations

import ipaddress
from operator import attrgetter

from updown.concerns import routes
from updown.concerns.routes import IPV6_DEFAULT_METRIC, deleted
from updown.model.concern import Concern
from updown.model.errors import Notice
from updown.model.objects import MAIN_TABLE, OUR_PROTOCOL, Link, Path, Route, family
from updown.model.operations import Operation, Reason
from updown.model.resources import Left, PeerRoute, Resources, route_key

PEER = "peer"


def peer_route(want: PeerRoute, path: Path) -> Route:
    """The host route to the peer along `path`."""
    six = family(want.peer) == 6
    length, metric = (128, IPV6_DEFAULT_METRIC) if six else (32, 0)
    return Route(f"{want.peer}/{length}", path.device, path.gateway, want.table, metric, path.mtu)


def slot_of(want: PeerRoute) -> Route:
    """Where a host route to the peer stands, whatever its device."""
    return peer_route(want, Path(""))


def key(want: PeerRoute) -> str:
    """The peer, and the table where that is not the main one."""
    return want.peer if want.table == MAIN_TABLE else f"{want.peer} {want.table}"


def needed_route(asked: PeerRoute, left: Left, _link: Link | None) -> Route | None:
    """The host route along the path there is now; none where what stands is good, or where there is no path but the tunnel."""
    path = left.paths.get(asked.peer)
    if is_usable(asked, left) or path is None or path.local or path.device == asked.device:
        return None
    return peer_route(asked, path)


def diff(want: Route, by: str, left: Left) -> list[Operation]:
    """Put the host route there."""
    have = left.routes.get(route_key(want))
    if want == have:
        return []
    action = "route replace" if have else "route add"
    return [Operation(action, want, have, Reason("peer stays outside", by), kind=PEER)]


def remove(asked: PeerRoute, reason: Reason, left: Left) -> list[Operation]:
    """Remove the host route, if it is ours."""
    return deleted(left.routes.get(route_key(slot_of(asked))), reason, PEER)


def no_way(asked: PeerRoute, waiting: bool) -> Notice:
    """The warning where there is no way but the tunnel; `waiting`: routes of the main table do, so that nothing loops."""
    found = f"no way to the peer {asked.peer} outside {asked.device}: its packets would loop"
    if waiting:
        found += ". Routes that hold it wait: add one to the peer, then run `vti-updown reconcile`"
    else:
        found += " where a rule leads them there. Add a route to the peer"
    return Notice("no way to the peer", found)


def is_usable(asked: PeerRoute, left: Left) -> bool:
    """Whether the host route that is there, whoever made it, goes on being the way."""
    have = left.routes.get(route_key(slot_of(asked)))
    moved = asked.peer in left.moved
    return have is not None and not (have.protocol == OUR_PROTOCOL and (moved or have.device == asked.device))


def is_lost(asked: PeerRoute, left: Left) -> bool:
    """Whether there is no way to the peer but its own tunnel."""
    path = left.paths.get(asked.peer)
    return not is_usable(asked, left) and (path is None or path.device == asked.device)


def loops(route: Route, wants: Resources, lost: frozenset[str]) -> bool:
    """Whether a route of a claim that asks for `wants` leads the tunnel's own packets into it: it holds a peer that is `lost`.
    Other tables than the main one have rules of their own, of which we do not know whom they are for."""
    if route.table != MAIN_TABLE or not lost:
        return False
    network = ipaddress.ip_network(route.destination)
    peers = [want.peer for want in wants if isinstance(want, PeerRoute) and want.device == route.device]
    return any(peer in lost and ipaddress.ip_address(peer) in network for peer in peers)


CONCERN = Concern(PEER, PeerRoute, key, attrgetter("routing.peers"), needed_route, diff, remove, routes.command, routes.told)
"""All tunnels to a peer share the way to it, in one table."""
