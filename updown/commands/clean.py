"""`vti-updown clean`: the end of everything that is ours."""

from __future__ import annotations

import json

from updown.commands.arguments import Arguments
from updown.kernel.netlink.rtnetlink import Netlink
from updown.ledger.store import Ledger
from updown.model import errors
from updown.model.claims import Change, Claim, Ended
from updown.model.errors import Refused
from updown.model.objects import has_our_alias
from updown.model.resources import Device, Want, split
from updown.output.report import JSON_VERSION, once, operation_json, plan_lines
from updown.serve import ledger_of, settings_lines
from updown.settings.file import Line
from updown.transaction import carry_out, mend


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
