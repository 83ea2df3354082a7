"""What settings that were edited change of a claim, and which lines of the files decide it now. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from updown.concerns.catalogue import key_of
from updown.model.claims import Claim
from updown.model.objects import Route, bare
from updown.model.record import NamedTuple
from updown.model.resources import Clamp, Device, Mtu, Resource, Sysctl
from updown.settings.file import Line, effective_lines

KEYS: dict[str, tuple[str, ...]] = {
    "device": ("interface", "kind", "external"),
    "address": ("address",),
    "source": ("source", "address"),
    "peer": ("route", "routing"),
    "route": ("route", "routing"),
    "rule": ("rule", "table"),
    "mtu": ("mtu",),
    "firewall": ("mss",),
}
"""The keys of the settings that decide whether a claim asks for a resource, by its kind; a sysctl is named as its key is."""

FIELD_KEYS: dict[str, tuple[str, ...]] = {
    "name": ("interface", "netns"),
    "remote": ("remote", "local"),
    "follow": ("link",),
    "table": ("table", "vrf"),
    "size": ("mtu",),
    "six": ("address",),
    "joins": ("multipath",),
    "source": ("source", "route", "address"),
    "if_id": ("external",),
    "underlay": ("parent",),
    "slave": ("vrf",),
    "keep_addr_on_down": ("link",),
    "addr_gen_mode": ("address",),
}
"""The same for fields of a resource, and for sysctls, that are not named as their keys are."""


class Edit(NamedTuple):
    """What a claim asked for, and what it asks for by the settings as they are now, in words; and the lines that say so, as
    `file:line`, none where no line does any more."""

    before: str
    after: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """All of it, in one line."""
        return f"{self.before} -> {self.after} ({', '.join(self.lines) or 'no line says it any more'})"


def edits(before: Claim, after: Claim, lines: tuple[Line, ...]) -> Iterator[Edit]:
    """What a claim asks for otherwise. What hangs on a device that has another name now is the same."""
    effective = effective_lines(lines, after.connection, bare(after.device))

    def edit(was: str, now: str, keys: tuple[str, ...]) -> Edit:
        return Edit(was, now, tuple(dict.fromkeys(effective[key].where for key in keys if key in effective)))

    if before.device != after.device:
        yield edit(f"device {before.device}", f"device {after.device}", FIELD_KEYS["name"])
    old = {identity(want): want for want in (on_device(want, before.device, after.device) for want in before.resources)}
    new = {identity(want): want for want in after.resources}
    for name in [name for name in old if name in new]:
        had, has = fields_of(old[name]), fields_of(new[name])
        for field in had:
            if had[field] != has[field]:
                keys = FIELD_KEYS.get(field, (field,))
                yield edit(f"{name}: {field} {had[field]}", f"{field} {has[field]}", keys)
    for kind in dict.fromkeys(name.split(" ")[0] for name in (*old, *new)):
        gone = [want for name, want in old.items() if name not in new and name.split(" ")[0] == kind]
        come = [want for name, want in new.items() if name not in old and name.split(" ")[0] == kind]
        names = [want.path.rpartition("/")[2] for want in (*gone, *come) if isinstance(want, Sysctl)]
        keys = KEYS.get(kind) or tuple(key for name in names for key in FIELD_KEYS.get(name, (name,)))
        if gone or come:
            was, now = (", ".join(map(text_of, wants)) for wants in (gone, come))
            yield edit(was or f"no {kind}", now or f"no {kind}", keys)


def on_device(want: Resource, old: str, new: str) -> Resource:
    """What hangs on the device `old`, as if it hung on `new`."""
    if isinstance(want, Device):
        return want._replace(link=want.link._replace(name=new)) if want.link.name == old else want
    if want.device != old:
        return want
    if isinstance(want, Sysctl):
        want = want._replace(path=want.path.replace(f"/{old}/", f"/{new}/"))
    return want._replace(device=new)


def identity(want: Resource) -> str:
    """What makes a resource the same though its fields differ."""
    if isinstance(want, Mtu):
        return f"mtu {want.device}"
    return f"route {want.destination}" if isinstance(want, Route) else key_of(want)


def text_of(want: Resource) -> str:
    """A resource that came or went."""
    return f"{identity(want)} {want.size}" if isinstance(want, Mtu) else identity(want)


def fields_of(want: Resource) -> dict[str, object]:
    """What may differ of a resource."""
    if isinstance(want, Sysctl):
        return {want.path.rpartition("/")[2]: want.value}
    if isinstance(want, Device):
        return {**want.link._asdict(), "shared": want.shared, "follow": want.follow, "multicast": want.multicast}
    if isinstance(want, Clamp):
        return {"mss": want.size or "clamp", "slave": want.slave}
    return {field: value for field, value in want._asdict().items() if field not in ("total", "hops")}
