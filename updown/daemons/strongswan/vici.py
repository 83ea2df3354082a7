"""What a running charon says is up: list-sas over its vici socket, without blocking.

Packets: strongSwan's src/libcharon/plugins/vici/README.md. A packet is its length (32 bits, big-endian) and a type byte; with
requests, events and their registration a name; then comes a message (vici_message.py).

`noblock` leaves out every IKE SA that charon is at work with in that moment. Therefore an answer proves that a tunnel is up;
that it is not, only where `stats` counts no more IKE SAs than were listed: the caller asks several times."""

from __future__ import annotations

import _socket
import errno
import os
import struct
import time
from collections.abc import Callable, Mapping

from updown.daemons import answer
from updown.daemons.answer import ChildSa, DaemonAnswer, end_address
from updown.daemons.strongswan.vici_message import Message, Silence, key_value, parse, short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    _Given = TypeVar("_Given")
    _Got = TypeVar("_Got")

DAEMON = "strongswan"
SOCKETS = ("/run/charon.vici", "/var/run/charon.vici")
PROCESSES = ("charon", "charon-systemd")

REQUEST, RESPONSE, UNKNOWN, REGISTER, _, CONFIRM, EVENT_UNKNOWN, EVENT = range(8)
DIGITS = 10  # of the largest number of 32 bits
LONGEST = 512 * 1024  # bytes of a packet, vici's own limit
MOST = 32 * 1024 * 1024  # bytes of all packets of a session


def ask() -> DaemonAnswer:
    """What charon says is up; bounded by ANSWER_SECONDS."""
    return answer.ask_one(PROCESSES, lambda _, since: ask_charon(since))


def ask_charon(since: int) -> DaemonAnswer:
    """What the charon says that listens at one of SOCKETS."""
    for path in SOCKETS:
        try:
            with Session(path) as session:
                sections = session.listed("list-sas", "list-sa", {"noblock": "yes"})
                whole = session.ike_sas() == sum(len(sections_of(section)) for section in sections)
            children = [child for section in sections for child in children_in(section)]
            return DaemonAnswer(answer.ANSWERED, "", since, tuple(children), whole=whole)
        except FileNotFoundError:
            continue
        except (OSError, Silence) as error:
            return answer.silent(f"{path}: {getattr(error, 'strerror', None) or error}", since)
    return answer.silent(f"{SOCKETS[0]} is not there (is the vici plugin loaded?)", since)


