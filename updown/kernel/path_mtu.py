"""The one SA that a tunnel's packets leave by, and the way its ESP takes: what `mtu = auto` is worked out from.

An event never reads all SAs. libreswan tells the SPI; for strongSwan the kernel gives those between our two ends alone.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from functools import partial

from updown.concerns import device
from updown.concerns.mtu import AH, ESP, TRANSPORT, MtuFacts, Sa
from updown.kernel import sysctl
from updown.kernel.netlink.rtnetlink import Netlink
from updown.kernel.netlink.socket import NetlinkSocket
from updown.kernel.netlink.wire import (
    DUMP,
    REQUEST,
    Attributes,
    Request,
    attribute,
    attributes,
    malformed,
    pack_address,
    u32,
)
from updown.kernel.netlink.xfrm import AF_INET6, GET_STATE, MARK, NETLINK_XFRM, NEW_STATE, decode_state, key_of
from updown.model.claims import sa_info
from updown.model.context import Context
from updown.model.errors import KernelError
from updown.model.ipsec import Key
from updown.model.objects import family, placed
from updown.model.record import NamedTuple
from updown.model.values import AUTO
from updown.settings.file import Line, resolve

AUTH, CRYPT, ENCAP, AEAD, AUTH_TRUNC, ADDRESS_FILTER = 1, 2, 4, 18, 20, 26  # XFRMA_*
SET_MARK, SET_MARK_MASK = 29, 30

_STATE_SIZE = 224  # xfrm_usersa_info
_ADDED, _SELECTED, _MODE, _FLAGS = 176, 40, 214, 216  # offsets in it
_ALIGN4 = 64  # XFRM_STATE_ALIGN4
_ID = struct.Struct("=16s4sHBx")  # xfrm_usersa_id
_FILTER = struct.Struct("=16s16sHBB")  # xfrm_address_filter
_ALGORITHM = struct.Struct("=64sI")  # name, bits of the key; AUTH_TRUNC and AEAD have the ICV's bits next
_ALL = 0xFFFFFFFF
AF_INET = 2


class Outgoing(NamedTuple):
    """An SA with what it is picked by, and the mark its packets get (value, mask)."""

    sa: Sa
    spi: int
    reqid: int
    key: Key
    output_mark: tuple[int, int] = (0, 0)


class UnderlayQuery(NamedTuple):
    """Where a tunnel's ESP goes: to `peer`, outside the device `tunnel`, by `device` where the routes know no other; `mark`: of
    packets before the SA sets its own."""

    peer: str
    device: str
    tunnel: str
    mark: int = 0


def gather(context: Context, lines: tuple[Line, ...], netlink: Netlink) -> MtuFacts | None:
    """What `mtu = auto` needs; None where it is not asked for, or where there is no child SA. Raises Refused."""
    if not (context.verb.makes and context.child):
        return None
    if not any(line.key == "mtu" and line.value == AUTO for line in lines):
        return None
    found = device.request_device(sa_info(context), partial(resolve, lines, context.connection))
    settings = resolve(lines, context.connection, found.name or "")
    if found.name is None or settings.mtu != AUTO:
        return None
    try:
        outgoing = outgoing_sa(context)
    except KernelError as error:
        return MtuFacts(why=f"its SA: {error.text}{'; ' + error.hint if error.hint else ''}")
    if outgoing is None:
        return MtuFacts(why="its SA: the kernel shows none")
    vti = found.kind == "vti" and not found.by_daemon
    mark = context.mark_out.value if context.mark_out and vti else 0
    way = UnderlayQuery(
        context.peer, context.underlay or "", placed(found.name, "" if found.by_daemon else settings.netns), mark
    )
    return mtu_facts(outgoing, way, vti or context.compressed or context.connection_type == "tunnel", netlink)


def mtu_facts(outgoing: Outgoing, way: UnderlayQuery, tunnel: bool, netlink: Netlink) -> MtuFacts:
    """What the sum needs. `tunnel`: an SA in transport mode stands below IPComp in tunnel mode."""
    sa = outgoing.sa._replace(compressed=True) if tunnel and outgoing.sa.mode == TRANSPORT else outgoing.sa
    value, mask = outgoing.output_mark
    mtu, name = underlay(way._replace(mark=(way.mark & ~mask) | value), netlink)
    return MtuFacts(sa, mtu, name, "" if mtu else f"the way to the peer {way.peer}: there is none outside of it")


def underlay(way: UnderlayQuery, netlink: Netlink) -> tuple[int, str]:
    """The MTU of the way to the peer, and its device: the route's metric, else the device's MTU; 0 without a way."""
    seen = netlink.match(way.peer, mark=way.mark).route
    link = netlink.link_at(seen.oif) if seen and seen.oif else None
    if seen and not seen.oif:  # several ways at once
        path = netlink.path(way.peer)
        link = netlink.link(path.device) if path else None
    if link is None or link.name == way.tunnel:
        link = netlink.link(way.device) if way.device else None
        seen = netlink.match(way.peer, link.ifindex).route if link else None
    if link is None or seen is None:
        return 0, ""
    if seen.mtu:
        return seen.mtu, f"{link.name} (route)"
    least = sysctl.read(f"net/ipv6/conf/{link.name}/mtu") if family(way.peer) == 6 else None
    return min(link.mtu, int(least) if least and least.isdigit() else link.mtu, 0xFFFF), link.name


def outgoing_sa(context: Context) -> Outgoing | None:
    """The newest SA from us to the peer that is this tunnel's. Raises KernelError."""
    with States() as states:
        if context.spi_out:
            mark = context.mark_out.value if context.mark_out else 0
            found = states.with_spi(context.peer, context.spi_out, AH if context.sa_type == "AH" else ESP, mark)
        else:
            found = states.vti_between(context.me, context.peer)
    return newest(of_tunnel(context, found))


