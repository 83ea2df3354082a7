"""Events against this machine: settings file, ledger on disk, kernel, spool. What is pure stays in event.py.

Everything is read and imported before the lock is taken; events from the spool are the exception, since they come while it is
held."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from updown import daemons, event
from updown.kernel import journal
from updown.kernel.netlink.rtnetlink import Netlink
from updown.ledger import clock, spool
from updown.ledger.file import STATE_DIR, copy_ledger, folder, open_ledger, start_empty, unusable
from updown.ledger.spool import SpooledEvent, SpoolResult
from updown.ledger.store import Ledger, LedgerError
from updown.model.context import Context
from updown.model.errors import Locked, Notice, Refused, StateError, UpdownError
from updown.model.operations import Report
from updown.model.record import Any, NamedTuple
from updown.settings.file import DEFAULT_FILE, Line, read_files, resolve
from updown.settings.keys import LOCK_WAIT

Lines = tuple[Line, ...]

Files = dict[str, Any]  # by path: the lines of each, or the mistake


class SpoolBlocked(StateError):
    """Events that came before this one cannot be applied now, and so this one may not be."""


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


def settings_lines(config: str, needed: bool = True, files: Files | None = None) -> Lines:
    """The lines of the settings file that --config named, which must be there, or of the default one; read once by all who give
    the same `files`. Raises Refused for a mistake, each time; where they are not `needed` there are none then: a broken file
    keeps no tunnel alive."""
    files = {} if files is None else files
    path = os.path.abspath(config) if config else ""
    if path not in files:
        try:
            if path and not os.path.exists(path):
                raise Refused(f"{config}: no such file", "write it, or name another one by --config FILE")
            files[path] = read_files(path or DEFAULT_FILE)
        except Refused as error:
            files[path] = error
    found = files[path]
    if isinstance(found, Refused) and needed:
        raise found
    return () if isinstance(found, Refused) else found


def settings_of(config: str, lines: Lines, files: Files) -> Callable[[str], Lines]:
    """Settings by the file that a claim's calls name: `lines` for the default one, and for all where `config` is given now."""
    return lambda named: settings_lines(named, files=files) if named and not config else lines


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
    files: Files = {}
    now = clock.now()
    daemons.rules_of(context)  # imports those of its daemon, before the lock
    late: list[SpoolResult] = []
    try:
        lines = settings_lines(config, context.verb.makes, files)
    except Refused:
        if not dry:
            remember_refused(state_dir, context, now)
        raise
    with present_state(state_dir, files) as place:
        if dry:
            with opened(place, lines, dry) as ledger:
                return with_note(ledger, event.run(context, lines, ledger, place.netlink, now, dry))
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


def remember_refused(state_dir: str, context: Context, now: int) -> None:
    """Of an event whose settings cannot be read: the daemon has the SA all the same, and its end is not another one's. Where
    the ledger is not to be had it stays unknown, as after a rekeying; the settings are what has to be told."""
    late: list[SpoolResult] = []
    with reported(late), suppress(UpdownError), present_state(state_dir) as place, locked(place, LOCK_WAIT, late) as ledger:
        event.remember_refused(ledger, context, now)
        if ledger.note:  # no later call has it to tell
            late.append(SpoolResult("-", Report(context.connection, warnings=(Notice("ledger", ledger.note),))))


@contextmanager
def opened(place: StateDir, lines: Lines, dry: bool) -> Iterator[Ledger]:
    """The ledger of a namespace, for what people type: locked, for no longer than the settings say, and with nothing waiting in
    its spool; or, `dry`, a copy in memory. Raises Locked, or StateError where it cannot be used."""
    late: list[SpoolResult] = []
    copied = copy_ledger(place.state_dir, place.namespace) if dry else locked(place, resolve(lines, "").lock_wait, late)
    with reported(late), copied as ledger:
        try:
            try:
                list(() if dry else ledger.claims())
            except LedgerError as error:
                start_empty(ledger, place.path, error)  # as an event does
            yield ledger
        except LedgerError as error:
            raise unusable(place.path, str(error)) from None


@contextmanager
def locked(place: StateDir, wait: float, late: list[SpoolResult]) -> Iterator[Ledger]:
    """The ledger, locked. What waits in the spool is applied before, after, and once more when the lock was let go: an event
    that was kept after the last look found the lock still held. Raises Locked; SpoolBlocked where that cannot be applied."""
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
    """Serve all that waits; whether something goes on waiting. Raises SpoolBlocked where it has to come `before` another."""

    def serve_kept(kept: SpooledEvent) -> Report:
        context = daemons.read(kept.environ)._replace(config=kept.config)
        try:
            lines = settings_lines(kept.config, context.verb.makes, place.files)
        except Refused:
            event.remember_refused(ledger, context, kept.at)
            raise
        return run_locked(place, context, lines, ledger, kept.at)

    found = spool.drain(place.path, serve_kept)
    late += found.served
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
            return with_note(ledger, event.run(context, lines, ledger, place.netlink, now, False))
        except LedgerError as error:
            start_empty(ledger, place.path, error)


def with_note(ledger: Ledger, report: Report) -> Report:
    """The report, with what is to be said of the ledger."""
    return report._replace(warnings=(Notice("ledger", ledger.note), *report.warnings)) if ledger.note else report


def spool_event(
    place: StateDir, name: str, environ: Mapping[str, str], config: str, busy: UpdownError, late: list[SpoolResult]
) -> Report:
    """Spool an event that got no lock, and try once more: who held it may have let go before the file was there. Raises Locked
    where the event has to wait, StateError where the spool cannot be emptied."""
    try:
        spool.write_event(place.path, name, environ, config)
    except OSError as error:
        why = f"{busy.text}; this event is lost, it could not be kept: {error.strerror}"
        hint = f"see to {place.path} (df, mount); then take the tunnel up or down again"
        raise type(busy)(why, hint) from None
    stopped: list[UpdownError | None] = []
    try:
        with locked(place, 0, late):
            pass
    except Locked:
        why = f"{busy.text}; the event is kept, and applied by that process or with the next event"
        raise Locked(why, busy.hint) from None
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
    return Report(environ.get("PLUTO_CONNECTION", ""), remarks=(remark,))


@contextmanager
def reported(late: list[SpoolResult], own: str = "") -> Iterator[None]:
    """What became of events that waited goes to the journal at the end: the calls that brought them are over."""
    try:
        yield
    finally:
        if late:
            from updown.output.report import hook_lines

            for served in late:
                if served.name != own:
                    journal.send(hook_lines(served.report), warning=bool(served.report.warnings))