class Session:
    """A connection to vici. Raises OSError or Silence, here and in every method; all of it takes ANSWER_SECONDS, and reads MOST
    bytes, at most."""

    def __init__(self, path: str, seconds: float = answer.ANSWER_SECONDS) -> None:
        self._end = time.monotonic() + seconds
        self._seconds = seconds
        self._received = 0
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            self._within(self._socket.connect, path)
            pid = struct.unpack("=iII", self._socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12))[0]
            self._check(pid)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def listed(self, command: str, event: str, message: Mapping[str, str]) -> list[Message]:
        """The messages that a command streams as events."""
        self._send(REGISTER, event, b"")
        if self._receive()[0] != CONFIRM:
            raise Silence(f"charon has no event {event}")
        self._send(REQUEST, command, b"".join(key_value(name, value) for name, value in message.items()))
        found: list[Message] = []
        while True:
            kind, received = self._receive()
            if kind == EVENT:
                found.append(parse(received))
            elif kind == RESPONSE:
                said = parse(received)
                if said.get("success", "yes") != "yes":
                    raise Silence(f"{command}: {text_of(said, 'errmsg') or 'refused'}")
                return found
            else:
                raise Silence(f"charon does not know {command}")

    def ike_sas(self) -> int:
        """How many IKE SAs charon has, those it is at work with included; -1 where it does not tell."""
        try:
            self._send(REQUEST, "stats", b"")
            kind, received = self._receive()
            told = parse(received).get("ikesas") if kind == RESPONSE else None
        except (OSError, Silence):
            return -1
        return number(told.get("total")) if isinstance(told, dict) else -1

    def _check(self, pid: int) -> None:
        """The socket is a file and may be shared: another network namespace's charon says nothing of ours."""
        try:
            foreign = answer.in_other_netns(pid, os.stat("/proc/self/ns/net").st_ino)
        except FileNotFoundError:
            return  # the process that made the socket need not be the one that serves it
        if foreign:
            raise Silence(f"its charon, process {pid}, is in another network namespace")

    def _within(self, action: Callable[[_Given], _Got], given: _Given) -> _Got:
        """Let the socket do something in the time that is left."""
        left = self._end - time.monotonic()
        try:
            if left > 0:
                self._socket.settimeout(left)
                return action(given)
        except _socket.timeout:
            left = 0
        raise Silence(f"no answer in {self._seconds:g} s")

    def _send(self, kind: int, name: str, message: bytes) -> None:
        packet = bytes([kind]) + short(name) + message
        self._within(self._socket.sendall, struct.pack(">I", len(packet)) + packet)

    def _receive(self) -> tuple[int, bytes]:
        """A packet's type and message, without the name that an event has between them."""
        (length,) = struct.unpack(">I", self._bytes(4))
        if not 0 < length <= LONGEST:
            raise Silence(f"a packet of {length} bytes")
        self._received += length
        if self._received > MOST:
            raise Silence(f"it sent more than {MOST} bytes")
        data = self._bytes(length)
        if data[0] != EVENT:
            return data[0], data[1:]
        end = 2 + data[1] if length > 1 else length + 1
        if end > length:
            raise Silence("a malformed event")
        return EVENT, data[end:]

    def _bytes(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._within(self._socket.recv, count - len(data))
            if not more:
                raise OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
            data += more
        return data


UP = ("INSTALLED", "REKEYING", "REKEYED", "UPDATING")
"""States of a child whose policies are in place. REKEYED has a successor, and none of its own `down`; it counts no harm."""


def children_in(section: Message) -> list[ChildSa]:
    """The children of one list-sa event: {IKE connection: {..., child-sas: {NAME-ID: {...}}}}."""
    return [
        child_of(sa, child)
        for sa in sections_of(section)
        for child in sections_of(sa.get("child-sas"))
        if child.get("state") in UP and text_of(child, "name")
    ]


def child_of(sa: Message, child: Message) -> ChildSa:
    """One child; SPIs, marks and if_ids are hexadecimal without 0x, everything else decimal."""
    names = ("mark_in", "mark_out", "if_id_in", "if_id_out")
    keys: dict[str, Any] = {name: number(child.get(name.replace("_", "-")), 16) for name in names}
    return ChildSa(
        DAEMON,
        text_of(child, "name"),
        end_address(sa.get("local-host")),
        end_address(sa.get("remote-host")),
        number(child.get("spi-in"), 16),
        number(child.get("spi-out"), 16),
        number(child.get("reqid")),
        number(sa.get("uniqueid")),
        **keys,
        remote_ts=networks(child.get("remote-ts")),
        ids=(text_of(sa, "local-id"), text_of(sa, "remote-id")),
        wants_device=any(keys.values()),
    )


def sections_of(value: object) -> tuple[Message, ...]:
    """The sections inside a section."""
    return tuple(inner for inner in value.values() if isinstance(inner, dict)) if isinstance(value, dict) else ()


def networks(value: object) -> tuple[str, ...]:
    """The networks of selectors such as `10.3.0.0/24[tcp/443]`."""
    return tuple(item.split("[")[0] for item in value) if isinstance(value, list) else ()


def text_of(section: Message, name: str) -> str:
    """The text of this name in a section; empty where there is none, or something else."""
    found = section.get(name)
    return found if isinstance(found, str) else ""


def number(value: object, base: int = 10) -> int:
    """A number of 32 bits in a message; 0 for none."""
    try:
        found = int(value, base) if isinstance(value, str) and value.isalnum() and len(value) <= DIGITS else 0
    except ValueError:
        return 0
    return found if found < 1 << 32 else 0
