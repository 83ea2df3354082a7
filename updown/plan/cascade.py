"""What is left of what is there once a plan has removed something: what the kernel takes along, and what it may. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from updown.concerns import addresses, sysctls
from updown.model.objects import OUR_PROTOCOL, Address, Route, family, host
from updown.model.resources import Left, Observed, RouteKey
from updown.plan.inputs import Fates


def removed_devices(fates: Fates) -> frozenset[str]:
    """Those that the plan deletes."""
    return frozenset(name for name, fate in fates.items() if fate.is_removed)


def without_devices(observed: Observed, fates: Fates) -> Left:
    """What there is once devices are deleted, and others made: no address and no route on those, on a new one sysctls by
    default and no IPv6 where that does not fit. Of a multipath route the kernel takes one hop, or with IPv4 all
    (net/ipv4/fib_semantics.c fib_sync_down_dev, net/ipv6/route.c fib6_ifdown)."""
    gone = removed_devices(fates)
    created = {name: fate.link.mtu for name, fate in fates.items() if fate.is_created and fate.link}
    lost = {host(one.address) for name in gone for one in observed.addresses.get(name, ())}
    routes: dict[RouteKey, Route | None] = {}
    doubtful: dict[object, str] = {}
    for key, have in observed.routes.items():
        hops = set(have.devices) & gone if have else set()
        routes[key] = None if have and hops == set(have.devices) else have
        if hops and routes[key] is not None:
            doubtful[have] = min(hops)
    files = dict(observed.things.get("sysctl", {}))
    for path in files:
        name = path.split("/")[3]
        if name in created:
            files[path] = sysctls.initial_value(path, name, observed.things["sysctl"], created[name])
    kept = {name: () if name in gone else there for name, there in observed.addresses.items()}
    paths = {end: None if end in lost else way for end, way in observed.paths.items()}
    left = Left(*observed)._replace(addresses=kept, routes=routes, paths=paths, doubtful=doubtful)
    return left._replace(things={**observed.things, "sysctl": files})


def without_addresses(left: Left, removed: Iterable[Address]) -> Left:
    """What there is once addresses are removed. The kernel takes along routes that prefer one as source, with a device's last
    IPv4 address all its IPv4 routes, the administrator's too, and with a subnet's primary address the subnet's others, unless
    promote_secondaries is set: these are doubtful (net/ipv4/fib_frontend.c fib_del_ifaddr, devinet.c)."""
    gone = list(removed)
    kept = {name: tuple(one for one in there if one not in gone) for name, there in left.addresses.items()}
    others: dict[str, tuple[Route, ...]] = {}
    doubtful = dict(left.doubtful)
    for one in gone:
        four = family(one.address) == 4
        mates = [other for other in kept.get(one.device, ()) if family(other.address) == family(one.address)]
        along = [other for other in mates if four and addresses.same_subnet(other, one)]
        doubtful.update(dict.fromkeys(along, one.address))
        flushed = four and len(along) == len(mates)
        sources = {host(address.address) for address in (one, *along)}
        for have in left.routes.values():
            if have is None or have.protocol != OUR_PROTOCOL or one.device not in have.devices:
                continue
            if have.source in sources or (flushed and family(have.destination) == 4):
                doubtful.setdefault(have, one.address)
        if flushed:  # the kernel takes no source that is no address of its own any more
            others[one.device] = tuple(other for other in left.others.get(one.device, ()) if other.source not in sources)
    paths = {end: None if end in {host(one.address) for one in gone} else way for end, way in left.paths.items()}
    return left._replace(addresses=kept, paths=paths, others=others, doubtful=doubtful)
