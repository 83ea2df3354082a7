"""Events against this machine: settings file, ledger on disk, kernel, spool. What is pure stays in event.py.

Everything is read and imported before the lock is taken; events from the spool are the exception, since they come while it is
held.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from updown import daemons, event
from updown.commands.arguments import Arguments
from updown.event import Report
from updown.kernel import journal
from updown.kernel.netlink.rtnetlink import Netlink
from updown.ledger import clock, spool
from updown.ledger.file import STATE_DIR, copy_ledger, folder, open_ledger, start_empty, unusable
from updown.ledger.spool import SpooledEvent, SpoolResult
from updown.ledger.store import Ledger, LedgerError
from updown.model.context import Context
from updown.model.errors import Locked, Refused, StateError, UpdownError
from updown.model.record import NamedTuple
from updown.settings.file import DEFAULT_FILE, Line, lock_wait, read_files

Lines = tuple[Line, ...]


class SpoolBlocked(StateError):
    """Events that came before this one cannot be applied now, and so this one may not be."""


class StateDir(NamedTuple):
    """Where events of this call are served: the state of one network namespace, and the settings files read so far."""

    state_dir: str
    namespace: str
    netlink: Netlink
    files: dict[str, Lines | Refused]

    @property
    def path(self) -> str:
        """The folder of ledger, lock and spool."""
        return folder(self.state_dir, self.namespace)


def namespace_name(netlink: Netlink) -> str:
    """What tells this network namespace from every other since boot: its cookie, where the kernel is 5.14 or later; an inode
    number may come again."""
    cookie = netlink.namespace_cookie()
    return str(cookie) if cookie is not None else f"i{os.stat('/proc/self/ns/net').st_ino}"


def settings_lines(arguments: Arguments) -> Lines:
    """The administrator's file; one named on the command line must be there."""
    return lines_of(arguments.config or "")


def lines_of(config: str) -> Lines:
    """The lines of the settings file that --config named, or of the default one."""
    if config:
        if not os.path.exists(config):
            raise Refused(f"{config}: no such file", "name the settings file by --config FILE")
        return read_files(config)
    return read_files(DEFAULT_FILE)


def read_once(config: str, files: dict[str, Lines | Refused]) -> Lines:
    """The same, read once in a call. Raises Refused for a file with a mistake, each time it is asked for."""
    path = os.path.abspath(config) if config else ""
    if path not in files:
        try:
            files[path] = lines_of(path)
        except Refused as error:
            files[path] = error
    found = files[path]
    if isinstance(found, Refused):
        raise found
    return found


def lines_for(context: Context, config: str, files: dict[str, Lines | Refused]) -> Lines:
    """The settings of an event. Verbs that end need none: a broken file keeps no tunnel alive."""
    try:
        return read_once(config, files)
    except Refused:
        if context.verb.makes:
            raise
        return ()


def serve_event(
    arguments: Arguments, context: Context, dry: bool = False, environ: Mapping[str, str] | None = None
) -> Report:
    """One event; with `dry` the same without any effect. `environ` is what is kept of it where the lock is not to be had."""
    name = spool.new_name()
    files: dict[str, Lines | Refused] = {}
    now = clock.now()
    daemons.rules_of(context)  # imports those of its daemon, before the lock
    try:
        lines = lines_for(context, arguments.config or "", files)
    except Refused:
        if not dry:
            remember_refused(arguments, context, now)
        raise
    with Netlink() as netlink:
        place = place_of(arguments, netlink, files)
        if dry:
            with copy_ledger(place.state_dir, place.namespace) as ledger:
                try:
                    return with_note(ledger, event.run(context, lines, ledger, netlink, now, dry))
                except LedgerError as error:
                    raise unusable(place.path, str(error)) from None
        late: list[SpoolResult] = []
        try:
            try:
                with locked(place, lock_wait(lines), late) as ledger:
                    report = run_locked(place, context, lines, ledger, now)
            except (Locked, SpoolBlocked) as busy:
                if environ is None:
                    raise
                report = spool_event(place, name, daemons.known_variables(environ), arguments.config or "", busy, late)
        finally:
            report_late(late, name)
        if context.verb.joined:
            return report  # its lines go to the journal, where those of the others are already
        return report._replace(warnings=report.warnings + late_failures(late, name))


def remember_refused(arguments: Arguments, context: Context, now: int) -> None:
    """Of an event whose settings cannot be read: the daemon has the SA all the same, and its end is not another one's. Where
    the ledger is not to be had it stays unknown, as after a rekeying; the settings are what has to be told."""
    late: list[SpoolResult] = []
    try:
        with (
            suppress(UpdownError),
            Netlink() as netlink,
            locked(place_of(arguments, netlink, {}), lock_wait(()), late) as ledger,
        ):
            event.remember_refused(ledger, context, now)
            if ledger.note:  # no later call has it to tell
                late.append(SpoolResult("-", Report(context.connection, warnings=(ledger.note,))))
    finally:
        report_late(late, "")


def place_of(arguments: Arguments, netlink: Netlink, files: dict[str, Lines | Refused]) -> StateDir:
    """The state of the present network namespace."""
    return StateDir(arguments.state_dir or STATE_DIR, namespace_name(netlink), netlink, files)


