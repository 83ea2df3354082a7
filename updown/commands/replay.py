"""--dry-run, `explain` and `replay`: events by hand, of this environment or of saved ones."""

from __future__ import annotations

from collections.abc import Mapping

from updown import daemons
from updown.commands.arguments import Arguments
from updown.commands.make import missing_keys
from updown.model import errors
from updown.model.errors import Refused, UpdownError
from updown.model.objects import bare
from updown.model.operations import Report
from updown.model.record import Any
from updown.model.values import escaped
from updown.output.lines import folded
from updown.output.report import explanation, plan_lines, print_answer, report_json
from updown.serve import opened, present_state, serve_event
from updown.settings.file import effective_lines, fitting_lines, is_glob, matches, resolve, settings_lines
from updown.settings.keys import ALIASES


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
    if arguments.command != "explain":
        print_answer(arguments.json, report_json(context, report), plan_lines(report, arguments.verbose))
        return
    counted, idle = settings_account(arguments, context.connection, report)
    fields = {**report_json(context, report), "settings": counted, "idle_sections": idle}
    lines = explanation(context, report)
    for one in counted:
        beaten = f", which beats {', '.join(one['beaten'])}" if one["beaten"] else ""
        lines += folded("# settings: ", f"{one['key']} by {one['line']}{beaten}")
    lines += [line for one in idle for line in folded("# settings: ", f"{one} is for nothing that is known here")]
    print_answer(arguments.json, fields, lines)


def settings_account(arguments: Arguments, connection: str, report: Report) -> tuple[list[dict[str, Any]], list[str]]:
    """Which lines of the settings count for an event, by key, and which they beat; and the sections for connections and devices
    that neither the event nor the ledger knows, nor `make` makes."""
    lines = settings_lines(arguments.config, needed=False)
    with present_state(arguments.state_dir) as place, opened(place, lines, dry=True) as ledger:
        claims = (*report.claims, *ledger.claims())
    device = next((bare(claim.device) for claim in report.claims), "")
    counts = {**effective_lines(lines, connection, device)}
    named = effective_lines(lines, connection).get("interface")  # it is looked for without device sections
    counts.update({"interface": named} if named else {})
    fitting = fitting_lines(lines, connection, device)
    found = []
    for line in [line for line in fitting if line in counts.values()]:
        fields = {field for field, one in counts.items() if one == line}
        beaten = [one for one in fitting if one not in counts.values() and {*ALIASES.get(one.key, (one.key,))} & fields]
        found.append({"key": line.key, "line": line.where, "beaten": [one.where for one in beaten]})
    connections = [name for one in (connection, *(claim.connection for claim in claims)) for name in (one, one.split("/")[0])]
    known = {"connection": connections, "device": [bare(want.link.name) for claim in claims for want in claim.devices]}
    idle: dict[str, str] = {}
    for line in lines:
        fits = known.get(line.kind, [line.pattern])
        made = line.kind == "device" and not is_glob(line.pattern) and not missing_keys(resolve(lines, "", line.pattern))
        if not (line.pattern in fits or (is_glob(line.pattern) and matches(line.pattern, fits)) or made):
            idle.setdefault(f"[{line.kind} {escaped(line.pattern, 40)}]", line.where)
    return found, [f"{section} ({where})" for section, where in idle.items()]


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
