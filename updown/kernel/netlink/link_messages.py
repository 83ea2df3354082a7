"""rtnetlink requests and answers: links and addresses as the bytes of their messages. No I/O.

Layouts and numbers: include/uapi/linux/if_link.h, if_addr.h, if_tunnel.h, rtnetlink.h. Functions that take text
raise `KernelError` (EINVAL) for text that is no address, decoders raise it (EBADMSG) for bytes that are no message."""

from __future__ import annotations

import struct

from updown.kernel.netlink import wire
from updown.kernel.netlink.wire import Request
from updown.model.objects import VTIS, Link

NEW_LINK, DELETE_LINK, GET_LINK = 16, 17, 18
NEW_ADDRESS, DELETE_ADDRESS, GET_ADDRESS = 20, 21, 22

_IFINFO = struct.Struct("=BxHiII")  # family, ARP type, index, flags, change mask
_IFADDR = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index

_IFF_UP, _IFF_MULTICAST = 1, 0x1000
_IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_OPERSTATE = 3, 4, 10, 16
_IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_NET_NS_FD, _IFLA_EXT_MASK = 18, 20, 28, 29
_DORMANT, _UP = b"\x05", b"\x06"  # IF_OPER_*
_SKIP_STATISTICS = 8  # RTEXT_FILTER_SKIP_STATS: a third of the answer
_INFO_KIND, _INFO_DATA = 1, 2
_VTI_LINK, _VTI_IKEY, _VTI_OKEY, _VTI_LOCAL, _VTI_REMOTE = 1, 2, 3, 4, 5
_XFRM_LINK, _XFRM_IF_ID, _XFRM_EXTERNAL = 1, 2, 3
_VRF_TABLE = 1

_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_NO_DAD = 2  # IFA_F_NODAD
_FOR_A_WHILE = 0x01 | 0x08 | 0x20 | 0x40  # IFA_F_TEMPORARY, DADFAILED, DEPRECATED, TENTATIVE
UNIVERSE, _HOST = 0, 254  # rtm_scope, which addresses have too

CHANGE = wire.REQUEST | wire.ACK


def family_number(number: int) -> int:
    """AF_* of 4, 6 or 0 (both)."""
    return {0: 0, 4: wire.AF_INET, 6: wire.AF_INET6}[number]


def link_get(name: str = "", index: int = 0) -> Request:
    """One link by its name (an alternative name is not looked for), else by its index."""
    wanted = wire.attribute_text(_IFLA_IFNAME, name) if name else b""
    wanted += wire.attribute_u32(_IFLA_EXT_MASK, _SKIP_STATISTICS)
    return Request(GET_LINK, wire.REQUEST, _header(index) + wanted)


def link_add(link: Link) -> Request:
    """A new link with name, MTU (if not 0), admin state and kind in one request; EEXIST if it is there. Without `alias`: the
    kernel ignores one at creation (rtnl_create_link, net/core/rtnetlink.c)."""
    name = wire.attribute_text(_IFLA_IFNAME, link.name)
    payload = _header(0, link.up or None) + name + wire.given_u32(_IFLA_MTU, link.mtu) + _link_info(link)
    return Request(NEW_LINK, CHANGE | wire.CREATE | wire.EXCLUSIVE, payload)


def link_change(index: int, link: Link) -> Request:
    """All of the kind's data anew, since the kernel zeroes what is left out; and MTU, up and alias where given. It neither
    renames nor sets down nor clears an alias."""
    set_too = link_set(index, link.up or None, link.mtu, link.alias or None).payload
    return Request(NEW_LINK, CHANGE, set_too + _link_info(link))


def link_set(index: int, up: bool | None = None, mtu: int = 0, alias: str | None = None, master: int = 0) -> Request:
    """Attributes of a link of any kind; None, MTU 0 and master 0 leave as is, an empty alias removes it. The kernel takes the
    master before it sets the link up (do_setlink, net/core/rtnetlink.c)."""
    named = b"" if alias is None else wire.attribute(_IFLA_IFALIAS, alias.encode("utf-8", "surrogateescape"))
    numbers = wire.given_u32(_IFLA_MTU, mtu) + wire.given_u32(_IFLA_MASTER, master)
    return Request(NEW_LINK, CHANGE, _header(index, up) + numbers + named)


def link_state(index: int, dormant: bool) -> Request:
    """Dormant, or up again."""
    return Request(NEW_LINK, CHANGE, _header(index) + wire.attribute(_IFLA_OPERSTATE, _DORMANT if dormant else _UP))


def link_multicast(index: int, on: bool) -> Request:
    """Packets to groups, or none; the other flags stay as they are."""
    return Request(NEW_LINK, CHANGE, _IFINFO.pack(0, 0, index, _IFF_MULTICAST if on else 0, _IFF_MULTICAST))


def link_move(index: int, namespace: int) -> Request:
    """Into the network namespace with this open descriptor; EEXIST if a link there has its name. The index may change."""
    return Request(NEW_LINK, CHANGE, _header(index) + wire.attribute_u32(_IFLA_NET_NS_FD, namespace))


def link_delete(index: int) -> Request:
    """Removal by index: a name may be another device's by now."""
    return Request(DELETE_LINK, CHANGE, _header(index))


def _header(index: int, up: bool | None = None) -> bytes:
    """Of a link's message; `up` None leaves that as is."""
    return _IFINFO.pack(0, 0, index, _IFF_UP if up else 0, 0 if up is None else _IFF_UP)


