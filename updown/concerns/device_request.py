"""What a tunnel is to the concerns; which device it asks for, with which ends and keys: the daemon's words, and the settings
against them."""

from __future__ import annotations

from collections.abc import Callable

from updown.daemons.terms import words_of
from updown.model.claims import STRONGSWAN, SaInfo
from updown.model.context import Context
from updown.model.errors import Notice, Refused
from updown.model.objects import Link, Route, bare, family, placed
from updown.model.record import NamedTuple
from updown.model.resources import DeletionRule, Device, PeerRoute
from updown.model.values import device_name, escaped
from updown.settings.keys import TEMPLATES, Settings
from updown.settings.parsers import ANY

ANYWHERE = {4: "0.0.0.0", 6: "::"}


class DeviceRequest(NamedTuple):
    """The device a tunnel asks for, or None and the reason, in one line, why there is none."""

    name: str | None
    by_daemon: bool = False
    reason: str = ""
    kind: str = "vti"  # vti (over IPv6 a vti6) or xfrm
    incoming: str = ""  # an XFRM interface more, where packets come in by another if_id
    settings: Settings = Settings()  # that hold for it


class Routing(NamedTuple):
    """The routes a tunnel wants, the ways to its peer, and remarks and warnings for people."""

    routes: tuple[Route, ...] = ()
    peers: tuple[PeerRoute, ...] = ()
    remarks: tuple[str, ...] = ()
    warnings: tuple[Notice, ...] = ()


class Tunnel(NamedTuple):
    """`sa` is what the daemon told of it, `request` which device it asks for. `devices` and `routing` are found before concerns
    are asked, as several of them look there: the device that packets leave by comes first."""

    sa: SaInfo
    request: DeviceRequest
    deletion: DeletionRule
    devices: tuple[Device, ...] = ()
    routing: Routing = Routing()

    @property
    def device(self) -> str:
        """The name of the device that packets leave by."""
        return placed(self.request.name or "", self.settings.netns)

    @property
    def settings(self) -> Settings:
        """Those that hold for the device."""
        return self.request.settings


def request_device(sa: SaInfo, resolved: Callable[[str], Settings]) -> DeviceRequest:
    """Whose word counts: VTI_IFACE, then the daemon's own device, then the settings; raises Refused for a bad name. `resolved`:
    the connection's settings for a device, or for one without a name yet."""
    name, words = sa.interface or sa.daemon_device, words_of(sa.daemon)
    if not name:
        template = resolved("").interface
        if not template:
            return no_device(words.no_name)
        name = fill_template(template, sa)
        if not name:
            return no_device(f"{template} needs a value this connection does not have")
    settings = resolved(name)
    by_daemon = bool(not sa.interface and sa.daemon_device)
    if by_daemon:
        settings = settings._replace(netns="", vrf="")  # the daemon's own device is where the daemon puts it
    settings, lacks = fill_settings(settings, sa)
    if lacks:
        return no_device(lacks)
    if by_daemon:
        return DeviceRequest(name, True, settings=settings)
    if not sa.interface and kind_of(sa, settings) == "xfrm":
        return request_xfrm(name, sa, settings)
    if sa.mark_in is None or sa.mark_out is None:
        return no_device(f"{name} needs marks as its keys; set {words.marks}")
    return DeviceRequest(name, settings=settings)


def no_device(reason: str) -> DeviceRequest:
    """The request of a tunnel without a device."""
    return DeviceRequest(None, reason=f"no device: {reason}")


def kind_of(sa: SaInfo, settings: Settings) -> str:
    """What `kind` says; else marks make a VTI, and if_ids alone an XFRM interface."""
    unmarked = sa.mark_in is None and sa.mark_out is None
    return settings.kind or ("xfrm" if unmarked and (sa.if_id_in or sa.if_id_out) else "vti")


