"""Our netlink and sysctl rooms on a real kernel: what they make, and what the kernel answers."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from typing import Any, Callable, NoReturn

import pytest

from updown.kernel import sysctl
from updown.kernel.netlink import dumps
from updown.kernel.netlink import link_messages as rt
from updown.kernel.netlink import route_messages as routing
from updown.kernel.netlink.route_messages import LOCAL, RouteSeen
from updown.kernel.netlink.routing import Match
from updown.kernel.netlink.rtnetlink import Netlink
from updown.kernel.netlink.wire import frame
from updown.model.errors import KernelError
from updown.model.objects import OUR_ALIAS, OUR_PROTOCOL, Link, Path, Route

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("namespace")]

VTI = Link("vti5", "vti", 0, "192.0.2.1", "192.0.2.2", 5, 0xFFFFFFF5, up=True, alias=OUR_ALIAS)
VTI6 = Link("vti6", "vti6", 0, "2001:db8::1", "2001:db8::2", 0xFFFFFFFF, 6, up=True, alias=OUR_ALIAS)
XFRM = Link("xfrm7", "xfrm", 0, parent=1, if_id=0xFFFFFFF7, up=True, alias=OUR_ALIAS)
DUMMY = Link("dummy0", "dummy", up=True)


def refused(number: int, do: Callable[..., object], *arguments: Any, **named: Any) -> KernelError:
    """The refusal of a call, which must be this one and fit for a daemon's log."""
    with pytest.raises(KernelError) as caught:
        do(*arguments, **named)
    error = caught.value
    assert error.errno == number, error.text
    assert os.strerror(number) in error.text
    assert max(len(error.text), len(error.hint)) <= 120
    return error


def ip(*words: str) -> Any:
    """What iproute2 says, as a second witness."""
    done = subprocess.run(["ip", "-d", "-j", *words], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout or b"[]")


