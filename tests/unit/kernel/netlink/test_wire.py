"""Our netlink bytes against pyroute2's, in both directions, and against bytes that are no message at all."""

import errno
import ipaddress
import struct
from typing import Any, Callable, Optional

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from updown.kernel.netlink import link_messages as rt
from updown.kernel.netlink import route_messages as routing
from updown.kernel.netlink import rule_messages as policy
from updown.kernel.netlink import wire
from updown.kernel.netlink.wire import Request
from updown.model.errors import KernelError
from updown.model.objects import Link, Route, Rule

quick = settings(deadline=None, max_examples=50, database=None)

HEADER = 16  # nlmsghdr, bytes

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 1, 4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400

u32 = st.integers(0, 0xFFFFFFFF)
index = st.integers(1, 0x7FFFFFFF)
mtu = st.one_of(st.just(0), st.integers(68, 65535))
name = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0189_.-", min_size=1, max_size=15)
alias = st.one_of(st.just(""), st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=60))
v4 = st.ip_addresses(v=4).map(str)
v6: "st.SearchStrategy[str]" = st.ip_addresses(v=6).map(str).filter(lambda text: not text.startswith("::ffff:"))


def prefix(family: int, shortest: int = 0) -> "st.SearchStrategy[str]":
    most = 32 if family == 4 else 128

    def cut(drawn: tuple[str, int]) -> str:
        return str(ipaddress.ip_network(f"{drawn[0]}/{drawn[1]}", strict=False))

    return st.tuples(v4 if family == 4 else v6, st.integers(shortest, most)).map(cut)


parent = st.one_of(st.just(0), index)


def tunnel(kind: str, ends: "st.SearchStrategy[str]") -> "st.SearchStrategy[Link]":
    fields = st.fixed_dictionaries({"local": ends, "remote": ends, "ikey": u32, "okey": u32})
    return common(kind, fields)


def common(kind: str, fields: "st.SearchStrategy[dict[str, Any]]") -> "st.SearchStrategy[Link]":
    shared = st.fixed_dictionaries({"name": name, "parent": parent, "mtu": mtu, "up": st.booleans()})
    return st.tuples(shared, fields).map(lambda both: Link(kind=kind, **both[0], **both[1]))


any_link = st.one_of(tunnel("vti", v4), tunnel("vti6", v6), common("xfrm", st.fixed_dictionaries({"if_id": u32})))


def routes(family: int) -> "st.SearchStrategy[Route]":
    address = v4 if family == 4 else v6
    return st.builds(
        Route,
        prefix(family),
        st.just("vti5"),
        gateway=st.one_of(st.just(""), address),
        table=st.integers(1, 0xFFFFFFFF),
        metric=u32,
        mtu=mtu,
        source=st.one_of(st.just(""), address),
        protocol=st.integers(1, 255),
        if_id=st.just(0),
    )


any_route = st.one_of(routes(4), routes(6))


def theirs(kind: Any, request: Request) -> Any:
    """The request as pyroute2 reads it."""
    message = kind(wire.frame(request, 77))
    message.decode()
    assert message["header"]["length"] == HEADER + len(request.payload)
    assert message["header"]["type"] == request.type
    assert message["header"]["flags"] == request.flags
    assert message["header"]["sequence_number"] == 77
    return message


def pyroute2_bytes(kind: Any, fields: dict[str, Any], attrs: list[tuple[str, Any]]) -> bytes:
    """The payload of a message that pyroute2 writes."""
    message = kind()
    message.update(fields)
    message["attrs"] = attrs
    message.encode()
    return bytes(message.data)[HEADER:]


def names(message: Any) -> list[str]:
    return [entry[0] for entry in message["attrs"]]


# Links, ours read by pyroute2


