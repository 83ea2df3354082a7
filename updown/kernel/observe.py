"""What the kernel shows for the resources of one event: point queries, and a dump of our own routes only where those leave a
doubt (promise P9)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from updown.concerns import peer_routes
from updown.concerns.catalogue import BY_RECORD
from updown.kernel.actors import ACTORS
from updown.kernel.netlink.rtnetlink import Netlink, RouteSeen
from updown.model.objects import MAIN_TABLE, OUR_PROTOCOL, TUNNELS, Address, Link, Path, Route, family, netns_of, placed
from updown.model.resources import Device, Observed, PeerRoute, Resource, RouteKey, SourceAddress, device_of, route_key

KERNEL_PROTOCOL = 2  # RTPROT_KERNEL

Names = dict[tuple[str, int], str]
"""Names of devices by namespace and index."""


def observe(netlink: Netlink, wants: Iterable[Resource], disturbed: Sequence[str], anew: bool = False) -> Observed:
    """The kernel's answers for `wants`; `disturbed` devices may be made anew or lose addresses, so more is asked about them.
    `anew`: the way to each peer is looked for as if we had no route to it, since the machine's may have changed."""
    asked = list(dict.fromkeys(wants))
    links = {name: netlink.link(name) for name in dict.fromkeys(device_of(want) for want in asked)}
    asked = [want for want in asked if netlink.reaches(device_of(want))]
    names = {(netns_of(name), link.ifindex): name for name, link in links.items() if link}
    seen: dict[RouteKey, Route | None] = {}
    paths: dict[str, Path | None] = {}
    for want in asked:
        if isinstance(want, (Route, PeerRoute)):
            slot = want if isinstance(want, Route) else peer_routes.peer_route_slot(want.peer)
            seen[route_key(slot)] = route_at(netlink, slot, names)
        elif isinstance(want, SourceAddress):
            paths[want.address] = local_path(netlink.at(want.device), want, links[want.device])
    paths.update(peer_paths(netlink, asked, seen, names, anew))
    paths.update({end: netlink.path(end) for end in disputed_ends(asked, links)})
    others = {name: others_routes(netlink, link, names) for name, link in links.items() if link and name in disturbed}
    things = {
        kind: actor.read(netlink, mine, disturbed)
        for kind, actor in ACTORS.items()
        for mine in [[want for want in asked if BY_RECORD[type(want)].kind == kind]]
        if mine and actor.read
    }
    return Observed(links, addresses(netlink, asked, links), seen, paths, others, things)


def owned(netlink: Netlink, netns: str, links: Sequence[Link]) -> list[Resource]:
    """Everything of ours in a namespace with these links that the kernel shows as ours, but for the links."""
    return [thing for actor in ACTORS.values() if actor.owned for thing in actor.owned(netlink, netns, links)]


def local_path(netlink: Netlink, want: SourceAddress, own: Link | None) -> Path | None:
    """The way to a source address, `local` only where its `own` device has it, or one that is no tunnel's: what another
    tunnel's device has goes with that tunnel, and the routes of all others that prefer it would go along."""
    path = netlink.path(want.address)
    if path is None or not path.local:
        return path
    entry = netlink.match(want.address).route
    holder = netlink.link_at(entry.oif) if entry and not (own and entry.oif == own.ifindex) else None
    return path._replace(local=holder is None or holder.kind not in TUNNELS)


def peer_paths(
    netlink: Netlink, wants: list[Resource], seen: dict[RouteKey, Route | None], names: Names, anew: bool
) -> dict[str, Path | None]:
    """The way to each peer that has no host route yet, or whose tunnel's own end has moved since it was made; or, `anew`, where
    there is another one."""
    found: dict[str, Path | None] = {}
    asked = [want for want in wants if isinstance(want, PeerRoute)]
    for want in asked:
        slot = seen[route_key(peer_routes.peer_route_slot(want.peer))]
        moved = len({other.local for other in asked if other.peer == want.peer}) > 1
        if slot is None or slot.device == want.device:
            path = path_outside(netlink, want)
            # by routes of ours alone, or by a device the daemon named once
            tunnel = path is None or path.device == want.device
            found[want.peer] = path_without_ours(netlink, want, names) if tunnel else path
        elif moved:
            found[want.peer] = path_without_ours(netlink, want, names)
        elif anew and slot.protocol == OUR_PROTOCOL:
            path = path_without_ours(netlink, want, names)
            found.update({want.peer: path} if path is not None else {})
    return found


