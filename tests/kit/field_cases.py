"""Situations from the field: the calls and the settings in tests/cases/field."""

from pathlib import Path

from tests import TOP
from tests.kit.machine import Environment

FIELD = TOP / "tests/cases/field"


def case(name: str) -> Path:
    """The folder of a case, by its whole name or by its number."""
    (found,) = [path for path in FIELD.iterdir() if path.name == name or path.name.startswith(f"{name}-")]
    return found


def calls(name: str) -> list[Environment]:
    """The daemon's calls, in their order."""
    texts = [path.read_text() for path in sorted(case(name).glob("*.env"))]
    return [dict(pair.split("=", 1) for pair in text.split("\0") if "=" in pair) for text in texts]


def settings(name: str, file: str = "vti-updown.conf") -> str:
    """One of its settings files."""
    return (case(name) / file).read_text()
