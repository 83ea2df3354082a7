"""The way of an event: context -> claims -> desired -> plan -> apply -> report. Dry-run and explain leave `apply` out."""

from typing import List, Tuple

from updown import claims
from updown.carry import Report, carry_out, mend
from updown.claims import Change
from updown.concerns import addresses, device, routes, sysctls
from updown.context import Context
from updown.desired import Row, Want, Wants
from updown.kernel.netlink import Netlink
from updown.ledger import Ledger
from updown.settings import Line, Settings, resolve

__all__ = ["Report", "run"]


def run(context: Context, lines: Tuple[Line, ...], ledger: Ledger, netlink: Netlink, now: int, dry: bool) -> Report:
    """One event against an open ledger. Raises Conflict, Refused or KernelError; ledger and kernel are then as before."""
    spis = f"{context.spi_in:#x} {context.spi_out:#x}"
    if context.verb.joined and ledger.is_taken(spis, now):
        return Report(context.connection, remarks=("its SA was taken down already; nothing to do",))
    held = ledger.held(claims.tunnel_of(context), claims.group_of(context), claims.keys_of(context))
    change, remarks = decide(context, lines, held, now)
    mended = mend(ledger, netlink, dry)
    ledger.begin()
    try:
        if context.child and not context.verb.makes:
            ledger.set_taken(spis, now)
        report = carry_out(context.connection, change, ledger, netlink, dry)
    except BaseException:
        ledger.rollback()
        raise
    return report._replace(
        operations=mended.operations + report.operations,
        warnings=context.warnings + mended.warnings + report.warnings,
        remarks=remarks + report.remarks,
        claims=change.put + change.end,
    )


def decide(context: Context, lines: Tuple[Line, ...], held: claims.Held, now: int) -> Tuple[Change, Tuple[str, ...]]:
    """What this verb does to the claims."""
    if not context.verb.steps:
        return Change(), ()
    if context.verb.makes:
        return make(context, lines, held, now)
    if "unroute" in context.verb.steps:
        return claims.unroute(context, held), ()
    return claims.down(context, held), ()


def make(context: Context, lines: Tuple[Line, ...], held: claims.Held, now: int) -> Tuple[Change, Tuple[str, ...]]:
    """The claim of a verb that makes, with everything it asks for."""
    found = device.wish(context, resolve(lines, context.connection))
    if found.name is None:
        return Change(), (found.reason,)
    settings = resolve(lines, context.connection, found.name)
    before = claims.renewed(context, held)
    row = claims.row_of(held) or device.decide_row(context, settings)
    wants, remarks = wants_of(context, settings, found, row, claims.routed(context, before))
    change = claims.make(context, held, row, wants, now)
    followers = claims.follow(change.put[0], [claim for claim in held.tunnel if claim not in change.end])
    return change._replace(put=change.put + followers), remarks


def wants_of(
    context: Context, settings: Settings, found: device.Wish, row: Row, routed: bool
) -> Tuple[Wants, Tuple[str, ...]]:
    """The list of concerns, in the order in which a person reads them."""
    name = found.name or ""
    wants: List[Want] = [*device.wants(context, settings, found, row)]
    wants += sysctls.wants(settings, name) if not found.by_daemon else ()
    wants += addresses.wants(context, settings, name)
    wants += addresses.source_wants(context, name, found.by_daemon)
    routing = routes.wants(context, settings, name) if routed else routes.Routing()
    wants += [*routing.peers, *routing.routes]
    return tuple(dict.fromkeys(wants)), routing.remarks
