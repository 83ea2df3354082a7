"""`vti-updown reconcile`: facts, decision (reconcile.py), and carrying it out by the same plans as an event's."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence

from updown.commands.arguments import Arguments
from updown.commands.reconcile import orphans
from updown.commands.reconcile.decide import Audit, decide
from updown.commands.reconcile.match import Evidence
from updown.commands.reconcile.pause import changed_claims, changed_keys, excluding, lock_yielder, write_time
from updown.commands.reconcile.renewed import counts_itself, outdated_mtus
from updown.commands.reconcile.report import Outcome, notes, outcome_json, outcome_lines, unclaimed_tunnels
from updown.concerns.catalogue import key_of
from updown.concerns.endpoints import with_configured_ends
from updown.daemons.answer import ANSWERED, DaemonAnswer
from updown.daemons.libreswan import status
from updown.daemons.strongswan import vici
from updown.kernel.apply import apply
from updown.kernel.netlink import dumps
from updown.kernel.netlink.rtnetlink import Netlink
from updown.kernel.netlink.xfrm import Xfrm
from updown.kernel.path_mtu import Outgoing, States
from updown.ledger import clock
from updown.ledger.file import STATE_DIR, copy_ledger, folder
from updown.ledger.store import Ledger
from updown.model import errors
from updown.model.claims import SA, Change, Claim, FormerHolder
from updown.model.errors import Refused, UpdownError
from updown.model.ipsec import Database
from updown.model.objects import Link
from updown.model.operations import Notice, Operation, Reason, Report
from updown.model.resources import device_of
from updown.output.report import dedupe
from updown.serve import namespace_name, open_for_command, settings_lines
from updown.settings.file import Line
from updown.transaction import apply_change, converge, finish_pending

ATTEMPTS = 3  # of asking the daemons, where events came meanwhile
CHARON_ASKED = 3  # times, as it leaves out what it is at work with in that moment
CHARON_PAUSE = 0.4  # seconds between


def run(arguments: Arguments, environ: Mapping[str, str]) -> int:
    """The sub-command: bring ledger and kernel in line with the tunnels there are, and print what that took."""
    if "PLUTO_VERB" in environ:
        raise Refused(
            "reconcile cannot run inside a hook: the daemon it would ask waits for the hook's end",
            "run it from a shell, a timer or the units in contrib/",
        )
    outcome = reconcile_now(arguments)
    if arguments.json:
        print(json.dumps(outcome_json(outcome, clock.booted())))
    else:
        print("\n".join(outcome_lines(outcome, arguments.verbose)))
    return errors.FAILED if outcome.report.warnings else errors.DONE


def reconcile_now(arguments: Arguments) -> Outcome:
    """Ask the daemons first and lock then, since they may wait for a hook that waits for the lock; and ask again where the
    ledger was written in between. Where that never ceases, what was found counts for the claims that stayed as they were."""
    lines = settings_lines(arguments)
    with Netlink() as netlink:
        path = os.path.join(folder(arguments.state_dir or STATE_DIR, namespace_name(netlink)), "ledger")
        noted: tuple[str, ...] = ()  # of a damaged ledger, which was set aside in an attempt
        attempt = 0
        while True:
            attempt += 1
            stamp = write_time(path)
            with copy_ledger(arguments.state_dir or STATE_DIR, namespace_name(netlink)) as copy:
                asked_of = tuple(copy.claims())
                facts = gather(asked_of)
            dumps.import_pyroute2()
            with open_for_command(arguments, netlink, arguments.dry_run) as ledger:
                noted += (ledger.note,) if ledger.note else ()
                calm = arguments.dry_run or write_time(path) == stamp or not stamp
                if calm or attempt == ATTEMPTS:
                    now = clock.now()
                    spared = frozenset() if calm else changed_claims(asked_of, tuple(ledger.claims()), facts)
                    ways = (arguments.dry_run, arguments.before_start, spared, lock_yielder(ledger, path))
                    outcome = reconcile_ledger(ledger, netlink, lines, facts, now, *ways)
                    warnings = (*dict.fromkeys(noted), *outcome.report.warnings)
                    return outcome._replace(report=outcome.report._replace(warnings=warnings))
            time.sleep(0.5 * attempt)


def gather(claims: Sequence[Claim]) -> Evidence:
    """What both daemons and the kernel's XFRM database say now."""
    said: dict[str, DaemonAnswer] = {status.DAEMON: status.ask(), vici.DAEMON: vici.ask()}
    try:
        with Xfrm() as socket:
            xfrm: Database | None = socket.database()
    except UpdownError:
        xfrm = None
    facts = Evidence(said, xfrm, outgoing_sas() if any(map(counts_itself, claims)) else {})
    theirs = [claim for claim in claims if claim.about.daemon == vici.DAEMON and claim.kind == SA]
    for _ in range(CHARON_ASKED - 1):
        said_now = facts.said[vici.DAEMON]
        if said_now.state != ANSWERED or (said_now.whole and not decide(theirs, facts, 0).ended):
            break
        time.sleep(CHARON_PAUSE)
        facts.said[vici.DAEMON] = merge_answers(said_now, vici.ask())
    return facts


