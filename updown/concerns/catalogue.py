"""The list of concerns: what a tunnel asks for, in the order in which a person reads it. Pure."""

from __future__ import annotations

from collections.abc import Callable

from updown.concerns import addresses, device, mss, mtu, routes, rules, sysctls
from updown.model.context import Context
from updown.model.objects import MAIN_TABLE, placed
from updown.model.resources import DeletionRule, Resource, Resources
from updown.settings.keys import Settings

VrfTable = Callable[[str], int]
"""Gives the routing table of a VRF device; raises KernelError where there is none."""


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
