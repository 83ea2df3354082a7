"""docs/check.md against the code: every code has its row, every row its code; the ways to break a tunnel are the test's."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests import TOP
from tests.kernel.breaking import BREAKINGS
from updown.commands.check.run import TOLD_OTHERWISE
from updown.concerns.catalogue import CONCERNS

PAGE = TOP / "docs/check.md"
CODES, BROKEN = PAGE.read_text().split("## Codes")[1].split("## Ways to break a tunnel")
NEVER_DONE = {"mtu-missing", "mtu-differs", "mtu-left-over", "sysctl-missing", "sysctl-left-over"}
"""An MTU is the device's or route's; a sysctl is always there."""
NEVER_ANOTHER = {"address-differs", "source-differs", "rule-differs"}
"""Its value is its name."""
NOT_RECONCILE_S = {"variable", "applied late", "ledger", "ledger not told", "spool waits", "mtu", "kernel refused"}
NOT_RECONCILE_S |= {"kept", "not probed", "wider than its policy"}
"""Kinds of warnings that a dry run of `reconcile` never has."""


def rows(part: str) -> list[list[str]]:
    """The cells of a part's table."""
    lines = [line for line in part.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def words(node: ast.expr) -> Iterator[str]:
    """The texts that an expression may be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from (*words(node.body), *words(node.orelse))


def calls_of(name: str, folder: str) -> Iterator[ast.Call]:
    """Every call of a class in a folder of the library."""
    for path in sorted((TOP / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                yield node


def named_codes() -> set[str]:
    """The codes that stand in the code of `check`: as a finding's first word, or in a variable for it."""
    found = {word for call in calls_of("Finding", "updown/commands/check") for word in words(call.args[0])}
    for path in (TOP / "updown/commands/check").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "code":
                found |= set(words(node.value))
    text = (TOP / "updown/commands/check/look.py").read_text()
    found |= set(re.findall(r'yield "(state-[a-z-]+)"', text))
    found |= {f"{what}-writable" for what in re.findall(r'\("(settings|code|state)", ', text)}
    (dead,) = re.findall(r'dead, edited = "([a-z-]+)", "([a-z-]+)"', (TOP / "updown/commands/check/findings.py").read_text())
    return found | set(dead)


def codes_of_operations() -> set[str]:
    """What may be wrong with what claims ask for."""
    every = {f"{concern.kind}-{how}" for concern in CONCERNS for how in ("missing", "differs", "left-over")}
    return every - NEVER_DONE - NEVER_ANOTHER


def codes_of_warnings() -> set[str]:
    """What a plan of reconcile's may warn of."""
    kinds = {word for call in calls_of("Notice", "updown") for word in words(call.args[0])}
    return {kind.replace(" ", "-") for kind in kinds - NOT_RECONCILE_S - set(TOLD_OTHERWISE)}


def test_every_code_has_its_row_and_every_row_its_code() -> None:
    told = [code for row in rows(CODES) for code in re.findall(r"`([a-z-]+)`", row[0])]
    assert len(told) == len(set(told)) > 40
    assert set(told) == named_codes() | codes_of_operations() | codes_of_warnings()


def test_the_ways_to_break_a_tunnel_are_those_of_the_test() -> None:
    told = [(row[0], row[1].strip("`")) for row in rows(BROKEN)]
    assert told == [(breaking.how, breaking.code) for breaking in BREAKINGS]
    assert len(told) >= 40
    assert all(row[2] for row in rows(BROKEN))
