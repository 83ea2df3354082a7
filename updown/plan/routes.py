"""The routes of the plan: who of several claims has one, and which have to wait. Pure."""

from __future__ import annotations

from updown.concerns import peer_routes, routes
from updown.model.claims import SA, Holder, same_hosts
from updown.model.objects import OUR_PROTOCOL, Route, host
from updown.model.operations import Operation
from updown.model.resources import Observed, PeerRoute, Resource, device_of, route_key, split
from updown.plan.order import DeviceFates, PlanBuilder, PlanInput, first_holder


def peer_moved(want: PeerRoute, ground: PlanInput, observed: Observed) -> bool:
    """Whether the tunnel's own end was another one before this event, or the machine may have another way to the peer."""
    before = ground.ended.get(f"peer {want.peer}", [])
    elsewhere = any(isinstance(old.resource, PeerRoute) and old.resource.local != want.local for old in before)
    return elsewhere or (ground.anew and observed.paths.get(want.peer) is not None)


def lost_peers(ground: PlanInput, observed: Observed) -> frozenset[str]:
    """The peers to whom there is no way but their own tunnel."""
    asked = [first_holder(holders) for name, holders in ground.holders.items() if split(name)[0] == "peer"]
    wants = [holder.resource for holder in asked if holder is not None]
    return frozenset(
        want.peer
        for want in wants
        if isinstance(want, PeerRoute) and peer_routes.is_lost(want, observed, peer_moved(want, ground, observed))
    )


def is_looping(holder: Holder, draft: PlanBuilder) -> bool:
    """Whether a claim's route would lead its own tunnel's packets into the tunnel."""
    return isinstance(holder.resource, Route) and peer_routes.loops(holder.resource, holder.claim.resources, draft.lost)


def plan_peer(holder: Holder, ground: PlanInput, observed: Observed, draft: PlanBuilder) -> None:
    """The host route to a peer; a warning where there is no way for it."""
    want = holder.resource
    assert isinstance(want, PeerRoute)
    if want.peer in draft.lost:
        waiting = any(is_looping(Holder(holder.claim, one), draft) for one in holder.claim.resources)
        draft.warnings.append(peer_routes.no_way(want, waiting))
        return
    operation = peer_routes.plan(want, observed, peer_moved(want, ground, observed), holder.claim.connection)
    draft.phases["peer"] += [operation] if operation else []


def plan_route(
    holders: list[Holder], ground: PlanInput, observed: Observed, devices: DeviceFates, draft: PlanBuilder
) -> None:
    """Decide over one route: the first claim has it whose device can take it."""
    shut = devices.down | ground.signals.peer_silent
    open_to = [one for one in holders if device_of(one.resource) not in shut and not is_looping(one, draft)]
    if not open_to:
        draft.phases["unroute"] += withdraw_route(holders, ground, observed, draft)
        newest = next((one for one in holders if one.claim.key == ground.newest and one.claim.kind == SA), None)
        if newest and device_of(newest.resource) in ground.signals.peer_silent:
            draft.warnings.append(
                f"the far end of {device_of(newest.resource)} does not answer: nothing is routed into it"
            )
        return
    holder = open_to[0]
    assert isinstance(holder.resource, Route)
    want = merge_multipath(open_to)
    operation, warning = routes.plan(want, observed, devices.removed, holder.claim.connection)
    if operation and isinstance(operation.before, Route) and set(operation.before.devices) & set(devices.removed):
        shrink_multipath(operation, devices.removed, draft)
    else:
        draft.phases["route"] += [operation] if operation else []
    draft.warnings += [warning] if warning else []
    if not any(one.claim.key == ground.newest and serves(one.resource, want) for one in open_to):
        warn_waiting(open_to, ground.newest, draft)


def serves(asked: Resource, route: Route) -> bool:
    """Whether a route goes where a claim asks for it: by an external interface each tunnel has an if_id of its own."""
    return isinstance(asked, Route) and asked.device in route.devices and asked.if_id == route.if_id


