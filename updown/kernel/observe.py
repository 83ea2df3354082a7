"""What the kernel shows for the resources of one event: point queries, and a dump of our own routes only where those leave a
doubt (promise P9)."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Sequence

from updown.concerns import peer_routes, routes
from updown.concerns.catalogue import BY_RECORD
from updown.kernel.actors import ACTORS
from updown.kernel.netlink.route_messages import UNICAST
from updown.kernel.netlink.rtnetlink import Netlink, RouteSeen
from updown.model.objects import (
    KERNEL_PROTOCOL,
    MAIN_TABLE,
    OUR_PROTOCOL,
    TUNNELS,
    Address,
    Link,
    Path,
    Route,
    family,
    netns_of,
    placed,
)
from updown.model.resources import Device, Observed, PeerRoute, Resource, RouteKey, SourceAddress, device_of, route_key

LOCAL_TABLE = 255

Names = dict[tuple[str, int], str]
"""Names of devices by namespace and index."""


def observe(netlink: Netlink, wants: Iterable[Resource], disturbed: Sequence[str], held: Collection[Resource] = ()) -> Observed:
    """The kernel's answers for `wants`; `disturbed` devices may be made anew or lose addresses, so more is asked about them.
    `held`: what somebody asks for now; the ways to peers among it are looked for as if our routes there were not, since the
    machine's own may have changed."""
    asked = list(dict.fromkeys(wants))
    links = {name: netlink.link(name) for name in dict.fromkeys(device_of(want) for want in asked)}
    asked = [want for want in asked if netlink.reaches(device_of(want))]
    names = {(netns_of(name), link.ifindex): name for name, link in links.items() if link}
    seen: dict[RouteKey, Route | None] = {}
    ahead: dict[RouteKey, Route] = {}
    paths: dict[str, Path | None] = {}
    for want in asked:
        if isinstance(want, (Route, PeerRoute)):
            slot = want if isinstance(want, Route) else peer_routes.slot_of(want)
            there = routes_at(netlink, slot, names)
            places = (slot, *routes.in_front(slot)) if isinstance(want, Route) else (slot,)
            seen.update({key: next((one for one in there if route_key(one) == key), None) for key in map(route_key, places)})
            rival = routes.first_of_others(slot, there) if isinstance(want, Route) else None
            ahead.update({route_key(slot): rival} if rival else {})
        elif isinstance(want, SourceAddress):
            paths[want.address] = local_path(netlink.at(want.device), want, links[want.device])
    paths.update(source_paths(netlink, asked, links, paths))
    paths.update(peer_paths(netlink, asked, seen, names, held))
    paths.update({end: netlink.path(end) for end in disputed_ends(asked, links)})
    others = {name: others_routes(netlink, link, names) for name, link in links.items() if link and name in disturbed}
    things = {
        kind: actor.read(netlink, mine, disturbed)
        for kind, actor in ACTORS.items()
        for mine in [[want for want in asked if BY_RECORD[type(want)].kind == kind]]
        if mine and actor.read
    }
    underlays = dict.fromkeys(want.link.underlay for want in asked if isinstance(want, Device) and want.link.underlay)
    below = {underlay: parent(netlink, underlay) for underlay in underlays}
    return Observed(links, addresses(netlink, asked, links), seen, paths, others, things, parents=below, ahead=ahead)


def parent(netlink: Netlink, underlay: str) -> Link | None:
    """The device that is to be below an XFRM interface; by a way that leads nowhere, or into a tunnel, lo: pluto 5.2 asks for
    any at all (IFLA_XFRM_LINK)."""
    if not underlay.startswith("to "):
        return netlink.link(underlay)
    address = underlay[len("to ") :]
    path = netlink.path({"0.0.0.0": "192.0.2.1", "::": "2001:db8::1"}.get(address, address))  # of no peer: by default
    link = netlink.link(path.device) if path is not None and path.device else None
    return link if link is not None and link.kind not in TUNNELS else netlink.link("lo")


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


