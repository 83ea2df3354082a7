"""rtnetlink requests and answers: links, addresses and routes as the bytes of their messages. No I/O.

Layouts and numbers: include/uapi/linux/if_link.h, if_addr.h, if_tunnel.h, rtnetlink.h. Functions that take text
raise `KernelError` (EINVAL) for text that is no address, decoders raise it (EBADMSG) for bytes that are no message.
"""

import _socket
import struct
from typing import NamedTuple, Optional, Tuple

from updown.kernel.wire import (
    ACK,
    CREATE,
    DUMP,
    EXCLUSIVE,
    REPLACE,
    REQUEST,
    Request,
    address,
    attribute,
    attribute_be32,
    attribute_text,
    attribute_u32,
    attributes,
    be32,
    malformed,
    pack_address,
    split_prefix,
    text,
    u32,
    unpack_address,
)
from updown.state import Link, Route

NEW_LINK, DELETE_LINK, GET_LINK = 16, 17, 18
NEW_ADDRESS, DELETE_ADDRESS, GET_ADDRESS = 20, 21, 22
NEW_ROUTE, DELETE_ROUTE, GET_ROUTE = 24, 25, 26

UNICAST, LOCAL, BLACKHOLE, UNREACHABLE, PROHIBIT = 1, 2, 6, 7, 8  # rtm_type
"""Route types that `RouteSeen.type` may have, besides broadcast (3), anycast (4), multicast (5), throw (9)."""

_IFINFO = struct.Struct("=BxHiII")  # family, ARP type, index, flags, change mask
_IFADDR = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, two lengths, TOS, table, protocol, scope, type, flags

_IFF_UP = 1
_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_EXT_MASK = 3, 4, 18, 20, 29
_SKIP_STATISTICS = 8  # RTEXT_FILTER_SKIP_STATS: a third of the answer
_INFO_KIND, _INFO_DATA = 1, 2
_VTI_LINK, _VTI_IKEY, _VTI_OKEY, _VTI_LOCAL, _VTI_REMOTE = 1, 2, 3, 4, 5
_XFRM_LINK, _XFRM_IF_ID = 1, 2

_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_NO_DAD = 2  # IFA_F_NODAD

_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC = 1, 4, 5, 6, 7
_RTA_METRICS, _RTA_TABLE, _RTA_MARK, _RTA_VIA = 8, 15, 16, 18
_RTAX_MTU = 2
_UNIVERSE, _ON_LINK, _HOST, _NOWHERE = 0, 253, 254, 255  # rtm_scope
_TABLE_IN_ATTRIBUTE = 252  # RT_TABLE_COMPAT
_LOOKUP_TABLE, _FIB_MATCH = 0x1000, 0x2000  # rtm_flags

_CHANGE = REQUEST | ACK


def _af(packed: bytes) -> int:
    return int(_socket.AF_INET if len(packed) == 4 else _socket.AF_INET6)


def _family(number: int) -> int:
    """AF_* of 4, 6 or 0 (both)."""
    return {0: 0, 4: int(_socket.AF_INET), 6: int(_socket.AF_INET6)}[number]


# Links


def link_get(name: str) -> Request:
    """One link by its name (an alternative name is not looked for)."""
    wanted = attribute_text(_IFLA_IFNAME, name) + attribute_u32(_IFLA_EXT_MASK, _SKIP_STATISTICS)
    return Request(GET_LINK, REQUEST, _IFINFO.pack(0, 0, 0, 0, 0) + wanted)


def link_get_index(index: int) -> Request:
    """One link by its index."""
    wanted = attribute_u32(_IFLA_EXT_MASK, _SKIP_STATISTICS)
    return Request(GET_LINK, REQUEST, _IFINFO.pack(0, 0, index, 0, 0) + wanted)


def link_add(link: Link) -> Request:
    """A new link with name, MTU (if not 0), admin state and kind in one request; EEXIST if it is there.

    Without `alias`: the kernel ignores one at creation (rtnl_create_link, net/core/rtnetlink.c).
    """
    header = _IFINFO.pack(0, 0, 0, _IFF_UP if link.up else 0, _IFF_UP if link.up else 0)
    return Request(
        NEW_LINK,
        _CHANGE | CREATE | EXCLUSIVE,
        header + attribute_text(_IFLA_IFNAME, link.name) + _mtu(link.mtu) + _link_info(link),
    )


def link_change(index: int, link: Link) -> Request:
    """All of the kind's data anew, since the kernel zeroes what is left out; and MTU, up and alias where given.

    It neither renames nor sets down nor clears an alias.
    """
    header = _IFINFO.pack(0, 0, index, _IFF_UP if link.up else 0, _IFF_UP if link.up else 0)
    alias = attribute(_IFLA_IFALIAS, link.alias.encode("utf-8", "surrogateescape")) if link.alias else b""
    return Request(NEW_LINK, _CHANGE, header + _mtu(link.mtu) + alias + _link_info(link))


