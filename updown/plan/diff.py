"""The plan: ordered operations that take what is observed to what the claims desire. Pure. The order is draft.py's."""

from __future__ import annotations

from updown.concerns import addresses, device, mss, mtu, peer_routes, routes, rules, sysctls
from updown.daemons.terms import words_of
from updown.model.claims import Holder, same_hosts
from updown.model.errors import Conflict
from updown.model.objects import OUR_ALIAS, Address, Link, Route, Rule, bare, family, has_our_alias, is_any
from updown.model.operations import Operation
from updown.model.resources import (
    Clamp,
    Device,
    Observed,
    PeerRoute,
    SourceAddress,
    Sysctl,
    device_of,
    key_of,
    route_key,
    split,
)
from updown.model.values import KERNELS_OWN
from updown.plan import routes as plan_routes
from updown.plan.cascade import left_of, restore_lost
from updown.plan.order import DeviceFates, Plan, PlanBuilder, PlanInput, authoritative_holder, first_holder


def make_plan(ground: PlanInput, observed: Observed) -> Plan:
    """The plan for the touched resources; raises Conflict where something not ours stands in a device's place."""
    draft = PlanBuilder()
    devices = plan_devices(ground, observed, draft)
    before, observed = observed, left_of(observed, devices)
    draft.lost = plan_routes.lost_peers(ground, observed)
    for name in ground.holders:
        kind, _ = split(name)
        if kind != "device":
            plan_resource(name, ground, observed, devices, draft)
    restore_lost(ground, observed, draft)
    draft.phases["route"] = [
        operation
        for operation in draft.phases["route"]
        if not (isinstance(operation.subject, Route) and operation.subject.device in devices.down)
    ]
    plan_routes.make_before_break(before, devices, draft)
    return draft.done()


def plan_devices(ground: PlanInput, observed: Observed, draft: PlanBuilder) -> DeviceFates:
    """Decide over each touched device."""
    gone: list[str] = []
    fresh: list[str] = []
    unusable: list[str] = []
    foreign: list[str] = []
    mtus: dict[str, int] = {}
    for name, holders in ground.holders.items():
        kind, device_name = split(name)
        if kind != "device":
            continue
        have = observed.links.get(device_name)
        holder = authoritative_holder(holders, ground.newest)
        made = ground.made.get(name)
        if holder is None:
            if release_device(name, have, ground, draft):
                gone.append(device_name)
            continue
        idle = device_name in ground.signals.no_sa
        want = holder.resource
        assert isinstance(want, Device)
        if want.by_daemon:
            trouble = daemon_device_trouble(want, have)
            if trouble:
                draft.warnings.append(trouble)
                unusable.append(device_name)
            foreign.append(device_name)
            continue
        want = want._replace(link=want.link._replace(mtu=least_mtu(holders, ground.mtus.get(device_name, 0))))
        if holder.claim.key != ground.newest:
            want = keep_local_end(want, have, holder, holders, observed)
        try:
            check_others(want, holder, holders, have, observed)
            draft.warnings += warn_second_peer(want, holder, holders, ground.newest)
            if have is not None and not device.is_ours(have, made, want.link):
                device.check_foreign(want, have, words_of(holder.claim.about.daemon))
        except Conflict as error:
            if not ground.ends:
                raise
            draft.warnings.append(f"{error.text}: it stays as it is. {error.hint}")
            unusable.append(device_name)
            foreign.append(device_name)
            continue
        mtus[device_name] = want.link.mtu
        if have is None:
            make_device(want, holder, draft, idle)
            fresh.append(device_name)
            gone.append(device_name)
        elif not device.is_ours(have, made, want.link):
            foreign.append(device_name)
            mtus[device_name] = 0
            if not have.up:
                draft.warnings.append(f"{device_name} is not ours and was down; setting it up")
                draft.phases["raise"].append(
                    Operation("link set", have._replace(up=True), have, f"{holder.claim.connection} needs it up")
                )
        elif update_device(want, have, holder, draft, idle):
            draft.made[name] = have.ifindex if made is not None and made >= 0 else -have.ifindex
        else:
            fresh.append(device_name)
            gone.append(device_name)
        if device_name not in foreign:
            was = have is not None and have.dormant and device_name not in fresh
            silent = device_name in ground.signals.peer_silent and not idle
            draft.phases["state"] += device.set_operstate(want.link, was, silent, holder.claim.connection)
    down = ground.signals.no_sa - set(foreign)
    return DeviceFates(tuple(gone), tuple(fresh), tuple(unusable), tuple(foreign), mtus, down)


