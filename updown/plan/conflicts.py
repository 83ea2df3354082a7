"""Claims and devices that do not go together: what other claims, or a device or route of somebody else's, keep an event from.
Pure."""

from __future__ import annotations

from updown.concerns.device import differences, differences_text, is_fallback
from updown.concerns.routes import in_front, is_chosen, is_passed, rival_of
from updown.daemons.terms import MAKE, Words, words_of
from updown.model.claims import Claim, Holder, same_hosts
from updown.model.concern import ip
from updown.model.errors import Conflict, Notice
from updown.model.objects import (
    KERNEL_PROTOCOL,
    MAIN_TABLE,
    OUR_PROTOCOL,
    TUNNELS,
    VTIS,
    Link,
    Route,
    bare,
    has_our_alias,
    is_any,
)
from updown.model.operations import Difference
from updown.model.resources import Device, Left, Observed, route_key


def check_others(want: Device, holder: Holder, holders: list[Holder], have: Link | None, observed: Observed) -> None:
    """Other connections' claims on the device must ask for the same; but for the local end where theirs is of before a move,
    which is known by an address that this machine lost, or by the device, which is where this claim wants it."""
    there = have is not None and has_our_alias(have) and have.local == want.link.local
    for other in holders:
        if other.claim.tunnel == holder.claim.tunnel or not isinstance(other.resource, Device):
            continue
        # fields in which the other's word does not count any more: an end moved, and the daemon did not tell it
        path = observed.paths.get(other.resource.link.local)
        outdated = {"local"} if there or path is None or not path.local else set()
        if same_hosts(holder.claim, other.claim):
            outdated = {"kind", "local", "remote"}
        different = (*differences(want.link, other.resource.link), *other_parent(want.link, other.resource.link))
        if not {one.field for one in different} <= outdated:
            raise conflict_between(want.link, holder.claim, other.resource.link, other.claim, different)


def other_parent(mine: Link, theirs: Link) -> tuple[Difference, ...]:
    """Where both name the device below an interface, and not the same."""
    named = [one.underlay for one in (mine, theirs) if one.underlay and not one.underlay.startswith("to ")]
    return (Difference("parent", theirs.underlay, mine.underlay),) if len(set(named)) > 1 else ()


def warn_second_peer(want: Device, holder: Holder, holders: list[Holder], newest: str) -> tuple[Notice, ...]:
    """A warning where the device leaves one peer for another with the same identity: taken for a move, or a successor from
    elsewhere, but without an older SA of these selectors it may be a second client of a group that shares its identity."""
    mine, link = holder.claim.sa, want.link
    if holder.claim.key != newest or link.kind == "xfrm" or is_any(link.remote):
        return ()
    mates = [one.claim for one in holders if same_hosts(one.claim, holder.claim) and one.claim.key != newest]
    mates = [one for one in mates if one.sa.unique_id != mine.unique_id and one.sa.peer != mine.peer]
    if not mates or any(one.sa.peer_client == mine.peer_client for one in mates):
        return ()
    text = f"{link.name} leads to {mine.peer} now, and no more to {mates[0].sa.peer}, of the same identity."
    return (Notice("second peer", f"{text} Are they two peers? They need {words_of(mine.daemon).shared}"),)


def check_foreign(want: Link, have: Link, words: Words) -> None:
    """Raise Conflict unless `have`, which is not ours, is what `want` asks for."""
    different = differences(want, have)
    if not different:
        return
    if is_fallback(have) and want.kind in VTIS:
        raise Conflict(
            f"{have.name} is the kernel's fallback device (local any, remote any), not a tunnel",
            f"choose another {words.named} name; that device cannot be changed or deleted",
        )
    several = is_any(want.remote) and "local" in {one.field for one in different}
    delete = f"{ip(have.name)} link del {bare(have.name)}"
    raise Conflict(
        f"{have.name} is not ours and has {differences_text(different)}" + ("; see XFRM interface" if several else ""),
        f"a VTI has one local address; for several use an XFRM interface ({words.xfrm})"
        if several
        else f"give it these values, delete it ({delete}), or choose another name"
        if have.kind == want.kind
        else f"delete it ({delete}), or choose another name"
        if have.kind in TUNNELS
        else "choose another name for the tunnel's device",
    )


