"""Echo requests and replies as bytes."""

from __future__ import annotations

import struct

import pytest

from updown.kernel import ping


def test_a_request_of_ipv4_has_a_checksum_that_adds_up() -> None:
    token = bytes(range(16))
    data = ping.request(4, token)
    assert data[:2] == b"\x08\x00"
    total = sum(struct.unpack(">12H", data))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF
    assert ping.request(6, token)[:4] == b"\x80\x00\x00\x00"


IP = b"\x46" + bytes(23)  # a header with one word of options


@pytest.mark.parametrize(
    ("data", "version", "body"),
    [
        (IP + b"\0\0\0\0\0\0\0\0" + b"token", 4, b"token"),
        (b"\x45" + bytes(19) + b"\0\0\0\0\0\0\0\0", 4, b""),
        (b"\x81\0\0\0\0\0\0\0" + b"token", 6, b"token"),
        (IP + b"\x08\0\0\0\0\0\0\0" + b"token", 4, None),
        (b"\x80\0\0\0\0\0\0\0" + b"token", 6, None),
        (IP, 4, None),
        (b"", 4, None),
        (b"", 6, None),
        (b"\x4f" + bytes(20), 4, None),
    ],
)
def test_what_a_reply_brings_back(data: bytes, version: int, body: bytes | None) -> None:
    assert ping.reply_body(data, version) == body
