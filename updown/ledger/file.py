"""Where the ledger lies, and opening it: locked for an event, as a copy in memory for a dry run."""

from __future__ import annotations

import _sqlite3 as sqlite3  # the wrapper around it brings datetime, for types no ledger has: 3 ms of a hook's 30
import os

from updown.ledger import clock
from updown.ledger.damage import check_files, free_lock, is_damage, set_aside, verify, words_of
from updown.ledger.lock import take_lock
from updown.ledger.schema import TABLES, VERSION
from updown.ledger.store import Ledger, LedgerError
from updown.model.errors import StateError
from updown.model.record import Any
from updown.settings.file import other_writer
from updown.settings.keys import LOCK_WAIT

STATE_DIR = "/run/vti-updown"

ANEW = (
    "Tunnels that are up are counted again when they come up; until then `down` does nothing for them, and"
    " `vti-updown clean` removes all that is ours"
)


class EarlierBoot(LedgerError):
    """The ledger is of an earlier boot: what it speaks of has gone, and names, indexes and cookies may be another's by now."""


class Base(sqlite3.Connection):
    """A connection whose every failure is a LedgerError: Python cannot read SQLite's message where a damaged name is in it."""

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        try:
            return super().execute(*arguments)
        except UnicodeDecodeError as error:
            raise LedgerError(f"malformed text: {error.reason}") from None


def folder(state_dir: str, namespace: str) -> str:
    """Where the ledger of a network namespace lies."""
    return os.path.join(state_dir, f"net-{namespace}")


def open_ledger(state_dir: str, namespace: str, wait: float = LOCK_WAIT) -> Ledger:
    """The ledger, locked for us; made where it is missing, and begun anew where it is damaged (`note` says so then). Raises
    Locked after `wait` seconds, StateError where the state directory cannot be used."""
    where = folder(state_dir, namespace)
    path = os.path.join(where, "ledger")
    clock.boot_id()  # before the lock
    try:
        for place in (state_dir, where):
            make_private(place)
        moved = free_lock(os.path.join(where, "lock"))
        lock = take_lock(os.path.join(where, "lock"), wait)
    except OSError as error:
        raise unusable(error.filename or where, error.strerror or str(error)) from None
    ledger = Ledger(sqlite3.connect(":memory:"), lock)
    try:
        try:
            connect_file(ledger, path)
        except LedgerError as error:
            start_empty(ledger, where, error)
    except BaseException:
        ledger.close()
        raise
    if moved:
        ledger.note = f"{where}/lock was no file; set aside as {moved}{'. ' if ledger.note else ''}{ledger.note}"
    return ledger


def make_private(place: str) -> None:
    """The directory `place`, for us alone: who can write there decides which devices and routes we delete."""
    os.makedirs(place, 0o700, exist_ok=True)
    writer = other_writer(os.stat(place))
    if writer:
        why = f"{place}: {writer} may write it, and so what we believe"
        raise StateError(why, f"chown root {place} && chmod go-w {place}, or name another place by --state-dir")


def connect_file(ledger: Ledger, path: str) -> None:
    """Connect `ledger` to its file, and note where that was there and had nothing in it. Raises LedgerError."""
    check_files(path)
    known = os.path.exists(path)
    base = connect(path)
    ledger.base.close()
    ledger.base = base
    if prepare_tables(base) and known:
        ledger.anew = True
        ledger.note = f"the ledger was empty, cut off or never filled; begun anew. {ANEW}"
    check_boot(base)


def prepare_tables(base: sqlite3.Connection) -> bool:
    """Give a new file its tables; whether it was one. Raises LedgerError for another version's file, or somebody else's."""
    version: int = base.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        (tables,) = base.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables:
            raise LedgerError("not a database of ours")
        boot = f"INSERT INTO boot VALUES ('{clock.boot_id()}')"
        base.executescript(f"BEGIN; {TABLES} {boot}; PRAGMA user_version = {VERSION}; COMMIT")
    elif version != VERSION:
        raise LedgerError(f"of another version, {version}")
    return version == 0


def check_boot(base: sqlite3.Connection) -> None:
    """Raises EarlierBoot, or LedgerError where it does not say of which boot it is."""
    row = base.execute("SELECT id FROM boot").fetchone()
    if row is None:
        raise LedgerError("malformed: of no boot")
    now = clock.boot_id()
    if row[0] and now and row[0] != now:
        (claims,) = base.execute("SELECT count(*) FROM claim").fetchone()
        raise EarlierBoot(f"of an earlier boot, with {claims} claims")


