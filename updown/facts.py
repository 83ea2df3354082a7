"""What `vti-updown check` gathers, and a finding; records alone."""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

from updown.claims import Claim
from updown.desired import Device
from updown.kernel.route_messages import RouteSeen
from updown.kernel.xfrm import Database
from updown.operations import Operation
from updown.record import NamedTuple
from updown.settings import Line
from updown.signals import Missed
from updown.state import Link

RECONCILE = "vti-updown reconcile"
VTIS = ("vti", "vti6")


class Finding(NamedTuple):
    """`check` is the name of what was looked at, `subject` what it is about (a device, a file, a connection, ...)."""

    check: str
    subject: str
    text: str
    mend: str


class Reconciled(NamedTuple):
    """What `reconcile` would do now: claims that no tunnel backs with the reason, those that wait, those whose ends moved, and
    the operations."""

    ended: Tuple[Tuple[Claim, str], ...] = ()
    waiting: Tuple[Claim, ...] = ()
    moved: Tuple[Claim, ...] = ()
    operations: Tuple[Operation, ...] = ()


class Facts(NamedTuple):
    """Everything that was gathered. `xfrm` None: it could not be read. `sysctls` by path below /proc/sys; `lacking` the kernel
    modules and programs that are missing, each with what needs it."""

    root: bool = True
    claims: Tuple[Claim, ...] = ()
    lines: Tuple[Line, ...] = ()
    mistakes: Tuple[Tuple[str, str], ...] = ()
    links: Tuple[Link, ...] = ()
    sysctls: Dict[str, Optional[str]] = {}  # noqa: RUF012
    charon_routes: Tuple[RouteSeen, ...] = ()
    xfrm: Optional[Database] = None
    reconciled: Reconciled = Reconciled()
    missed: Dict[str, Missed] = {}  # noqa: RUF012
    lacking: Tuple[Tuple[str, str, str], ...] = ()
    notes: Tuple[Tuple[str, str], ...] = ()

    @property
    def devices(self) -> Dict[str, List[Device]]:
        """What claims ask for of each device, oldest first."""
        found: Dict[str, List[Device]] = {}
        for claim in self.claims:
            for want in claim.wants:
                if isinstance(want, Device):
                    found.setdefault(want.link.name, []).append(want)
        return found

    @property
    def by_name(self) -> Dict[str, Link]:
        """The links there are."""
        return {link.name: link for link in self.links}

    @property
    def tunnels(self) -> List[Link]:
        """Devices that claims ask for and that are there, without those of a daemon."""
        links = self.by_name
        return [
            links[name]
            for name, wants in self.devices.items()
            if name in links and not any(want.by_daemon for want in wants)
        ]
