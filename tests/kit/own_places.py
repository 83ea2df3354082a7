"""Keeps what vti-updown has on this machine out of the tests: over its settings and its state, where the program is in use,
empty folders are mounted that nobody but the tests and their processes sees."""

from __future__ import annotations

import ctypes
import os

from updown.ledger.file import STATE_DIR
from updown.settings.file import DEFAULT_FILE

PLACES = (os.path.dirname(DEFAULT_FILE), STATE_DIR)
NEW_NAMESPACE, NEW_USERS = 0x20000, 0x10000000  # CLONE_*
RECURSIVE, PRIVATE = 0x4000, 0x40000  # MS_*


def hide() -> None:
    """Once in a process, before there are threads. Without root in a user namespace of the same user. Raises OSError."""
    there = [place for place in PLACES if os.path.isdir(place)]
    if not there:
        return
    libc = ctypes.CDLL(None, use_errno=True)

    def called(status: int, what: str) -> None:
        if status:
            raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")

    user, group = os.geteuid(), os.getegid()
    called(libc.unshare(NEW_NAMESPACE | (NEW_USERS if user else 0)), "unshare")
    if user:
        for file, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{file}", "w", encoding="ascii") as out:
                out.write(text)
    called(libc.mount(b"none", b"/", None, RECURSIVE | PRIVATE, None), "mount")
    for place in there:
        called(libc.mount(b"tmpfs", place.encode(), b"tmpfs", 0, b"mode=755"), f"mount {place}")