def release_device(name: str, have: Link | None, ground: PlanInput, draft: PlanBuilder) -> bool:
    """The last claim went: delete the device if it is ours and its row says so."""
    if have is None:
        draft.made[name] = None
        return False
    last = ground.ended.get(name, [])
    wants = [ended.resource for ended in last if isinstance(ended.resource, Device)]
    if not device.is_ours(have, ground.made.get(name), wants[-1].link if wants else None):
        draft.made[name] = None
        return False
    if name in ground.used:
        draft.warnings.append(
            f"{have.name} stays: the ledger was lost once, and the kernel has IPsec policies with its key."
            " `vti-updown reconcile` deletes it when they are gone"
        )
        return False
    if not wants or not all(want.with_last for want in wants):
        draft.phases["state"] += device.set_operstate(have, have.dormant, False, last[-1].connection if last else "")
        if have.up and have.name in ground.signals.no_sa:
            draft.phases["lower"].append(device.set_down(have, last[-1].connection))
        return False
    who = ", ".join(dict.fromkeys(ended.connection for ended in last))
    draft.phases["delete"].append(Operation("link delete", have, reason=f"{who} was the last to hold it"))
    draft.made[name] = None
    return True


def daemon_device_trouble(want: Device, have: Link | None) -> str:
    """Why the daemon's own device cannot be used, if so."""
    if have is None:
        return f"{want.link.name} is not here: the daemon makes it, in its own namespace; nothing routed"
    different = device.differences(want.link, have)
    return f"{have.name} has {'; '.join(different)}; nothing routed" if different else ""


def check_others(want: Device, holder: Holder, holders: list[Holder], have: Link | None, observed: Observed) -> None:
    """Other connections' claims on the device must ask for the same; but for the local end where theirs is of before a move,
    which is known by an address that this machine lost, or by the device, which is where this claim wants it."""
    for other in holders:
        if other.claim.tunnel == holder.claim.tunnel or not isinstance(other.resource, Device):
            continue
        path = observed.paths.get(other.resource.link.local)
        there = have is not None and has_our_alias(have) and have.local == want.link.local
        outdated: tuple[str, ...] = ("local",) if there or path is None or not path.local else ()
        if same_hosts(holder.claim, other.claim):
            outdated = ("kind", "local", "remote")
        words = words_of(holder.claim.about.daemon)
        mine = other.claim.connection if same_hosts(holder.claim, other.claim) else holder.claim.connection
        device.check_claims(want, other.resource, other.claim.connection, outdated, words, mine)


def warn_second_peer(want: Device, holder: Holder, holders: list[Holder], newest: str) -> list[str]:
    """A warning where the device leaves one peer for another with the same identity: taken for a move, or a successor from
    elsewhere, but without an older SA of these selectors it may be a second client of a group that shares its identity."""
    mine, link = holder.claim.about, want.link
    if holder.claim.key != newest or link.kind == "xfrm" or is_any(link.remote):
        return []
    mates = [one.claim for one in holders if same_hosts(one.claim, holder.claim) and one.claim.key != newest]
    mates = [one for one in mates if one.about.unique_id != mine.unique_id and one.about.peer != mine.peer]
    if not mates or any(one.about.peer_client == mine.peer_client for one in mates):
        return []
    return [
        f"{link.name} leads to {mine.peer} now, and no more to {mates[0].about.peer}, of the same identity."
        f" Are they two peers? They need {words_of(mine.daemon).shared}"
    ]


def least_mtu(holders: list[Holder], least: int) -> int:
    """What fits all who share the device; 0 where none says. Claims of an earlier release have it in the device itself."""
    asked = [holder.resource.link.mtu for holder in holders if isinstance(holder.resource, Device)]
    return min(filter(None, [*asked, least]), default=0)


def keep_local_end(
    want: Device, have: Link | None, holder: Holder, holders: list[Holder], observed: Observed
) -> Device:
    """A device is not re-pointed to an address that this machine lost: MOBIKE told another connection of the new one. Nor away
    from one that it has and at which another tunnel has the device: MOBIKE was not told of to `holder` then."""
    if have is None or have.local == want.link.local or family(have.local) != family(want.link.local):
        return want
    wanted, there = observed.paths.get(want.link.local), observed.paths.get(have.local)
    others = [one.resource for one in holders if one.claim.tunnel != holder.claim.tunnel]
    lost = wanted is None or not wanted.local
    held = (
        there is not None
        and there.local
        and any(isinstance(one, Device) and one.link.local == have.local for one in others)
    )
    return want._replace(link=want.link._replace(local=have.local)) if lost or held else want


def make_device(want: Device, holder: Holder, draft: PlanBuilder, idle: bool) -> None:
    """Make it, mark it, set it up; not up where no tunnel needs it that it follows."""
    connection, name = holder.claim.connection, want.link.name
    if bare(name) in KERNELS_OWN:
        raise Conflict(f"{name} is a name of the kernel's own devices, for {connection}", "give it another name")
    draft.phases["make"].append(device.add_link(want, connection))
    down = want.link._replace(up=False, alias="")
    if down.vrf:
        draft.phases["make"].append(device.set_master(down, connection))
    ready = device.set_up(down, connection, "ready")
    draft.phases["raise"].append(ready._replace(subject=down._replace(alias=OUR_ALIAS)) if idle else ready)
    draft.made[key_of(want)] = 0


