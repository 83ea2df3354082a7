"""Settings as a test writes them."""

from __future__ import annotations

from updown.settings.file import Line, parse_all, raise_mistake


def parse(text: str, name: str) -> list[Line]:
    """The lines of one file's text; raises Refused naming file, line and the nearest known key."""
    return [raise_mistake(said) for said in parse_all(text, name)]
