"""Who asks for what an event touches, and what the kernel shows of it: the ground that a plan stands on."""

from __future__ import annotations

from collections.abc import Sequence

from updown.concerns import addresses, device, mtu
from updown.kernel.netlink.rtnetlink import Netlink
from updown.kernel.observe import observe
from updown.ledger.liveness import blocks_routes, liveness
from updown.ledger.store import Ledger
from updown.model.claims import Claim, FormerHolder
from updown.model.objects import Address, Route, family, host
from updown.model.resources import Device, Observed, PeerRoute, Resource, SourceAddress, key_of, split
from updown.plan.order import PlanInput, authoritative_holder


def look_at_touched(
    touched: Sequence[str],
    ended: dict[str, list[FormerHolder]],
    newest: str,
    ledger: Ledger,
    netlink: Netlink,
    anew: bool = False,
) -> tuple[PlanInput, Observed]:
    """Who asks for what is touched, and what the kernel shows of it; `anew` as in observe.

    Where a device must be made anew, was found without its routes, or loses an address, everything that hangs on it is touched
    too.
    """
    names = list(dict.fromkeys(touched))
    ground = inputs_of(names, ended, newest, ledger)
    observed = observe(netlink, resources_in(ground), (), anew)
    devices = disturbed_devices(ground, observed)
    hanging = [name for device_name in devices for name in ledger.keys_on(device_name)]
    hanging += [name for source in sources_lost(ground, observed, devices) for name in ledger.keys_beside(source)]
    if set(hanging) - set(names) or any(observed.links.get(name) for name in devices):
        ground = inputs_of([*names, *hanging], ended, newest, ledger)
        observed = observe(netlink, resources_in(ground), devices, anew)
    return ground, observed


def inputs_of(names: Sequence[str], ended: dict[str, list[FormerHolder]], newest: str, ledger: Ledger) -> PlanInput:
    """What the ledger knows of these resources."""
    devices = [split(name)[1] for name in names if name.startswith("device ")]
    clamps = [f"firewall {name}" for name in devices]  # their rules have the device's MTU in them
    names = list(dict.fromkeys([*names, *(name for name in clamps if ledger.made(name) is not None)]))
    holders = {name: ledger.holders(name, newest) for name in names}
    shared = [
        name
        for name, found in holders.items()
        if found and isinstance(found[0].resource, Route) and found[0].resource.joins
    ]
    holders.update({name: ledger.holders(name, newest, each_device=True) for name in shared})
    ways = peer_routes_of([one.claim for name in names if name.startswith("route ") for one in holders[name]])
    names += [name for name in ways if name not in holders]
    holders = {name: holders[name] if name in holders else ledger.holders(name, newest) for name in names}
    found = liveness(holders, ended, newest, ledger)
    shut = [
        name for name in names if name.startswith("route ") and holders[name] and blocks_routes(found, holders[name][0])
    ]
    if shut:  # who comes first cannot have the route now: who does?
        holders.update({name: ledger.holders(name, newest, each_device=True) for name in shut})
        found = liveness(holders, ended, newest, ledger)
    mtus = {name: mtu.device_mtu(*ledger.least_mtus(name)) for name in devices}
    return PlanInput(holders, ended, {name: ledger.made(name) for name in names}, newest, found, mtus)


def peer_routes_of(claims: list[Claim]) -> list[str]:
    """The ways to the peers of these claims: they decide whether a route may stand."""
    each = {claim.key: claim for claim in claims}.values()
    return list(dict.fromkeys(key_of(want) for one in each for want in one.resources if isinstance(want, PeerRoute)))


def resources_in(ground: PlanInput) -> list[Resource]:
    """Everything the ground speaks of, so that all of it is observed."""
    asked = [holder.resource for holders in ground.holders.values() for holder in holders]
    return asked + [old.resource for name in ground.holders for old in ground.ended.get(name, [])]


def disturbed_devices(ground: PlanInput, observed: Observed) -> tuple[str, ...]:
    """Devices on which more than the touched resources needs a look."""
    found: list[str] = []
    for name, holders in ground.holders.items():
        kind, rest = split(name)
        if kind == "device" and holders:
            link = observed.links.get(rest)
            holder = authoritative_holder(holders, ground.newest)
            want = holder.resource if holder else None
            assert isinstance(want, Device)
            idle = rest in ground.signals.no_sa and link and device.is_ours(link, ground.made.get(name), want.link)
            if link is None or not (link.up or idle) or not device.changes_in_place(want.link, link):
                found.append(rest)
    for device_name, gone in addresses_removed(ground, observed).items():
        have = observed.addresses.get(device_name, ())
        left = [other for other in have if not any(other == one or addresses.same_subnet(other, one) for one in gone)]
        if not set(gone) <= set(have) or not any(family(other.address) == 4 for other in left):
            found.append(device_name)
    return tuple(dict.fromkeys(found))


def addresses_removed(ground: PlanInput, observed: Observed) -> dict[str, list[Address]]:
    """By device, the addresses of ours that nobody asks for any more; not of devices that go themselves."""
    found: dict[str, list[Address]] = {}
    for name, holders in ground.holders.items():
        last = ground.ended.get(name, [])
        want = last[-1].resource if last and not holders and ground.made.get(name) is not None else None
        if isinstance(want, (Address, SourceAddress)) and not is_deleted(want.device, ground, observed):
            found.setdefault(want.device, []).append(addresses.as_address(want))
    return found


def is_deleted(device_name: str, ground: PlanInput, observed: Observed) -> bool:
    """Whether the device is deleted with its last claim (as plan.release_device does)."""
    name = f"device {device_name}"
    have = observed.links.get(device_name)
    wants = [last.resource for last in ground.ended.get(name, []) if isinstance(last.resource, Device)]
    if have is None or not wants or name not in ground.holders or ground.holders[name]:
        return False
    return all(want.with_last for want in wants) and device.is_ours(have, ground.made.get(name), wants[-1].link)


def sources_lost(ground: PlanInput, observed: Observed, devices: Sequence[str]) -> list[str]:
    """The source addresses whose routes the kernel takes along with an address that goes, where the device keeps others, so
    that only these need a look."""
    found: list[str] = []
    for device_name, gone in addresses_removed(ground, observed).items():
        for one in gone if device_name not in devices else ():
            along = [other for other in observed.addresses[device_name] if addresses.same_subnet(other, one)]
            found += [f"source {device_name} {host(other.address)}" for other in along]
    return found