def start_empty(ledger: Ledger, where: str, error: LedgerError) -> None:
    """Set the damaged file in `where` aside and go on with an empty one; raises StateError where `error` says something
    else, or says it again. Of those of earlier boots there is one aside."""
    path = os.path.join(where, "ledger")
    old = isinstance(error, EarlierBoot)
    if ledger.anew or not (old or is_damage(error, path)):
        raise unusable(path, words_of(error)) from None
    ledger.base.close()
    try:
        aside = f"{path}.earlier-boot" if old else set_aside(path)
        if old:
            os.rename(path, aside)
        connect_file(ledger, path)
    except (OSError, LedgerError) as problem:
        raise unusable(path, str(problem)) from None
    ledger.anew = True
    ledger.note = f"the ledger was damaged ({words_of(error)}); set aside as {aside}, begun anew. {ANEW}"
    if old:
        ledger.note = f"the ledger was {error}, which went with it; set aside as {aside}, begun anew"


MAKE_UP = "then vti-updown reconcile, which ends what went down meanwhile; what was to come up: take it down and up"
"""No later event speaks of a tunnel that went down."""


def unusable(what: str, why: str) -> StateError:
    """The state directory cannot be used: without it nothing could be counted, so nothing is done."""
    hint = "run as root, or name another by --state-dir"
    if "full" in why or "No space" in why:
        hint = f"free space there (df shows it), {MAKE_UP}"
    elif "Read-only" in why or "readonly" in why:
        hint = f"make it writable (ReadWritePaths= in the daemon's unit?), {MAKE_UP}; or name another by --state-dir"
    elif "I/O error" in why:
        hint = f"look at that file system (df, dmesg), {MAKE_UP}"
    elif "is locked" in why:
        hint = f"another program reads or writes that file: end it, {MAKE_UP}"
    elif "exists" in why or "Not a directory" in why:
        hint = "move away what lies there; a directory is needed"
    elif "Is a directory" in why or "unable to open" in why:
        hint = "move away what lies there; a file is needed"
    return StateError(f"{what}: {why}", hint)


def connect(path: str) -> sqlite3.Connection:
    """An SQLite connection in the way we use it: explicit transactions."""
    base = sqlite3.connect(path, timeout=LOCK_WAIT, isolation_level=None, factory=Base)
    base.execute("PRAGMA synchronous = OFF")
    return base


def copy_into(memory: sqlite3.Connection, path: str) -> None:
    """Copy the file at `path`. What a killed event had begun to write has to be taken back first, which SQLite does where it
    may write: in a copy of the file then."""
    named = "".join(f"%{ord(one):02x}" if one in "%?#" else one for one in os.path.abspath(path))  # sqlite.org/uri.html
    stored = sqlite3.connect(f"file://{named}?mode=ro", uri=True, timeout=LOCK_WAIT)
    try:
        stored.backup(memory)
    except LedgerError:
        if not os.path.exists(f"{path}-journal"):
            raise
        import shutil
        import tempfile

        with tempfile.TemporaryDirectory(prefix="vti-updown.") as place:
            for end in ("", "-journal"):
                shutil.copyfile(path + end, os.path.join(place, "ledger" + end))
            again = connect(os.path.join(place, "ledger"))
            again.backup(memory)
            again.close()
    finally:
        stored.close()


def copy_ledger(state_dir: str, namespace: str) -> Ledger:
    """A copy in memory, for --dry-run, explain and status: nothing on disk is written, no lock is taken."""
    memory = connect(":memory:")
    path = os.path.join(folder(state_dir, namespace), "ledger")
    note = ""
    try:
        os.stat(path)
        check_files(path)
        copy_into(memory, path)
        if prepare_tables(memory):
            note = f"the ledger in {state_dir} was empty, cut off or never filled"
        check_boot(memory)
        verify(Ledger(memory))
    except (OSError, LedgerError) as error:
        if not isinstance(error, FileNotFoundError):
            note = f"the ledger in {state_dir} cannot be read ({words_of(error)}); taken as empty"
        memory.close()
        memory = connect(":memory:")
        prepare_tables(memory)
    return Ledger(memory, note=note)
