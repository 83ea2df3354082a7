"""The spool: events that got no lock in time. Each is a file, durable before its process ends; who holds the lock next applies
them in the order in which they arrived, and removes each when it is complete (promise P7).

A file is complete or not there: it is written under another name and renamed; where its writer dies in between, whoever looks
next renames it. A process may die while it applies one: then it is applied again, as events may be. What lies here and is no
event is set aside, never deleted."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from updown.ledger import clock
from updown.ledger.store import LedgerError
from updown.model.errors import Notice, StateError, UpdownError
from updown.model.operations import Report
from updown.model.record import NamedTuple

FOLDER = "spool"
ASIDE = "spool-aside"
FAILED = "spool-failed"  # what became of events whose callers still run, and may ask
CONFIG = "VTI_UPDOWN_CONFIG"  # the path given by --config; empty: the default file
BOOT = "VTI_UPDOWN_BOOT"  # the boot in which it came
END = b"VTI_UPDOWN_END=1\0"  # without it a file is a part of one
UTF8 = ("utf-8", "surrogateescape")
LARGEST = 1 << 20  # bytes; an environment has less
ABANDONED = 60  # seconds after which a file that is still being written has lost its writer


class SpooledEvent(NamedTuple):
    """An event from the spool: its variables, the settings file it was given, and when it came (seconds since boot)."""

    environ: dict[str, str]
    config: str
    at: int


class SpoolResult(NamedTuple):
    """What became of it: a report, or what it raised. Who gave it a name can find its own."""

    name: str
    report: Report
    error: UpdownError | None = None


class DrainResult(NamedTuple):
    """What was served, and why something had to be left; `first`: it has to be applied before anything that comes later;
    `left`: so many had to be left since the time was over."""

    served: tuple[SpoolResult, ...] = ()
    stopped: UpdownError | None = None
    first: bool = False
    left: int = 0


Serve = Callable[[SpooledEvent], Report]


def new_name() -> str:
    """A name for an event that begins now; names sort by time since boot, which nobody can set."""
    return f"{clock.since_boot():020d}-{os.getpid()}"


def arrival_time(name: str) -> int:
    """When the event with this name began, in seconds since boot. Raises ValueError for another name."""
    moment = name.lstrip(".").partition("-")[0]
    if not moment.isdecimal():
        raise ValueError("no event, by its name")
    return int(moment) // clock.NANOSECONDS


def write_event(place: str, name: str, environ: Mapping[str, str], config: str) -> None:
    """Write an event durably into the spool of `place`. Raises OSError."""
    folder = os.path.join(place, FOLDER)
    os.makedirs(folder, 0o700, exist_ok=True)
    pairs = {**environ, CONFIG: os.path.abspath(config) if config else "", BOOT: clock.boot_id()}
    data = b"".join(f"{key}={value}\0".encode(*UTF8) for key, value in pairs.items()) + END
    unfinished = os.path.join(folder, f".{name}")
    try:
        write_file(unfinished, data)
        with suppress(FileNotFoundError):  # somebody looked, and renamed it already
            os.rename(unfinished, os.path.join(folder, name))
    except OSError:
        with suppress(OSError):
            os.unlink(unfinished)
        raise
    for path in (folder, place):
        sync_folder(path)


def write_file(path: str, data: bytes) -> None:
    """A new file with this content, on the disk."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        while data:
            data = data[os.write(file, data) :]
        os.fsync(file)
    finally:
        os.close(file)


def sync_folder(folder: str) -> None:
    """The names in a folder, on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def waiting_events(place: str) -> list[str]:
    """Names in the spool, first come first; a file that is still being written is none."""
    folder = os.path.join(place, FOLDER)
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return sorted(name for name in names if name[0] != "." or is_abandoned(os.path.join(folder, name)))


def is_abandoned(path: str) -> bool:
    """Whether who wrote this file died over it: that is long ago, and so is the event by its name, which no clock that is set
    changes."""
    try:
        if time.time() - os.lstat(path).st_mtime <= ABANDONED:
            return False
        return clock.now() - arrival_time(os.path.basename(path)) > ABANDONED
    except OSError:
        return False
    except ValueError:
        return True


def rename_complete(place: str) -> None:
    """Give complete files their names that have them not yet: their writers are about to, or were killed."""
    folder = os.path.join(place, FOLDER)
    with suppress(OSError):
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if name[0] == ".":
                with suppress(OSError, ValueError):
                    read_event(path)
                    os.rename(path, os.path.join(folder, name[1:]))


def read_event(path: str) -> SpooledEvent:
    """An event from its file. Raises ValueError for what is none, OSError."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EACCES):
            raise ValueError("no event") from None
        raise
    try:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST:
            raise ValueError("no event")
        data = b""
        while len(data) < about.st_size and (piece := os.read(file, LARGEST)):
            data += piece
    finally:
        os.close(file)
    if not data.endswith(b"\0" + END):
        raise ValueError("no event, or a part of one")
    pairs = [pair.decode(*UTF8) for pair in data[: -len(END)].split(b"\0")]
    environ = dict(pair.partition("=")[::2] for pair in pairs if pair)
    boot = clock.boot_id()
    if environ.pop(BOOT, boot) not in ("", boot):
        raise ValueError("of an earlier boot")
    return SpooledEvent(environ, environ.pop(CONFIG, ""), arrival_time(os.path.basename(path)))


