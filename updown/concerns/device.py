"""The tunnel device: which one a tunnel asks for, and what brings the kernel there."""

from typing import List, NamedTuple, Optional, Tuple

from updown.context import Context
from updown.desired import Device, Row, resource
from updown.errors import Conflict, Refused
from updown.operations import Operation
from updown.settings import Settings
from updown.state import OUR_ALIAS, Link, is_any
from updown.values import device_name

COMPARED = ("kind", "local", "remote", "ikey", "okey", "if_id")
"""What makes a device the one asked for: identity (kind and ends) and keys."""


class Wish(NamedTuple):
    """The device a context asks for, or None and the reason, in one line, why there is none."""

    name: Optional[str]
    by_daemon: bool = False
    reason: str = ""


def wish(context: Context, settings: Settings) -> Wish:
    """Whose word counts: VTI_IFACE, then the daemon's own device, then the settings; raises Refused for a bad name."""
    name = context.interface
    if not name and context.daemon_device:
        return Wish(context.daemon_device, True)
    if not name and settings.interface:
        name = filled(settings.interface, context)
        if not name:
            return Wish(None, reason=f"no device: {settings.interface} needs a value this connection does not have")
    if not name:
        return Wish(
            None, reason="no device: neither vti-interface, ipsec-interface nor the setting `interface` is given"
        )
    if context.mark_in is None or context.mark_out is None:
        return Wish(None, reason=f"no device: {name} needs marks as its keys; set mark=, or mark-in= and mark-out=")
    return Wish(name)


def filled(template: str, context: Context) -> Optional[str]:
    """`template` with its placeholders replaced; None where one has no value."""
    known = {
        "mark": context.mark_out and context.mark_out.value,
        "mark_out": context.mark_out and context.mark_out.value,
        "mark_in": context.mark_in and context.mark_in.value,
        "if_id": context.if_id_out,
        "if_id_out": context.if_id_out,
        "if_id_in": context.if_id_in,
        "connection": context.connection.split("/")[0],  # NAME/1x2 is libreswan's name for one pair of NAME's subnets
    }
    name = template
    for word, value in known.items():
        if "{" + word + "}" in name:
            if not value:
                return None
            name = name.replace("{" + word + "}", str(value))
    try:
        return device_name(name)
    except ValueError as error:
        raise Refused(f"interface = {template} gives {name!r}: {error}") from None


def decide_row(context: Context, settings: Settings) -> Row:
    """The row of the deletion table (docs/deletion.md) that a new claim stands in."""
    shared = context.shared if context.shared is not None else settings.shared
    instance = context.instance if settings.template is None else settings.template
    # an instance that wishes to be up has a fixed gateway (narrowing, an address pool): it is a client, not a server's guest
    guest = instance and (not context.initiates or settings.template is True)
    stays = shared or guest
    goes = {"rule": not stays, "last": True, "never": False}[settings.delete]
    return Row(any_remote=stays, goes=goes)


def wants(context: Context, settings: Settings, found: Wish, row: Row) -> Tuple[Device, ...]:
    """The device that `found` names, with both keys and both ends."""
    if found.name is None:
        return ()
    if found.by_daemon:
        link = Link(found.name, "xfrm", if_id=context.if_id_out)
        return (Device(link, shared=True, goes=False, by_daemon=True),)
    assert context.mark_in is not None and context.mark_out is not None  # wish() saw to it
    six = context.outer_family == 6
    link = Link(
        name=found.name,
        kind="vti6" if six else "vti",
        local=context.me,
        remote=("::" if six else "0.0.0.0") if row.any_remote else context.peer,
        ikey=context.mark_in.value,
        okey=context.mark_out.value,
        mtu=settings.mtu or (0 if row.any_remote else context.mtu),
    )
    shared = context.shared if context.shared is not None else settings.shared
    return (Device(link, shared=shared, goes=row.goes),)


