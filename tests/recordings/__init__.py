"""The recorded calls: what live daemons gave to their updown hook (README.md says which, and how they were made)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent


class Call(NamedTuple):
    """One call of the hook: its name there, like `001-up-client`, and its whole environment."""

    name: str
    environment: dict[str, str]

    @property
    def number(self) -> int:
        return int(self.name.split("-")[0])

    @property
    def verb(self) -> str:
        return self.name.split("-", 1)[1]


class Recording(NamedTuple):
    """All calls of one node in one scenario, in the order in which they began."""

    version: str
    scenario: str
    node: str

    def __str__(self) -> str:
        return f"{self.version}/{self.scenario}/{self.node}"

    @property
    def path(self) -> Path:
        return FOLDER / self.version / self.scenario / f"{self.node}.jsonl"

    def calls(self) -> list[Call]:
        lines = (json.loads(line) for line in self.path.read_text(encoding="ascii").splitlines())
        return [Call(line["call"], line["env"]) for line in lines]


def recordings(versions: str = "*") -> list[Recording]:
    """All there are, or those of the versions that the pattern names."""
    paths = sorted(FOLDER.glob(f"{versions}/*/*.jsonl"))
    return [Recording(path.parts[-3], path.parts[-2], path.stem) for path in paths]
