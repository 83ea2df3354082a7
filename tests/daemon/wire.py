"""What crosses the wire between the nodes: frames counted where they enter the bridge, by what they are."""

from __future__ import annotations

import ctypes
import ipaddress
import os
import socket
import struct
import threading
from dataclasses import dataclass, replace

CLONE_NEWNET = 0x40000000
ETH_P_ALL = 0x0003
SO_RCVBUFFORCE = 33
SOL_PACKET = 263
PACKET_STATISTICS = 6
ESP, UDP, TCP, ICMP, ICMP6, FRAGMENT = 50, 17, 6, 1, 58, 44
SYN, MAXIMUM_SEGMENT = 2, 2
ICMP_ERRORS = {ICMP: (3, 4, 5, 11), ICMP6: (1, 2, 3, 4)}
NEIGHBOURS = (130, 131, 132, 133, 134, 135, 136, 137, 143)
PORT_PREFIX = "p-"


@dataclass(frozen=True)
class Frame:
    """kind: esp, ike, link (neighbour discovery, multicast), error (ICMP errors), clear (everything else). `size`: of the IP
    packet, in bytes; `mss`: what a SYN says; `node`: who sent it into the bridge."""

    kind: str
    source: str
    destination: str
    protocol: int
    size: int = 0
    fragment: bool = False
    mss: int = 0
    node: str = ""


@dataclass(frozen=True)
class Seen:
    frames: tuple[Frame, ...]

    @property
    def esp(self) -> int:
        return sum(frame.kind == "esp" for frame in self.frames)

    @property
    def fragments(self) -> list[Frame]:
        return [frame for frame in self.frames if frame.fragment]

    @property
    def ike(self) -> int:
        return sum(frame.kind == "ike" for frame in self.frames)

    @property
    def clear(self) -> list[Frame]:
        return [frame for frame in self.frames if frame.kind == "clear"]


class Wire:
    """Listens in the namespace of the bridge, which is that of process `pid`."""

    def __init__(self, pid: int) -> None:
        self._socket = _socket_inside(pid)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 * 2**20)
        self._socket.setblocking(False)

    def seen(self) -> Seen:
        """Everything since the last call."""
        frames: list[Frame] = []
        while True:
            try:
                data, (port, protocol, direction, *_) = self._socket.recvfrom(256)
            except BlockingIOError:
                break
            if port.startswith(PORT_PREFIX) and direction != socket.PACKET_OUTGOING:
                frame = parse(protocol, data[14:])
                if frame:
                    frames.append(replace(frame, node=port[len(PORT_PREFIX) :]))
        _, lost = struct.unpack("II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        assert lost == 0, f"{lost} frames were not counted: look at the wire more often"
        return Seen(tuple(frames))

    def close(self) -> None:
        self._socket.close()


def parse(protocol: int, packet: bytes) -> Frame | None:
    """The frame behind an Ethernet header; None where it is no IP."""
    if protocol == 0x0800:
        header = (packet[0] & 15) * 4
        source, destination, inner = packet[12:16], packet[16:20], packet[9]
        place = struct.unpack("!H", packet[6:8])[0]
        first, fragment = not place & 0x1FFF, bool(place & 0x3FFF)
        (size,) = struct.unpack("!H", packet[2:4])
    elif protocol == 0x86DD:
        header, source, destination, inner, first = 40, packet[8:24], packet[24:40], packet[6], True
        size, fragment = 40 + struct.unpack("!H", packet[4:6])[0], False
        while inner in (0, 43, 60, FRAGMENT):
            if inner == FRAGMENT:
                first, fragment = not struct.unpack("!H", packet[header + 2 : header + 4])[0] >> 3, True
            length = 8 if inner == FRAGMENT else packet[header + 1] * 8 + 8
            inner, header = packet[header], header + length
    else:
        return None
    ends = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    kind = _kind(inner, packet[header:] if first else b"")
    if ends[1].is_multicast or ends[0].is_link_local:
        kind = "link"
    mss = _mss(packet[header:]) if inner == TCP and first else 0
    return Frame(kind, str(ends[0]), str(ends[1]), inner, size, fragment, mss)


def _mss(segment: bytes) -> int:
    """What a SYN says of the largest segment; 0 for any other segment."""
    if len(segment) < 20 or not segment[13] & SYN:
        return 0
    options = segment[20 : (segment[12] >> 4) * 4]
    while options and options[0]:
        if options[0] == MAXIMUM_SEGMENT:
            return int(struct.unpack("!H", options[2:4])[0])
        options = options[1 if options[0] == 1 else options[1] :]
    return 0


def _kind(protocol: int, payload: bytes) -> str:
    if protocol == ESP:
        return "esp"
    if protocol == UDP and len(payload) >= 8:
        ports = struct.unpack("!HH", payload[:4])
        if 500 in ports:
            return "ike"
        if 4500 in ports:  # NAT traversal: IKE has four zero bytes where ESP has its SPI, a keepalive is one byte
            return "ike" if payload[8:12] == bytes(4) or len(payload) == 9 else "esp"
    if protocol == ICMP6 and payload[:1] and payload[0] in NEIGHBOURS:
        return "link"
    if payload[:1] and payload[0] in ICMP_ERRORS.get(protocol, ()):
        return "error"
    return "clear"


def _socket_inside(pid: int) -> socket.socket:
    """A socket that belongs to another network namespace: a thread goes there, makes it and ends."""
    made: list[socket.socket] = []

    def make() -> None:
        with open(f"/proc/{pid}/ns/net") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"cannot enter the namespace of {pid}: " + os.strerror(ctypes.get_errno()))
        made.append(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]