def run(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def as_nobody(do: Callable[[], object]) -> object:
    """The outcome of a call in a child without root or capabilities."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _answer_as_nobody(do, write)
    os.close(write)
    with os.fdopen(read) as answers:
        outcome = json.load(answers)
    os.waitpid(child, 0)
    return outcome


def _answer_as_nobody(do: Callable[[], object], write: int) -> NoReturn:
    os.setgid(65534)
    os.setuid(65534)
    try:
        answer = do()
    except KernelError as error:
        answer = [error.errno, error.text, error.hint]
    os.write(write, json.dumps(answer).encode())
    os._exit(0)


# Links


@pytest.mark.parametrize("link", [VTI, VTI6, XFRM], ids=lambda link: str(link.kind))
def test_a_device_is_made_read_and_deleted(netlink: Netlink, link: Link) -> None:
    made = netlink.add_link(link)
    assert made.ifindex > 1
    assert made.mtu >= 1280
    assert made == link._replace(ifindex=made.ifindex, mtu=made.mtu)
    assert netlink.link(link.name) == netlink.link_at(made.ifindex) == made
    netlink.delete_link(made.ifindex)
    assert netlink.link(link.name) is None
    assert netlink.link_at(made.ifindex) is None


def test_iproute2_sees_what_we_made(netlink: Netlink) -> None:
    netlink.add_link(VTI)
    (seen,) = ip("link", "show", "dev", "vti5")
    assert seen["ifalias"] == OUR_ALIAS
    assert "UP" in seen["flags"]
    data = seen["linkinfo"]["info_data"]
    assert (data["local"], data["remote"]) == ("192.0.2.1", "192.0.2.2")
    assert (data["ikey"], data["okey"]) == ("0.0.0.5", "255.255.255.245")


@pytest.mark.parametrize("link", [VTI, VTI6, XFRM], ids=lambda link: str(link.kind))
def test_a_device_may_be_made_down_and_with_an_mtu(netlink: Netlink, link: Link) -> None:
    wanted = link._replace(mtu=1390, up=False, alias="")
    made = netlink.add_link(wanted)
    assert made == wanted._replace(ifindex=made.ifindex)


def test_a_device_has_a_parent(netlink: Netlink) -> None:
    parent = netlink.add_link(DUMMY).ifindex
    for link in (VTI, VTI6, XFRM):
        assert netlink.add_link(link._replace(parent=parent)).parent == parent


@pytest.mark.parametrize("any_end", ["", "0.0.0.0"])
def test_a_wildcard_device(netlink: Netlink, any_end: str) -> None:
    assert netlink.add_link(VTI._replace(remote=any_end)).remote == "0.0.0.0"


def test_ends_are_compared_as_addresses(netlink: Netlink) -> None:
    made = netlink.add_link(VTI6._replace(local="2001:0DB8:0:0::1", remote="2001:db8::0:2"))
    assert (made.local, made.remote) == ("2001:db8::1", "2001:db8::2")


@pytest.mark.parametrize("link", [VTI, VTI6, XFRM], ids=lambda link: str(link.kind))
def test_a_taken_name_is_eexist(netlink: Netlink, link: Link) -> None:
    made = netlink.add_link(link)
    other = link._replace(local="", remote="", if_id=99)
    error = refused(errno.EEXIST, netlink.add_link, other)
    assert error.text.startswith(f"link add {link.name}: ")
    assert netlink.link(link.name) == made


@pytest.mark.parametrize("link", [VTI, VTI6, XFRM], ids=lambda link: str(link.kind))
def test_a_taken_identity_is_eexist_whatever_the_keys(netlink: Netlink, link: Link) -> None:
    netlink.add_link(link)
    refused(errno.EEXIST, netlink.add_link, link._replace(name="other", ikey=77, okey=78))
    assert netlink.link("other") is None


def test_a_device_that_reads_back_otherwise_is_taken_away(netlink: Netlink, monkeypatch: pytest.MonkeyPatch) -> None:
    add = rt.link_add
    monkeypatch.setattr(rt, "link_add", lambda link: add(link._replace(okey=0)))
    with pytest.raises(KernelError, match="asked for okey 4294967285, the kernel has 0") as caught:
        netlink.add_link(VTI)
    assert caught.value.errno == errno.EPROTO
    assert netlink.link("vti5") is None


@pytest.mark.parametrize(
    ("kind", "option"), [("vti", "CONFIG_NET_IPVTI"), ("vti6", "CONFIG_IPV6_VTI"), ("xfrm", "CONFIG_XFRM_INTERFACE")]
)
def test_a_missing_module_is_named(netlink: Netlink, monkeypatch: pytest.MonkeyPatch, kind: str, option: str) -> None:
    add = rt.link_add
    monkeypatch.setattr(rt, "link_add", lambda link: add(link._replace(kind="nonesuch")))
    error = refused(errno.EOPNOTSUPP, netlink.add_link, Link("vti5", kind))
    assert option in error.hint


def test_the_kernels_own_text_comes_first(netlink: Netlink) -> None:
    netlink.add_link(VTI)
    error = refused(errno.ENETUNREACH, netlink.add_route, Route("10.2.0.0/24", "vti5", gateway="203.0.113.1"))
    assert error.text == "route add 10.2.0.0/24 dev vti5: Nexthop has invalid gateway: Network is unreachable"


@pytest.mark.parametrize("link", [VTI, VTI6], ids=lambda link: str(link.kind))
def test_keys_and_ends_change_in_place(netlink: Netlink, link: Link) -> None:
    made = netlink.add_link(link)
    local, remote = ("192.0.2.7", "192.0.2.8") if link.kind == "vti" else ("2001:db8::7", "2001:db8::8")
    wanted = made._replace(local=local, remote=remote, ikey=70, okey=80, mtu=1380)
    assert netlink.change_link(wanted) == wanted
    assert netlink.change_link(wanted._replace(ikey=71)) == wanted._replace(ikey=71)
    assert netlink.link(link.name) == wanted._replace(ikey=71)


def test_an_index_beats_the_name(netlink: Netlink) -> None:
    first = netlink.add_link(VTI)
    second = netlink.add_link(VTI._replace(name="other", remote="192.0.2.3"))
    assert netlink.change_link(second._replace(name="", ikey=9)) == second._replace(ikey=9)
    with pytest.raises(KernelError, match="asked for name vti5, the kernel has other"):
        netlink.change_link(second._replace(name="vti5", ikey=9))
    assert netlink.link("vti5") == first


def test_an_if_id_changes_in_place(netlink: Netlink) -> None:
    made = netlink.add_link(XFRM)
    assert netlink.change_link(made._replace(if_id=8)).if_id == 8
    refused(errno.EINVAL, netlink.change_link, made._replace(parent=0))


def test_a_change_leaves_state_mtu_and_alias(netlink: Netlink) -> None:
    made = netlink.add_link(VTI._replace(mtu=1390))
    assert netlink.change_link(made._replace(ikey=9, mtu=0, up=False, alias="")) == made._replace(ikey=9)


def test_a_change_to_a_taken_identity_is_eexist(netlink: Netlink) -> None:
    netlink.add_link(VTI)
    other = netlink.add_link(VTI._replace(name="other", remote="192.0.2.3"))
    refused(errno.EEXIST, netlink.change_link, other._replace(remote=VTI.remote))
    assert netlink.link("other") == other


def test_wildcard_and_specific_do_not_change_into_each_other(netlink: Netlink) -> None:
    specific = netlink.add_link(VTI)
    refused(errno.EINVAL, netlink.change_link, specific._replace(remote="0.0.0.0"))
    wildcard = netlink.add_link(VTI._replace(name="any", remote=""))
    refused(errno.EINVAL, netlink.change_link, wildcard._replace(remote="192.0.2.9"))
    assert netlink.link("any") == wildcard


def test_a_change_the_kernel_did_not_do_is_told(netlink: Netlink, monkeypatch: pytest.MonkeyPatch) -> None:
    made = netlink.add_link(VTI)
    change = rt.link_change
    monkeypatch.setattr(rt, "link_change", lambda index, link: change(index, link._replace(ikey=1)))
    with pytest.raises(KernelError, match="asked for ikey 2, the kernel has 1"):
        netlink.change_link(made._replace(ikey=2))


def test_state_mtu_and_alias_are_set(netlink: Netlink) -> None:
    made = netlink.add_link(VTI)
    netlink.set_link(made.ifindex, up=False)
    netlink.set_link(made.ifindex, mtu=1300)
    netlink.set_link(made.ifindex, alias="somebody else's")
    assert netlink.link("vti5") == made._replace(up=False, mtu=1300, alias="somebody else's")
    netlink.set_link(made.ifindex, up=True, mtu=1400, alias="")
    assert netlink.link("vti5") == made._replace(mtu=1400, alias="")


def test_a_fallback_device_stays(netlink: Netlink) -> None:
    netlink.add_link(VTI)
    fallback = netlink.link("ip_vti0")
    if fallback is None:
        pytest.skip("net.core.fb_tunnels_only_for_init_net is set")
    assert (fallback.kind, fallback.local, fallback.remote) == ("vti", "0.0.0.0", "0.0.0.0")
    netlink.delete_link(fallback.ifindex)
    assert netlink.link("ip_vti0") == fallback


def test_a_device_that_is_not_there(netlink: Netlink) -> None:
    assert netlink.link("nonesuch") is None
    assert netlink.link_at(4711) is None
    assert netlink.path("127.0.0.1", "nonesuch") is None
    refused(errno.ENODEV, netlink.delete_link, 4711)
    refused(errno.ENODEV, netlink.change_link, VTI)
    refused(errno.ENODEV, netlink.change_link, VTI._replace(ifindex=4711))
    refused(errno.ENODEV, netlink.set_link, 4711, up=True)
    refused(errno.ENODEV, netlink.add_address, 4711, "10.0.0.1/32")
    error = refused(errno.ENODEV, netlink.add_route, Route("10.2.0.0/24", "nonesuch"))
    assert error.text == "route add 10.2.0.0/24 dev nonesuch: No such device"
    refused(errno.ENODEV, netlink.delete_route, Route("10.2.0.0/24", "nonesuch"))
    refused(errno.ENODEV, netlink.addresses, 4711)
    assert netlink.match("192.0.2.9", oif=4711) == Match(None, errno.ENODEV)


def test_without_root_reading_works_and_changing_says_how(netlink: Netlink) -> None:
    index = netlink.add_link(VTI).ifindex

    def change() -> object:
        with Netlink() as mine:
            assert mine.link("vti5") is not None
            mine.delete_link(index, "vti5")
        return "done"

    assert as_nobody(change) == [errno.EPERM, "link delete vti5: Operation not permitted", "run as root or with CAP_NET_ADMIN"]
    assert netlink.link("vti5") is not None


# Addresses


def test_addresses_come_and_go(netlink: Netlink) -> None:
    index = netlink.add_link(VTI).ifindex
    before = netlink.addresses(index)
    wanted = ["10.99.0.1/30", "10.99.0.1/32", "169.254.7.1/30", "fd00:99::1/64", "fe80::5/64"]
    for address in wanted:
        netlink.add_address(index, address)
    assert sorted(set(netlink.addresses(index)) - set(before)) == sorted(wanted)
    assert netlink.addresses(index, 4) == wanted[:3]
    assert set(netlink.addresses(index, 6)) - set(before) == set(wanted[3:])
    assert netlink.addresses(1) == ["127.0.0.1/8", "::1/128"]
    for address in wanted:
        netlink.delete_address(index, address)
    assert netlink.addresses(index) == before


def test_scopes_and_flags_are_iproute2s(netlink: Netlink) -> None:
    index = netlink.add_link(DUMMY).ifindex
    addresses = ["10.99.0.1/30", "169.254.7.1/30", "127.0.5.1/32", "fd00::1/64", "fe80::7/64"]
    for address in addresses:
        netlink.add_address(index, address)
    other = netlink.add_link(DUMMY._replace(name="dummy1")).ifindex
    assert other != index
    for address in addresses:
        run("address", "add", address, "dev", "dummy1", *(["nodad"] if ":" in address else []))
    by_us, by_them = (ip("address", "show", "dev", name)[0]["addr_info"] for name in ("dummy0", "dummy1"))

    def plain(info: Any) -> list[tuple[Any, ...]]:
        own = [entry for entry in info if "nodad" in entry or "." in entry["local"]]
        return [(e["local"], e["prefixlen"], e["scope"], e.get("nodad"), e.get("tentative")) for e in own]

    assert len(plain(by_us)) == 5
    assert plain(by_us) == plain(by_them)


@pytest.mark.parametrize("address", ["10.99.0.1/30", "fd00:99::1/64"])
def test_an_address_twice(netlink: Netlink, address: str) -> None:
    index = netlink.add_link(VTI).ifindex
    netlink.add_address(index, address)
    error = refused(errno.EEXIST, netlink.add_address, index, address, device="vti5")
    assert error.text.startswith(f"address add {address} dev vti5: ")
    netlink.add_address(index, address, replace=True)
    netlink.delete_address(index, address)
    refused(errno.EADDRNOTAVAIL, netlink.delete_address, index, address)


# Routes


FOUR = Route("10.2.0.0/24", "vti5", metric=77, mtu=1350, source="10.99.0.1")
SIX = Route("fd02::/48", "vti5", metric=77, mtu=1350, source="fd00:99::1")


@pytest.fixture
def tunnel(netlink: Netlink) -> int:
    """The index of a device with an address of each family."""
    index = netlink.add_link(VTI).ifindex
    netlink.add_address(index, "10.99.0.1/30")
    netlink.add_address(index, "fd00:99::1/64")
    return index


def seen(route: Route, oif: int) -> RouteSeen:
    metric = route.metric or (1024 if ":" in route.destination else 0)
    return RouteSeen(
        route.destination, oif, route.gateway, route.table, metric, route.mtu, route.source, route.protocol, routing.UNICAST
    )


@pytest.mark.parametrize(
    "route",
    [
        FOUR,
        SIX,
        FOUR._replace(gateway="10.99.0.2"),
        SIX._replace(gateway="fd00:99::2"),
        FOUR._replace(gateway="fe80::9", source=""),
        FOUR._replace(table=1000),
        SIX._replace(table=1000),
        FOUR._replace(table=0xFFFFFFFE, metric=0xFFFFFFFF),
        SIX._replace(table=220, metric=0xFFFFFFFF),
        Route("10.2.0.9/32", "vti5"),
        Route("fd02::9/128", "vti5"),
        Route("0.0.0.0/0", "vti5"),
        Route("::/0", "vti5"),
        Route("0.0.0.0/1", "vti5"),
        Route("8000::/1", "vti5", protocol=3),
    ],
    ids=lambda route: f"{route.destination}-{route.table}-{route.gateway or 'link'}",
)
def test_a_route_comes_and_goes(netlink: Netlink, tunnel: int, route: Route) -> None:
    netlink.add_route(route)
    family = 6 if ":" in route.destination else 4
    assert netlink.routes(family, route.table, tunnel, route.protocol) == [seen(route, tunnel)]
    host = route.destination.split("/")[0]
    if route.table == 254 and host not in ("0.0.0.0", "::"):
        assert netlink.match(host) == Match(seen(route, tunnel))
    refused(errno.EEXIST, netlink.add_route, route)
    netlink.delete_route(route)
    assert netlink.routes(family, route.table, tunnel, route.protocol) == []
    refused(errno.ESRCH, netlink.delete_route, route)


@pytest.mark.usefixtures("tunnel")
@pytest.mark.parametrize("route", [FOUR, SIX], ids=["IPv4", "IPv6"])
def test_only_the_route_that_agrees_is_deleted(netlink: Netlink, route: Route) -> None:
    other = netlink.add_link(VTI._replace(name="other", remote="192.0.2.3")).ifindex
    netlink.add_route(route)
    refused(errno.ESRCH, netlink.delete_route, route, other)
    for wrong in (route._replace(protocol=4), route._replace(metric=78), route._replace(table=255)):
        refused(errno.ESRCH, netlink.delete_route, wrong)
    netlink.delete_route(route)


@pytest.mark.parametrize("route", [FOUR, SIX], ids=["IPv4", "IPv6"])
def test_a_route_is_replaced(netlink: Netlink, tunnel: int, route: Route) -> None:
    other = netlink.add_link(VTI._replace(name="other", remote="192.0.2.3")).ifindex
    plain = route._replace(source="", mtu=0)
    netlink.add_route(plain)
    refused(errno.EEXIST, netlink.add_route, plain, other)
    netlink.add_route(plain, other, replace=True)
    assert netlink.match(route.destination.split("/")[0]) == Match(seen(plain, other))
    netlink.add_route(route, replace=True)
    assert netlink.match(route.destination.split("/")[0]) == Match(seen(route, tunnel))


def test_a_match_is_exact(netlink: Netlink, tunnel: int) -> None:
    for family, wide, narrow, inside, outside in (
        (4, "10.2.0.0/16", "10.2.3.0/24", "10.2.3.4", "10.2.4.4"),
        (6, "fd02::/32", "fd02:0:3::/48", "fd02:0:3::4", "fd02:0:4::4"),
    ):
        assert netlink.match(inside) == Match(None, errno.ENETUNREACH), family
        assert netlink.match(inside).answered
        netlink.add_route(Route(wide, "vti5"))
        netlink.add_route(Route(narrow, "vti5", metric=50))
        netlink.add_route(Route(narrow, "vti5", metric=40))
        assert netlink.match(inside) == Match(seen(Route(narrow, "vti5", metric=40), tunnel))
        assert netlink.match(outside) == Match(seen(Route(wide, "vti5"), tunnel))
        outcome = netlink.match(inside, fib=False).route
        assert outcome is not None
        assert outcome.destination.split("/")[0] == inside
        assert outcome.source == ("10.99.0.1" if family == 4 else "fd00:99::1")


def test_a_match_through_one_device(netlink: Netlink, tunnel: int) -> None:
    other = netlink.add_link(VTI._replace(name="other", remote="192.0.2.3")).ifindex
    for destination in ("10.2.0.0/24", "fd02::/48"):
        host = destination.split("/")[0]
        netlink.add_route(Route(destination, "vti5"))
        assert netlink.match(host, oif=tunnel) == Match(seen(Route(destination, "vti5"), tunnel))
        assert netlink.match(host, oif=other) == Match(None, errno.ENETUNREACH)
        assert netlink.path(host, "other") is None
        netlink.add_route(Route(destination, "other", metric=5000))
        path = netlink.path(host, "other")
        assert path is not None
        assert path.device == "other"
        assert path == netlink.path(host, "other")


def test_a_match_in_a_vrf(netlink: Netlink, tunnel: int) -> None:
    try:
        run("link", "add", "blue", "type", "vrf", "table", "10")
    except subprocess.CalledProcessError:
        pytest.skip("the kernel has no VRF")
    run("link", "set", "blue", "up")
    run("link", "set", "vti5", "master", "blue")
    route = Route("10.2.0.0/24", "vti5", table=10)
    netlink.add_route(route)
    blue = netlink.link("blue")
    assert blue is not None
    assert (blue.kind, blue.up) == ("vrf", True)
    assert netlink.match("10.2.0.1").route is None
    assert netlink.match("10.2.0.1", oif=blue.ifindex) == Match(seen(route, tunnel))
    assert netlink.path("10.2.0.1", "blue") == Path("vti5", "", "10.99.0.1")


def test_a_mark_decides(netlink: Netlink, tunnel: int) -> None:
    for destination, flag in (("10.2.0.0/24", "-4"), ("fd02::/48", "-6")):
        run(flag, "rule", "add", "fwmark", "9", "table", "100")
        route = Route(destination, "vti5", table=100)
        netlink.add_route(route)
        host = destination.split("/")[0]
        assert netlink.match(host).route is None
        assert netlink.match(host, mark=9) == Match(seen(route, tunnel))
        assert netlink.match(host, mark=9).table == 100


@pytest.mark.parametrize(
    ("kind", "kind_number", "number"),
    [("unreachable", 7, errno.EHOSTUNREACH), ("prohibit", 8, errno.EACCES), ("blackhole", 6, errno.EINVAL)],
)
def test_a_route_of_an_error_type_is_not_the_same_as_none(netlink: Netlink, kind: str, kind_number: int, number: int) -> None:
    run("route", "add", kind, "10.2.0.0/24")
    run("-6", "route", "add", kind, "fd02::/48")
    for address in ("10.2.0.1", "fd02::1"):
        assert netlink.match(address) == Match(None, number)
        assert netlink.match(address, fib=False) == Match(None, number)
        assert not netlink.match(address).answered
    assert {route.type for route in netlink.routes(4, 254)} == {kind_number}
    assert netlink.path("10.2.0.1") is None
    assert netlink.path("fd02::1") is None


@pytest.mark.usefixtures("tunnel")
def test_paths(netlink: Netlink) -> None:
    netlink.add_route(Route("0.0.0.0/0", "vti5", gateway="10.99.0.2"))
    netlink.add_route(Route("::/0", "vti5", gateway="fd00:99::2", source="fd00:99::1"))
    assert netlink.path("198.51.100.1") == Path("vti5", "10.99.0.2", "10.99.0.1")
    assert netlink.path("198.51.100.1", "vti5") == Path("vti5", "10.99.0.2", "10.99.0.1")
    assert netlink.path("2001:db8:9::1") == Path("vti5", "fd00:99::2", "fd00:99::1")
    assert netlink.path("2001:db8:9::1", "vti5") == Path("vti5", "fd00:99::2", "fd00:99::1")
    assert netlink.path("10.99.0.2") == Path("vti5", "", "10.99.0.1")
    for address in ("10.99.0.1", "127.0.0.1", "fd00:99::1", "::1"):
        path = netlink.path(address)
        assert path is not None
        assert path.local
    for address in ("10.99.0.3", "224.0.0.1"):  # broadcast, multicast
        assert netlink.path(address) is None
    outcome = netlink.match("10.99.0.1").route
    assert outcome is not None
    assert outcome.type == LOCAL


def test_no_path_in_an_empty_namespace(netlink: Netlink) -> None:
    assert netlink.path("198.51.100.1") is None
    assert netlink.path("2001:db8:9::1") is None
    assert netlink.path("198.51.100.1", "lo") is None


def test_a_table_that_is_not_there_has_no_routes(netlink: Netlink) -> None:
    assert netlink.routes(4, 4711) == netlink.routes(6, 4711) == []


@pytest.mark.parametrize("family", [4, 6])
def test_a_dump_of_many_routes(netlink: Netlink, tunnel: int, family: int) -> None:
    wanted = [Route(f"10.{n}.0.0/16" if family == 4 else f"fd02:{n + 1:x}::/32", "vti5") for n in range(200)]
    for route in wanted:
        netlink.add_route(route, tunnel)
    netlink.add_route(Route("198.51.100.0/24" if family == 4 else "fd03::/32", "vti5", protocol=4))
    found = netlink.routes(family, protocol=OUR_PROTOCOL)
    assert sorted(found) == sorted(seen(route, tunnel) for route in wanted)
    assert sorted(found) == sorted(r for r in dumps.routes(OUR_PROTOCOL) if (":" in r.destination) == (family == 6))


def test_a_kernel_that_does_not_filter_dumps(netlink: Netlink, tunnel: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 4.20 it ignores device, table and protocol; with ipv6.disable=1 it answers with IPv4."""
    wanted = [Route("10.2.0.0/24", "vti5", table=100), Route("10.3.0.0/24", "vti5", table=100, protocol=4)]
    for route in [*wanted, FOUR, SIX, SIX._replace(table=100)]:
        netlink.add_route(route)
    routes_get, addresses_get = routing.routes_get, rt.addresses_get
    monkeypatch.setattr(routing, "routes_get", lambda family, *_: routes_get(family and 0, 0))
    monkeypatch.setattr(rt, "addresses_get", lambda *_: addresses_get(0))
    assert netlink.routes(4, 100, tunnel) == [seen(route, tunnel) for route in wanted]
    assert netlink.routes(4, 100, protocol=4) == [seen(wanted[1], tunnel)]
    assert netlink.routes(6, 100) == [seen(SIX._replace(table=100), tunnel)]
    assert netlink.routes(4, 100, oif=1) == []
    assert netlink.addresses(tunnel, 4) == ["10.99.0.1/30"]
    assert "fd00:99::1/64" in netlink.addresses(tunnel, 6)
    assert netlink.addresses(1) == ["127.0.0.1/8", "::1/128"]


def test_a_dump_larger_than_the_buffer_is_repeated(netlink: Netlink, tunnel: int) -> None:
    for n in range(300):  # several datagrams of 4 KiB
        netlink.add_route(Route(f"10.{n // 2}.{n % 2}.0/24", "vti5"), tunnel)
    with Netlink() as fresh:  # of the old one the kernel knows that it takes larger ones
        fresh._buffer = bytearray(256)
        assert len(fresh.routes(4, 254, protocol=OUR_PROTOCOL)) == 300
    netlink._buffer = bytearray(64)
    assert netlink.link("vti5") is not None


@pytest.mark.usefixtures("tunnel")
def test_a_multipath_route_has_no_device_of_its_own(netlink: Netlink) -> None:
    netlink.add_link(VTI._replace(name="other", remote="192.0.2.3"))
    run("route", "add", "10.2.0.0/24", "nexthop", "dev", "vti5", "nexthop", "dev", "other")
    (found,) = [route for route in netlink.routes(4, 254) if route.destination == "10.2.0.0/24"]
    assert (found.oif, len(found.hops)) == (0, 2)


# The socket


def test_the_cookie_tells_namespaces_apart(netlink: Netlink) -> None:
    cookie = netlink.namespace_cookie()
    if cookie is None:
        pytest.skip("a kernel before 5.14")
    with Netlink() as same:
        assert same.namespace_cookie() == cookie
    code = "from updown.kernel.netlink.rtnetlink import Netlink; print(Netlink().namespace_cookie())"
    other = subprocess.run(["unshare", "-n", sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
    assert int(other.stdout) not in (0, cookie)


def test_a_kernel_that_does_not_answer_is_not_waited_for(netlink: Netlink, monkeypatch: pytest.MonkeyPatch) -> None:
    netlink._socket.settimeout(0.2)
    monkeypatch.setattr(netlink, "_receive", lambda: netlink._socket.recv(1) and [])
    started = time.monotonic()
    with pytest.raises(KernelError) as caught:
        netlink.link("lo")
    assert caught.value.errno == errno.ETIMEDOUT
    assert time.monotonic() - started < 4


def test_an_answer_to_a_request_given_up_is_not_taken_for_the_next(netlink: Netlink) -> None:
    netlink._socket.send(frame(rt.link_get(index=1), 4711))
    index = netlink.add_link(VTI).ifindex
    assert index > 1
    assert netlink.link("nonesuch") is None


def test_an_interrupted_dump_is_repeated(netlink: Netlink, monkeypatch: pytest.MonkeyPatch) -> None:
    receive = netlink._receive
    asked: list[object] = []

    def interrupted() -> Any:
        found = receive()
        if len(asked) < 1:
            asked.append(found)
            return [message._replace(flags=message.flags | 0x10) for message in found]
        return found

    monkeypatch.setattr(netlink, "_receive", interrupted)
    assert netlink.addresses(1) == ["127.0.0.1/8", "::1/128"]
    assert asked


def test_a_dump_interrupted_for_ever_ends(netlink: Netlink, monkeypatch: pytest.MonkeyPatch) -> None:
    receive = netlink._receive
    monkeypatch.setattr(netlink, "_receive", lambda: [message._replace(flags=message.flags | 0x10) for message in receive()])
    with pytest.raises(KernelError, match="incomplete 5 times"):
        netlink.addresses(1)


def test_no_descriptor_is_left_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with Netlink() as opened:
            opened.link("lo")
    assert len(os.listdir("/proc/self/fd")) == before


# Sysctls


def test_a_sysctl_is_written_and_read(netlink: Netlink) -> None:
    netlink.add_link(VTI._replace(name="vti0.5"))
    path = "net/ipv4/conf/vti0.5/rp_filter"
    for value in ("2", "0"):
        sysctl.write(path, value)
        assert sysctl.read(path) == value


def test_a_sysctl_that_is_not_there() -> None:
    path = "net/ipv4/conf/nonesuch/rp_filter"
    assert sysctl.read(path) is None
    assert refused(errno.ENOENT, sysctl.write, path, "1").text.startswith(f"sysctl {path}=1: ")
    assert sysctl.read("net/ipv4/conf/lo/rp_filter/deeper") is None


def test_a_value_the_kernel_does_not_take() -> None:
    refused(errno.EINVAL, sysctl.write, "net/ipv4/conf/lo/rp_filter", "many")


def test_a_sysctl_without_root_says_how() -> None:
    def write() -> object:
        sysctl.write("net/ipv4/conf/lo/rp_filter", "1")
        return "done"

    answer = as_nobody(write)
    assert isinstance(answer, list)
    assert answer[0] == errno.EACCES
    assert "ProtectKernelTunables=" in answer[2]
    assert len(answer[2]) <= 120


@pytest.mark.parametrize("path", ["", "/etc/passwd", "net/../../../etc/passwd", "net//x", "a\0b", "net/./x"])
def test_a_path_out_of_proc_sys_is_refused(path: str) -> None:
    for use in (sysctl.read, lambda path: sysctl.write(path, "1")):
        with pytest.raises(KernelError) as caught:
            use(path)
        assert caught.value.errno == errno.EINVAL


# pyroute2's view


def test_pyroute2_sees_the_same_links(netlink: Netlink) -> None:
    for link in (VTI, VTI6, XFRM, DUMMY, VTI._replace(name="any", remote="")):
        netlink.add_link(link)
    found = dumps.links()
    assert {"lo", "vti5", "vti6", "xfrm7", "dummy0", "any"} <= {link.name for link in found}
    for link in found:
        assert link == netlink.link(link.name)


def test_pyroute2_sees_the_same_routes(netlink: Netlink, tunnel: int) -> None:
    wanted = [FOUR, SIX, FOUR._replace(table=1000), Route("::/0", "vti5"), Route("0.0.0.0/0", "vti5")]
    for route in wanted:
        netlink.add_route(route)
    netlink.add_route(Route("10.3.0.0/24", "vti5", protocol=4))
    assert sorted(dumps.routes(OUR_PROTOCOL)) == sorted(seen(route, tunnel) for route in wanted)


def test_pyroute2_sees_the_same_hops(netlink: Netlink, tunnel: int) -> None:
    other = netlink.add_link(VTI._replace(name="other", remote="192.0.2.3")).ifindex
    netlink.set_link(other, up=True)
    for destination in ("10.4.0.0/24", "fd04::/64"):
        netlink.add_route(Route(destination, "vti5"), tunnel, hops=[other])
    found = dumps.routes(OUR_PROTOCOL)
    assert [route.hops for route in found] == [(tunnel, other)] * 2
    assert found == netlink.routes(4, protocol=OUR_PROTOCOL) + netlink.routes(6, protocol=OUR_PROTOCOL)