def link_set(index: int, up: Optional[bool] = None, mtu: int = 0, alias: Optional[str] = None) -> Request:
    """Attributes of a link of any kind; None and MTU 0 leave as is, an empty alias removes it."""
    header = _IFINFO.pack(0, 0, index, _IFF_UP if up else 0, 0 if up is None else _IFF_UP)
    named = b"" if alias is None else attribute(_IFLA_IFALIAS, alias.encode("utf-8", "surrogateescape"))
    return Request(NEW_LINK, _CHANGE, header + _mtu(mtu) + named)


def link_delete(index: int) -> Request:
    """Removal by index: a name may be another device's by now."""
    return Request(DELETE_LINK, _CHANGE, _IFINFO.pack(0, 0, index, 0, 0))


def _mtu(mtu: int) -> bytes:
    return attribute_u32(_IFLA_MTU, mtu) if mtu > 0 else b""


def _link_info(link: Link) -> bytes:
    if link.kind in ("vti", "vti6"):
        size = 4 if link.kind == "vti" else 16
        data = attribute_u32(_VTI_LINK, link.parent) if link.parent else b""
        data += attribute_be32(_VTI_IKEY, link.ikey) + attribute_be32(_VTI_OKEY, link.okey)
        data += attribute(_VTI_LOCAL, _end(link.local, size)) + attribute(_VTI_REMOTE, _end(link.remote, size))
    elif link.kind == "xfrm":
        data = attribute_u32(_XFRM_LINK, link.parent) if link.parent else b""
        data += attribute_u32(_XFRM_IF_ID, link.if_id)
    else:
        data = b""
    kind = attribute(_INFO_KIND, link.kind.encode("ascii", "replace"))
    return attribute(_IFLA_LINKINFO, kind + (attribute(_INFO_DATA, data) if data else b""))


def _end(end: str, size: int) -> bytes:
    """A tunnel end; empty is any. One of the other family goes to the kernel as it is, which refuses it."""
    return pack_address(end) if end else bytes(size)


def decode_link(payload: bytes) -> Link:
    """The link of an RTM_NEWLINK message."""
    if len(payload) < _IFINFO.size:
        raise malformed("link")
    _, _, index, flags, _ = _IFINFO.unpack_from(payload)
    found = attributes(payload, _IFINFO.size)
    info = attributes(found.get(_IFLA_LINKINFO, b""))
    data = attributes(info.get(_INFO_DATA, b""))
    link = Link(
        name=text(found, _IFLA_IFNAME),
        kind=text(info, _INFO_KIND),
        ifindex=index,
        mtu=u32(found, _IFLA_MTU),
        up=bool(flags & _IFF_UP),
        alias=text(found, _IFLA_IFALIAS),
    )
    if link.kind in ("vti", "vti6"):
        return link._replace(
            local=address(data, _VTI_LOCAL),
            remote=address(data, _VTI_REMOTE),
            ikey=be32(data, _VTI_IKEY),
            okey=be32(data, _VTI_OKEY),
            parent=u32(data, _VTI_LINK),
        )
    if link.kind == "xfrm":
        return link._replace(parent=u32(data, _XFRM_LINK), if_id=u32(data, _XFRM_IF_ID))
    return link


# Addresses


def address_add(index: int, interface: str, replace: bool = False) -> Request:
    """An address in interface notation (`10.99.0.1/30`), without peer or broadcast; EEXIST unless `replace`.

    Scope as iproute2 has it: host for 127.0.0.0/8, else global; for IPv6 the kernel decides.
    """
    flags = CREATE | (REPLACE if replace else EXCLUSIVE)
    return Request(NEW_ADDRESS, _CHANGE | flags, _interface(index, interface))


def address_delete(index: int, interface: str) -> Request:
    """Removal of the very address with this prefix length."""
    return Request(DELETE_ADDRESS, _CHANGE, _interface(index, interface))


def _interface(index: int, interface: str) -> bytes:
    packed, length = split_prefix(interface)
    scope = _HOST if len(packed) == 4 and packed[0] == 127 else _UNIVERSE
    header = _IFADDR.pack(_af(packed), length, 0 if len(packed) == 4 else _NO_DAD, scope, index)
    return header + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)


def addresses_get(index: int, family: int = 0) -> Request:
    """A dump of one device's addresses; `family` is 4, 6 or 0 (both). Before Linux 4.20 the dump is of all devices."""
    return Request(GET_ADDRESS, REQUEST | DUMP, _IFADDR.pack(_family(family), 0, 0, 0, index))


def decode_address(payload: bytes) -> Tuple[int, str]:
    """Device index and our address in interface notation; a peer's address (IFA_ADDRESS) is not told."""
    if len(payload) < _IFADDR.size:
        raise malformed("address")
    _, length, _, _, index = _IFADDR.unpack_from(payload)
    found = attributes(payload, _IFADDR.size)
    ours = address(found, _IFA_LOCAL) or address(found, _IFA_ADDRESS)
    if not ours:
        raise malformed("address")
    return index, f"{ours}/{length}"


# Routes