def update_device(want: Device, have: Link, holder: Holder, draft: PlanBuilder, idle: bool) -> bool:
    """Bring our own device in line; False where it has to be deleted and made again."""
    connection = holder.claim.connection
    different = device.differences(want.link, have)
    wanted = want.link._replace(ifindex=have.ifindex, mtu=want.link.mtu or have.mtu, up=have.up, alias=have.alias)
    if want.link.kind == "xfrm":
        wanted = wanted._replace(parent=have.parent)  # which nothing can change (xfrm_interface_core.c xfrmi_change)
    if different:
        why = f"{connection}: {'; '.join(different)}"
        if not device.changes_in_place(want.link, have):
            draft.phases["delete"].append(Operation("link delete", have, reason=why))
            make_device(want, holder, draft, idle)
            return False
        draft.phases["make"].append(Operation("link change", wanted, have, why))
    changes = () if have.mtu == wanted.mtu else holder.claim.resources
    raised = device.set_up(wanted, connection, mtu.why(changes, have.name, wanted.mtu))._replace(before=have)
    marked = wanted._replace(alias=OUR_ALIAS)
    if not ((have.up or idle) and have.alias) or have.mtu != wanted.mtu:
        draft.phases["raise"].append(raised._replace(subject=marked) if idle else raised)
    if have.up and idle:
        draft.phases["lower"].append(device.set_down(marked, connection))
    return True


def plan_resource(name: str, ground: PlanInput, observed: Observed, devices: DeviceFates, draft: PlanBuilder) -> None:
    """Decide over one address, sysctl, way to a peer or route."""
    holders = ground.holders[name]
    holder = first_holder(holders)
    if holder is None:
        release(name, ground, observed, draft)
        return
    want = holder.resource
    claim = holder.claim.connection
    if device_of(want) in devices.unusable:
        return
    if isinstance(want, Sysctl):
        if want.device not in devices.foreign:
            operation = sysctls.plan(want, observed, claim)
            draft.phases["tune"] += [operation] if operation else []
    elif isinstance(want, Clamp):
        operation = mss.plan(want._replace(mtu=devices.mtus.get(want.device, 0)), observed, claim)
        draft.phases["clamp"] += [operation._replace(makes=name)] if operation else []
        draft.made[name] = 0
    elif isinstance(want, (Address, SourceAddress)):
        operation = addresses.plan(want, observed, claim)
        if operation and not (device_of(want) in devices.down and addresses.goes_with_link(addresses.as_address(want))):
            phase = "address" if isinstance(want, Address) else "source"
            draft.phases[phase].append(operation._replace(makes=name))
            draft.made[name] = 0
    elif isinstance(want, PeerRoute):
        plan_routes.plan_peer(holder, ground, observed, draft)
    elif isinstance(want, Route):
        plan_routes.plan_route(holders, ground, observed, devices, draft)
    elif isinstance(want, Rule):
        operation = rules.plan(want, observed, claim)
        draft.phases["rule"] += [operation] if operation else []


def was_replaced_by_other(device_name: str, ground: PlanInput, observed: Observed) -> bool:
    """Whether somebody put a device of his own in the place of the one that we made: what is on it is his as well."""
    have, made = observed.links.get(device_name), ground.made.get(f"device {device_name}")
    return bool(have is not None and made and made != have.ifindex and not has_our_alias(have))


def release(name: str, ground: PlanInput, observed: Observed, draft: PlanBuilder) -> None:
    """The last claim on an address, a way to a peer or a route went."""
    last = ground.ended.get(name, [])
    if not last:
        return
    want = last[-1].resource
    why = f"{last[-1].connection} was the last to want it"
    if isinstance(want, (Address, SourceAddress)):
        if ground.made.get(name) is not None:
            address = addresses.as_address(want)
            if not was_replaced_by_other(address.device, ground, observed):
                draft.phases["strip"] += addresses.plan_removal(address, observed, why)
            draft.made[name] = None
    elif isinstance(want, Clamp):
        draft.phases["unclamp"] += mss.plan_removal(want, observed, why)
        draft.made[name] = None
    elif isinstance(want, PeerRoute):
        have = observed.routes.get(route_key(peer_routes.peer_route_slot(want.peer)))
        draft.phases["unpeer"] += routes.plan_removal(have, why)
    elif isinstance(want, Route):
        have = observed.routes.get(route_key(want))
        if have is not None and want.device in have.devices:
            draft.phases["unroute"] += routes.plan_removal(have, why)
    elif isinstance(want, Rule):
        draft.phases["unrule"] += rules.plan_removal(want, observed, why)
