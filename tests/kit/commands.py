"""What people type, on a test's machine."""

from __future__ import annotations

import pytest

from tests.kit.machine import Machine
from tests.kit.reconciling import LATER, said
from updown.commands.reconcile.decide import Evidence
from updown.daemons.answer import DaemonAnswer
from updown.model.ipsec import Database

WITH_SETTINGS = ("clean", "make", "probe", "reconcile.run")


class Command:
    """`vti-updown WORD...` on this machine with its settings; pluto runs and answers as `answer` says."""

    def __init__(self, machine: Machine, patch: pytest.MonkeyPatch) -> None:
        self.machine = machine
        self.answer: DaemonAnswer = said()
        for module in WITH_SETTINGS:
            patch.setattr(f"updown.commands.{module}.settings_lines", lambda *_, **__: machine.lines)
        patch.setattr("updown.commands.reconcile.run.gather", lambda _: self.evidence())
        patch.setattr("updown.commands.reconcile.run.clock.now", lambda: LATER)
        patch.setattr("updown.commands.reconcile.run.time.sleep", lambda _: None)

    def evidence(self) -> Evidence:
        """What pluto says; the kernel has no policy and no state."""
        return Evidence({"libreswan": self.answer}, Database())

    def __call__(self, *words: str, **environ: str) -> int:
        """The exit status."""
        return self.machine.command(*words, **environ)
