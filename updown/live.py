"""Events against this machine: settings file, ledger on disk, kernel. What is pure stays in event.py."""

import os
import time
from contextlib import contextmanager
from typing import Iterator, Tuple

from updown import event
from updown.arguments import Arguments
from updown.context import Context
from updown.event import Report
from updown.kernel.netlink import Netlink
from updown.ledger import Ledger, LedgerError
from updown.ledger_file import STATE_DIR, begin_anew, copy_ledger, folder, open_ledger, unusable
from updown.lock import WAIT
from updown.settings import DEFAULT_FILE, Line, read_files


def namespace_name(netlink: Netlink) -> str:
    """What tells this network namespace from every other since boot: its cookie, where the kernel is 5.14 or later; an inode
    number may come again."""
    cookie = netlink.namespace_cookie()
    return str(cookie) if cookie is not None else f"i{os.stat('/proc/self/ns/net').st_ino}"


def settings_lines(arguments: Arguments) -> Tuple[Line, ...]:
    """The administrator's file; one named on the command line must be there."""
    if arguments.config:
        from updown.errors import Refused

        if not os.path.exists(arguments.config):
            raise Refused(f"{arguments.config}: no such file", "name the settings file by --config FILE")
        return read_files(arguments.config)
    return read_files(DEFAULT_FILE)


@contextmanager
def ledger_of(arguments: Arguments, netlink: Netlink, dry: bool) -> Iterator[Ledger]:
    """The ledger of this namespace: locked, or, for a dry run, a copy in memory."""
    state_dir = arguments.state_dir or STATE_DIR
    name = namespace_name(netlink)
    with copy_ledger(state_dir, name) if dry else open_ledger(state_dir, name, WAIT) as ledger:
        yield ledger


def live_event(arguments: Arguments, context: Context, dry: bool = False) -> Report:
    """One event; with `dry` the same without any effect.

    Verbs that end need no settings: a broken file keeps no tunnel alive.
    """
    lines = settings_lines(arguments) if context.verb.makes else ()
    now = int(time.time())
    with Netlink() as netlink, ledger_of(arguments, netlink, dry) as ledger:
        place = folder(arguments.state_dir or STATE_DIR, namespace_name(netlink))
        try:
            report = event.run(context, lines, ledger, netlink, now, dry)
        except LedgerError as error:
            if dry:
                raise unusable(place, str(error)) from None
            begin_anew(ledger, place, error)
            report = event.run(context, lines, ledger, netlink, now, dry)
        if ledger.note:
            report = report._replace(warnings=(ledger.note, *report.warnings))
        return report