def request_xfrm(name: str, sa: SaInfo, settings: Settings) -> DeviceRequest:
    """The interface that packets leave by, and, as each has one if_id, another where they come in by a different one."""
    leaving, coming, template = sa.if_id_out, sa.if_id_in, settings.interface or ""
    if not leaving:
        return no_device(f"{name} needs an if_id; set if_id_out (and if_id_in)")
    if settings.external and "{if_id" in template:
        said = f"interface = {template}: an external interface is one for all if_ids"
        raise Refused(said, "give it a name without {if_id}")
    if coming in (0, leaving) or settings.external:
        return DeviceRequest(name, kind="xfrm", settings=settings)
    incoming = fill_template(template, sa._replace(if_id_out=coming)) or name
    if incoming == name:
        raise Refused(
            f"interface = {template}: if_id_in {coming} and if_id_out {leaving} need two devices",
            "put {if_id} into the name, and each gets its own; or give both the same if_id",
        )
    return DeviceRequest(name, kind="xfrm", incoming=incoming, settings=settings)


def name_kept(found: DeviceRequest, sa: SaInfo, row: DeletionRule, between: Callable[[str, str], str]) -> str:
    """The name of the VTI between the same ends that a predecessor holds under the name that its own mark gave it (strongSwan's
    %unique): the kernel allows one for these ends, so it is re-keyed and keeps its name. `between`: that of the same tunnel."""
    vti = sa.daemon == STRONGSWAN and found.kind == "vti"
    return bare(between(*ends_of(sa, found.settings, row))) if vti else ""


def fill_template(template: str, sa: SaInfo) -> str | None:
    """A device's name by its template; None where a placeholder has no value. Raises Refused for a bad name."""
    name = filled(template, sa)
    try:
        return device_name(name) if name is not None else None
    except ValueError as error:
        raise Refused(f"interface = {template} gives {name!r}: {error}") from None


def fill_settings(settings: Settings, sa: SaInfo) -> tuple[Settings, str]:
    """The settings with the tunnel's values in place of placeholders; and, where one has none, which line lacks it. Raises
    Refused for what cannot be."""
    for key, read in TEMPLATES.items():
        said = getattr(settings, key)
        template = " ".join(said) if isinstance(said, tuple) else said
        if "{" not in template:
            continue
        text = filled(template, sa)
        if text is None:
            return settings, f"{key} = {template} needs a value this connection does not have"
        try:
            settings = settings._replace(**{key: read(text)})
        except ValueError as error:
            raise Refused(
                f"{key} = {template} gives {escaped(text, 40)}: {error}", f"correct `{key}` in the settings"
            ) from None
    return settings, ""


def filled(template: str, sa: SaInfo) -> str | None:
    """`template` with its placeholders replaced; None where one has no value."""
    numbers = {
        "mark": sa.mark_out,
        "mark_out": sa.mark_out,
        "mark_in": sa.mark_in,
        "if_id": sa.if_id_out,
        "if_id_out": sa.if_id_out,
        "if_id_in": sa.if_id_in,
    }
    known = {word: f"{value or ''}" for word, value in numbers.items()}
    known.update((f"{word}:x", f"{value:x}" if value else "") for word, value in numbers.items())
    known["connection"] = sa.connection.split("/")[0]  # NAME/1x2 is libreswan's name for one pair of NAME's subnets
    text = template
    for word, value in known.items():
        if "{" + word + "}" in text:
            if not value:
                return None
            text = text.replace("{" + word + "}", value)
    return text


def deletion_rule(context: Context, settings: Settings) -> DeletionRule:
    """The row of the deletion table (docs/deletion.md) that a new claim stands in."""
    shared = context.shared if context.shared is not None else settings.shared
    instance = context.instance if settings.template is None else settings.template
    # an instance that wishes to be up has a fixed gateway (narrowing, an address pool): it is a client, not a server's guest
    guest = instance and (not context.initiates or settings.template is True)
    stays = shared or guest
    goes = {"rule": not stays, "last": True, "never": False}[settings.delete]
    remote = configured_remote(settings)
    return DeletionRule(any_remote=remote == ANY if remote else stays, with_last=goes)


