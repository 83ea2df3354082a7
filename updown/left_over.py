"""What is ours and no claim asks for any more: devices, routes, addresses. For `reconcile`."""

from typing import Dict, List, NamedTuple, Optional, Set, Tuple, Union

from updown.backing import in_use
from updown.claims import Ended
from updown.concerns import device
from updown.desired import Device, SourceAddress, Want, resource, split
from updown.kernel import dumps
from updown.kernel.route_messages import RouteSeen
from updown.kernel.xfrm import Database
from updown.ledger import Ledger
from updown.settings import Line, resolve
from updown.state import MAIN_TABLE, OUR_PROTOCOL, Address, Link, Route, is_any

WHO = "nobody"


class LeftOver(NamedTuple):
    """By device, what goes; names of devices we made that are not there; and lines on what stays though nobody asks for it."""

    gone: Dict[str, List[Ended]]
    forgotten: Tuple[str, ...]
    remarks: Tuple[str, ...]


def find(ledger: Ledger, lines: Tuple[Line, ...], xfrm: Optional[Database], going: Set[str]) -> LeftOver:
    """What is there now, but for devices that are about to go. A device whose key is in the kernel's IPsec policies stays, with
    everything on it: a tunnel that the ledger lost uses it."""
    wanted = {resource(want) for claim in ledger.claims() for want in claim.wants}
    made = ledger.all_made()
    links = {link.ifindex: link for link in dumps.links()}
    kept: Set[str] = set()
    remarks: List[str] = []
    gone: Dict[str, List[Ended]] = {}
    for link in links.values():
        if f"device {link.name}" in wanted or not device.is_ours(link, made.get(f"device {link.name}"), None):
            continue
        if link.name in going:
            continue
        if xfrm is None or in_use(link, xfrm):
            kept.add(link.name)
            if not goes(link, lines):
                continue
            why = "the kernel has IPsec policies with its key" if xfrm else "the kernel's IPsec policies cannot be read"
            remarks.append(
                f"{link.name} is ours and no claim holds it, but {why}: it stays; its tunnel's next up counts it"
            )
        elif goes(link, lines):
            add(gone, link.name, Device(link, shared=False, goes=True))
    for seen in dumps.routes(OUR_PROTOCOL):
        name = links[seen.oif].name if seen.oif in links else ""
        if name and name not in kept | going and not wanted & names_of(seen):
            add(gone, name, as_route(seen, name))
    for name in made:
        want = address_of(name)
        if want is not None and name not in wanted and want.device not in kept | going:
            add(gone, want.device, want)
    there = {link.name for link in links.values()}
    forgotten = [name for name in made if name.startswith("device ") and split(name)[1] not in there]
    return LeftOver(gone, tuple(name for name in forgotten if name not in wanted), tuple(remarks))


def add(gone: Dict[str, List[Ended]], name: str, want: Want) -> None:
    """One more thing of this device goes."""
    gone.setdefault(name, []).append(Ended(WHO, want))


def goes(link: Link, lines: Tuple[Line, ...]) -> bool:
    """Whether a device without claims goes by the deletion table, as far as the device itself shows its row: remote `any` is
    one that serves several peers. A connection's own `delete = never` could have been its, so any such line keeps it."""
    delete = resolve(lines, "", link.name).delete
    if delete == "rule" and any(line.kind == "connection" and (line.key, line.value) == NEVER for line in lines):
        return False
    return {"rule": link.kind != "xfrm" and not is_any(link.remote), "last": True, "never": False}[delete]


NEVER = ("delete", "never")


def names_of(seen: RouteSeen) -> Set[str]:
    """The resources that a route may stand for: itself, or the way to a peer."""
    host, _, length = seen.destination.partition("/")
    names = {resource(as_route(seen, ""))}
    if seen.table == MAIN_TABLE and length == ("128" if ":" in host else "32"):
        names.add(f"peer {host}")
    return names


def as_route(seen: RouteSeen, name: str) -> Route:
    """The route as a wish, on the device with this name."""
    return Route(seen.destination, name, seen.gateway, seen.table, seen.metric, seen.mtu, seen.source)


def address_of(name: str) -> Optional[Union[Address, SourceAddress]]:
    """The address that a resource's key names; None for another kind."""
    kind, rest = split(name)
    holder, _, text = rest.partition(" ")
    if kind == "address":
        return Address(holder, text)
    return SourceAddress(holder, text) if kind == "source" else None
