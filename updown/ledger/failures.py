"""What failed last of each connection, until something of it succeeds: `status` and `check` show it.

A file each beside the ledger and no table in it, since it counts most where the ledger cannot be opened; it needs no lock. How
many there are and how old they get is bounded."""

from __future__ import annotations

import binascii
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from updown.ledger.file import make_private
from updown.model.errors import FAILED, StateError, UpdownError
from updown.model.record import NamedTuple, dumps, loads
from updown.model.values import escaped

FOLDER = "failed"
MOST = 200  # connections of which one is remembered, the latest
DAYS = 7  # for which it is
LONGEST = 2000  # characters of a text
LARGEST = 65536  # bytes of a file; ours have less


class Failure(NamedTuple):
    """An event that failed: its connection and verb as the daemon wrote them, when it came (seconds since boot), exit status
    and kind (model/errors.py), what was said and what to do next."""

    connection: str
    verb: str
    at: int
    status: int
    kind: str
    text: str
    hint: str = ""


def failure(connection: str, verb: str, at: int, error: Exception) -> Failure:
    """What is to be remembered of an error; one that is none of ours is a defect."""
    if isinstance(error, UpdownError):
        return Failure(connection, verb, at, error.status, error.kind, error.text, error.hint)
    text = f"{type(error).__name__}: {error}"
    return Failure(connection, verb, at, FAILED, "defect", text, "please report it; the journal has the traceback")


@contextmanager
def remembered(place: str, connection: str, verb: str, at: int) -> Iterator[None]:
    """An event, whose failure is remembered."""
    try:
        yield
    except Exception as error:
        remember(place, failure(connection, verb, at, error))
        raise


def remember(place: str, failed: Failure) -> None:
    """Note it in the folder of ledger and lock, in place of an earlier one. Where that cannot be written it is lost: who failed
    has said so already."""
    folder = os.path.join(place, FOLDER)
    failed = failed._replace(text=failed.text[:LONGEST], hint=failed.hint[:LONGEST])
    with suppress(OSError, StateError):
        for each in (os.path.dirname(place), place, folder):
            make_private(each)
        path = os.path.join(folder, name_of(failed.connection))
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, dumps(failed).encode())
        finally:
            os.close(file)
        kept = {name_of(one.connection) for one in failures(place, failed.at)[-MOST:]}
        for name in set(os.listdir(folder)) - kept:
            os.unlink(os.path.join(folder, name))


def forget(place: str, connection: str, verb: str) -> None:
    """An event of the connection succeeded. One that ends something makes up for no `up` that failed: pluto sends a `down`
    after such a one."""
    path = os.path.join(place, FOLDER, name_of(connection))
    if os.path.lexists(path):
        with suppress(OSError):
            found = read(path)
            if found is None or not ends(verb) or ends(found.verb):
                os.unlink(path)


def forget_all(place: str) -> None:
    """Nothing failed."""
    folder = os.path.join(place, FOLDER)
    with suppress(OSError):
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)


def failures(place: str, now: int) -> list[Failure]:
    """All that is remembered, the latest last."""
    folder = os.path.join(place, FOLDER)
    try:
        found = [read(os.path.join(folder, name)) for name in os.listdir(folder)]
    except OSError:
        return []
    young = [one for one in found if one is not None and 0 <= now - one.at <= DAYS * 86400]
    return sorted(young, key=lambda one: (one.at, one.connection))


def read(path: str) -> Failure | None:
    """One from its file; None for a file that is none of ours."""
    with suppress(OSError, ValueError, TypeError, RecursionError):
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            regular = stat.S_ISREG(os.fstat(file).st_mode)
            found = Failure(*loads(os.read(file, LARGEST).decode())) if regular else None
        finally:
            os.close(file)
        if found and [type(value) for value in found] == [str, str, int, int, str, str, str]:
            return found
    return None


def told(one: Failure, booted: int) -> str:
    """What is to be said of it; `booted` in seconds since the epoch."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(booted + one.at))
    names = f"{escaped(one.connection, 40)}: {escaped(one.verb, 40)}"
    return f"{names} failed at {when}, and nothing since succeeded: {one.text} (status {one.status}, {one.kind})"


def ends(verb: str) -> bool:
    """Whether a verb, which need not be a good one, ends something."""
    return verb.partition("-")[0] in ("down", "unroute")


def name_of(connection: str) -> str:
    """The name of its file: no byte of a connection's name is one of a path."""
    data = connection.encode("utf-8", "surrogatepass")
    return f"{data[:100].hex()}-{binascii.crc32(data):08x}"