@quick
@given(any_link)
@example(Link("vti5", "vti", 0, "192.0.2.1", "0.0.0.0", 0, 0xFFFFFFFF))
def test_a_new_link_has_everything_in_one_request(link: Link) -> None:
    request = rt.link_add(link)
    assert (request.type, request.flags) == (16, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)
    message = theirs(ifinfmsg, request)
    assert message["index"] == 0
    assert message["flags"] == message["change"] == int(link.up)
    assert message.get_attr("IFLA_IFNAME") == link.name
    assert message.get_attr("IFLA_MTU") == (link.mtu or None)
    assert set(names(message)) <= {"IFLA_IFNAME", "IFLA_MTU", "IFLA_LINKINFO"}
    check_data(message, link)


def check_data(message: Any, link: Link) -> None:
    info = message.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == link.kind
    data = info.get_attr("IFLA_INFO_DATA")
    if link.kind == "xfrm":
        assert data.get_attr("IFLA_XFRM_IF_ID") == link.if_id
        assert data.get_attr("IFLA_XFRM_LINK") == (link.parent or None)
        return
    assert data.get_attr("IFLA_VTI_IKEY") == link.ikey
    assert data.get_attr("IFLA_VTI_OKEY") == link.okey
    assert data.get_attr("IFLA_VTI_LINK") == (link.parent or None)
    assert ipaddress.ip_address(data.get_attr("IFLA_VTI_LOCAL")) == ipaddress.ip_address(link.local)
    assert ipaddress.ip_address(data.get_attr("IFLA_VTI_REMOTE")) == ipaddress.ip_address(link.remote)


@pytest.mark.parametrize(("kind", "anything"), [("vti", "0.0.0.0"), ("vti6", "::")])
def test_an_end_that_is_not_given_is_sent_as_any(kind: str, anything: str) -> None:
    data = theirs(ifinfmsg, rt.link_add(Link("vti5", kind))).get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA")
    assert names(data) == ["IFLA_VTI_IKEY", "IFLA_VTI_OKEY", "IFLA_VTI_LOCAL", "IFLA_VTI_REMOTE"]
    assert data.get_attr("IFLA_VTI_LOCAL") == data.get_attr("IFLA_VTI_REMOTE") == anything


def test_a_link_of_a_kind_without_data() -> None:
    info = theirs(ifinfmsg, rt.link_add(Link("dummy0", "dummy"))).get_attr("IFLA_LINKINFO")
    assert names(info) == ["IFLA_INFO_KIND"]


@quick
@given(any_link, index, alias)
def test_a_change_has_the_complete_data(link: Link, number: int, alias: str) -> None:
    request = rt.link_change(number, link._replace(alias=alias))
    assert (request.type, request.flags) == (16, NLM_F_REQUEST | NLM_F_ACK)
    message = theirs(ifinfmsg, request)
    assert message["index"] == number
    assert message["flags"] == message["change"] == int(link.up)
    assert message.get_attr("IFLA_IFNAME") is None
    assert message.get_attr("IFLA_MTU") == (link.mtu or None)
    assert [value for key, value in message["attrs"] if key == "IFLA_IFALIAS"] == [alias] * bool(alias)
    check_data(message, link)


@quick
@given(index, st.one_of(st.none(), st.booleans()), mtu, st.one_of(st.none(), alias))
def test_a_set_has_only_what_is_given(number: int, up: Any, size: int, text: Any) -> None:
    request = rt.link_set(number, up, size, text)
    assert (request.type, request.flags) == (16, NLM_F_REQUEST | NLM_F_ACK)
    message = theirs(ifinfmsg, request)
    assert message["index"] == number
    assert (message["flags"], message["change"]) == (int(bool(up)), int(up is not None))
    assert names(message) == ["IFLA_MTU"] * bool(size) + ["IFLA_IFALIAS"] * (text is not None)
    assert message.get_attr("IFLA_MTU") == (size or None)
    assert message.get_attr("IFLA_IFALIAS") == text


