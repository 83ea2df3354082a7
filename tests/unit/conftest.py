"""A fresh machine for each test."""

from pathlib import Path

import pytest

from tests.kit.machine import Machine


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with eth0, a default route and nothing of ours."""
    return Machine(tmp_path, monkeypatch)