def _link_info(link: Link) -> bytes:
    data = b""
    if link.kind in VTIS:
        size = 4 if link.kind == "vti" else 16
        data = wire.given_u32(_VTI_LINK, link.parent)
        for kind, key in ((_VTI_IKEY, link.ikey), (_VTI_OKEY, link.okey)):
            data += wire.attribute_u32(kind, key, "big")
        for kind, end in ((_VTI_LOCAL, link.local), (_VTI_REMOTE, link.remote)):
            # empty is any; an end of the other family goes to the kernel as it is, which refuses it
            data += wire.attribute(kind, wire.pack_address(end) if end else bytes(size))
    elif link.kind == "xfrm":
        data = wire.given_u32(_XFRM_LINK, link.parent)
        data += wire.attribute(_XFRM_EXTERNAL, b"") if link.external else wire.attribute_u32(_XFRM_IF_ID, link.if_id)
    info = wire.attribute(_INFO_KIND, link.kind.encode("ascii", "replace"))
    return wire.attribute(_IFLA_LINKINFO, info + (wire.attribute(_INFO_DATA, data) if data else b""))


def decode_link(payload: bytes) -> Link:
    """The link of an RTM_NEWLINK message."""
    if len(payload) < _IFINFO.size:
        raise wire.malformed("link")
    _, _, index, flags, _ = _IFINFO.unpack_from(payload)
    found = wire.attributes(payload, _IFINFO.size)
    info = wire.attributes(found.get(_IFLA_LINKINFO, b""))
    data = wire.attributes(info.get(_INFO_DATA, b""))
    link = Link(
        name=wire.text(found, _IFLA_IFNAME),
        kind=wire.text(info, _INFO_KIND),
        ifindex=index,
        mtu=wire.u32(found, _IFLA_MTU),
        up=bool(flags & _IFF_UP),
        alias=wire.text(found, _IFLA_IFALIAS),
        dormant=found.get(_IFLA_OPERSTATE) == _DORMANT,
        multicast=bool(flags & _IFF_MULTICAST),
    )
    if link.kind in VTIS:
        local, remote = wire.address(data, _VTI_LOCAL), wire.address(data, _VTI_REMOTE)
        ikey, okey = wire.u32(data, _VTI_IKEY, "big"), wire.u32(data, _VTI_OKEY, "big")
        return link._replace(local=local, remote=remote, ikey=ikey, okey=okey, parent=wire.u32(data, _VTI_LINK))
    if link.kind == "xfrm":
        parent, if_id = wire.u32(data, _XFRM_LINK), wire.u32(data, _XFRM_IF_ID)
        return link._replace(parent=parent, if_id=if_id, external=_XFRM_EXTERNAL in data)
    return link


def decode_master(payload: bytes) -> int:
    """The index of the device that a link belongs to (a VRF, a bridge); 0 without one."""
    return wire.u32(wire.attributes(payload, _IFINFO.size), _IFLA_MASTER)


def decode_vrf_table(payload: bytes) -> int:
    """The routing table of a VRF device; 0 for another kind."""
    info = wire.attributes(wire.attributes(payload, _IFINFO.size).get(_IFLA_LINKINFO, b""))
    data = wire.attributes(info.get(_INFO_DATA, b""))
    return wire.u32(data, _VRF_TABLE) if wire.text(info, _INFO_KIND) == "vrf" else 0


def address_add(index: int, interface: str, replace: bool = False) -> Request:
    """An address in interface notation (`10.99.0.1/30`, `10.0.0.1 peer 10.0.0.2/32`); EEXIST unless `replace`. Scope as
    iproute2 has it: host for 127.0.0.0/8, else global; for IPv6 the kernel decides."""
    flags = wire.CREATE | (wire.REPLACE if replace else wire.EXCLUSIVE)
    return Request(NEW_ADDRESS, CHANGE | flags, _interface(index, interface))


def address_delete(index: int, interface: str) -> Request:
    """Removal of the very address with this prefix length."""
    return Request(DELETE_ADDRESS, CHANGE, _interface(index, interface))


def _interface(index: int, interface: str) -> bytes:
    ours, _, peer = interface.partition(" peer ")
    packed, length = wire.split_prefix(peer or ours)
    local = wire.pack_address(ours) if peer else packed
    scope = _HOST if len(packed) == 4 and packed[0] == 127 else UNIVERSE
    header = _IFADDR.pack(wire.family_of(packed), length, 0 if len(packed) == 4 else _NO_DAD, scope, index)
    return header + wire.attribute(_IFA_LOCAL, local) + wire.attribute(_IFA_ADDRESS, packed)


def addresses_get(index: int, family: int = 0) -> Request:
    """A dump of one device's addresses; `family` is 4, 6 or 0 (both). Before Linux 4.20 the dump is of all devices."""
    return Request(GET_ADDRESS, wire.REQUEST | wire.DUMP, _IFADDR.pack(family_number(family), 0, 0, 0, index))


def is_lasting(payload: bytes) -> bool:
    """Whether an address may be sent from, and will be there tomorrow; of IPv4 each (there the first flag is a secondary's)."""
    if len(payload) < _IFADDR.size:
        raise wire.malformed("address")
    family, _, flags, _, _ = _IFADDR.unpack_from(payload)
    return family != wire.AF_INET6 or not flags & _FOR_A_WHILE


def decode_address(payload: bytes) -> tuple[int, str]:
    """Device index and our address in interface notation."""
    if len(payload) < _IFADDR.size:
        raise wire.malformed("address")
    _, length, _, _, index = _IFADDR.unpack_from(payload)
    found = wire.attributes(payload, _IFADDR.size)
    ours, peer = wire.address(found, _IFA_LOCAL), wire.address(found, _IFA_ADDRESS)
    if not ours and not peer:
        raise wire.malformed("address")
    return index, f"{ours} peer {peer}/{length}" if ours and peer and ours != peer else f"{ours or peer}/{length}"