@quick
@given(name, index)
def test_links_are_asked_for_and_deleted(wanted: str, number: int) -> None:
    by_name = theirs(ifinfmsg, rt.link_get(wanted))
    assert by_name.get_attr("IFLA_IFNAME") == wanted
    assert (rt.link_get(wanted).type, rt.link_get(wanted).flags) == (18, NLM_F_REQUEST)
    assert theirs(ifinfmsg, rt.link_get(index=number))["index"] == number
    gone = rt.link_delete(number)
    assert (gone.type, gone.flags) == (17, NLM_F_REQUEST | NLM_F_ACK)
    assert theirs(ifinfmsg, gone)["index"] == number


# Links, pyroute2's read by us


@quick
@given(any_link, index, alias)
def test_a_link_is_read(link: Link, number: int, alias: str) -> None:
    link = link._replace(ifindex=number, alias=alias)
    data: list[tuple[str, Any]]
    if link.kind == "xfrm":
        data = [("IFLA_XFRM_LINK", link.parent), ("IFLA_XFRM_IF_ID", link.if_id)]
    else:
        data = [
            ("IFLA_VTI_LINK", link.parent),
            ("IFLA_VTI_IKEY", link.ikey),
            ("IFLA_VTI_OKEY", link.okey),
            ("IFLA_VTI_LOCAL", link.local),
            ("IFLA_VTI_REMOTE", link.remote),
        ]
    attrs: list[tuple[str, Any]] = [
        ("IFLA_IFNAME", link.name),
        ("IFLA_MTU", link.mtu),
        ("IFLA_ADDRESS", "02:00:00:00:00:01"),
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", link.kind), ("IFLA_INFO_DATA", {"attrs": data})]}),
    ]
    if alias:
        attrs.append(("IFLA_IFALIAS", alias))
    flags = 0x10080 | int(link.up)  # NOARP, LOWER_UP
    payload = pyroute2_bytes(ifinfmsg, {"index": number, "flags": flags, "ifi_type": 768}, attrs)
    assert rt.decode_link(payload) == link


def test_a_link_without_a_kind() -> None:
    payload = pyroute2_bytes(ifinfmsg, {"index": 1, "flags": 9}, [("IFLA_IFNAME", "lo"), ("IFLA_MTU", 65536)])
    assert rt.decode_link(payload) == Link("lo", ifindex=1, mtu=65536, up=True)


def test_a_name_beyond_ascii_survives() -> None:
    for raw in (b"t\xc3\xbcr", b"\xff\xfe"):
        wanted = raw.decode("utf-8", "surrogateescape")
        assert raw + b"\0" in rt.link_get(wanted).payload
        payload = struct.pack("=BxHiII", 0, 0, 1, 0, 0) + wire.attribute(3, raw + b"\0")
        assert rt.decode_link(payload).name == wanted


# Addresses


@pytest.mark.parametrize("family", [4, 6])
@quick
@given(data=st.data(), number=index, replace=st.booleans())
def test_an_address_is_added_and_deleted(family: int, data: st.DataObject, number: int, replace: bool) -> None:
    host = data.draw(v4 if family == 4 else v6)
    length = data.draw(st.integers(0, 32 if family == 4 else 128))
    add, delete = rt.address_add(number, f"{host}/{length}", replace), rt.address_delete(number, f"{host}/{length}")
    how = NLM_F_REPLACE if replace else NLM_F_EXCL
    assert (add.type, add.flags) == (20, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | how)
    assert (delete.type, delete.flags) == (21, NLM_F_REQUEST | NLM_F_ACK)
    for request in (add, delete):
        message = theirs(ifaddrmsg, request)
        assert (message["family"], message["prefixlen"], message["index"]) == (2 if family == 4 else 10, length, number)
        assert message["flags"] == (0 if family == 4 else 2)
        assert message["scope"] == (254 if host.startswith("127.") else 0)
        for key in ("IFA_LOCAL", "IFA_ADDRESS"):
            assert ipaddress.ip_address(message.get_attr(key)) == ipaddress.ip_address(host)


