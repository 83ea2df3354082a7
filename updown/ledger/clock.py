"""The clock that everything goes by that is counted: seconds since boot, which nobody can set and a suspended machine goes on
counting (CLOCK_BOOTTIME, clock_gettime(2)); and which boot that is. The ledger begins anew with each."""

from __future__ import annotations

import time
from functools import lru_cache

NANOSECONDS = 10**9  # in a second


def now() -> int:
    """Seconds since boot."""
    return since_boot() // NANOSECONDS


def since_boot() -> int:
    """Nanoseconds since boot."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Which boot this is, by the kernel's word (random(4)); empty where it says none. It is read once."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:  # as text it brings a codec
            told = file.read().decode("ascii", "replace").strip()
    except OSError:
        return ""
    return told if told.replace("-", "").isalnum() else ""


def booted() -> int:
    """When the machine was booted, in seconds since the epoch, by today's idea of the time of day: added to a moment since boot
    it makes one that people read."""
    return round((time.time_ns() - since_boot()) / NANOSECONDS)
