"""The tunnel device: what makes one another, what brings the kernel there, and the commands that do it."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

from updown.model.concern import Concern, in_row, ip
from updown.model.objects import TUNNELS, VTIS, Link, bare, has_our_alias, is_any, netns_of
from updown.model.operations import Difference, Operation, Reason
from updown.model.record import Any
from updown.model.resources import Device, MtuSum
from updown.model.values import escaped

EMPTY = "''"

COMPARED = ("kind", "local", "remote", "ikey", "okey", "external", "if_id", "vrf", "parent")
"""What makes a device the one asked for: identity (kind and ends), keys, and its VRF and the device below where one is asked
for."""


def differences(want: Link, have: Link) -> tuple[Difference, ...]:
    """What of `COMPARED` differs; both keys as one where they are one on either side. Of another kind nothing else counts."""
    if want.kind != have.kind:
        return (Difference("kind", have.kind, want.kind),)
    found: list[Difference] = []
    one_key = want.ikey == want.okey and have.ikey == have.okey
    for field in COMPARED:
        wanted, there = getattr(want, field), getattr(have, field)
        if wanted == there or (field in ("if_id", "vrf", "parent") and not wanted) or (field == "okey" and one_key):
            continue
        found.append(Difference("key" if field == "ikey" and one_key else field, there, wanted))
    return tuple(found)


def differences_text(different: Iterable[Difference]) -> str:
    """`key 77, wanted 5`, one after the other."""
    return "; ".join(f"{field} {text_of(have)}, wanted {text_of(want)}" for field, have, want in different)


def text_of(value: object) -> str:
    """A difference's value for a message."""
    if value in ("0.0.0.0", "::"):
        return "any"
    return str(value or "none") if isinstance(value, str) else {"True": "yes", "False": "no"}.get(str(value), str(value))


def is_ours(link: Link, made_index: int | None, want: Link | None) -> bool:
    """Known by its alias; or, without one, by every attribute and the ledger (same index, or 0 of a call that was killed before
    it could say so). Name and index may be another's by now, who deleted ours; and of another kind we make none."""
    if link.kind not in TUNNELS or link.alias:
        return link.kind in TUNNELS and has_our_alias(link)
    return made_index in (0, link.ifindex) and want is not None and not differences(want, link)


def is_fallback(link: Link) -> bool:
    """The kernel's own ip_vti0 or ip6_vti0, whatever its name is now: both ends any (net/ipv4/ip_tunnel.c)."""
    return link.kind in VTIS and is_any(link.local) and is_any(link.remote)


def changes_in_place(want: Link, have: Link) -> bool:
    """Whether the kernel changes `have` into `want`: not between kinds, and not between any and one remote
    (IFF_POINTOPOINT differs: net/ipv4/ip_tunnel.c ip_tunnel_changelink; vti6 likewise kept simple); nor a VTI6 in
    another namespace, which it would put among that one's tunnels (ip6_vti.c vti6_update, Linux 6.1); nor a VRF, whose change
    takes routes and IPv6 addresses; nor an XFRM interface between one if_id and all of them, or onto another device
    (xfrm_interface_core.c)."""
    keyed = ("local", "remote", "ikey", "okey")
    if have.kind == "vti6" and netns_of(want.name) and any(getattr(want, key) != getattr(have, key) for key in keyed):
        return False
    same = (want.kind, want.external, is_any(want.remote)) == (have.kind, have.external, is_any(have.remote))
    return same and want.vrf in ("", have.vrf) and want.parent in (0, have.parent)


def is_kept(want: Link, have: Link) -> bool:
    """Whether `have`, which is ours, becomes `want` without being deleted and made again."""
    return not differences(want, have) or changes_in_place(want, have)


def diff(want: Link, have: Link | None, by: str, total: MtuSum | None) -> list[Operation]:
    """What makes `have`, which is ours, into `want`; one that cannot be changed is deleted and made again. `total`: the sum
    behind the MTU, where there is one."""
    differs = Reason("differs", by, differences=differences(want, have) if have else ())
    if have is None or not is_kept(want, have):
        gone = [Operation("link delete", have, reason=differs)] if have else []
        return [*gone, *added(want, by), *multicast(want, False, by), *operstate(want, False, by)]
    found: list[Operation] = []
    there = want._replace(ifindex=have.ifindex, mtu=want.mtu or have.mtu, up=have.up, alias=have.alias)
    there = there._replace(dormant=have.dormant, multicast=have.multicast)
    if want.kind == "xfrm":
        there = there._replace(parent=have.parent)  # which nothing can change (xfrm_interface_core.c xfrmi_change)
    if differs.differences:
        found.append(Operation("link change", there, have, differs))
    ready = there._replace(up=have.up or want.up, alias=want.alias)
    if (ready.up, ready.mtu) != (have.up, have.mtu) or (want.alias and not have.alias):
        why = Reason("fits", by, total=total) if ready.mtu != have.mtu and total else Reason("as it should be", by)
        found.append(Operation("link set", ready, have, why))
    if have.up and not want.up:
        down = ready._replace(up=False, dormant=want.dormant)  # the kernel takes its routes along
        found.append(Operation("link down", down, down._replace(up=True), Reason("no tunnel is up", by)))
    return [*found, *multicast(want, have.multicast, by), *operstate(want, have.dormant, by)]


