"""The tunnel device: which one a tunnel asks for, and what brings the kernel there."""

from __future__ import annotations

from collections.abc import Callable

from updown.concerns.endpoints import check_key, ends_of, has_any_remote
from updown.daemons.terms import MAKE, Words, words_of
from updown.model.claims import STRONGSWAN, SaInfo
from updown.model.context import Context
from updown.model.errors import Conflict, Refused
from updown.model.objects import OUR_ALIAS, Link, bare, has_our_alias, is_any, netns_of, placed
from updown.model.operations import Operation
from updown.model.record import NamedTuple
from updown.model.resources import DeletionRule, Device, key_of
from updown.model.values import device_name
from updown.settings.keys import Settings

COMPARED = ("kind", "local", "remote", "ikey", "okey", "external", "if_id", "vrf")
"""What makes a device the one asked for: identity (kind and ends), keys, and its VRF where one is asked for."""


class DeviceRequest(NamedTuple):
    """The device a tunnel asks for, or None and the reason, in one line, why there is none."""

    name: str | None
    by_daemon: bool = False
    reason: str = ""
    kind: str = "vti"  # vti (over IPv6 a vti6) or xfrm
    incoming: str = ""  # an XFRM interface more, where packets come in by another if_id


def request_device(sa: SaInfo, resolved: Callable[[str], Settings]) -> DeviceRequest:
    """Whose word counts: VTI_IFACE, then the daemon's own device, then the settings; raises Refused for a bad name. `resolved`:
    the connection's settings for a device, or for one without a name yet."""
    name, settings = sa.interface, resolved("")
    if not name and sa.daemon_device:
        return DeviceRequest(sa.daemon_device, True)
    if not name and settings.interface:
        name = fill_template(settings.interface, sa)
        if not name:
            return DeviceRequest(
                None, reason=f"no device: {settings.interface} needs a value this connection does not have"
            )
        settings = resolved(name)
    if not name:
        return DeviceRequest(None, reason=f"no device: {words_of(sa.daemon).no_name}")
    if not sa.interface and kind_of(sa, settings) == "xfrm":
        return request_xfrm(name, sa, settings)
    if sa.mark_in is None or sa.mark_out is None:
        return DeviceRequest(None, reason=f"no device: {name} needs marks as its keys; set {words_of(sa.daemon).marks}")
    return DeviceRequest(name)


def kind_of(sa: SaInfo, settings: Settings) -> str:
    """What `kind` says; else marks make a VTI, and if_ids alone an XFRM interface."""
    unmarked = sa.mark_in is None and sa.mark_out is None
    return settings.kind or ("xfrm" if unmarked and (sa.if_id_in or sa.if_id_out) else "vti")


def request_xfrm(name: str, sa: SaInfo, settings: Settings) -> DeviceRequest:
    """The interface that packets leave by, and, as each has one if_id, another where they come in by a different one."""
    leaving, coming, template = sa.if_id_out, sa.if_id_in, settings.interface or ""
    if not leaving:
        return DeviceRequest(None, reason=f"no device: {name} needs an if_id; set if_id_out (and if_id_in)")
    if settings.external and "{if_id" in template:
        raise Refused(
            f"interface = {template}: an external interface is one for all if_ids", "give it a name without {if_id}"
        )
    if coming in (0, leaving) or settings.external:
        return DeviceRequest(name, kind="xfrm")
    incoming = fill_template(template, sa._replace(if_id_out=coming)) or name
    if incoming == name:
        raise Refused(
            f"interface = {template}: if_id_in {coming} and if_id_out {leaving} need two devices",
            "put {if_id} into the name, and each gets its own; or give both the same if_id",
        )
    return DeviceRequest(name, kind="xfrm", incoming=incoming)


def keep_name(
    found: DeviceRequest, sa: SaInfo, settings: Settings, row: DeletionRule, between: Callable[[str, str], str]
) -> DeviceRequest:
    """`found`, or the VTI between the same ends that a predecessor holds under the name that its own mark gave it (strongSwan's
    %unique): the kernel allows one for these ends, so it is re-keyed and keeps its name. `between`: that of the same tunnel."""
    if sa.daemon != STRONGSWAN or found.kind != "vti":
        return found
    name = bare(between(*ends_of(sa, settings, row)))
    return found._replace(name=name) if name else found


