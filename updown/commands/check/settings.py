"""Every mistake in the settings files, without a tunnel: for `check`, alone and with --settings."""

from __future__ import annotations

import re
from collections.abc import Iterator

from updown.commands.check.facts import Mistake
from updown.commands.make import kind_of, missing_keys
from updown.concerns.addresses import check_outer
from updown.concerns.device_request import configured_remote
from updown.concerns.mtu import IPV6_LEAST
from updown.model.errors import Refused, Untrusted
from updown.model.objects import MAIN_TABLE, family
from updown.model.record import NamedTuple
from updown.model.values import device_name, escaped
from updown.settings.file import UNKNOWN, Line, effective_lines, is_glob, matches, read_all, resolve
from updown.settings.keys import PLACEHOLDERS, Settings

Clash = dict[str, Mistake]


class CheckedSettings(NamedTuple):
    """The lines that are good, and each mistake."""

    lines: tuple[Line, ...]
    mistakes: tuple[Mistake, ...]


def check_files(path: str) -> CheckedSettings:
    """Read `path` and conf.d/*.conf beside it, however many mistakes there are."""
    said = list(read_all(path))
    good = tuple(line for line in said if isinstance(line, Line) and line.kind != UNKNOWN)
    refused = [mistake for mistake in said if isinstance(mistake, Refused)]
    mistakes = [Mistake(one.text, one.hint, one.where, isinstance(one, Untrusted)) for one in refused]
    return CheckedSettings(good, (*mistakes, *contradictions(good), *dict.fromkeys(clashes(good))))


def clashes(lines: tuple[Line, ...]) -> Iterator[Mistake]:
    """What cannot be together for a connection and its device. Where the section does not tell which device, or which
    connections, only what is wrong with every one that the files know."""
    devices, connections = sections(lines, "device"), sections(lines, "connection")
    for connection in narrowest(connections):
        yield from in_every([clash_of(lines, connection, device) for device in devices_of(lines, connection, devices)])
    for device in narrowest(devices):
        users = ["", *(name for name in connections if device in devices_of(lines, name, devices))]
        described = not is_glob(device) and not missing_keys(resolve(lines, "", device))
        yield from in_every([clash_of(lines, name, device) for name in users[: 1 if described else None]])
    if not devices and not connections:
        yield from clash_of(lines, "", "").values()


def sections(lines: tuple[Line, ...], kind: str) -> list[str]:
    """The names and patterns of all sections of a kind."""
    return list(dict.fromkeys(line.pattern for line in lines if line.kind == kind))


def narrowest(patterns: list[str]) -> list[str]:
    """Names, and those patterns that no other section falls under: there it is the narrower one that has to be whole."""
    return [one for one in patterns if not is_glob(one) or not matches(one, [more for more in patterns if more != one])]


def devices_of(lines: tuple[Line, ...], connection: str, devices: list[str]) -> list[str]:
    """The devices that a connection may have, by name or by what its template may give; else the daemon names it."""
    template = resolve(lines, connection).interface
    if template and "{" not in template:
        return [template]
    pattern = template or "*"
    for placeholder in PLACEHOLDERS:
        pattern = pattern.replace("{" + placeholder + "}", "*")
    return ["", *(name for name in devices if is_glob(name) or matches(pattern, [name]))]


def in_every(found: list[Clash]) -> Iterator[Mistake]:
    """What is wrong with each of them, as the first has it."""
    return (said for what, said in found[0].items() if all(what in one for one in found))


