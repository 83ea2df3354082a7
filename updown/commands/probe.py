"""`vti-updown probe`: ping the far ends that `probe` in the settings names, and withdraw routes where they do not answer.

Run by a timer, never by the hook. Where a far end misses `MISSES` probes in a row, our routes into its device go (traffic
takes others), and it becomes dormant; with the first answer both are undone. The device stays up, since the kernel takes
nothing in through one that is down, so that no probe could ever be answered. docs/settings.md has the rest of the reasons."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial

from updown.commands.arguments import Arguments
from updown.kernel import ping
from updown.kernel.netlink.rtnetlink import Netlink
from updown.ledger import clock, liveness
from updown.ledger.store import Ledger
from updown.model import errors
from updown.model.objects import bare
from updown.model.operations import Report
from updown.model.record import NamedTuple
from updown.output.lines import folded
from updown.output.report import plan_lines, print_answer, report_fields
from updown.serve import opened, present_state, settings_lines, settings_of
from updown.settings.file import Line, resolve
from updown.transaction import Request, converge_or_warn, finish_pending


class ProbeResult(NamedTuple):
    """What became of one probe: `missed` in a row, 0 where it was answered; `why` it could not even be sent."""

    device: str
    far: str
    missed: int
    why: str = ""


def run(arguments: Arguments, _environ: Mapping[str, str]) -> int:
    """The sub-command: ask first, without the lock, and lock only to note what came of it."""
    lines = settings_lines(arguments.config)
    with present_state(arguments.state_dir) as place:
        lines_of = settings_of(arguments.config, lines, place.files)
        with opened(place, lines, dry=True) as copy:
            asked = targets(copy, lines_of)
            stale = set(liveness.missed_probes(copy)) - set(asked)
            hearing = liveness.receiving_devices(copy)
        heard = ping.ping(asked, hearing)
        if not asked and not stale:
            return print_answers(arguments, [], Report("", remarks=("no device that is up has a `probe`",)))
        with opened(place, lines, arguments.dry_run) as ledger:
            answers, report = count_answers(heard, asked, ledger, place.netlink, clock.now(), arguments.dry_run)
    return print_answers(arguments, answers, report)


def targets(ledger: Ledger, lines_of: Callable[[str], tuple[Line, ...]]) -> dict[str, str]:
    """The far address of each device that has a tunnel up and a `probe` in its settings; not of those that only receive."""
    sending = liveness.receiving_devices(ledger)
    said = {
        device: resolve(lines_of(sa.config), sa.connection, bare(device)).probe
        for device, sa in liveness.devices_with_sa(ledger).items()
        if device in sending
    }
    return {device: far for device, far in sorted(said.items()) if far}


def count_answers(
    heard: Mapping[str, str], asked: Mapping[str, str], ledger: Ledger, netlink: Netlink, now: int, dry: bool
) -> tuple[list[ProbeResult], Report]:
    """Count what was not answered; where a device crosses the line by that, routes go or come back. `heard`: by device empty
    where it answered, else why not."""
    report = finish_pending(ledger, netlink, dry)
    answers: list[ProbeResult] = []
    before = liveness.missed_probes(ledger)
    for device in sorted({*before, *asked}):
        there = device in heard and liveness.is_up(ledger, device)  # else it went down, or lost its `probe`: nothing to go by
        count = before[device].probes if device in before else 0
        count = count + 1 if there and heard[device] else 0
        if there:
            answers.append(ProbeResult(device, asked[device], count, heard[device]))
        crosses = liveness.is_silent(ledger, device) != (count >= liveness.MISSES)
        request = Request(
            also=ledger.keys_on(device) if crosses else [],
            note=partial(liveness.set_missed_probes, device=device, probes=count, now=now),
        )
        report = report.plus(converge_or_warn(request, ledger, netlink, dry, f"{device}: "))
    return answers, report


def print_answers(arguments: Arguments, answers: list[ProbeResult], report: Report) -> int:
    """What was asked, and what changed; status 1 where something went wrong."""
    talks = arguments.verbose or sys.stdout.isatty()  # a timer's journal gets only what is worth a line
    lines: list[str] = []
    for device, far, count, why in answers:
        if not count:
            lines += [f"# {device}: {far} answers"] if talks else []
        else:
            withheld = "; our routes are withdrawn" if count >= liveness.MISSES else f" of {liveness.MISSES}"
            lines += folded("# ", f"{device}: {far} {why}, {count}{withheld}")
    if report.operations or report.warnings or (talks and report.remarks):
        lines += plan_lines(report, arguments.verbose)
    fields = {**report_fields(report), "probes": [answer._asdict() for answer in answers]}
    print_answer(arguments.json, fields, lines)
    return errors.FAILED if report.warnings else errors.DONE