def differences(want: Link, have: Link) -> Tuple[str, ...]:
    """What of `COMPARED` differs, as `key 77, wanted 5`."""
    said: List[str] = []
    for field in COMPARED:
        wanted, found = getattr(want, field), getattr(have, field)
        if wanted == found or (field == "if_id" and not wanted):
            continue
        if field in ("ikey", "okey") and want.ikey == want.okey and have.ikey == have.okey:
            if field == "ikey":
                said.append(f"key {found}, wanted {wanted}")
            continue
        said.append(f"{field} {shown(found)}, wanted {shown(wanted)}")
    return tuple(said)


def shown(value: object) -> str:
    """An end or a kind for a message."""
    return "any" if value in ("0.0.0.0", "::") else str(value or "none")


def is_ours(link: Link, made_index: Optional[int], want: Optional[Link]) -> bool:
    """Known by ledger (same index), by alias, or, made by a call that was killed before it could say so, by every attribute."""
    if link.alias.startswith(OUR_ALIAS) or (made_index and made_index == link.ifindex):
        return True
    return made_index == 0 and want is not None and not differences(want, link) and not link.alias


def is_fallback(link: Link) -> bool:
    """The kernel's own ip_vti0 or ip6_vti0, whatever its name is now: both ends any (net/ipv4/ip_tunnel.c)."""
    return link.kind in ("vti", "vti6") and is_any(link.local) and is_any(link.remote)


def changes_in_place(want: Link, have: Link) -> bool:
    """Whether the kernel changes `have` into `want`: not between kinds, and not between any and one remote
    (IFF_POINTOPOINT differs: net/ipv4/ip_tunnel.c ip_tunnel_changelink; vti6 likewise kept simple)."""
    return want.kind == have.kind and is_any(want.remote) == is_any(have.remote)


def check_foreign(want: Device, have: Link) -> None:
    """Raise Conflict unless `have`, which is not ours, is what `want` asks for."""
    different = differences(want.link, have)
    if not different:
        return
    if is_fallback(have) and want.link.kind in ("vti", "vti6"):
        raise Conflict(
            f"{have.name} is the kernel's fallback device (local any, remote any), not a tunnel",
            "choose another vti-interface name; that device cannot be changed or deleted",
        )
    several = is_any(want.link.remote) and any(word.startswith("local ") for word in different)
    raise Conflict(
        f"{have.name} is not ours and has {'; '.join(different)}" + ("; see XFRM interface" if several else ""),
        "a VTI has one local address; for several use an XFRM interface (ipsec-interface=)"
        if several
        else f"give it these values, delete it (ip link del {have.name}), or choose another name"
        if have.kind == want.link.kind
        else f"delete it (ip link del {have.name}), or choose another name"
        if have.kind in ("vti", "vti6", "xfrm")
        else "choose another name for the tunnel's device",
    )


def check_claims(want: Device, other: Device, connection: str, stale: bool) -> None:
    """Raise Conflict where another connection's claim on the same device asks for something else.

    `stale`: the other's local address is no longer one of this machine (it moved, and MOBIKE tells only one connection).
    """
    different = differences(want.link, other.link)
    if not different or (stale and all(word.startswith("local ") for word in different)):
        return
    name = want.link.name
    if any(word.startswith("local ") for word in different) and is_any(want.link.remote):
        raise Conflict(
            f"{name} has local {other.link.local} ({connection}); for several use an XFRM interface",
            "ipsec-interface= has no local address; else one VTI for each local address",
        )
    raise Conflict(
        f"{name} has {'; '.join(different)}, for {connection}",
        "give each connection a device, or the same marks, peer and vti-shared=yes",
    )


def making(want: Device, claim: str) -> Operation:
    """Make the device, down: sysctls and addresses come before it is set up."""
    return Operation("link add", want.link._replace(up=False), reason=f"{claim} needs its device", makes=resource(want))


def raising(link: Link, claim: str, why: str) -> Operation:
    """Set the device up, under our mark."""
    return Operation("link set", link._replace(up=True, alias=OUR_ALIAS), before=link, reason=f"{claim}: {why}")
