"""What a plan is made from, and what it is."""

from __future__ import annotations

from collections.abc import Mapping

from updown.concerns.device import is_kept
from updown.model.claims import FormerHolder, Holder
from updown.model.errors import Notice
from updown.model.objects import Link, Route
from updown.model.operations import Operation, Reason, Thing
from updown.model.record import NamedTuple
from updown.model.resources import EMPTY, MtuSum, Resource

ADOPT, RELEASE = "\0adopt", "\0release"
"""Who asks in plan/ownership.py; no connection has such a name, since no variable of the environment has a NUL."""


class Liveness(NamedTuple):
    """Devices that follow their tunnels and have none up, so that they are to be down (ours alone are set down), and devices
    whose far end is silent: their routes yield. Of these the ones without an SA are `asleep`: a trap's traffic wakes them."""

    no_sa: frozenset[str] = frozenset()
    peer_silent: frozenset[str] = frozenset()
    asleep: frozenset[str] = frozenset()


class PlanInput(NamedTuple):
    """The touched resources with who asks for them now, who asked before, and what we made. `newest` is the key of the claim
    this event made or renewed; on a device its word counts for its tunnel."""

    holders: dict[str, list[Holder]]
    former: dict[str, list[FormerHolder]]
    made: dict[str, int | None]
    newest: str = ""
    liveness: Liveness = Liveness()
    mtus: Mapping[str, int] = EMPTY  # by device: the least that its claims ask for, in bytes
    in_use: frozenset[str] = frozenset()  # device keys: tunnels use them of which a lost ledger knew
    only_ends: bool = False  # the event ends something and makes nothing: no conflict keeps it from that
    beside: Mapping[str, list[Holder]] = EMPTY  # who asks for routes of living tunnels around those that are touched


class Wanted(NamedTuple):
    """What should stand in a resource's place, or nothing (None), and the connection that asks for it, or was the last to."""

    thing: Thing | None
    by: str
    total: MtuSum | None = None  # of a device: the sum behind its MTU


class DeviceFate(NamedTuple):
    """What is decided over a device: `wanted` None leaves it as it is; where it is not `ours` its sysctls stay, and where it is
    not `usable` nothing is put on it; `made` is what the ledger notes then (its index, None: not ours any more)."""

    wanted: Wanted | None = None
    ours: bool = True
    usable: bool = True
    warnings: tuple[Notice, ...] = ()
    made: tuple[int | None, ...] = ()
    have: Link | None = None  # what is there now

    @property
    def link(self) -> Link | None:
        """The device that should be there."""
        return self.wanted.thing if self.wanted else None

    @property
    def is_created(self) -> bool:
        """Whether the plan makes the device, or makes it anew."""
        return self.ours and self.link is not None and (self.have is None or not is_kept(self.link, self.have))

    @property
    def is_removed(self) -> bool:
        """Whether the plan deletes the device, for good or to make it anew."""
        return self.have is not None and self.wanted is not None and (self.link is None or self.is_created)


Fates = Mapping[str, DeviceFate]
"""By the device's name."""


class Choice(NamedTuple):
    """What is decided over another resource: what should be there, where that is for us to say, what of ours should go, and
    why, and what people should know. `early`: a route that comes before others go, so that nothing leaves in clear; `yields`: a
    route that is not there while another tunnel lives, and why."""

    wanted: Wanted | None = None
    absent: tuple[tuple[Resource, Reason], ...] = ()
    warnings: tuple[Notice, ...] = ()
    early: bool = False
    yields: tuple[Route, Reason] | None = None
    remarks: tuple[str, ...] = ()


class Plan(NamedTuple):
    """What to do, what to tell, and, by resource, what we then have made (None: no longer)."""

    operations: tuple[Operation, ...]
    warnings: tuple[Notice, ...]
    made: dict[str, int | None]
    remarks: tuple[str, ...] = ()


def authoritative_holder(holders: list[Holder], newest: str) -> Holder | None:
    """Whose word counts on a device: the claim of this event, else the latest of the tunnel that was the first to come: a
    child's newest SA may have another key."""
    if not holders:
        return None
    mates = [holder for holder in holders if holder.claim.tunnel == holders[0].claim.tunnel]
    return next((holder for holder in holders if holder.claim.key == newest), mates[-1])


def first_holder(holders: list[Holder], newest: str = "") -> Holder | None:
    """Whose word counts: the claim of this event, else the first to come."""
    return next((holder for holder in holders if holder.claim.key == newest), holders[0] if holders else None)


def is_ownership(old: FormerHolder) -> bool:
    """Whether this is a note of `adopt` or `release`."""
    return old.connection in (ADOPT, RELEASE)
