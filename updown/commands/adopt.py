"""`vti-updown adopt DEV` and `release DEV`: whose a device is, without touching what it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from updown.commands.arguments import Arguments
from updown.commands.reconcile.orphans import address_of
from updown.concerns import device
from updown.concerns.catalogue import key_of
from updown.kernel.netlink import dumps
from updown.kernel.netlink.rtnetlink import Netlink
from updown.ledger.store import Ledger, LedgerError
from updown.model import errors, values
from updown.model.claims import MADE, Change, Claim, FormerHolder
from updown.model.errors import Refused, UpdownError
from updown.model.objects import OUR_ALIAS, OUR_PROTOCOL, Route, bare, netns_of
from updown.model.operations import Report
from updown.model.resources import Device, device_of
from updown.output.report import plan_lines, print_answer, report_fields
from updown.plan.inputs import ADOPT, RELEASE
from updown.plan.ownership import plan_ownership
from updown.serve import opened, present_state
from updown.settings import parsers
from updown.settings.file import settings_lines
from updown.transaction import Request, converge, finish_pending

TUNNELS = ("vti", "vti6", "xfrm")


def run(arguments: Arguments, _environ: Mapping[str, str] | None = None) -> int:
    """The sub-command."""
    name = arguments.files[0]
    try:
        values.device_name(bare(name))
        parsers.namespace(netns_of(name) or "own")
    except ValueError as error:
        raise Refused(f"{values.escaped(name, 30)}: {error}", "`ip -d link` lists the devices there are") from None
    change = adopt if arguments.command == "adopt" else release
    lines, dry = settings_lines(arguments.config, needed=False), arguments.dry_run
    with present_state(arguments.state_dir) as place, opened(place, lines, dry) as ledger:
        report = change(name, ledger, place.netlink, dry)
    print_answer(arguments.json, report_fields(report), plan_lines(report, arguments.verbose))
    return errors.FAILED if report.warnings else errors.DONE


def adopt(name: str, ledger: Ledger, netlink: Netlink, dry: bool) -> Report:
    """Mark the device as ours, and note it, so that it goes by the deletion table. Raises Refused for what cannot be ours."""
    mended = finish_pending(ledger, netlink, dry)
    link, held = netlink.link(name), list(ledger.claims("device = ?", name))
    if link is None:
        raise Refused(f"{name}: no such device here", "`ip -d link` lists devices; another namespace: ip netns exec")
    if link.kind not in TUNNELS:
        why = f"{name} is no tunnel device of ours ({link.kind or 'hardware'})"
        raise Refused(why, "adopt takes vti, vti6 and xfrm")
    if device.is_fallback(link):
        why = f"{name} is the kernel's fallback device (local any, remote any)"
        raise Refused(why, "it can be neither adopted nor deleted")
    if any(want.by_daemon for claim in held for want in claim.devices):
        raise Refused(
            f"{name} is the IKE daemon's own (ipsec-interface=)",
            "pluto makes and deletes it, or you do (ipsec-interface-managed=no); leave it",
        )
    made = ledger.made(f"device {name}")
    if link.alias == OUR_ALIAS and made == link.ifindex:
        return mended._replace(remarks=(f"{name} is ours already",))
    remarks = [f"{name} is ours now, with {len(held)} claims: it goes by the table in docs/deletion.md"]
    if link.alias and link.alias != OUR_ALIAS:
        remarks.append(f"its alias was {link.alias}")
    if not held:
        remarks.append("no claim holds it: `vti-updown reconcile` removes it, unless its remote is any")
    former = [FormerHolder(ADOPT, Device(link, shared=False, with_last=False))]
    return mended.plus(change_ownership(former, (), ledger, netlink, dry))._replace(remarks=tuple(remarks))


def release(name: str, ledger: Ledger, netlink: Netlink, dry: bool) -> Report:
    """Take our mark off the device and its routes, and forget it and its addresses. Raises Refused where it is not ours."""
    begun = [device_of(old.resource) for old in ledger.unfinished().values() if old.connection == RELEASE]
    mended = finish_pending(ledger, netlink, dry)
    if name in begun:
        return mended._replace(remarks=(f"{name}: an earlier release, which was cut off, is finished by this",))
    link = netlink.link(name)
    made = ledger.made(f"device {name}")
    if link is None:
        raise Refused(f"{name}: no such device here", "`vti-updown status` lists ours")
    if not device.is_ours(link, made, link):
        raise Refused(f"{name} is not ours: nothing to release", "`vti-updown status` lists ours")
    routes = [seen for seen in dumps.routes(OUR_PROTOCOL, netns_of(name)) if link.ifindex in (seen.oif, *seen.hops)]
    alone = [seen.destination for seen in routes if seen.hops]
    addresses = [want for want in map(address_of, ledger.all_made()) if want is not None and want.device == name]
    ways = [Route(one.destination, name, one.gateway, one.table, one.metric, one.mtu, one.source) for one in routes]
    wants = [*addresses, *ways, Device(link, shared=False, with_last=False)]
    held = list(ledger.claims("device = ?", name))
    made_here = tuple(claim for claim in held if claim.kind == MADE)
    remarks = [f"{name}, its addresses and its routes are yours now; they stay when their tunnels go"]
    if alone:
        remarks.append(f"by {name} alone, no more by others too: {', '.join(alone)}; a metric orders it and theirs")
    theirs = len(held) - len(made_here)
    if theirs:
        remarks.append(f"{theirs} claims hold it as a device of others; `vti-updown status` lists them")
    former = [FormerHolder(RELEASE, want) for want in wants]
    return mended.plus(change_ownership(former, made_here, ledger, netlink, dry))._replace(remarks=tuple(remarks))


def change_ownership(
    former: Sequence[FormerHolder], ended: tuple[Claim, ...], ledger: Ledger, netlink: Netlink, dry: bool
) -> Report:
    """Adopt or release as asked for, and end the claims of `make`. A full disk stops it before anything is done; one that fails
    leaves no note, as everything is undone then, and one that is killed is finished by the next event, or called again."""
    try:
        return converge(Request("", Change(end=ended), former=former, plan=plan_ownership), ledger, netlink, dry)
    except UpdownError:
        with suppress(LedgerError), ledger.transaction():
            ledger.finish(key_of(old.resource) for old in former)
        raise
