"""An invocation from its environment to its exit status: as the daemon's hook, and by hand."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping

from updown.commands.arguments import USAGE, Arguments, parse
from updown.model import errors
from updown.model.errors import Refused, UpdownError
from updown.model.values import escaped


def main() -> int:
    """Run this process's invocation; the exit status is that of docs/usage.md."""
    environ = decoded(os.environb)
    status = invocation(environ)
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except OSError:
            drop_output(1)
    return status


def invocation(environ: Mapping[str, str]) -> int:
    """What was asked for, and its exit status; every failure is told on standard error and in the journal."""
    arguments, connection = Arguments(), environ.get("PLUTO_CONNECTION", "")
    try:
        arguments = parse(sys.argv[1:], "PLUTO_VERB" in environ)
        return dispatch(arguments, environ)
    except UpdownError as error:
        say_error(connection, error)
        return error.status
    except BrokenPipeError:
        drop_output(1)
        return errors.FAILED
    except ModuleNotFoundError as error:
        text = f"Python module {error.name} is missing for {sys.executable}"
        say_error(connection, UpdownError(text, "install it, or all of python3"))
        return errors.FAILED
    except Exception as error:  # a defect of ours: the daemon's log gets one line, the journal all of it
        return say_defect(connection, error, arguments.verbose)


def drop_output(descriptor: int) -> None:
    """Nobody takes what we print (no reader, a full disk): that changes nothing about what was done. What is still in the
    buffer goes nowhere, or Python would complain about it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def decoded(environ: Mapping[bytes, bytes]) -> dict[str, str]:
    """The environment as text, whatever the locale; bytes that are not UTF-8 are carried as surrogates."""
    how = ("utf-8", "surrogateescape")
    return {name.decode(*how): value.decode(*how) for name, value in environ.items()}


def dispatch(arguments: Arguments, environ: Mapping[str, str]) -> int:
    """Hook mode, or what people typed."""
    if arguments.help:
        print(USAGE, end="")
        return errors.DONE
    if arguments.version:
        from updown import VERSION

        print(f"vti-updown {VERSION}")
        return errors.DONE
    if arguments.command or arguments.files or arguments.dry_run or arguments.json:
        from updown.commands.run import run_command

        collect_garbage()
        return run_command(arguments, environ)
    if "PLUTO_VERB" not in environ:
        raise Refused("PLUTO_VERB is not set: no IKE daemon is calling", "see vti-updown --help for use by hand")
    return run_hook(arguments, environ)


def collect_garbage() -> None:
    """From here on, where the executable put it off. What was imported stays to the end, so nothing is sought there: that was
    a tenth of a hook's instructions."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def run_hook(arguments: Arguments, environ: Mapping[str, str]) -> int:
    """One event for the daemon that waits for us."""
    from updown import daemons

    try:
        context = daemons.read(environ)
    except Refused as error:
        from updown.serve import remember_unread

        remember_unread(environ, arguments.state_dir, error)
        raise
    if not context.verb.steps:
        return errors.DONE
    from updown.output.lines import folded, prefix
    from updown.output.reasons import reason_text
    from updown.output.report import hook_lines
    from updown.serve import serve_event

    collect_garbage()
    report = serve_event(context, environ, arguments.state_dir, arguments.config)
    lines = hook_lines(report)
    if context.verb.joined:
        # any output of an async call makes `ipsec up` fail (programs/pluto/server_run.c); the journal gets it
        from updown.kernel.journal import send

        send(lines, warning=bool(report.warnings))
        return errors.DONE
    if arguments.verbose or context.debug:
        for operation in report.operations:
            lines += folded(prefix(report.connection) + "why: ", reason_text(operation.reason))
    try:
        for line in lines:
            print(line)
    except OSError:
        drop_output(1)
    return errors.DONE


def say_error(connection: str, error: UpdownError) -> None:
    """What, where, why in one line, and what to do next in another; both to the daemon and to the journal."""
    from updown.kernel.journal import send
    from updown.output.lines import folded, prefix

    head = prefix(connection)
    lines = folded(f"{head}error: ", error.text)
    if error.hint:
        lines += folded(f"{head}hint: ", error.hint)
    send(lines, warning=True)
    if sys.stderr is None:
        return
    try:
        print("\n".join(lines), file=sys.stderr, flush=True)
    except OSError:
        drop_output(2)


def say_defect(connection: str, error: Exception, verbose: bool) -> int:
    """A failure nobody foresaw: never a traceback in the daemon's log, unless asked for."""
    import traceback

    from updown.kernel.journal import send

    frames = traceback.extract_tb(error.__traceback__)
    where = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno or 0}" if frames else "?"
    what = escaped(f"{type(error).__name__}: {error}", 60)
    text = UpdownError(f"defect at {where}: {what}", "please report it; -v or the journal shows the traceback")
    say_error(connection, text)
    send(traceback.format_exc().splitlines(), warning=True)
    if verbose:
        traceback.print_exc()
    return errors.FAILED
