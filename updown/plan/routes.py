"""Who of several claims has a route, and which have to wait. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from updown.concerns import peer_routes, routes
from updown.concerns.catalogue import key_of
from updown.model.claims import MADE, REVIVE, SA, TRAP, Holder, same_hosts
from updown.model.errors import Notice
from updown.model.objects import OUR_PROTOCOL, Address, Route, host
from updown.model.operations import Reason
from updown.model.record import NamedTuple
from updown.model.resources import Left, PeerRoute, Resource, SourceAddress, device_of, route_key, split
from updown.plan.conflicts import goes_before, not_ours
from updown.plan.inputs import Choice, DeviceFate, Fates, Liveness, PlanInput, Wanted, first_holder

Lost = frozenset[str]
"""Peers to whom there is no way but their own tunnel."""

Ways = Mapping[str, Holder]
"""The living tunnels into which routes lead, by place (concerns/routes.py)."""


class Terms(NamedTuple):
    """What one route is decided by beside its holders; `shut` devices can take none."""

    shut: frozenset[str]
    lost: Lost
    ways: Ways
    fates: Fates


def moved_peers(inputs: PlanInput, left: Left) -> frozenset[str]:
    """The peers whose tunnel's own end was another one before this event, or to whom the machine's routes lead by now."""
    found: set[str] = set()
    for asked in peers_asked(inputs):
        before = inputs.former.get(key_of(asked), [])
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


def is_silent(holder: Holder, liveness: Liveness) -> bool:
    """Whether nothing comes back by a claim's device. Where no SA is on it, a trap waits for traffic alone."""
    device = device_of(holder.resource)
    return device in liveness.peer_silent and not (device in liveness.asleep and holder.claim.kind in (TRAP, MADE))


def is_living(holder: Holder, liveness: Liveness) -> bool:
    """Whether a claim has an SA, and, where its device is probed, an answer."""
    return holder.claim.kind == SA and not is_silent(holder, liveness)


def waits(holder: Holder, holders: list[Holder], liveness: Liveness) -> bool:
    """Whether nothing passes by a claim now, and no traffic will change that: it waits for its peer, or hears nothing of it.
    What `make` asks for waits with the tunnel that is on its device."""
    if holder.claim.kind != MADE:
        return holder.claim.kind == REVIVE or is_silent(holder, liveness)
    mates = {one.claim.kind for one in holders if device_of(one.resource) == device_of(holder.resource)}
    return is_silent(holder, liveness) or (REVIVE in mates and not mates & {SA, TRAP})


def may_yield(holder: Holder, liveness: Liveness) -> bool:
    """Whether it takes a look at all others to know who has a route that this claim asks for."""
    shut = device_of(holder.resource) in liveness.no_sa | liveness.peer_silent
    return isinstance(holder.resource, Route) and (shut or holder.claim.kind in (REVIVE, MADE))


def living_ways(inputs: PlanInput, left: Left, fates: Fates, shut: frozenset[str], lost: Lost) -> Ways:
    """Where routes will lead into living tunnels: those of this plan, and those that stand beside it."""
    found: dict[str, Holder] = {}
    for key, holders in (*inputs.holders.items(), *inputs.beside.items()):
        able = able_of(holders, shut, lost) if split(key)[0] == "route" else []
        living = [one for one in able if is_living(one, inputs.liveness) and can_carry(device_of(one.resource), left, fates)]
        if not living or not fates.get(device_of(holders[0].resource), DeviceFate()).usable:
            continue
        asked = living[0].resource
        route = standing(asked, left) if isinstance(asked, Route) else None
        if key in inputs.holders:
            want = merge_multipath([one for one in able if not waits(one, able, inputs.liveness)])
            route = None if not_ours(want, left) else want
        if route is not None and route.protocol == OUR_PROTOCOL:
            found.update({routes.place(route): one for one in living if serves(one.resource, route)})
    return found


def can_carry(device: str, left: Left, fates: Fates) -> bool:
    """Whether a route can lead into a device: it is up, or will be."""
    link = (device in fates and fates[device].link) or left.links.get(device)
    return link is not None and link.up


