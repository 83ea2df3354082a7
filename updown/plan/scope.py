"""What a plan has to look at: who asks for what an event touches, and what the kernel shows of it.

Everything else of the plan is pure; this reads the ledger and the kernel, by what the pure functions say that they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from updown.concerns import addresses, mtu
from updown.concerns.catalogue import key_of
from updown.kernel.netlink.rtnetlink import Netlink
from updown.kernel.netlink.xfrm import Xfrm
from updown.kernel.observe import observe
from updown.ledger.liveness import is_silent, is_up, living_over, waiting_within
from updown.ledger.store import Ledger
from updown.model.claims import Claim, FormerHolder, Holder
from updown.model.errors import UpdownError
from updown.model.ipsec import in_use, without_policies_of
from updown.model.objects import Address, Route, family, host
from updown.model.record import NamedTuple
from updown.model.resources import Observed, PeerRoute, Resource, SourceAddress, device_of, follows_tunnels, split
from updown.plan.cascade import removed_devices
from updown.plan.desired import absent
from updown.plan.devices import device_fates
from updown.plan.inputs import Fates, Liveness, PlanInput, authoritative_holder
from updown.plan.routes import may_yield, peers_asked


class Touched(NamedTuple):
    """What an event touches: keys of resources, who asked for them before, and the key of the claim that it made or renewed.
    `ended`: the claims that change; `only_ends` as in PlanInput; `alone`: nothing else is planned along."""

    keys: Sequence[str]
    former: dict[str, list[FormerHolder]]
    newest: str = ""
    ended: tuple[Claim, ...] = ()
    only_ends: bool = False
    alone: bool = False


def look(touched: Touched, ledger: Ledger, netlink: Netlink) -> tuple[PlanInput, Observed]:
    """Who asks for what is touched, and what the kernel shows of it. Raises Conflict where that shows that the event is in
    vain, and KernelError where a device's namespace is not there. Where a device is made, was found without its routes, or
    loses an address, everything that hangs on it is touched too."""
    keys = list(dict.fromkeys(touched.keys))
    inputs = inputs_of(keys, touched, ledger)
    if touched.alone:
        inputs = inputs._replace(holders={key: inputs.holders[key] for key in keys}, beside={})
        return inputs, observed_for(inputs, netlink)
    observed = observed_for(inputs, netlink)
    inputs = inputs._replace(in_use=used_by_other_tunnels(inputs, observed, touched.ended))
    fates = device_fates(inputs, observed)
    for name in fates:
        if fates[name].is_created:
            netlink.at(name)  # a namespace that is not there is told before anything is done, or shown
    leaving = removed_addresses(inputs, observed, fates)
    disturbed = disturbed_devices(observed, fates, leaving)
    hanging = [key for name in disturbed for key in ledger.keys_on(name)]
    hanging += [key for source in sources_lost(observed, leaving, disturbed) for key in ledger.keys_beside(source)]
    if set(hanging) - set(keys) or any(observed.links.get(name) for name in disturbed):
        inputs = inputs_of([*keys, *hanging], touched, ledger)._replace(in_use=inputs.in_use)
        observed = observed_for(inputs, netlink, disturbed)
    return inputs, observed


def observed_for(inputs: PlanInput, netlink: Netlink, disturbed: Sequence[str] = ()) -> Observed:
    """The kernel's answers for everything that is asked for, or was."""
    wants = resources_of({**inputs.beside, **inputs.holders}, inputs.former)
    return observe(netlink, wants, disturbed, frozenset(peers_asked(inputs)))


def inputs_of(keys: Sequence[str], touched: Touched, ledger: Ledger) -> PlanInput:
    """What the ledger knows of these resources."""
    newest = touched.newest
    devices = [split(key)[1] for key in keys if key.startswith("device ")]
    clamps = [f"firewall {name}" for name in devices]  # their rules have the device's MTU in them
    keys = list(dict.fromkeys([*keys, *(key for key in clamps if ledger.made(key) is not None)]))
    holders = {key: ledger.holders(key, newest) for key in keys}
    waiting = dict.fromkeys(key for route in routes_at(holders, touched.former) for key in waiting_within(ledger, route))
    holders.update({key: ledger.holders(key, newest) for key in waiting if key not in holders})
    first = {key: found[0].resource for key, found in holders.items() if found}
    shared = [key for key, asked in first.items() if isinstance(asked, Route) and asked.joins]
    holders.update({key: ledger.holders(key, newest, each_device=True) for key in shared})
    peers = peer_routes_of([one.claim for key in holders if key.startswith("route ") for one in holders[key]])
    holders.update({key: ledger.holders(key, newest) for key in peers if key not in holders})
    found = liveness(holders, touched, ledger)
    beside: dict[str, list[Holder]] = {}
    unsure = {key: each for key, each in holders.items() if any(may_yield(one, found) for one in each)}
    if unsure:  # who comes first may not have the route now: who does, or has one around it?
        around = {key for route in routes_at(unsure, {}) for key in living_over(ledger, route)}
        beside = {key: ledger.holders(key, newest, each_device=True) for key in sorted({*unsure, *around})}
        holders.update({key: beside.pop(key) for key in list(beside) if key in holders})
        found = liveness({**beside, **holders}, touched, ledger)
    mtus = {name: mtu.device_mtu(*ledger.least_mtus(name)) for name in devices}
    made = {key: ledger.made(key) for key in holders}
    return PlanInput(holders, touched.former, made, newest, found, mtus, only_ends=touched.only_ends, beside=beside)


