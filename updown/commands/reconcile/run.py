"""`vti-updown reconcile`: facts, decision (decide.py), and carrying it out by the same plans as an event's."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial, reduce

from updown.commands.arguments import Arguments
from updown.commands.reconcile import orphans
from updown.commands.reconcile.decide import Audit, Evidence, decide
from updown.commands.reconcile.pause import changed_claims, changed_keys, excluding, lock_yielder, write_time
from updown.commands.reconcile.renewed import Basis, Renewed, renew
from updown.commands.reconcile.report import Outcome, notes, outcome_json, outcome_lines, unclaimed_tunnels
from updown.concerns import mtu
from updown.daemons.answer import ANSWERED, DaemonAnswer, grouped
from updown.daemons.libreswan import status
from updown.daemons.strongswan import vici
from updown.kernel.netlink import dumps, local
from updown.kernel.netlink.rtnetlink import Netlink
from updown.kernel.netlink.xfrm import Xfrm
from updown.ledger import clock, liveness
from updown.ledger.store import Ledger
from updown.model import errors
from updown.model.claims import SA, Change, Claim
from updown.model.errors import Notice, UpdownError
from updown.model.ipsec import Database
from updown.model.operations import Report
from updown.model.record import Any
from updown.model.resources import device_of
from updown.output.report import dedupe, print_answer
from updown.serve import opened, present_state
from updown.settings.file import Line, settings_lines, settings_of
from updown.transaction import Request, as_warning, converge, converge_or_warn, finish_pending

ATTEMPTS = 3  # of asking the daemons, where events came meanwhile
CHARON_ASKED = 3  # times, as it leaves out what it is at work with in that moment
CHARON_PAUSE = 0.4  # seconds between
UNREAD = Notice("policies not read", "the kernel's IPsec policies and states cannot be read; run it as root")


def run(arguments: Arguments, _environ: Mapping[str, str]) -> int:
    """The sub-command: bring ledger and kernel in line with the tunnels there are, and print what that took."""
    outcome = reconcile_now(arguments)
    print_answer(arguments.json, outcome_json(outcome, clock.booted()), outcome_lines(outcome, arguments.verbose))
    return errors.FAILED if outcome.report.warnings else errors.DONE


def reconcile_now(arguments: Arguments) -> Outcome:
    """Ask the daemons first and lock then, since they may wait for a hook that waits for the lock; and ask again where the
    ledger was written in between. Where that never ceases, what was found counts for the claims that stayed as they were."""
    lines, dry = settings_lines(arguments.config), arguments.dry_run
    noted: tuple[Notice, ...] = ()  # of a damaged ledger, which was set aside in an attempt
    with present_state(arguments.state_dir) as place:
        lines_of = settings_of(arguments.config, lines, place.files)
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
                noted += (Notice("ledger", ledger.note),) if ledger.note else ()
                calm = dry or write_time(path) == stamp or not stamp
                if calm or attempt == ATTEMPTS:
                    spared = frozenset() if calm else changed_claims(asked_of, tuple(ledger.claims()), facts)
                    ways = (dry, arguments.before_start, spared, lock_yielder(ledger, path))
                    outcome = reconcile_ledger(ledger, place.netlink, lines_of, facts, clock.now(), *ways)
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
    theirs = [claim for claim in claims if claim.sa.daemon == vici.DAEMON and claim.kind == SA]
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
    lines_of: Callable[[str], tuple[Line, ...]],
    facts: Evidence,
    now: int,
    dry: bool = False,
    before_start: bool = False,
    spared: frozenset[str] = frozenset(),
    taken_over: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Decide and carry out against an open ledger. What fails for one device is told, and keeps no other from its due. Claims
    with `spared` keys are left as they are, and so are those that events changed meanwhile (see `lock_yielder`)."""
    claims = list(ledger.claims())
    decision = without_keys(decide(claims, facts, now, before_start), spared)
    states = facts.xfrm.states if facts.xfrm else ()
    sas = {(state.destination, state.spi): state for state in states if state.sa.protocol in (mtu.ESP, mtu.AH)}
    own_source = lru_cache(None)(partial(local.own_source, netlink))
    basis = Basis(sas, lines_of, lru_cache(netlink.vrf_table), own_source, netlink)
    gone = spared.union(end.claim.key for end in decision.ended)
    staying = [claim for claim in claims if claim.key not in gone]
    decision, events = renew_claims(decision, staying, basis, taken_over)
    reports = [finish_pending(ledger, netlink, dry)]
    with ledger.transaction():
        for name in liveness.unprobed(ledger, liveness.missed_probes(ledger), lines_of):
            liveness.set_missed_probes(ledger, name, 0, now)
    then = {claim.key: claim for claim in claims}
    edited = frozenset(claim.key for claim, _ in decision.edited)
    for name, change in by_device(claims, decision).items():
        events = taken_over() or events
        late = changed_keys(change, then, ledger, facts) if events else frozenset()
        spared |= late
        report = on_device(name, excluding(change, late), edited, ledger, netlink, dry)
        reports.append(report._replace(warnings=tuple(warning.about(name) for warning in report.warnings)))
    decision = without_keys(decision, spared)
    applied = [(claim, edits) for claim, edits in decision.edited if claim in ledger.claims("key = ?", claim.key)]
    decision = decision._replace(edited=tuple(applied))
    remarks, warnings = notes(claims, facts)
    if facts.xfrm is None:
        warnings += (UNREAD,)
    rest = orphans.find_orphans(ledger, netlink, lines_of(""), facts.xfrm, orphans.removed_by(reports))
    reports += orphans.remove_orphans(rest, ledger, netlink, dry)
    told, urgent = unclaimed_tunnels(decision)
    if spared:
        told += (f"events came while this was at work: claims left to the next run: {len(spared)}",)
    whole = reduce(Report.plus, reports)
    warnings = decision.warnings + warnings + whole.warnings + urgent
    ended = tuple(end.claim for end in decision.ended)
    report = Report("", dedupe(whole.operations), warnings, remarks + rest.remarks + told, ended)
    return Outcome(decision, report, facts)


