"""An operation: one change of the kernel, with its reason and what undoes it."""

from __future__ import annotations

from updown.model.claims import Claim
from updown.model.errors import Notice
from updown.model.record import Any, NamedTuple
from updown.model.resources import MtuSum

Thing = Any
"""What stands in the kernel, or should: a Link, Address, Route, Rule, Sysctl or Clamp. Which of them it is, an operation's
action tells, which no type checker reads."""

OPPOSITES = {"add": "delete", "delete": "add", "prepend": "delete", "front": "delete", "down": "up", "up": "down"}
"""Verbs of actions, and those that take them back; `set`, `change`, `replace`, `state`, `multicast` are their own opposites."""


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
    total: MtuSum | None = None


class Operation(NamedTuple):
    """`before` is what the change replaces, where it replaces something; `fatal` failures end the event, others warn. `kind` is
    that of the concern, where the action's first word does not say it: a way to a peer is a route too."""

    action: str
    subject: Thing
    before: Thing = None
    reason: Reason = Reason("")
    makes: str = ""  # the resource that is ours once this is done, where the kernel has no place to note it
    kind: str = ""

    @property
    def effect(self) -> str:
        """What of the kernel it changes: link, address, route, rule, sysctl, firewall."""
        return self.action.partition(" ")[0]

    @property
    def verb(self) -> str:
        """What it does there: add, delete, prepend, front, replace, change, set, state, multicast, down, up; nothing for a
        sysctl."""
        return self.action.partition(" ")[2]

    @property
    def fatal(self) -> bool:
        """Without its device a tunnel cannot work; without a route or a sysctl it may, and with a device that stays up."""
        return self.effect == "link" and self.verb not in ("down", "state", "multicast")

    def undo(self) -> Operation:
        """The operation that takes this one back."""
        action = f"{self.effect} {OPPOSITES.get(self.verb, self.verb)}".rstrip()
        return Operation(action, self.before or self.subject, self.subject, self.reason, kind=self.kind)


class Report(NamedTuple):
    """What an event did, or would do: `remarks` are facts that need nothing, `warnings` something that people should mend."""

    connection: str
    operations: tuple[Operation, ...] = ()
    warnings: tuple[Notice, ...] = ()
    remarks: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()  # written or ended

    def plus(self, other: Report) -> Report:
        """This report, with what another one did and says beside."""
        more = {field: getattr(self, field) + getattr(other, field) for field in ("operations", "warnings", "remarks")}
        return self._replace(**more)