def test_only_a_loopback_address_has_the_scope_of_the_host() -> None:
    for address, scope in (("127.0.5.1/32", 254), ("169.254.7.1/30", 0), ("10.0.0.1/8", 0), ("fe80::1/64", 0)):
        assert theirs(ifaddrmsg, rt.address_add(3, address))["scope"] == scope


def test_an_address_without_length_is_a_host() -> None:
    assert theirs(ifaddrmsg, rt.address_add(3, "10.0.0.1"))["prefixlen"] == 32
    assert theirs(ifaddrmsg, rt.address_add(3, "fd00::1"))["prefixlen"] == 128


@pytest.mark.parametrize(("family", "number"), [(4, 2), (6, 10), (0, 0)])
def test_a_dump_of_addresses_is_of_one_device(family: int, number: int) -> None:
    request = rt.addresses_get(9, family)
    assert (request.type, request.flags) == (22, NLM_F_REQUEST | NLM_F_DUMP)
    message = theirs(ifaddrmsg, request)
    assert (message["family"], message["index"], message["prefixlen"], message["attrs"]) == (number, 9, 0, [])


@quick
@given(v4, v4, st.integers(0, 32), index)
def test_an_address_with_a_peer_reads_with_it(ours: str, peer: str, length: int, number: int) -> None:
    fields = {"family": 2, "prefixlen": length, "index": number}
    payload = pyroute2_bytes(ifaddrmsg, fields, [("IFA_ADDRESS", peer), ("IFA_LOCAL", ours), ("IFA_LABEL", "vti5")])
    wanted = f"{ours} peer {peer}/{length}" if ours != peer else f"{ours}/{length}"
    assert rt.decode_address(payload) == (number, wanted)


@pytest.mark.parametrize("text", ["10.0.0.1 peer 10.0.0.2/32", "fd00::1 peer fd00::2/128"])
def test_an_address_with_a_peer_goes_as_both(text: str) -> None:
    message = theirs(ifaddrmsg, rt.address_add(3, text))
    ours, _, peer = text.partition(" peer ")
    assert f"{message.get_attr('IFA_ADDRESS')}/{message['prefixlen']}" == peer
    assert message.get_attr("IFA_LOCAL") == ours


@quick
@given(v6, st.integers(0, 128), index)
def test_an_ipv6_address_is_read(ours: str, length: int, number: int) -> None:
    payload = pyroute2_bytes(
        ifaddrmsg,
        {"family": 10, "prefixlen": length, "index": number},
        [("IFA_ADDRESS", ours), ("IFA_FLAGS", 0x82)],
    )
    assert rt.decode_address(payload) == (number, f"{ours}/{length}")


# Routes


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


# Address text


@quick
@given(st.integers(0, 2**128 - 1))
@example(0xFFFF01020304)
@example(0x01020304)
@example(0x00010002)
@example(1)
@example(0x20010DB8000000000001000000000001)
@example(0x20010DB8000000010001000100010001)
def test_ipv6_text_is_canonical_on_every_python(number: int) -> None:
    packed = number.to_bytes(16, "big")
    text = wire.unpack_address(packed)
    assert wire.pack_address(text) == packed
    assert "." not in text
    if number >> 32 != 0xFFFF:  # of these, ipaddress 3.13 writes the IPv4 part with dots
        assert text == str(ipaddress.IPv6Address(number))


def test_an_ipv4_mapped_address_stays_hexadecimal() -> None:
    assert wire.canonical("::ffff:1.2.3.4") == "::ffff:102:304"
    assert wire.canonical("::1.2.3.4") == "::102:304"
    assert wire.canonical("::FFFF:0:0") == "::ffff:0:0"