def source_paths(
    netlink: Netlink, wants: list[Resource], links: dict[str, Link | None], known: dict[str, Path | None]
) -> dict[str, Path | None]:
    """Whether routes' sources are this machine's, beside those that are `known`; those of a VRF are looked for elsewhere."""
    vrfs = {want.link.name for want in wants if isinstance(want, Device) and want.link.vrf}
    vrfs.update(name for name, link in links.items() if link and link.vrf)
    routes = [want for want in wants if isinstance(want, Route) and want.source and want.device not in vrfs]
    asked = {route.source: route.device for route in routes if route.source not in known}
    return {source: netlink.at(device).path(source) for source, device in asked.items()}


def peer_paths(
    netlink: Netlink, wants: list[Resource], seen: dict[RouteKey, Route | None], names: Names, held: Collection[Resource]
) -> dict[str, Path | None]:
    """The way to each peer that has no host route; where it has one of ours that is still asked for, the way there is now."""
    found: dict[str, Path | None] = {}
    asked = [want for want in wants if isinstance(want, PeerRoute)]
    for peer in dict.fromkeys(want.peer for want in asked):
        mates = [want for want in asked if want.peer == peer]
        own = frozenset(want.device for want in mates)  # none of these is a way for any of them
        slots = {want: seen[route_key(peer_routes.slot_of(want))] for want in mates}  # in two tables perhaps
        first = min(mates, key=lambda want: (slots[want] is not None, want not in held))
        slot = slots[first]
        if slot is None or slot.device in own:
            path = path_outside(netlink, first, own)
            # by routes of ours alone, or by a device the daemon named once
            tunnel = path is None or path.device in own
            found[peer] = path_without_ours(netlink, peer, own, names) if tunnel else path
        elif slot.protocol == OUR_PROTOCOL and first in held:
            moved = any(want.local != first.local for want in mates)
            path = path_beside(netlink, first, own, names, slot, moved)
            found.update({peer: path} if moved or path is not None else {})
    return found


def path_beside(netlink: Netlink, want: PeerRoute, own: frozenset[str], names: Names, slot: Route, moved: bool) -> Path | None:
    """The way to a peer as if our host route in `slot` were not there; None where there is no other, or where that is one of
    several at once. `moved`: the tunnel's own end was elsewhere when it was made.

    The address that differs from the peer's in the last bit is in every prefix that holds the peer, but for the host's own: so
    the kernel tells by it what stands behind our route, by its rules and in whatever table. Where that is a tunnel's, the
    uplinks are asked, whose ways may be in tables of their own; then the main table is read, unless nothing could stand before
    the way by our uplink: a default route of metric 0 below half of one."""
    peer = ipaddress.ip_address(want.peer)
    beside = str(type(peer)(int(peer) ^ 1))
    first = netlink.match(beside).route
    if first is not None and not is_host(first) and leads_outside(netlink, first, own, names):
        return as_path(netlink, first, names, slot)
    for name in dict.fromkeys((want.underlay,) if moved else (slot.device, want.underlay)):
        link = netlink.link(name) if name and name not in own else None
        seen = netlink.match(beside, link.ifindex).route if link is not None else None
        if seen is None or is_host(seen) or not leads_outside(netlink, seen, own, names):
            continue
        best = name == slot.device and not seen.metric and first is not None and not is_narrow(first)
        if best or seen.table not in (0, MAIN_TABLE):
            return as_path(netlink, seen, names, slot)
    return path_without_ours(netlink, want.peer, own, names, slot)


def path_without_ours(netlink: Netlink, peer: str, own: frozenset[str], names: Names, slot: Route | None = None) -> Path | None:
    """The way to the peer as if its host route and those of its tunnels, on the devices `own`, were not there, nor default
    routes into tunnels: the longest match of a dump, read where no question has another answer than the tunnel."""
    address = ipaddress.ip_address(peer)
    host_route = f"{peer}/{address.max_prefixlen}"
    matches = [
        route
        for route in netlink.routes(family(peer), MAIN_TABLE)
        if address in ipaddress.ip_network(route.destination)
        if (route.protocol != OUR_PROTOCOL or route.destination != host_route) and leads_outside(netlink, route, own, names)
    ]
    if not matches:
        return None
    best = max(matches, key=lambda route: (int(route.destination.split("/")[1]), -route.metric))
    return as_path(netlink, best, names, slot)


