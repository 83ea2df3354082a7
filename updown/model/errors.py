"""What can end an invocation, and the exit status each end has: the only such map.

Every failure names the thing, the reason and the next step (promise P10)."""

from __future__ import annotations

DONE = 0
FAILED = 1
USAGE = 2
CONFLICT = 3
LOCKED = 4
FOUND = 5


class UpdownError(Exception):
    """An invocation that cannot go on: `text` says what and why, `hint` what to do next. `kind` is for programs."""

    status = FAILED
    kind = "failed"

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.hint = hint


class StateError(UpdownError):
    """The state directory or the ledger cannot be used: nothing could be counted, so nothing is done."""

    kind = "state"


class Refused(UpdownError):
    """A variable, a setting or a command line that we do not take (exit 2). `where` is the line, or file, of a setting's."""

    status = USAGE
    kind = "refused"
    where = ""


class Untrusted(Refused):
    """A file that others than its owner and root may write: what it says is not done."""


class Conflict(UpdownError):
    """Something that is not ours stands where our device should be (exit 3)."""

    status = CONFLICT
    kind = "conflict"


class Locked(UpdownError):
    """Another invocation holds the lock for longer than we may wait (exit 4); `still`: for so long that it seems to hang."""

    status = LOCKED
    kind = "locked"

    def __init__(self, text: str, hint: str = "", still: bool = False) -> None:
        super().__init__(text, hint)
        self.still = still


class KernelError(UpdownError):
    """The kernel said no: `errno` is its number, `text` what was asked and its answer; `extended`: it gave a reason of its own
    (extended ack)."""

    kind = "kernel"

    def __init__(self, text: str, errno: int, hint: str = "", extended: bool = False) -> None:
        super().__init__(text, hint)
        self.errno = errno
        self.extended = extended


class Notice(str):
    """A warning: its text, and of which kind it is, for programs; the device or connection that it is about, and what mends it,
    where that is known."""

    kind: str
    subject: str
    mend: str

    def __new__(cls, kind: str, text: str, subject: str = "", mend: str = "") -> Notice:
        made = super().__new__(cls, text)
        made.kind, made.subject, made.mend = kind, subject, mend
        return made

    def about(self, subject: str) -> Notice:
        """The same, of `subject` where it has none."""
        return self if self.subject else Notice(self.kind, str(self), subject, self.mend)
