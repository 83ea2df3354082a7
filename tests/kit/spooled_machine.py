"""The same machine where events may not get the lock: the real serve.py and spool.py, with moments between their steps.

The lock is a switch, the ledger is in memory, the spool a real folder.
"""

import errno
import os
import sqlite3
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.kit.machine import Environment, Machine, MortalLedger, SwiftMachine
from updown import serve
from updown.kernel import journal
from updown.ledger import clock, spool
from updown.model.errors import Locked, StateError
from updown.model.operations import Report

KEPT = ("kept", "kept and dies", "kept and freed", "kept or lost", "kept behind")
"""What may happen to a call that finds the lock held: it is kept; its process dies over that; the lock is let go meanwhile; the
disk of the spool is full at some moment. Or it has the lock, but the disk is too full for what waits."""


MOMENTS = ("before writing", "half written", "written", "before renaming", "renamed", "before removing", "removed")


class SpooledMachine(SwiftMachine):
    """Every call goes through serve.serve_event."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        super().__init__(patch)
        self.folder = folder
        self.now = 100_000
        self.came = 0
        self.taken = False
        self.freed = False
        self.full = 0  # commits that fail
        patch.setattr(clock, "since_boot", self.since_boot)
        patch.setattr(serve, "open_ledger", self.open_ledger)
        patch.setattr(serve, "settings_lines", lambda *_: self.lines)
        patch.setattr(journal, "send", lambda *_, **__: None)
        patch.setattr(spool, "os", System(self.moment))
        patch.setattr(spool, "write_file", self.write)

    def since_boot(self) -> int:
        """The clock, which no two events read alike."""
        self.came += 1
        return self.now * clock.NANOSECONDS + self.came

    def open_ledger(self, *_: object) -> MortalLedger:
        """The ledger, if nobody has it."""
        if self.taken:
            raise Locked("the lock is held by pid 1; waited 0 s")
        return self.ledger()

    def write(self, path: str, data: bytes) -> None:
        """A file of the spool, in two pieces."""
        self.moment("before writing")
        with open(path, "xb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            self.moment("half written")
            file.write(data[len(data) // 2 :])
        self.moment("written")
        self.taken = self.taken and not self.freed

    def send(self, environment: Environment, dry: bool = False) -> Report:
        """One event, as the hook runs it."""
        self.moments = []
        return self.serve(environment, dry)

    def held_up(self, environment: Environment, how: str, at: int) -> tuple[bool, bool]:
        """It cannot be served now. Whether it succeeded, and whether it counts: now, or when the next one has the lock."""
        self.taken, self.freed = how != "kept behind", how == "kept and freed"
        self.full = 0 if self.taken else 99
        try:
            if how == "kept and freed":
                self.send(environment)
                return True, True
            if how == "kept and dies":
                dead = self.interrupted(lambda: self.kept(environment), at)
                return False, not dead or "written" in self.moments
            if how == "kept or lost":
                self.refuses_at = at
            return False, self.kept(environment)
        finally:
            self.taken, self.refuses_at, self.full = False, None, 0

    def kept(self, environment: Environment) -> bool:
        """It ends well where it is kept, with status 4 where it is lost, or 1 where the ledger fails; whether it is kept, as it
        says."""
        try:
            said: str = self.send(environment).warnings[-1]
        except (Locked, StateError) as error:
            said = error.text
            assert isinstance(error, StateError) or "event is lost" in said
        assert "event is kept" in said or "event is lost" in said
        return "event is kept" in said

    def waiting(self) -> list[str]:
        """Complete files in the spool, whatever their names."""
        place = self.folder / "net-1" / spool.FOLDER
        return [path.name for path in place.iterdir() if path.read_bytes().endswith(spool.END)] if place.exists() else []

    def moment(self, text: str) -> None:
        if text in MOMENTS:
            full = self.refuses_at == len(self.moments) and text not in ("renamed", "before removing", "removed")
            Machine.moment(self, text)
            if full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return
        if text == "before a commit" and self.full:
            self.full -= 1
            raise sqlite3.OperationalError("database or disk is full")
        super().moment(text)


class System:
    """The module os, with moments around what changes the spool."""

    def __init__(self, moment: Callable[[str], None]) -> None:
        self.moment = moment

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def rename(self, old: str, new: str) -> None:
        """A complete file gets its name, or is set aside."""
        self.moment("before renaming")
        os.rename(old, new)
        self.moment("renamed")

    def unlink(self, path: str) -> None:
        """An event is complete."""
        self.moment("before removing")
        os.unlink(path)
        self.moment("removed")
