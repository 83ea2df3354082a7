"""What people type: each sub-command is a module of this folder, imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from updown.commands.arguments import Arguments
from updown.model.errors import Refused

MODULES = {"reconcile": "reconcile.run", "check": "check.run", "release": "adopt", "explain": "replay"}
"""By sub-command the module whose `run` it is, where that has another name; --dry-run alone is `replay` too."""

ASKS = "the daemon it would ask waits for the hook's end"
WAITS = {"reconcile": ASKS, "check": ASKS, "probe": "the daemon would wait for the answers"}
"""Why a sub-command cannot run inside a hook."""


def run_command(arguments: Arguments, environ: Mapping[str, str]) -> int:
    """The sub-command, or an event by hand; its exit status. Raises Refused where a hook may not call it."""
    command = arguments.command or "replay"
    if "PLUTO_VERB" in environ and command in WAITS:
        why = f"{command} cannot run inside a hook: {WAITS[command]}"
        raise Refused(why, "run it from a shell, a timer or the units in contrib/")
    return int(import_module(f"updown.commands.{MODULES.get(command, command)}").run(arguments, environ))
