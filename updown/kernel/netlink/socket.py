"""One netlink socket: a request, its answer, and what the kernel's refusals are called.

Made for a daemon that stands still meanwhile: no pyroute2, no `socket`. A waiting answer is bounded by ANSWER_SECONDS; the
send itself waits for the kernel's locks, which nothing can bound.
Every refusal is a `KernelError`: what was asked, the extended-ack text if there is one, the error; and a hint."""

from __future__ import annotations

import _socket
import errno
import os
import struct

from updown.kernel.netlink import wire
from updown.kernel.netlink.wire import Message, Request
from updown.model.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    _Self = TypeVar("_Self", bound="NetlinkSocket")

ANSWER_SECONDS = 5.0
ATTEMPTS = 5  # of a read whose dump was interrupted or whose answer was lost
BUFFER = 65536  # bytes; the kernel gives at most 32 KiB of a dump at a time

ROUTE = 0  # NETLINK_ROUTE
_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _STRICT_CHECK = 270, 10, 11, 12
_SO_NETNS_COOKIE = 71  # include/uapi/asm-generic/socket.h, Linux 5.14


class _Again(Exception):
    """The answer is incomplete; a read may be repeated."""


class NetlinkSocket:
    """A socket of one netlink protocol, for one thread; a context manager. Opening and reading need no privilege.

    Raises KernelError, here and in every method."""

    def __init__(self, protocol: int = ROUTE) -> None:
        self._sequence = 0
        self._buffer = bytearray(BUFFER)
        try:
            self._socket = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, protocol)
        except OSError as error:
            raise refusal("netlink socket", error.errno or errno.EIO) from None
        self._socket.settimeout(ANSWER_SECONDS)
        for option in (_CAP_ACK, _EXT_ACK, _STRICT_CHECK):
            try:
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
            except OSError:
                continue  # 4.3, 4.12 and 4.20 brought them: short texts and longer dumps without

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; may be repeated."""
        self._socket.close()

    def namespace_cookie(self) -> int | None:
        """The 64-bit number of the socket's network namespace, never used twice in a boot; None before Linux 5.14."""
        try:
            (cookie,) = struct.unpack("=Q", self._socket.getsockopt(_socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))
        except OSError:
            return None
        return int(cookie)

    def _change(self, request: Request, what: str, module: str = "") -> None:
        try:
            self._ask(request, what, module)
        except _Again:
            raise KernelError(f"{what}: the kernel's answer was lost", errno.ENOBUFS, "see if it was done") from None

    def _one(self, request: Request, what: str) -> bytes:
        return self._read(request, what)[0].payload

    def _all(self, request: Request, kind: int, what: str, absent: tuple[int, ...] = ()) -> list[bytes]:
        """The payloads of one kind; none where the kernel refuses with an error of `absent`."""
        try:
            return [message.payload for message in self._read(request, what) if message.type == kind]
        except KernelError as error:
            if error.errno in absent:
                return []
            raise

    def _read(self, request: Request, what: str) -> list[Message]:
        for _ in range(ATTEMPTS):
            try:
                return self._ask(request, what)
            except _Again:
                continue
        raise KernelError(f"{what}: the kernel's answer was incomplete {ATTEMPTS} times", errno.EINTR, "try again")

    def _ask(self, request: Request, what: str, module: str = "") -> list[Message]:
        """Send one request and collect its answer: one message, a dump, or an acknowledgement (then empty)."""
        self._sequence += 1
        # with ACK the bits of DUMP are REPLACE and EXCLUSIVE
        dump = request.flags & (wire.DUMP | wire.ACK) == wire.DUMP
        incomplete = False
        found: list[Message] = []
        try:
            self._socket.send(wire.frame(request, self._sequence))
            while True:
                try:
                    received = self._receive()
                except _Again:
                    if not dump:
                        raise
                    incomplete = True  # to the end all the same: until then the kernel takes no other dump (EBUSY)
                    continue
                for message in received:
                    if message.sequence != self._sequence:
                        continue  # of an earlier request that was given up
                    incomplete = incomplete or bool(message.flags & wire.DUMP_INTERRUPTED)
                    if message.type in (wire.ERROR, wire.DONE):
                        number, text = wire.answer(message)
                        if number:
                            raise refusal(what, number, text, module)
                        if incomplete:
                            raise _Again
                        return found
                    found.append(message)
                    if not dump:
                        return found
        except _socket.timeout:
            raise KernelError(f"{what}: no answer in {ANSWER_SECONDS:g} s", errno.ETIMEDOUT) from None
        except OSError as error:
            raise refusal(what, error.errno or errno.EIO) from None

    def _receive(self) -> list[Message]:
        """The messages of one datagram. Raises _Again if it did not fit, or if one before it was lost."""
        try:
            length, (port, _) = self._socket.recvfrom_into(self._buffer, 0, _socket.MSG_TRUNC)
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise _Again from None
            raise
        if port:
            return []  # not from the kernel
        if length > len(self._buffer):
            self._buffer = bytearray(length)
            raise _Again
        return wire.messages(bytes(memoryview(self._buffer)[:length]))


def refusal(what: str, number: int, text: str = "", module: str = "") -> KernelError:
    """The kernel's answer in words: its own text first, since it is the narrower one."""
    said = f"{text.rstrip('.')}: {os.strerror(number)}" if text else os.strerror(number)
    hint = ""
    if number == errno.EPERM:
        hint = "run as root or with CAP_NET_ADMIN"
    elif number == errno.EOPNOTSUPP and module:
        hint = f"the kernel lacks {module}"
    elif number == errno.EOPNOTSUPP and ":" in what:
        hint = "the kernel has no IPv6 (ipv6.disable=1 on its command line?)"
    return KernelError(f"{what}: {said}", number, hint, extended=bool(text))
