"""rtnetlink requests and answers: routes as the bytes of their messages. No I/O.

Layouts and numbers: include/uapi/linux/rtnetlink.h. What is raised: see link_messages.py."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from updown.kernel.netlink import wire
from updown.kernel.netlink.link_messages import CHANGE, UNIVERSE, family_number
from updown.kernel.netlink.wire import Request
from updown.model.objects import HOP_GATEWAY, Route
from updown.model.record import NamedTuple

NEW_ROUTE, DELETE_ROUTE, GET_ROUTE = 24, 25, 26

UNICAST, LOCAL = 1, 2  # rtm_type, of which others are broadcast (3) to throw (9)

_ROUTE = struct.Struct("=BBBBBBBBI")  # family, two lengths, TOS, table, protocol, scope, type, flags

_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC = 1, 4, 5, 6, 7
_RTA_METRICS, _RTA_TABLE, _RTA_MARK, _RTA_VIA, _RTA_ENCAP_TYPE, _RTA_ENCAP = 8, 15, 16, 18, 21, 22
_NESTED = 0x8000  # NLA_F_NESTED, which xfrmi_build_state insists on
_ENCAP_XFRM, _LWT_XFRM_IF_ID = 10, 1  # include/uapi/linux/lwtunnel.h
_RTA_MULTIPATH = 9
_HOP = struct.Struct("=HBBi")  # struct rtnexthop: length, flags, weight - 1, device
_RTAX_MTU = 2
_ON_LINK, _NOWHERE = 253, 255  # rtm_scope
_TABLE_IN_ATTRIBUTE = 252  # RT_TABLE_COMPAT
_LOOKUP_TABLE, _FIB_MATCH = 0x1000, 0x2000  # rtm_flags


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
    if_id: int = 0  # of an external XFRM interface
    hops: tuple[int, ...] = ()  # of a multipath route, the index of each device


def route_add(route: Route, oif: int, replace: bool = False, hops: Sequence[int] = (), beside: bool = False) -> Request:
    """A unicast route through the device with index `oif`; EEXIST unless `replace`, or `beside` for another device's. The
    kernel's idea of "the same" leaves out the device: destination, metric and table, in IPv4 also TOS. One that is put beside
    another is used at once in IPv4, in IPv6 once the other is gone (fib_table_insert, fib6_add_rt2node); in IPv6 both with
    gateways would become one of two hops."""
    packed, _ = wire.split_prefix(route.destination)
    scope = _ON_LINK if len(packed) == 4 and not route.gateway else UNIVERSE
    payload = _route(route, 0 if hops else oif, scope)
    if hops:
        gateway = wire.attribute(_RTA_GATEWAY, wire.pack_address(HOP_GATEWAY)) if len(packed) > 4 else b""
        each = [_HOP.pack(_HOP.size + len(gateway), 0, 0, index) + gateway for index in (oif, *hops)]
        payload += wire.attribute(_RTA_MULTIPATH, b"".join(each))
    if route.source:
        payload += wire.attribute(_RTA_PREFSRC, wire.pack_address(route.source))
    if route.mtu:
        payload += wire.attribute(_RTA_METRICS, wire.attribute_u32(_RTAX_MTU, route.mtu))
    if route.if_id:
        payload += wire.attribute(_RTA_ENCAP_TYPE, struct.pack("=H", _ENCAP_XFRM))
        payload += wire.attribute(_RTA_ENCAP | _NESTED, wire.attribute_u32(_LWT_XFRM_IF_ID, route.if_id))
    if_there = wire.REPLACE if replace else 0 if beside else wire.EXCLUSIVE
    return Request(NEW_ROUTE, CHANGE | wire.CREATE | if_there, payload)


def route_delete(route: Route, oif: int) -> Request:
    """Removal of the route with this destination, table, device, gateway, protocol and metric (0: any metric)."""
    return Request(DELETE_ROUTE, CHANGE, _route(route, oif, _NOWHERE))


def table_number(table: int) -> int:
    """Of a table in a header's one byte; a larger one is in an attribute alone."""
    return table if table < 256 else _TABLE_IN_ATTRIBUTE


