"""Links and their addresses: our bytes against pyroute2's, in both directions."""

import ipaddress
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from tests.kit.pyroute2_messages import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    alias,
    any_link,
    index,
    mtu,
    name,
    names,
    pyroute2_bytes,
    quick,
    theirs,
    v4,
    v6,
)
from updown.kernel.netlink import link_messages as rt
from updown.kernel.netlink import wire
from updown.model.errors import KernelError
from updown.model.objects import Link


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


@pytest.mark.parametrize("on", [True, False])
def test_multicast_is_one_flag_and_no_other(on: bool) -> None:
    message = theirs(ifinfmsg, rt.link_multicast(7, on))
    assert (message["index"], message["flags"], message["change"], names(message)) == (7, 0x1000 * on, 0x1000, [])
    answer = pyroute2_bytes(ifinfmsg, {"index": 7, "flags": 0x1043 if on else 0x43}, [("IFLA_IFNAME", "vti5")])
    assert rt.decode_link(answer) == Link("vti5", ifindex=7, up=True, multicast=on)


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
        ifaddrmsg, {"family": 10, "prefixlen": length, "index": number}, [("IFA_ADDRESS", ours), ("IFA_FLAGS", 0x82)]
    )
    assert rt.decode_address(payload) == (number, f"{ours}/{length}")


@pytest.mark.parametrize("size", [0, 3, 5, 15, 17])
def test_an_address_of_impossible_size_is_an_error_in_words(size: int) -> None:
    header = struct.pack("=BBBBI", 2, 24, 0, 0, 5)
    with pytest.raises(KernelError, match="malformed address"):
        rt.decode_address(header + wire.attribute(2, bytes(size)))


def test_an_address_message_without_address_is_an_error_in_words() -> None:
    with pytest.raises(KernelError, match="malformed address"):
        rt.decode_address(struct.pack("=BBBBI", 2, 24, 0, 0, 5))


def test_it_is_made_without_an_if_id_and_read_back() -> None:
    request = rt.link_add(Link("ipsec0", "xfrm", external=True))
    assert rt.decode_link(request.payload).external is True
    assert rt.decode_link(request.payload).if_id == 0
    assert rt.decode_link(rt.link_add(Link("ipsec1", "xfrm", if_id=1)).payload).external is False


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
