"""Routes: our bytes against pyroute2's, in both directions."""

import ipaddress
import struct
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from tests.kit.pyroute2_messages import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    any_route,
    index,
    pyroute2_bytes,
    quick,
    routes,
    theirs,
    u32,
    v4,
    v6,
)
from updown.kernel.netlink import route_messages as routing
from updown.model.errors import KernelError
from updown.model.objects import Route


@quick
@given(any_route, index, st.booleans())
def test_a_route_is_added(route: Route, oif: int, replace: bool) -> None:
    request = routing.route_add(route, oif, replace)
    how = NLM_F_REPLACE if replace else NLM_F_EXCL
    assert (request.type, request.flags) == (24, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | how)
    message = theirs(rtmsg, request)
    check_key(message, route, oif)
    on_link = ":" not in route.destination and not route.gateway
    assert message["scope"] == (253 if on_link else 0)
    assert same(message.get_attr("RTA_PREFSRC"), route.source)
    metrics = message.get_attr("RTA_METRICS")
    assert (metrics.get_attr("RTAX_MTU") if metrics else 0) == route.mtu


@quick
@given(any_route, index)
def test_a_route_is_deleted_by_what_names_it(route: Route, oif: int) -> None:
    request = routing.route_delete(route, oif)
    assert (request.type, request.flags) == (25, NLM_F_REQUEST | NLM_F_ACK)
    message = theirs(rtmsg, request)
    check_key(message, route, oif)
    assert message["scope"] == 255
    assert message.get_attr("RTA_PREFSRC") is None
    assert message.get_attr("RTA_METRICS") is None


def check_key(message: Any, route: Route, oif: int) -> None:
    destination, length = route.destination.split("/")
    assert message["family"] == (10 if ":" in destination else 2)
    assert message["dst_len"] == int(length)
    assert message["type"] == 1
    assert message["proto"] == route.protocol
    assert message["table"] == (route.table if route.table < 256 else 252)
    assert message.get_attr("RTA_TABLE") == route.table
    assert message.get_attr("RTA_OIF") == oif
    assert same(message.get_attr("RTA_DST"), destination if int(length) else "")
    assert same(message.get_attr("RTA_GATEWAY"), route.gateway)
    assert message.get_attr("RTA_PRIORITY") == (route.metric or None)


def same(seen: Any, wanted: str) -> bool:
    if not seen or not wanted:
        return not seen and not wanted
    return ipaddress.ip_address(seen) == ipaddress.ip_address(wanted)


def test_an_ipv4_route_through_an_ipv6_gateway() -> None:
    route = Route("10.2.0.0/24", "vti5", gateway="fe80::1")
    message = theirs(rtmsg, routing.route_add(route, 5))
    assert message.get_attr("RTA_GATEWAY") is None
    assert message.get_attr("RTA_VIA") == {"family": 10, "addr": "fe80::1"}
    assert routing.decode_route(routing.route_add(route, 5).payload).gateway == "fe80::1"


@quick
@given(any_route, index, st.sampled_from([1, 2, 3, 6, 7, 8]))
def test_a_route_is_read(route: Route, oif: int, kind: int) -> None:
    destination, length = route.destination.split("/")
    attrs: list[tuple[str, Any]] = [("RTA_TABLE", route.table), ("RTA_OIF", oif)]
    attrs += [("RTA_DST", destination)] if int(length) else []
    attrs += [("RTA_PRIORITY", route.metric)] if route.metric else []
    attrs += [("RTA_GATEWAY", route.gateway)] if route.gateway else []
    attrs += [("RTA_PREFSRC", route.source)] if route.source else []
    metrics = {"attrs": [("RTAX_HOPLIMIT", 64), ("RTAX_MTU", route.mtu)]}
    attrs += [("RTA_METRICS", metrics)] if route.mtu else []
    fields = {
        "family": 10 if ":" in destination else 2,
        "dst_len": int(length),
        "table": route.table & 0xFF,
        "proto": route.protocol,
        "type": kind,
    }
    assert routing.decode_route(pyroute2_bytes(rtmsg, fields, attrs)) == routing.RouteSeen(
        route.destination, oif, route.gateway, route.table, route.metric, route.mtu, route.source, route.protocol, kind
    )


