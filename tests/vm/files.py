"""The files of tests by the short names that tests/run takes: daemon/shared, unit/plan/routes or unit/routes, kernel/*."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tests import TOP

FOLDERS = {"unit": ("unit", "property")}
"""The folders of a layer below tests/, where it is not that of its name alone."""
WITHOUT_FILES = ("lint", "bench")
NO_FILES = {"daemon": ("demonstration",)}
"""What a layer runs that is in no file."""


@dataclass(frozen=True)
class Chosen:
    """The files that were asked for; without names all of them."""

    names: Sequence[str]

    def __bool__(self) -> bool:
        return bool(self.names)

    @property
    def unknown(self) -> list[str]:
        """Names that no file has."""
        known = {layer: _short(layer) for layer in {name.partition("/")[0] for name in self.names}}
        return [name for name in self.names if not any(_is(name, one) for one in known[name.partition("/")[0]])]

    def has(self, short: str) -> bool:
        return not self.names or any(_is(name, short) for name in self.names)

    def units(self) -> list[str]:
        """The paths of the layer unit's; empty where none was asked for."""
        mine = [name for name in self.names if name.startswith("unit/")]
        return [path for short, path in _short("unit").items() if any(_is(name, short) for name in mine)]


def asked(words: Sequence[str]) -> Chosen:
    """Of tests/run's words: a layer beside files is all its files, layers alone choose none."""
    if not any("/" in word for word in words):
        return Chosen([])
    return Chosen([word if "/" in word else f"{word}/*" for word in words if word not in WITHOUT_FILES])


def short_name(path: str) -> str:
    """LAYER/FILE of tests/LAYER/test_FILE.py."""
    parts = Path(path).with_suffix("").parts[1:]
    return "/".join([*parts[:-1], parts[-1][len("test_") :]])


def _short(layer: str) -> dict[str, str]:
    """The paths of a layer's files by their short names."""
    found = {f"{layer}/{name}": "" for name in NO_FILES.get(layer, ())}
    for folder in FOLDERS.get(layer, (layer,)):
        for path in sorted((TOP / "tests" / folder).rglob("test_*.py")):
            name = short_name(str(path.relative_to(TOP))).partition("/")[2]
            found[f"{layer}/{name}"] = str(path.relative_to(TOP))
    return found


def _is(asked: str, short: str) -> bool:
    """Whether a file is asked for, by its whole short name or without the folders in the layer's."""
    layer, _, name = short.partition("/")
    return fnmatchcase(short, asked) or fnmatchcase(f"{layer}/{name.rpartition('/')[2]}", asked)