def _route(route: Route, oif: int, scope: int) -> bytes:
    """Header and key."""
    packed, length = wire.split_prefix(route.destination)
    key = _ROUTE.pack(wire.family_of(packed), length, 0, 0, table_number(route.table), route.protocol, scope, UNICAST, 0)
    key += wire.attribute(_RTA_DST, packed) if length else b""
    key += wire.attribute_u32(_RTA_TABLE, route.table) + wire.given_u32(_RTA_OIF, oif)
    if route.gateway:
        gateway = wire.pack_address(route.gateway)
        if len(gateway) == len(packed):
            key += wire.attribute(_RTA_GATEWAY, gateway)
        else:
            key += wire.attribute(_RTA_VIA, struct.pack("=H", wire.family_of(gateway)) + gateway)
    return key + wire.given_u32(_RTA_PRIORITY, route.metric)


def route_match(address: str, oif: int = 0, fib: bool = False, mark: int = 0) -> Request:
    """How one address would be routed; with `fib` the route itself (its prefix, metric, table), Linux 4.13. IPv6 has no
    RTM_F_LOOKUP_TABLE (refused with strict checking) and always tells the table."""
    packed = wire.pack_address(address)
    flags = (_FIB_MATCH if fib else 0) | (_LOOKUP_TABLE if len(packed) == 4 else 0)
    payload = _ROUTE.pack(wire.family_of(packed), len(packed) * 8, 0, 0, 0, 0, 0, 0, flags) + wire.attribute(_RTA_DST, packed)
    return Request(GET_ROUTE, wire.REQUEST, payload + wire.given_u32(_RTA_OIF, oif) + wire.given_u32(_RTA_MARK, mark))


def routes_get(family: int, table: int, oif: int = 0, protocol: int = 0) -> Request:
    """A dump; `family` 4 or 6, `table` 0 is all. The kernel filters from 4.20 on: look at the answers all the same."""
    header = _ROUTE.pack(family_number(family), 0, 0, 0, table_number(table), protocol, 0, 0, 0)
    wanted = wire.given_u32(_RTA_TABLE, table) + wire.given_u32(_RTA_OIF, oif)
    return Request(GET_ROUTE, wire.REQUEST | wire.DUMP, header + wanted)


def decode_route(payload: bytes) -> RouteSeen:
    """The route of an RTM_NEWROUTE message of IPv4 or IPv6."""
    if len(payload) < _ROUTE.size:
        raise wire.malformed("route")
    family, length, _, _, table, protocol, _, kind, _ = _ROUTE.unpack_from(payload)
    found = wire.attributes(payload, _ROUTE.size)
    anywhere = "::" if family == wire.AF_INET6 else "0.0.0.0"
    via = found.get(_RTA_VIA)
    hops, through = _hops(found.get(_RTA_MULTIPATH, b""))
    return RouteSeen(
        destination=f"{wire.address(found, _RTA_DST) or anywhere}/{length}",
        oif=wire.u32(found, _RTA_OIF),
        gateway=(through or wire.address(found, _RTA_GATEWAY)) if via is None else wire.unpack_address(via[2:]),
        table=wire.u32(found, _RTA_TABLE) or table,
        metric=wire.u32(found, _RTA_PRIORITY),
        mtu=wire.u32(wire.attributes(found.get(_RTA_METRICS, b"")), _RTAX_MTU),
        source=wire.address(found, _RTA_PREFSRC),
        protocol=protocol,
        type=kind,
        if_id=_if_id(found),
        hops=hops,
    )


def _hops(packed: bytes) -> tuple[tuple[int, ...], str]:
    """The devices of a multipath route, and the first one's gateway where it is somebody's."""
    indexes = []
    gateways = []
    while len(packed) >= _HOP.size:
        length, _, _, index = _HOP.unpack_from(packed)
        if not _HOP.size <= length <= len(packed):
            raise wire.malformed("route")
        indexes.append(index)
        gateways.append(wire.address(wire.attributes(packed[_HOP.size : length]), _RTA_GATEWAY))
        packed = packed[-(-length // 4) * 4 :]
    return tuple(indexes), next((gateway for gateway in gateways if gateway != HOP_GATEWAY), "")


def _if_id(found: wire.Attributes) -> int:
    """Of a route into an external XFRM interface; 0 for any other."""
    encapsulated = found.get(_RTA_ENCAP_TYPE, b"")[:2] == struct.pack("=H", _ENCAP_XFRM)
    return wire.u32(wire.attributes(found.get(_RTA_ENCAP, b"")), _LWT_XFRM_IF_ID) if encapsulated else 0
