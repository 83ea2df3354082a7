"""Routes into the tunnel, and which peers they must not swallow (peer_routes.py)."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from operator import attrgetter

from updown.concerns.device_request import Routing, Tunnel
from updown.concerns.mtu import route_mtu
from updown.model import values
from updown.model.claims import host_part
from updown.model.concern import Concern, in_row, ip, there, told_as, verb
from updown.model.errors import Notice
from updown.model.objects import HOP_GATEWAY, KERNEL_PROTOCOL, MAIN_TABLE, OUR_PROTOCOL, Route, bare, family
from updown.model.operations import Operation, Reason
from updown.model.record import Any
from updown.model.resources import Left, PeerRoute, route_key

HALVES = {"0.0.0.0/0": ("0.0.0.0/1", "128.0.0.0/1"), "::/0": ("::/1", "8000::/1")}
"""A default route in two halves, so that the machine's own default route stays as it is."""

PAST_TABLE = 50
"""libreswan's own for what it sends to a peer whose address is routed into its interface (_updown.xfrm)."""

IPV6_DEFAULT_METRIC = 1024  # what the kernel makes of 0 (net/ipv6/route.c IP6_RT_PRIO_USER)

HALVES_METRIC = 160_000
"""Is added to a route's metric for its halves: no claim's own, so that neither stands in the other's place."""

HOST_METRIC = 163
"""Of a route to one address of IPv6 that goes before another."""


def routing_of(tunnel: Tunnel) -> Routing:
    """One route for each prefix of the remote selector, if routing is asked for; and those of the settings.

    The way to the peer matters where the tunnel's own packets look into the same tables: not from a namespace or a VRF."""
    sa, settings, device = tunnel.sa, tunnel.settings, tunnel.device
    static = [route(tunnel, asked.destination, asked.gateway, asked.source) for asked in settings.route]
    asked_for, said = selector_routes(tunnel)
    remarks: list[str] = []
    peer = ipaddress.ip_address(sa.peer)
    routes: list[Route] = []
    peers: list[PeerRoute] = []
    for wanted in asked_for + static:
        network = ipaddress.ip_network(wanted.destination)
        holds_peer = network.version == peer.version and peer in network and not (settings.netns or settings.vrf)
        alone = holds_peer and network.prefixlen == network.max_prefixlen and wanted.table == MAIN_TABLE
        if alone and not (tunnel.request.by_daemon and sa.fwmask):
            remarks.append(f"{peer} is not routed into {device}, its IKE and ESP would loop: packets to it go outside")
            continue
        if holds_peer and not peer.is_unspecified:
            table = PAST_TABLE if alone else MAIN_TABLE  # pluto's own packets pass by the table for their mark
            peers.append(PeerRoute(str(peer), device, sa.underlay or "", sa.me, table))
        routes += [wanted._replace(destination=half) for half in HALVES.get(wanted.destination, (wanted.destination,))]
    warnings = tuple(text for text in said if isinstance(text, Notice))
    remarks = [text for text in said if not isinstance(text, Notice)] + remarks
    return Routing(tuple(dict.fromkeys(routes)), tuple(dict.fromkeys(peers)), tuple(dict.fromkeys(remarks)), warnings)


def selector_routes(tunnel: Tunnel) -> tuple[list[Route], list[str]]:
    """Those for the remote selector; and what is to be said, as remarks and warnings (Notice)."""
    sa, settings = tunnel.sa, tunnel.settings
    if not (sa.routing if sa.routing is not None else settings.routing):
        return [], []
    mine, theirs = sa.my_client.partition(" "), sa.peer_client.partition(" ")
    if tunnel.request.by_daemon and mine[0] == theirs[0] and not settings.routing:
        # pluto asks for routes of every ipsec-interface=; nobody who writes 0.0.0.0/0 twice means his default route
        said = f"both ends are {sa.peer_client}: nothing routed into {tunnel.device}; `routing = yes` in settings does"
        return [], [said]
    prefixes = values.network(theirs[0]).prefixes
    if not (mine[2] or theirs[2]):
        return [route(tunnel, prefix) for prefix in prefixes], []
    return narrow_routes(tunnel, prefixes)


def source_of(tunnel: Tunnel, six: bool) -> str:
    """What routes of a family prefer as source: by the settings, else the daemon's word, else this machine's own address."""
    sa, settings = tunnel.sa, tunnel.settings
    own = sa.local_source if settings.source is None else ""
    each = (*(settings.source or ()), sa.source_address or "", own)
    return next((address for address in each if address and (":" in address) == six), "")


