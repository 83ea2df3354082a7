"""Events while `reconcile` is at work: it asks the daemons without the lock, and lets go of it where it has much to do. What an
event changed meanwhile is not what was asked about."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence

from updown.commands.reconcile.decide import Evidence
from updown.daemons.strongswan import vici
from updown.ledger.lock import yield_lock
from updown.ledger.store import Ledger
from updown.model.claims import SA, Change, Claim
from updown.model.errors import StateError

HELD = 1.0  # seconds, about, for which the lock is held at a stretch: events wait for 5
AGAIN = 60.0  # seconds that we wait for it then


def lock_yielder(ledger: Ledger, path: str) -> Callable[[], bool]:
    """What lets others have the lock where we had it for long, and returns whether one of them wrote into the ledger."""
    since = time.monotonic()

    def taken_over() -> bool:
        nonlocal since
        if ledger.lock is None or time.monotonic() - since < HELD:
            return False
        before, commits = os.stat(path), commits_of_others(ledger)
        try:
            yield_lock(ledger.lock, os.path.join(os.path.dirname(path), "lock"), AGAIN)
            since, after = time.monotonic(), os.stat(path)
            if before.st_ino != after.st_ino:
                raise StateError(f"{path}: another process set it aside meanwhile", "run reconcile again")
        except BaseException:
            ledger.lost = True
            raise
        return commits != commits_of_others(ledger)

    return taken_over


def commits_of_others(ledger: Ledger) -> int:
    """A number that changes with each commit by another connection (sqlite.org/pragma.html, data_version)."""
    return int(ledger.base.execute("PRAGMA data_version").fetchone()[0])


def changed_claims(before: Sequence[Claim], now: Sequence[Claim], facts: Evidence) -> frozenset[str]:
    """The keys of claims of which the facts may say nothing: new ones, changed ones, and those that an event may have renewed
    without a trace: without SPIs the first one after the daemon's restart can be the old one in every byte."""
    same = set(before) & set(now)
    silent = [claim for claim in now if claim.sa.daemon == vici.DAEMON or claim.kind != SA]
    older = {claim.key for claim in silent if claim.since < facts.answer(claim.sa.daemon).since}
    return frozenset({claim.key for claim in now if claim not in same} | older)


def write_time(path: str) -> int:
    """When the ledger was last written, in nanoseconds; 0 where there is none."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def changed_keys(change: Change, then: Mapping[str, Claim], ledger: Ledger, facts: Evidence) -> frozenset[str]:
    """The keys of those claims of a change that are not any more what they were when it was decided on."""
    keys = [claim.key for claim in (*change.put, *change.end)]
    now = [claim for key in keys for claim in ledger.claims("key = ?", key)]
    return changed_claims([then[key] for key in keys], now, facts) | (set(keys) - {claim.key for claim in now})


def excluding(change: Change, late: frozenset[str]) -> Change:
    """The change, but for these claims."""
    return Change(*(tuple(claim for claim in claims if claim.key not in late) for claims in change))