@contextmanager
def open_for_command(arguments: Arguments, netlink: Netlink, dry: bool) -> Iterator[Ledger]:
    """The ledger of this namespace, for what people type: locked, with nothing waiting in its spool; or, for a dry run, a copy
    in memory."""
    place = place_of(arguments, netlink, {})
    if dry:
        with copy_ledger(place.state_dir, place.namespace) as ledger:
            yield ledger
        return
    late: list[SpoolResult] = []
    try:
        wait = lock_wait(settings_lines(arguments))
    except Refused:
        wait = lock_wait(())
    try:
        with locked(place, wait, late) as ledger:
            check_readable(ledger, place)
            try:
                yield ledger
            except LedgerError as error:
                raise unusable(place.path, str(error)) from None
    finally:
        report_late(late, "")


def check_readable(ledger: Ledger, place: StateDir) -> None:
    """Begin a ledger anew that cannot be read, as an event does."""
    try:
        list(ledger.claims())
    except LedgerError as error:
        start_empty(ledger, place.path, error)


@contextmanager
def locked(place: StateDir, wait: float, late: list[SpoolResult]) -> Iterator[Ledger]:
    """The ledger, locked. What waits in the spool is applied before, after, and once more when the lock was let go: an event
    that was kept after the last look found the lock still held. Raises Locked; Stuck, where what waits cannot be applied."""
    stopped = True
    try:
        with open_ledger(place.state_dir, place.namespace, wait) as ledger:
            stopped = drain_spool(place, ledger, late, before=True)
            try:
                yield ledger
            finally:
                stopped = stopped or ledger.lost or drain_spool(place, ledger, late)
    finally:
        while not stopped and spool.waiting_events(place.path):
            try:
                with open_ledger(place.state_dir, place.namespace, 0) as ledger:
                    stopped = drain_spool(place, ledger, late)
            except Locked:
                break  # whoever has it now looks as well


def drain_spool(place: StateDir, ledger: Ledger, late: list[SpoolResult], before: bool = False) -> bool:
    """Serve all that waits; whether something goes on waiting. Raises Stuck, where it is to come `before` another event."""

    def serve_kept(kept: SpooledEvent) -> Report:
        context = daemons.read(kept.environ)
        try:
            lines = lines_for(context, kept.config, place.files)
        except Refused:
            event.remember_refused(ledger, context, kept.at)
            raise
        return run_locked(place, context, lines, ledger, kept.at)

    found = spool.drain(place.path, serve_kept)
    late += found.served
    if found.stopped and found.first and before:
        raise SpoolBlocked(found.stopped.text, found.stopped.hint)
    if found.stopped:
        late.append(SpoolResult("", Report("", warnings=(found.stopped.text,)), found.stopped))
    return found.stopped is not None


def run_locked(place: StateDir, context: Context, lines: Lines, ledger: Ledger, now: int) -> Report:
    """One event under the lock, and once more where the ledger shows its damage only now."""
    if not context.verb.steps:
        return Report(context.connection)
    while True:
        try:
            return with_note(ledger, event.run(context, lines, ledger, place.netlink, now, False))
        except LedgerError as error:
            start_empty(ledger, place.path, error)


def with_note(ledger: Ledger, report: Report) -> Report:
    """The report, with what is to be said of the ledger."""
    return report._replace(warnings=(ledger.note, *report.warnings)) if ledger.note else report


def spool_event(
    place: StateDir,
    name: str,
    environ: Mapping[str, str],
    config: str,
    busy: Locked | SpoolBlocked,
    late: list[SpoolResult],
) -> Report:
    """Spool an event that got no lock, and try once more: who held it may have let go before the file was there. Raises Locked
    where the event has to wait, StateError where the spool cannot be emptied."""
    try:
        spool.write_event(place.path, name, environ, config)
    except OSError as error:
        why = f"{busy.text}; this event is lost, it could not be kept: {error.strerror}"
        hint = f"see to {place.path} (df, mount); then take the tunnel up or down again"
        raise type(busy)(why, hint) from None
    left: list[UpdownError | None] = []
    try:
        with locked(place, 0, late):
            pass
    except Locked:
        raise Locked(
            f"{busy.text}; the event is kept, and applied by that process or with the next event", busy.hint
        ) from None
    except SpoolBlocked as error:
        left.append(error)
    for served in late:
        if served.name == name:
            if served.error:
                raise served.error
            return served.report
    left += [served.error for served in late if served.name == ""]
    for stopped in filter(None, left):
        raise StateError(f"{stopped.text}; this event is kept, and applied after it", stopped.hint)
    failed = spool.take_failure(place.path, name)
    if failed:
        raise failed
    return Report(
        environ.get("PLUTO_CONNECTION", ""), remarks=("applied by the call that held the lock; see the journal",)
    )


def late_failures(late: list[SpoolResult], own: str) -> tuple[str, ...]:
    """What the present call has to say of events that waited."""
    return tuple(text for served in late if served.name != own and served.error for text in served.report.warnings)


def report_late(late: list[SpoolResult], own: str) -> None:
    """What became of events that waited goes to the journal: the calls that brought them are over."""
    if not late:
        return
    from updown.output.report import hook_lines

    for served in late:
        if served.name != own:
            journal.send(hook_lines(served.report), warning=bool(served.report.warnings))
