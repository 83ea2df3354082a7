"""The kernel's XFRM database: all IPsec policies and states of this network namespace, for `reconcile` alone.

pyroute2 has no XFRM. Layouts: include/uapi/linux/xfrm.h. Reading needs CAP_NET_ADMIN. Whatever the bytes, a decoder raises
only `KernelError` (EBADMSG).
"""

from __future__ import annotations

import struct

from updown.kernel.netlink.socket import NetlinkSocket
from updown.kernel.netlink.wire import DUMP, REQUEST, Attributes, Request, attributes, malformed, u32, unpack_address
from updown.model.ipsec import Database, Key, Policy, State

NETLINK_XFRM = 6
NEW_STATE, GET_STATE, NEW_POLICY, GET_POLICY = 16, 18, 19, 21
TEMPLATES, MARK, IF_ID = 5, 21, 31  # XFRMA_TMPL, XFRMA_MARK, XFRMA_IF_ID

DIRECTIONS = ("in", "out", "fwd")
AF_INET6 = 10

_SELECTOR = struct.Struct("=16s16s")  # xfrm_selector, 56 bytes: both addresses, then the next two
_PORTS = struct.Struct(">HHHH")  # destination port and mask, source port and mask
_MATCH = struct.Struct("=HBBB")  # family, prefix lengths of destination and source, protocol
_STATE_SIZE = 224  # xfrm_usersa_info
_POLICY_SIZE = 168  # xfrm_userpolicy_info
_TEMPLATE_SIZE = 64  # xfrm_user_tmpl
_MARKS = struct.Struct("=II")


class Xfrm(NetlinkSocket):
    """A NETLINK_XFRM socket. Raises KernelError, here and in every method."""

    def __init__(self) -> None:
        super().__init__(NETLINK_XFRM)

    def states(self) -> list[State]:
        """A dump of all states."""
        payloads = self._all(Request(GET_STATE, REQUEST | DUMP, b""), NEW_STATE, "XFRM states")
        return [decode_state(payload) for payload in payloads]

    def policies(self) -> list[Policy]:
        """A dump of all policies, without those of single sockets, such as an IKE daemon's own."""
        payloads = self._all(Request(GET_POLICY, REQUEST | DUMP, b""), NEW_POLICY, "XFRM policies")
        return [decode_policy(payload) for payload in payloads if direction_of(payload) < len(DIRECTIONS)]

    def database(self) -> Database:
        """Policies and states, read one after the other."""
        return Database(tuple(self.policies()), tuple(self.states()))


def direction_of(payload: bytes) -> int:
    """The direction byte of a policy; 3 and more are those of sockets."""
    if len(payload) < _POLICY_SIZE:
        raise malformed("XFRM policy")
    return payload[160]


def decode_policy(payload: bytes) -> Policy:
    """A policy from xfrm_userpolicy_info and its attributes."""
    direction = direction_of(payload)
    found = attributes(payload, _POLICY_SIZE)
    templates = found.get(TEMPLATES, b"")
    if len(templates) % _TEMPLATE_SIZE or direction >= len(DIRECTIONS):
        raise malformed("XFRM policy")
    parts = [templates[at : at + _TEMPLATE_SIZE] for at in range(0, len(templates), _TEMPLATE_SIZE)]
    family, to_length, from_length, protocol = _MATCH.unpack_from(payload, 40)
    to, to_mask, source, source_mask = _PORTS.unpack_from(payload, 32)
    destination_address, source_address = _SELECTOR.unpack_from(payload)
    return Policy(
        DIRECTIONS[direction],
        f"{address(source_address, family)}/{from_length}",
        f"{address(destination_address, family)}/{to_length}",
        protocol,
        source & source_mask,
        to & to_mask,
        tuple(struct.unpack_from("=I", part, 44)[0] for part in parts),
        tuple(
            (address(part[28:44], template_family(part)), address(part[:16], template_family(part))) for part in parts
        ),
        key_of(found),
    )


def decode_state(payload: bytes) -> State:
    """A state from xfrm_usersa_info and its attributes."""
    if len(payload) < _STATE_SIZE:
        raise malformed("XFRM state")
    (family,) = struct.unpack_from("=H", payload, 212)
    (spi,) = struct.unpack_from(">I", payload, 72)
    (reqid,) = struct.unpack_from("=I", payload, 208)
    return State(
        address(payload[80:96], family),
        address(payload[56:72], family),
        spi,
        reqid,
        protocol=payload[76],
        mode=payload[214],
        key=key_of(attributes(payload, _STATE_SIZE)),
    )


def template_family(part: bytes) -> int:
    """The family of a template's ends."""
    family: int = struct.unpack_from("=H", part, 24)[0]
    return family


def address(packed: bytes, family: int) -> str:
    """An xfrm_address_t as text: 16 bytes, of which IPv4 uses the first four."""
    return unpack_address(packed if family == AF_INET6 else packed[:4])


def key_of(found: Attributes) -> Key:
    """Mark and if_id of a policy or state."""
    value = found.get(MARK)
    if value is not None and len(value) != _MARKS.size:
        raise malformed("XFRM mark")
    mark, mask = _MARKS.unpack(value) if value is not None else (0, 0)
    return Key(mark & mask, mask, u32(found, IF_ID))
