"""The way of an event: context -> claims -> desired -> plan -> apply -> report. Dry-run and explain leave `apply` out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache, partial

from updown import daemons
from updown.concerns import addresses, mtu
from updown.concerns.catalogue import VrfTable, VtiBetween, derive, derive_again, key_of
from updown.concerns.device_request import DeviceRequest, deletion_rule, request_device
from updown.daemons.terms import words_of
from updown.kernel import path_mtu
from updown.kernel.netlink import local
from updown.kernel.netlink.rtnetlink import Netlink
from updown.ledger import liveness
from updown.ledger.store import Ledger, LedgerError
from updown.model import claims
from updown.model.claims import Change, Claim, SaInfo
from updown.model.context import Context
from updown.model.errors import Conflict, KernelError, Notice, Refused, UpdownError
from updown.model.objects import Route, placed
from updown.model.operations import Report
from updown.model.record import NamedTuple
from updown.model.resources import DeletionRule, MtuSum, PeerRoute
from updown.model.values import AUTO
from updown.settings.file import Line, resolve
from updown.transaction import Request, converge, finish_pending

REFUSED_FOR = 86400  # seconds that an SA is remembered whose `up` was refused


class Event(NamedTuple):
    """What is decided upon: what was told, the daemon's rules, the settings, what the ledger has of the tunnel; and questions
    for when it is known of what. `rule_on`: the row in which a connection's claims on a device stand; `mtu_sum`: that of the
    SA, or what of it cannot be counted; `own_source`: an address to send from; `end_inside`: why an end of a claim's tunnel is
    none."""

    context: Context
    rules: claims.Rules
    lines: tuple[Line, ...]
    held: claims.CandidateClaims
    now: int
    vrf_table: VrfTable
    vti_between: VtiBetween
    rule_on: Callable[[str, str, Sequence[int]], DeletionRule | None]
    mtu_sum: Callable[[Context, DeviceRequest], tuple[MtuSum | None, str]]
    own_source: Callable[[addresses.SourceQuery, str | None], str]
    end_inside: Callable[[Claim, Sequence[SaInfo]], str]


class Decision(NamedTuple):
    """What a verb does to the claims, and what is to be said of it."""

    change: Change
    remarks: tuple[str, ...] = ()
    warnings: tuple[Notice, ...] = ()


def run(context: Context, lines: tuple[Line, ...], ledger: Ledger, netlink: Netlink, now: int, dry: bool) -> Report:
    """One event against an open ledger. Raises Conflict, Refused or KernelError; ledger and kernel are then as before."""
    try:
        return apply_event(context, lines, ledger, netlink, now, dry)
    except (UpdownError, LedgerError):
        remember_refused(ledger, context, now)
        raise


def apply_event(context: Context, lines: tuple[Line, ...], ledger: Ledger, netlink: Netlink, now: int, dry: bool) -> Report:
    """The event, as far as it gets."""
    if context.suspended_if_lost:
        path = netlink.path(context.me)
        context = context._replace(suspended=path is None or not path.local)
    rules = daemons.rules_of(context)
    sa = rules.remembered(context)
    served = ledger.was_ended(sa.ended, now)
    if context.verb.joined and served:
        return Report(context.connection, remarks=("its SA was taken down already; nothing to do",))
    sought = rules.sought(context)
    held = ledger.held(sought)._replace(served=served or (bool(sa.refused) and ledger.was_ended(sa.refused, now)))
    between, mtu_sum = partial(ledger.vti_between, sought.tunnel), partial(path_mtu.mtu_sum, netlink)
    vrf_table = lru_cache(netlink.vrf_table)
    own = (partial(local.own_source, netlink), partial(local.end_inside, netlink))
    event = Event(context, rules, lines, held, now, vrf_table, between, ledger.rule_on, mtu_sum, *own)
    change, remarks, warnings = decide(event)
    mended = finish_pending(ledger, netlink, dry)
    files, made = {context.config: lines}, change.put if context.verb.makes else ()  # else mistakes leave no line of a file
    unprobed = liveness.unprobed(ledger, dict.fromkeys(claim.device for claim in made), files.get)
    also = [key for device in unprobed for key in ledger.keys_on(device)]
    also += [] if context.verb.makes else ways_of(held.tunnel)

    def note(ledger: Ledger) -> None:
        """Which SA ended, also of a move: the calls that follow it are never late; which ends mean nothing any more."""
        if context.verb.makes:
            ledger.forget_ended(sa.first, sa.last)
        elif sa.ended:
            ledger.note_ended(sa.ended, now)
        for device in unprobed:
            liveness.set_missed_probes(ledger, device, 0, now)

    try:
        request = Request(context.connection, change, also, note=note, ends=not context.verb.makes)
        report = converge(request, ledger, netlink, dry)
    except (Conflict, KernelError):
        if sa.ended and not context.verb.makes and not served:
            # it was undone and ended nothing: a joined call for its SA, or the same `down` again, is not late
            with suppress(LedgerError), ledger.transaction():  # else it is forgotten after ten minutes
                ledger.forget_ended(sa.ended, sa.ended)
        raise
    whole = mended.plus(report)
    return whole._replace(
        connection=context.connection,
        warnings=context.warnings + warnings + whole.warnings,
        remarks=remarks + whole.remarks,
        claims=change.put + change.end,
    )


def ways_of(tunnel: claims.Claims) -> list[str]:
    """The keys of what an uplink or an address may have taken along with it, and a tunnel that is down waits for: the ways to
    its peers, with what goes by them, and routes from an address of this machine."""
    found = [one for one in tunnel if one.sa.local_source or any(isinstance(want, PeerRoute) for want in one.resources)]
    return [key_of(want) for one in found for want in one.resources if isinstance(want, (PeerRoute, Route))]


def remember_refused(ledger: Ledger, context: Context, now: int) -> None:
    """The end of an SA whose `up` is refused will end nothing: there is no claim of it."""
    sa = daemons.rules_of(context).remembered(context).refused
    if not (context.verb.makes and sa):
        return
    with suppress(LedgerError), ledger.transaction():  # a full disk: then `reconcile` tells
        ledger.note_ended(sa, now, REFUSED_FOR)


def decide(event: Event) -> Decision:
    """What this verb does to the claims."""
    verb, rules = event.context.verb, event.rules
    if verb.makes:
        return make(event)
    if not verb.steps:
        return Decision(Change())
    end = rules.unroute if "unroute" in verb.steps else rules.down
    return Decision(end(event.context, event.held))


def make(event: Event) -> Decision:
    """The claim of a verb that makes, with everything it asks for, and the others of its tunnel as the settings are now."""
    context, rules, held = event.context, event.rules, event.held
    sa = claims.sa_info(context)
    found = request_device(sa, partial(resolve, event.lines, context.connection))
    if found.name is None:
        return Decision(Change(), (found.reason,))
    before = rules.renewed(context, held)
    dead = [claim.order for claim in rules.replaced(context, held)]
    row = (
        (held.tunnel[0].deletion if held.tunnel else None)  # where its tunnel stands since its first claim
        or event.rule_on(context.connection, placed(found.name, found.settings.netns), dead)
        or deletion_rule(context, found.settings)
    )
    total, unknown = event.mtu_sum(context, found)
    sa = sa._replace(mtu_sum=total or (before.sa.mtu_sum if before else None))
    routed = context.verb.routes or (before is not None and before.routed)  # `prepare` never takes back what `up` gave
    query = addresses.source_query(sa, found) if routed else None
    known = before.sa.local_source if before and before.routed else None
    sa = sa._replace(local_source=event.own_source(query, known) if query else "")
    claim = Claim("", "", context.connection, "", "", "", row, routed, event.now, sa=sa)
    claim, remarks, settings, warnings = derive(claim, found, event.lines, event.vrf_table, event.vti_between)
    inside = event.end_inside(claim, [one.sa for one in held.tunnel])
    if inside:
        told = f"{inside}: {context.connection} would go into itself, so nothing is changed for {context.me} - {context.peer}"
        raise Refused(told, words_of(context.daemon).outside.format(claim.device))
    change = rules.make(context, held, claim)
    put = (*change.put, *derive_siblings(event, change, before))
    counted = "up" in context.verb.steps and settings.mtu == AUTO  # before, there may be no SA
    said = mtu.warnings(sa, settings, claim.device, unknown) if counted else ()
    return Decision(change._replace(put=put), remarks, warnings + said)


def derive_siblings(event: Event, change: Change, before: Claim | None) -> tuple[Claim, ...]:
    """The other claims of the tunnel that ask for something else now; one that the settings do not fit stays as it is. A call
    that changes nothing of its own claim changes nothing of theirs."""
    (new,) = change.put
    if before and (before.resources, before.sa[:3]) == (new.resources, new.sa[:3]):
        return ()
    moved = before is not None and before.sa[1:3] != new.sa[1:3]
    found: list[Claim] = []
    for claim in [one for one in event.rules.siblings(new, event.held) if not claims.same_key(change.end, one.key)]:
        with suppress(Refused, KernelError):  # of a claim that stays behind `reconcile` warns
            again = derive_again(claim, event.lines, event.vrf_table)
            if not moved and again.devices == claim.devices:  # a shared device takes in both ends: this may be no move
                (was,) = (one for one in event.held.tunnel if one.key == claim.key)
                again = derive_again(was, event.lines, event.vrf_table)
            found.append(again)
    return tuple(claim for claim in found if claim not in event.held.tunnel)
