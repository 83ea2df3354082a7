"""Operations as the iproute2 commands that would do them: the one renderer, for logs, --dry-run and explain. Each concern has
the words of its own."""

from __future__ import annotations

from updown.concerns.catalogue import concern_of
from updown.model.operations import Operation
from updown.output.lines import WIDTH


def command(operation: Operation) -> str:
    """The command line; safe to paste, since every word of it is a validated value."""
    return concern_of(operation).command(operation)


def wrapped(text: str, width: int = WIDTH) -> list[str]:
    """`text` in lines of at most `width` characters, broken at blanks; all but the last end in a backslash."""
    lines: list[str] = []
    rest = text
    while len(rest) > width:
        cut = rest.rfind(" ", 1, width - 2)
        if cut <= 0:
            cut = width - 2
        lines.append(rest[:cut].rstrip() + " \\")
        rest = "    " + rest[cut:].lstrip()
    return [*lines, rest]
