"""Which devices should be there, and how: who of several claims has the word, and what is not ours to change. Pure."""

from __future__ import annotations

from updown.concerns import device, mtu
from updown.daemons.terms import words_of
from updown.model.claims import Holder
from updown.model.errors import Conflict, Notice
from updown.model.objects import OUR_ALIAS, Link, bare, family
from updown.model.resources import Device, Observed, split
from updown.model.values import KERNELS_OWN
from updown.plan.conflicts import check_foreign, check_others, warn_second_peer
from updown.plan.inputs import DeviceFate, PlanInput, Wanted, authoritative_holder

UNMANAGED = "ipsec-interface-managed=no"
"""An option of libreswan 5's `config setup`, of which no variable tells."""


def device_fates(inputs: PlanInput, observed: Observed) -> dict[str, DeviceFate]:
    """Decide over each touched device. Raises Conflict where something that is not ours stands in a device's place."""
    fates: dict[str, DeviceFate] = {}
    for key, holders in inputs.holders.items():
        kind, name = split(key)
        if kind == "device":
            first, have = authoritative_holder(holders, inputs.newest), observed.links.get(name)
            fate = held_device(first, have, inputs, observed) if first else left_device(key, have, inputs)
            fates[name] = fate._replace(have=have)
    return fates


def left_device(key: str, have: Link | None, inputs: PlanInput) -> DeviceFate:
    """The last claim went: the device goes too, if it is ours and its row says so."""
    last = inputs.former.get(key, [])
    asked = [ended.resource for ended in last if isinstance(ended.resource, Device)]
    if have is None or not device.is_ours(have, inputs.made.get(key), asked[-1].link if asked else None):
        return DeviceFate(ours=have is None, made=(None,))
    if key in inputs.in_use:
        why = "the ledger was lost once, and the kernel has IPsec policies with its key"
        text = f"{have.name} stays: {why}. `vti-updown reconcile` deletes it when they are gone"
        return DeviceFate(warnings=(Notice("device in use", text),))
    if asked and all(want.with_last for want in asked):
        who = ", ".join(dict.fromkeys(ended.connection for ended in last))
        return DeviceFate(Wanted(None, who), made=(None,))
    up = have.up and have.name not in inputs.liveness.no_sa
    return DeviceFate(Wanted(have._replace(up=up, dormant=False), last[-1].connection if last else ""))


def held_device(holder: Holder, have: Link | None, inputs: PlanInput, observed: Observed) -> DeviceFate:
    """A device that claims ask for. Raises Conflict, unless the event only ends something."""
    asked = holder.resource
    assert isinstance(asked, Device)
    if asked.by_daemon:
        trouble = daemon_device_trouble(asked, have)
        return DeviceFate(ours=False, usable=not trouble, warnings=trouble)
    name, key = asked.link.name, f"device {asked.link.name}"
    holders, made = inputs.holders[key], inputs.made.get(key)
    asked = asked._replace(link=asked.link._replace(mtu=least_mtu(holders, inputs.mtus.get(name, 0))))
    if holder.claim.key != inputs.newest:
        asked = keep_local_end(asked, have, holder, holders, observed)
    want, by = asked.link, holder.claim.connection
    try:
        check_others(asked, holder, holders, have, observed)
        warnings = warn_second_peer(asked, holder, holders, inputs.newest)
        ours = have is None or device.is_ours(have, made, want)
        want = above_parent(want, have, observed, by) if ours and want.underlay else want
        if have is not None and not ours:
            check_foreign(want, have, words_of(holder.claim.sa.daemon))
    except Conflict as error:
        if not inputs.only_ends:
            raise
        text = f"{error.text}: it stays as it is. {error.hint}"
        return DeviceFate(ours=False, usable=False, warnings=(Notice("conflict", text),))
    if have is not None and not ours:
        if have.up:
            return DeviceFate(ours=False, warnings=warnings)
        found_down = Notice("device found down", f"{name} is not ours and was down; setting it up")
        return DeviceFate(Wanted(have._replace(up=True), by), ours=False, warnings=(*warnings, found_down))
    if bare(name) in KERNELS_OWN and have is None:
        raise Conflict(f"{name} is a name of the kernel's own devices, for {by}", "give it another name")
    idle = name in inputs.liveness.no_sa
    silent = name in inputs.liveness.peer_silent and not idle
    total = mtu.total_of(holder.claim.resources, name, want.mtu)
    multicast = asked.multicast if asked.multicast is not None else have is not None and have.multicast
    wanted = Wanted(want._replace(up=not idle, alias=OUR_ALIAS, dormant=silent, multicast=multicast), by, total)
    index = have.ifindex if have is not None and device.is_kept(want, have) else 0
    # a negative index: it is known by its alias alone, since the ledger that had more of it was lost
    known = made is not None and made >= 0
    return DeviceFate(wanted, warnings=warnings, made=(index if known else -index,))


