"""Events against this machine: settings file, ledger on disk, kernel, spool. What is pure stays in event.py.

Everything is read and imported before the lock is taken; events from the spool are the exception, since they come while it is
held."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from updown import daemons, event
from updown.kernel.netlink.rtnetlink import Netlink
from updown.ledger import clock, failures, spool
from updown.ledger.damage import verify
from updown.ledger.file import STATE_DIR, copy_ledger, folder, open_ledger, start_empty, unusable
from updown.ledger.lock import LOOK
from updown.ledger.spool import SpooledEvent, SpoolResult
from updown.ledger.store import Ledger, LedgerError
from updown.model.context import Context
from updown.model.errors import Locked, Notice, Refused, StateError, UpdownError
from updown.model.operations import Report
from updown.model.record import NamedTuple
from updown.settings.file import Files, Lines, resolve, settings_lines
from updown.settings.keys import LOCK_WAIT

SERVE_SECONDS = 5.0
"""For which a call serves events of others at most: its daemon may stand still meanwhile."""


class SpoolBlocked(StateError):
    """Events that came before this one cannot be applied now, and so this one may not be."""


class SpoolLeft(SpoolBlocked):
    """So many events came before this one that there was no time to apply them all."""


class StateDir(NamedTuple):
    """Where events of this call are served: the state of one network namespace, and the settings files read so far."""

    state_dir: str
    namespace: str
    netlink: Netlink
    files: Files

    @property
    def path(self) -> str:
        """The folder of ledger, lock and spool."""
        return folder(self.state_dir, self.namespace)


def namespace_name(netlink: Netlink) -> str:
    """What tells this network namespace from every other since boot: its cookie, where the kernel is 5.14 or later; an inode
    number may come again."""
    cookie = netlink.namespace_cookie()
    return str(cookie) if cookie is not None else f"i{os.stat('/proc/self/ns/net').st_ino}"


@contextmanager
def present_state(state_dir: str, files: Files | None = None) -> Iterator[StateDir]:
    """The state of the present network namespace, with a socket to its kernel; an empty `state_dir` is the default."""
    with Netlink() as netlink:
        yield StateDir(state_dir or STATE_DIR, namespace_name(netlink), netlink, {} if files is None else files)


def serve_event(
    context: Context, environ: Mapping[str, str], state_dir: str = "", config: str = "", dry: bool = False
) -> Report:
    """One event; `dry`, without any effect. `environ` is kept where the lock is not to be had. Empty paths: the default."""
    name = spool.new_name()
    context = context._replace(config=os.path.abspath(config) if config else "")
    now = clock.now()
    daemons.rules_of(context)  # imports those of its daemon, before the lock
    with present_state(state_dir, {}) as place:
        if dry:
            lines = settings_lines(config, context.verb.makes, place.files)
            with opened(place, lines, dry) as ledger:
                return with_note(ledger, event.run(context, lines, ledger, place.netlink, now, dry))
        with failures.remembered(place.path, context.connection, context.verb.text, now):
            return serve_now(place, context, environ, config, name, now)


def serve_now(place: StateDir, context: Context, environ: Mapping[str, str], config: str, name: str, now: int) -> Report:
    """An event under this name in the spool, where it has to wait, that came at `now`."""
    late: list[SpoolResult] = []
    try:
        lines = settings_lines(config, context.verb.makes, place.files)
    except Refused:
        remember_refused(place, context, now)
        raise
    with reported(late, name):
        try:
            with locked(place, resolve(lines, "").lock_wait, late) as ledger:
                report = run_locked(place, context, lines, ledger, now)
        except (Locked, SpoolBlocked) as busy:
            report = spool_event(place, name, daemons.known_variables(environ), config, busy, late)
    if context.verb.joined:
        return report  # its lines go to the journal, where those of the others are already
    failed = [served.report for served in late if served.name != name and served.error]
    return report._replace(warnings=report.warnings + tuple(text for other in failed for text in other.warnings))


def remember_unread(environ: Mapping[str, str], state_dir: str, error: Refused) -> None:
    """Of an event whose variables cannot be read the failure is remembered as well."""
    connection = environ.get("PLUTO_CONNECTION", "")
    with suppress(UpdownError, OSError), present_state(state_dir) as place:
        if connection:
            failed = failures.failure(connection, environ.get("PLUTO_VERB", ""), clock.now(), error)
            failures.remember(place.path, failed)


def remember_refused(place: StateDir, context: Context, now: int) -> None:
    """Of an event whose settings cannot be read: the daemon has the SA all the same, and its end is not another one's. Where
    the ledger is not to be had it stays unknown, as after a rekeying; the settings are what has to be told."""
    late: list[SpoolResult] = []
    with reported(late), suppress(UpdownError), locked(place, LOCK_WAIT, late) as ledger:
        event.remember_refused(ledger, context, now)
        if ledger.note:  # no later call has it to tell
            late.append(SpoolResult("-", Report(context.connection, warnings=(Notice("ledger", ledger.note),))))


@contextmanager
def opened(place: StateDir, lines: Lines, dry: bool) -> Iterator[Ledger]:
    """The ledger of a namespace, for what people type: locked, for no longer than the settings say, and with nothing waiting in
    its spool; or, `dry`, a copy in memory. Raises Locked, or StateError where it cannot be used."""
    late: list[SpoolResult] = []
    wait = resolve(lines, "").lock_wait
    with reported(late):
        note = "" if dry else empty_spool(place, wait, late)
    copied = copy_ledger(place.state_dir, place.namespace) if dry else locked(place, wait, late := [])
    with reported(late), copied as ledger:
        try:
            try:
                if not dry:
                    ledger.note = ledger.note or note
                    verify(ledger)
            except LedgerError as error:
                start_empty(ledger, place.path, error)  # as an event does
            yield ledger
        except LedgerError as error:
            raise unusable(place.path, str(error)) from None


@contextmanager
def locked(place: StateDir, wait: float, late: list[SpoolResult]) -> Iterator[Ledger]:
    """The ledger, locked. What waits in the spool is applied before, after, and once more when the lock was let go: an event
    that was kept after the last look found the lock still held; no longer than SERVE_SECONDS, the rest is left to the next.
    Raises Locked; SpoolBlocked where what came before cannot be applied, or not in that time."""
    stopped = True
    end = time.monotonic() + wait + SERVE_SECONDS
    try:
        with open_ledger(place.state_dir, place.namespace, wait) as ledger:
            end = time.monotonic() + SERVE_SECONDS
            stopped = drain_spool(place, ledger, late, end, before=True)
            began = time.monotonic()
            try:
                yield ledger
            finally:
                end += time.monotonic() - began  # our own work is not the others'
                stopped = stopped or ledger.lost or drain_spool(place, ledger, late, end)
    finally:
        while not stopped and spool.waiting_events(place.path):
            try:
                with open_ledger(place.state_dir, place.namespace, 0) as ledger:
                    stopped = drain_spool(place, ledger, late, end)
            except Locked:
                break  # whoever has it now looks as well


def empty_spool(place: StateDir, wait: float, late: list[SpoolResult]) -> str:
    """Apply all that waits, for what people type: it may take as long as it takes, but others get the lock in between. The note
    of the ledger, if it has one."""
    while spool.waiting_events(place.path):
        try:
            with locked(place, wait, late) as ledger:
                return ledger.note
        except SpoolLeft:
            time.sleep(5 * LOOK)
    return ""


def drain_spool(place: StateDir, ledger: Ledger, late: list[SpoolResult], end: float, before: bool = False) -> bool:
    """Serve what waits, to a moment of time.monotonic; whether something goes on waiting. Raises SpoolBlocked where it has to
    come `before` another."""

    def serve_kept(kept: SpooledEvent) -> Report:
        connection, verb = (kept.environ.get(f"PLUTO_{word}", "") for word in ("CONNECTION", "VERB"))
        with failures.remembered(place.path, connection, verb, kept.at):
            context = daemons.read(kept.environ)._replace(config=kept.config)
            try:
                lines = settings_lines(kept.config, context.verb.makes, place.files)
            except Refused:
                event.remember_refused(ledger, context, kept.at)
                raise
            return run_locked(place, context, lines, ledger, kept.at)

    found = spool.drain(place.path, serve_kept, end)
    late += found.served
    if found.left:
        text = (
            f"{found.left} events wait yet, since there was no time for all; the next event, or vti-updown reconcile, goes on"
        )
        if before:
            raise SpoolLeft(text, "vti-updown reconcile")
        late.append(SpoolResult("", Report("", warnings=(Notice("spool waits", text),))))
        return True
    if found.stopped and found.first and before:
        raise SpoolBlocked(found.stopped.text, found.stopped.hint)
    if found.stopped:
        late.append(SpoolResult("", Report("", warnings=(Notice("spool waits", found.stopped.text),)), found.stopped))
    return found.stopped is not None


def run_locked(place: StateDir, context: Context, lines: Lines, ledger: Ledger, now: int) -> Report:
    """One event under the lock, and once more where the ledger shows its damage only now."""
    if not context.verb.steps:
        return Report(context.connection)
    while True:
        try:
            report = with_note(ledger, event.run(context, lines, ledger, place.netlink, now, False))
            failures.forget(place.path, context.connection, context.verb.text)
            return report
        except UpdownError:
            raise
        except Exception as error:  # where the ledger is damaged, anything may fail
            start_empty(ledger, place.path, error if isinstance(error, LedgerError) else damage_behind(error, ledger))


def damage_behind(error: Exception, ledger: Ledger) -> LedgerError:
    """What is wrong with the ledger, where that is behind an error; raises the error where all is well."""
    try:
        verify(ledger)
    except LedgerError as damage:
        return damage
    raise error


def with_note(ledger: Ledger, report: Report) -> Report:
    """The report, with what is to be said of the ledger."""
    return report._replace(warnings=(Notice("ledger", ledger.note), *report.warnings)) if ledger.note else report


def spool_event(
    place: StateDir, name: str, environ: Mapping[str, str], config: str, busy: UpdownError, late: list[SpoolResult]
) -> Report:
    """Spool an event that got no lock, and try once more: who held it may have let go before the file was there. A kept event
    is a promise, and so no failure: for one pluto would give the tunnel up. Raises Locked where it could not be kept, or the
    holder of the lock stands still, StateError where the spool cannot be emptied."""
    connection = environ.get("PLUTO_CONNECTION", "")
    try:
        spool.write_event(place.path, name, environ, config)
    except OSError as error:
        why = f"{busy.text}; this event is lost, it could not be kept: {error.strerror}"
        hint = f"see to {place.path} (df, mount); then take the tunnel up or down again"
        raise type(busy)(why, hint) from None
    stopped: list[UpdownError | None] = []
    try:
        if isinstance(busy, SpoolLeft):
            raise busy
        with locked(place, 0, late):
            pass
    except Locked as held:
        why = f"{busy.text}; the event is kept, and applied by that process or with the next event"
        if held.still:
            raise Locked(f"{why}; that process seems to hang", busy.hint) from None
        return Report(connection, warnings=(Notice("kept", why),))
    except SpoolLeft as left:
        return Report(connection, warnings=(Notice("kept", f"{left.text}; this event is kept, and applied after them"),))
    except SpoolBlocked as error:
        stopped.append(error)
    for served in late:
        if served.name == name and served.error:
            raise served.error
        if served.name == name:
            return served.report
    for trouble in filter(None, [*stopped, *(served.error for served in late if served.name == "")]):
        raise StateError(f"{trouble.text}; this event is kept, and applied after it", trouble.hint)
    failed = spool.take_failure(place.path, name)
    if failed:
        raise failed
    remark = "applied by the call that held the lock; see the journal"
    return Report(connection, remarks=(remark,))


@contextmanager
def reported(late: list[SpoolResult], own: str = "") -> Iterator[None]:
    """What became of events that waited goes to the journal at the end: the calls that brought them are over."""
    try:
        yield
    finally:
        if late:
            from updown.kernel import journal
            from updown.output.report import hook_lines

            for served in late:
                if served.name != own:
                    journal.send(hook_lines(served.report), warning=bool(served.report.warnings))
