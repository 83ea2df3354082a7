"""What docs/ names exists: recordings, tests, files."""

import re
from pathlib import Path

import pytest

from tests import TOP
from tests.kit.grammar_libreswan import Libreswan
from tests.kit.grammar_strongswan import StrongSwan
from tests.kit.structure import FLOORS

PAGES = sorted([TOP / "README.md", *TOP.glob("docs/*.md"), *TOP.glob("contrib/*/README.md")])
RECORDINGS = {
    "main": "libreswan-main",
    "5.2": "libreswan-5.2",
    "4.10": "libreswan-4.10",
    "charon": "strongswan-5.9.8",
    "charon6": "strongswan-6.0.1",
    "by-hand": "by-hand-*",
}
NAMED = "|".join(map(re.escape, RECORDINGS))


def names_of_tests() -> set[str]:
    """The names of all tests and of their files."""
    files: list[Path] = sorted(TOP.glob("tests/**/test_*.py"))
    names = {name for path in files for name in re.findall(r"def (test_\w+)", path.read_text())}
    return names | {path.stem for path in files}


def rows() -> list[list[str]]:
    """The rows of the tables of orders, cell by cell."""
    lines = (TOP / "docs/orders.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")]
    return [row for row in cells if row[-1] != "tests" and not row[0].startswith("---")]


def test_every_order_has_a_test() -> None:
    assert len(rows()) > 55
    without = [row[0] for row in rows() if not re.search(rf"\btest_\w|\b(?:{NAMED})/\w|random: \w", row[-1])]
    assert without == []


def test_every_case_in_the_table_of_orders_is_in_its_test() -> None:
    """As in: libreswan/test_claims "down twice is down once"."""
    named = 0
    for row in rows():
        for file, cases in re.findall(r'\b((?:\w+/)*test_\w+)((?:,? "[^"]+")+)', row[-1]):
            text = "".join(path.read_text() for path in TOP.glob(f"tests/**/{file}.py"))
            for case in re.findall(r'"([^"]+)"', cases):
                assert f'    "{case}": ' in text, f"{file} has no case {case}"
                named += 1
    assert named > 20


def test_every_thing_at_random_in_the_table_of_orders_may_happen() -> None:
    things = {*Libreswan.things, *StrongSwan.things}
    named = [thing for row in rows() for thing in re.findall(r"random: (\w+)", row[-1])]
    assert len(named) > 10
    assert [thing for thing in named if thing not in things] == []


def test_every_recording_in_the_table_of_orders_is_kept() -> None:
    named = re.findall(rf"\b({NAMED})/([a-z0-9-]+)", (TOP / "docs/orders.md").read_text())
    assert len(named) > 50
    folder = TOP / "tests/recordings"
    missing = [name for daemon, name in named if not list(folder.glob(f"{RECORDINGS[daemon]}/{name}"))]
    assert missing == []


def test_every_case_of_reconcile_has_a_test() -> None:
    """By layer and file, as in `daemon/reconcile`."""
    lines = (TOP / "docs/reconcile.md").read_text().partition("## Cases")[2].splitlines()
    cases = [line for line in lines if line.startswith("| ") and not line.startswith("| what happened")]
    files = [re.split(r", ", line.strip("| ").rpartition("|")[2].strip()) for line in cases]
    assert len(cases) > 15
    assert [
        f"{where}" for row in files for where in row if not list(TOP.glob(f"tests/{'/test_'.join(where.rsplit('/', 1))}.py"))
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    known = names_of_tests()
    missing = [name for name in re.findall(r"\btest_\w+", page.read_text()) if name not in known]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", page.read_text()) if "://" not in link]
    missing = [link for link in links if link and not (page.parent / link).exists()]
    assert missing == []


def test_the_rooms_that_the_page_shows_are_those_that_the_imports_are_held_against() -> None:
    lines = (TOP / "docs/architecture.md").read_text().partition("## Rooms")[2].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")]
    shown = dict(cells[1 : len(FLOORS) + 1])
    assert list(shown.items()) == list(FLOORS.items())


def test_every_place_that_the_page_names_is_there() -> None:
    text = (TOP / "docs/architecture.md").read_text()
    named = set(re.findall(r"\b((?:[a-z_0-9]+/)*[a-z_0-9]+\.py)\b", text))
    known = {str(path.relative_to(TOP)) for path in TOP.rglob("*.py")}
    assert len(named) > 30
    assert [name for name in sorted(named) if not any(f"/{path}".endswith(f"/{name}") for path in known)] == []
