"""`vti-updown reconcile`: facts, decision (reconcile.py), and carrying it out by the same plans as an event's."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import reduce

from updown.commands.arguments import Arguments
from updown.commands.reconcile import orphans
from updown.commands.reconcile.decide import Audit, decide
from updown.commands.reconcile.match import Evidence
from updown.commands.reconcile.pause import changed_claims, changed_keys, excluding, lock_yielder, write_time
from updown.commands.reconcile.renewed import outdated_mtus
from updown.commands.reconcile.report import Outcome, notes, outcome_json, outcome_lines, unclaimed_tunnels
from updown.concerns.endpoints import with_configured_ends
from updown.daemons.answer import ANSWERED, DaemonAnswer
from updown.daemons.libreswan import status
from updown.daemons.strongswan import vici
from updown.kernel.netlink import dumps
from updown.kernel.netlink.rtnetlink import Netlink
from updown.kernel.netlink.xfrm import Xfrm
from updown.ledger import clock
from updown.ledger.store import Ledger
from updown.model import errors
from updown.model.claims import SA, Change, Claim
from updown.model.errors import Refused, UpdownError
from updown.model.ipsec import Database
from updown.model.operations import Report
from updown.model.resources import device_of
from updown.output.report import dedupe, print_answer
from updown.serve import opened, present_state, settings_lines
from updown.settings.file import Line
from updown.transaction import Request, converge_or_warn, finish_pending

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
    print_answer(arguments.json, outcome_json(outcome, clock.booted()), outcome_lines(outcome, arguments.verbose))
    return errors.FAILED if outcome.report.warnings else errors.DONE


def reconcile_now(arguments: Arguments) -> Outcome:
    """Ask the daemons first and lock then, since they may wait for a hook that waits for the lock; and ask again where the
    ledger was written in between. Where that never ceases, what was found counts for the claims that stayed as they were."""
    lines, dry = settings_lines(arguments.config), arguments.dry_run
    noted: tuple[str, ...] = ()  # of a damaged ledger, which was set aside in an attempt
    with present_state(arguments.state_dir) as place:
        path = os.path.join(place.path, "ledger")
        attempt = 0
        while True:
            attempt += 1
            stamp = write_time(path)
            with opened(place, lines, dry=True) as copy:
                asked_of = tuple(copy.claims())
                facts = gather(asked_of)
            dumps.import_pyroute2()
            with opened(place, lines, dry) as ledger:
                noted += (ledger.note,) if ledger.note else ()
                calm = dry or write_time(path) == stamp or not stamp
                if calm or attempt == ATTEMPTS:
                    spared = frozenset() if calm else changed_claims(asked_of, tuple(ledger.claims()), facts)
                    ways = (dry, arguments.before_start, spared, lock_yielder(ledger, path))
                    outcome = reconcile_ledger(ledger, place.netlink, lines, facts, clock.now(), *ways)
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
    facts = Evidence(said, xfrm)
    theirs = [claim for claim in claims if claim.about.daemon == vici.DAEMON and claim.kind == SA]
    for _ in range(CHARON_ASKED - 1):
        said_now = facts.said[vici.DAEMON]
        if said_now.state != ANSWERED or (said_now.whole and not decide(theirs, facts, 0).ended):
            break
        time.sleep(CHARON_PAUSE)
        facts.said[vici.DAEMON] = merge_answers(said_now, vici.ask())
    return facts


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
    recounted = outdated_mtus(stay.values(), decision.child_of, facts.xfrm.states if facts.xfrm else (), netlink)
    decision = decision._replace(moved=moved, to_revive=waiting, recounted=recounted)
    reports = [finish_pending(ledger, netlink, dry)]
    events, then = False, {claim.key: claim for claim in claims}
    for name, change in by_device(claims, decision).items():
        events = taken_over() or events
        late = changed_keys(change, then, ledger, facts) if events else frozenset()
        spared |= late
        on_device = Request(change=excluding(change, late), also=ledger.keys_on(name), anew=True)
        reports.append(converge_or_warn(on_device, ledger, netlink, dry))
    decision = without_keys(decision, spared)
    remarks, warnings = notes(claims, facts)
    if facts.xfrm is None:
        warnings += ("the kernel's IPsec policies and states cannot be read; run it as root",)
    rest = orphans.find_orphans(ledger, netlink, lines, facts.xfrm, orphans.removed_by(reports))
    reports += orphans.remove_orphans(rest, ledger, netlink, dry)
    told, urgent = unclaimed_tunnels(decision)
    if spared:
        told += (f"events came while this was at work: claims left to the next run: {len(spared)}",)
    whole = reduce(Report.plus, reports)
    report = Report(
        "",
        dedupe(whole.operations),
        warnings + whole.warnings + urgent,
        remarks + rest.remarks + told,
        tuple(end.claim for end in decision.ended),
    )
    return Outcome(decision, report, facts)


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