def above_parent(want: Link, have: Link | None, observed: Observed, by: str) -> Link:
    """An XFRM interface that asks for a device below it, with that one's index. Found by the way to the peer, any other will do
    that `have` is above. Raises Conflict where the device that is named is not there."""
    by_way, below = want.underlay.startswith("to "), observed.parents.get(want.underlay)
    if have is not None and have.parent and (by_way or below is None):
        return want._replace(parent=have.parent)
    if below is None:
        text = f"{want.name} has no parent {want.underlay}, for {by}: there is no such device"
        raise Conflict(text, "make it first, or correct `parent` in the settings; auto takes the one that leads to the peer")
    return want._replace(parent=below.ifindex, underlay=below.name)


def daemon_device_trouble(want: Device, have: Link | None) -> tuple[Notice, ...]:
    """Why the daemon's own device cannot be used, if so."""
    if have is None:
        text = f"{want.link.name} is not here: pluto makes it, or you ({UNMANAGED}), in pluto's namespace; nothing routed"
        return (Notice("no daemon device", text),)
    different = device.differences(want.link, have)
    text = f"{have.name} has {device.differences_text(different)}; nothing routed"
    return (Notice("daemon device differs", text),) if different else ()


def least_mtu(holders: list[Holder], least: int) -> int:
    """What fits all who share the device; 0 where none says."""
    asked = [holder.resource.link.mtu for holder in holders if isinstance(holder.resource, Device)]
    return min(filter(None, [*asked, least]), default=0)


def keep_local_end(want: Device, have: Link | None, holder: Holder, holders: list[Holder], observed: Observed) -> Device:
    """A device is not re-pointed to an address that this machine lost: MOBIKE told another connection of the new one. Nor away
    from one that it has and at which another tunnel has the device: MOBIKE was not told of to `holder` then."""
    if have is None or have.local == want.link.local or family(have.local) != family(want.link.local):
        return want
    wanted, there = observed.paths.get(want.link.local), observed.paths.get(have.local)
    others = [one.resource for one in holders if one.claim.tunnel != holder.claim.tunnel]
    lost = wanted is None or not wanted.local
    held = any(isinstance(one, Device) and one.link.local == have.local for one in others)
    held = held and there is not None and there.local
    return want._replace(link=want.link._replace(local=have.local)) if lost or held else want


def was_replaced_by_other(name: str, inputs: PlanInput, observed: Observed) -> bool:
    """Whether somebody put a device of his own in the place of the one that we made: what is on it is his as well."""
    key = f"device {name}"
    have, made = observed.links.get(name), inputs.made.get(key)
    if have is None or not made:
        return False
    each = [holder.resource for holder in (*inputs.former.get(key, ()), *inputs.holders.get(key, ()))]
    asked = [want.link for want in each if isinstance(want, Device)] or [have]
    return not any(device.is_ours(have, made, want) for want in asked)
