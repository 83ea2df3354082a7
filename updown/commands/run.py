"""What people type."""

from __future__ import annotations

import json
from collections.abc import Mapping

from updown import daemons
from updown.commands.arguments import Arguments
from updown.kernel.netlink.rtnetlink import Netlink
from updown.ledger.store import Ledger
from updown.model import errors
from updown.model.claims import Change, Claim, Ended
from updown.model.errors import Refused, UpdownError
from updown.model.objects import has_our_alias
from updown.model.resources import Device, Want, split
from updown.output.lines import folded
from updown.output.report import JSON_VERSION, as_json, explanation, once, operation_json, plan_lines
from updown.serve import ledger_of, live_event, settings_lines
from updown.settings.file import Line
from updown.transaction import carry_out, mend

EACH_ALONE = "each was planned from the present state, as if those before it had not been"


def run_command(arguments: Arguments, environ: Mapping[str, str]) -> int:
    """The sub-command, or an event by hand."""
    if arguments.command == "status":
        from updown.commands.status import show

        return show(arguments)
    if arguments.command == "clean":
        return clean(arguments)
    if arguments.command == "reconcile":
        from updown.commands.reconcile.run import show as reconcile

        return reconcile(arguments, environ)
    if arguments.command == "make":
        from updown.commands.make import show as make

        return make(arguments)
    if arguments.command == "check":
        from updown.commands.check.run import show as check

        return check(arguments, environ)
    if arguments.command == "probe":
        from updown.commands.probe import show as probe

        return probe(arguments, environ)
    if arguments.command in ("adopt", "release"):
        from updown.commands.adopt import take_over

        return take_over(arguments)
    return events(arguments, environ)


def events(arguments: Arguments, environ: Mapping[str, str]) -> int:
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
            one_event(arguments, variables, dry)
        except UpdownError as error:
            if len(saved) == 1:
                raise
            print("\n".join([*folded("# error: ", error.text), *folded("# hint: ", error.hint)]))
            worst = max(worst, error.status)
    if dry and len(saved) > 1 and not arguments.json:
        print("\n".join(folded("# ", EACH_ALONE)))
    return worst


def one_event(arguments: Arguments, variables: Mapping[str, str], dry: bool) -> None:
    """Run one event and show it."""
    context = daemons.read(variables)
    report = live_event(arguments, context, dry, variables)
    if arguments.json:
        print(json.dumps(as_json(context, report)))
    elif arguments.command == "explain":
        print("\n".join(explanation(context, report)))
    else:
        print("\n".join(plan_lines(report, arguments.verbose)))


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


def clean(arguments: Arguments) -> int:
    """End every claim and remove everything that is ours, known by ledger, alias or route protocol."""
    try:
        lines = settings_lines(arguments)
    except Refused:
        lines = ()  # they only name namespaces that the ledger may have forgotten
    with Netlink() as netlink, ledger_of(arguments, netlink, arguments.dry_run) as ledger:
        held = [going(claim) for claim in ledger.claims()]
        ledger.begin()
        try:
            for claim in held:
                ledger.put(claim)
            report = carry_out("", Change(end=tuple(held)), ledger, netlink, arguments.dry_run)
            ledger.begin()
            ledger.start(left_over(ledger, netlink, lines))
            ledger.commit()
        except BaseException:
            ledger.rollback()
            raise
        rest = mend(ledger, netlink, arguments.dry_run)
        noted = (ledger.note,) if ledger.note else ()
    report = report._replace(
        operations=once(report.operations + rest.operations), warnings=noted + report.warnings + rest.warnings
    )
    if arguments.json:
        print(
            json.dumps(
                {
                    "version": JSON_VERSION,
                    "claims_ended": len(held),
                    "operations": [operation_json(operation) for operation in report.operations],
                    "warnings": list(report.warnings),
                }
            )
        )
    else:
        print("\n".join(plan_lines(report, arguments.verbose)))
        print(f"# {len(held)} claims ended")
    return errors.FAILED if report.warnings else errors.DONE


def going(claim: Claim) -> Claim:
    """The claim, with a device that goes with it."""
    wants = [want._replace(goes=True) if isinstance(want, Device) else want for want in claim.wants]
    return claim._replace(wants=tuple(wants))


def left_over(ledger: Ledger, netlink: Netlink, lines: tuple[Line, ...]) -> list[Ended]:
    """Devices, routes, rules and nftables tables of ours, claimed or not, as things that go."""
    from updown.commands.reconcile.orphans import netnses, there

    names = {split(name)[1] for name in ledger.all_made() if name.startswith("device ")}
    here = there(netlink, netnses(ledger, lines))
    ours = [link for link in here.links if link.name in names or has_our_alias(link)]
    gone: list[Ended] = [Ended("clean", Device(link, shared=False, goes=True)) for link in ours]
    rest: tuple[Want, ...] = (*here.routes, *here.rules, *here.tables)
    return gone + [Ended("clean", want) for want in rest]
