"""Every mistake in the settings files, without a tunnel: for `check`, alone and with --settings."""

from typing import Dict, Iterator, List, NamedTuple, Tuple

from updown.concerns.ends import remote_said
from updown.errors import Refused
from updown.settings import UNKNOWN, Line, Settings, is_glob, read_all, resolve
from updown.standing import kind_of, lacking
from updown.state import family


class Checked(NamedTuple):
    """The lines that are good, and each mistake: what is wrong, with file and line, and what to do."""

    lines: Tuple[Line, ...]
    mistakes: Tuple[Tuple[str, str], ...]


def check_files(path: str) -> Checked:
    """Read `path` and conf.d/*.conf beside it, however many mistakes there are."""
    lines: List[Line] = []
    mistakes: List[Tuple[str, str]] = []
    for said in read_all(path):
        if isinstance(said, Refused):
            mistakes.append((said.text, said.hint))
        elif said.kind != UNKNOWN:
            lines.append(said)
    good = tuple(lines)
    return Checked(good, (*mistakes, *contradictions(good)))


def contradictions(lines: Tuple[Line, ...]) -> Iterator[Tuple[str, str]]:
    """What the sections of named devices say that cannot be together."""
    names = dict.fromkeys(line.pattern for line in lines if line.kind == "device" and not is_glob(line.pattern))
    taken: Dict[object, str] = {}
    for name in names:
        said = resolve(lines, "", name)
        remote = said.remote if said.remote != "any" else ""
        if said.local and remote and family(said.local) != family(remote):
            text = f"remote = {remote} and local = {said.local} are of two families"
            yield f"{where(lines, name, 'remote')}: {text}", "one device carries one family outside, and both inside"
            continue
        for key in idle_keys(said):
            text = f"{key} says nothing of {name}: a device of kind {said.kind} has none"
            yield f"{where(lines, name, key)}: {text}", "remove the line, or `kind`"
        if lacking(said):
            continue
        mine = identity(said)
        if mine in taken:
            key = "if_id" if kind_of(said) == "xfrm" else "local"
            key = "external" if said.external else key
            same = {"if_id": "the same if_id", "local": "the same two ends", "external": "every if_id"}[key]
            text = f"{name} and {taken[mine]} would have {same}"
            yield f"{where(lines, name, key)}: {text}", "the kernel has one of these, whatever its name and key"
        taken.setdefault(mine, name)


def idle_keys(said: Settings) -> Tuple[str, ...]:
    """Keys that are given and mean nothing for the kind that is given."""
    if said.kind == "vti":
        return ("if_id",) if said.if_id else ()
    if said.kind == "xfrm":
        return tuple(key for key in ("local", "remote", "mark_in", "mark_out") if getattr(said, key))
    return ()


def identity(said: Settings) -> object:
    """What the kernel has once: the ends of a VTI, the if_id of an XFRM interface."""
    if said.external:
        return "external"
    return said.if_id if kind_of(said) == "xfrm" else (said.local, remote_said(said))


def where(lines: Tuple[Line, ...], name: str, key: str) -> str:
    """File and line of the last word on a device's key."""
    keys = (key, "mark") if key.startswith("mark") else (key,)
    mine = [line for line in lines if line.key in keys and (line.kind, line.pattern) == ("device", name)]
    others = [line for line in lines if line.key in keys]
    return ([*others, *mine] or list(lines))[-1].where
