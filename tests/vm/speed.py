"""How slow this machine is: limits, which are for what hangs, grow with it."""

from __future__ import annotations

import functools
import os
import statistics
import subprocess
import sys
import time

SAID = "VTI_UPDOWN_SLOWNESS"
"""The variable by which a guest is told: there, an emulated interpreter's start would say something else."""
REFERENCE = 0.010
"""Seconds in which a bare interpreter starts on the machine that the limits were made for."""
STARTS = 7


@functools.cache
def slowness() -> float:
    """How many times as long as the reference a start takes here, as it is loaded now; at least 1."""
    said = os.environ.get(SAID)
    return float(said) if said else of([_start() for _ in range(STARTS)])


def of(seconds: list[float]) -> float:
    """By these starts."""
    return max(1.0, statistics.median(seconds) / REFERENCE)


def _start() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-S", "-c", ""], check=True)
    return time.perf_counter() - began
