"""`vti-updown clean`: the end of everything that is ours."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from updown.commands.arguments import Arguments
from updown.commands.reconcile.orphans import find_orphans, remove_orphans, removed_by
from updown.ledger import failures, liveness
from updown.model import errors
from updown.model.claims import Change, Claim
from updown.model.errors import Notice
from updown.model.ipsec import Database
from updown.model.operations import Report
from updown.model.resources import Device
from updown.output.report import plan_lines, print_answer, report_fields
from updown.serve import opened, present_state
from updown.settings.file import settings_lines
from updown.transaction import Request, converge, finish_pending


def run(arguments: Arguments, _environ: Mapping[str, str] | None = None) -> int:
    """End every claim and remove everything that is ours, known by ledger, alias or route protocol."""
    lines, dry = settings_lines(arguments.config, needed=False), arguments.dry_run
    with present_state(arguments.state_dir) as place, opened(place, lines, dry) as ledger:
        netlink = place.netlink
        reports = [finish_pending(ledger, netlink, dry)]  # first: a release that was cut off has let go of its device
        held = [with_device_deleted(claim) for claim in ledger.claims()]
        reports.append(converge(Request(change=Change(end=tuple(held)), note=liveness.forget_all), ledger, netlink, dry))
        rest = find_orphans(ledger, netlink, lines, Database(), removed_by(reports), every=True)
        reports += remove_orphans(rest, ledger, netlink, dry)
        if not dry:
            failures.forget_all(place.path)
        noted = Report("", warnings=(Notice("ledger", ledger.note),) if ledger.note else ())
    report = reduce(Report.plus, reports, noted)
    said = [*plan_lines(report, arguments.verbose), f"# {len(held)} claims ended"]
    print_answer(arguments.json, {**report_fields(report), "claims_ended": len(held)}, said)
    return errors.FAILED if report.warnings else errors.DONE


def with_device_deleted(claim: Claim) -> Claim:
    """The claim, with a device that goes with it."""
    wants = [want._replace(with_last=True) if isinstance(want, Device) else want for want in claim.resources]
    return claim._replace(resources=tuple(wants))
