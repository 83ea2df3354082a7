"""What is ours and no claim asks for any more. For `reconcile`, and for `clean`, which leaves nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from updown.concerns import device
from updown.concerns.catalogue import key_of
from updown.concerns.peer_routes import slot_of
from updown.concerns.routes import stands_for
from updown.kernel import namespace
from updown.kernel.netlink import dumps
from updown.kernel.netlink.rtnetlink import Netlink
from updown.kernel.observe import owned
from updown.ledger.store import Ledger
from updown.model.claims import FormerHolder
from updown.model.ipsec import Database, in_use
from updown.model.objects import Address, Link, Route, Rule, bare, is_any, netns_of
from updown.model.operations import Operation, Reason, Report
from updown.model.record import Any, NamedTuple
from updown.model.resources import Device, PeerRoute, Resource, SourceAddress, device_of, split
from updown.plan.inputs import Plan
from updown.settings.file import Line, resolve
from updown.transaction import Request, converge_or_warn

ORPHAN = "nobody"


class Orphans(NamedTuple):
    """By device, what goes; names of devices we made that are not there; lines on what stays though nobody asks for it; and
    routes that lose the devices which go, and keep others, before those go."""

    gone: dict[str, list[FormerHolder]]
    forgotten: tuple[str, ...]
    remarks: tuple[str, ...]
    parted: tuple[Operation, ...] = ()


def present(ledger: Ledger, netlink: Netlink, netnses: Iterable[str]) -> tuple[list[Link], list[Any]]:
    """All links of the hook's own namespace and of `netnses`, and what is ours beside them: what the kernel shows as ours, and
    the addresses that the ledger notes; names are placed. Raises KernelError, or UpdownError without pyroute2."""
    links: list[Link] = []
    things: list[Any] = [want for want in map(address_of, ledger.all_made()) if want is not None]
    for netns in ("", *netnses):
        here = dumps.links(netns)
        links += here
        things += owned(netlink, netns, here)
    return links, things


def netnses(ledger: Ledger, lines: tuple[Line, ...]) -> tuple[str, ...]:
    """The namespaces other than the hook's own in which something of ours may be."""
    devices = [split(name)[1].split(" ")[0] for name in ledger.all_made()]
    devices += [device_of(want) for claim in ledger.claims() for want in claim.resources]
    names = {netns_of(name) for name in devices} | {str(line.value) for line in lines if line.key == "netns"}
    return tuple(sorted(name for name in names if name and namespace.exists(name)))


def removed_by(reports: Sequence[Report]) -> set[str]:
    """The keys of what these reports delete, in a dry run not yet."""
    gone = (one for report in reports for one in report.operations if one.action.endswith("delete"))
    return {f"device {one.subject.name}" if isinstance(one.subject, Link) else key_of(one.subject) for one in gone}


def find_orphans(
    ledger: Ledger, netlink: Netlink, lines: tuple[Line, ...], xfrm: Database | None, removed: set[str], every: bool = False
) -> Orphans:
    """What is there now, but for what is about to be `removed`. A device whose key is in the kernel's IPsec policies stays,
    with everything on it: a tunnel that the ledger lost uses it. With `every` no row of the deletion table keeps a device."""
    wanted = {key_of(want) for claim in ledger.claims() for want in claim.resources}
    going = {split(name)[1] for name in removed if name.startswith("device ")}
    made = ledger.all_made()
    links, things = present(ledger, netlink, netnses(ledger, lines))
    kept: set[str] = set()
    remarks: list[str] = []
    gone: dict[str, list[FormerHolder]] = {}
    for link in links:
        key = f"device {link.name}"
        lost = (made.get(key) or 0) < 0  # of a lost ledger, which knew more tunnels on it
        ours = key not in wanted and link.name not in going and device.is_ours(link, made.get(key), None)
        used = (ours or (lost and key in wanted)) and (xfrm is None or in_use(link, xfrm))
        kept |= {link.name} if used else set()
        goes = ours and (every or is_deleted(link, lines))
        if goes and used:
            why = "the kernel has IPsec policies with its key" if xfrm else "the kernel's IPsec policies cannot be read"
            remarks.append(f"{link.name} is ours and no claim holds it, but {why}: it stays; its tunnel's next up counts it")
        elif goes or (ours and not used and link.up and resolve(lines, "", bare(link.name)).link == "follow"):
            asked = Device(link, shared=False, with_last=goes, follow=not goes)
            gone.setdefault(link.name, []).append(FormerHolder(ORPHAN, asked))
    parted: list[Operation] = []
    left = going | {name for name, ended in gone.items() if any(isinstance(old.resource, Device) for old in ended)}
    routes = [one for one in things if isinstance(one, Route)]
    led = {table_of(route) for route in routes}
    held = {table_of(route) for route in routes if kept.intersection(route.devices)}
    places = {netns_of(name) for name in kept}
    for one in things:
        devices = set(one.devices) if isinstance(one, Route) else {one.device}
        stays = bool(devices & kept) or devices <= going
        if isinstance(one, Rule):  # of the tunnels that stay: where nothing leads by its table, any may be theirs
            stays = table_of(one) in held or (table_of(one) not in led and netns_of(one.device) in places)
        noted = isinstance(one, (Address, SourceAddress))  # by the ledger alone, though it may have gone by now
        if keys_of(one) & (wanted if noted else wanted | removed):
            continue
        if isinstance(one, Route) and devices & kept:
            parted += without_devices(one, left)
        elif not stays:
            gone.setdefault(one.device, []).append(FormerHolder(ORPHAN, one))
    there = {link.name for link in links}
    forgotten = [name for name in made if name.startswith("device ") and split(name)[1] not in there]
    return Orphans(gone, tuple(name for name in forgotten if name not in wanted), tuple(remarks), tuple(parted))


