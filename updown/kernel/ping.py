"""ICMP echo through devices: one request from each source, all at once, and a short wait for answers. For `probe` alone.

Raw sockets (CAP_NET_RAW): one that is bound to a device while it sends by it, so that neither routes nor rules of others decide
the way, and one that hears for all, so that thousands of devices take no more descriptors than one. A reply counts where it
comes in by the same device, or by the one that the same tunnel receives by, from the address that was asked, and brings back
what was sent."""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from updown.kernel import namespace
from updown.model.errors import KernelError
from updown.model.objects import bare, family, netns_of
from updown.model.record import NamedTuple

SECONDS = 1.0  # for all answers together
BURST = 32  # requests after which answers are taken in
PAUSE = 5  # milliseconds that no burst follows another before, where nothing comes in: a slow uplink has a short queue
SOCKETS = 4  # of one place at most

_HEADER = struct.Struct(">BBHHH")  # type, code, checksum, identifier, sequence number
_HEADER6 = struct.Struct(">IHBB16s16s")  # version, payload length, next header, hop limit, source, destination
REQUEST = {4: 8, 6: 128}
REPLY = {4: 0, 6: 129}
_KIND = {4: (socket.AF_INET, socket.IPPROTO_ICMP), 6: (socket.AF_INET6, socket.IPPROTO_ICMPV6)}
_RAW, _FILTER = 255, 1  # SOL_RAW, ICMP_FILTER and ICMPV6_FILTER: a bit for each type that is not wanted
_ALL = 0xFFFFFFFF
_NOTHING = {4: struct.pack("=I", _ALL), 6: struct.pack("=8I", *[_ALL] * 8)}
_REPLIES = {4: struct.pack("=I", _ALL - 1), 6: struct.pack("=8I", *[_ALL] * 4, _ALL - 2, *[_ALL] * 3)}
_PACKET_INFO = {4: (socket.IPPROTO_IP, 8), 6: (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)}  # IP_PKTINFO
_RECEIVE_INFO = {4: 8, 6: socket.IPV6_RECVPKTINFO}
_BUFFER_FORCE, _BUFFER = 33, 1 << 22  # SO_RCVBUFFORCE, bytes
_IPV6_FRAMES = 0x86DD  # ETH_P_IPV6

_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH)


class Question(NamedTuple):
    """Whom to ask: `far`, through `device`, from each of `sources`; answers may come in by `hears`. `vrf`: the device's."""

    device: str
    far: str
    sources: tuple[str, ...]
    hears: tuple[str, ...]
    vrf: str = ""


class Answer(NamedTuple):
    """What came of it: it was heard, or not; or why it could not be asked (`trouble`), and what to do about that (`mend`)."""

    heard: bool = False
    trouble: str = ""
    mend: str = ""


Place = tuple[str, int, str]
"""Where one pair of sockets does for all: the network namespace, the family, and the VRF."""