def merge_multipath(holders: list[Holder]) -> Route:
    """The route of the first, or into the devices of all that share it with the first."""
    want = holders[0].resource
    assert isinstance(want, Route)
    each: dict[str, Route] = {}
    for one in holders:
        if isinstance(one.resource, Route):
            each.setdefault(one.resource.device, one.resource)
    mates = [other for other in each.values() if other.joins] if want.joins else [want]
    names = sorted(other.device for other in mates)
    least = min((other.mtu for other in mates if other.mtu), default=0)
    return want._replace(device=names[0], hops=tuple(names[1:]), mtu=least, joins=False)


def shrink_multipath(operation: Operation, gone: tuple[str, ...], draft: PlanBuilder) -> None:
    """Change a multipath route before one of its devices is deleted: with that the kernel takes all of an IPv4 route, and of an
    IPv6 route the one hop (net/ipv4/fib_semantics.c fib_sync_down_dev, net/ipv6/route.c fib6_ifdown)."""
    have, want = operation.before, operation.subject
    assert isinstance(have, Route) and isinstance(want, Route)
    if set(want.devices) <= set(have.devices) - set(gone):
        draft.phases["unroute"].append(operation)
        return
    draft.phases["unroute"].append(Operation("route delete", have, reason=operation.reason))
    draft.phases["route"].append(operation._replace(action="route add", before=None))


def make_before_break(observed: Observed, devices: DeviceFates, draft: PlanBuilder) -> None:
    """Put a route to a device that is ready for it beside the old one before whose device is deleted, and takes it along: the
    kernel takes milliseconds for that, since it waits for every processor."""
    waiting = draft.phases["route"]
    ready = [] if draft.phases["peer"] else [one for one in waiting if is_ready(one, observed, devices)]
    draft.phases["hand over"] = [one._replace(action="route prepend") for one in ready]
    draft.phases["route"] = [one for one in waiting if one not in ready]


def is_ready(operation: Operation, observed: Observed, devices: DeviceFates) -> bool:
    """Whether a route that is to be added stands now, as ours and on one device that goes, and could lead elsewhere at once.
    Two of IPv6 with gateways would become one by both devices (rt6_qualify_for_ecmp)."""
    want = operation.subject
    if not isinstance(want, Route) or operation.action != "route add" or (want.gateway and ":" in want.destination):
        return False
    have, link = observed.routes.get(route_key(want)), observed.links.get(want.device)
    if have is None or have.protocol != OUR_PROTOCOL or have.hops or want.hops or link is None or not link.up:
        return False
    own = {host(one.address) for one in observed.addresses.get(want.device, ())}
    untouched = want.device not in {*devices.removed, *devices.created, *devices.unusable, *devices.down}
    return untouched and (not want.source or want.source in own)


def withdraw_route(holders: list[Holder], ground: PlanInput, observed: Observed, draft: PlanBuilder) -> list[Operation]:
    """A route that leads to a silent far end, or a tunnel's own packets into it, goes; those of a device that is set down go
    with that."""
    want = holders[0].resource
    assert isinstance(want, Route)
    have = observed.routes.get(route_key(want))
    if have is None:
        return []
    if set(have.devices) & ground.signals.peer_silent:
        return routes.plan_removal(have, f"the far end of {have.device} does not answer")
    ours = [one for one in holders if one.resource == have or (have.hops and device_of(one.resource) in have.devices)]
    if any(is_looping(one, draft) for one in ours):
        return routes.plan_removal(have, f"no way to the peer outside {have.device}")
    return []


def warn_waiting(holders: list[Holder], newest: str, draft: PlanBuilder) -> None:
    """Tell the claim of this event where another holds its route, on another device."""
    holder, ours = first_holder(holders), first_holder(holders, newest)
    if holder is None or ours is None or ours.claim.key != newest or not isinstance(ours.resource, Route):
        return
    if same_hosts(holder.claim, ours.claim) and holder.claim.tunnel == ours.claim.tunnel:
        return  # its predecessor, soon to go (strongSwan's make-before-break)
    theirs = holder.resource
    if isinstance(theirs, Route) and not serves(ours.resource, theirs):
        by = f", if_id {theirs.if_id}" if theirs.if_id and theirs.device == ours.resource.device else ""
        draft.warnings.append(
            f"{ours.resource.destination} is held by {holder.claim.connection} on {theirs.device}{by};"
            " ours waits. A metric orders the two"
        )