def is_standing(device: str, left: Left, fates: Fates) -> bool:
    """Whether a route can lead into a device now, before anything is done."""
    link, fate = left.links.get(device), fates.get(device, DeviceFate())
    return link is not None and link.up and fate.usable and not fate.is_created


def able_of(holders: list[Holder], shut: frozenset[str], lost: Lost) -> list[Holder]:
    """Those whose device can take a route."""
    return [one for one in holders if device_of(one.resource) not in shut and not is_looping(one, lost)]


def choose_route(holders: list[Holder], inputs: PlanInput, left: Left, terms: Terms) -> Choice:
    """Decide over one route: the first claim has it whose device can take it; one that waits counts only where no living tunnel
    covers the prefix, so that nothing leaves in clear."""
    able = able_of(holders, terms.shut, terms.lost)
    if not able:
        return Choice(absent=withdraw_looping(holders, left, terms.lost))
    asked = able[0].resource
    assert isinstance(asked, Route)
    rival = routes.rival_of(asked, left)  # a wider way leads nothing past somebody else's narrower route
    places = [routes.place(asked)] if rival and rival.table == asked.table else routes.places_over(asked)
    by = next((terms.ways[place] for place in places if place in terms.ways), None)
    waiting = [one for one in able if waits(one, able, inputs.liveness)]
    kept = [one for one in waiting if by is None and can_carry(device_of(one.resource), left, terms.fates)]
    stay = [one for one in able if one not in waiting or one in kept]
    warnings = warn_silent(asked, able, inputs, by) if by else ()
    if not stay:
        return yielding(able[0], left, by, inputs.liveness)._replace(warnings=warnings) if by else Choice()
    want = with_source(merge_multipath(stay), stay[0], left)
    stands = not_ours(want, left)
    warnings += (stands,) if stands else ()
    if not any(one.claim.key == inputs.newest and serves(one.resource, want) for one in stay):
        warnings += warn_waiting(stay, inputs.newest)
    early = stay[0] in kept and all(is_standing(name, left, terms.fates) for name in want.devices)
    return Choice(Wanted(want, stay[0].claim.connection), warnings=warnings, remarks=goes_before(want, left), early=early)


def standing(want: Route, left: Left) -> Route | None:
    """The route that stands in the place of `want`; where that is somebody else's, ours as by what stands in front of it."""
    have = left.routes.get(route_key(want))
    if have is not None and have.protocol == OUR_PROTOCOL:
        return have
    front = (left.routes.get(route_key(one)) for one in routes.in_front(want))
    ours = next((one for one in front if one is not None and one.protocol == OUR_PROTOCOL), None)
    return ours._replace(destination=want.destination, metric=want.metric) if ours else have


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


def withdraw_looping(holders: list[Holder], left: Left, lost: Lost) -> tuple[tuple[Resource, Reason], ...]:
    """A route that leads a tunnel's own packets into it goes; those of a device that is set down go with that."""
    have = standing(holders[0].resource, left) if isinstance(holders[0].resource, Route) else None
    if have is None:
        return ()
    ours = [one for one in holders if one.resource == have or (have.hops and device_of(one.resource) in have.devices)]
    return ((have, Reason("loops", what=have.device)),) if any(is_looping(one, lost) for one in ours) else ()


def yielding(holder: Holder, left: Left, by: Holder, liveness: Liveness) -> Choice:
    """The route of claims that wait goes, while a living tunnel covers it."""
    asked = holder.resource
    assert isinstance(asked, Route)
    have, silent = standing(asked, left), is_silent(holder, liveness)
    reason = Reason("silent route" if silent else "yields", holder.claim.connection, named(by))
    return Choice(absent=((have, reason),) if have else (), yields=(asked, reason))


def warn_silent(asked: Route, holders: list[Holder], inputs: PlanInput, by: Holder) -> tuple[Notice, ...]:
    """Tell the claim of this event where it is up and yields, since its far end does not answer."""
    for one in holders:
        if one.claim.key == inputs.newest and one.claim.kind == SA and is_silent(one, inputs.liveness):
            text = f"the far end of {device_of(one.resource)} does not answer: {asked.destination} goes by {named(by)}"
            return (Notice("peer silent", text),)
    return ()


def named(holder: Holder) -> str:
    """A claim with its device, for people."""
    return f"{holder.claim.connection} on {device_of(holder.resource)}"


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
