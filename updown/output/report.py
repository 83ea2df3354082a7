"""What an event says: short lines for the daemon's log, commands for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from updown.concerns.catalogue import concern_of, key_of
from updown.concerns.mtu import sum_text
from updown.model.claims import Claim
from updown.model.context import Context
from updown.model.operations import Operation, Report
from updown.model.record import Any, dumps
from updown.model.resources import Mtu
from updown.output.iproute2 import command, wrapped
from updown.output.lines import WIDTH, folded, prefix
from updown.output.reasons import reason_text

JSON_VERSION = 1


def dedupe(operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """Each command once: a dry run sees what both halves would delete."""
    return tuple({command(operation): operation for operation in reversed(operations)}.values())[::-1]


def operation_json(operation: Operation) -> dict[str, Any]:
    """The kind of resource, the action, the subject's fields (a device's own `kind` among them), the command and the reason."""
    return {
        "resource": concern_of(operation).kind,
        "action": operation.action,
        **{key: value for key, value in operation.subject._asdict().items() if value not in ("", 0, ())},
        "command": command(operation),
        "reason": reason_text(operation.reason),
        "reason_kind": operation.reason.code,
    }


def report_fields(report: Report) -> dict[str, Any]:
    """What every sub-command that changes something says to programs."""
    return {
        "version": JSON_VERSION,
        "operations": [operation_json(operation) for operation in report.operations],
        "warnings": [{"kind": one.kind, "text": one} for one in report.warnings],
        "remarks": list(report.remarks),
    }


def print_answer(as_json: bool, fields: Mapping[str, Any], lines: Sequence[str]) -> None:
    """What a sub-command prints: one line of JSON for programs, or lines for people."""
    for line in [dumps(fields)] if as_json else lines:
        print(line)


def hook_lines(report: Report) -> list[str]:
    """One line an effect, as the command that would do it; then warnings and remarks."""
    head = prefix(report.connection)
    lines: list[str] = []
    for operation in report.operations:
        first, *more = wrapped(command(operation), WIDTH - len(head))
        lines += [head + first, *(head + line for line in more)]
    return lines + told_beside(report, head)


def plan_lines(report: Report, reasons: bool, nothing: str = "nothing to do") -> list[str]:
    """The plan for people: commands to paste, everything else as comments."""
    lines: list[str] = []
    for operation in report.operations:
        lines.append(command(operation))
        if reasons:
            lines += folded("    # ", reason_text(operation.reason))
    return lines + told_beside(report, "# ") or ([f"# {nothing}"] if nothing else [])


def told_beside(report: Report, head: str) -> list[str]:
    """Warnings and remarks."""
    each = [(f"{head}warning: ", text) for text in report.warnings] + [(head, text) for text in report.remarks]
    return [line for start, text in each for line in folded(start, text)]


def explanation(context: Context, report: Report) -> list[str]:
    """Which event this is, which claims it makes or ends, and by which row of the deletion table their device goes."""
    selectors = f"{context.my_client.text} <-> {context.peer_client.text}"
    lines = folded("# ", f"{context.daemon}, {context.verb.text}, connection {context.connection}")
    lines += folded("# ", f"tunnel {context.me} -> {context.peer}, {selectors}")
    for claim in report.claims:
        lines += folded("# ", f"claim {claim.kind}: {claim_text(claim)}")
        for want in claim.resources:
            if isinstance(want, Mtu):
                lines += folded("# ", f"mtu {want.device}: {sum_text(want.total) if want.total else want.size}")
    return [*lines, *plan_lines(report, reasons=True)]


def claim_text(claim: Claim) -> str:
    """What a claim holds, and when its device goes."""
    held = [key_of(want) for want in claim.resources if not key_of(want).startswith(("sysctl", "mtu"))]
    text = ", ".join(held) or "nothing"
    for want in claim.devices:
        when = "goes with its last claim" if want.with_last else "stays"
        text += f"; {want.link.name} {'is not ours to delete' if want.by_daemon else when}"
    return text


def report_json(context: Context, report: Report) -> dict[str, Any]:
    """The report of an event for programs."""
    claims = [{"kind": claim.kind, "holds": list(map(key_of, claim.resources))} for claim in report.claims]
    event = {"daemon": context.daemon, "connection": context.connection, "verb": context.verb.text}
    return {**report_fields(report), **event, "claims": claims}


TOLD = ("daemon", "me", "peer", "my_client", "peer_client", "reqid", "spi_in", "spi_out", "unique_id")
"""What people want to know of a claim."""


def claim_json(claim: Claim, booted: int) -> dict[str, Any]:
    """A claim for `status --json`, its time in seconds since the epoch, as `booted` is."""
    return {
        "connection": claim.connection,
        "kind": claim.kind,
        "device": claim.device,
        "since": booted + claim.since,
        **{field: getattr(claim.sa, field) for field in TOLD},
        "holds": list(map(key_of, claim.resources)),
    }
