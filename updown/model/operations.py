"""An operation: one change of the kernel, with its reason and what undoes it."""

from __future__ import annotations

from updown.model.claims import Claim
from updown.model.objects import Address, Link, Route, Rule
from updown.model.record import NamedTuple
from updown.model.resources import Clamp, Sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union

    Thing = Union[Link, Address, Route, Rule, Sysctl, Clamp]
    """What stands in the kernel, or should."""
else:
    Thing = object


OPPOSITES = {
    "link add": "link delete",
    "link delete": "link add",
    "link change": "link change",
    "link set": "link set",
    "link down": "link up",
    "link up": "link down",
    "link state": "link state",
    "address add": "address delete",
    "address delete": "address add",
    "route add": "route delete",
    "route prepend": "route delete",
    "route delete": "route add",
    "route replace": "route replace",
    "rule add": "rule delete",
    "rule delete": "rule add",
    "sysctl": "sysctl",
    "firewall add": "firewall delete",
    "firewall delete": "firewall add",
    "firewall replace": "firewall replace",
}
"""Every action, and the one that takes it back."""


class Difference(NamedTuple):
    """What of a device is other than asked for: the field, what it is, what it should be."""

    field: str
    have: object
    want: object


class Reason(NamedTuple):
    """Why something is done, by a code of output/reasons.py, which has the sentence: for which connection, and what of."""

    code: str
    who: str = ""
    what: str = ""
    differences: tuple[Difference, ...] = ()


class Notice(str):
    """A warning: its text, and of which kind it is, for programs."""

    kind: str

    def __new__(cls, kind: str, text: str) -> Notice:
        made = super().__new__(cls, text)
        made.kind = kind
        return made


class Operation(NamedTuple):
    """`before` is what the change replaces, where it replaces something; `fatal` failures end the event, others warn. `kind` is
    that of the concern, where the action's first word does not say it: a way to a peer is a route too."""

    action: str
    subject: Thing
    before: Thing | None = None
    reason: Reason = Reason("")
    makes: str = ""  # the resource that is ours once this is done, where the kernel has no place to note it
    kind: str = ""

    @property
    def effect(self) -> str:
        """What of the kernel it changes: link, address, route, rule, sysctl, firewall."""
        return self.action.partition(" ")[0]

    @property
    def fatal(self) -> bool:
        """Without its device a tunnel cannot work; without a route or a sysctl it may, and with a device that stays up."""
        return self.action.startswith("link") and self.action not in ("link down", "link state")

    def undo(self) -> Operation:
        """The operation that takes this one back."""
        return Operation(OPPOSITES[self.action], self.before or self.subject, self.subject, self.reason, kind=self.kind)


class Report(NamedTuple):
    """What an event did, or would do: `remarks` are facts that need nothing, `warnings` something that people should mend."""

    connection: str
    operations: tuple[Operation, ...] = ()
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()  # written or ended