@quick
@given(st.integers(0, 2**32 - 1))
def test_ipv4_text_is_canonical(number: int) -> None:
    assert wire.unpack_address(number.to_bytes(4, "big")) == str(ipaddress.IPv4Address(number))


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "x",
        "1.2.3",
        "1.2.3.4/24",
        "1.2.3.4.5",
        "fe80::1%eth0",
        "::1::",
        "1.2.3.4\0",
        "\u0661.2.3.4",
        "::\udc80",
        "01.2.3.4",
    ],
)
def test_what_is_no_address_is_refused(bad: str) -> None:
    for use in (wire.pack_address, wire.canonical, routing.route_match):
        with pytest.raises(KernelError) as caught:
            use(bad)
        assert caught.value.errno == errno.EINVAL
        assert caught.value.text.isascii()
        assert caught.value.text.isprintable()


@pytest.mark.parametrize(
    "bad", ["10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/x", "10.0.0.0/\u0661", "/24"]
)
def test_what_is_no_prefix_is_refused(bad: str) -> None:
    with pytest.raises(KernelError) as caught:
        rt.address_add(1, bad)
    assert caught.value.errno == errno.EINVAL


def test_a_number_that_does_not_fit_is_refused() -> None:
    for number in (-1, 1 << 32):
        with pytest.raises(KernelError) as caught:
            rt.link_add(Link("vti5", "vti", ikey=number))
        assert caught.value.errno == errno.EINVAL


# Framing and acknowledgements


def test_a_datagram_of_several_messages() -> None:
    data = wire.frame(Request(16, 2, b"abcdef"), 1) + bytes(2) + wire.frame(Request(3, 2, b""), 1)
    assert wire.messages(data) == [wire.Message(16, 2, 1, b"abcdef"), wire.Message(3, 2, 1, b"")]


def acknowledgement(number: int, flags: int, quoted: bytes, attributes: bytes = b"") -> wire.Message:
    return wire.Message(wire.ERROR, flags, 1, struct.pack("=i", number) + quoted + attributes)


REQUEST_QUOTED = wire.frame(Request(16, 5, bytes(20)), 1)
SAID = wire.attribute(2, bytes(4)) + wire.attribute(1, b"Unknown device type\0")


def test_an_acknowledgement_is_no_error() -> None:
    assert wire.answer(acknowledgement(0, 0x100, REQUEST_QUOTED[:16])) == (0, "")


def test_an_error_without_text() -> None:
    assert wire.answer(acknowledgement(-17, 0, REQUEST_QUOTED)) == (17, "")


def test_an_error_with_text_behind_a_quoted_or_a_capped_request() -> None:
    assert wire.answer(acknowledgement(-95, 0x200, REQUEST_QUOTED, SAID)) == (95, "Unknown device type")
    assert wire.answer(acknowledgement(-95, 0x300, REQUEST_QUOTED[:16], SAID)) == (95, "Unknown device type")


def test_the_end_of_a_dump_may_carry_an_error() -> None:
    assert wire.answer(wire.Message(wire.DONE, 2, 1, struct.pack("=i", 0))) == (0, "")
    assert wire.answer(wire.Message(wire.DONE, 2, 1, b"")) == (0, "")
    message = wire.Message(wire.DONE, 0x202, 1, struct.pack("=i", -2) + wire.attribute(1, b"no table\0"))
    assert wire.answer(message) == (2, "no table")


# Bytes that are no message


GOOD = [
    rt.link_add(Link("vti5", "vti", 0, "192.0.2.1", "192.0.2.2", 5, 5, 2, mtu=1400)).payload,
    rt.link_add(Link("x5", "xfrm", if_id=5)).payload,
    rt.address_add(5, "fd00::1/64").payload,
    routing.route_add(
        Route("10.2.0.0/24", "vti5", gateway="fe80::1", source="10.1.0.1", mtu=1400, metric=7), 5
    ).payload,
    wire.frame(rt.link_get("vti5"), 1),
    struct.pack("=i", -17) + REQUEST_QUOTED[:16] + SAID,
]


