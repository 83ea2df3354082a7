"""The kernel's XFRM database: IPsec policies and states of this network namespace.

An event reads a few states, `reconcile` and `check` everything. pyroute2 has no XFRM. Layouts: include/uapi/linux/xfrm.h.
Reading needs CAP_NET_ADMIN. Whatever the bytes, a decoder raises only `KernelError` (EBADMSG)."""

from __future__ import annotations

import errno
import struct

from updown.kernel.netlink import wire
from updown.kernel.netlink.socket import NetlinkSocket
from updown.kernel.netlink.wire import Attributes, Request, attribute, malformed, u32
from updown.model.ipsec import Database, Key, Policy, Sa, State

NETLINK_XFRM = 6
NEW_STATE, GET_STATE, NEW_POLICY, GET_POLICY = 16, 18, 19, 21
CRYPT, ENCAP, TEMPLATES, AEAD, AUTH_TRUNC, MARK = 2, 4, 5, 18, 20, 21  # XFRMA_*
ADDRESS_FILTER, SET_MARK, SET_MARK_MASK, IF_ID = 26, 29, 30, 31

DIRECTIONS = ("in", "out", "fwd")

_POLICY = struct.Struct("=16s16s8xHBBB115xB7x")  # xfrm_userpolicy_info, which begins with its selector
_PORTS, _PORTS_AT = struct.Struct(">HHHH"), 32  # of the selector: destination port and mask, source port and mask
_TEMPLATE = struct.Struct("=16s8xH2x16sI16x")  # xfrm_user_tmpl
_STATE = struct.Struct("=40xH14x16s4sB3x16s80xQ24xIHBxB7x")  # xfrm_usersa_info, with its selector's family
_ALIGN4 = 64  # XFRM_STATE_ALIGN4
_ALL = 0xFFFFFFFF
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
        ends = wire.pack_address(source), wire.pack_address(destination)
        bits = len(ends[0]) * 8
        return self._states(attribute(ADDRESS_FILTER, _FILTER.pack(*ends, wire.family_of(ends[0]), bits, bits)))

    def with_spi(self, destination: str, spi: int, protocol: int, mark: int) -> list[State]:
        """The state that `destination` receives by, if there is one. `mark` has to fit the state's own."""
        packed = wire.pack_address(destination)
        payload = _ID.pack(packed, spi.to_bytes(4, "big"), wire.family_of(packed), protocol)
        payload += attribute(MARK, _MARKS.pack(mark, _ALL)) if mark else b""
        found = self._all(Request(GET_STATE, wire.REQUEST, payload), NEW_STATE, "XFRM state", (errno.ESRCH,))
        return [decode_state(state) for state in found]

    def policies(self) -> list[Policy]:
        """A dump of all policies, without those of single sockets, such as an IKE daemon's own."""
        payloads = self._all(Request(GET_POLICY, wire.REQUEST | wire.DUMP, b""), NEW_POLICY, "XFRM policies")
        return [decode_policy(payload) for payload in payloads if direction_of(payload) < len(DIRECTIONS)]

    def database(self) -> Database:
        """Policies and states, read one after the other."""
        return Database(tuple(self.policies()), tuple(self.states()))

    def _states(self, chosen: bytes) -> list[State]:
        payloads = self._all(Request(GET_STATE, wire.REQUEST | wire.DUMP, chosen), NEW_STATE, "XFRM states")
        return [decode_state(payload) for payload in payloads]


def direction_of(payload: bytes) -> int:
    """The direction byte of a policy; 3 and more are those of sockets."""
    if len(payload) < _POLICY.size:
        raise malformed("XFRM policy")
    return payload[160]


def decode_policy(payload: bytes) -> Policy:
    """A policy from xfrm_userpolicy_info and its attributes."""
    direction = direction_of(payload)
    found = wire.attributes(payload, _POLICY.size)
    templates = found.get(TEMPLATES, b"")
    if len(templates) % _TEMPLATE.size or direction >= len(DIRECTIONS):
        raise malformed("XFRM policy")
    parts = list(_TEMPLATE.iter_unpack(templates))
    destination, source, family, to_length, from_length, protocol, _ = _POLICY.unpack_from(payload)
    to_port, to_mask, from_port, from_mask = _PORTS.unpack_from(payload, _PORTS_AT)
    return Policy(
        DIRECTIONS[direction],
        f"{address(source, family)}/{from_length}",
        f"{address(destination, family)}/{to_length}",
        protocol,
        from_port & from_mask,
        to_port & to_mask,
        tuple(reqid for *_, reqid in parts),
        tuple((address(ours, family), address(theirs, family)) for theirs, family, ours, _ in parts),
        key_of(found),
    )


def decode_state(payload: bytes) -> State:
    """A state from xfrm_usersa_info and its attributes."""
    if len(payload) < _STATE.size:
        raise malformed("XFRM state")
    found = wire.attributes(payload, _STATE.size)
    selected, destination, spi, protocol, source, added, reqid, family, mode, flags = _STATE.unpack_from(payload)
    encapsulation = struct.unpack_from("=H", found[ENCAP])[0] if len(found.get(ENCAP, b"")) >= 2 else 0
    outer, inner = (6 if number == wire.AF_INET6 else 4 for number in (family, selected))
    sa = Sa(protocol, mode, outer, *algorithms(found), encapsulation, inner, bool(flags & _ALIGN4), added=added)
    ends = address(source, family), address(destination, family)
    return State(*ends, int.from_bytes(spi, "big"), reqid, sa, key_of(found), output_mark(found))


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


def address(packed: bytes, family: int) -> str:
    """An xfrm_address_t as text: 16 bytes, of which IPv4 uses the first four."""
    return wire.unpack_address(packed if family == wire.AF_INET6 else packed[:4])


def key_of(found: Attributes) -> Key:
    """Mark and if_id of a policy or state."""
    value = found.get(MARK)
    if value is not None and len(value) != _MARKS.size:
        raise malformed("XFRM mark")
    mark, mask = _MARKS.unpack(value) if value is not None else (0, 0)
    return Key(mark & mask, mask, u32(found, IF_ID))
