"""What `vti-updown reconcile` prints: for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence

from updown.commands.reconcile.decide import DAEMONS, GRACE, Audit, Evidence
from updown.concerns.mtu import sum_text
from updown.daemons.answer import ABSENT, ANSWERED
from updown.daemons.libreswan import status
from updown.model.claims import Claim
from updown.model.errors import Notice
from updown.model.operations import Report
from updown.model.record import NamedTuple
from updown.model.resources import Mtu
from updown.output.lines import folded
from updown.output.report import claim_json, plan_lines, report_fields


class Outcome(NamedTuple):
    """What was decided, and what was done, or, in a dry run, would be."""

    decision: Audit
    report: Report
    facts: Evidence


def unclaimed_tunnels(decision: Audit) -> tuple[tuple[str, ...], tuple[Notice, ...]]:
    """A line for each tunnel that is up and that no claim counts; a warning where its daemon says that we serve it."""
    told: dict[str, str] = {}
    for child in decision.unclaimed:
        name = DAEMONS.get(child.daemon, child.daemon)
        up = f"{name} has {child.connection} up ({child.me} - {child.peer})"
        told[child.connection] = f"{up} and no claim counts it; take it down and up again"
    ours = {child.connection for child in decision.unclaimed if child.daemon == status.DAEMON}
    return (
        tuple(line for connection, line in told.items() if connection not in ours),
        tuple(Notice("unclaimed tunnel", line) for connection, line in told.items() if connection in ours),
    )


def outcome_lines(outcome: Outcome, reasons: bool) -> list[str]:
    """For people: which claims end and why, then the commands as everywhere."""
    audit = outcome.decision
    told = [(one, f"claim {one.kind} ({one.sa.my_client} <-> {one.sa.peer_client}) ends: {why}") for one, why in audit.ended]
    revived = "claim sa is revive now: it is not up, and the way is kept open for it"
    told += [(claim, revived) for claim in audit.to_revive]
    why = f"no tunnel is behind it, but younger than {GRACE} s it is left alone: its event may be under way"
    told += [(claim, f"claim {claim.kind}: {why}") for claim in audit.in_grace]
    told += [(claim, f"its ends are now {claim.sa.me} - {claim.sa.peer}") for claim in audit.moved]
    for claim in audit.recounted:
        sizes = [want for want in claim.resources if isinstance(want, Mtu)]
        told += [(claim, f"mtu {one.device}: {sum_text(one.total) if one.total else one.size}") for one in sizes]
    told += [(claim, edit.text) for claim, edits in audit.edited for edit in edits]
    lines = [line for claim, text in told for line in folded("# ", f"{claim.connection}: {text}")]
    return lines + plan_lines(outcome.report, reasons, nothing="" if lines else "nothing to do")


def outcome_json(outcome: Outcome, booted: int) -> dict[str, object]:
    """For programs. `booted`: when the machine was, in seconds since the epoch."""
    audit = outcome.decision
    kept = {"waiting": audit.to_revive, "young": audit.in_grace, "moved": audit.moved, "recounted": audit.recounted}
    return {
        **report_fields(outcome.report),
        "daemons": {name: {"state": said.state, "why": said.why} for name, said in outcome.facts.said.items()},
        "claims_ended": [{**claim_json(claim, booted), "reason": reason} for claim, reason in audit.ended],
        **{f"claims_{how}": [claim_json(claim, booted) for claim in claims] for how, claims in kept.items()},
        "claims_edited": [
            {**claim_json(claim, booted), "edits": [edit._asdict() for edit in edits]} for claim, edits in audit.edited
        ],
        "uncounted": [child._asdict() for child in audit.unclaimed],
    }


def notes(claims: Sequence[Claim], facts: Evidence) -> tuple[tuple[str, ...], tuple[Notice, ...]]:
    """Remarks and warnings on what could not be asked."""
    remarks: list[str] = []
    warnings: list[Notice] = []
    held: set[str] = {claim.sa.daemon for claim in claims}
    for daemon, said in facts.said.items():
        name = DAEMONS.get(daemon, daemon)
        if said.state == ABSENT and daemon in held:
            remarks.append(f"{name} is not running here: the kernel's IPsec policies and states decide")
        elif said.unread:
            text = f"what {name} says of {', '.join(said.unread)} cannot be read; please report this libreswan"
            warnings.append(
                Notice("daemon not understood", f"{text}: of its claims only those end of which the kernel knows nothing")
            )
        elif said.state not in (ABSENT, ANSWERED):
            text = f"{name} runs but says nothing ({said.why})"
            if daemon in held:
                text = f"{text}: only claims that the kernel knows nothing of end; run it again later"
                warnings.append(Notice("daemon silent", text, name))
            else:
                remarks.append(f"{text}; no claim is of it")
    return tuple(remarks), tuple(warnings)
