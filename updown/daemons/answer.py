"""What a running IKE daemon says of itself, the same for both: records, and whether one runs at all. For `reconcile`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from updown.model import values
from updown.model.record import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    _One = TypeVar("_One")
    _Key = TypeVar("_Key")

ANSWER_SECONDS = 3.0  # a daemon that takes longer is taken to be silent

CAP_NET_ADMIN = 1 << 12  # linux/capability.h

ANSWERED = "answered"
SILENT = "silent"  # it runs, and did not answer
ABSENT = "absent"  # it does not run in this network namespace


class ChildSa(NamedTuple):
    """A tunnel that a daemon reports as up. `spi_in` is that of packets we receive; 0 and "" are not told."""

    daemon: str
    connection: str
    me: str = ""
    peer: str = ""
    spi_in: int = 0
    spi_out: int = 0
    reqid: int = 0
    unique_id: int = 0  # of the IKE SA; strongSwan alone has it
    mark_in: int = 0
    mark_out: int = 0
    if_id_in: int = 0
    if_id_out: int = 0
    remote_ts: tuple[str, ...] = ()  # networks of the remote selectors, where told
    ids: tuple[str, str] = ("", "")  # IKE identities, ours and the peer's, where told
    wants_device: bool = False  # its configuration asks for a device of the hook, so that a claim is to be expected
    device: str = ""  # that its configuration names, where told
    calls_us: bool | None = None  # whether its configuration names our hook; None: not told


class DaemonAnswer(NamedTuple):
    """A daemon's answer. `held` are the connections it keeps the way open for, on demand, or to be brought up again; `ends` is
    our end of each where it tells. Of those in `unread` there is a child that could not be read: it said nothing of them. `why`
    is the reason of a silence; `since` when the daemon was started, seconds since boot, 0 where not known."""

    state: str
    why: str = ""
    since: int = 0
    children: tuple[ChildSa, ...] = ()
    held: tuple[str, ...] = ()
    loaded: tuple[str, ...] = ()
    whole: bool = True  # nothing was left out of the answer
    ends: Mapping[str, str] = MappingProxyType({})
    unread: tuple[str, ...] = ()


def silent(why: str, since: int = 0) -> DaemonAnswer:
    """It runs, but says nothing."""
    return DaemonAnswer(SILENT, why, since)


def processes(names: tuple[str, ...]) -> dict[int, int]:
    """The daemons of one of these names in our network namespace, and when each was started, seconds since boot. One whose
    namespace we may not see counts: whoever cannot look must not guess that nobody is there. A child of one is none: between
    fork and exec a hook or script has its daemon's executable."""
    home = os.stat("/proc/self/ns/net").st_ino
    found: dict[int, int] = {}
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            if not is_daemon(f"/proc/{entry}", names):
                continue
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
            if fields[0] not in "ZX" and in_other_netns(int(entry), home) is not True:
                found[int(entry)] = int(fields[19]) // os.sysconf("SC_CLK_TCK")
                parents[int(entry)] = int(fields[1])
        except OSError:
            continue  # it ended meanwhile
    return {pid: since for pid, since in found.items() if parents[pid] not in found}


def is_daemon(place: str, names: tuple[str, ...]) -> bool:
    """Whether the process at `place` below /proc runs an executable of one of these names that root alone could put there, and
    may change the network: a name is anyone's to take. In a user namespace of its own it may, but not in ours. Where only root
    may see the executable, the process's name has to do. Raises OSError where it has ended."""
    try:
        # of one that was replaced by an upgrade under its feet the kernel says so
        name = os.path.basename(os.readlink(f"{place}/exe").removesuffix(" (deleted)"))
        file = os.stat(f"{place}/exe") if name in names else None
        if file and (file.st_uid or file.st_mode & 0o022 or not same_file(f"{place}/ns/user", "/proc/self/ns/user")):
            return False
    except PermissionError:
        with open(f"{place}/comm", encoding="utf-8", errors="replace") as text:
            name = text.read().rstrip("\n")
    if name not in names:
        return False
    with open(f"{place}/status", encoding="utf-8", errors="replace") as text:
        rights = [line.split()[1] for line in text if line.startswith("CapEff:")]
    return bool(rights) and bool(int(rights[0], 16) & CAP_NET_ADMIN)


def same_file(one: str, other: str) -> bool:
    """Whether two names are of one file."""
    return os.path.samestat(os.stat(one), os.stat(other))


def ask_one(names: tuple[str, ...], question: Callable[[int, int], DaemonAnswer]) -> DaemonAnswer:
    """What the process of one of these names answers; `question` is given its number and when it was started. Of several one
    alone can be asked, and its answer is not the whole truth."""
    pids = processes(names)
    if not pids:
        return DaemonAnswer(ABSENT)
    since = max(pids.values())
    if len(pids) > 1:
        listed = ", ".join(str(pid) for pid in sorted(pids))
        return silent(f"{len(pids)} processes of {names[0]} run here ({listed}), and one alone can be asked", since)
    return question(min(pids), since)


def in_other_netns(pid: int, home: int) -> bool:
    """Whether a process is in another network namespace than that with inode `home`; no, where that cannot be seen."""
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino != home
    except PermissionError:
        return False


def end_address(told: object) -> str:
    """A tunnel's end as a daemon tells it, in canonical form; "" where it is no address, as %any is."""
    try:
        return values.address(told) if isinstance(told, str) else ""
    except ValueError:
        return ""


def grouped(each: Iterable[_One], key: Callable[[_One], _Key]) -> dict[_Key, list[_One]]:
    """What has one key, together and in order."""
    found: dict[_Key, list[_One]] = {}
    for one in each:
        found.setdefault(key(one), []).append(one)
    return found