def routes_at(holders: Mapping[str, list[Holder]], former: Mapping[str, list[FormerHolder]]) -> list[Route]:
    """A route of each key, as somebody asks for it or did."""
    asked = [(*(one.resource for one in holders[key]), *(old.resource for old in former.get(key, ()))) for key in holders]
    return [wants[0] for wants in asked if wants and isinstance(wants[0], Route)]


def peer_routes_of(claims: list[Claim]) -> list[str]:
    """The ways to the peers of these claims: they decide whether a route may stand."""
    each = {claim.key: claim for claim in claims}.values()
    return list(dict.fromkeys(key_of(want) for one in each for want in one.resources if isinstance(want, PeerRoute)))


def resources_of(holders: Mapping[str, list[Holder]], former: Mapping[str, list[FormerHolder]]) -> list[Resource]:
    """What is asked for by these keys, and was."""
    asked = [holder.resource for found in holders.values() for holder in found]
    return asked + [old.resource for key in holders for old in former.get(key, ())]


def liveness(holders: Mapping[str, list[Holder]], touched: Touched, ledger: Ledger) -> Liveness:
    """Of the devices that these resources hang on: those that follow their tunnels and have none, and those whose far end is
    silent."""
    devices = list(dict.fromkeys(map(device_of, resources_of(holders, touched.former))))
    no_sa: list[str] = []
    for device in devices:
        key = f"device {device}"
        found = holders[key] if key in holders else ledger.holders(key, touched.newest)
        holder = authoritative_holder(found, touched.newest)
        wants = [holder.resource] if holder else [old.resource for old in touched.former.get(key, ())][-1:]
        if follows_tunnels(wants) and not is_up(ledger, device):
            no_sa.append(device)
    silent = frozenset(device for device in devices if is_silent(ledger, device))
    return Liveness(frozenset(no_sa), silent, frozenset(device for device in silent if not is_up(ledger, device)))


def used_by_other_tunnels(inputs: PlanInput, observed: Observed, ended: tuple[Claim, ...]) -> frozenset[str]:
    """The devices about to be left that this ledger did not make, but one that was lost (a negative index says so), and whose
    key is in IPsec policies beside those of the claims that end."""
    found = [
        (key, link)
        for key, holders in inputs.holders.items()
        if key.startswith("device ") and not holders and (inputs.made.get(key) or 0) < 0
        for link in [observed.links.get(split(key)[1])]
        if link is not None
    ]
    if not found:
        return frozenset()
    try:
        with Xfrm() as socket:
            others = without_policies_of(ended, socket.policies())
    except UpdownError:
        return frozenset(key for key, _ in found)
    return frozenset(key for key, link in found if in_use(link, others))


def disturbed_devices(observed: Observed, fates: Fates, leaving: Mapping[str, list[Address]]) -> tuple[str, ...]:
    """Devices on which more than the touched resources needs a look: made, set up, or with addresses that leave and take others
    along. One that cannot be used, or is a daemon's and not there, needs none, however many claims are on it (promise P9)."""
    found: list[str] = []
    for name, fate in fates.items():
        if fate.is_created or (fate.have and fate.link and fate.link.up and not fate.have.up):
            found.append(name)
    for name, gone in leaving.items():
        there = observed.addresses.get(name, ())
        left = [other for other in there if not any(other == one or addresses.same_subnet(other, one) for one in gone)]
        if not set(gone) <= set(there) or not any(family(other.address) == 4 for other in left):
            found.append(name)
    return tuple(dict.fromkeys(found))


def removed_addresses(inputs: PlanInput, observed: Observed, fates: Fates) -> dict[str, list[Address]]:
    """By device, the addresses of ours that nobody asks for any more; not of devices that go themselves."""
    gone = removed_devices(fates)
    found: dict[str, list[Address]] = {}
    for choice in absent(inputs, observed).values():
        for asked, _ in choice.absent:
            if isinstance(asked, (Address, SourceAddress)) and asked.device not in gone:
                found.setdefault(asked.device, []).append(addresses.as_address(asked))
    return found


def sources_lost(observed: Observed, leaving: Mapping[str, list[Address]], disturbed: Sequence[str]) -> list[str]:
    """The source addresses whose routes the kernel takes along with an address that goes, where the device keeps others, so
    that only these need a look."""
    gone = [one for name, each in leaving.items() if name not in disturbed for one in each]
    pairs = [(other, one) for one in gone for other in observed.addresses[one.device]]
    return [f"source {one.device} {host(other.address)}" for other, one in pairs if addresses.same_subnet(other, one)]