def path_without_ours(netlink: Netlink, want: PeerRoute, names: Names) -> Path | None:
    """The way to the peer as if its host route and those of its tunnel were not there, nor default routes of ours: the longest
    match of a dump, read only after a move, by reconcile, or where no question has another answer than the tunnel."""
    peer = ipaddress.ip_address(want.peer)
    slot = peer_routes.peer_route_slot(want.peer).destination
    matches = [
        route
        for route in netlink.routes(family(want.peer), MAIN_TABLE)
        if route.oif and peer in ipaddress.ip_network(route.destination)
        if route.protocol != OUR_PROTOCOL
        or (is_narrow(route) and route.destination != slot and names.get(("", route.oif)) != want.device)
    ]
    if not matches:
        return None
    best = max(matches, key=lambda route: (int(route.destination.split("/")[1]), -route.metric))
    return Path(with_names(netlink, best, names, "").device, best.gateway, mtu=best.mtu)


def others_routes(netlink: Netlink, link: Link, names: Names) -> tuple[Route, ...]:
    """IPv4 routes on a device that somebody else put there; the kernel's own come and go with the addresses."""
    return tuple(
        with_names(netlink, route, names, netns_of(link.name))
        for route in netlink.at(link.name).routes(4, 0, oif=link.ifindex)
        if route.protocol not in (OUR_PROTOCOL, KERNEL_PROTOCOL) and route.oif == link.ifindex
    )


def disputed_ends(wants: list[Resource], links: dict[str, Link | None]) -> list[str]:
    """The local ends of devices that are asked for with more than one, or that have another one now."""
    ends: dict[str, list[str]] = {}
    for want in wants:
        if isinstance(want, Device) and want.link.local:
            link = links[want.link.name]
            ends.setdefault(want.link.name, [link.local] if link else []).append(want.link.local)
    return [end for several in ends.values() if len(set(several)) > 1 for end in dict.fromkeys(several) if end]


def addresses(netlink: Netlink, wants: list[Resource], links: dict[str, Link | None]) -> dict[str, tuple[Address, ...]]:
    """The addresses of the devices on which an address is wanted."""
    found: dict[str, tuple[Address, ...]] = {}
    for name in dict.fromkeys(device_of(want) for want in wants if isinstance(want, (Address, SourceAddress))):
        link = links[name]
        found[name] = tuple(Address(name, text) for text in netlink.at(name).addresses(link.ifindex)) if link else ()
    return found


def path_outside(netlink: Netlink, want: PeerRoute) -> Path | None:
    """The way to the peer; where that is this tunnel, or another one's default route (or half of one), the way by the physical
    device the daemon names. A narrower route into another tunnel is where the peer is: one tunnel within another."""
    path = netlink.path(want.peer)
    if path is not None and path.device != want.underlay:
        link = netlink.link(path.device)
        if link is not None and link.kind in TUNNELS:
            match = netlink.match(want.peer).route
            if path.device == want.device or match is None or not is_narrow(match):
                path = netlink.path(want.peer, want.underlay) if want.underlay else None
    link = netlink.link(path.device) if path is not None else None
    if path is None or link is None:
        return path
    seen = netlink.match(want.peer, link.ifindex).route  # of the route itself: a learned MTU would expire
    return path._replace(mtu=seen.mtu) if seen is not None else path


def is_narrow(route: RouteSeen) -> bool:
    """Whether a route is more than a default route, or half of one: somebody means these addresses."""
    return int(route.destination.split("/")[1]) > 1


def route_at(netlink: Netlink, want: Route, names: Names) -> Route | None:
    """The route that stands in `want`'s place (destination, table and metric), whoever made it.

    A lookup tells the best match for one address. As long as the prefix or longer and in the main table, it leaves a doubt
    only if it is another route; then our table is dumped once, filtered by the kernel."""
    netns = netns_of(want.device)
    there = netlink.at(want.device)
    if want.table == MAIN_TABLE:
        first = want.destination.split("/")[0]
        match = there.match({"0.0.0.0": "0.0.0.1", "::": "::2"}.get(first, first))  # no address: answered by lo's route
        best = match.route
        if match.answered and match.table in (0, MAIN_TABLE):
            if best is None or int(best.destination.split("/")[1]) < int(want.destination.split("/")[1]):
                return None
            if (best.destination, best.metric) == (want.destination, want.metric):
                return with_names(netlink, best, names, netns)
    for route in there.routes(family(want.destination), want.table):
        if (route.destination, route.metric) == (want.destination, want.metric):
            return with_names(netlink, route, names, netns)
    return None


def with_names(netlink: Netlink, seen: RouteSeen, names: Names, netns: str) -> Route:
    """`seen` in the namespace `netns`, with its device's name."""
    devices: list[str] = []
    for index in seen.hops or (seen.oif,):
        where = (netns, index)
        if index and where not in names:
            link = netlink.at(placed("", netns)).link_at(index)
            names[where] = placed(link.name, netns) if link else ""
        devices.append(names.get(where, ""))
    first, *hops = devices
    route = Route(seen.destination, first, seen.gateway, seen.table, seen.metric, seen.mtu, seen.source, seen.protocol)
    return route._replace(if_id=seen.if_id, hops=tuple(hops))
