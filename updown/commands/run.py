"""What people type: each sub-command is a module of this folder, imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from updown.commands.arguments import Arguments

COMMANDS = {
    "status": "status",
    "clean": "clean",
    "reconcile": "reconcile.run",
    "make": "make",
    "check": "check.run",
    "probe": "probe",
    "adopt": "adopt",
    "release": "adopt",
    "explain": "replay",
    "replay": "replay",
}
"""By sub-command the module whose `run` it is; --dry-run alone is `replay` too."""


def run_command(arguments: Arguments, environ: Mapping[str, str]) -> int:
    """The sub-command, or an event by hand; its exit status."""
    module = import_module(f"updown.commands.{COMMANDS[arguments.command or 'replay']}")
    status: int = module.run(arguments, environ)
    return status
