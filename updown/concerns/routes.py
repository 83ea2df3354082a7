"""Routes into the tunnel, and which peers they must not swallow (peer_routes.py)."""

from __future__ import annotations

import ipaddress
from operator import attrgetter

from updown.concerns.device_request import DeviceRequest, Routing, Tunnel
from updown.concerns.mtu import route_mtu
from updown.model import values
from updown.model.claims import SaInfo, host_part
from updown.model.concern import Concern, in_row, ip, there, told_as, verb
from updown.model.errors import Notice
from updown.model.objects import HOP_GATEWAY, MAIN_TABLE, OUR_PROTOCOL, Route, bare, family, host, placed
from updown.model.operations import Operation, Reason
from updown.model.record import Any, NamedTuple
from updown.model.resources import Left, PeerRoute, route_key

HALVES = {"0.0.0.0/0": ("0.0.0.0/1", "128.0.0.0/1"), "::/0": ("::/1", "8000::/1")}
"""A default route in two halves, so that the machine's own default route stays as it is."""

IPV6_DEFAULT_METRIC = 1024  # what the kernel makes of 0 (net/ipv6/route.c IP6_RT_PRIO_USER)


class SourceQuery(NamedTuple):
    """Where an address to send from is looked for: within `prefixes`, in the namespace of `place`, in the VRF `vrf` if there is
    one. `on_device`: the device's own that is within, beside others that are not."""

    prefixes: tuple[str, ...]
    place: str
    vrf: str
    on_device: str


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
        if holds_peer and network.prefixlen == network.max_prefixlen and wanted.table == MAIN_TABLE:
            remarks.append(f"{peer} is not routed into {device}, its IKE and ESP would loop: packets to it go outside")
            continue
        if holds_peer and not peer.is_unspecified:
            peers.append(PeerRoute(str(peer), device, sa.underlay or "", sa.me))
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


def source_query(sa: SaInfo, found: DeviceRequest) -> SourceQuery | None:
    """What is to be looked for, so that this machine itself reaches the other side: of what it sends, the tunnel's policy takes
    only what comes from an address within our selector. None where the daemon or the settings name one, or all are within; and
    where the kernel chooses one by itself: of the device, or of a host's that the tunnel begins at, which moves with it."""
    settings = found.settings._replace(netns="", vrf="") if found.by_daemon else found.settings
    routed = (sa.routing if sa.routing is not None else settings.routing) or settings.route
    told = sa.source_address and family(sa.source_address) == sa.inner_family
    if not routed or told or settings.source is not None:
        return None
    prefixes = values.network(sa.my_client.partition(" ")[0]).prefixes
    networks = [ipaddress.ip_network(prefix) for prefix in prefixes]
    there = [host(text) for text in (*sa.interface_addresses, *settings.address) if family(text) == sa.inner_family]
    there = [text for text in there if not ipaddress.ip_address(text).is_link_local]
    inside = [text for text in there if any(ipaddress.ip_address(text) in network for network in networks)]
    chosen = len(inside) == len(there) if there else host_part(sa.my_client, sa.me) is not None
    if chosen or not all(network.prefixlen for network in networks):
        return None
    vrf = placed(settings.vrf, settings.netns) if settings.vrf else ""
    return SourceQuery(prefixes, placed("", settings.netns), vrf, inside[0] if inside else "")


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


def diff(want: Route, by: str, left: Left) -> list[Operation]:
    """The operation that brings `want` about; nothing where somebody else's route stands there."""
    have = left.routes.get(route_key(want))
    if have is None:
        return [Operation("route add", want, reason=Reason("reaches", by, want.destination))]
    if have.protocol != OUR_PROTOCOL:
        return []
    if is_same(have, want):
        before, address = have if have.hops else None, left.doubtful.get(have)
        return [Operation("route replace", want, before, Reason("goes with", by, address))] if address else []
    return [Operation("route replace", want, have, Reason("reaches now", by, want.destination))]


def not_ours(want: Route, left: Left) -> Notice | None:
    """The warning where somebody else's route stands in the place of `want` and leads elsewhere."""
    have = left.routes.get(route_key(want))
    if have is None or have.protocol == OUR_PROTOCOL or set(want.devices) <= set(have.devices):
        return None
    where = f"dev {have.device}" if have.device else "elsewhere"
    text = f"{want.destination} has a route {where} that is not ours; it stays. Set a metric to have both"
    away = f"{ip(want.device)} route del {want.destination} dev {have.device}{metric_words(have)}; vti-updown reconcile"
    return Notice("route not ours", text, mend=away if have.device else "")


def metric_words(route: Route) -> str:
    """What of a route tells it from others to the same prefix, as `ip route del` takes it."""
    table = f" table {route.table}" if route.table != MAIN_TABLE else ""
    return table + (f" metric {route.metric}" if route.metric else "")


def is_same(have: Route, want: Route) -> bool:
    """Whether two routes are the same; the kernel may name the devices of one in another order."""
    alike = have._replace(device="", hops=()) == want._replace(device="", hops=())
    return alike and sorted(have.devices) == sorted(want.devices)


def remove(asked: Route, reason: Reason, left: Left) -> list[Operation]:
    """Remove a route of ours into this device that no claim wants any more."""
    have = left.routes.get(route_key(asked))
    return deleted(have, reason) if have is not None and asked.device in have.devices else []


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