def without_devices(route: Route, left: set[str]) -> list[Operation]:
    """A multipath route by the devices that stay: with one that goes the kernel would take all of an IPv4 route."""
    first, *more = [name for name in route.devices if name not in left] or [""]
    if not first or len(more) + 1 == len(route.devices):
        return []
    rest = route._replace(device=first, hops=tuple(more))
    return [Operation("route replace", rest, route, Reason("other devices go"))]


def remove_orphans(orphans: Orphans, ledger: Ledger, netlink: Netlink, dry: bool) -> list[Report]:
    """Take away what is left over, device by device, so that what fails on one keeps no other; and note that devices which we
    made and which are not there are not ours any more, whoever makes one of that name."""
    reports: list[Report] = []
    if orphans.parted:
        parted = Request(plan=lambda *_: Plan(orphans.parted, (), {}))
        reports.append(converge_or_warn(parted, ledger, netlink, dry))
    for gone in orphans.gone.values():
        report = converge_or_warn(Request(former=gone), ledger, netlink, dry)
        why = Reason("orphan")
        reports.append(report._replace(operations=tuple(one._replace(reason=why) for one in report.operations)))
    if orphans.forgotten:
        with ledger.transaction():
            for name in orphans.forgotten:
                ledger.set_made(name, None)
    return reports


def table_of(one: Route | Rule) -> tuple[str, int]:
    """The routing table that a route is in, or a rule looks into, with its namespace."""
    return netns_of(one.device), one.table


def is_deleted(link: Link, lines: tuple[Line, ...]) -> bool:
    """Whether a device without claims goes by the deletion table, as far as the device itself shows its row: remote `any` is
    one that serves several peers. A connection's own `delete = never` could have been its, so any such line keeps it."""
    delete = resolve(lines, "", link.name).delete
    never = ((line.kind, line.key, line.value) == ("connection", "delete", "never") for line in lines)
    if delete == "rule" and any(never):
        return False
    return {"rule": link.kind != "xfrm" and not is_any(link.remote), "last": True, "never": False}[delete]


def keys_of(thing: Resource) -> set[str]:
    """The resources that a thing may stand for: itself; a route also for the way to a peer, or for one it is in front of."""
    names = {key_of(thing)}
    whole = stands_for(thing) if isinstance(thing, Route) else None
    names |= {key_of(whole)} if whole else set()
    if isinstance(thing, Route):
        way = PeerRoute(thing.destination.partition("/")[0], "", "", "", thing.table)
        names |= {key_of(way)} if slot_of(way).destination == thing.destination else set()
    return names


def address_of(name: str) -> Address | SourceAddress | None:
    """The address that a resource's key names; None for another kind."""
    kind, rest = split(name)
    holder, _, text = rest.partition(" ")
    if kind == "address":
        return Address(holder, text)
    return SourceAddress(holder, text) if kind == "source" else None
