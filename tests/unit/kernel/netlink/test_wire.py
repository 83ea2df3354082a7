"""Text of addresses, framing and acknowledgements, and bytes that are no message at all."""

import errno
import ipaddress
import struct
from typing import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.kit.pyroute2_messages import quick
from updown.kernel.netlink import link_messages as rt
from updown.kernel.netlink import route_messages as routing
from updown.kernel.netlink import wire
from updown.kernel.netlink.wire import Request
from updown.model.errors import KernelError
from updown.model.objects import Link, Route


@quick
@given(st.integers(0, 2**128 - 1))
@example(0xFFFF01020304)
@example(0x01020304)
@example(0x00010002)
@example(1)
@example(0x20010DB8000000000001000000000001)
@example(0x20010DB8000000010001000100010001)
def test_ipv6_text_is_canonical_on_every_python(number: int) -> None:
    packed = number.to_bytes(16, "big")
    text = wire.unpack_address(packed)
    assert wire.pack_address(text) == packed
    assert "." not in text
    if number >> 32 != 0xFFFF:  # of these, ipaddress 3.13 writes the IPv4 part with dots
        assert text == str(ipaddress.IPv6Address(number))


def test_an_ipv4_mapped_address_stays_hexadecimal() -> None:
    assert wire.canonical("::ffff:1.2.3.4") == "::ffff:102:304"
    assert wire.canonical("::1.2.3.4") == "::102:304"
    assert wire.canonical("::FFFF:0:0") == "::ffff:0:0"


@quick
@given(st.integers(0, 2**32 - 1))
def test_ipv4_text_is_canonical(number: int) -> None:
    assert wire.unpack_address(number.to_bytes(4, "big")) == str(ipaddress.IPv4Address(number))


@pytest.mark.parametrize(
    "bad",
    ["", "x", "1.2.3", "1.2.3.4/24", "1.2.3.4.5", "fe80::1%eth0", "::1::", "1.2.3.4\0", "\u0661.2.3.4", "::\udc80", "01.2.3.4"],
)
def test_what_is_no_address_is_refused(bad: str) -> None:
    for use in (wire.pack_address, wire.canonical, routing.route_match):
        with pytest.raises(KernelError) as caught:
            use(bad)
        assert caught.value.errno == errno.EINVAL
        assert caught.value.text.isascii()
        assert caught.value.text.isprintable()


@pytest.mark.parametrize("bad", ["10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/x", "10.0.0.0/\u0661", "/24"])
def test_what_is_no_prefix_is_refused(bad: str) -> None:
    with pytest.raises(KernelError) as caught:
        rt.address_add(1, bad)
    assert caught.value.errno == errno.EINVAL


def test_a_number_that_does_not_fit_is_refused() -> None:
    for number in (-1, 1 << 32):
        with pytest.raises(KernelError) as caught:
            rt.link_add(Link("vti5", "vti", ikey=number))
        assert caught.value.errno == errno.EINVAL


def test_a_datagram_of_several_messages() -> None:
    data = wire.frame(Request(16, 2, b"abcdef"), 1) + bytes(2) + wire.frame(Request(3, 2, b""), 1)
    assert wire.messages(data) == [wire.Message(16, 2, 1, b"abcdef"), wire.Message(3, 2, 1, b"")]


def acknowledgement(number: int, flags: int, quoted: bytes, attributes: bytes = b"") -> wire.Message:
    return wire.Message(wire.ERROR, flags, 1, struct.pack("=i", number) + quoted + attributes)


REQUEST_QUOTED = wire.frame(Request(16, 5, bytes(20)), 1)
SAID = wire.attribute(2, bytes(4)) + wire.attribute(1, b"Unknown device type\0")


def test_an_acknowledgement_is_no_error() -> None:
    assert wire.answer(acknowledgement(0, 0x100, REQUEST_QUOTED[:16])) == (0, "")


def test_an_error_without_text() -> None:
    assert wire.answer(acknowledgement(-17, 0, REQUEST_QUOTED)) == (17, "")


def test_an_error_with_text_behind_a_quoted_or_a_capped_request() -> None:
    assert wire.answer(acknowledgement(-95, 0x200, REQUEST_QUOTED, SAID)) == (95, "Unknown device type")
    assert wire.answer(acknowledgement(-95, 0x300, REQUEST_QUOTED[:16], SAID)) == (95, "Unknown device type")


def test_the_end_of_a_dump_may_carry_an_error() -> None:
    assert wire.answer(wire.Message(wire.DONE, 2, 1, struct.pack("=i", 0))) == (0, "")
    assert wire.answer(wire.Message(wire.DONE, 2, 1, b"")) == (0, "")
    message = wire.Message(wire.DONE, 0x202, 1, struct.pack("=i", -2) + wire.attribute(1, b"no table\0"))
    assert wire.answer(message) == (2, "no table")


GOOD = [
    rt.link_add(Link("vti5", "vti", 0, "192.0.2.1", "192.0.2.2", 5, 5, 2, mtu=1400)).payload,
    rt.link_add(Link("x5", "xfrm", if_id=5)).payload,
    rt.address_add(5, "fd00::1/64").payload,
    routing.route_add(Route("10.2.0.0/24", "vti5", gateway="fe80::1", source="10.1.0.1", mtu=1400, metric=7), 5).payload,
    wire.frame(rt.link_get("vti5"), 1),
    struct.pack("=i", -17) + REQUEST_QUOTED[:16] + SAID,
]


def read_all(data: bytes) -> None:
    """Everything that decodes, on anything; only KernelError may come out."""
    decoders: list[Callable[[bytes], object]] = [
        rt.decode_link,
        rt.decode_address,
        routing.decode_route,
        wire.messages,
        wire.attributes,
        lambda data: wire.answer(wire.Message(wire.ERROR, 0x200, 1, data)),
        lambda data: wire.answer(wire.Message(wire.ERROR, 0x300, 1, data)),
        lambda data: wire.answer(wire.Message(wire.DONE, 0x200, 1, data)),
    ]
    for decode in decoders:
        try:
            decode(data)
        except KernelError as error:
            assert error.errno == errno.EBADMSG
            assert "malformed" in error.text


@quick
@given(st.binary(max_size=200))
def test_garbage_is_an_error_in_words(data: bytes) -> None:
    read_all(data)


@quick
@given(st.sampled_from(GOOD), st.data())
def test_a_damaged_message_is_an_error_in_words(good: bytes, data: st.DataObject) -> None:
    damaged = bytearray(good[: data.draw(st.integers(0, len(good)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    read_all(bytes(damaged))


@pytest.mark.parametrize("length", [0, 3, 200, 0xFFFF])
def test_an_attribute_of_impossible_length_ends_the_reading(length: int) -> None:
    with pytest.raises(KernelError):
        wire.attributes(struct.pack("=HHI", length, 1, 0))


@pytest.mark.parametrize("length", [0, 15, 0xFFFFFFFF])
def test_a_message_of_impossible_length_ends_the_reading(length: int) -> None:
    with pytest.raises(KernelError):
        wire.messages(struct.pack("=IHHII", length, 2, 0, 1, 0) + bytes(8))