def ping(questions: Sequence[Question], wait: float = SECONDS) -> list[Answer]:
    """The answer to each question. Raises KernelError where nobody may be asked."""
    found = [Answer()] * len(questions)
    places: dict[Place, list[int]] = {}
    for number, asked in enumerate(questions):
        places.setdefault((netns_of(asked.device), family(asked.far), asked.vrf), []).append(number)
    names = list(places)
    size = max(1, free_descriptors() // SOCKETS)
    for start in range(0, len(names), size):
        with ExitStack() as opened:
            calls: list[Call] = []
            for place in names[start : start + size]:
                try:
                    calls.append(Call(place, opened))
                except PermissionError:
                    raise KernelError("probe: raw sockets are not permitted", errno.EPERM, "run as root") from None
                except (KernelError, OSError) as error:
                    for number in places[place]:
                        found[number] = trouble(error, questions[number])
                    continue
                for number in places[place]:
                    found[number] = calls[-1].ask(number, questions[number])
                    if number % BURST == BURST - 1:
                        take_in(calls, found, PAUSE)
            until = time.monotonic() + wait
            while any(call.waiting for call in calls) and time.monotonic() < until:
                take_in(calls, found, max(1, int((until - time.monotonic()) * 1000)))
    return found


def free_descriptors() -> int:
    """How many more descriptors this process may open, but for a few."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1024 if most == resource.RLIM_INFINITY else int(most) - len(os.listdir("/proc/self/fd")) - SOCKETS


def take_in(calls: Sequence[Call], found: list[Answer], milliseconds: int) -> None:
    """Note the answers that are there, or that come first within this time."""
    by_number = {call.hearing.fileno(): call for call in calls}
    poll = select.poll()
    for number in by_number:
        poll.register(number, select.POLLIN)
    for number, _ in poll.poll(milliseconds):
        for answered in by_number[number].heard():
            found[answered] = Answer(heard=True)


class Call:
    """The sockets of one place, and who is waited for there."""

    def __init__(self, place: Place, opened: ExitStack) -> None:
        self.netns, self.family, self.vrf = place
        kind, protocol = _KIND[self.family]
        self.waiting: dict[bytes, tuple[int, str, set[int]]] = {}  # by what was sent: whose it is, from whom, by which devices
        with namespace.inside(self.netns):
            self.sending = opened.enter_context(socket.socket(kind, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol))
            self.hearing = opened.enter_context(socket.socket(kind, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol))
            # for IPv6 without a route
            self.routed = opened.enter_context(socket.socket(kind, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC))
            self.whole = opened.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0))
        level = _RAW if self.family == 4 else protocol
        self.sending.settimeout(SECONDS / 10)
        self.sending.setsockopt(level, _FILTER, _NOTHING[self.family])
        self.hearing.setblocking(False)
        self.hearing.setsockopt(level, _FILTER, _REPLIES[self.family])
        self.hearing.setsockopt(_PACKET_INFO[self.family][0], _RECEIVE_INFO[self.family], 1)
        with suppress(OSError):  # without CAP_NET_ADMIN it is as large as it is
            self.hearing.setsockopt(socket.SOL_SOCKET, _BUFFER_FORCE, _BUFFER)
        if self.vrf:
            bind(self.hearing, self.vrf)
            bind(self.routed, self.vrf)

    def ask(self, number: int, asked: Question) -> Answer:
        """Send the requests of a question; why none could be sent, if so."""
        token = os.urandom(16)
        failed: OSError | None = None
        try:
            bind(self.sending, bare(asked.device))
            with namespace.inside(self.netns):
                hears = {socket.if_nametoindex(bare(name)) for name in (*asked.hears, asked.vrf) if name}
        except (KernelError, OSError) as error:
            return trouble(error, asked)
        for source in asked.sources:
            try:
                self.send(asked, source, token)
                self.waiting[token] = number, asked.far, hears
            except OSError as error:
                failed = error
        return trouble(failed, asked) if failed and token not in self.waiting else Answer()

    def send(self, asked: Question, source: str, token: bytes) -> None:
        """One request. Without a route by the device the kernel takes an IPv4 address as beside it, but sends nothing of IPv6:
        so that withdrawn routes can come back, such a packet is given to the device as it is, and a tunnel sends it where there
        is any route (net/ipv6/ip6_vti.c, net/xfrm/xfrm_interface_core.c, Linux 5.5). Raises OSError."""
        packed = socket.inet_pton(_KIND[self.family][0], source)
        info = struct.pack("=i4s4x", 0, packed) if self.family == 4 else packed + bytes(4)
        try:
            self.sending.sendmsg([request(self.family, token)], [(*_PACKET_INFO[self.family], info)], 0, (asked.far, 0))
        except OSError as error:
            if self.family == 4 or error.errno not in _NO_WAY:
                raise
            self.routed.connect((asked.far, 9))  # no packet is sent by this; it fails without a route
            self.whole.sendto(packet6(source, asked.far, token), (bare(asked.device), _IPV6_FRAMES))

    def heard(self) -> list[int]:
        """Whose answers have come; those are waited for no more."""
        found: list[int] = []
        while True:
            try:
                data, told, _, (source, *_) = self.hearing.recvmsg(2048, 64)
            except OSError:
                return found
            body = reply_body(data, self.family)
            number, far, hears = self.waiting.get(body or b"", (0, "", set[int]()))
            if source.split("%")[0] == far and arrived_by(self.family, told) in hears:
                del self.waiting[body or b""]
                found.append(number)


def bind(channel: socket.socket, device: str) -> None:
    """Send and hear by this device alone, and no more by the one before."""
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")


def arrived_by(version: int, told: Sequence[tuple[int, int, bytes]]) -> int:
    """The index of the device that a packet came in by."""
    for level, kind, data in told:
        if (level, kind) == _PACKET_INFO[version]:
            return int(struct.unpack_from("=i", data, 0 if version == 4 else 16)[0])
    return 0


def trouble(error: KernelError | OSError, asked: Question) -> Answer:
    """Why a question could not be sent, and the next step."""
    device = bare(asked.device)
    if isinstance(error, KernelError):
        return Answer(False, error.text, error.hint or "the next run tries again")
    number = errno.ENOBUFS if isinstance(error, socket.timeout) else error.errno or errno.ENODEV  # if_nametoindex has none
    mends = {
        errno.EPERM: f"let ICMP echo requests out by {device} (nft list ruleset, iptables-save)",
        errno.ENETDOWN: f"ip link set {device} up",
        errno.ENODEV: "`vti-updown reconcile` makes it anew",
        errno.EMFILE: "raise LimitNOFILE= of its unit (ulimit -n)",
        **dict.fromkeys(_NO_WAY, f"no route by {device} leads there: give it an `address` beside {asked.far}, or a `route`"),
    }
    mends[errno.EACCES], mends[errno.ENXIO] = mends[errno.EPERM], mends[errno.ENODEV]
    return Answer(False, os.strerror(number), mends.get(number, "the next run tries again"))


def request(version: int, token: bytes, pseudo: bytes = b"") -> bytes:
    """An echo request that carries `token`; of ICMPv6 the kernel fills in the checksum, unless there is a pseudo-header."""
    numbers = struct.unpack_from(">HH", token)
    unsummed = _HEADER.pack(REQUEST[version], 0, 0, *numbers) + token
    if version == 6 and not pseudo:
        return unsummed
    return _HEADER.pack(REQUEST[version], 0, checksum(pseudo + unsummed), *numbers) + token


def packet6(source: str, far: str, token: bytes) -> bytes:
    """A whole packet of IPv6 with an echo request."""
    ends = [socket.inet_pton(socket.AF_INET6, end) for end in (source, far)]
    size = _HEADER.size + len(token)
    pseudo = b"".join(ends) + struct.pack(">II", size, socket.IPPROTO_ICMPV6)
    return _HEADER6.pack(6 << 28, size, socket.IPPROTO_ICMPV6, 64, *ends) + request(6, token, pseudo)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def reply_body(data: bytes, version: int) -> bytes | None:
    """What an echo reply carries; a raw socket of IPv4 hands the IP header over as well. None for anything else."""
    if version == 4:
        data = data[(data[0] & 0x0F) * 4 :] if len(data) >= 20 else b""
    is_reply = len(data) >= _HEADER.size and data[0] == REPLY[version]
    return data[_HEADER.size :] if is_reply else None
