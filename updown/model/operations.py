"""An operation: one change of the kernel, with its reason and what undoes it."""

from __future__ import annotations

from updown.model.claims import Claim
from updown.model.objects import Address, Link, Route, Rule
from updown.model.record import NamedTuple
from updown.model.resources import Clamp, Sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union

    Subject = Union[Link, Address, Route, Rule, Sysctl, Clamp]
else:
    Subject = object


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


class Operation(NamedTuple):
    """`before` is what the change replaces, where it replaces something; `fatal` failures end the event, others warn."""

    action: str
    subject: Subject
    before: Subject | None = None
    reason: str = ""
    makes: str = ""  # the resource that is ours once this is done, where the kernel has no place to note it

    @property
    def fatal(self) -> bool:
        """Without its device a tunnel cannot work; without a route or a sysctl it may, and with a device that stays up."""
        return self.action.startswith("link") and self.action not in ("link down", "link state")

    def undo(self) -> Operation:
        """The operation that takes this one back."""
        return Operation(OPPOSITES[self.action], self.before or self.subject, self.subject, f"undo: {self.reason}")


class Report(NamedTuple):
    """What an event did, or would do: `remarks` are facts that need nothing, `warnings` something that people should mend."""

    connection: str
    operations: tuple[Operation, ...] = ()
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()  # written or ended

    def plus(self, other: Report) -> Report:
        """This report, with what another one did and says beside."""
        more = {field: getattr(self, field) + getattr(other, field) for field in ("operations", "warnings", "remarks")}
        return self._replace(**more)
