"""The lock: events of one network namespace come one after the other, and waiting is bounded (promise P7)."""

from __future__ import annotations

import fcntl
import os
import time

from updown.ledger import clock
from updown.model.errors import Locked
from updown.model.values import escaped

LOOK = 0.01
"""Seconds between two looks of who waits."""
STILL = 30
"""Seconds after which a holder that did not change seems to hang."""
HOLDER = 64  # bytes of the text that names the holder


def take_lock(path: str, wait: float) -> int:
    """An open descriptor that holds the lock; it ends with the process, so a dead holder blocks nobody. Raises Locked after
    `wait` seconds."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        wait_for_lock(lock, path, wait)
    except Locked:
        os.close(lock)
        raise
    return lock


def wait_for_lock(lock: int, path: str, wait: float) -> None:
    """Take the lock of an open file. Raises Locked after `wait` seconds."""
    end = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= end:
                holder, since = holder_of(lock)
                why = f"{path} is held by {holder}; waited {wait:g} s"
                still = since is not None and clock.now() - since >= STILL
                raise Locked(why, "see what that process waits for, or end it", still) from None
            time.sleep(LOOK)
    # one write of one length: who reads meanwhile sees a whole holder
    holder = f"pid {os.getpid()} since {time.strftime('%H:%M:%S')}\n{clock.now()}"
    os.pwrite(lock, holder.ljust(HOLDER).encode(), 0)


def holder_of(lock: int) -> tuple[str, int | None]:
    """Who holds a lock, for a message, and since when, in seconds since boot, where it says so."""
    holder, _, since = os.pread(lock, HOLDER, 0).decode("ascii", "replace").strip().partition("\n")
    return escaped(holder, HOLDER) or "another process", int(since) if since.isascii() and since.isdecimal() else None


def yield_lock(lock: int, path: str, wait: float) -> None:
    """Let go of the lock for so long that whoever waits has it, and take it again. Raises Locked after `wait` seconds."""
    fcntl.flock(lock, fcntl.LOCK_UN)
    time.sleep(5 * LOOK)
    wait_for_lock(lock, path, wait)