def clash_of(lines: tuple[Line, ...], connection: str, device: str) -> Clash:
    """What the lines that count for a connection and a device say that cannot be together, by what it is."""
    by, said = effective_lines(lines, connection, device), resolve(lines, connection, device)
    named = resolve(lines, connection)  # as `interface` is looked for
    found: Clash = {}
    if said.rule and said.table == MAIN_TABLE and not said.vrf:
        where = by["rule"].where
        text = f"{where}: rule needs table = NUMBER: the main table is where every packet looks"
        found["rule"] = Mistake(text, "set `table`, or `vrf`", where)
    template = named.interface or ""
    if "{connection}" in template and connection and not is_glob(connection):
        shortest = re.sub(r"{(?!connection)[\w:]+}", "1", template).replace("{connection}", connection.split("/")[0])
        try:
            device_name(shortest)
        except ValueError as error:
            gives = f"interface = {template} gives {escaped(shortest, 40)}, where the daemon names none: {error}"
            hint = f"name a device in [connection {connection}], or leave out {{connection}}"
            where = by["interface"].where
            found["name"] = Mistake(f"{where}: {gives}", hint, where)
    if said.local and said.remote not in ("", "any") and family(said.local) != family(said.remote):
        where = by["remote"].where
        text = f"{where}: remote = {said.remote} and local = {said.local} are of two families"
        found["ends"] = Mistake(text, "one device carries one family outside, and both inside", where)
    try:
        check_outer(said, "", by["address"].where if said.address else "")
    except Refused as mistake:
        found["outer"] = Mistake(mistake.text, mistake.hint, by["address"].where)
    if said.vrf and said.vrf == device:
        where = by["vrf"].where
        found["vrf"] = Mistake(f"{where}: vrf = {said.vrf} is the tunnel's device itself", "name the VRF's device", where)
    if said.parent and said.parent == device:
        where = by["parent"].where
        text = f"{where}: parent = {said.parent} is the tunnel's interface itself"
        found["parent"] = Mistake(text, "name the device below it, or auto", where)
    six = [address for address in said.address if "{" not in address and family(address) == 6]
    if six and 0 < said.mtu < IPV6_LEAST:
        where = by["mtu"].where
        text = f"{where}: mtu = {said.mtu} with address {six[0]}: IPv6 needs {IPV6_LEAST}"
        found["mtu"] = Mistake(text, f"set `mtu` to {IPV6_LEAST} or more, or leave out the IPv6 address", where)
    if named.external and named.kind != "vti" and "{if_id" in (named.interface or ""):
        where = by["interface"].where
        text = f"{where}: interface = {named.interface}: an external interface is one for all if_ids"
        found["external"] = Mistake(text, "give it a name without {if_id}, or leave out `external`", where)
    return found


def contradictions(lines: tuple[Line, ...]) -> Iterator[Mistake]:
    """What the sections of named devices say that cannot be together."""
    taken: dict[object, str] = {}
    for name in [name for name in sections(lines, "device") if not is_glob(name)]:
        said = resolve(lines, "", name)
        remote = said.remote if said.remote != "any" else ""
        if said.local and remote and family(said.local) != family(remote):
            continue  # see `clash_of`
        idle = {"vti": ("if_id", "parent"), "xfrm": ("local", "remote", "mark_in", "mark_out")}.get(said.kind or "", ())
        for key in [key for key in idle if getattr(said, key)]:
            text = f"{key} says nothing of {name}: a device of kind {said.kind} has none"
            where = line_of(lines, name, key)
            yield Mistake(f"{where}: {text}", "remove the line, or `kind`", where)
        if missing_keys(said):
            continue
        mine = identity(said)
        if mine in taken:
            same = {"if_id": "the same if_id", "local": "the same two ends", "external": "every if_id"}[mine[0]]
            text = f"{name} and {taken[mine]} would have {same}"
            where = line_of(lines, name, mine[0])
            yield Mistake(f"{where}: {text}", "the kernel has one of these, whatever its name and key", where)
        taken.setdefault(mine, name)


def identity(said: Settings) -> tuple[str, object]:
    """What the kernel has once, after the key that says it: the ends of a VTI, the if_id of an XFRM interface."""
    if said.external:
        return "external", True
    return ("if_id", said.if_id) if kind_of(said) == "xfrm" else ("local", (said.local, configured_remote(said)))


def line_of(lines: tuple[Line, ...], name: str, key: str) -> str:
    """File and line of the last word on a device's key."""
    keys = (key, "mark") if key.startswith("mark") else (key,)
    mine = [line for line in lines if line.key in keys and (line.kind, line.pattern) == ("device", name)]
    others = [line for line in lines if line.key in keys]
    return ([*others, *mine] or list(lines))[-1].where
