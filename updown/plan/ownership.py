"""Whose a device is: our marks on it and on its routes, and what the ledger says we made, whatever claims ask for. Pure.

`adopt` and `release` are noted as unfinished in the place of a connection, so that one that is killed is finished by the next
event as it was begun."""

from __future__ import annotations

from updown.model.objects import OUR_ALIAS, OUR_PROTOCOL, Route, has_our_alias
from updown.model.operations import Operation, Reason
from updown.model.resources import Device, Observed, route_key
from updown.plan.inputs import ADOPT, RELEASE, Plan, PlanInput, is_ownership

STATIC = 4  # RTPROT_STATIC: a route that an administrator made


def plan_ownership(inputs: PlanInput, observed: Observed) -> Plan:
    """Mark as ours what is adopted; take our marks off what is released, last off the device, without which a second call would
    take it for another's. A device that somebody put in the place of an adopted one is not ours."""
    asked = [(name, old) for name, each in inputs.former.items() for old in each if is_ownership(old)]
    made: dict[str, int | None] = {name: None for name, old in asked if not isinstance(old.resource, Route)}
    routes: list[Operation] = []
    marks: list[Operation] = []
    for name, (who, want) in asked:
        if isinstance(want, Route):
            have = observed.routes.get(route_key(want))
            if have is not None and have.protocol == OUR_PROTOCOL and want.device in have.devices:
                theirs = have._replace(device=want.device, hops=(), protocol=STATIC)
                why = Reason("ours no more")
                routes.append(Operation("route replace", theirs, have if have.hops else None, why))
        elif isinstance(want, Device):
            link = observed.links.get(want.link.name)
            if link is not None and who == ADOPT and link.ifindex == want.link.ifindex:
                made[name] = link.ifindex
                marks.append(Operation("link set", link._replace(alias=OUR_ALIAS), link, Reason("ours"), name))
            elif link is not None and who == RELEASE and has_our_alias(link):
                marks.append(Operation("link set", link._replace(alias=""), link, Reason("ours no more")))
    return Plan((*routes, *marks), (), made)
