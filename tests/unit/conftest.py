"""A fresh machine for each test, and what it sends to the journal."""

from pathlib import Path

import pytest

from tests.kit.machine import Machine
from updown.kernel import journal


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with eth0, a default route and nothing of ours."""
    return Machine(tmp_path, monkeypatch)


@pytest.fixture
def journalled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What goes to the journal."""
    sent: list[str] = []
    monkeypatch.setattr(journal, "send", lambda lines, **_: sent.extend(lines))
    return sent