def added(want: Link, by: str) -> list[Operation]:
    """Make it down, since sysctls and addresses come before it is set up; give it to its VRF before it has IPv6 addresses,
    which that takes away (net/ipv6/addrconf.c, CHANGEUPPER); set it up under our mark."""
    new = want._replace(up=False, alias="", dormant=False, multicast=False)
    found = [Operation("link add", new, reason=Reason("needs its device", by), makes=f"device {want.name}")]
    if want.vrf:
        found.append(Operation("link set", new, new._replace(vrf=""), Reason("belongs to", by, want.vrf)))
    return [*found, Operation("link set", new._replace(up=want.up, alias=want.alias), new, Reason("ready", by))]


def set_up(want: Link, by: str) -> list[Operation]:
    """Set a device up that is not ours, and nothing else."""
    return [Operation("link set", want, want._replace(up=False), Reason("needs it up", by))]


def operstate(want: Link, was: bool, by: str) -> list[Operation]:
    """Dormant while the far end is silent: packets and probes pass, but it is not RUNNING for routing daemons (RFC 2863). The
    kernel keeps that over a link down without telling it, so nothing is set down like that. `was`: it is dormant now."""
    reason = Reason("silent" if want.dormant else "not silent", by)
    return [Operation("link state", want, want._replace(dormant=was), reason)] if was != want.dormant else []


def multicast(want: Link, was: bool, by: str) -> list[Operation]:
    """Packets to groups: tunnel devices are made without, and routing daemons take no such interface (OSPF). `was`: it is so
    now."""
    asked = Operation("link multicast", want, want._replace(multicast=was), Reason("speaks to groups", by))
    return [asked] if was != want.multicast else []


def identity(link: Link) -> tuple[str, str, str, int]:
    """What a namespace has once: of a VTI the ends, of an XFRM interface the if_id (zero and empty for the other)."""
    return (link.kind, link.local, link.remote, link.if_id)


def moved_text(name: str, moved: Link) -> str:
    """What is told of a device of ours that somebody moved, its name placed."""
    there = f"{netns_of(moved.name)}{f' (as {bare(moved.name)})' if bare(moved.name) != name else ''}"
    return f"{name} was moved into the network namespace {there}; it keeps its ends or if_id, so none like it can be made here"


def moved_mend(moved: Link) -> str:
    """What brings it back: made anew, since a move takes addresses and routes away."""
    name, netns = bare(moved.name), netns_of(moved.name)
    return f"{ip(moved.name)} link del {name}; vti-updown reconcile  # or the tunnel's next up; or `netns = {netns}` for it"


def load(fields: list[Any]) -> Device:
    """From what JSON made of it."""
    return Device(Link(*fields[0]), *fields[1:])


def command(operation: Operation) -> str:
    """`ip link add|change|set|del`; "link down" is a set that comes last, "link up" its undoing."""
    link: Link = operation.subject
    word = operation.verb
    if word == "delete":
        return f"{ip(link.name)} link del {bare(link.name)}"
    if word == "state":
        return f"{ip(link.name)} link set {bare(link.name)} state {'dormant' if link.dormant else 'up'}"
    if word == "multicast":
        return f"{ip(link.name)} link set {bare(link.name)} multicast {'on' if link.multicast else 'off'}"
    if word in ("set", "down", "up"):
        had = operation.before or Link(link.name)
        return in_row(
            (f"{ip(link.name)} link set {bare(link.name)}", True),
            (f"mtu {link.mtu}", link.mtu and link.mtu != had.mtu),
            (f"alias {escaped(link.alias) or EMPTY}", link.alias != had.alias),
            (f"master {link.vrf}", link.vrf and link.vrf != had.vrf),
            ("up" if link.up else "down", link.up != had.up),
        )
    makes = word == "add"  # it is made in the hook's own namespace, and moved
    keys = f"key {link.ikey}" if link.ikey == link.okey else f"ikey {link.ikey} okey {link.okey}"
    return in_row(
        (f"{'ip' if makes else ip(link.name)} link {word} {bare(link.name)}", True),
        (f"mtu {link.mtu}", link.mtu),
        (f"type {link.kind}", True),
        (f"dev {link.underlay}", link.parent and link.underlay),
        (f"local {link.local} remote {'any' if is_any(link.remote) else link.remote}", link.local),
        (keys, link.ikey or link.okey),
        ("external" if link.external else f"if_id {link.if_id}", link.external or link.if_id),
        (f"&& ip link set {bare(link.name)} netns {netns_of(link.name)}", makes and netns_of(link.name)),
    )


def told(operation: Operation) -> str:
    """For `check`."""
    link: Link = operation.subject
    had = operation.before or link
    if operation.action == "link change":
        return f"{link.name} has {differences_text(operation.reason.differences)}"
    if operation.action == "link state":
        return f"{link.name} is {'not ' if link.dormant else ''}dormant"
    if operation.action == "link multicast":
        return f"{link.name} has multicast {'off' if link.multicast else 'on'}"
    if had.up != link.up:
        return f"{link.name} is {'down' if link.up else 'up, but no tunnel is'}"
    if had.mtu != link.mtu:
        return f"{link.name} has mtu {had.mtu}, wanted {link.mtu}"
    return f"{link.name} lost its alias {link.alias}"


CONCERN = Concern("device", Device, attrgetter("link.name"), attrgetter("devices"), command=command, told=told, load=load)
