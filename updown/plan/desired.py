"""The desired state: who of the claims on each touched resource has the word, and what should be there then. Pure.

What is here is all that knows of claims; plan/diff.py compares the result with what is left of what is there."""

from __future__ import annotations

from updown.concerns.addresses import is_link_local
from updown.concerns.catalogue import BY_KIND
from updown.model.claims import Holder
from updown.model.objects import Address
from updown.model.operations import Reason
from updown.model.resources import Left, Observed, device_of, split
from updown.plan.devices import was_replaced_by_other
from updown.plan.inputs import Choice, DeviceFate, PlanInput, Wanted, first_holder
from updown.plan.routes import Terms, choose_peer, choose_route, living_ways, lost_peers


def absent(inputs: PlanInput, observed: Observed) -> dict[str, Choice]:
    """What the last claim went from, and who it was."""
    found: dict[str, Choice] = {}
    for key, holders in inputs.holders.items():
        last = inputs.former.get(key, [])
        kind, _ = split(key)
        if holders or not last or kind == "device":
            continue
        asked = last[-1].resource
        noted = BY_KIND[kind].owner != "ledger" or inputs.made.get(key) is not None
        if noted:  # an address that we added may be on somebody else's device by now
            others = inputs.made.get(key) is not None and was_replaced_by_other(device_of(asked), inputs, observed)
            found[key] = Choice(absent=() if others else ((asked, Reason("last", last[-1].connection)),))
    return found


def present(inputs: PlanInput, left: Left, fates: dict[str, DeviceFate]) -> dict[str, Choice]:
    """What claims ask for beside devices."""
    down = frozenset(name for name in inputs.liveness.no_sa if fates.get(name, DeviceFate()).ours)
    lost = lost_peers(inputs, left)
    terms = Terms(down, lost, living_ways(inputs, left, fates, down, lost), fates)
    found: dict[str, Choice] = {}
    for key, holders in inputs.holders.items():
        kind, _ = split(key)
        holder = first_holder(holders)
        fate = fates.get(device_of(holder.resource), DeviceFate()) if holder else DeviceFate()
        if holder is None or kind == "device" or not fate.usable:
            continue
        if kind == "route":
            found[key] = choose_route(holders, inputs, left, terms)
        elif kind == "peer":
            found[key] = choose_peer(holder, left, lost)
        elif kind != "sysctl" or fate.ours:
            found[key] = first_come(kind, holder, left, fate, down)
    return found


def first_come(kind: str, holder: Holder, left: Left, fate: DeviceFate, down: frozenset[str]) -> Choice:
    """The first claim has it; but for a link-local address on a device that is down, which the kernel takes away."""
    thing = BY_KIND[kind].thing(holder.resource, left, fate.link if fate.ours else None)
    if isinstance(thing, Address) and thing.device in down and is_link_local(thing):
        return Choice()
    return Choice(Wanted(thing, holder.claim.connection) if thing is not None else None)