def conflict_between(want: Link, claim: Claim, other: Link, others: Claim, different: tuple[Difference, ...]) -> Conflict:
    """Two claims of different tunnels on one device that ask for something else: what, and how both can be served."""
    fields, name, words = {one.field for one in different}, want.name, words_of(claim.sa.daemon)
    if "local" in fields and is_any(want.remote):
        return Conflict(
            f"{name} has local {other.local} ({others.connection}); for several use an XFRM interface",
            f"{words.xfrm_is_free}; else one VTI for each local address",
        )
    one_connection = others.connection == claim.connection or same_hosts(claim, others)
    return Conflict(
        f"{name} has {differences_text(different)}, for {others.connection}",
        f"was its section changed? `vti-updown make {bare(name)}` again; else give the tunnel another device"
        if others.connection == MAKE
        else device_each_hint(want, words)
        if one_connection and fields & {"if_id", "key", "ikey", "okey"}
        else "give each connection a device, or the same if_id"
        if want.kind == "xfrm"
        else f"several peers behind one mark need {words.shared}, the first one down and up once; else a mark and device each"
        if fields == {"remote"}
        else f"give each connection a device, or the same marks, peer and {words.shared}",
    )


def device_each_hint(want: Link, words: Words) -> str:
    """How clients of one connection, each with a key of its own, get a device each: for a hint."""
    placeholder = "{if_id}" if want.kind == "xfrm" else "{mark}"
    stem = bare(want.name).rstrip("0123456789")[:5]
    instead = "" if words.by_settings else f" in the settings, without {words.named}"
    alone = " and `template = no`" if is_any(want.remote) else ""
    return f"put {placeholder} into the name, and each client gets a device: `interface = {stem}{placeholder}`{alone}{instead}"


def goes_before(want: Route, left: Left) -> tuple[str, ...]:
    """The line that names somebody else's route which ours goes before from now on."""
    rival, places = rival_of(want, left), in_front(want) or (want,)
    there = [left.routes.get(route_key(one)) for one in places]
    if rival is None or not is_passed(want, rival) or all(one is not None and one.protocol == OUR_PROTOCOL for one in there):
        return ()
    how = "in two halves" if len(places) > 1 else "as the first of the two"
    return (
        f"{want.destination} has a route {lead(rival)} that is not ours: ours goes before it, {how}, and leaves it as it is",
    )


def lead(route: Route) -> str:
    """Where a route leads, for a message."""
    return f"dev {bare(route.device)}" if route.device else "without a device"


def not_ours(want: Route, left: Left) -> Notice | None:
    """The warning where packets go elsewhere by what is not ours, and ours cannot be before it, with what could be done."""
    rival = rival_of(want, left)
    return None if rival is None or is_passed(want, rival) else Notice("route not ours", ". ".join(leaving(want, rival)[:2]))


def leaving(want: Route, rival: Route) -> tuple[str, str, str]:
    """Which way packets go that should go the way of `want`, what can be done about it, and that as a command."""
    text = f"packets to {want.destination} leave outside of {want.device}{', in clear' if rival.device else ''}: "
    if rival.table != want.table:
        text += f"a policy rule leads them to table {rival.table}, {lead(rival)}"
        how, rather = f"{ip(want.device)} rule show table {rival.table}", "give it a priority after the main table's"
    elif rival.protocol == KERNEL_PROTOCOL:
        text += f"it is the network of {lead(rival)} itself"
        how, rather = "", "give one of the two another, or set `table` and `rule`"
    else:
        text += f"a route {lead(rival)} that is not ours is first"
        way = f"{rival.destination}{f' dev {bare(rival.device)}' if rival.device else ''}"
        table = f" table {rival.table}" if rival.table != MAIN_TABLE else ""
        how = f"{ip(want.device)} route del {way}{table} metric {rival.metric}"
        metric = "leave out the metric of ours" if not rival.metric else f"give ours a metric below {rival.metric}, or none"
        rather = metric if is_chosen(want) else "set `table` and `rule`"
    advice = f"Delete it ({how}), or {rather}" if how else rather.capitalize()
    mend = f"{how}  # delete it, or {rather}" if rival.table != want.table else f"{how}; vti-updown reconcile  # or {rather}"
    return text, advice, mend if how else rather
