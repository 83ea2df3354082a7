"""Lines for the daemon's log and for people; nothing else is needed to tell a failure."""

from __future__ import annotations

from updown.model.values import escaped

WIDTH = 118  # characters; a daemon logs lines of up to 120 bytes whole (strongSwan cuts at 127)


def prefix(connection: str) -> str:
    """What every line for the daemon begins with; a connection's name may be long or hostile."""
    return f"vti-updown: {escaped(connection, 30)}: " if connection else "vti-updown: "


def folded(head: str, text: str) -> list[str]:
    """`text` behind `head` in lines of at most 118 bytes, later ones indented; a word longer than a line is broken."""
    room = max(WIDTH - len(head) - 2, 20)
    lines: list[str] = []
    line = head
    empty = True
    for word in text.split():
        shown = word if word.isascii() and word.isprintable() else escaped(word)  # what is escaped is not again
        for piece in (shown[at : at + room] for at in range(0, len(shown), room)):
            if not empty and len(line) + 1 + len(piece) > WIDTH:
                lines.append(line)
                line, empty = head + "  ", True
            line += piece if empty else f" {piece}"
            empty = False
    return [*lines, line]
