"""`vti-updown clean`: the end of everything that is ours."""

from __future__ import annotations

import json
from collections.abc import Mapping

from updown.commands.arguments import Arguments
from updown.kernel.netlink.rtnetlink import Netlink
from updown.ledger.store import Ledger
from updown.model import errors
from updown.model.claims import Change, Claim, FormerHolder
from updown.model.errors import Refused
from updown.model.objects import has_our_alias
from updown.model.resources import Device, Resource, split
from updown.output.report import JSON_VERSION, dedupe, operation_json, plan_lines
from updown.serve import open_for_command, settings_lines
from updown.settings.file import Line
from updown.transaction import apply_change, finish_pending


def run(arguments: Arguments, _environ: Mapping[str, str] | None = None) -> int:
    """End every claim and remove everything that is ours, known by ledger, alias or route protocol."""
    try:
        lines = settings_lines(arguments)
    except Refused:
        lines = ()  # they only name namespaces that the ledger may have forgotten
    with Netlink() as netlink, open_for_command(arguments, netlink, arguments.dry_run) as ledger:
        held = [with_device_deleted(claim) for claim in ledger.claims()]
        ledger.begin()
        try:
            for claim in held:
                ledger.put(claim)
            report = apply_change("", Change(end=tuple(held)), ledger, netlink, arguments.dry_run)
            ledger.begin()
            ledger.start(everything_ours(ledger, netlink, lines))
            ledger.commit()
        except BaseException:
            ledger.rollback()
            raise
        rest = finish_pending(ledger, netlink, arguments.dry_run)
        noted = (ledger.note,) if ledger.note else ()
    report = report._replace(
        operations=dedupe(report.operations + rest.operations), warnings=noted + report.warnings + rest.warnings
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


def with_device_deleted(claim: Claim) -> Claim:
    """The claim, with a device that goes with it."""
    wants = [want._replace(with_last=True) if isinstance(want, Device) else want for want in claim.resources]
    return claim._replace(resources=tuple(wants))


def everything_ours(ledger: Ledger, netlink: Netlink, lines: tuple[Line, ...]) -> list[FormerHolder]:
    """Devices, routes, rules and nftables tables of ours, claimed or not, as things that go."""
    from updown.commands.reconcile.orphans import kernel_state, netnses

    names = {split(name)[1] for name in ledger.all_made() if name.startswith("device ")}
    here = kernel_state(netlink, netnses(ledger, lines))
    ours = [link for link in here.links if link.name in names or has_our_alias(link)]
    gone: list[FormerHolder] = [FormerHolder("clean", Device(link, shared=False, with_last=True)) for link in ours]
    rest: tuple[Resource, ...] = (*here.routes, *here.rules, *here.tables)
    return gone + [FormerHolder("clean", want) for want in rest]
