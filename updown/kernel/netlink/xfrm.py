"""The kernel's XFRM database: IPsec policies and states of this network namespace.

An event reads a few states, `reconcile` and `check` everything. pyroute2 has no XFRM. Layouts: include/uapi/linux/xfrm.h.
Reading needs CAP_NET_ADMIN. Whatever the bytes, a decoder raises only `KernelError` (EBADMSG).
"""

from __future__ import annotations

import errno
import struct

from updown.kernel.netlink.socket import NetlinkSocket
from updown.kernel.netlink.wire import (
    AF_INET6,
    DUMP,
    REQUEST,
    Attributes,
    Request,
    attribute,
    attributes,
    family_of,
    malformed,
    pack_address,
    u32,
    unpack_address,
)
from updown.model.errors import KernelError
from updown.model.ipsec import Database, Key, Policy, Sa, State

NETLINK_XFRM = 6
NEW_STATE, GET_STATE, NEW_POLICY, GET_POLICY = 16, 18, 19, 21
CRYPT, ENCAP, TEMPLATES, AEAD, AUTH_TRUNC, MARK = 2, 4, 5, 18, 20, 21  # XFRMA_*
ADDRESS_FILTER, SET_MARK, SET_MARK_MASK, IF_ID = 26, 29, 30, 31

DIRECTIONS = ("in", "out", "fwd")

_SELECTOR = struct.Struct("=16s16s")  # xfrm_selector, 56 bytes: both addresses, then the next two
_PORTS = struct.Struct(">HHHH")  # destination port and mask, source port and mask
_MATCH = struct.Struct("=HBBB")  # family, prefix lengths of destination and source, protocol
_STATE_SIZE = 224  # xfrm_usersa_info
_ALIGN4 = 64  # XFRM_STATE_ALIGN4
_ALL = 0xFFFFFFFF
_POLICY_SIZE = 168  # xfrm_userpolicy_info
_TEMPLATE_SIZE = 64  # xfrm_user_tmpl
_MARKS = struct.Struct("=II")
_ID = struct.Struct("=16s4sHBx")  # xfrm_usersa_id
_FILTER = struct.Struct("=16s16sHBB")  # xfrm_address_filter
_ALGORITHM_SIZE = 68  # name, bits of the key; AUTH_TRUNC and AEAD have the ICV's bits next


class Xfrm(NetlinkSocket):
    """A NETLINK_XFRM socket. Raises KernelError, here and in every method."""

    def __init__(self) -> None:
        super().__init__(NETLINK_XFRM)

    def states(self) -> list[State]:
        """A dump of all states."""
        return self._states(b"")

    def between(self, source: str, destination: str) -> list[State]:
        """The states from one address to the other: a dump that the kernel filters."""
        ends = pack_address(source), pack_address(destination)
        bits = len(ends[0]) * 8
        return self._states(attribute(ADDRESS_FILTER, _FILTER.pack(*ends, family_of(ends[0]), bits, bits)))

    def with_spi(self, destination: str, spi: int, protocol: int, mark: int) -> list[State]:
        """The state that `destination` receives by, if there is one. `mark` has to fit the state's own."""
        packed = pack_address(destination)
        payload = _ID.pack(packed, spi.to_bytes(4, "big"), family_of(packed), protocol)
        payload += attribute(MARK, _MARKS.pack(mark, _ALL)) if mark else b""
        try:
            return [decode_state(self._one(Request(GET_STATE, REQUEST, payload), "XFRM state"))]
        except KernelError as error:
            if error.errno == errno.ESRCH:
                return []
            raise

    def policies(self) -> list[Policy]:
        """A dump of all policies, without those of single sockets, such as an IKE daemon's own."""
        payloads = self._all(Request(GET_POLICY, REQUEST | DUMP, b""), NEW_POLICY, "XFRM policies")
        return [decode_policy(payload) for payload in payloads if direction_of(payload) < len(DIRECTIONS)]

    def database(self) -> Database:
        """Policies and states, read one after the other."""
        return Database(tuple(self.policies()), tuple(self.states()))

    def _states(self, chosen: bytes) -> list[State]:
        payloads = self._all(Request(GET_STATE, REQUEST | DUMP, chosen), NEW_STATE, "XFRM states")
        return [decode_state(payload) for payload in payloads]


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
    found = attributes(payload, _STATE_SIZE)
    reqid, family, mode, _, flags = struct.unpack_from("=IHBBB", payload, 208)
    (selected,) = struct.unpack_from("=H", payload, 40)
    cipher, icv = algorithms(found)
    sa = Sa(
        payload[76],
        mode,
        6 if family == AF_INET6 else 4,
        cipher,
        icv,
        struct.unpack_from("=H", found[ENCAP])[0] if len(found.get(ENCAP, b"")) >= 2 else 0,
        6 if selected == AF_INET6 else 4,
        bool(flags & _ALIGN4),
        added=struct.unpack_from("=Q", payload, 176)[0],
    )
    return State(
        address(payload[80:96], family),
        address(payload[56:72], family),
        int.from_bytes(payload[72:76], "big"),
        reqid,
        sa,
        key_of(found),
        output_mark(found),
    )


def algorithms(found: Attributes) -> tuple[str, int]:
    """The cipher of a state, and the bytes of its ICV."""
    if AEAD in found:
        return algorithm(found, AEAD)
    return algorithm(found, CRYPT)[0], algorithm(found, AUTH_TRUNC)[1]


def algorithm(found: Attributes, kind: int) -> tuple[str, int]:
    """Name and ICV, in bytes, of an algorithm; CRYPT has no ICV. Nothing where absent."""
    value = found.get(kind)
    if value is None:
        return "", 0
    if len(value) < _ALGORITHM_SIZE + (0 if kind == CRYPT else 4):
        raise malformed("XFRM algorithm")
    name = value[:64].split(b"\0", 1)[0].decode("ascii", "replace")
    return name, 0 if kind == CRYPT else struct.unpack_from("=I", value, _ALGORITHM_SIZE)[0] // 8


def output_mark(found: Attributes) -> tuple[int, int]:
    """The mark that a state sets, and which bits of it: all, where it does not say."""
    value = u32(found, SET_MARK)
    mask = u32(found, SET_MARK_MASK) if SET_MARK_MASK in found else _ALL
    return (value, mask) if value else (0, 0)


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
