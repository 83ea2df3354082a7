"""The administrator's file: what it may say, and what it says for one connection and device.

/etc/vti-updown/vti-updown.conf and conf.d/*.conf; INI with [defaults], [connection NAME-or-glob], [device NAME-or-glob].
Device beats connection beats defaults, exact beats glob, later beats earlier. Read without `configparser`: it costs 5 ms and
does not tell the line of a wrong key. docs/settings.md is this table for people."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator

from updown.model import values
from updown.model.errors import Refused, Untrusted
from updown.model.record import Any, NamedTuple
from updown.settings import parsers
from updown.settings.keys import ALIASES, DEFAULTS_ONLY, KEYS, LISTS, Settings

DEFAULT_FILE = "/etc/vti-updown/vti-updown.conf"
BYTE_ORDER_MARK = "\ufeff"  # which some editors put first; the codec utf-8-sig would be one more import

UNKNOWN = "unknown"
"""The section of lines whose head has a mistake."""


class Line(NamedTuple):
    """One `key = value`: where it stands, and which section it stands in."""

    kind: str  # defaults, connection, device
    pattern: str
    key: str
    value: Any
    where: str  # file:line


def read_files(path: str) -> tuple[Line, ...]:
    """Every line of `path` and of conf.d/*.conf beside it; a missing file is empty. Raises Refused with file and line."""
    return tuple(raise_mistake(said) for said in read_all(path))


def raise_mistake(said: Line | Refused) -> Line:
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
                writer = other_writer(os.fstat(file.fileno()))
                text = file.read().removeprefix(BYTE_ORDER_MARK)
        except FileNotFoundError:
            continue
        except OSError as error:
            hint = "make the settings readable for root, or name others by --config"
            yield located(Refused(f"{name}: {error.strerror}", hint), name)
            continue
        if writer:
            text = f"{name}: {writer} may write it, and could tell root what to do: it is not used"
            yield located(Untrusted(text, f"chown root:root {name} && chmod go-w {name}"), name)
            continue
        yield from parse_all(text, name)


def parse_all(content: str, name: str) -> Iterator[Line | Refused]:
    """Each line, or what is wrong with it. What stands below a bad section head is looked at all the same."""
    kind = pattern = ""
    stands: dict[str, int] = {}
    for number, line in logical_lines(content):
        where = f"{name}:{number}"
        try:
            if line[0] == "[":
                stands = {}
                kind, pattern = section(line, where)
            else:
                said = setting(line, kind, pattern, where)
                if said.key in stands:
                    text = f"{where}: {said.key} stands in this section already, in line {stands[said.key]}"
                    raise Refused(
                        text,
                        "keep one of the two lines; several values stand in one, with commas between, or below it, indented",
                    )
                stands[said.key] = number
                yield said
        except Refused as mistake:
            kind = UNKNOWN if line[0] == "[" else kind or UNKNOWN
            yield located(mistake, where)


def located(mistake: Refused, where: str) -> Refused:
    """The mistake, with the line or file that it is in."""
    mistake.where = where
    return mistake


def other_writer(seen: os.stat_result) -> str:
    """Who but root, and who runs this, may write a file or folder; empty for nobody. A group that is ours is no other, as for
    sudo, and in a folder with the sticky bit nobody can put anything in another file's place."""
    if seen.st_uid not in (0, os.geteuid()):
        return f"user {seen.st_uid}"
    if seen.st_mode & 0o1002 == 0o0002:
        return "everybody"
    group = seen.st_mode & 0o1020 == 0o0020 and seen.st_gid not in (0, os.getegid())
    return f"group {seen.st_gid}" if group else ""


def logical_lines(content: str) -> Iterator[tuple[int, str]]:
    """Each line that says something, without blanks around it, by the number of where it begins. Below the key of a list, lines
    that stand further in and are no `key = value` go on with the list, until an empty line."""
    begun, text, depth = 0, "", 0
    for number, raw in enumerate(content.splitlines(), 1):
        line = raw.strip()
        if line and line[0] in "#;":
            continue
        inner = len(raw) - len(raw.lstrip())
        if begun and line and inner > depth and "=" not in line and line[0] != "[" and text.partition("=")[0].strip() in LISTS:
            text = f"{text.rstrip(', ')}{' ' if text.endswith('=') else ', '}{line}"
            continue
        if begun:
            yield begun, text
        begun, text, depth = number if line else 0, line, inner
    if begun:
        yield begun, text


def setting(line: str, kind: str, pattern: str, where: str) -> Line:
    """One `key = value`; raises Refused."""
    key, equals, value = (part.strip() for part in line.partition("="))
    if not equals:
        raise Refused(f"{where}: {values.escaped(line, 40)!r} is no `key = value`")
    if not kind:
        raise Refused(f"{where}: {values.escaped(key, 40)} stands before any section", "begin with [defaults]")
    if key not in KEYS:
        raise Refused(f"{where}: unknown key {values.escaped(key, 40)}{nearest(key, KEYS)}")
    if key in DEFAULTS_ONLY and kind not in ("defaults", UNKNOWN):
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


def nearest(word: str, known: Collection[str]) -> str:
    """`; did you mean X?` for a misspelt word, else all that are known."""
    return values.suggestion(word, known) or f"; known are {', '.join(known)}"


def resolve(lines: tuple[Line, ...], connection: str, device: str = "") -> Settings:
    """What `lines` say for a connection (NAME of libreswan's NAME/1x2 matches too) and, where known, its device."""
    return Settings(**{field: line.value for field, line in effective_lines(lines, connection, device).items()})


def resolver(lines: tuple[Line, ...], key: str) -> Callable[[str, str], Any]:
    """What `resolve` finds of one key for a connection and device, where thousands are asked about."""
    wide: list[tuple[int, Line]] = []
    named: dict[tuple[str, str], list[tuple[int, Line]]] = {}
    for one in enumerate(line for line in lines if key in ALIASES.get(line.key, (line.key,))):
        kind, pattern = one[1].kind, one[1].pattern
        (wide if kind == "defaults" or is_glob(pattern) else named.setdefault((kind, pattern), [])).append(one)

    def said(connection: str, device: str) -> Any:
        sections = {("connection", connection), ("connection", connection.rsplit("/", 1)[0]), ("device", device)}
        near = sorted(one for name in sections for one in named.get(name, ()))
        return getattr(resolve(tuple(line for _, line in (*wide, *near)), connection, device), key)

    return said


def effective_lines(lines: tuple[Line, ...], connection: str, device: str = "") -> dict[str, Line]:
    """By field of the settings, the line that counts."""
    found: dict[str, Line] = {}
    for line in fitting_lines(lines, connection, device):
        found.update(dict.fromkeys(ALIASES.get(line.key, (line.key,)), line))
    return found


def fitting_lines(lines: tuple[Line, ...], connection: str, device: str = "") -> list[Line]:
    """The lines whose section is for a connection and its device; each beats those before it."""
    names = {connection, connection.rsplit("/", 1)[0]}
    found: list[Line] = []
    for kind in ("defaults", "connection", "device"):
        wanted = {device} if kind == "device" else names
        ours = [line for line in lines if line.kind == kind]
        found += [one for one in ours if kind == "defaults" or (is_glob(one.pattern) and matches(one.pattern, wanted))]
        found += [line for line in ours if line.pattern in wanted]
    return found


def is_glob(pattern: str) -> bool:
    """Whether a section's pattern is more than a name."""
    return any(character in pattern for character in "*?[")


def matches(pattern: str, names: Any) -> bool:
    """Whether a glob fits one of the names; upper and lower case differ."""
    import fnmatch

    return any(fnmatch.fnmatchcase(name, pattern) for name in names if name)


Lines = tuple[Line, ...]
Files = dict[str, Any]  # by path: the lines of each, or the mistake


def settings_lines(config: str, needed: bool = True, files: Files | None = None) -> Lines:
    """The lines of the settings file that --config named, which must be there, or of the default one; read once by all who give
    the same `files`. Raises Refused for a mistake, each time; where they are not `needed` there are none then: a broken file
    keeps no tunnel alive."""
    files = {} if files is None else files
    path = os.path.abspath(config) if config else ""
    if path not in files:
        try:
            if path and not os.path.exists(path):
                raise Refused(f"{config}: no such file", "write it, or name another one by --config FILE")
            files[path] = read_files(path or DEFAULT_FILE)
        except Refused as error:
            files[path] = error
    found = files[path]
    if isinstance(found, Refused) and needed:
        raise found
    return () if isinstance(found, Refused) else found


def settings_of(config: str, lines: Lines, files: Files) -> Callable[[str], Lines]:
    """Settings by the file that a claim's calls name: `lines` for the default one, and for all where `config` is given now."""
    return lambda named: settings_lines(named, files=files) if named and not config else lines
