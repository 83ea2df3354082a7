"""Commands by hand."""

import pytest

from tests.kit.commands import Command
from tests.kit.machine import Machine


@pytest.fixture
def command(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`vti-updown WORD...` on the machine."""
    return Command(machine, monkeypatch)
