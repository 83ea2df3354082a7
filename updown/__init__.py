"""vti-updown: the updown hook for libreswan and strongSwan, as a library.

    from updown import read_context, run_event

Importing the package imports nothing else: the hook pays for every module, and the daemon waits meanwhile.
"""

from __future__ import annotations

from updown.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from updown.context import Context as Context
    from updown.daemons import read as read_context
    from updown.errors import Conflict as Conflict
    from updown.errors import Refused as Refused
    from updown.errors import UpdownError as UpdownError
    from updown.event import Report as Report
    from updown.event import run as run_event

__version__ = VERSION

_FACE = {
    "Context": ("updown.context", "Context"),
    "Conflict": ("updown.errors", "Conflict"),
    "Refused": ("updown.errors", "Refused"),
    "Report": ("updown.event", "Report"),
    "UpdownError": ("updown.errors", "UpdownError"),
    "read_context": ("updown.daemons", "read"),
    "run_event": ("updown.event", "run"),
}

__all__: tuple[str, ...] = (
    "Conflict",
    "Context",
    "Refused",
    "Report",
    "UpdownError",
    "__version__",
    "read_context",
    "run_event",
)


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first asked for (PEP 562)."""
    if name not in _FACE:
        raise AttributeError(f"module 'updown' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _FACE[name]
    return getattr(import_module(module), attribute)
