"""Netlink framing: messages and attributes as bytes, and addresses as text. No I/O.

Written by ourselves because `import pyroute2` costs 110 to 150 ms, and the daemon stands still meanwhile.
Layouts: include/uapi/linux/netlink.h. Whatever the bytes, a decoder raises only `KernelError` (EBADMSG)."""

from __future__ import annotations

import _socket
import errno
import struct
import sys

from updown.model.errors import KernelError
from updown.model.record import NamedTuple

REQUEST, ACK, DUMP_INTERRUPTED = 0x1, 0x4, 0x10
DUMP = 0x300
REPLACE, EXCLUSIVE, CREATE = 0x100, 0x200, 0x400
CAPPED, ACK_ATTRIBUTES = 0x100, 0x200  # of an answer: the request is not quoted; extended-ack attributes follow

ERROR, DONE = 2, 3  # NLMSG_ERROR, NLMSG_DONE

AF_INET, AF_INET6 = 2, 10

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type
_STATUS = struct.Struct("=i")
_TYPE = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_EXTENDED_TEXT = 1  # NLMSGERR_ATTR_MSG

Attributes = dict[int, bytes]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Order = Literal["little", "big"]


class Request(NamedTuple):
    """A request without its sequence number: message type, NLM_F_* flags, family header and attributes."""

    type: int
    flags: int
    payload: bytes


class Message(NamedTuple):
    """One message of an answer."""

    type: int
    flags: int
    sequence: int
    payload: bytes


def frame(request: Request, sequence: int) -> bytes:
    """The request as the kernel wants it; port 0 lets the kernel fill in ours."""
    length = _HEADER.size + len(request.payload)
    return _HEADER.pack(length, request.type, request.flags, sequence, 0) + request.payload


def messages(data: bytes) -> list[Message]:
    """The messages of one datagram. Raises KernelError where one does not fit into it."""
    found = []
    position = 0
    while len(data) - position >= _HEADER.size:
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, position)
        if length < _HEADER.size or position + length > len(data):
            raise malformed("message")
        found.append(Message(kind, flags, sequence, data[position + _HEADER.size : position + length]))
        position += _aligned(length)
    if position < len(data):
        raise malformed("message header")
    return found


def answer(message: Message) -> tuple[int, str]:
    """Error number (0: acknowledged) and extended-ack text of an NLMSG_ERROR or NLMSG_DONE message."""
    payload = message.payload
    if len(payload) < 4:
        if message.type == DONE:
            return 0, ""
        raise malformed("acknowledgement")
    number = abs(_STATUS.unpack_from(payload)[0])
    if not message.flags & ACK_ATTRIBUTES:
        return number, ""
    start = 4
    if message.type == ERROR:
        quoted = u32({0: payload[4:8]}, 0)
        start += _HEADER.size if message.flags & CAPPED else _aligned(quoted)
    return number, text(attributes(payload, start), _EXTENDED_TEXT)


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def malformed(what: str) -> KernelError:
    """The error of every decoder."""
    return KernelError(f"netlink: malformed {what} from the kernel", errno.EBADMSG)


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    length = _ATTRIBUTE.size + len(value)
    if length > 0xFFFF:
        raise KernelError(f"netlink: value of attribute {kind} is too long", errno.EMSGSIZE)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length & 3)


def attribute_u32(kind: int, value: int, order: Order = sys.byteorder) -> bytes:
    """A 32-bit attribute; the keys of tunnels are in network order, "big". Raises KernelError (EINVAL) out of range."""
    try:
        return attribute(kind, value.to_bytes(4, order))
    except OverflowError:
        raise KernelError(f"netlink: {value} does not fit into 32 bits", errno.EINVAL) from None


def given_u32(kind: int, value: int) -> bytes:
    """The same, but nothing for 0."""
    return attribute_u32(kind, value) if value else b""


def attribute_text(kind: int, value: str) -> bytes:
    """A zero-terminated string; bytes that are not UTF-8 travel as surrogates."""
    return attribute(kind, value.encode("utf-8", "surrogateescape") + b"\0")


def attributes(data: bytes, start: int = 0) -> Attributes:
    """The attributes from `start` to the end, the last of each type. Raises KernelError where one does not fit."""
    found = {}
    position = start
    while len(data) - position >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data, position)
        if length < _ATTRIBUTE.size or position + length > len(data):
            raise malformed("attribute")
        found[kind & _TYPE] = data[position + _ATTRIBUTE.size : position + length]
        position += _aligned(length)
    return found


def u32(found: Attributes, kind: int, order: Order = sys.byteorder) -> int:
    """A 32-bit attribute; 0 where absent."""
    value = found.get(kind, bytes(4))
    if len(value) != 4:
        raise malformed(f"number (attribute {kind})")
    return int.from_bytes(value, order)


def text(found: Attributes, kind: int) -> str:
    """A string attribute, with or without its terminator; empty where absent."""
    return found.get(kind, b"").split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def address(found: Attributes, kind: int) -> str:
    """An address attribute of 4 or 16 bytes as canonical text; empty where absent."""
    return unpack_address(found[kind]) if kind in found else ""


def pack_address(value: str) -> bytes:
    """4 or 16 bytes of an address in any accepted form, without zone or prefix length; raises KernelError (EINVAL)."""
    try:
        return _socket.inet_pton(AF_INET6 if ":" in value else AF_INET, value)
    except (OSError, ValueError):
        raise KernelError(f"{value[:60]!a} is not an IP address", errno.EINVAL) from None


def family_of(packed: bytes) -> int:
    """AF_* of a packed address."""
    return AF_INET6 if len(packed) == 16 else AF_INET


def unpack_address(value: bytes) -> str:
    """Canonical text of 4 or 16 bytes: what `ipaddress` of Python < 3.13 gives, on every Python. glibc's inet_ntop writes
    ::ffff:1.2.3.4 and ::1.2.3.4; ipaddress writes ::ffff:102:304 (from 3.13: the former) and ::102:304. One text per address is
    what counts, so the last 32 bits are always in hexadecimal."""
    if len(value) == 4:
        return _socket.inet_ntop(AF_INET, value)
    if len(value) != 16:
        raise malformed("address")
    canonical = _socket.inet_ntop(AF_INET6, value)
    if "." not in canonical:
        return canonical
    head = canonical[: canonical.rindex(":") + 1]
    return f"{head}{int.from_bytes(value[12:14], 'big'):x}:{int.from_bytes(value[14:], 'big'):x}"


def canonical(value: str) -> str:
    """The one text of an address that the decoders give too. Raises KernelError (EINVAL)."""
    return unpack_address(pack_address(value))


def split_prefix(value: str) -> tuple[bytes, int]:
    """Packed address and prefix length of `10.2.0.0/24`; without a length it is a single host. Host bits stay: the kernel
    refuses them in routes and wants them in addresses. Raises KernelError (EINVAL)."""
    host, slash, length = value.partition("/")
    packed = pack_address(host)
    if not slash:
        return packed, len(packed) * 8
    if not (length.isascii() and length.isdigit() and len(length) <= 3 and int(length) <= len(packed) * 8):
        raise KernelError(f"{value[:60]!a} is not an IP prefix", errno.EINVAL)
    return packed, int(length)