def fill_template(template: str, sa: SaInfo) -> str | None:
    """`template` with its placeholders replaced; None where one has no value."""
    known = {
        "mark": sa.mark_out,
        "mark_out": sa.mark_out,
        "mark_in": sa.mark_in,
        "if_id": sa.if_id_out,
        "if_id_out": sa.if_id_out,
        "if_id_in": sa.if_id_in,
        "connection": sa.connection.split("/")[0],  # NAME/1x2 is libreswan's name for one pair of NAME's subnets
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


def deletion_rule(context: Context, settings: Settings) -> DeletionRule:
    """The row of the deletion table (docs/deletion.md) that a new claim stands in."""
    shared = context.shared if context.shared is not None else settings.shared
    instance = context.instance if settings.template is None else settings.template
    # an instance that wishes to be up has a fixed gateway (narrowing, an address pool): it is a client, not a server's guest
    guest = instance and (not context.initiates or settings.template is True)
    stays = shared or guest
    goes = {"rule": not stays, "last": True, "never": False}[settings.delete]
    return DeletionRule(any_remote=has_any_remote(settings, stays), with_last=goes)


def wants(sa: SaInfo, settings: Settings, found: DeviceRequest, row: DeletionRule) -> tuple[Device, ...]:
    """The device that `found` names, a VTI with both keys and both ends; the one that packets leave by comes first."""
    if found.name is None:
        return ()
    if found.by_daemon:
        link = Link(found.name, "xfrm", if_id=sa.if_id_out)
        return (Device(link, shared=True, with_last=False, by_daemon=True),)
    shared = sa.shared if sa.shared is not None else settings.shared
    name = placed(found.name, settings.netns)
    follow = settings.link == "follow"
    if found.kind == "xfrm":
        if not settings.external:
            check_key(found.name, "if_id", settings.if_id, sa.if_id_out, words_of(sa.daemon).xfrm)
        leaving = Link(name, "xfrm", if_id=sa.if_id_out, vrf=settings.vrf)
        links = [leaving._replace(if_id=0, external=True) if settings.external else leaving]
        if found.incoming:
            coming = placed(found.incoming, settings.netns)
            links.append(Link(coming, "xfrm", if_id=sa.if_id_in, vrf=settings.vrf))
        return tuple(Device(link, shared=shared, with_last=row.with_last, follow=follow) for link in links)
    assert sa.mark_in is not None and sa.mark_out is not None  # request_device() saw to it
    local, remote = ends_of(sa, settings, row)
    for key, said, mark in (("mark_in", settings.mark_in, sa.mark_in), ("mark_out", settings.mark_out, sa.mark_out)):
        check_key(found.name, key, said, mark, words_of(sa.daemon).marks)
    link = Link(
        name=name,
        kind="vti6" if sa.outer_family == 6 else "vti",
        local=local,
        remote=remote,
        ikey=sa.mark_in,
        okey=sa.mark_out,
        vrf=settings.vrf,
    )
    return (Device(link, shared=shared, with_last=row.with_last, follow=follow),)


def differences(want: Link, have: Link) -> tuple[str, ...]:
    """What of `COMPARED` differs, as `key 77, wanted 5`."""
    said: list[str] = []
    for field in COMPARED:
        wanted, found = getattr(want, field), getattr(have, field)
        if wanted == found or (field in ("if_id", "vrf") and not wanted):
            continue
        if field in ("ikey", "okey") and want.ikey == want.okey and have.ikey == have.okey:
            if field == "ikey":
                said.append(f"key {found}, wanted {wanted}")
            continue
        said.append(f"{field} {text_of(found)}, wanted {text_of(wanted)}")
    return tuple(said)


def text_of(value: object) -> str:
    """An end or a kind for a message."""
    return "any" if value in ("0.0.0.0", "::") else str(value or "none")


def is_ours(link: Link, made_index: int | None, want: Link | None) -> bool:
    """Known by ledger (same index), by alias, or, made by a call that was killed before it could say so, by every attribute."""
    if has_our_alias(link) or (made_index and made_index == link.ifindex):
        return True
    return made_index == 0 and want is not None and not differences(want, link) and not link.alias


def is_fallback(link: Link) -> bool:
    """The kernel's own ip_vti0 or ip6_vti0, whatever its name is now: both ends any (net/ipv4/ip_tunnel.c)."""
    return link.kind in ("vti", "vti6") and is_any(link.local) and is_any(link.remote)


def changes_in_place(want: Link, have: Link) -> bool:
    """Whether the kernel changes `have` into `want`: not between kinds, and not between any and one remote
    (IFF_POINTOPOINT differs: net/ipv4/ip_tunnel.c ip_tunnel_changelink; vti6 likewise kept simple); nor a VTI6 in
    another namespace, which it would put among that one's tunnels (ip6_vti.c vti6_update, Linux 6.1); nor a VRF, whose change
    takes routes and IPv6 addresses."""
    keyed = ("local", "remote", "ikey", "okey")
    there = (
        have.kind == "vti6" and netns_of(want.name) and any(getattr(want, key) != getattr(have, key) for key in keyed)
    )
    in_vrf = want.vrf in ("", have.vrf)
    return want.kind == have.kind and is_any(want.remote) == is_any(have.remote) and in_vrf and not there


def check_foreign(want: Device, have: Link, words: Words) -> None:
    """Raise Conflict unless `have`, which is not ours, is what `want` asks for."""
    different = differences(want.link, have)
    if not different:
        return
    if is_fallback(have) and want.link.kind in ("vti", "vti6"):
        raise Conflict(
            f"{have.name} is the kernel's fallback device (local any, remote any), not a tunnel",
            f"choose another {words.named} name; that device cannot be changed or deleted",
        )
    several = is_any(want.link.remote) and any(word.startswith("local ") for word in different)
    raise Conflict(
        f"{have.name} is not ours and has {'; '.join(different)}" + ("; see XFRM interface" if several else ""),
        f"a VTI has one local address; for several use an XFRM interface ({words.xfrm})"
        if several
        else f"give it these values, delete it ({delete_command(have.name)}), or choose another name"
        if have.kind == want.link.kind
        else f"delete it ({delete_command(have.name)}), or choose another name"
        if have.kind in ("vti", "vti6", "xfrm")
        else "choose another name for the tunnel's device",
    )


def delete_command(name: str) -> str:
    """The command that deletes a device, for a hint."""
    netns = netns_of(name)
    return f"ip -n {netns} link del {bare(name)}" if netns else f"ip link del {name}"


def check_claims(
    want: Device, other: Device, connection: str, outdated: tuple[str, ...], words: Words, mine: str = ""
) -> None:
    """Raise Conflict where another tunnel's claim on the same device, of `connection`, asks for something else; `mine` is the
    connection that `want` is of.

    `outdated`: fields in which the other's word does not count any more, since an end moved and the daemon did not tell it.
    """
    different = differences(want.link, other.link)
    if all(word.split(" ")[0] in outdated for word in different):
        return
    name = want.link.name
    if any(word.startswith("local ") for word in different) and is_any(want.link.remote):
        raise Conflict(
            f"{name} has local {other.link.local} ({connection}); for several use an XFRM interface",
            f"{words.xfrm_is_free}; else one VTI for each local address",
        )
    raise Conflict(
        f"{name} has {'; '.join(different)}, for {connection}",
        f"was its section changed? `vti-updown make {bare(name)}` again; else give the tunnel another device"
        if connection == MAKE
        else device_each_hint(want.link, words)
        if connection == mine and any(word.startswith(("if_id ", "key ", "ikey ", "okey ")) for word in different)
        else "give each connection a device, or the same if_id"
        if want.link.kind == "xfrm"
        else f"several peers behind one mark need {words.shared}, the first one down and up once; else a mark and device each"
        if all(word.startswith("remote ") for word in different)
        else f"give each connection a device, or the same marks, peer and {words.shared}",
    )


def device_each_hint(want: Link, words: Words) -> str:
    """How clients of one connection, each with a key of its own, get a device each: for a hint."""
    placeholder = "{if_id}" if want.kind == "xfrm" else "{mark}"
    stem = bare(want.name).rstrip("0123456789")[:5]
    instead = "" if words.named == "`interface`" else f" in the settings, without {words.named}"
    alone = " and `template = no`" if is_any(want.remote) else ""
    return f"put {placeholder} into the name, and each client gets a device: `interface = {stem}{placeholder}`{alone}{instead}"


def add_link(want: Device, claim: str) -> Operation:
    """Make the device, down: sysctls and addresses come before it is set up."""
    return Operation("link add", want.link._replace(up=False), reason=f"{claim} needs its device", makes=key_of(want))


def set_master(link: Link, claim: str) -> Operation:
    """Give the device to its VRF: before it has IPv6 addresses, which that takes away (net/ipv6/addrconf.c, CHANGEUPPER)."""
    return Operation("link set", link, before=link._replace(vrf=""), reason=f"{claim}: it belongs to {link.vrf}")


def set_up(link: Link, claim: str, why: str) -> Operation:
    """Set the device up, under our mark."""
    return Operation("link set", link._replace(up=True, alias=OUR_ALIAS), before=link, reason=f"{claim}: {why}")


def set_down(link: Link, claim: str) -> Operation:
    """Set the device down; the kernel takes its routes along."""
    return Operation(
        "link down", link._replace(up=False), before=link._replace(up=True), reason=f"{claim}: no tunnel is up on it"
    )


def set_operstate(link: Link, was: bool, silent: bool, claim: str) -> list[Operation]:
    """Dormant while the far end is `silent`: packets and probes pass, but it is not RUNNING for routing daemons (RFC 2863). The
    kernel keeps that over a link down without telling it, so nothing is set down like that. `was`: it is dormant now."""
    why = f"{claim}: its far end {'does not answer' if silent else 'is not silent any more'}"
    operation = Operation("link state", link._replace(dormant=silent), link._replace(dormant=was), why)
    return [operation] if was != silent else []
