"""XFRM messages as hand-made bytes: include/uapi/linux/xfrm.h written down a second time, field by field."""

from __future__ import annotations

import socket
import struct

from updown.kernel.netlink.wire import attribute

V4 = socket.AF_INET
V6 = socket.AF_INET6


def xfrm_address(text: str) -> bytes:
    return socket.inet_pton(V6 if ":" in text else V4, text).ljust(16, b"\0")


def selector(
    source: str = "10.1.0.0/24", destination: str = "10.2.0.0/24", protocol: int = 0, ports: tuple[int, int] = (0, 0)
) -> bytes:
    (to, to_length), (come, come_length) = destination.split("/"), source.split("/")
    source_port, destination_port = ports
    masks = [0xFFFF if port else 0 for port in (destination_port, source_port)]
    packed = xfrm_address(to) + xfrm_address(come)
    packed += struct.pack(">HHHH", destination_port, masks[0], source_port, masks[1])
    packed += struct.pack(
        "=HBBB3xiI", V6 if ":" in to else V4, int(to_length), int(come_length), protocol, 0, 0
    )  # family, lengths, protocol, ifindex, user
    assert len(packed) == 56
    return packed


def template(source: str = "198.51.100.1", destination: str = "198.51.100.2", reqid: int = 16389) -> bytes:
    family = V6 if ":" in source else V4
    packed = xfrm_address(destination) + struct.pack(">IB3x", 0, 50) + struct.pack("=H2x", family)
    packed += xfrm_address(source) + struct.pack("=IBBBxIII", reqid, 1, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    assert len(packed) == 64
    return packed


def policy(direction: int = 1, chosen: bytes = b"", *attributes: bytes) -> bytes:
    packed = (chosen or selector()) + bytes(64) + bytes(32) + struct.pack("=IIBBBB4x", 1757393, 8, direction, 0, 0, 0)
    assert len(packed) == 168
    return packed + b"".join(attributes)


def state(source: str = "198.51.100.1", destination: str = "198.51.100.2", *attributes: bytes) -> bytes:
    family = V6 if ":" in source else V4
    packed = bytes(56) + xfrm_address(destination) + struct.pack(">IB3x", 0xDD642581, 50) + xfrm_address(source)
    packed += bytes(64) + bytes(32) + bytes(12) + struct.pack("=IIHBBB7x", 3, 16389, family, 1, 0, 0)
    assert len(packed) == 224
    return packed + b"".join(attributes)


def mark(value: int, mask: int = 0xFFFFFFFF) -> bytes:
    return attribute(21, struct.pack("=II", value, mask))
