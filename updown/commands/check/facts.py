"""What `vti-updown check` gathers, and a finding; records alone."""

from __future__ import annotations

from updown.commands.reconcile.decide import Audit
from updown.kernel.netlink.route_messages import RouteSeen
from updown.kernel.ping import Answer, Question
from updown.ledger.liveness import Missed
from updown.model.claims import Claim
from updown.model.ipsec import Database
from updown.model.objects import Link
from updown.model.operations import Operation
from updown.model.record import NamedTuple
from updown.model.resources import Device
from updown.settings.file import Line

RECONCILE = "vti-updown reconcile"


class Finding(NamedTuple):
    """`check` is the name of what was looked at, `subject` what it is about (a device, a file, a connection, ...)."""

    kind: str
    subject: str
    text: str
    mend: str


class CheckFacts(NamedTuple):
    """Everything that was gathered. `xfrm` None: it could not be read. `sysctls` by path below /proc/sys; `lacking` the kernel
    modules and programs that are missing, each with what needs it. `audit` and `operations`: what `reconcile` would do now.
    `probed`: by device how its far end is asked, or why it cannot be."""

    root: bool = True
    claims: tuple[Claim, ...] = ()
    lines: tuple[Line, ...] = ()
    mistakes: tuple[tuple[str, str], ...] = ()
    links: tuple[Link, ...] = ()
    sysctls: dict[str, str | None] = {}  # noqa: RUF012
    charon_routes: tuple[RouteSeen, ...] = ()
    xfrm: Database | None = None
    audit: Audit = Audit()
    operations: tuple[Operation, ...] = ()
    missed: dict[str, Missed] = {}  # noqa: RUF012
    probed: dict[str, Question | Answer] = {}  # noqa: RUF012
    lacking: tuple[tuple[str, str, str], ...] = ()
    notes: tuple[tuple[str, str], ...] = ()

    @property
    def devices(self) -> dict[str, list[Device]]:
        """What claims ask for of each device, oldest first."""
        found: dict[str, list[Device]] = {}
        for claim in self.claims:
            for want in claim.devices:
                found.setdefault(want.link.name, []).append(want)
        return found

    @property
    def by_name(self) -> dict[str, Link]:
        """The links there are."""
        return {link.name: link for link in self.links}

    @property
    def tunnels(self) -> list[Link]:
        """Devices that claims ask for and that are there, without those of a daemon."""
        links, devices = self.by_name, self.devices.items()
        return [links[name] for name, wants in devices if name in links and not any(want.by_daemon for want in wants)]
