"""What the kernel takes along with a removed device or address, and how it is put back."""

from __future__ import annotations

from updown.concerns import addresses, sysctls
from updown.model.objects import OUR_PROTOCOL, Address, Route, family, host
from updown.model.operations import Operation
from updown.model.resources import Observed, SourceAddress, device_of, route_key
from updown.plan.order import DeviceFates, PlanBuilder, PlanInput, first_holder


def left_of(observed: Observed, devices: DeviceFates) -> Observed:
    """What there is once devices are deleted, and others made: on a new one no address and no route, sysctls by default."""
    gone = set(devices.removed)
    files = dict(observed.sysctls)
    for path in observed.sysctls:
        name = path.split("/")[3]
        if name in devices.created:
            files[path] = sysctls.initial_value(path, name, observed.sysctls, devices.mtus.get(name, 0))
    lost = {host(one.address) for name in gone for one in observed.addresses.get(name, ())}
    return observed._replace(
        paths={end: None if end in lost else way for end, way in observed.paths.items()},
        addresses={name: () if name in gone else there for name, there in observed.addresses.items()},
        routes={key: None if have and set(have.devices) <= gone else have for key, have in observed.routes.items()},
        sysctls=files,
    )


def restore_lost(ground: PlanInput, observed: Observed, draft: PlanBuilder) -> None:
    """Plan anew what the kernel takes along with a removed address: routes that prefer it as source; with the last IPv4 address
    all IPv4 routes of the device, the administrator's too; with a subnet's primary address the subnet's others
    (net/ipv4/fib_frontend.c fib_del_ifaddr, devinet.c)."""
    withdrawn = [operation.subject for operation in draft.phases["unroute"]]
    removed = [operation.subject for operation in draft.phases["strip"] if isinstance(operation.subject, Address)]
    for address in removed:
        bare = host(address.address)
        four = family(address.address) == 4
        left = [
            other
            for other in observed.addresses.get(address.device, ())
            if family(other.address) == family(address.address) and other not in removed
        ]
        along = [other for other in left if four and addresses.same_subnet(other, address)]
        for other in along:
            why = f"it may go with {address.address}, its subnet's first"
            draft.phases["address"].append(Operation("address add", other, reason=why))
        lost = {bare, *(host(other.address) for other in along)}
        flushed = four and len(along) == len(left)
        for name, holders in ground.holders.items():
            holder = first_holder(holders)
            if holder is not None and isinstance(holder.resource, Route):
                have = observed.routes.get(route_key(holder.resource))
                taken = have is not None and (have.source in lost or (flushed and family(have.destination) == 4))
                if have and have.hops and taken and address.device in have.devices and have not in withdrawn:
                    why = f"{holder.claim.connection}: a hop of it goes with {address.address}"
                    draft.phases["route"] += multipath_again(have, draft, why)
            if holder is None or device_of(holder.resource) != address.device:
                continue
            want, why = holder.resource, f"{holder.claim.connection}: it goes with {address.address}"
            if isinstance(want, SourceAddress) and want.address == bare and addresses.as_address(want) not in left:
                draft.phases["source"].append(
                    Operation("address add", addresses.as_address(want), reason=why, makes=name)
                )
                draft.made[name] = 0
            elif isinstance(want, Route) and observed.routes.get(route_key(want)) == want and want not in withdrawn:
                taken = want.source in lost or (flushed and family(want.destination) == 4)
                if taken:
                    draft.phases["route"].append(Operation("route replace", want, reason=why))
        for route in observed.others.get(address.device, ()) if flushed else ():
            why = f"it is not ours and goes with {address.address}"
            draft.phases["route"].append(Operation("route add", route, reason=why))


def multipath_again(have: Route, draft: PlanBuilder, why: str) -> list[Operation]:
    """A multipath route put back as it is, unless the plan changes it anyway. It has to go first: one with the same hops would
    be the same to the kernel, and keep the dead one (net/ipv4/fib_semantics.c fib_find_info)."""
    if have.protocol != OUR_PROTOCOL or any(operation.before == have for operation in draft.phases["route"]):
        return []
    return [Operation("route replace", have, have, why)]
