"""The tunnel device: which one a tunnel asks for, and what brings the kernel there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter

from updown.concerns.endpoints import check_key, ends_of, has_any_remote
from updown.daemons.terms import words_of
from updown.model.claims import STRONGSWAN, SaInfo
from updown.model.concern import Concern, in_row, ip
from updown.model.context import Context
from updown.model.errors import Refused
from updown.model.objects import VTIS, Link, bare, has_our_alias, is_any, netns_of, placed
from updown.model.operations import Difference, Operation, Reason
from updown.model.record import NamedTuple
from updown.model.resources import DeletionRule, Device
from updown.model.values import device_name, escaped
from updown.settings.keys import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EMPTY = "''"

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


def differences(want: Link, have: Link) -> tuple[Difference, ...]:
    """What of `COMPARED` differs; both keys as one where they are one on either side."""
    found: list[Difference] = []
    one_key = want.ikey == want.okey and have.ikey == have.okey
    for field in COMPARED:
        wanted, there = getattr(want, field), getattr(have, field)
        if wanted == there or (field in ("if_id", "vrf") and not wanted) or (field == "okey" and one_key):
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
    return str(value or "none") if isinstance(value, (str, bool)) else str(value)


def is_ours(link: Link, made_index: int | None, want: Link | None) -> bool:
    """Known by ledger (same index), by alias, or, made by a call that was killed before it could say so, by every attribute."""
    if has_our_alias(link) or (made_index and made_index == link.ifindex):
        return True
    return made_index == 0 and want is not None and not differences(want, link) and not link.alias


def is_fallback(link: Link) -> bool:
    """The kernel's own ip_vti0 or ip6_vti0, whatever its name is now: both ends any (net/ipv4/ip_tunnel.c)."""
    return link.kind in VTIS and is_any(link.local) and is_any(link.remote)


def changes_in_place(want: Link, have: Link) -> bool:
    """Whether the kernel changes `have` into `want`: not between kinds, and not between any and one remote
    (IFF_POINTOPOINT differs: net/ipv4/ip_tunnel.c ip_tunnel_changelink; vti6 likewise kept simple); nor a VTI6 in
    another namespace, which it would put among that one's tunnels (ip6_vti.c vti6_update, Linux 6.1); nor a VRF, whose change
    takes routes and IPv6 addresses."""
    keyed = ("local", "remote", "ikey", "okey")
    if have.kind == "vti6" and netns_of(want.name) and any(getattr(want, key) != getattr(have, key) for key in keyed):
        return False
    return want.kind == have.kind and is_any(want.remote) == is_any(have.remote) and want.vrf in ("", have.vrf)


def is_kept(want: Link, have: Link) -> bool:
    """Whether `have`, which is ours, becomes `want` without being deleted and made again."""
    return not differences(want, have) or changes_in_place(want, have)


def diff(want: Link, have: Link | None, by: str, total: str) -> list[Operation]:
    """What makes `have`, which is ours, into `want`; one that cannot be changed is deleted and made again. `total`: the sum
    behind the MTU, where there is one."""
    if have is None:
        return [*added(want, by), *operstate(want, False, by)]
    differs = Reason("differs", by, differences=differences(want, have))
    if not is_kept(want, have):
        return [Operation("link delete", have, reason=differs), *added(want, by), *operstate(want, False, by)]
    found: list[Operation] = []
    there = want._replace(ifindex=have.ifindex, mtu=want.mtu or have.mtu, up=have.up, alias=have.alias)
    there = there._replace(dormant=have.dormant)
    if want.kind == "xfrm":
        there = there._replace(parent=have.parent)  # which nothing can change (xfrm_interface_core.c xfrmi_change)
    if differs.differences:
        found.append(Operation("link change", there, have, differs))
    ready = there._replace(up=have.up or want.up, alias=want.alias)
    if (ready.up, ready.mtu) != (have.up, have.mtu) or (want.alias and not have.alias):
        why = Reason("fits", by, total) if ready.mtu != have.mtu and total else Reason("as it should be", by)
        found.append(Operation("link set", ready, have, why))
    if have.up and not want.up:
        found.append(set_down(ready._replace(dormant=want.dormant), by))
    return [*found, *operstate(want, have.dormant, by)]


def added(want: Link, by: str) -> list[Operation]:
    """Make it down, since sysctls and addresses come before it is set up; give it to its VRF before it has IPv6 addresses,
    which that takes away (net/ipv6/addrconf.c, CHANGEUPPER); set it up under our mark."""
    new = want._replace(up=False, alias="", dormant=False)
    found = [Operation("link add", new, reason=Reason("needs its device", by), makes=f"device {want.name}")]
    if want.vrf:
        found.append(Operation("link set", new, new._replace(vrf=""), Reason("belongs to", by, want.vrf)))
    return [*found, Operation("link set", new._replace(up=want.up, alias=want.alias), new, Reason("ready", by))]


def set_up(want: Link, by: str) -> list[Operation]:
    """Set a device up that is not ours, and nothing else."""
    return [Operation("link set", want, want._replace(up=False), Reason("needs it up", by))]


def set_down(link: Link, by: str) -> Operation:
    """Set the device down; the kernel takes its routes along."""
    return Operation("link down", link._replace(up=False), link._replace(up=True), Reason("no tunnel is up", by))


def operstate(want: Link, was: bool, by: str) -> list[Operation]:
    """Dormant while the far end is silent: packets and probes pass, but it is not RUNNING for routing daemons (RFC 2863). The
    kernel keeps that over a link down without telling it, so nothing is set down like that. `was`: it is dormant now."""
    reason = Reason("silent" if want.dormant else "not silent", by)
    return [Operation("link state", want, want._replace(dormant=was), reason)] if was != want.dormant else []


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
    if had.up != link.up:
        return f"{link.name} is {'down' if link.up else 'up, but no tunnel is'}"
    if had.mtu != link.mtu:
        return f"{link.name} has mtu {had.mtu}, wanted {link.mtu}"
    return f"{link.name} lost its alias {link.alias}"


CONCERN = Concern("device", Device, attrgetter("link.name"), command=command, told=told, load=load)