class RouteSeen(NamedTuple):
    """A route as the kernel tells it; `oif` is 0 for a multipath route and for one of a type without device."""

    destination: str  # "10.2.0.0/24"; the default is "0.0.0.0/0" or "::/0"
    oif: int = 0
    gateway: str = ""
    table: int = 0
    metric: int = 0
    mtu: int = 0  # bytes; 0 is none
    source: str = ""
    protocol: int = 0
    type: int = UNICAST


def route_add(route: Route, oif: int, replace: bool = False) -> Request:
    """A unicast route through the device with index `oif`; EEXIST unless `replace`.

    The kernel's idea of "the same" leaves out the device: destination, metric and table, in IPv4 also TOS.
    """
    packed, length = split_prefix(route.destination)
    scope = _ON_LINK if len(packed) == 4 and not route.gateway else _UNIVERSE
    payload = _route_header(packed, length, route, scope) + _route_key(packed, length, route, oif)
    if route.source:
        payload += attribute(_RTA_PREFSRC, pack_address(route.source))
    if route.mtu:
        payload += attribute(_RTA_METRICS, attribute_u32(_RTAX_MTU, route.mtu))
    return Request(NEW_ROUTE, _CHANGE | CREATE | (REPLACE if replace else EXCLUSIVE), payload)


def route_delete(route: Route, oif: int) -> Request:
    """Removal of the route with this destination, table, device, gateway, protocol and metric (0: any metric)."""
    packed, length = split_prefix(route.destination)
    payload = _route_header(packed, length, route, _NOWHERE) + _route_key(packed, length, route, oif)
    return Request(DELETE_ROUTE, _CHANGE, payload)


def _route_header(packed: bytes, length: int, route: Route, scope: int) -> bytes:
    table = route.table if route.table < 256 else _TABLE_IN_ATTRIBUTE
    return _ROUTE.pack(_af(packed), length, 0, 0, table, route.protocol, scope, UNICAST, 0)


def _route_key(packed: bytes, length: int, route: Route, oif: int) -> bytes:
    key = attribute(_RTA_DST, packed) if length else b""
    key += attribute_u32(_RTA_TABLE, route.table) + attribute_u32(_RTA_OIF, oif)
    if route.gateway:
        gateway = pack_address(route.gateway)
        if len(gateway) == len(packed):
            key += attribute(_RTA_GATEWAY, gateway)
        else:
            key += attribute(_RTA_VIA, struct.pack("=H", _af(gateway)) + gateway)
    if route.metric:
        key += attribute_u32(_RTA_PRIORITY, route.metric)
    return key


def route_match(address: str, oif: int = 0, fib: bool = False, mark: int = 0) -> Request:
    """How one address would be routed; with `fib` the route itself (its prefix, metric, table), Linux 4.13.

    IPv6 has no RTM_F_LOOKUP_TABLE (refused with strict checking) and always tells the table.
    """
    packed = pack_address(address)
    flags = (_FIB_MATCH if fib else 0) | (_LOOKUP_TABLE if len(packed) == 4 else 0)
    payload = _ROUTE.pack(_af(packed), len(packed) * 8, 0, 0, 0, 0, 0, 0, flags) + attribute(_RTA_DST, packed)
    if oif:
        payload += attribute_u32(_RTA_OIF, oif)
    if mark:
        payload += attribute_u32(_RTA_MARK, mark)
    return Request(GET_ROUTE, REQUEST, payload)


def routes_get(family: int, table: int, oif: int = 0, protocol: int = 0) -> Request:
    """A dump; `family` 4 or 6, `table` 0 is all. The kernel filters from 4.20 on: look at the answers all the same."""
    header = _ROUTE.pack(_family(family), 0, 0, 0, table if table < 256 else _TABLE_IN_ATTRIBUTE, protocol, 0, 0, 0)
    wanted = attribute_u32(_RTA_TABLE, table) if table else b""
    return Request(GET_ROUTE, REQUEST | DUMP, header + wanted + (attribute_u32(_RTA_OIF, oif) if oif else b""))


def decode_route(payload: bytes) -> RouteSeen:
    """The route of an RTM_NEWROUTE message of IPv4 or IPv6."""
    if len(payload) < _ROUTE.size:
        raise malformed("route")
    family, length, _, _, table, protocol, _, kind, _ = _ROUTE.unpack_from(payload)
    found = attributes(payload, _ROUTE.size)
    anywhere = "::" if family == _socket.AF_INET6 else "0.0.0.0"
    via = found.get(_RTA_VIA)
    return RouteSeen(
        destination=f"{address(found, _RTA_DST) or anywhere}/{length}",
        oif=u32(found, _RTA_OIF),
        gateway=address(found, _RTA_GATEWAY) if via is None else unpack_address(via[2:]),
        table=u32(found, _RTA_TABLE) or table,
        metric=u32(found, _RTA_PRIORITY),
        mtu=u32(attributes(found.get(_RTA_METRICS, b"")), _RTAX_MTU),
        source=address(found, _RTA_PREFSRC),
        protocol=protocol,
        type=kind,
    )
