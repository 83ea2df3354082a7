"""The hook's main() on a test's machine, as the daemon calls it."""

import os
from collections.abc import Mapping

import pytest

from tests.kit.machine import Machine
from updown import hook


def called(machine: Machine, environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The hook's main() in this environment, with the machine's settings file and these words; its exit status."""
    monkeypatch.setattr(
        os, "environb", {name.encode(): value.encode("utf-8", "surrogateescape") for name, value in environment.items()}
    )
    config = ["--config", machine.arguments.config] if machine.arguments.config else []
    monkeypatch.setattr("sys.argv", ["vti-updown", "--state-dir", str(machine.folder), *config, *words])
    return hook.main()
