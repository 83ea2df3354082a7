"""Who of several claims has a route, and which have to wait. Pure."""

from __future__ import annotations

from updown.concerns import peer_routes, routes
from updown.model.claims import REVIVE, SA, Holder, same_hosts
from updown.model.errors import Notice
from updown.model.objects import Address, Route, host
from updown.model.operations import Reason
from updown.model.resources import Left, PeerRoute, Resource, SourceAddress, device_of, route_key, split
from updown.plan.inputs import Choice, PlanInput, Wanted, first_holder

Lost = frozenset[str]
"""Peers to whom there is no way but their own tunnel."""


def moved_peers(inputs: PlanInput, left: Left) -> frozenset[str]:
    """The peers whose tunnel's own end was another one before this event, or to whom the machine's routes lead by now."""
    found: set[str] = set()
    for asked in peers_asked(inputs):
        before = inputs.former.get(f"peer {asked.peer}", [])
        elsewhere = any(isinstance(old.resource, PeerRoute) and old.resource.local != asked.local for old in before)
        if elsewhere or left.paths.get(asked.peer) is not None:
            found.add(asked.peer)
    return frozenset(found)


def lost_peers(inputs: PlanInput, left: Left) -> Lost:
    """The peers that only their own tunnel leads to."""
    return frozenset(asked.peer for asked in peers_asked(inputs) if peer_routes.is_lost(asked, left))


def peers_asked(inputs: PlanInput) -> list[PeerRoute]:
    """The ways to peers that are asked for."""
    first = [first_holder(holders) for key, holders in inputs.holders.items() if split(key)[0] == "peer"]
    return [one.resource for one in first if one is not None and isinstance(one.resource, PeerRoute)]


def is_looping(holder: Holder, lost: Lost) -> bool:
    """Whether a claim's route would lead its own tunnel's packets into the tunnel."""
    return isinstance(holder.resource, Route) and peer_routes.loops(holder.resource, holder.claim.resources, lost)


def choose_route(holders: list[Holder], inputs: PlanInput, left: Left, shut: frozenset[str], lost: Lost) -> Choice:
    """Decide over one route: the first claim has it whose device can take it; `shut` devices cannot."""
    able = [one for one in holders if device_of(one.resource) not in shut and not is_looping(one, lost)]
    if not able:
        newest = next((one for one in holders if one.claim.key == inputs.newest and one.claim.kind == SA), None)
        name = device_of(newest.resource) if newest else ""
        text = f"the far end of {name} does not answer: nothing is routed into it"
        warnings: tuple[Notice, ...] = (Notice("peer silent", text),) if name in inputs.liveness.peer_silent else ()
        return Choice(absent=withdraw_route(holders, inputs, left, lost), warnings=warnings)
    want = with_source(merge_multipath(able), able[0], left)
    stands = routes.not_ours(want, left)
    warnings = (stands,) if stands else ()
    if not any(one.claim.key == inputs.newest and serves(one.resource, want) for one in able):
        warnings += warn_waiting(able, inputs.newest)
    return Choice(Wanted(want, able[0].claim.connection), warnings=warnings)


def choose_peer(holder: Holder, left: Left, lost: Lost) -> Choice:
    """The host route to a peer; a warning where there is no way for it."""
    asked = holder.resource
    assert isinstance(asked, PeerRoute)
    if asked.peer in lost:
        waiting = any(is_looping(Holder(holder.claim, one), lost) for one in holder.claim.resources)
        return Choice(warnings=(peer_routes.no_way(asked, waiting),))
    route = peer_routes.needed_route(asked, left, None)
    return Choice(Wanted(route, holder.claim.connection) if route else None)


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


def with_source(want: Route, holder: Holder, left: Left) -> Route:
    """The route, without a source that is no address of this machine any more, unless its claim gives it one: the kernel would
    refuse the whole route, and what goes by it would leave in clear."""
    given = [one for one in holder.claim.resources if isinstance(one, (Address, SourceAddress))]
    if want.source not in left.paths or any(host(one.address) == want.source for one in given):
        return want
    path = left.paths[want.source]
    return want if path is not None and path.local else want._replace(source="")


def withdraw_route(holders: list[Holder], inputs: PlanInput, left: Left, lost: Lost) -> tuple[tuple[Resource, Reason], ...]:
    """A route that leads to a silent far end, or a tunnel's own packets into it, goes; those of a device that is set down go
    with that."""
    have = left.routes.get(route_key(holders[0].resource)) if isinstance(holders[0].resource, Route) else None
    if have is None:
        return ()
    ours = [one for one in holders if one.resource == have or (have.hops and device_of(one.resource) in have.devices)]
    if set(have.devices) & inputs.liveness.peer_silent:
        return ((have, Reason("silent route", what=have.device)),)
    return ((have, Reason("loops", what=have.device)),) if any(is_looping(one, lost) for one in ours) else ()


def warn_waiting(holders: list[Holder], newest: str) -> tuple[Notice, ...]:
    """Tell the claim of this event, if it made something, where another holds its route, on another device."""
    holder, ours = first_holder(holders), first_holder(holders, newest)
    if holder is None or ours is None or ours.claim.key != newest or not isinstance(ours.resource, Route):
        return ()
    if ours.claim.kind == REVIVE:
        return ()
    if same_hosts(holder.claim, ours.claim) and holder.claim.tunnel == ours.claim.tunnel:
        return ()  # its predecessor, soon to go (strongSwan's make-before-break)
    theirs = holder.resource
    if not isinstance(theirs, Route) or serves(ours.resource, theirs):
        return ()
    by = f", if_id {theirs.if_id}" if theirs.if_id and theirs.device == ours.resource.device else ""
    text = f"{ours.resource.destination} is held by {holder.claim.connection} on {theirs.device}{by}; ours waits."
    return (Notice("route waits", f"{text} A metric orders the two"),)
