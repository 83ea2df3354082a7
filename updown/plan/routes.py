"""The routes of the plan: who of several claims has one, and which have to wait. Pure."""

from __future__ import annotations

from updown.concerns import peer_routes, routes
from updown.model.claims import SA, Holder, same_hosts
from updown.model.objects import OUR_PROTOCOL, Route, host
from updown.model.operations import Operation
from updown.model.resources import Observed, PeerRoute, Want, device_of, route_key, split
from updown.plan.order import Devices, Draft, Ground, first


def moved(want: PeerRoute, ground: Ground, observed: Observed) -> bool:
    """Whether the tunnel's own end was another one before this event, or the machine may have another way to the peer."""
    before = ground.ended.get(f"peer {want.peer}", [])
    elsewhere = any(isinstance(old.want, PeerRoute) and old.want.local != want.local for old in before)
    return elsewhere or (ground.anew and observed.paths.get(want.peer) is not None)


def lost_peers(ground: Ground, observed: Observed) -> frozenset[str]:
    """The peers to whom there is no way but their own tunnel."""
    asked = [first(holders) for name, holders in ground.holders.items() if split(name)[0] == "peer"]
    wants = [holder.want for holder in asked if holder is not None]
    return frozenset(
        want.peer
        for want in wants
        if isinstance(want, PeerRoute) and peer_routes.is_lost(want, observed, moved(want, ground, observed))
    )


def is_looping(holder: Holder, draft: Draft) -> bool:
    """Whether a claim's route would lead its own tunnel's packets into the tunnel."""
    return isinstance(holder.want, Route) and peer_routes.loops(holder.want, holder.claim.wants, draft.lost)


def plan_peer(holder: Holder, ground: Ground, observed: Observed, draft: Draft) -> None:
    """The host route to a peer; a warning where there is no way for it."""
    want = holder.want
    assert isinstance(want, PeerRoute)
    if want.peer in draft.lost:
        waiting = any(is_looping(Holder(holder.claim, one), draft) for one in holder.claim.wants)
        draft.warnings.append(peer_routes.no_way(want, waiting))
        return
    operation = peer_routes.plan(want, observed, moved(want, ground, observed), holder.claim.connection)
    draft.phases["peer"] += [operation] if operation else []


def plan_route(holders: list[Holder], ground: Ground, observed: Observed, devices: Devices, draft: Draft) -> None:
    """Decide over one route: the first claim has it whose device can take it."""
    shut = devices.down | ground.signals.silent
    open_to = [one for one in holders if device_of(one.want) not in shut and not is_looping(one, draft)]
    if not open_to:
        draft.phases["unroute"] += withdrawn(holders, ground, observed, draft)
        newest = next((one for one in holders if one.claim.key == ground.newest and one.claim.kind == SA), None)
        if newest and device_of(newest.want) in ground.signals.silent:
            draft.warnings.append(f"the far end of {device_of(newest.want)} does not answer: nothing is routed into it")
        return
    holder = open_to[0]
    assert isinstance(holder.want, Route)
    want = joined(open_to)
    operation, warning = routes.plan(want, observed, devices.gone, holder.claim.connection)
    if operation and isinstance(operation.before, Route) and set(operation.before.devices) & set(devices.gone):
        parted(operation, devices.gone, draft)
    else:
        draft.phases["route"] += [operation] if operation else []
    draft.warnings += [warning] if warning else []
    if not any(one.claim.key == ground.newest and leads(one.want, want) for one in open_to):
        warn_waiting(open_to, ground.newest, draft)


def leads(asked: Want, route: Route) -> bool:
    """Whether a route goes where a claim asks for it: by an external interface each tunnel has an if_id of its own."""
    return isinstance(asked, Route) and asked.device in route.devices and asked.if_id == route.if_id


