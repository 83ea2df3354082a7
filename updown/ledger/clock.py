"""The clock that everything goes by that is counted: seconds since boot, which nobody can set and a suspended machine goes on
counting (CLOCK_BOOTTIME, clock_gettime(2)). The ledger lies in /run, and so begins anew with each boot."""

from __future__ import annotations

import time

NANOSECONDS = 10**9  # in a second


def now() -> int:
    """Seconds since boot."""
    return since_boot() // NANOSECONDS


def since_boot() -> int:
    """Nanoseconds since boot."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def booted() -> int:
    """When the machine was booted, in seconds since the epoch, by today's idea of the time of day: added to a moment since boot
    it makes one that people read."""
    return round((time.time_ns() - since_boot()) / NANOSECONDS)
