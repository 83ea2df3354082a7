"""What `vti-updown check` gathers, and a finding; records alone."""

from __future__ import annotations

from collections.abc import Mapping

from updown.commands.reconcile.decide import Audit
from updown.daemons.answer import ChildSa
from updown.kernel.netlink.route_messages import RouteSeen
from updown.kernel.ping import Answer, Question
from updown.ledger.failures import Failure
from updown.ledger.liveness import Missed
from updown.model.claims import LIBRESWAN, Claim
from updown.model.ipsec import Database
from updown.model.objects import Link, Route
from updown.model.operations import Operation
from updown.model.record import NamedTuple
from updown.model.resources import EMPTY, Device
from updown.settings.file import Line

RECONCILE = "vti-updown reconcile"


class Finding(NamedTuple):
    """`code` is one of docs/check.md, which stays as it is; `subject` what it is about: a device, connection, file, counter;
    "-" for the machine. `mend` is for a shell, where it has a ` # ` up to there, or says which line to write where."""

    code: str
    subject: str
    text: str
    mend: str


class Mistake(NamedTuple):
    """What is wrong in a settings file, and what to do; the line, or the file. `untrusted`: others may write that file."""

    text: str
    hint: str
    where: str
    untrusted: bool = False


class Writable(NamedTuple):
    """A file or folder that `writer` may write, who is not to: of settings, code or state, with what there is of that."""

    what: str
    path: str
    writer: str
    top: str


class LocalNetwork(NamedTuple):
    """A network on our side of a tunnel: by which device its packets come, and by which they leave."""

    network: str
    device: str
    tunnel: str


class Denial(NamedTuple):
    """What AppArmor's `profile` denied, empty where it was SELinux: the operation, upon what, the `rule` that allows it, and
    the name of the profile's file, empty where it has another than usual."""

    profile: str
    operation: str
    what: str
    rule: str
    file: str = ""


class MachineFacts(NamedTuple):
    """What of the machine matters to our tunnels. `unusable`: why the state directory cannot be written, by a code, with its
    mount. `moved_away`: ends of ours that no device here has. `managers`: by device who else manages it. `counted`: what
    /proc/net/xfrm_stat counted since the last look, None where that is not known. `ours`: routes of ours there are.
    `denied`: to us, by AppArmor or SELinux; `denied_unknown`: why that is not known."""

    writable: tuple[Writable, ...] = ()
    unusable: tuple[tuple[str, str, str], ...] = ()
    networks: tuple[LocalNetwork, ...] = ()
    moved_away: frozenset[str] = frozenset()
    managers: Mapping[str, str] = EMPTY
    counted: Mapping[str, int] | None = EMPTY
    ours: tuple[RouteSeen, ...] = ()
    denied: tuple[Denial, ...] = ()
    denied_unknown: str = ""


class CheckFacts(NamedTuple):
    """Everything that was gathered. `xfrm` None: it could not be read. `sysctls` by path below /proc/sys; `lacking` the kernel
    modules and programs that are missing, each with what needs it. `audit` and `operations`: what `reconcile` would do now.
    `probed`: by device how its far end is asked, or why it cannot be. `config`: where settings may be written; `children`: all
    that daemons have up; `notes`: findings of the gathering itself; `booted` in seconds since the epoch."""

    root: bool = True
    claims: tuple[Claim, ...] = ()
    lines: tuple[Line, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    links: tuple[Link, ...] = ()
    sysctls: dict[str, str | None] = {}  # noqa: RUF012
    charon_routes: tuple[RouteSeen, ...] = ()
    xfrm: Database | None = None
    audit: Audit = Audit()
    operations: tuple[Operation, ...] = ()
    missed: dict[str, Missed] = {}  # noqa: RUF012
    probed: dict[str, Question | Answer] = {}  # noqa: RUF012
    lacking: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()
    machine: MachineFacts = MachineFacts()
    children: tuple[ChildSa, ...] = ()
    config: str = ""
    failed: tuple[Failure, ...] = ()
    booted: int = 0
    moved: tuple[tuple[str, Link], ...] = ()  # devices of ours by name, and what they are in another namespace
    other_ways: tuple[tuple[Route, Route], ...] = ()

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

    @property
    def remade(self) -> set[str]:
        """Devices whose ends or keys `reconcile` would put right: what does not fit them is of the same cause."""
        changes = ("link add", "link change", "link delete")
        return {operation.subject.name for operation in self.operations if operation.action in changes}


def again(daemon: str, connection: str) -> str:
    """The command that takes a tunnel down and up."""
    import shlex

    name = shlex.quote(connection)
    if daemon == LIBRESWAN:
        return f"ipsec whack --terminate --name {name}; ipsec whack --initiate --name {name}"
    return f"swanctl --terminate --child {name}; swanctl --initiate --child {name}"


def appended(lines: tuple[str, ...], file: str) -> str:
    """The command that writes lines to the end of a file."""
    import shlex

    return f"printf '%s\\n' {' '.join(map(shlex.quote, lines))} >>{shlex.quote(file)}"
