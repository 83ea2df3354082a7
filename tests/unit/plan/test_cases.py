"""The rules of the plan as data: each file of `cases` is one rule, with what is asked, what is there, and the commands that
follow. They are the fastest way to learn the rules; tests/kit/cases.py explains the words. What a file quotes is in docs."""

import re
from pathlib import Path

import pytest

from tests.kit.cases import applied, difference, parse, planned

HERE = Path(__file__).parent / "cases"
CASES = sorted(HERE.glob("*.txt"))
DOCS = Path(__file__).parents[3]


@pytest.mark.parametrize("file", CASES, ids=[file.stem for file in CASES])
def test_the_plan_is_as_the_case_says(file: Path) -> None:
    case = parse(file.read_text())
    said = difference(file, case.wanted, planned(case))
    if said:
        pytest.fail(said, pytrace=False)


@pytest.mark.parametrize("file", CASES, ids=[file.stem for file in CASES])
def test_the_same_event_again_has_nothing_to_do(file: Path) -> None:
    case = parse(file.read_text())
    if not case.wanted.error:
        assert planned(applied(case)).plan == ()


def quotes(file: Path) -> list[tuple[str, str]]:
    """The documents that a case names, each with the words it quotes from there."""
    comment = " ".join(line[1:].strip() for line in file.read_text().splitlines() if line.startswith("#"))
    return re.findall(r'([\w/]+\.md): "([^"]+)"', comment)


@pytest.mark.parametrize("file", CASES, ids=[file.stem for file in CASES])
def test_what_a_case_quotes_stands_in_the_docs(file: Path) -> None:
    found = quotes(file)
    assert found
    for document, words in found:
        stands = words in " ".join((DOCS / document).read_text().split())
        assert stands, f"{document} does not say: {words}"


@pytest.mark.parametrize("document", ["docs/deletion.md", "docs/placement.md"])
def test_every_section_has_a_case(document: str) -> None:
    found = [words for file in CASES for named, words in quotes(file) if named == document]
    for section in (DOCS / document).read_text().split("\n## ")[1:]:
        text = " ".join(section.split())
        covered = any(words in text for words in found)
        assert covered, section.splitlines()[0]