def joined(holders: list[Holder]) -> Route:
    """The route of the first, or into the devices of all that share it with the first."""
    want = holders[0].want
    assert isinstance(want, Route)
    each: dict[str, Route] = {}
    for one in holders:
        if isinstance(one.want, Route):
            each.setdefault(one.want.device, one.want)
    mates = [other for other in each.values() if other.joins] if want.joins else [want]
    names = sorted(other.device for other in mates)
    least = min((other.mtu for other in mates if other.mtu), default=0)
    return want._replace(device=names[0], hops=tuple(names[1:]), mtu=least, joins=False)


def parted(operation: Operation, gone: tuple[str, ...], draft: Draft) -> None:
    """Change a multipath route before one of its devices is deleted: with that the kernel takes all of an IPv4 route, and of an
    IPv6 route the one hop (net/ipv4/fib_semantics.c fib_sync_down_dev, net/ipv6/route.c fib6_ifdown)."""
    have, want = operation.before, operation.subject
    assert isinstance(have, Route) and isinstance(want, Route)
    if set(want.devices) <= set(have.devices) - set(gone):
        draft.phases["unroute"].append(operation)
        return
    draft.phases["unroute"].append(Operation("route delete", have, reason=operation.reason))
    draft.phases["route"].append(operation._replace(action="route add", before=None))


def hand_over(observed: Observed, devices: Devices, draft: Draft) -> None:
    """Put a route to a device that is ready for it beside the old one before whose device is deleted, and takes it along: the
    kernel takes milliseconds for that, since it waits for every processor."""
    waiting = draft.phases["route"]
    ready = [] if draft.phases["peer"] else [one for one in waiting if is_ready(one, observed, devices)]
    draft.phases["hand over"] = [one._replace(action="route prepend") for one in ready]
    draft.phases["route"] = [one for one in waiting if one not in ready]


def is_ready(operation: Operation, observed: Observed, devices: Devices) -> bool:
    """Whether a route that is to be added stands now, as ours and on one device that goes, and could lead elsewhere at once.
    Two of IPv6 with gateways would become one by both devices (rt6_qualify_for_ecmp)."""
    want = operation.subject
    if not isinstance(want, Route) or operation.action != "route add" or (want.gateway and ":" in want.destination):
        return False
    have, link = observed.routes.get(route_key(want)), observed.links.get(want.device)
    if have is None or have.protocol != OUR_PROTOCOL or have.hops or want.hops or link is None or not link.up:
        return False
    own = {host(one.address) for one in observed.addresses.get(want.device, ())}
    untouched = want.device not in {*devices.gone, *devices.fresh, *devices.unusable, *devices.down}
    return untouched and (not want.source or want.source in own)


def withdrawn(holders: list[Holder], ground: Ground, observed: Observed, draft: Draft) -> list[Operation]:
    """A route that leads to a silent far end, or a tunnel's own packets into it, goes; those of a device that is set down go
    with that."""
    want = holders[0].want
    assert isinstance(want, Route)
    have = observed.routes.get(route_key(want))
    if have is None:
        return []
    if set(have.devices) & ground.signals.silent:
        return routes.plan_removal(have, f"the far end of {have.device} does not answer")
    ours = [one for one in holders if one.want == have or (have.hops and device_of(one.want) in have.devices)]
    if any(is_looping(one, draft) for one in ours):
        return routes.plan_removal(have, f"no way to the peer outside {have.device}")
    return []


def warn_waiting(holders: list[Holder], newest: str, draft: Draft) -> None:
    """Tell the claim of this event where another holds its route, on another device."""
    holder, ours = first(holders), first(holders, newest)
    if holder is None or ours is None or ours.claim.key != newest or not isinstance(ours.want, Route):
        return
    if same_hosts(holder.claim, ours.claim) and holder.claim.tunnel == ours.claim.tunnel:
        return  # its predecessor, soon to go (strongSwan's make-before-break)
    theirs = holder.want
    if isinstance(theirs, Route) and not leads(ours.want, theirs):
        by = f", if_id {theirs.if_id}" if theirs.if_id and theirs.device == ours.want.device else ""
        draft.warnings.append(
            f"{ours.want.destination} is held by {holder.claim.connection} on {theirs.device}{by};"
            " ours waits. A metric orders the two"
        )
