"""Routes into the tunnel, and which peers they must not swallow (peers.py)."""

from __future__ import annotations

import ipaddress

from updown.concerns.device import DeviceRequest
from updown.model.claims import SaInfo
from updown.model.objects import MAIN_TABLE, OUR_PROTOCOL, Route, family, placed
from updown.model.operations import Operation
from updown.model.record import NamedTuple
from updown.model.resources import Observed, PeerRoute, route_key
from updown.settings.keys import Settings

HALVES = {"0.0.0.0/0": ("0.0.0.0/1", "128.0.0.0/1"), "::/0": ("::/1", "8000::/1")}
"""A default route in two halves, so that the machine's own default route stays as it is."""

IPV6_DEFAULT_METRIC = 1024  # what the kernel makes of 0 (net/ipv6/route.c IP6_RT_PRIO_USER)


class Routing(NamedTuple):
    """The routes a tunnel wants, the ways to its peer, and remarks for people."""

    routes: tuple[Route, ...] = ()
    peers: tuple[PeerRoute, ...] = ()
    remarks: tuple[str, ...] = ()


def wants(sa: SaInfo, settings: Settings, found: DeviceRequest) -> Routing:
    """One route for each prefix of the remote selector, if routing is asked for; and those of the settings.

    The way to the peer matters where the tunnel's own packets look into the same tables: not from a namespace or a VRF.
    """
    device = placed(found.name or "", settings.netns)
    static = [route(sa, settings, found, asked.destination, asked.gateway) for asked in settings.route]
    asked_for, remarks = selector_routes(sa, settings, found, device)
    peer = ipaddress.ip_address(sa.peer)
    routes: list[Route] = []
    peers: list[PeerRoute] = []
    for wanted in asked_for + static:
        network = ipaddress.ip_network(wanted.destination)
        holds_peer = network.version == peer.version and peer in network and not (settings.netns or settings.vrf)
        if holds_peer and network.prefixlen == network.max_prefixlen and wanted.table == MAIN_TABLE:
            remarks.append(f"{peer} is not routed into {device}, its IKE and ESP would loop: packets to it go outside")
            continue
        if holds_peer and not peer.is_unspecified:
            peers.append(PeerRoute(str(peer), device, sa.underlay or "", sa.me))
        routes += [wanted._replace(destination=half) for half in HALVES.get(wanted.destination, (wanted.destination,))]
    return Routing(tuple(dict.fromkeys(routes)), tuple(dict.fromkeys(peers)), tuple(dict.fromkeys(remarks)))


def selector_routes(sa: SaInfo, settings: Settings, found: DeviceRequest, device: str) -> tuple[list[Route], list[str]]:
    """Those for the remote selector, and remarks."""
    if not (sa.routing if sa.routing is not None else settings.routing):
        return [], []
    if found.by_daemon and sa.my_client.split(" ")[0] == sa.peer_client.split(" ")[0] and not settings.routing:
        # pluto asks for routes of every ipsec-interface=; nobody who writes 0.0.0.0/0 twice means his default route
        return [], [f"both ends are {sa.peer_client}: nothing routed into {device}; `routing = yes` in settings does"]
    return [route(sa, settings, found, prefix) for prefix in sa.prefixes], []


def route(sa: SaInfo, settings: Settings, found: DeviceRequest, destination: str, gateway: str = "") -> Route:
    """The route to one prefix."""
    six = family(destination) == 6
    source = sa.source_address
    if_id = sa.if_id_out if found.kind == "xfrm" and settings.external else 0
    return Route(
        destination,
        placed(found.name or "", settings.netns),
        gateway,
        table=settings.table,
        metric=settings.metric or sa.metric or (IPV6_DEFAULT_METRIC if six else 0),
        mtu=sa.mtu or settings.mtu,
        source=source if source and family(source) == family(destination) else "",
        if_id=if_id,
        joins=settings.multipath and not (if_id or gateway),
    )


def plan(want: Route, observed: Observed, gone: tuple[str, ...], claim: str) -> tuple[Operation | None, str | None]:
    """The operation that brings `want` about, or a warning where somebody else's route stands there.

    `gone`: devices that this plan deletes or makes anew, of which a multipath route may lose some.
    """
    have = observed.routes.get(route_key(want))
    if have is None:
        return Operation("route add", want, reason=f"{claim} reaches {want.destination} by it"), None
    if have.protocol != OUR_PROTOCOL:
        if set(want.devices) <= set(have.devices):
            return None, None
        where = f"dev {have.device}" if have.device else "elsewhere"
        return None, f"{want.destination} has a route {where} that is not ours; it stays. Set a metric to have both"
    if is_same(have, want) and not set(have.devices) & set(gone):
        return None, None
    return Operation("route replace", want, have, f"{claim} reaches {want.destination} by it now"), None


def is_same(have: Route, want: Route) -> bool:
    """Whether two routes are the same; the kernel may name the devices of one in another order."""
    return have == want or (
        sorted(have.devices) == sorted(want.devices)
        and have._replace(device="", hops=()) == want._replace(device="", hops=())
    )


def plan_removal(have: Route | None, why: str) -> list[Operation]:
    """Remove a route that no claim wants any more, if it is ours."""
    if have is None or have.protocol != OUR_PROTOCOL:
        return []
    return [Operation("route delete", have, reason=why)]
