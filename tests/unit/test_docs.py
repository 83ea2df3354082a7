"""What docs/ names exists: recordings, tests, files."""

import re
from pathlib import Path
from typing import List

import pytest

TOP = Path(__file__).resolve().parents[2]
PAGES = sorted([TOP / "README.md", *TOP.glob("docs/*.md"), *TOP.glob("contrib/*/README.md")])
RECORDINGS = {
    "main": "libreswan-main",
    "4.10": "libreswan-4.10",
    "charon": "strongswan-5.9.8",
    "by-hand": "by-hand-strongswan",
}


def names_of_tests() -> str:
    """The names of all tests and of their files."""
    files: List[Path] = sorted(TOP.glob("tests/*/test_*.py"))
    names = [name for path in files for name in re.findall(r"def (test_\w+)", path.read_text())]
    return " ".join([*names, *(path.stem for path in files)])


def test_every_recording_in_the_table_of_orders_is_kept() -> None:
    named = re.findall(r"\b(main|4\.10|charon|by-hand)/([a-z0-9-]+)", (TOP / "docs/orders.md").read_text())
    assert len(named) > 50
    missing = [name for daemon, name in named if not (TOP / "tests/recordings" / RECORDINGS[daemon] / name).is_dir()]
    assert missing == []


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