class States(NetlinkSocket):
    """A NETLINK_XFRM socket that asks for few SAs. Raises KernelError, here and in every method."""

    def __init__(self) -> None:
        super().__init__(NETLINK_XFRM)

    def with_spi(self, destination: str, spi: int, protocol: int, mark: int) -> list[Outgoing]:
        """The SA that `destination` receives by, if there is one. `mark` has to fit the SA's own."""
        packed = pack_address(destination)
        payload = _ID.pack(packed, spi.to_bytes(4, "big"), family_of(packed), protocol)
        payload += attribute(MARK, struct.pack("=II", mark, _ALL)) if mark else b""
        try:
            return [decode(self._one(Request(GET_STATE, REQUEST, payload), "XFRM state"))]
        except KernelError as error:
            if error.errno == errno.ESRCH:
                return []
            raise

    def everything(self) -> dict[tuple[str, int], Outgoing]:
        """All ESP and AH SAs, by destination and SPI."""
        payloads = self._all(Request(GET_STATE, REQUEST | DUMP, b""), NEW_STATE, "XFRM states")
        found = [(decode_state(one).destination, decode(one)) for one in payloads]
        return {(destination, one.spi): one for destination, one in found if one.sa.protocol in (ESP, AH)}

    def vti_between(self, source: str, destination: str) -> list[Outgoing]:
        """The SAs from one address to the other: a dump that the kernel filters."""
        ends = pack_address(source), pack_address(destination)
        bits = len(ends[0]) * 8
        chosen = attribute(ADDRESS_FILTER, _FILTER.pack(*ends, family_of(ends[0]), bits, bits))
        return [decode(one) for one in self._all(Request(GET_STATE, REQUEST | DUMP, chosen), NEW_STATE, "XFRM states")]


def family_of(packed: bytes) -> int:
    """AF_* of a packed address."""
    return AF_INET6 if len(packed) == 16 else AF_INET


def of_tunnel(context: Context, found: Iterable[Outgoing]) -> list[Outgoing]:
    """Those of this tunnel, by what the daemon told: reqid, mark and if_id, where the SA has them."""
    mark = context.mark_out.value if context.mark_out else 0
    return [
        one
        for one in found
        if one.spi
        and one.sa.protocol in (ESP, AH)
        and (not one.key.mask or mark & one.key.mask == one.key.mark)
        and (context.spi_out or (context.reqid in (0, one.reqid) and one.key.if_id == context.if_id_out))
    ]


def newest(found: list[Outgoing]) -> Outgoing | None:
    """The SA added last; of one second the first, since the kernel lists new ones first (xfrm_state_insert)."""
    return max(found, key=lambda one: one.sa.added, default=None)


def decode(payload: bytes) -> Outgoing:
    """An SA from xfrm_usersa_info and its attributes. Raises KernelError (EBADMSG)."""
    state = decode_state(payload)
    found = attributes(payload, _STATE_SIZE)
    cipher, icv = "", 0
    if AEAD in found:
        cipher, icv = algorithm(found, AEAD)
    elif CRYPT in found or AUTH_TRUNC in found:
        cipher = algorithm(found, CRYPT)[0] if CRYPT in found else ""
        icv = algorithm(found, AUTH_TRUNC)[1] if AUTH_TRUNC in found else 0
    (family,) = struct.unpack_from("=H", payload, 212)
    (selected,) = struct.unpack_from("=H", payload, _SELECTED)
    sa = Sa(
        state.protocol,
        payload[_MODE],
        6 if family == AF_INET6 else 4,
        cipher,
        icv,
        struct.unpack_from("=H", found[ENCAP])[0] if len(found.get(ENCAP, b"")) >= 2 else 0,
        6 if selected == AF_INET6 else 4,
        bool(payload[_FLAGS] & _ALIGN4),
        added=struct.unpack_from("=Q", payload, _ADDED)[0],
    )
    value = u32(found, SET_MARK)
    return Outgoing(sa, state.spi, state.reqid, key_of(found), (value, mask_of(found) if value else 0))


def mask_of(found: Attributes) -> int:
    """Which bits of the mark an SA sets: all, where it does not say."""
    return u32(found, SET_MARK_MASK) if SET_MARK_MASK in found else _ALL


def algorithm(found: Attributes, kind: int) -> tuple[str, int]:
    """Name and ICV, in bytes, of an algorithm; CRYPT has no ICV."""
    value = found[kind]
    if len(value) < _ALGORITHM.size + (0 if kind == CRYPT else 4):
        raise malformed("XFRM algorithm")
    name = value[:64].split(b"\0", 1)[0].decode("ascii", "replace")
    return name, 0 if kind == CRYPT else struct.unpack_from("=I", value, _ALGORITHM.size)[0] // 8