def drain(place: str, serve: Serve, end: float) -> DrainResult:
    """Apply what waits until nothing does, or to the moment `end` (time.monotonic); the caller holds the lock. Of an event that
    fails only the failure is left; where the ledger or the spool itself fails, the rest stays."""
    served: list[SpoolResult] = []
    while True:
        rename_complete(place)
        names = waiting_events(place)
        if not names:
            return DrainResult(tuple(served))
        for name in names:
            if time.monotonic() >= end:
                return DrainResult(tuple(served), left=len(waiting_events(place)))
            path = os.path.join(place, FOLDER, name)
            try:
                served.append(apply_one(place, name, path, serve))
                if os.path.lexists(path):  # else it was set aside
                    leave_failure(place, served[-1])
                    os.unlink(path)
            except (OSError, LedgerError, StateError) as error:
                why = (error.strerror if isinstance(error, OSError) else "") or str(error)
                stopped = UpdownError(f"{path}: {why}; it waits", "free space or mend that; the next event applies it")
                return DrainResult(tuple(served), stopped, first=not isinstance(error, OSError))


def leave_failure(place: str, served: SpoolResult) -> None:
    """Leave word of a failure to the caller, if it still runs; a caller that was killed never takes it."""
    pid = served.name.rpartition("-")[2]
    if served.error is None or not os.path.exists(f"/proc/{pid}"):
        return
    folder = os.path.join(place, FAILED)
    with suppress(OSError):
        os.makedirs(folder, 0o700, exist_ok=True)
        for name in os.listdir(folder):
            if is_abandoned(os.path.join(folder, name)):
                with suppress(OSError):
                    os.unlink(os.path.join(folder, name))
        words = "\0".join((str(served.error.status), served.error.kind, served.error.text, served.error.hint))
        write_file(os.path.join(folder, served.name), words.encode(*UTF8))


def take_failure(place: str, name: str) -> UpdownError | None:
    """The word that another process left of this call's event, if it failed there."""
    path = os.path.join(place, FAILED, name)
    try:
        with open(path, "rb") as file:
            status, kind, text, hint = file.read().decode(*UTF8).split("\0")
    except (OSError, ValueError):
        return None
    with suppress(OSError):
        os.unlink(path)
    error = UpdownError(text, hint)
    error.status, error.kind = int(status), kind
    return error


def apply_one(place: str, name: str, path: str, serve: Serve) -> SpoolResult:
    """Apply one, or set aside what cannot be one. Raises LedgerError, StateError and OSError."""
    try:
        kept = read_event(path)
    except ValueError as error:
        text = f"{quarantine(place, name)} lay in the spool and is {error}; look at it, then delete it"
        return SpoolResult(name, Report("", warnings=(Notice("applied late", text),)), UpdownError(text))
    connection, verb = (kept.environ.get(f"PLUTO_{word}", "") for word in ("CONNECTION", "VERB"))
    late = f"{verb} of {connection}, applied late"
    try:
        return SpoolResult(name, serve(kept))
    except (LedgerError, StateError):
        raise
    except UpdownError as error:
        failure, text = error, f"{late}, failed: {error.text}"
    except Exception as error:  # a defect of ours must not come again at each event
        where = quarantine(place, name)
        failure = UpdownError(f"defect: {type(error).__name__}: {error}", f"please report it with {where}")
        text = f"{late}: {failure.text}; see {where}"
    return SpoolResult(name, Report(connection, warnings=(Notice("applied late", text),)), failure)


def quarantine(place: str, name: str) -> str:
    """Move a file out of the spool; where it is then."""
    folder = os.path.join(place, ASIDE)
    os.makedirs(folder, 0o700, exist_ok=True)
    path = os.path.join(folder, name)
    os.rename(os.path.join(place, FOLDER, name), path)
    return path