def narrow_routes(tunnel: Tunnel, prefixes: tuple[str, ...]) -> tuple[list[Route], list[str]]:
    """Those for a selector of one protocol or port, which a route is too wide for: charon makes none for such a policy, pluto's
    own script does. A default route is not made for one in any case."""
    sa, device = tunnel.sa, tunnel.device
    policy = f"the policy takes {sa.my_client} to {sa.peer_client} alone"
    kept = tuple(prefix for prefix in prefixes if sa.routing and not is_default(prefix))
    told: list[str] = []
    if kept and host_part(sa.peer_client, sa.peer) is None:  # the peer's own address is not routed
        less = ". vti-routing=no makes no route" if sa.interface else ""
        text = f"{policy}: all else that is routed into {device} for {', '.join(kept[:3])} goes nowhere{less}"
        told.append(Notice("wider than its policy", text))
    asked = {one.destination for one in tunnel.settings.route}
    left = [prefix for prefix in prefixes if prefix not in kept and not asked & {prefix, *HALVES.get(prefix, ())}]
    if left:
        wide = any(is_default(prefix) for prefix in left)
        how = "name networks by `route` in settings" if wide else f"`route = {', '.join(left)}` in settings routes all of it"
        told.append(f"{policy}: nothing routed into {device}; {how}")
    return [route(tunnel, prefix) for prefix in kept], told


def is_default(prefix: str) -> bool:
    """Whether a prefix is the default route, or a half of it."""
    return int(prefix.rpartition("/")[2]) <= 1


def route(tunnel: Tunnel, destination: str, gateway: str = "", source: str = "") -> Route:
    """The route to one prefix; without a `source` of its own with the tunnel's."""
    sa, settings = tunnel.sa, tunnel.settings
    six = family(destination) == 6
    if_id = sa.if_id_out if tunnel.request.kind == "xfrm" and settings.external else 0
    return Route(
        destination,
        tunnel.device,
        gateway,
        table=settings.table,
        metric=settings.metric or sa.metric or (IPV6_DEFAULT_METRIC if six else 0),
        mtu=sa.mtu or route_mtu(sa, settings),
        source=source if source and family(source) == family(destination) else source_of(tunnel, six),
        if_id=if_id,
        joins=settings.multipath and not (if_id or gateway),
    )


def key(route: Route) -> str:
    """Table, prefix, metric and namespace: what makes two routes one."""
    table = "main" if route.table == MAIN_TABLE else str(route.table)
    return f"{table} {route.destination} {route.metric}{there(route.device)}"


def place(route: Route, wider_by: int = 0) -> str:
    """Where a route's prefix is among those of its table and namespace: they sort by first address, then by length. `wider_by`:
    that of the prefix around it that is so many bits shorter."""
    network = ipaddress.ip_network(route.destination)
    bits, length = network.max_prefixlen, network.prefixlen - wider_by
    first = int(network.network_address) >> (bits - length) << (bits - length)
    return f"{route.table}{there(route.device)} {network.version} {first:0{bits // 4}x}/{length:03}"


def places_over(route: Route) -> list[str]:
    """Where its own prefix is, and each that covers it; at most 33 of IPv4 and 129 of IPv6."""
    return [place(route, bits) for bits in range(int(route.destination.split("/")[1]) + 1)]


def places_within(route: Route) -> tuple[str, str]:
    """Between which places its own prefix is, and all that it covers."""
    network = ipaddress.ip_network(route.destination)
    last = route._replace(destination=f"{network.broadcast_address}/{network.max_prefixlen}")
    return place(route), place(last)


@lru_cache(maxsize=64)
def in_front(want: Route) -> tuple[Route, ...]:
    """What leads the packets of `want` into the tunnel before somebody else's route to its prefix, whatever metric that has:
    its halves, at a metric that no claim asks for; for one address of IPv6 another metric. None for a default route's halves
    (the way to a peer is not looked for past smaller parts), nor for one address of IPv4: see `is_host`."""
    network = ipaddress.ip_network(want.destination)
    if network.prefixlen == network.max_prefixlen:
        return (want._replace(metric=HOST_METRIC),) if network.version == 6 and want.metric == IPV6_DEFAULT_METRIC else ()
    if network.prefixlen < 2:
        return ()
    metric = min(want.metric + HALVES_METRIC, 0xFFFFFFFF)
    first, size = network.network_address, network.num_addresses // 2
    return tuple(want._replace(destination=f"{at}/{network.prefixlen + 1}", metric=metric) for at in (first, first + size))


def stands_for(have: Route) -> Route | None:
    """The wanted route that one of ours stands in front for, if it does."""
    network = ipaddress.ip_network(have.destination)
    if have.metric >= HALVES_METRIC and network.prefixlen:
        return have._replace(destination=str(network.supernet()), metric=have.metric - HALVES_METRIC)
    host = network.prefixlen == 128 and have.metric == HOST_METRIC
    return have._replace(metric=IPV6_DEFAULT_METRIC) if host else None


def is_host(route: Route) -> bool:
    """Whether a route is to one address of IPv4, at no metric: of these the kernel keeps several, and takes the first."""
    return route.destination.endswith("/32") and ":" not in route.destination and not route.metric


def first_of_others(want: Route, there: list[Route]) -> Route | None:
    """Of routes to the prefix of `want`, and by other tables, somebody else's that packets take before ours."""
    ours = set(want.devices)
    others = [one for one in there if one.protocol != OUR_PROTOCOL and not ours <= set(one.devices)]
    ruled = [one for one in others if one.table != want.table]
    same = [one for one in others if one.destination == want.destination and one.metric <= want.metric]
    return next(iter(ruled), None) or min(same, key=lambda one: one.metric, default=None)


