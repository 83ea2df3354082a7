"""The order of a plan's operations. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from updown.concerns.catalogue import concern_of, key_of
from updown.concerns.routes import stands_for
from updown.model.objects import OUR_PROTOCOL, Route, host
from updown.model.operations import Operation
from updown.model.resources import Observed, route_key
from updown.plan.cascade import removed_devices
from updown.plan.inputs import Fates

ORDER = (
    "rule delete",
    "early route",  # a multipath route leaves a device before that goes
    "route delete",
    "other delete",
    "address delete",
    "route prepend",
    "device delete",
    "peer delete",
    "device add",
    "sysctl",
    "address add",
    "device set",
    "device multicast",
    "device state",
    "other add",
    "source add",
    "peer add",
    "route add",
    "late route",  # one that yields goes when the other one is there
    "rule add",
    "device down",  # last: what the kernel takes along cannot be undone
)
"""Steps of a plan: the concern's kind, and the verb; a change or replacement comes where its addition would. What no step names
comes where its device is there: tables of the firewall do."""

YIELDS = ("yields", "silent route")
"""Reasons for which a route goes to a living tunnel's."""

VERBS = {"replace": "add", "change": "add", "front": "add"}


def step(operation: Operation) -> str:
    """Where an operation comes."""
    if operation.reason.code in YIELDS:
        return "late route"
    kind = concern_of(operation).kind
    verb = operation.verb
    if verb == "set" and operation.subject.vrf != operation.before.vrf:
        verb = "add"  # to its VRF before it has addresses
    found = f"{kind} {VERBS.get(verb, verb)}".rstrip()
    return found if found in ORDER else f"other {verb if verb == 'delete' else 'add'}"


def ordered(operations: Iterable[Operation], early: Iterable[Operation] = ()) -> tuple[Operation, ...]:
    """Each operation once, step by step; of one step as they come."""
    steps: dict[str, list[Operation]] = {name: [] for name in ORDER}
    steps["early route"] = list(early)
    for operation in operations:
        steps[step(operation)].append(operation)
    return tuple(dict.fromkeys(operation for name in ORDER for operation in steps[name]))


def make_before_break(
    operations: list[Operation], observed: Observed, fates: Fates, first: frozenset[str]
) -> tuple[list[Operation], list[Operation]]:
    """The operations, with routes put beside the old ones before whose devices are deleted, which takes milliseconds, since the
    kernel waits for every processor; and what has to be done before that: to multipath routes, of which the kernel takes all of
    an IPv4 route with one device, and of an IPv6 route the one hop; and routes, by their keys in `first`, that come back."""
    gone = removed_devices(fates)
    addressed = {operation.subject.device for operation in operations if operation.effect == "address"}
    peers = any(operation.kind == "peer" and operation.verb != "delete" for operation in operations)
    found: list[Operation] = []
    early: list[Operation] = []
    for operation in operations:
        want, have = operation.subject, operation.before
        is_new = operation.action in ("route add", "route front")
        if operation.action == "route add" and not peers and is_ready(operation, observed, fates):
            operation = operation._replace(action="route prepend")
        elif is_new and not peers and key_of(stands_for(want) or want) in first and not addressed & set(want.devices):
            early.append(operation)
            continue
        elif operation.action == "route replace" and have and set(have.devices) & gone:
            if set(want.devices) <= set(have.devices) - gone:
                early.append(operation)
                continue
            early.append(Operation("route delete", have, reason=operation.reason))
            operation = operation._replace(action="route add", before=None)
        found.append(operation)
    return found, early


def is_ready(operation: Operation, observed: Observed, fates: Fates) -> bool:
    """Whether a route that is to be added stands now, as ours and on one device that goes, and could lead elsewhere at once.
    Two of IPv6 with gateways would become one by both devices (rt6_qualify_for_ecmp)."""
    want: Route = operation.subject
    if operation.kind or (want.gateway and ":" in want.destination):
        return False
    have, link = observed.routes.get(route_key(want)), observed.links.get(want.device)
    if have is None or have.protocol != OUR_PROTOCOL or have.hops or want.hops or link is None or not link.up:
        return False
    fate = fates.get(want.device)
    if fate and (fate.is_removed or fate.is_created or not fate.usable):
        return False
    own = {host(one.address) for one in observed.addresses.get(want.device, ())}
    path = observed.paths.get(want.source)  # local where another device of this machine has it, and no tunnel's
    return not want.source or want.source in own or (path is not None and path.local)