def read_all(data: bytes) -> None:
    """Everything that decodes, on anything; only KernelError may come out."""
    decoders: list[Callable[[bytes], object]] = [
        rt.decode_link,
        rt.decode_address,
        routing.decode_route,
        wire.messages,
        wire.attributes,
        lambda data: wire.answer(wire.Message(wire.ERROR, 0x200, 1, data)),
        lambda data: wire.answer(wire.Message(wire.ERROR, 0x300, 1, data)),
        lambda data: wire.answer(wire.Message(wire.DONE, 0x200, 1, data)),
    ]
    for decode in decoders:
        try:
            decode(data)
        except KernelError as error:
            assert error.errno == errno.EBADMSG
            assert "malformed" in error.text


@quick
@given(st.binary(max_size=200))
def test_garbage_is_an_error_in_words(data: bytes) -> None:
    read_all(data)


@quick
@given(st.sampled_from(GOOD), st.data())
def test_a_damaged_message_is_an_error_in_words(good: bytes, data: st.DataObject) -> None:
    damaged = bytearray(good[: data.draw(st.integers(0, len(good)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    read_all(bytes(damaged))


@pytest.mark.parametrize("length", [0, 3, 200, 0xFFFF])
def test_an_attribute_of_impossible_length_ends_the_reading(length: int) -> None:
    with pytest.raises(KernelError):
        wire.attributes(struct.pack("=HHI", length, 1, 0))


@pytest.mark.parametrize("size", [0, 3, 5, 15, 17])
def test_an_address_of_impossible_size_is_an_error_in_words(size: int) -> None:
    header = struct.pack("=BBBBI", 2, 24, 0, 0, 5)
    with pytest.raises(KernelError, match="malformed address"):
        rt.decode_address(header + wire.attribute(2, bytes(size)))


def test_an_address_message_without_address_is_an_error_in_words() -> None:
    with pytest.raises(KernelError, match="malformed address"):
        rt.decode_address(struct.pack("=BBBBI", 2, 24, 0, 0, 5))


@pytest.mark.parametrize("length", [0, 15, 0xFFFFFFFF])
def test_a_message_of_impossible_length_ends_the_reading(length: int) -> None:
    with pytest.raises(KernelError):
        wire.messages(struct.pack("=IHHII", length, 2, 0, 1, 0) + bytes(8))


# -- an XFRM interface for all if_ids


@quick
@given(routes(4), st.integers(1, 0xFFFFFFFF))
def test_a_route_into_it_tells_its_if_id(route: Route, if_id: int) -> None:
    message = theirs(rtmsg, routing.route_add(route._replace(if_id=if_id), 3))
    attributes = dict(message["attrs"])
    assert attributes["RTA_ENCAP_TYPE"] == 10
    assert routing.decode_route(routing.route_add(route._replace(if_id=if_id), 3).payload).if_id == if_id
    assert routing.decode_route(routing.route_add(route, 3).payload).if_id == 0


def test_it_is_made_without_an_if_id_and_read_back() -> None:
    request = rt.link_add(Link("ipsec0", "xfrm", external=True))
    assert rt.decode_link(request.payload).external is True
    assert rt.decode_link(request.payload).if_id == 0
    assert rt.decode_link(rt.link_add(Link("ipsec1", "xfrm", if_id=1)).payload).external is False


# -- rules


def rules(family: int) -> "st.SearchStrategy[Rule]":
    return st.builds(
        Rule,
        st.just(family),
        st.just(""),
        table=st.integers(1, 0xFFFFFFFF),
        priority=u32,
        source=st.one_of(st.just(""), prefix(family, 1)),
        iif=st.one_of(st.just(""), name),
        fwmark=u32,
        fwmask=st.integers(1, 0xFFFFFFFF),
        protocol=st.integers(0, 255),
    )


any_rule = st.one_of(rules(4), rules(6))


@quick
@given(any_rule, st.booleans())
def test_a_rule_says_all_of_itself(rule: Rule, marked: bool) -> None:
    rule = rule if marked else rule._replace(fwmark=0, fwmask=0)
    request = policy.rule_add(rule)
    assert (request.type, request.flags & (NLM_F_CREATE | NLM_F_EXCL)) == (32, NLM_F_CREATE | NLM_F_EXCL)
    message = theirs(fibmsg, request)
    source = f"{message.get_attr('FRA_SRC')}/{message['src_len']}" if message["src_len"] else ""
    assert (message["family"], message["action"], source) == ({4: 2, 6: 10}[rule.family], 1, rule.source)
    assert (message.get_attr("FRA_PRIORITY"), message.get_attr("FRA_TABLE")) == (rule.priority, rule.table)
    assert (message.get_attr("FRA_IIFNAME") or "", message.get_attr("FRA_PROTOCOL")) == (rule.iif, rule.protocol)
    assert (message.get_attr("FRA_FWMARK") or 0, message.get_attr("FRA_FWMASK") or 0) == (rule.fwmark, rule.fwmask)


@quick
@given(any_rule)
def test_a_rule_reads_as_it_was_written(rule: Rule) -> None:
    assert policy.decode_rule(policy.rule_add(rule).payload) == rule


OTHER_RULES: dict[str, tuple[dict[str, int], list[tuple[str, Any]]]] = {
    "to another end than a table": ({"action": 6}, []),
    "that is inverted": ({"action": 1, "flags": 2}, []),
    "for a destination": ({"action": 1, "dst_len": 8}, [("FRA_DST", "10.0.0.0")]),
    "by the device they leave by": ({"action": 1}, [("FRA_OIFNAME", "eth0")]),
    "of VRFs": ({"action": 1}, [("FRA_L3MDEV", 1)]),
    "that suppresses the default route": ({"action": 1}, [("FRA_SUPPRESS_PREFIXLEN", 0)]),
}


@pytest.mark.parametrize("case", OTHER_RULES)
def test_a_rule_that_asks_more_than_ours_may_is_none_of_them(case: str) -> None:
    fields, attributes = OTHER_RULES[case]
    more = [("FRA_TABLE", 100), ("FRA_PRIORITY", 5), *attributes]
    assert policy.decode_rule(pyroute2_bytes(fibmsg, {"family": 2, "table": 100, **fields}, more)) is None


# -- namespaces and VRFs


def test_a_link_moves_by_a_descriptor_of_the_namespace() -> None:
    message = theirs(ifinfmsg, rt.link_move(7, 5))
    assert (message["index"], message.get_attr("IFLA_NET_NS_FD")) == (7, 5)


def test_a_link_is_enslaved_and_set_up_in_one_request() -> None:
    message = theirs(ifinfmsg, rt.link_set(7, up=True, master=9))
    assert (message["index"], message.get_attr("IFLA_MASTER"), message["flags"] & 1) == (7, 9, 1)


@pytest.mark.parametrize(("dormant", "number"), [(True, 5), (False, 6)])
def test_the_operational_state_is_set_and_read(dormant: bool, number: int) -> None:
    request = rt.link_state(7, dormant)
    message = theirs(ifinfmsg, request)
    assert (message["index"], message["flags"], message["change"]) == (7, 0, 0)
    assert wire.attributes(request.payload, 16) == {16: bytes([number])}
    assert rt.decode_link(request.payload).dormant is dormant


def test_the_master_and_the_table_of_a_vrf_are_read() -> None:
    data = {"attrs": [("IFLA_VRF_TABLE", 1000)]}
    info = {"attrs": [("IFLA_INFO_KIND", "vrf"), ("IFLA_INFO_DATA", data)]}
    assert rt.decode_vrf_table(pyroute2_bytes(ifinfmsg, {"index": 9}, [("IFLA_LINKINFO", info)])) == 1000
    assert rt.decode_vrf_table(rt.link_add(Link("vti5", "vti", local="192.0.2.1")).payload) == 0
    assert rt.decode_master(pyroute2_bytes(ifinfmsg, {"index": 7}, [("IFLA_MASTER", 9)])) == 9
    assert rt.decode_master(rt.link_set(7, up=True).payload) == 0
