"""The list of concerns, and what a tunnel asks for by them, in the order in which a person reads it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from updown.concerns import addresses, device, device_request, mss, mtu, peer_routes, routes, rules, sysctls
from updown.concerns.device_request import DeviceRequest, Routing, Tunnel, name_kept, request_device
from updown.model.claims import Claim, SaInfo
from updown.model.concern import Concern
from updown.model.errors import Notice, Refused
from updown.model.objects import MAIN_TABLE, placed
from updown.model.operations import Operation
from updown.model.record import Any, NamedTuple
from updown.model.resources import DeletionRule, Resource, Resources
from updown.settings.file import Line, effective_lines, resolve
from updown.settings.keys import Settings

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

VtiBetween = Callable[[str, str], str]
"""Gives the VTI that a claim of the same tunnel has between two ends; empty where there is none."""


class Derivation(NamedTuple):
    """A claim with what it asks for and the device it is on, remarks, the settings that say so, and warnings."""

    claim: Claim
    remarks: tuple[str, ...]
    settings: Settings
    warnings: tuple[Notice, ...]


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


def resources_of(sa: SaInfo, found: DeviceRequest, row: DeletionRule, routed: bool) -> tuple[Resources, Routing]:
    """The list of concerns, in the order in which a person reads them; and what there is to say of its routes."""
    tunnel = Tunnel(sa, found, row, device_request.devices(sa, found, row))
    if routed:
        tunnel = tunnel._replace(routing=routes.routing_of(tunnel))
    wants = [want for concern in CONCERNS for want in concern.wants(tunnel)]
    return tuple(dict.fromkeys(wants)), tunnel.routing


def derive(claim: Claim, found: DeviceRequest, lines: tuple[Line, ...], vrf_table: VrfTable, between: VtiBetween) -> Derivation:
    """What a claim asks for by its facts and the device `found`, or, by `lines`, that whose name it keeps. Raises Refused or
    KernelError for settings that do not fit."""
    name = name_kept(found, claim.sa, claim.deletion, between)
    settings = found.settings
    if name not in ("", found.name):
        settings, lacks = device_request.fill_settings(resolve(lines, claim.connection, name), claim.sa)
        if lacks:
            raise Refused(lacks)
    if settings.address:
        said = effective_lines(lines, claim.connection, name or found.name or "")["address"]
        addresses.check_outer(settings, claim.sa.peer, said.where)
    found = found._replace(name=name or found.name, settings=in_vrf(settings, vrf_table))
    wants, routing = resources_of(claim.sa, found, claim.deletion, claim.routed)
    claim = claim._replace(resources=wants)
    first = next((want.link.name for want in claim.devices), "")
    return Derivation(claim._replace(device=first), routing.remarks, found.settings, routing.warnings)


def derive_again(claim: Claim, lines: tuple[Line, ...], vrf_table: VrfTable) -> Claim:
    """A claim with what it asks for by its facts and the settings as they are now; strongSwan's VTI keeps its name. Raises
    Refused or KernelError for settings that do not fit."""
    found = request_device(claim.sa, partial(resolve, lines, claim.connection))
    if found.name is None:
        raise Refused(found.reason)
    return derive(claim, found, lines, vrf_table, lambda _local, _remote: claim.device).claim