def renew_claims(decision: Audit, staying: Sequence[Claim], basis: Basis, taken_over: Callable[[], bool]) -> tuple[Audit, bool]:
    """The decision with what claims ask for by their tunnels and the settings of now; whether events came meanwhile."""
    now = {claim.key: claim for claim in (*decision.moved, *decision.to_revive)}
    found: dict[str, Renewed] = {}
    events = False
    for claim in staying:
        events = taken_over() or events
        found[claim.key] = renew(claim, now.get(claim.key, claim), decision.child_of.get(claim.key), basis)
    decision = decision._replace(
        moved=tuple(found[claim.key].claim for claim in decision.moved if not found[claim.key].warning),
        to_revive=tuple(found[claim.key].claim for claim in decision.to_revive),
        recounted=tuple(one.claim for one in found.values() if one.recounted),
        edited=tuple((one.claim, one.edits) for one in found.values() if one.edits),
        warnings=tuple(dict.fromkeys(one.warning for one in found.values() if one.warning)),
    )
    return decision, events


def without_keys(decision: Audit, spared: frozenset[str]) -> Audit:
    """The decision without these claims; which tunnels no claim counts is not known where there are any."""
    if not spared:
        return decision
    kept: dict[str, Any] = {
        name: tuple(claim for claim in getattr(decision, name) if claim.key not in spared)
        for name in ("moved", "to_revive", "in_grace", "recounted")
    }
    ended = tuple(end for end in decision.ended if end.claim.key not in spared)
    edited = tuple(one for one in decision.edited if one[0].key not in spared)
    return decision._replace(ended=ended, edited=edited, unclaimed=(), uncounted=(), **kept)


def by_device(claims: Sequence[Claim], decision: Audit) -> dict[str, Change]:
    """What changes on each device that a claim asks for something on."""
    edited = (claim for claim, _ in decision.edited)
    changed = {one.key: one for one in (*decision.moved, *decision.to_revive, *decision.recounted, *edited)}
    put = grouped(changed.values(), lambda claim: claim.device)
    end = grouped((end.claim for end in decision.ended), lambda claim: claim.device)
    names = dict.fromkeys([*(device_of(want) for claim in claims for want in claim.resources), *put, *end])
    return {name: Change(tuple(put.get(name, ())), tuple(end.get(name, ()))) for name in names}


def on_device(name: str, change: Change, edited: frozenset[str], ledger: Ledger, netlink: Netlink, dry: bool) -> Report:
    """Change claims on a device, and plan everything on it anew; where that fails, without what `edited` settings change."""
    also, rest = ledger.keys_on(name), excluding(change, edited)
    try:
        return converge(Request(change=change, also=also, anew=True), ledger, netlink, dry)
    except UpdownError as error:
        failed = as_warning(error)
    if rest == change:
        return failed
    return failed.plus(converge_or_warn(Request(change=rest, also=also, anew=True), ledger, netlink, dry))