def devices(sa: SaInfo, found: DeviceRequest, row: DeletionRule) -> tuple[Device, ...]:
    """The device that `found` names; the one that packets leave by comes first."""
    if found.by_daemon:
        link = Link(found.name or "", "xfrm", if_id=sa.if_id_out)
        return (Device(link, shared=True, with_last=False, by_daemon=True),)
    settings = found.settings
    shared = sa.shared if sa.shared is not None else settings.shared
    links = xfrm_links(sa, found) if found.kind == "xfrm" else [vti_link(sa, found, row)]
    links = [link._replace(name=placed(link.name, settings.netns), vrf=settings.vrf) for link in links]
    follow, groups = settings.link == "follow", settings.multicast
    return tuple(Device(link, shared, row.with_last, follow=follow, multicast=groups) for link in links)


def xfrm_links(sa: SaInfo, found: DeviceRequest) -> list[Link]:
    """The XFRM interface, and the one more that `found` may name. Raises Refused."""
    name, parent = found.name or "", found.settings.parent
    if parent in (name, found.incoming) and parent:
        raise Refused(f"parent = {parent} is the tunnel's interface itself", "name the device below it, or auto")
    below = f"to {sa.peer}" if parent == "auto" else parent
    if found.settings.external:
        return [Link(name, "xfrm", external=True, underlay=below)]
    check_key(name, "if_id", found.settings.if_id, sa.if_id_out, words_of(sa.daemon).xfrm)
    coming = [Link(found.incoming, "xfrm", if_id=sa.if_id_in, underlay=below)] if found.incoming else []
    return [Link(name, "xfrm", if_id=sa.if_id_out, underlay=below), *coming]


def vti_link(sa: SaInfo, found: DeviceRequest, row: DeletionRule) -> Link:
    """The VTI, with both keys and both ends. Raises Refused."""
    name, settings = found.name or "", found.settings
    assert sa.mark_in is not None and sa.mark_out is not None  # request_device() saw to it
    local, remote = ends_of(sa, settings, row)
    for key, said, mark in (("mark_in", settings.mark_in, sa.mark_in), ("mark_out", settings.mark_out, sa.mark_out)):
        check_key(name, key, said, mark, words_of(sa.daemon).marks)
    kind = "vti6" if sa.outer_family == 6 else "vti"
    return Link(name, kind, local=local, remote=remote, ikey=sa.mark_in, okey=sa.mark_out)


def configured_remote(settings: Settings) -> str:
    """What the settings say of a VTI's remote end: an address, any, or nothing. A device with a `local` of its own is
    described whole: `remote` left out is any."""
    return settings.remote or (ANY if settings.local else "")


def ends_of(sa: SaInfo, settings: Settings, row: DeletionRule) -> tuple[str, str]:
    """Both ends of a VTI: what the settings say of the device, else the tunnel's. Raises Refused where these are of another
    family than the tunnel's."""
    for key, said in (("local", settings.local), ("remote", settings.remote)):
        if said not in ("", ANY) and family(said) != sa.outer_family:
            raise Refused(
                f"{key} = {said} in the settings, but the tunnel's ends are {sa.me} and {sa.peer}",
                f"correct `{key}`, or leave it out: then it is the tunnel's own",
            )
    remote = configured_remote(settings) or (ANY if row.any_remote else sa.peer)
    return settings.local or sa.me, ANYWHERE[sa.outer_family] if remote == ANY else remote


def check_key(device: str, key: str, said: int, has: int, words: str) -> None:
    """Raise Refused where the settings give the device another key than the tunnel has: one direction or both would be
    dropped without a word. `words`: how the daemon is told of it."""
    if said and said != has:
        raise Refused(
            f"{device}: {key} = {said} in the settings, but {has or 'none'} in the tunnel: nothing would pass",
            f"give both the same: in the daemon's configuration it is {words}",
        )