def outgoing_sas() -> Mapping[tuple[str, int], Outgoing]:
    """The SAs with their algorithms; none where they cannot be read, which the database tells."""
    try:
        with States() as socket:
            return socket.everything()
    except UpdownError:
        return {}


def merge_answers(earlier: DaemonAnswer, later: DaemonAnswer) -> DaemonAnswer:
    """Two answers of charon as one."""
    children = {(child.unique_id, child.connection, child.spi_in): child for child in earlier.children + later.children}
    if later.state != ANSWERED:
        return later
    return later._replace(children=tuple(children.values()), whole=earlier.whole or later.whole)


def reconcile_ledger(
    ledger: Ledger,
    netlink: Netlink,
    lines: tuple[Line, ...],
    facts: Evidence,
    now: int,
    dry: bool = False,
    before_start: bool = False,
    spared: frozenset[str] = frozenset(),
    taken_over: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Decide and carry out against an open ledger. What fails for one device is told, and keeps no other from its due. Claims
    with `spared` keys are left as they are, and so are those that events changed while they had the lock (see `turns`)."""
    claims = list(ledger.claims())
    decision = without_keys(decide(claims, facts, now, before_start), spared)
    moved, waiting = (
        tuple(with_configured_ends(claim, lines) for claim in part) for part in (decision.moved, decision.to_revive)
    )
    stay = {claim.key: claim for claim in (*claims, *moved)}
    for gone in (*(end.claim for end in decision.ended), *waiting):
        del stay[gone.key]
    recounted = outdated_mtus(stay.values(), decision.child_of, facts.sas, netlink)
    decision = decision._replace(moved=moved, to_revive=waiting, recounted=recounted)
    reports = [finish_pending(ledger, netlink, dry)]
    events, then = False, {claim.key: claim for claim in claims}
    for name, change in by_device(claims, decision).items():
        events = taken_over() or events
        late = changed_keys(change, then, ledger, facts) if events else frozenset()
        spared |= late
        reports.append(on_device(name, excluding(change, late), ledger, netlink, dry))
    decision = without_keys(decision, spared)
    remarks, warnings = notes(claims, facts)
    if facts.xfrm is None:
        text = "the kernel's IPsec policies and states cannot be read; run it as root"
        warnings += (Notice("policies not read", text),)
    rest = orphans.find_orphans(ledger, netlink, lines, facts.xfrm, going(reports))
    reports.append(shrink_routes(rest.parted, ledger, netlink, dry))
    reports += [remove_orphans(gone, ledger, netlink, dry) for gone in rest.gone.values()]
    forget(rest.forgotten, ledger)
    told, urgent = unclaimed_tunnels(decision)
    if spared:
        told += (f"events came while this was at work: claims left to the next run: {len(spared)}",)
    return Outcome(
        decision,
        Report(
            "",
            dedupe(tuple(operation for report in reports for operation in report.operations)),
            warnings + tuple(warning for report in reports for warning in report.warnings) + urgent,
            remarks + rest.remarks + told,
            tuple(end.claim for end in decision.ended),
        ),
        facts,
    )


def without_keys(decision: Audit, spared: frozenset[str]) -> Audit:
    """The decision without these claims; which tunnels no claim counts is not known where there are any."""
    if not spared:
        return decision
    return Audit(
        tuple(end for end in decision.ended if end.claim.key not in spared),
        tuple(claim for claim in decision.moved if claim.key not in spared),
        tuple(claim for claim in decision.to_revive if claim.key not in spared),
        tuple(claim for claim in decision.in_grace if claim.key not in spared),
        recounted=tuple(claim for claim in decision.recounted if claim.key not in spared),
        child_of={key: child for key, child in decision.child_of.items() if key not in spared},
    )


def going(reports: Sequence[Report]) -> set[str]:
    """Devices that these reports delete, in a dry run not yet."""
    operations = [operation for report in reports for operation in report.operations]
    return {
        operation.subject.name
        for operation in operations
        if operation.action == "link delete" and isinstance(operation.subject, Link)
    }


def by_device(claims: Sequence[Claim], decision: Audit) -> dict[str, Change]:
    """What changes on each device that a claim asks for something on."""
    found = {device_of(want): Change() for claim in claims for want in claim.resources}
    for claim in (*decision.moved, *decision.to_revive, *decision.recounted):
        change = found.get(claim.device, Change())
        found[claim.device] = change._replace(put=(*change.put, claim))
    for claim, _ in decision.ended:
        change = found.get(claim.device, Change())
        found[claim.device] = change._replace(end=(*change.end, claim))
    return found


def on_device(name: str, change: Change, ledger: Ledger, netlink: Netlink, dry: bool) -> Report:
    """End and move the claims on one device, and plan everything on it anew."""
    try:
        with ledger.transaction():
            return apply_change("", change, ledger, netlink, dry, also=ledger.keys_on(name), anew=True)
    except UpdownError as error:
        return as_warning(error)


def shrink_routes(operations: tuple[Operation, ...], ledger: Ledger, netlink: Netlink, dry: bool) -> Report:
    """Take devices that go out of routes that nobody counts."""
    if dry or not operations:
        return Report("", operations)
    try:
        outcome = apply(operations, netlink, ledger.owner)
    except UpdownError as error:
        return as_warning(error)
    return Report("", outcome.done, outcome.warnings)


def remove_orphans(gone: list[FormerHolder], ledger: Ledger, netlink: Netlink, dry: bool) -> Report:
    """Take away what is left over on one device, or the device itself."""
    asked: dict[str, list[FormerHolder]] = {}
    for old in gone:
        asked.setdefault(key_of(old.resource), []).append(old)
    try:
        with ledger.transaction():
            report = converge("", list(asked), asked, "", ledger, netlink, dry, {})
    except UpdownError as error:
        return as_warning(error)
    return report._replace(operations=tuple(map(as_orphan, report.operations)))


def as_orphan(operation: Operation) -> Operation:
    """The operation, with the reason of a left-over."""
    return operation._replace(reason=Reason("orphan"))


def as_warning(error: UpdownError) -> Report:
    """What could not be done, and what to do about it."""
    return Report("", warnings=(f"{error.text}; {error.hint}" if error.hint else error.text,))


def forget(names: Sequence[str], ledger: Ledger) -> None:
    """Devices that we made and that are gone are not ours any more, whoever makes one of that name."""
    if names:
        with ledger.transaction():
            for name in names:
                ledger.set_made(name, None)
            ledger.commit()
