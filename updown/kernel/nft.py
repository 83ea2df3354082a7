"""The one place that speaks to nft: tables of ours, in the text of concerns/mss.py, without a shell.

What is done is one transaction of the kernel's. What is there is read as JSON. Nobody else's tables are touched."""

from __future__ import annotations

import errno
import os

from updown.concerns import mss
from updown.kernel import namespace
from updown.model.errors import KernelError
from updown.model.objects import netns_of, placed
from updown.model.record import Any, NamedTuple, loads
from updown.model.resources import Clamp
from updown.model.values import escaped

Object = dict[str, Any]

PLACES = ("/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/usr/local/sbin/nft")
ANSWER_SECONDS = 5.0
MISSING = "install the package nftables; until then TCP may send segments that do not fit"


class Answer(NamedTuple):
    """What one call of nft printed."""

    status: int
    out: bytes
    error: str


def put_table(clamp: Clamp) -> None:
    """Make the table of a device, in place of one that is there. Raises KernelError."""
    change(mss.replacement(clamp), f"table inet {mss.table(clamp.device)}", netns_of(clamp.device))


def delete_table(device: str) -> None:
    """Delete the table of a device, which is there. Raises KernelError."""
    change(mss.deletion(device), mss.deletion(device), netns_of(device))


def read_table(device: str) -> Clamp | None:
    """The table of a device as it is; None where there is none, no namespace, or no nft to tell."""
    netns = netns_of(device)
    if netns and not namespace.exists(netns):
        return None
    said = nft("-j", "list", "table", "inet", mss.table(device), netns=netns)
    if said is None or said.status:
        return None
    found = objects(said.out)
    chains = [thing["chain"] for thing in found if "chain" in thing]
    hooked = [(chain.get("name"), chain.get("hook"), chain.get("prio")) for chain in chains]
    if hooked != [(mss.CHAIN, mss.CHAIN, mss.PRIORITY)]:
        return Clamp(device, -1)
    return mss.clamp_of(device, [str(thing["rule"].get("comment")) for thing in found if "rule" in thing])


def clamped_devices(netns: str = "") -> list[str]:
    """The devices for which there is a table of ours in a namespace; none where nft is missing."""
    said = nft("-j", "list", "tables", "inet", netns=netns)
    if said is None or said.status:
        return []
    names = [str(thing["table"].get("name")) for thing in objects(said.out) if "table" in thing]
    found = [mss.device_of_table(name) for name in names]
    return [placed(device, netns) for device in found if device is not None]


def objects(out: bytes) -> list[Object]:
    """What nft listed; nothing where it is not what we know."""
    try:
        found = loads(out.decode("utf-8", "replace").strip())["nftables"]
    except (ValueError, KeyError, TypeError):
        return []
    return [thing for thing in found if isinstance(thing, dict)] if isinstance(found, list) else []


def change(text: str, what: str, netns: str) -> None:
    """Carry out what the text says, all or none. Raises KernelError: ENOENT without nft, else EINVAL with what it said."""
    said = nft("-f", "-", text=text.encode(), netns=netns)
    if said is None:
        raise KernelError(f"nft {what}: there is no nft", errno.ENOENT, MISSING)
    if said.status:
        why = escaped(" ".join(said.error.split()), 200) or f"it ended with status {said.status}"
        hint = "the kernel's nf_tables or the package nftables may be missing or too old"
        raise KernelError(f"nft {what}: {why}", errno.EINVAL, hint)


def nft(*words: str, text: bytes = b"", netns: str = "") -> Answer | None:
    """Run nft in a network namespace, else in that of this process; None where there is no nft. Raises KernelError for the
    namespace."""
    from updown.daemons import program  # few events come here

    place = next((place for place in PLACES if os.access(place, os.X_OK)), None)
    if place is None:
        return None
    given, pipes = os.memfd_create("given"), [*os.pipe(), *os.pipe()]
    out, writer, errors, complaining = pipes
    try:
        os.write(given, text)
        os.lseek(given, 0, os.SEEK_SET)
        actions = [(os.POSIX_SPAWN_DUP2, given, 0), (os.POSIX_SPAWN_DUP2, writer, 1), (os.POSIX_SPAWN_DUP2, complaining, 2)]
        try:
            with namespace.inside(netns):
                child = os.posix_spawn(place, ["nft", *words], {"LC_ALL": "C"}, file_actions=actions)
        except OSError as error:
            return Answer(-1, b"", f"{place}: {error.strerror}")
        for end in (writer, complaining):
            os.close(end)
            pipes.remove(end)
        (printed, complaint), why = program.read_all((out, errors), ANSWER_SECONDS)
        status = program.reap(child, 0 if why else ANSWER_SECONDS)
        if why or status is None:
            return Answer(-1, b"", why or f"it did not end in {ANSWER_SECONDS:g} s")
        return Answer(status, printed, complaint[:4096].decode("utf-8", "replace"))
    finally:
        for descriptor in (given, *pipes):
            os.close(descriptor)
