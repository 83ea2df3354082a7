"""The administrator's file: what it may say, and what it says for one connection and device.

/etc/vti-updown/vti-updown.conf and conf.d/*.conf; INI with [defaults], [connection NAME-or-glob], [device NAME-or-glob].
Device beats connection beats defaults, exact beats glob, later beats earlier. Read without `configparser`: it costs 5 ms and
does not tell the line of a wrong key. docs/settings.md is this table for people.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from updown.ledger.lock import WAIT
from updown.model import values
from updown.model.errors import Refused
from updown.model.objects import MAIN_TABLE
from updown.model.record import NamedTuple
from updown.settings import device, parsers
from updown.settings.parsers import StaticRoute, StaticRule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_FILE = "/etc/vti-updown/vti-updown.conf"
BYTE_ORDER_MARK = "\ufeff"  # which some editors put first; the codec utf-8-sig would be one more import

BY_KIND = -1
"""disable_policy where nothing is said: 1 on a VTI, left alone on an XFRM interface (concerns/sysctls.py)."""


class Settings(NamedTuple):
    """What holds for one connection and device. None: not said, so the daemon's word or the documented default counts."""

    interface: str | None = None  # a device name or a template with {mark}, {if_id}, {connection}, ...
    kind: str | None = None  # vti or xfrm; None: marks make a VTI, if_ids an XFRM interface
    external: bool = False  # one XFRM interface for all if_ids
    shared: bool = False
    template: bool | None = None  # None: what the daemon says of the connection
    routing: bool = False
    delete: str = "rule"  # rule, last, never
    address: tuple[str, ...] = ()
    mtu: int = 0  # bytes; 0: the daemon's mtu=, else the kernel's choice; AUTO
    mss: str = "no"  # no, clamp
    table: int = MAIN_TABLE
    metric: int = 0  # 0: the daemon's metric, else the kernel's default
    multipath: bool = False
    route: tuple[StaticRoute, ...] = ()  # beside those for the remote selector
    rule: tuple[StaticRule, ...] = ()  # that lead to `table`
    vrf: str = ""  # a VRF device, which is there beforehand
    netns: str = ""  # a network namespace, likewise
    disable_policy: int | None = BY_KIND  # None: leave alone
    forwarding: int | None = 1
    rp_filter: str = "auto"  # auto, 0, 1, 2, keep
    accept_ra: str = "auto"  # likewise
    local: str = ""  # a VTI's own end, whatever the connection says
    remote: str = ""  # an address, or any
    mark: int = 0  # both of the next two
    mark_in: int = 0
    mark_out: int = 0
    if_id: int = 0
    link: str = "keep"  # keep, or follow: down while no tunnel is up
    probe: str = ""  # the far address that `vti-updown probe` pings
    lock_wait: float = WAIT  # seconds, 0 to 60; of all connections at once


def interface(value: str) -> str:
    """A device name, or a template whose placeholders are in braces."""
    bare = value
    for placeholder in PLACEHOLDERS:
        bare = bare.replace("{" + placeholder + "}", "0")
    if "{" in bare or "}" in bare:
        raise ValueError("placeholders are {" + "}, {".join(PLACEHOLDERS) + "}")
    parsers.tunnel_name(value) if bare == value else values.device_name(bare)
    return value


def policy_switch(value: str) -> int | None:
    """The same, or auto: by the kind of the device."""
    return BY_KIND if value == "auto" else parsers.switch(value)


PLACEHOLDERS = ("mark", "mark_out", "mark_in", "if_id", "if_id_out", "if_id_in", "connection")

KEYS: dict[str, Callable[[str], Any]] = {
    "interface": interface,
    "kind": parsers.choice("vti", "xfrm"),
    "external": values.yes_no,
    "shared": values.yes_no,
    "template": parsers.tri_state,
    "routing": values.yes_no,
    "delete": parsers.choice("rule", "last", "never"),
    "address": values.interface_addresses,
    "mtu": values.mtu_or_auto,
    "mss": parsers.choice("no", "clamp"),
    "table": parsers.table,
    "metric": values.number,
    "multipath": values.yes_no,
    "route": parsers.routes,
    "rule": parsers.rules,
    "vrf": values.device_name,
    "netns": parsers.namespace,
    "disable_policy": policy_switch,
    "forwarding": parsers.switch,
    "rp_filter": parsers.choice("auto", "0", "1", "2", "keep"),
    "accept_ra": parsers.choice("auto", "0", "1", "2", "keep"),
    "local": device.local,
    "remote": device.remote,
    "mark": device.key,
    "mark_in": device.key,
    "mark_out": device.key,
    "if_id": device.if_id,
    "link": parsers.choice("keep", "follow"),
    "probe": device.probe,
    "lock_wait": parsers.seconds,
}

UNKNOWN = "unknown"
"""The section of lines whose head has a mistake."""

SAYS = {"mark": ("mark", "mark_in", "mark_out")}
"""Fields that a key says besides its own name's."""

OF_ALL = ("lock_wait",)
"""Keys of [defaults] alone: what they say is needed before the connection's own lines count."""


class Line(NamedTuple):
    """One `key = value`: where it stands, and which section it stands in."""

    kind: str  # defaults, connection, device
    pattern: str
    key: str
    value: Any
    where: str  # file:line


def read_files(path: str) -> tuple[Line, ...]:
    """Every line of `path` and of conf.d/*.conf beside it; a missing file is empty. Raises Refused with file and line."""
    return tuple(good(said) for said in read_all(path))


def good(said: Line | Refused) -> Line:
    """A line; raises what is none."""
    if isinstance(said, Refused):
        raise said
    return said


