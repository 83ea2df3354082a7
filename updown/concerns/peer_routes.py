"""The way to the peer: the host route that keeps a tunnel's own packets outside of it, and what waits where there is none."""

from __future__ import annotations

import ipaddress

from updown.concerns.routes import IPV6_DEFAULT_METRIC
from updown.model.objects import MAIN_TABLE, OUR_PROTOCOL, Path, Route, family
from updown.model.operations import Operation
from updown.model.resources import Observed, PeerRoute, Resources, route_key


def peer_route(want: PeerRoute, path: Path) -> Route:
    """The host route to the peer along `path`."""
    six = family(want.peer) == 6
    return Route(
        f"{want.peer}/{128 if six else 32}",
        path.device,
        path.gateway,
        metric=IPV6_DEFAULT_METRIC if six else 0,
        mtu=path.mtu,
    )


def peer_route_slot(peer: str) -> Route:
    """Where a host route to the peer stands, whatever its device."""
    return peer_route(PeerRoute(peer, "", "", ""), Path(""))


def plan(want: PeerRoute, observed: Observed, moved: bool, claim: str) -> Operation | None:
    """The host route to the peer, where there is a way. `moved`: our end did, so that our earlier route may lead where nothing
    is."""
    have = observed.routes.get(route_key(peer_route_slot(want.peer)))
    path = observed.paths.get(want.peer)
    if is_usable(want, have, moved) or path is None or path.device == want.device:
        return None
    wanted = peer_route(want, path)
    if path.local or wanted == have:
        return None
    why = f"{claim}: ESP and IKE to the peer stay outside {want.device}"
    return Operation("route replace" if have else "route add", wanted, have, why)


def no_way(want: PeerRoute, waiting: bool) -> str:
    """The warning where there is no way but the tunnel; `waiting`: routes of the main table do, so that nothing loops."""
    found = f"no way to the peer {want.peer} outside {want.device}: its packets would loop"
    if waiting:
        return f"{found}. Routes that hold it wait: add one to the peer, then run `vti-updown reconcile`"
    return f"{found} where a rule leads them there. Add a route to the peer"


def is_usable(want: PeerRoute, have: Route | None, moved: bool) -> bool:
    """Whether the host route that is there, whoever made it, goes on being the way."""
    return have is not None and not (have.protocol == OUR_PROTOCOL and (moved or have.device == want.device))


def is_lost(want: PeerRoute, observed: Observed, moved: bool) -> bool:
    """Whether there is no way to the peer but its own tunnel."""
    have = observed.routes.get(route_key(peer_route_slot(want.peer)))
    path = observed.paths.get(want.peer)
    return not is_usable(want, have, moved) and (path is None or path.device == want.device)


def loops(route: Route, wants: Resources, lost: frozenset[str]) -> bool:
    """Whether a route of a claim that asks for `wants` leads the tunnel's own packets into it: it holds a peer that is `lost`.
    Other tables than the main one have rules of their own, of which we do not know whom they are for."""
    if route.table != MAIN_TABLE or not lost:
        return False
    network = ipaddress.ip_network(route.destination)
    peers = [want.peer for want in wants if isinstance(want, PeerRoute) and want.device == route.device]
    return any(peer in lost and ipaddress.ip_address(peer) in network for peer in peers)
