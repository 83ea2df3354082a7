"""The folder that keeps what takes long to have: kernels, roots of other releases, strongSwan, virtual environments."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


def folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    place = Path(base) / "vti-updown-tests"
    place.mkdir(parents=True, exist_ok=True)
    return place


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock of the cache: what two runs would prepare at once, one prepares."""
    with open(folder() / f"{name}.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