def leads_outside(netlink: Netlink, seen: RouteSeen, own: frozenset[str], names: Names) -> bool:
    """Whether a route leads anywhere but into a tunnel of `own`, or by default into another one."""
    if seen.type != UNICAST or own & set(with_names(netlink, seen, names, "").devices):
        return False
    link = None if is_narrow(seen) else netlink.link_at(seen.oif or seen.hops[0])
    return link is None or link.kind not in TUNNELS


def as_path(netlink: Netlink, seen: RouteSeen, names: Names, slot: Route | None) -> Path | None:
    """The path by a route; of several hops the first, or none where our host route in `slot` goes by one of them."""
    route = with_names(netlink, seen, names, "")
    stays = slot is not None and len(route.devices) > 1 and slot.device in route.devices
    return None if stays else Path(route.device, route.gateway, mtu=route.mtu)


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


def path_outside(netlink: Netlink, want: PeerRoute, own: frozenset[str]) -> Path | None:
    """The way to the peer; where that is a tunnel to it, or another one's default route (or half of one), the way by the
    physical device the daemon names. A narrower route into another tunnel is where the peer is: one tunnel within another."""
    path = netlink.path(want.peer)
    if path is not None and path.device != want.underlay:
        link = netlink.link(path.device)
        if link is not None and link.kind in TUNNELS:
            match = netlink.match(want.peer).route
            if path.device in own or match is None or not is_narrow(match):
                path = netlink.path(want.peer, want.underlay) if want.underlay else None
    link = netlink.link(path.device) if path is not None else None
    if path is None or link is None:
        return path
    seen = netlink.match(want.peer, link.ifindex).route  # of the route itself: a learned MTU would expire
    return path._replace(mtu=seen.mtu) if seen is not None else path


def is_narrow(route: RouteSeen) -> bool:
    """Whether a route is more than a default route, or half of one: somebody means these addresses."""
    return int(route.destination.split("/")[1]) > 1


def is_host(route: RouteSeen) -> bool:
    """Whether a route is for one address alone."""
    return int(route.destination.split("/")[1]) == (128 if ":" in route.destination else 32)


def routes_at(netlink: Netlink, want: Route, names: Names) -> list[Route]:
    """What stands in the place of `want` (destination, table and metric) or of its halves, whoever made it, what else leads to
    the same prefix in its table, and first what a policy rule leads there by another table.

    A lookup tells the best match for one address. As long as the prefix or longer and in the main table, it leaves a doubt
    only if it is another route, or somebody else's; then our table is dumped once, filtered by the kernel."""
    netns = netns_of(want.device)
    there = netlink.at(want.device)
    found: list[Route] = []
    if want.table == MAIN_TABLE:
        first = want.destination.split("/")[0]
        match = there.match({"0.0.0.0": "0.0.0.1", "::": "::2"}.get(first, first))  # no address: answered by lo's route
        best = match.route
        if match.answered and match.table in (0, MAIN_TABLE):
            if best is None or int(best.destination.split("/")[1]) < int(want.destination.split("/")[1]):
                return []
            if (best.destination, best.metric) == (want.destination, want.metric):
                route = with_names(netlink, best, names, netns)
                if route.protocol == OUR_PROTOCOL or want.device in route.devices:
                    return [route]
        elif best and match.table != LOCAL_TABLE:
            found.append(with_names(netlink, best, names, netns))
    prefixes = {one.destination for one in (want, *routes.in_front(want))}
    dumped = there.routes(family(want.destination), want.table)
    return found + [with_names(netlink, route, names, netns) for route in dumped if route.destination in prefixes]


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
