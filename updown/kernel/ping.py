"""ICMP echo through certain devices: one request each, at once, and a short wait for the answers. For `probe` alone.

Raw sockets bound to a device (CAP_NET_RAW), so that neither routes nor rules of others decide the way. A reply counts where
it comes in by the same device, or by the one that the same tunnel receives by, from the address that was asked, and brings back
what was sent."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from updown.kernel import namespace
from updown.model.errors import KernelError
from updown.model.objects import bare, family, netns_of

SECONDS = 1.0  # for all answers together

_HEADER = struct.Struct(">BBHHH")  # type, code, checksum, identifier, sequence number
REQUEST = {4: 8, 6: 128}
REPLY = {4: 0, 6: 129}

Waiting = dict[socket.socket, tuple[str, str, bytes]]


def ping(targets: Mapping[str, str], hearing: Mapping[str, Sequence[str]], wait: float = SECONDS) -> dict[str, str]:
    """By device empty where its far address answered, else why not. `hearing`: by device those that answers may come in by.
    Raises KernelError where nobody may be asked."""
    found = dict.fromkeys(targets, "does not answer")
    waiting: Waiting = {}
    with ExitStack() as opened:
        for device, far in targets.items():
            try:
                token = os.urandom(16)
                for hears in hearing.get(device, [device]):
                    waiting[opened.enter_context(bound(hears, family(far)))] = (device, far, token)
                with bound(device, family(far)) as way:
                    way.sendto(request(family(far), token), (far, 0))
            except PermissionError:
                raise KernelError("probe: raw sockets are not permitted", errno.EPERM, "run as root") from None
            except KernelError as error:
                found[device] = f"cannot be asked ({error.text})"
            except OSError as error:
                found[device] = f"cannot be asked ({os.strerror(error.errno or errno.EIO)})"
        until = time.monotonic() + wait
        while waiting and time.monotonic() < until:
            for channel in select.select(list(waiting), [], [], max(0.0, until - time.monotonic()))[0]:
                device, far, token = waiting[channel]
                if answered(channel, far, token):
                    found[device] = ""
                    waiting = {one: asked for one, asked in waiting.items() if asked[0] != device}
                    break
    return found


def bound(device: str, version: int) -> socket.socket:
    """A raw socket that sends and hears ICMP by this device alone."""
    kind, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if version == 6 else (socket.AF_INET, socket.IPPROTO_ICMP)
    with namespace.inside(netns_of(device)):
        channel = socket.socket(kind, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)
    try:
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, bare(device).encode() + b"\0")
    except BaseException:
        channel.close()
        raise
    return channel


def request(version: int, token: bytes) -> bytes:
    """An echo request that carries `token`; of ICMPv6 the kernel fills in the checksum."""
    numbers = struct.unpack_from(">HH", token)
    unsummed = _HEADER.pack(REQUEST[version], 0, 0, *numbers) + token
    return unsummed if version == 6 else _HEADER.pack(REQUEST[version], 0, checksum(unsummed), *numbers) + token


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def answered(channel: socket.socket, far: str, token: bytes) -> bool:
    """Whether the next packet is the reply."""
    try:
        data, (source, *_) = channel.recvfrom(2048)
    except OSError:
        return False
    body = reply_body(data, family(far))
    return body == token and source.split("%")[0] == far


def reply_body(data: bytes, version: int) -> bytes | None:
    """What an echo reply carries; a raw socket of IPv4 hands the IP header over as well. None for anything else."""
    if version == 4:
        data = data[(data[0] & 0x0F) * 4 :] if len(data) >= 20 else b""
    is_reply = len(data) >= _HEADER.size and data[0] == REPLY[version]
    return data[_HEADER.size :] if is_reply else None
