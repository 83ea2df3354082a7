"""The plan: ordered operations that take what is there to what is desired. Pure.

First what goes is decided, then what the kernel leaves then, and the desired state is compared with that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from updown.concerns import device
from updown.concerns.catalogue import BY_KIND
from updown.concerns.routes import restored
from updown.model.objects import Address, Route
from updown.model.operations import Operation, Reason
from updown.model.resources import Left, Observed, route_key, split
from updown.plan.cascade import removed_devices, without_addresses, without_devices
from updown.plan.desired import absent, present
from updown.plan.devices import device_fates
from updown.plan.inputs import Choice, Fates, Plan, PlanInput
from updown.plan.order import make_before_break, ordered
from updown.plan.routes import moved_peers


def make_plan(inputs: PlanInput, observed: Observed) -> Plan:
    """The plan for the touched resources; raises Conflict where something not ours stands in a device's place."""
    fates = device_fates(inputs, observed)
    left = without_devices(observed, fates)
    gone = absent(inputs, observed)
    removals = removed(gone, left)
    left = without_addresses(left, [one.subject for one in removals if isinstance(one.subject, Address)])
    left = left._replace(moved=moved_peers(inputs, left))
    wanted = present(inputs, left, fates)
    operations = [*changed_links(fates), *removals, *removed(wanted, left), *added(wanted, left)]
    down = frozenset(name for name in inputs.liveness.no_sa if name not in fates or fates[name].ours)
    operations += put_back(operations, left, removed_devices(fates) | down)
    waiting = frozenset(key for key, choice in wanted.items() if choice.early)
    operations, early = make_before_break(operations, observed, fates, waiting)
    made: dict[str, int | None] = {f"device {name}": value for name, fate in fates.items() for value in fate.made}
    made.update({key: None for key in gone if BY_KIND[split(key)[0]].owner != "kernel"})
    made.update({one.makes: 0 for one in operations if one.makes and one.effect != "link"})
    named = [key for key, choice in wanted.items() if choice.wanted and BY_KIND[split(key)[0]].owner == "name"]
    made.update(dict.fromkeys(named, 0))
    warnings = [text for fate in fates.values() for text in fate.warnings]
    warnings += [text for choice in wanted.values() for text in choice.warnings]
    remarks = [text for choice in wanted.values() for text in choice.remarks]
    return Plan(ordered(operations, early), tuple(dict.fromkeys(warnings)), made, tuple(remarks))


def withdrawn(inputs: PlanInput, observed: Observed) -> list[tuple[Route, Reason]]:
    """Of these routes, those that are not there while another tunnel lives, and why."""
    choices = present(inputs, Left(*observed), {})
    return [choice.yields for choice in choices.values() if choice.yields is not None]


def changed_links(fates: Fates) -> list[Operation]:
    """What brings the devices about."""
    found: list[Operation] = []
    for fate in fates.values():
        if fate.wanted and fate.link:
            want, by = fate.link, fate.wanted.by
            found += device.diff(want, fate.have, by, fate.wanted.total) if fate.ours else device.set_up(want, by)
        elif fate.wanted and fate.have:
            found.append(Operation("link delete", fate.have, reason=Reason("last holder", fate.wanted.by)))
    return found


def removed(choices: Mapping[str, Choice], left: Left) -> list[Operation]:
    """What ends what should not be there any more."""
    return [
        operation
        for key, choice in choices.items()
        for asked, reason in choice.absent
        for operation in BY_KIND[split(key)[0]].remove(asked, reason, left)
    ]


def added(choices: Mapping[str, Choice], left: Left) -> list[Operation]:
    """What brings about what should be there; the ledger notes what the kernel has no place to say of whose it is."""
    found: list[Operation] = []
    for key, choice in choices.items():
        concern = BY_KIND[split(key)[0]]
        if choice.wanted is not None and choice.wanted.thing is not None:
            operations = concern.diff(choice.wanted.thing, choice.wanted.by, left)
            found += [one._replace(makes=key) if concern.owner != "kernel" else one for one in operations]
    return found


def put_back(planned: Iterable[Operation], left: Left, shut: frozenset[str]) -> list[Operation]:
    """What the kernel may take along, or takes, with a removed address, and nobody wants to go; not on `shut` devices."""
    slots = {route_key(one.subject) for one in planned if isinstance(one.subject, Route)}
    found: list[Operation] = []
    for thing, address in left.doubtful.items():
        if isinstance(thing, Address):
            found.append(Operation("address add", thing, reason=Reason("subnet's first goes", what=address)))
        elif route_key(thing) not in slots and not set(thing.devices) & shut:
            found.append(restored(thing, thing, Reason("goes with", what=address)))
    for route in (one for name, there in left.others.items() if name not in shut for one in there):
        found.append(Operation("route add", route, reason=Reason("others' goes with", what=route.device)))
    return found
