"""What the kernel tells of an SA, from hand-made bytes, and which SA counts."""

import struct
from typing import Optional

import pytest

from tests.kit.charon import Child, charon_call
from tests.kit.machine import EAST, WEST
from tests.kit.outgoing_sa import CBC, GCM
from tests.kit.xfrm_bytes import state as xfrm_state
from updown import daemons
from updown.concerns.mtu import ESP, TUNNEL
from updown.kernel.netlink.wire import attribute, attribute_u32
from updown.kernel.netlink.xfrm import decode_state
from updown.kernel.path_mtu import newest, of_tunnel
from updown.model.errors import KernelError
from updown.model.ipsec import Key, Sa, State


def algorithm(name: str, key_bits: int, bits: Optional[int] = None) -> bytes:
    size = b"" if bits is None else struct.pack("=I", bits)
    return name.encode().ljust(64, b"\0") + struct.pack("=I", key_bits) + size + b"\x11" * (key_bits // 8)


AEAD = attribute(18, algorithm("rfc4106(gcm(aes))", 160, 128))
HMAC = attribute(2, algorithm("cbc(aes)", 128)) + attribute(20, algorithm("hmac(sha256)", 256, 128))
IN_UDP = attribute(4, struct.pack("=HHH2x16x", 2, 4500, 4500))


def test_algorithms_are_read() -> None:
    assert decode_state(xfrm_state() + AEAD).sa == GCM
    assert decode_state(xfrm_state() + HMAC).sa == CBC
    assert decode_state(xfrm_state() + HMAC + IN_UDP).sa == CBC._replace(encapsulation=2)
    assert decode_state(xfrm_state()).sa == Sa(ESP, TUNNEL, 4)


def test_the_mark_that_an_sa_sets_is_read() -> None:
    assert decode_state(xfrm_state() + AEAD).output_mark == (0, 0)
    assert decode_state(xfrm_state() + AEAD + attribute_u32(29, 7)).output_mark == (7, 0xFFFFFFFF)
    assert decode_state(xfrm_state() + AEAD + attribute_u32(29, 7) + attribute_u32(30, 0xFF)).output_mark == (7, 0xFF)


@pytest.mark.parametrize("kind", [2, 18, 20])
def test_a_short_algorithm_is_refused(kind: int) -> None:
    with pytest.raises(KernelError):
        decode_state(xfrm_state() + attribute(kind, b"cbc(aes)".ljust(64, b"\0")))


def outgoing(spi: int, added: int = 0, reqid: int = 1, key: Key = Key(), protocol: int = ESP) -> State:  # noqa: B008
    return State(WEST, EAST, spi, reqid, GCM._replace(added=added, protocol=protocol), key)


def test_an_sa_is_picked_by_what_the_daemon_told() -> None:
    child = Child(mark_in="5/0xffffffff", mark_out="5/0xffffffff")
    context = daemons.read(charon_call(child, "up"))
    ours = [outgoing(1, key=Key(5, 0xFFFFFFFF)), outgoing(2)]
    others = [
        outgoing(3, reqid=2),
        outgoing(4, key=Key(6, 0xFFFFFFFF)),
        outgoing(5, key=Key(if_id=9)),
        outgoing(0),
        outgoing(6, protocol=108),
    ]
    assert of_tunnel(context, [*others, *ours]) == ours
    by_if_id = daemons.read(charon_call(Child(mark_in="", mark_out="", if_id_in="9", if_id_out="9"), "up"))
    assert [one.spi for one in of_tunnel(by_if_id, [*others, *ours])] == [5]


def test_the_newest_counts_and_of_one_second_the_first_listed() -> None:
    assert newest([]) is None
    found = newest([outgoing(1, 5), outgoing(2, 9), outgoing(3, 9)])
    assert found is not None
    assert found.spi == 2
