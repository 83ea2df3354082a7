"""The one loop: what may change the kernel, and how."""

import ast
from pathlib import Path

TOP = Path(__file__).parents[2] / "updown"


def importers(module: str) -> set[str]:
    """The modules of the library that import this one, or something of it."""
    found: set[str] = set()
    for path in TOP.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                named = {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
            else:
                named = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            if module in named:
                found.add(str(path.relative_to(TOP)))
    return found


def test_no_effect_bypasses_the_loop() -> None:
    """Operations are carried out in one place, where what is unfinished is noted before and cleared after."""
    assert importers("updown.kernel.apply") == {"transaction.py"}


def test_nothing_that_is_served_knows_of_the_command_line() -> None:
    assert {name for name in importers("updown.commands.arguments") if not name.startswith("commands/")} == {"hook.py"}
