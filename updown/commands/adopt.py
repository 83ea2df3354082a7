"""`vti-updown adopt DEV` and `release DEV`: whose a device is, without touching what it does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from updown.commands.arguments import Arguments
from updown.commands.reconcile.orphans import as_route
from updown.concerns import device
from updown.kernel.apply import apply
from updown.kernel.netlink import dumps
from updown.kernel.netlink.route_messages import RouteSeen
from updown.kernel.netlink.rtnetlink import Netlink
from updown.ledger.store import Ledger
from updown.model import errors, values
from updown.model.claims import MADE, Claim
from updown.model.errors import Refused
from updown.model.objects import OUR_ALIAS, OUR_PROTOCOL, TUNNELS, bare, netns_of, placed
from updown.model.operations import Operation, Reason, Report
from updown.model.resources import Device
from updown.output.report import JSON_VERSION, operation_json, plan_lines
from updown.serve import open_for_command
from updown.settings import parsers

STATIC = 4  # RTPROT_STATIC: a route that an administrator made


def run(arguments: Arguments, _environ: Mapping[str, str] | None = None) -> int:
    """The sub-command."""
    name = arguments.files[0]
    try:
        values.device_name(bare(name))
        parsers.namespace(netns_of(name) or "own")
    except ValueError as error:
        raise Refused(f"{values.escaped(name, 30)}: {error}", "`ip -d link` lists the devices there are") from None
    adopting = arguments.command == "adopt"
    with Netlink() as netlink, open_for_command(arguments, netlink, arguments.dry_run) as ledger:
        report = (adopt if adopting else release)(name, ledger, netlink, arguments.dry_run)
    if arguments.json:
        operations = [operation_json(operation) for operation in report.operations]
        print(json.dumps({"version": JSON_VERSION, "operations": operations, "remarks": list(report.remarks)}))
    else:
        print("\n".join(plan_lines(report, arguments.verbose)))
    return errors.DONE


def adopt(name: str, ledger: Ledger, netlink: Netlink, dry: bool) -> Report:
    """Mark the device as ours, and note it, so that it goes by the deletion table. Raises Refused for what cannot be ours."""
    link = netlink.link(name)
    if link is None:
        raise Refused(f"{name}: no such device here", "`ip -d link` lists devices; another namespace: ip netns exec")
    if link.kind not in TUNNELS:
        raise Refused(
            f"{name} is no tunnel device of ours ({link.kind or 'hardware'})", "adopt takes vti, vti6 and xfrm"
        )
    if device.is_fallback(link):
        raise Refused(
            f"{name} is the kernel's fallback device (local any, remote any)", "it can be neither adopted nor deleted"
        )
    held = list(ledger.claims("device = ?", name))
    if any(isinstance(want, Device) and want.by_daemon for claim in held for want in claim.resources):
        raise Refused(f"{name} is the IKE daemon's own (ipsec-interface=)", "the daemon makes and deletes it; leave it")
    made = ledger.made(f"device {name}")
    if link.alias == OUR_ALIAS and made == link.ifindex:
        return Report("", remarks=(f"{name} is ours already",))
    remarks: tuple[str, ...] = (
        f"{name} is ours now, with {len(held)} claims: it goes by the table in docs/deletion.md",
    )
    if link.alias and link.alias != OUR_ALIAS:
        remarks += (f"its alias was {link.alias}",)
    if not held:
        remarks += ("no claim holds it: `vti-updown reconcile` removes it, unless its remote is any",)
    mark = Operation("link set", link._replace(alias=OUR_ALIAS), link, Reason("ours"), f"device {name}")
    return change_ownership(name, link.ifindex, [mark], remarks, ledger, netlink, dry)


def release(name: str, ledger: Ledger, netlink: Netlink, dry: bool) -> Report:
    """Take our mark off the device and its routes, and forget it and its addresses. Raises Refused where it is not ours."""
    link = netlink.link(name)
    made = ledger.made(f"device {name}")
    if link is None:
        raise Refused(f"{name}: no such device here", "`vti-updown status` lists ours")
    if not device.is_ours(link, made, None):
        raise Refused(f"{name} is not ours: nothing to release", "`vti-updown status` lists ours")
    operations: list[Operation] = []
    alone: list[str] = []
    for seen in dumps.routes(OUR_PROTOCOL, netns_of(name)):
        if link.ifindex in (seen.oif, *seen.hops):
            theirs = as_route(seen, [name])._replace(protocol=STATIC)
            before = as_route(seen, devices_of(seen, netlink.at(name), netns_of(name))) if seen.hops else None
            operations.append(Operation("route replace", theirs, before, Reason("ours no more")))
            alone += [seen.destination] if before else []
    # last, since without it a second call would take the device for another's
    operations.append(Operation("link set", link._replace(alias=""), link, Reason("ours no more")))
    made_here = [claim for claim in ledger.claims("device = ?", name) if claim.kind == MADE]
    held = [claim for claim in ledger.claims("device = ?", name) if claim.kind != MADE]
    remarks: tuple[str, ...] = (f"{name}, its addresses and its routes are yours now; they stay when their tunnels go",)
    if alone:
        remarks += (f"by {name} alone, no more by others too: {', '.join(alone)}; a metric orders it and theirs",)
    if held:
        remarks += (f"{len(held)} claims hold it as a device of others; `vti-updown status` lists them",)
    return change_ownership(name, None, operations, remarks, ledger, netlink, dry, made_here)


def devices_of(seen: RouteSeen, netlink: Netlink, netns: str) -> list[str]:
    """The devices of a multipath route, in the kernel's order: it finds one by the first."""
    links = [netlink.link_at(index) for index in seen.hops]
    return [placed(link.name, netns) for link in links if link is not None]


def change_ownership(
    name: str,
    made: int | None,
    operations: list[Operation],
    remarks: tuple[str, ...],
    ledger: Ledger,
    netlink: Netlink,
    dry: bool,
    ended: Sequence[Claim] = (),
) -> Report:
    """Write the ledger, then do the operations: a full disk stops it before anything is done, and one who is killed in between
    can be called again. Where an operation fails the ledger is as before."""
    if dry:
        return Report("", tuple(operations), (), remarks)
    changed: dict[str, int | None] = {f"device {name}": made}
    if made is None:
        changed.update(dict.fromkeys(addresses_on(name, ledger)))
    before = {key: ledger.made(key) for key in changed}
    note_ownership(changed, ledger, ended=ended)
    try:
        outcome = apply(tuple(operations), netlink, ledger.owner)
    except BaseException:
        note_ownership(before, ledger, put=ended)
        raise
    return Report("", outcome.done, outcome.warnings, remarks)


def note_ownership(
    made: dict[str, int | None], ledger: Ledger, ended: Sequence[Claim] = (), put: Sequence[Claim] = ()
) -> None:
    """Note what is ours, and what is not, and which claims go or come. Raises LedgerError; nothing is noted then."""
    with ledger.transaction():
        for key, value in made.items():
            ledger.set_made(key, value)
        for claim in ended:
            ledger.end(claim)
        for claim in put:
            ledger.put(claim)
        ledger.commit()


def addresses_on(name: str, ledger: Ledger) -> list[str]:
    """The keys of the addresses that we put on a device."""
    return [key for key in ledger.all_made() if key.split(" ")[:2] in (["address", name], ["source", name])]
