"""What people type."""

from __future__ import annotations

from collections.abc import Mapping

from updown.commands.arguments import Arguments
from updown.commands.clean import clean
from updown.commands.replay import events


def run_command(arguments: Arguments, environ: Mapping[str, str]) -> int:
    """The sub-command, or an event by hand."""
    if arguments.command == "status":
        from updown.commands.status import show

        return show(arguments)
    if arguments.command == "clean":
        return clean(arguments)
    if arguments.command == "reconcile":
        from updown.commands.reconcile.run import show as reconcile

        return reconcile(arguments, environ)
    if arguments.command == "make":
        from updown.commands.make import show as make

        return make(arguments)
    if arguments.command == "check":
        from updown.commands.check.run import show as check

        return check(arguments, environ)
    if arguments.command == "probe":
        from updown.commands.probe import show as probe

        return probe(arguments, environ)
    if arguments.command in ("adopt", "release"):
        from updown.commands.adopt import take_over

        return take_over(arguments)
    return events(arguments, environ)
