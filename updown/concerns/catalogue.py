"""The list of concerns, and what a tunnel asks for by them, in the order in which a person reads it. Pure."""

from __future__ import annotations

from collections.abc import Callable

from updown.concerns import addresses, device, mss, mtu, peer_routes, routes, rules, sysctls
from updown.model.concern import Concern
from updown.model.context import Context
from updown.model.objects import MAIN_TABLE, placed
from updown.model.operations import Operation
from updown.model.resources import DeletionRule, Resource, Resources
from updown.settings.keys import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CONCERNS: tuple[Concern, ...] = (
    device.CONCERN,
    mtu.CONCERN,
    mss.CONCERN,
    sysctls.CONCERN,
    addresses.CONCERN,
    addresses.SOURCES,
    peer_routes.CONCERN,
    routes.CONCERN,
    rules.CONCERN,
)
"""Another concern is one more file, and its line here."""

BY_KIND = {concern.kind: concern for concern in CONCERNS}
BY_RECORD = {concern.record: concern for concern in CONCERNS}
KIND_OF_EFFECT = {"link": "device"}
"""Of an operation whose first word is no kind."""

VrfTable = Callable[[str], int]
"""Gives the routing table of a VRF device; raises KernelError where there is none."""


def key_of(asked: Resource) -> str:
    """The key of what is asked for; it begins with the kind's word."""
    concern = BY_RECORD[type(asked)]
    return f"{concern.kind} {concern.key(asked)}"


def dump(asked: Resource) -> list[Any]:
    """For JSON, which makes lists of the records and tuples in it."""
    return [BY_RECORD[type(asked)].kind, *asked]


def load(stored: list[Any]) -> Resource:
    """What `dump` stored; raises ValueError for anything else."""
    kind, *fields = stored
    concern = BY_KIND.get(kind)
    if concern is None:
        raise ValueError(f"no concern is of kind {kind}")
    try:
        made: Resource = concern.load(fields) if concern.load else concern.record(*fields)
    except (TypeError, LookupError):
        raise ValueError(f"a {kind} has other fields") from None
    return made


def concern_of(operation: Operation) -> Concern:
    """Whose an operation is."""
    return BY_KIND[operation.kind or KIND_OF_EFFECT.get(operation.effect, operation.effect)]


def in_vrf(settings: Settings, vrf_table: VrfTable) -> Settings:
    """The settings, with the VRF's own table where they name none. Raises KernelError where there is no such VRF."""
    if not settings.vrf:
        return settings
    own = vrf_table(placed(settings.vrf, settings.netns))
    return settings._replace(table=own) if settings.table == MAIN_TABLE else settings


def resources_of(
    context: Context,
    settings: Settings,
    found: device.DeviceRequest,
    row: DeletionRule,
    routed: bool,
    before: Resources = (),
    facts: mtu.MtuFacts | None = None,
) -> tuple[Resources, tuple[str, ...], tuple[str, ...]]:
    """The list of concerns, in the order in which a person reads them; remarks; warnings. `before`: what the claim asked for
    until now."""
    name = placed(found.name or "", settings.netns)
    devices = device.wants(context, settings, found, row)
    sizes = mtu.wants(context, settings, devices, facts, row.any_remote, before)
    settings = settings._replace(mtu=sizes.routes)
    wants: list[Resource] = [*devices, *sizes.resources, *mss.wants(settings, devices)]
    for link in [wanted.link for wanted in devices if not found.by_daemon]:
        wants += sysctls.wants(settings, link.name, link.kind)
    own = addresses.wants(context, settings, name)
    wants += [*sysctls.address_wants(own), *own, *addresses.source_wants(context, name, found.by_daemon, own)]
    routing = routes.wants(context, settings, found) if routed else routes.Routing()
    wants += [*routing.peers, *routing.routes, *rules.wants(context, settings, name)]
    return tuple(dict.fromkeys(wants)), routing.remarks, sizes.warnings
