"""A plan while it is being made, and what it is made from."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from updown.model.claims import FormerHolder, Holder
from updown.model.operations import Operation
from updown.model.record import NamedTuple


class Liveness(NamedTuple):
    """Devices that are to be down, since they follow their tunnels and have none (ours alone are set down), and devices whose
    far end is silent: routes into them wait."""

    no_sa: frozenset[str] = frozenset()
    peer_silent: frozenset[str] = frozenset()


class PlanInput(NamedTuple):
    """Everything a plan is made from: the touched resources with who asks for them now, who asked before, and what we made.

    `newest` is the key of the claim this event made or renewed; on a device its word counts for its tunnel.
    """

    holders: dict[str, list[Holder]]
    ended: dict[str, list[FormerHolder]]
    made: dict[str, int | None]
    newest: str = ""
    signals: Liveness = Liveness()
    mtus: Mapping[str, int] = MappingProxyType({})  # by device: the least that its claims ask for, in bytes
    used: frozenset[str] = frozenset()  # devices that tunnels use of which a lost ledger knew
    ends: bool = False  # the event ends something and makes nothing: no conflict keeps it from that
    anew: bool = False  # the machine's own routes may have changed: the ways to the peers follow them


class Plan(NamedTuple):
    """What to do, what to tell, and, by resource, what we then have made (None: no longer)."""

    operations: tuple[Operation, ...]
    warnings: tuple[str, ...]
    made: dict[str, int | None]


class DeviceFates(NamedTuple):
    """What becomes of the touched devices: those whose addresses and routes go, are new, or cannot be used; and the MTU of
    those that get one from us."""

    removed: tuple[str, ...]
    created: tuple[str, ...]
    unusable: tuple[str, ...]
    foreign: tuple[str, ...]
    mtus: dict[str, int]
    down: frozenset[str] = frozenset()  # to be: nothing can be routed into them


class PlanBuilder:
    """A plan while it is being made: operations by phase, warnings, and what we will have made. `lost`: peers to whom there is
    no way but their own tunnel."""

    def __init__(self) -> None:
        self.lost: frozenset[str] = frozenset()
        self.phases: dict[str, list[Operation]] = {
            phase: []
            for phase in (
                "unrule",
                "unroute",
                "unclamp",
                "strip",
                "hand over",
                "delete",
                "unpeer",
                "make",
                "tune",
                "address",
                "raise",
                "state",
                "clamp",
                "source",
                "peer",
                "route",
                "rule",
                "lower",
            )
        }
        self.warnings: list[str] = []
        self.made: dict[str, int | None] = {}

    def done(self) -> Plan:
        """The plan, in order."""
        operations = [operation for phase in self.phases.values() for operation in phase]
        return Plan(tuple(dict.fromkeys(operations)), tuple(dict.fromkeys(self.warnings)), self.made)


def authoritative_holder(holders: list[Holder], newest: str) -> Holder | None:
    """Whose word counts on a device: the claim of this event, else the latest of the tunnel that was the first to come: a
    child's newest SA may have another key."""
    if not holders:
        return None
    mates = [holder for holder in holders if holder.claim.tunnel == holders[0].claim.tunnel]
    return next((holder for holder in holders if holder.claim.key == newest), mates[-1])


def first_holder(holders: list[Holder], newest: str = "") -> Holder | None:
    """Whose word counts: the claim of this event, else the first to come."""
    for holder in holders:
        if holder.claim.key == newest:
            return holder
    return holders[0] if holders else None