def read_all(path: str) -> Iterator[Line | Refused]:
    """The same with every mistake in its place."""
    folder = os.path.join(os.path.dirname(path), "conf.d")
    try:
        more = sorted(name for name in os.listdir(folder) if name.endswith(".conf"))
    except OSError:
        more = []
    for name in [path, *(os.path.join(folder, name) for name in more)]:
        try:
            with open(name, encoding="utf-8", errors="surrogateescape") as file:
                text = file.read().removeprefix(BYTE_ORDER_MARK)
        except FileNotFoundError:
            continue
        except OSError as error:
            yield Refused(
                f"{name}: {error.strerror}", "make the settings readable for root, or name others by --config"
            )
            continue
        yield from parse_all(text, name)


def parse(text: str, name: str) -> list[Line]:
    """The lines of one file's text; raises Refused naming file, line and the nearest known key."""
    return [good(said) for said in parse_all(text, name)]


def parse_all(text: str, name: str) -> Iterator[Line | Refused]:
    """Each line, or what is wrong with it. What stands below a bad section head is looked at all the same."""
    kind = pattern = ""
    stands: dict[str, int] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        where = f"{name}:{number}"
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        try:
            if line[0] == "[":
                stands = {}
                kind, pattern = section(line, where)
            else:
                said = setting(line, kind, pattern, where)
                if said.key in stands:
                    raise Refused(
                        f"{where}: {said.key} stands in this section already, in line {stands[said.key]}",
                        "keep one of the two lines; several values stand in one, with commas between",
                    )
                stands[said.key] = number
                yield said
        except Refused as mistake:
            kind = UNKNOWN if line[0] == "[" else kind or UNKNOWN
            yield mistake


def setting(line: str, kind: str, pattern: str, where: str) -> Line:
    """One `key = value`; raises Refused."""
    key, equals, value = (part.strip() for part in line.partition("="))
    if not equals:
        raise Refused(f"{where}: {values.escaped(line, 40)!r} is no `key = value`")
    if not kind:
        raise Refused(f"{where}: {values.escaped(key, 40)} stands before any section", "begin with [defaults]")
    if key not in KEYS:
        raise Refused(f"{where}: unknown key {values.escaped(key, 40)}{nearest(key, KEYS)}")
    if key in OF_ALL and kind not in ("defaults", UNKNOWN):
        raise Refused(f"{where}: {key} stands in [{kind}]; it holds for all", "move the line to [defaults]")
    try:
        return Line(kind, pattern, key, KEYS[key](value), where)
    except ValueError as error:
        behind = any(f" {sign}" in value.replace("\t", " ") for sign in "#;")
        hint = "a comment stands on a line of its own, which begins with # or ;" if behind else ""
        raise Refused(f"{where}: {key} = {values.escaped(value, 40)}: {error}", hint) from None


def section(line: str, where: str) -> tuple[str, str]:
    """Kind and pattern of a section's head."""
    if not line.endswith("]"):
        raise Refused(f"{where}: the section head lacks its ]")
    kind, _, pattern = line[1:-1].strip().partition(" ")
    pattern = pattern.strip()
    if kind == "defaults" and not pattern:
        return kind, "*"
    if kind in ("connection", "device"):
        if not pattern:
            raise Refused(f"{where}: [{kind}] needs a name or a pattern", f"such as [{kind} *]")
        if is_glob(pattern):
            import fnmatch  # noqa: F401  # here, since later we hold the lock
        elif kind == "device":
            check_device(pattern, where)
        return kind, pattern
    known = ("defaults", "connection", "device")
    raise Refused(f"{where}: unknown section {values.escaped(line[1:-1], 40)}{nearest(kind, known)}")


def check_device(name: str, where: str) -> None:
    """Raise Refused where a section is for a device that no tunnel can have."""
    try:
        parsers.tunnel_name(name)
    except ValueError as error:
        hint = "name the tunnel's device, or a pattern such as [device vti*]"
        raise Refused(f"{where}: [device {values.escaped(name, 40)}]: {error}", hint) from None


def nearest(word: str, known: Any) -> str:
    """`; did you mean X?` for a misspelt word, else nothing."""
    import difflib

    found = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {found[0]}?" if found else f"; known are {', '.join(known)}"


def resolve(lines: tuple[Line, ...], connection: str, device: str = "") -> Settings:
    """What `lines` say for a connection (NAME of libreswan's NAME/1x2 matches too) and, where known, its device."""
    return Settings(**{field: line.value for field, line in counting(lines, connection, device).items()})


def counting(lines: tuple[Line, ...], connection: str, device: str = "") -> dict[str, Line]:
    """By field of the settings, the line that counts."""
    names = {connection, connection.rsplit("/", 1)[0]}
    found: dict[str, Line] = {}
    for kind in ("defaults", "connection", "device"):
        wanted = {device} if kind == "device" else names
        ours = [line for line in lines if line.kind == kind]
        globs = [
            line for line in ours if kind == "defaults" or (is_glob(line.pattern) and matches(line.pattern, wanted))
        ]
        exact = [line for line in ours if kind != "defaults" and line.pattern in wanted]
        for line in globs + exact:
            found.update(dict.fromkeys(SAYS.get(line.key, (line.key,)), line))
    return found


def wait_of(lines: tuple[Line, ...]) -> float:
    """How long to wait for the lock."""
    return resolve(lines, "").lock_wait


def is_glob(pattern: str) -> bool:
    """Whether a section's pattern is more than a name."""
    return any(character in pattern for character in "*?[")


def matches(pattern: str, names: Any) -> bool:
    """Whether a glob fits one of the names; upper and lower case differ."""
    import fnmatch

    return any(fnmatch.fnmatchcase(name, pattern) for name in names if name)
