"""XFRM dumps are read from hand-made bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.xfrm_bytes import mark, policy, selector, state, template
from updown.kernel.netlink.wire import attribute, attribute_u32
from updown.kernel.netlink.xfrm import decode_policy, decode_state, direction_of
from updown.model.errors import KernelError
from updown.model.ipsec import Key, Policy, Sa, State


def test_a_policy_of_a_vti() -> None:
    packed = policy(1, b"", attribute(5, template()), mark(5))
    assert decode_policy(packed) == Policy(
        "out",
        "10.1.0.0/24",
        "10.2.0.0/24",
        reqids=(16389,),
        ends=(("198.51.100.1", "198.51.100.2"),),
        key=Key(5, 0xFFFFFFFF, 0),
    )


def test_a_policy_with_ports_ipv6_two_templates_and_an_if_id() -> None:
    chosen = selector("fd00:1::/64", "fd00:2::/64", 6, (0, 443))
    ends = ("2001:db8::1", "2001:db8::2")
    templates = template(*ends, reqid=1) + template(*ends, reqid=2)
    found = decode_policy(policy(2, chosen, attribute(5, templates), attribute_u32(31, 0xFFFFFFF7)))
    assert found == Policy("fwd", "fd00:1::/64", "fd00:2::/64", 6, 0, 443, (1, 2), (ends, ends), Key(0, 0, 0xFFFFFFF7))


def test_a_policy_without_template_or_mark() -> None:
    assert decode_policy(policy(0)) == Policy("in", "10.1.0.0/24", "10.2.0.0/24")


def test_a_mark_is_its_masked_value() -> None:
    assert decode_policy(policy(1, b"", mark(0x1FF, 0xFF))).key == Key(0xFF, 0xFF)


def test_states() -> None:
    assert decode_state(state()) == State("198.51.100.1", "198.51.100.2", 0xDD642581, 16389, Sa(50, 1, 4))
    ends = ("2001:db8::1", "2001:db8::2")
    assert decode_state(state(*ends, mark(7), attribute_u32(31, 9))) == State(
        *ends, spi=0xDD642581, reqid=16389, sa=Sa(50, 1, 6), key=Key(7, 0xFFFFFFFF, 9)
    )


def test_a_port_is_its_masked_value() -> None:
    """A range of ports comes as a port and a mask: what the mask leaves open is any."""
    chosen = bytearray(selector(protocol=6, ports=(1024, 443)))
    chosen[34:36] = chosen[38:40] = b"\0\0"
    found = decode_policy(policy(1, bytes(chosen)))
    assert (found.protocol, found.source_port, found.destination_port) == (6, 0, 0)


def test_a_socket_s_policy_is_known_by_its_direction() -> None:
    assert [direction_of(policy(number)) for number in range(5)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "packed", [policy()[:167], policy(3), policy(1, b"", attribute(5, template()[:60])), policy(1, b"", attribute(21, b"1234"))]
)
def test_malformed_policies_are_refused(packed: bytes) -> None:
    with pytest.raises(KernelError, match="malformed"):
        decode_policy(packed)


@given(st.binary(max_size=400))
@settings(deadline=None, max_examples=100, database=None)
def test_whatever_the_bytes_only_a_kernel_error_is_raised(data: bytes) -> None:
    for decode in (decode_policy, decode_state):
        try:
            decode(data)
        except KernelError:
            continue
