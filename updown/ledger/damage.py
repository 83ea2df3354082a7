"""What is damaged, or no file of ours, in the place of the ledger and its lock, and setting it aside.

An event reads a few rows, and SQLite tells of a damaged page when it reads that. What people type looks at all of a ledger
first; an event does where something fails that should not."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from contextlib import suppress

from updown.concerns.catalogue import key_of
from updown.ledger.store import Ledger, LedgerError
from updown.model.resources import device_of
from updown.model.values import escaped

WORDS = (
    "not a database",
    "malformed",
    "decode to UTF-8",
    "constraint failed",
    "already exists",
    "no such table",
    "no such column",
    "of another version",
    "unsupported file format",
)
"""What SQLite says, and we, of a file that is not a ledger, or only a part of one."""

FILES = ("", "-journal", "-wal", "-shm")
"""What belongs to a ledger, behind its name (sqlite.org/tempfiles.html)."""


def is_damage(error: LedgerError, path: str) -> bool:
    """Whether the file is what is wrong. Pythons before 3.11 lose a message that is no UTF-8, as a damaged name's. SQLite takes
    a file of a later format as one to be read alone (sqlite.org/fileformat2.html, 1.3.3)."""
    said = str(error)
    if "readonly" in said:
        with suppress(OSError), open(path, "rb") as file:
            return file.read(19)[18:] not in (b"", b"\1", b"\2")
    return not said or any(word in said for word in WORDS)


def words_of(error: Exception) -> str:
    """What an error of SQLite's says, which may have bytes of a damaged file in it."""
    return escaped(str(error), 200) or "malformed text"


def verify(ledger: Ledger) -> None:
    """Look at all of a ledger: each page, each row, and that what is there twice is the same. Raises LedgerError."""
    try:
        said = ledger.column("PRAGMA integrity_check(1)")
        if said != ["ok"]:
            raise LedgerError(f"malformed: {said[:1]}")
        for (table,) in ledger.base.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for _, column, kind, needed, *_ in ledger.base.execute(f'PRAGMA table_info("{table}")').fetchall():
                allowed = (kind.lower(), kind.lower() if needed else "null")
                if kind and ledger.column(f'SELECT 1 FROM "{table}" WHERE typeof("{column}") NOT IN (?, ?) LIMIT 1', *allowed):
                    raise LedgerError(f"malformed: {table}.{column} is not of type {kind}")
        asked = {(claim.order, key_of(want), device_of(want)) for claim in ledger.claims() for want in claim.resources}
        if set(ledger.base.execute("SELECT claim, resource, device FROM want")) != asked:
            raise LedgerError("malformed: claims and what they ask for differ")
        ledger.unfinished()
    except (ValueError, TypeError, LookupError, ArithmeticError, MemoryError, RecursionError) as error:
        raise LedgerError(f"malformed: {error}") from None


def no_file(path: str) -> str:
    """Why what stands at `path` is no file; empty where it is one, or nothing is there."""
    try:
        return "" if stat.S_ISREG(os.stat(path).st_mode) else "no file"
    except FileNotFoundError:
        return ""
    except OSError as error:
        return error.strerror or "no file"


def check_files(path: str) -> None:
    """Raises LedgerError where a ledger, or what belongs to it, is no file: SQLite would wait for a pipe's other end."""
    for end in FILES:
        if no_file(path + end):
            raise LedgerError(f"ledger{end}: not a database, but {no_file(path + end)}")


def set_aside(path: str) -> str:
    """Rename a ledger with all that belongs to it, or a lock; its new name, which nothing had before. Raises OSError."""
    number, stem = 1, f"{path}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
    aside = stem
    while any(os.path.lexists(aside + end) for end in FILES):
        number += 1
        aside = f"{stem}-{number}"
    for end in FILES:
        with suppress(FileNotFoundError):
            os.rename(path + end, aside + end)
    return aside


def free_lock(path: str) -> str:
    """Set aside what stands in the place of the lock and is no file; where it is then, empty where all is well. One process at
    a time does that, or the second would move the lock of the first away. Raises OSError."""
    if not no_file(path):
        return ""
    place = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        return set_aside(path) if no_file(path) else ""
    finally:
        os.close(place)