def rival_of(want: Route, left: Left) -> Route | None:
    """The route that is not ours and takes the packets of `want` elsewhere, if there is one."""
    slot = route_key(want)
    have = left.ahead.get(slot) or left.routes.get(slot)
    theirs = have is not None and have.protocol != OUR_PROTOCOL and not set(want.devices) <= set(have.devices)
    return have if theirs else None


def is_chosen(want: Route) -> bool:
    """Whether somebody chose its metric."""
    return want.metric not in (0, IPV6_DEFAULT_METRIC if family(want.destination) == 6 else 0)


def is_passed(want: Route, rival: Route) -> bool:
    """Whether ours can go before it, and should. A metric that somebody chose orders the two, but for one of 0, before which no
    metric is; a device's own network stays its own, and what a rule leads elsewhere never comes to our table."""
    elsewhere = (rival.table, rival.destination) != (want.table, want.destination)
    if elsewhere or rival.protocol == KERNEL_PROTOCOL or (is_chosen(want) and rival.metric):
        return False
    front = in_front(want)
    return all(one.destination != want.destination or one.metric < rival.metric for one in front) if front else is_host(want)


def diff(want: Route, by: str, left: Left) -> list[Operation]:
    """The operations that bring `want` about, and what has to go before somebody else's route; that stays as it is."""
    rival = rival_of(want, left)
    passes = rival is not None and is_passed(want, rival)
    found = diff_one(want, by, left, passes)
    for one in in_front(want):
        found += diff_one(one, by, left) if passes else deleted(left.routes.get(route_key(one)), Reason("not needed", by))
    return found


def diff_one(want: Route, by: str, left: Left, passes: bool = False) -> list[Operation]:
    """The operation that brings one route about; nothing where somebody else's stands in its place and is not passed."""
    have = left.routes.get(route_key(want))
    if have is None:
        return [Operation("route add", want, reason=Reason("reaches", by, want.destination))]
    if have.protocol != OUR_PROTOCOL:
        front = passes and is_host(want)
        return [Operation("route front", want, reason=Reason("reaches", by, want.destination))] if front else []
    if is_same(have, want):
        address = left.doubtful.get(have)
        return [restored(want, have, Reason("goes with", by, address))] if address else []
    return [Operation("route replace", want, have, Reason("reaches now", by, want.destination))]


def restored(want: Route, have: Route, reason: Reason) -> Operation:
    """The operation that puts back what may be lost. Of a route to one address another one may be behind ours, so that it is
    put before what is there."""
    if is_host(want) and not have.hops:
        return Operation("route front", want, reason=reason)
    return Operation("route replace", want, have if have.hops else None, reason)


def is_same(have: Route, want: Route) -> bool:
    """Whether two routes are the same; the kernel may name the devices of one in another order."""
    alike = have._replace(device="", hops=()) == want._replace(device="", hops=())
    return alike and sorted(have.devices) == sorted(want.devices)


def remove(asked: Route, reason: Reason, left: Left) -> list[Operation]:
    """Remove a route of ours into this device that no claim wants any more, and what stands in front for it."""
    each = [left.routes.get(route_key(one)) for one in (asked, *in_front(asked))]
    return [one for have in each if have is not None and asked.device in have.devices for one in deleted(have, reason)]


def deleted(have: Route | None, reason: Reason, kind: str = "") -> list[Operation]:
    """The deletion of a route, if it is ours."""
    ours = have is not None and have.protocol == OUR_PROTOCOL
    return [Operation("route delete", have, reason=reason, kind=kind)] if ours else []


def command(operation: Operation) -> str:
    """`ip route add|del|replace|prepend`; attributes that are the default are left out."""
    route: Route = operation.subject
    several = route.hops and operation.verb != "delete"
    six = ":" in route.destination
    via = f"via {HOP_GATEWAY} " if six else ""
    return in_row(
        (f"{ip(route.device)} route {verb(operation)} {route.destination}", True),
        (f"encap xfrm if_id {route.if_id}", route.if_id),
        (f"via {route.gateway}", route.gateway),
        (f"dev {bare(route.device)}", not several),
        (f"table {route.table}", route.table != MAIN_TABLE),
        (f"proto {route.protocol}", True),
        (f"metric {route.metric}", route.metric and not (six and route.metric == IPV6_DEFAULT_METRIC)),
        (f"mtu {route.mtu}", route.mtu),
        (f"src {route.source}", route.source),
        *((f"nexthop {via}dev {bare(name)}", several) for name in route.devices),
    )


told = told_as(lambda route: f"route {route.destination}")


def load(fields: list[Any]) -> Route:
    """From what JSON made of it."""
    route = Route(*fields)
    return route._replace(hops=tuple(route.hops))


CONCERN = Concern(
    "route", Route, key, attrgetter("routing.routes"), diff=diff, remove=remove, command=command, told=told, load=load
)
