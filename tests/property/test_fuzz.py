"""Mutated environments, settings, status texts and vici answers: whatever they are, there is no defect, nothing unescaped is
printed, and no memory is lost (tests/kit/fuzz.py says what is wrong)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.fuzz import KINDS, SETTINGS
from updown.commands.check.settings import check_files

TOP = Path(__file__).parents[2]
SHORT, LONG = 200, 20_000
MEMORY = 100 * 1024  # KiB


@pytest.mark.parametrize("count", [SHORT, pytest.param(LONG, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_comes_is_no_defect(kind: str, count: int) -> None:
    words = [sys.executable, "-m", "tests.kit.fuzz", kind, str(count), str(count)]
    done = subprocess.run(words, cwd=TOP, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["runs"] == count
    assert found["faults"] == [], "\n".join(found["faults"])
    assert found["peak"] < MEMORY


def test_what_is_mutated_is_without_a_mistake(tmp_path: Path) -> None:
    for text in SETTINGS:
        path = tmp_path / "vti-updown.conf"
        path.write_text(text)
        assert check_files(str(path)).mistakes == ()
