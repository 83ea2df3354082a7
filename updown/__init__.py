"""vti-updown: the updown hook for libreswan and strongSwan, as a library.

    from updown import read_context, run_event

Importing the package imports nothing else: the hook pays for every module, and the daemon waits meanwhile."""

from __future__ import annotations

VERSION = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from updown.daemons import read as read_context
    from updown.event import run as run_event
    from updown.model.context import Context
    from updown.model.errors import Conflict, Refused, UpdownError
    from updown.model.operations import Report

__version__ = VERSION

_FACE = {
    "Context": ("updown.model.context", "Context"),
    "Conflict": ("updown.model.errors", "Conflict"),
    "Refused": ("updown.model.errors", "Refused"),
    "Report": ("updown.event", "Report"),
    "UpdownError": ("updown.model.errors", "UpdownError"),
    "read_context": ("updown.daemons", "read"),
    "run_event": ("updown.event", "run"),
}

__all__ = ("Conflict", "Context", "Refused", "Report", "UpdownError", "__version__", "read_context", "run_event")


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first asked for (PEP 562)."""
    if name not in _FACE:
        raise AttributeError(f"module 'updown' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _FACE[name]
    return getattr(import_module(module), attribute)
