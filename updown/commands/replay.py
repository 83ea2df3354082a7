"""--dry-run, `explain` and `replay`: events by hand, of this environment or of saved ones."""

from __future__ import annotations

from collections.abc import Mapping

from updown import daemons
from updown.commands.arguments import Arguments
from updown.model import errors
from updown.model.errors import Refused, UpdownError
from updown.output.lines import folded
from updown.output.report import explanation, plan_lines, print_answer, report_json
from updown.serve import serve_event


def run(arguments: Arguments, environ: Mapping[str, str]) -> int:
    """--dry-run, explain and replay: this environment, or saved ones in order. The worst status is ours."""
    saved: list[tuple[str, Mapping[str, str]]] = [(name, read_environment(name)) for name in arguments.files]
    if not saved:
        if "PLUTO_VERB" not in environ:
            raise Refused("PLUTO_VERB is not set: no event to look at", "name a file with a saved environment")
        saved = [("", environ)]
    dry = arguments.dry_run or arguments.command == "explain"
    worst = errors.DONE
    for name, variables in saved:
        if len(saved) > 1 and not arguments.json:
            print("\n".join(folded("# == ", f"{name}: {variables.get('PLUTO_VERB', '')}")))
        try:
            replay_one(arguments, variables, dry)
        except UpdownError as error:
            if len(saved) == 1:
                raise
            print("\n".join([*folded("# error: ", error.text), *folded("# hint: ", error.hint)]))
            worst = max(worst, error.status)
    if dry and len(saved) > 1 and not arguments.json:
        print("\n".join(folded("# ", "each was planned from the present state, as if those before it had not been")))
    return worst


def replay_one(arguments: Arguments, variables: Mapping[str, str], dry: bool) -> None:
    """Run one event and show it."""
    context = daemons.read(variables)
    report = serve_event(context, variables, arguments.state_dir, arguments.config, dry)
    explains = arguments.command == "explain"
    lines = explanation(context, report) if explains else plan_lines(report, arguments.verbose)
    print_answer(arguments.json, report_json(context, report), lines)


def read_environment(name: str) -> Mapping[str, str]:
    """A saved environment: NUL-separated as in /proc/PID/environ, or lines NAME=value. Raises Refused."""
    try:
        with open(name, "rb") as file:
            data = file.read()
    except OSError as error:
        raise Refused(f"{name}: {error.strerror}", "name a file with a saved environment") from None
    pairs = data.split(b"\0") if b"\0" in data else data.splitlines()
    found = dict(pair.decode("utf-8", "surrogateescape").partition("=")[::2] for pair in pairs if b"=" in pair)
    if "PLUTO_VERB" not in found:
        raise Refused(f"{name} holds no PLUTO_VERB", "save the hook's environment with `env -0 >FILE`")
    return found
