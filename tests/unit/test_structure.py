"""The house as it is drawn: rooms on floors, imports that run downwards, no circle, and sizes that keep it readable."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, NamedTuple

import pytest

from tests import TOP
from tests.kit.structure import FLOORS

ENTRIES_AT_THE_TOP, ENTRIES_BELOW = 13, 10
LINES_OF_A_MODULE = 300
LINES_OF_ALL = 16_000  # and fewer
NO_ENTRIES = ("__init__.py", "__pycache__", "py.typed")


class Import(NamedTuple):
    """Where a module imports another one; names are dotted, `where` is FILE:LINE."""

    importer: str
    imported: str
    where: str


def files(folder: Path) -> dict[str, Path]:
    """The modules of a package folder by their dotted names; a package's marker has the package's."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def nodes_at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """A tree but for what stands under `if TYPE_CHECKING:`."""
    yield node
    inner: list[ast.AST] = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        inner = list(node.orelse)
    for child in inner:
        yield from nodes_at_run_time(child)


def imports(folder: Path) -> list[Import]:
    """Every import of every module, within functions too; of `from PACKAGE import MODULE` the module counts."""
    modules = files(folder)
    found = []
    for name, path in modules.items():
        for node in nodes_at_run_time(ast.parse(path.read_text())):
            targets: list[str] = []
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                full = [f"{node.module}.{alias.name}" for alias in node.names]
                targets = [one if one in modules else node.module for one in full]
            for target in dict.fromkeys(targets):
                found.append(Import(name, target, f"{path.relative_to(folder.parent)}:{node.lineno}"))  # type: ignore[attr-defined]
    return found


def room_of(module: str) -> str:
    """The room of a module: the second part of its name."""
    return module.split(".")[1] if "." in module else ""


def circles(folder: Path) -> list[str]:
    """The imports by which a module comes back to itself."""
    modules = files(folder)
    inner = [one for one in imports(folder) if one.imported in modules]
    below: dict[str, set[str]] = {name: set() for name in modules}
    for one in inner:
        below[one.importer].add(one.imported)

    def reached(start: str) -> set[str]:
        seen, todo = {start}, [start]
        while todo:
            fresh = below[todo.pop()] - seen
            seen |= fresh
            todo += fresh
        return seen

    return [
        f"{one.where} imports {one.imported}, which leads back to {one.importer}: move what both need to a module below"
        for one in inner
        if one.importer in reached(one.imported)
    ]


def upward_imports(folder: Path) -> list[str]:
    """Imports of a room from one above it, and modules that are in no room."""
    floors = list(FLOORS)
    modules = files(folder)
    found = [
        f"{path.relative_to(folder.parent)} is in no room: give {room_of(name)} a row in FLOORS, or the module another place"
        for name, path in modules.items()
        if room_of(name) not in ("", *floors)
    ]
    for one in imports(folder):
        rooms = room_of(one.importer), room_of(one.imported)
        if one.imported in modules and set(rooms) <= set(floors) and floors.index(rooms[0]) > floors.index(rooms[1]):
            found.append(
                f"{one.where} imports {one.imported}, but {rooms[1]} is above {rooms[0]}: hand over what is needed as an"
                " argument, or move it down"
            )
    return found


def crowded_folders(folder: Path) -> list[str]:
    """Folders with more entries than one takes in at a glance."""
    found = []
    for one in [folder, *sorted(path for path in folder.rglob("*") if path.is_dir() and path.name != "__pycache__")]:
        most = ENTRIES_AT_THE_TOP if one == folder else ENTRIES_BELOW
        entries = [path.name for path in one.iterdir() if path.name not in NO_ENTRIES]
        if len(entries) > most:
            found.append(f"{one.relative_to(folder.parent)}/ has {len(entries)} entries, {most} at most: give some a folder")
    return found


def long_modules(folder: Path) -> list[str]:
    """Modules that are too long."""
    return [
        f"{path.relative_to(folder.parent)}:{length} is its last line, {LINES_OF_A_MODULE} at most: split it by what it does"
        for path in files(folder).values()
        for length in [len(path.read_text().splitlines())]
        if length > LINES_OF_A_MODULE
    ]


def too_many_lines(folder: Path) -> list[str]:
    """The whole library, if it is too long."""
    lines = sum(len(path.read_text().splitlines()) for path in files(folder).values())
    if lines < LINES_OF_ALL:
        return []
    return [f"{folder.name}/ has {lines} lines, fewer than {LINES_OF_ALL} are wanted: find what is there twice"]


def outside_pyroute2(folder: Path) -> list[str]:
    """Imports of pyroute2 elsewhere than in kernel/: they cost more than an event."""
    return [
        f"{one.where} imports {one.imported}: only kernel/ may, and only when called; ask kernel/netlink/dumps.py"
        for one in imports(folder)
        if one.imported.split(".")[0] == "pyroute2" and room_of(one.importer) != "kernel"
    ]


LIBRARY = TOP / "updown"


def in_order(found: list[str]) -> None:
    """Nothing is found, or each finding is a line."""
    assert not found, "\n" + "\n".join(found)


def test_no_module_leads_back_to_itself() -> None:
    in_order(circles(LIBRARY))


def test_imports_run_downwards() -> None:
    in_order(upward_imports(LIBRARY))


def test_each_folder_is_taken_in_at_a_glance() -> None:
    in_order(crowded_folders(LIBRARY))


def test_no_module_is_too_long() -> None:
    in_order(long_modules(LIBRARY))


def test_the_library_is_short() -> None:
    in_order(too_many_lines(LIBRARY))


def test_pyroute2_stays_in_the_kernel_s_room() -> None:
    in_order(outside_pyroute2(LIBRARY))


def test_each_room_is_there() -> None:
    assert {room_of(name) for name in files(LIBRARY)} - {""} == set(FLOORS)


CHECKS = (circles, upward_imports, crowded_folders, long_modules, too_many_lines, outside_pyroute2)
Check = Callable[[Path], list[str]]

BAD: dict[str, tuple[Check, dict[str, str], str]] = {
    "two modules import each other": (
        circles,
        {"model/a.py": "import updown.model.b", "model/b.py": "\nfrom updown.model.a import x"},
        "updown/model/a.py:1 imports updown.model.b, which leads back to updown.model.a: move",
    ),
    "a circle of three, within functions": (
        circles,
        {
            "a.py": "def f():\n    from updown import b",
            "b.py": "def f():\n    from updown import c",
            "c.py": "def f():\n    from updown.a import f",
        },
        "updown/a.py:2 imports updown.b, which leads back to updown.a: move",
    ),
    "a package's marker is in it": (
        circles,
        {"daemons/__init__.py": "from updown.daemons.table import x", "daemons/table.py": "from updown import daemons"},
        "updown/daemons/__init__.py:1 imports updown.daemons.table, which leads back to updown.daemons: move",
    ),
    "a noun that imports a command": (
        upward_imports,
        {"model/a.py": "\n\nfrom updown.commands.make import x", "commands/make.py": ""},
        "updown/model/a.py:3 imports updown.commands.make, but commands is above model: hand over",
    ),
    "an import upwards within a function": (
        upward_imports,
        {"plan/diff.py": "def f():\n    from updown import event", "event.py": ""},
        "updown/plan/diff.py:2 imports updown.event, but event is above plan: hand over",
    ),
    "an import upwards where types are not checked": (
        upward_imports,
        {"plan/diff.py": "if TYPE_CHECKING:\n    x = 1\nelse:\n    import updown.event", "event.py": ""},
        "updown/plan/diff.py:4 imports updown.event, but event is above plan: hand over",
    ),
    "a module without a room": (
        upward_imports,
        {"helpers.py": ""},
        "updown/helpers.py is in no room: give helpers a row in FLOORS, or the module another place",
    ),
    "a crowded main folder": (
        crowded_folders,
        {f"a{number}.py": "" for number in range(14)},
        "updown/ has 14 entries, 13 at most: give some a folder",
    ),
    "a crowded folder below": (
        crowded_folders,
        {f"kernel/netlink/a{number}.py": "" for number in range(11)},
        "updown/kernel/netlink/ has 11 entries, 10 at most: give some a folder",
    ),
    "a long module": (long_modules, {"hook.py": "\n" * 301}, "updown/hook.py:301 is its last line, 300 at most: split it"),
    "too much of everything": (
        too_many_lines,
        {f"model/a{number}.py": "\n" * 300 for number in range(10)}
        | {f"plan/{folder}/a{number}.py": "\n" * 231 for folder in "abcdef" for number in range(10)},
        "updown/ has 16860 lines, fewer than 16000 are wanted: find",
    ),
    "pyroute2 in a command": (
        outside_pyroute2,
        {"commands/make.py": "def f():\n    from pyroute2.netlink import x"},
        "updown/commands/make.py:2 imports pyroute2.netlink: only kernel/ may",
    ),
}


def built(folder: Path, tree: dict[str, str]) -> Path:
    """A package `updown` of these files."""
    for name, text in {"__init__.py": "", **tree}.items():
        path = folder / "updown" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "updown"


@pytest.mark.parametrize("case", BAD)
def test_a_house_that_is_built_otherwise_is_told_where(tmp_path: Path, case: str) -> None:
    check, tree, message = BAD[case]
    found = check(built(tmp_path, tree))
    assert found
    assert found[0].startswith(message)


def test_a_house_that_is_built_so_is_in_order(tmp_path: Path) -> None:
    """With all that is allowed: types from above, the package itself, own modules, as many entries and lines as may be."""
    tree = {
        "hook.py": "from updown import VERSION, daemons\n\n\ndef f():\n    from updown.commands.run import run",
        "commands/run.py": "import os\nfrom updown import serve" + "\n" * 298,
        "serve.py": "",
        "event.py": "",
        "daemons/__init__.py": "",
        "kernel/netlink/dumps.py": "def f():\n    from pyroute2 import IPRoute",
        "model/a.py": "import typing\nif typing.TYPE_CHECKING:\n    from updown.event import Report",
        "model/b.py": "from updown.model.a import x\nif TYPE_CHECKING:\n    import updown.hook",
        **{f"plan/a{number}.py": "" for number in range(10)},
        "plan/__init__.py": "",
        "plan/__pycache__/a.pyc": "",
    }
    folder = built(tmp_path, tree)
    assert [found for check in CHECKS for found in check(folder)] == []