@quick
@given(any_route, index)
def test_a_route_of_ours_reads_back(route: Route, oif: int) -> None:
    assert routing.decode_route(routing.route_add(route, oif).payload) == routing.RouteSeen(
        route.destination, oif, route.gateway, route.table, route.metric, route.mtu, route.source, route.protocol, 1
    )


@pytest.mark.parametrize(("destination", "via"), [("10.2.0.0/24", None), ("fd00:2::/64", "fe80::a0")])
@pytest.mark.parametrize("replace", [True, False])
def test_a_multipath_route_has_a_hop_for_each_device(destination: str, via: Optional[str], replace: bool) -> None:
    route = Route(destination, "vti5", mtu=1400, metric=7, hops=("vti6", "vti7"))
    request = routing.route_add(route, 5, replace, hops=(6, 7))
    assert request.flags & (NLM_F_REPLACE | NLM_F_EXCL) == (NLM_F_REPLACE if replace else NLM_F_EXCL)
    message = theirs(rtmsg, request)
    assert message.get_attr("RTA_OIF") is None
    assert message.get_attr("RTA_PRIORITY") == 7
    hops = message.get_attr("RTA_MULTIPATH")
    assert [(hop["oif"], hop["hops"], hop.get_attr("RTA_GATEWAY")) for hop in hops] == [(n, 0, via) for n in (5, 6, 7)]
    seen = routing.decode_route(request.payload)
    assert (seen.oif, seen.hops, seen.gateway, seen.mtu) == (0, (5, 6, 7), "", 1400)


@pytest.mark.parametrize("length", [0, 7, 9, 200])
def test_a_hop_of_a_wrong_length_is_malformed(length: int) -> None:
    hop = struct.pack("=HBBi", length, 0, 0, 5)
    payload = struct.pack("=BBBBBBBBI", 2, 24, 0, 0, 254, 160, 0, 1, 0) + struct.pack("=HH", 12, 9) + hop
    with pytest.raises(KernelError):
        routing.decode_route(payload)


def test_a_table_without_attribute_is_the_headers() -> None:
    payload = pyroute2_bytes(rtmsg, {"family": 2, "dst_len": 0, "table": 220, "type": 1}, [])
    assert routing.decode_route(payload) == routing.RouteSeen("0.0.0.0/0", table=220)


@quick
@given(st.one_of(v4, v6), st.one_of(st.just(0), index), st.booleans(), u32)
def test_one_address_is_looked_up(address: str, oif: int, fib: bool, mark: int) -> None:
    request = routing.route_match(address, oif, fib, mark)
    assert (request.type, request.flags) == (26, NLM_F_REQUEST)
    message = theirs(rtmsg, request)
    four = ":" not in address
    assert (message["family"], message["dst_len"]) == ((2, 32) if four else (10, 128))
    assert message["flags"] == (0x2000 if fib else 0) | (0x1000 if four else 0)
    assert same(message.get_attr("RTA_DST"), address)
    assert message.get_attr("RTA_OIF") == (oif or None)
    assert message.get_attr("RTA_MARK") == (mark or None)


@quick
@given(st.sampled_from([4, 6]), u32, st.one_of(st.just(0), index), st.integers(0, 255))
def test_a_dump_of_routes_is_filtered(family: int, table: int, oif: int, protocol: int) -> None:
    request = routing.routes_get(family, table, oif, protocol)
    assert (request.type, request.flags) == (26, NLM_F_REQUEST | NLM_F_DUMP)
    message = theirs(rtmsg, request)
    assert (message["family"], message["proto"]) == (2 if family == 4 else 10, protocol)
    assert message.get_attr("RTA_TABLE") == (table or None)
    assert message.get_attr("RTA_OIF") == (oif or None)


@quick
@given(routes(4), st.integers(1, 0xFFFFFFFF))
def test_a_route_into_it_tells_its_if_id(route: Route, if_id: int) -> None:
    message = theirs(rtmsg, routing.route_add(route._replace(if_id=if_id), 3))
    attributes = dict(message["attrs"])
    assert attributes["RTA_ENCAP_TYPE"] == 10
    assert routing.decode_route(routing.route_add(route._replace(if_id=if_id), 3).payload).if_id == if_id
    assert routing.decode_route(routing.route_add(route, 3).payload).if_id == 0
