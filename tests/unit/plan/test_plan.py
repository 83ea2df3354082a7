"""What an event does to the kernel: devices, addresses, sysctls and routes, against the kernel model."""

import errno

import pytest

from tests.kit.machine import (
    EAST6,
    GATEWAY,
    THIRD,
    WEST,
    WEST6,
    Environment,
    Machine,
    Tunnel,
    call,
    establish,
    withdraw,
)
from updown.kernel import sysctl
from updown.model.errors import Conflict, KernelError, UpdownError
from updown.model.objects import OUR_ALIAS, OUR_PROTOCOL, Address, Link, Route, Rule
from updown.model.operations import Operation
from updown.model.resources import Clamp, Sysctl
from updown.output.iproute2 import command, wrapped
from updown.output.lines import folded

T = Tunnel(address="10.99.0.1/30")
U = Tunnel("u", peer=THIRD, theirs="10.3.0.0/24", reqid=16392)
SIX = Tunnel(me=WEST6, peer=EAST6, mine="fd00:1::/64", theirs="fd00:2::/64")
MADE = Link("vti5", "vti", local=WEST, remote=T.peer, ikey=5, okey=5)

TUNNELS = {
    "permanent": T,
    "4.10": T._replace(release=4),
    "IPv6 in IPv6": SIX,
    "IPv6 in IPv4": T._replace(mine="fd00:1::/64", theirs="fd00:2::/64"),
    "IPv4 in IPv6": T._replace(me=WEST6, peer=EAST6, mark_in="49/0xffffffff", mark_out="50/0xffffffff"),
    "everything": T._replace(mine="0.0.0.0/0", theirs="0.0.0.0/0"),
    "everything in IPv6": SIX._replace(mine="::/0", theirs="::/0"),
    "shared": T._replace(shared="yes"),
    "instance": T._replace(kind="CK_INSTANCE"),
    "source address, metric, MTU": T._replace(source="10.1.0.1", metric="50", mtu="1400"),
    "source address in IPv6": SIX._replace(source="fd00:1::1", address="fd00:99::1/64"),
    "a range": T._replace(theirs="10.2.0.1-10.2.0.6"),
    "routing=no": T._replace(routing="no"),
    "no address": T._replace(address=""),
    "the prefix that holds the peer": T._replace(theirs="198.51.100.0/24"),
}


@pytest.mark.parametrize("case", TUNNELS)
def test_every_event_twice_does_nothing_the_second_time(machine: Machine, case: str) -> None:
    """Promise P1."""
    tunnel = TUNNELS[case]
    for environment in [*establish(tunnel), *withdraw(tunnel)]:
        machine.send(environment)
        again = machine.send(environment)
        assert again.operations == ()
        assert machine.unfinished() == []


@pytest.mark.parametrize("case", TUNNELS)
def test_a_tunnel_leaves_no_trace_but_a_device_that_stays_by_rule(machine: Machine, case: str) -> None:
    before = machine.kernel.picture(indexes=False)
    tunnel = TUNNELS[case]
    machine.send_all([*establish(tunnel), *withdraw(tunnel)])
    if case in ("shared", "instance"):
        assert machine.devices() == {"vti5"}
        assert machine.addresses("vti5") == []
        machine.kernel.remove(machine.kernel.named("vti5").ifindex)
    assert machine.kernel.picture(indexes=False) == before
    assert machine.claims() == []


@pytest.mark.parametrize("case", TUNNELS)
@pytest.mark.parametrize("verb", ["up", "route", "prepare-route-up"])
def test_up_alone_or_route_alone_builds_all(machine: Machine, case: str, verb: str) -> None:
    """Promise P2."""
    tunnel = TUNNELS[case]
    machine.send_all(establish(tunnel))
    whole = machine.kernel.picture(indexes=False)
    machine.send_all(withdraw(tunnel))
    for name in machine.devices():
        machine.kernel.remove(machine.kernel.named(name).ifindex)
    machine.now += 601
    machine.send(call(tunnel, verb))
    assert machine.kernel.picture(indexes=False) == whole


def test_the_device_has_both_ends_both_keys_our_alias_and_is_up(machine: Machine) -> None:
    machine.send(call(T._replace(mark_in="21/0xffffffff", mark_out="22/0xffffffff"), "prepare"))
    link = machine.kernel.named("vti5")
    assert link._replace(ifindex=0, mtu=0) == MADE._replace(ikey=21, okey=22, up=True, alias=OUR_ALIAS)


def test_an_ipv6_outer_address_makes_a_vti6(machine: Machine) -> None:
    machine.send(call(TUNNELS["IPv4 in IPv6"], "up"))
    link = machine.kernel.named("vti5")
    assert (link.kind, link.local, link.remote, link.ikey, link.okey) == ("vti6", WEST6, EAST6, 49, 50)
    assert machine.routes() == {("10.2.0.0/24", "vti5")}


# -- sysctls


def sysctls(machine: Machine) -> dict[str, str]:
    found = {path: value for path, value in machine.kernel.files.items() if "/vti5/" in path}
    return {path.replace("net/", "").replace("/conf/vti5/", " "): value for path, value in found.items()}


@pytest.mark.parametrize(("of_all", "effective"), [("0", "0"), ("1", "2"), ("2", "0")])
def test_the_sysctls_are_what_libreswans_users_count_on(machine: Machine, of_all: str, effective: str) -> None:
    machine.kernel.files["net/ipv4/conf/all/rp_filter"] = of_all
    machine.send(call(T, "prepare"))
    assert {path: value for path, value in sysctls(machine).items() if "keep_addr" not in path} == {
        "ipv4 disable_policy": "1",
        "ipv4 forwarding": "1",
        "ipv4 rp_filter": effective,
        "ipv4 disable_xfrm": "0",
        "ipv6 disable_policy": "1",
        "ipv6 forwarding": "1",
        "ipv6 addr_gen_mode": "0",
        "ipv6 accept_ra": "1",
    }


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("disable_policy = no", "ipv4 disable_policy", "0"),
        ("disable_policy = keep", "ipv6 disable_policy", "0"),
        ("forwarding = keep", "ipv4 forwarding", "0"),
        ("rp_filter = 1", "ipv4 rp_filter", "1"),
        ("rp_filter = keep", "ipv4 rp_filter", "7"),
        ("accept_ra = keep", "ipv6 accept_ra", "1"),
        ("accept_ra = 0", "ipv6 accept_ra", "0"),
        ("accept_ra = 2", "ipv6 accept_ra", "2"),
        ("forwarding = no", "ipv6 accept_ra", "0"),
        ("forwarding = keep", "ipv6 accept_ra", "0"),
        ("forwarding = no\naccept_ra = keep", "ipv6 accept_ra", "1"),
    ],
)
def test_each_sysctl_is_changeable_in_settings(machine: Machine, text: str, path: str, value: str) -> None:
    machine.kernel.files["net/ipv4/conf/default/rp_filter"] = "7"
    machine.settings(f"[device vti5]\n{text}\n")
    machine.send(call(T, "prepare"))
    assert sysctls(machine)[path] == value


@pytest.mark.parametrize(("default", "written"), [("0", "0"), ("1", "1"), ("2", "0")])
def test_a_device_that_forwards_heeds_no_router_advertisement(machine: Machine, default: str, written: str) -> None:
    """There the kernel heeds accept_ra = 2 alone, which a gateway's uplink may need, and every device inherits."""
    machine.kernel.files["net/ipv6/conf/default/accept_ra"] = default
    machine.send_all(establish(T))
    assert sysctls(machine)["ipv6 accept_ra"] == written
    machine.kernel.files["net/ipv6/conf/vti5/accept_ra"] = "2"
    machine.send(call(T, "up"))
    assert sysctls(machine)["ipv6 accept_ra"] == "0"


def test_a_sysctl_that_is_right_is_not_written(machine: Machine) -> None:
    for path in list(machine.kernel.files):
        if "/default/" in path and path.endswith(("disable_policy", "forwarding")):
            machine.kernel.files[path] = "1"
    report = machine.send(call(T, "prepare"))
    assert [operation for operation in report.operations if operation.action == "sysctl"] == []


def test_a_read_only_proc_sys_is_a_warning_and_no_failure(machine: Machine) -> None:
    machine.kernel.read_only_sysctls = True
    report = machine.send(call(T, "up"))
    assert machine.routes() == {("10.2.0.0/24", "vti5")}
    assert [warning for warning in report.warnings if "Read-only file system (and 3 more)" in warning] == [
        *report.warnings
    ]


# -- what others made (promise P3)


def foreign(machine: Machine, **changes: object) -> Link:
    """A device that the administrator made beforehand."""
    return machine.kernel.add_link(MADE._replace(mtu=1480, up=True)._replace(**changes))  # type: ignore[arg-type]


def test_a_foreign_device_that_fits_is_adopted_and_left_as_it_was(machine: Machine) -> None:
    foreign(machine)
    before = machine.kernel.picture()
    machine.send_all(establish(T))
    assert machine.addresses("vti5") == ["10.99.0.1/30"]
    assert machine.routes() == {("10.2.0.0/24", "vti5")}
    assert machine.kernel.named("vti5").alias == ""
    assert {path for path, value in sysctls(machine).items() if value != "0"} == {"ipv6 accept_ra"}
    machine.send_all(withdraw(T))
    assert machine.kernel.picture() == before


def test_an_address_that_was_there_before_stays(machine: Machine) -> None:
    machine.kernel.add_address(foreign(machine).ifindex, "10.99.0.1/30")
    machine.send_all([*establish(T), *withdraw(T)])
    assert machine.addresses("vti5") == ["10.99.0.1/30"]


def test_a_foreign_device_found_down_is_set_up_with_a_warning(machine: Machine) -> None:
    foreign(machine, up=False)
    report = machine.send(call(T, "up"))
    assert report.warnings == ("vti5 is not ours and was down; setting it up",)
    assert machine.kernel.named("vti5").up
    assert machine.send(call(T, "up")).warnings == ()


CONFLICTS: dict[str, tuple[dict[str, object], tuple[str, ...]]] = {
    "key": ({"ikey": 77, "okey": 77}, ("vti5", "key 77", "wanted 5")),
    "one key": ({"okey": 77}, ("vti5", "okey 77", "wanted 5")),
    "remote": ({"remote": THIRD}, ("vti5", THIRD, T.peer)),
    "remote any": ({"remote": "0.0.0.0"}, ("vti5", "remote any", T.peer)),
    "kind": ({"kind": "dummy", "local": "", "remote": "", "ikey": 0, "okey": 0}, ("vti5", "kind dummy", "wanted vti")),
}


@pytest.mark.parametrize("case", CONFLICTS)
def test_a_foreign_device_that_differs_is_a_conflict_that_names_the_values(machine: Machine, case: str) -> None:
    changes, words = CONFLICTS[case]
    foreign(machine, **changes)
    before = machine.kernel.picture()
    with pytest.raises(Conflict) as conflict:
        machine.send(call(T, "up"))
    assert conflict.value.status == 3
    assert all(word in conflict.value.text for word in words)
    assert conflict.value.hint
    assert machine.kernel.picture() == before
    assert machine.claims() == []
    assert machine.made() == {}


@pytest.mark.parametrize("name", ["ip_vti0", "ip6_vti0", "sit0"])
def test_a_name_that_the_kernel_gives_its_own_devices_is_no_tunnel_s(machine: Machine, name: str) -> None:
    """Also while its module is not loaded, which would find the name taken."""
    with pytest.raises(Conflict, match=f"{name} is a name of the kernel's own devices, for t"):
        machine.send(call(T._replace(device=name), "up"), dry=True)


def test_key_77_against_5_is_one_line_of_at_most_120_bytes(machine: Machine) -> None:
    foreign(machine, ikey=77, okey=77)
    with pytest.raises(Conflict) as conflict:
        machine.send(call(T, "up"))
    (line,) = folded("vti-updown: t: error: ", conflict.value.text)
    assert len(line.encode()) <= 120
    assert all(word in line for word in ("vti5", "77", "5"))


def test_a_name_that_is_free_with_ends_that_are_taken_names_the_holder(machine: Machine) -> None:
    foreign(machine, name="office")
    before = machine.kernel.picture()
    with pytest.raises(Conflict, match=r"^vti5: office \(not ours\) has local [\d.]+ remote [\d.]+ already$"):
        machine.send(call(T, "up"))
    assert machine.kernel.picture() == before


def test_ends_that_another_connection_of_ours_holds_are_named_with_it(machine: Machine) -> None:
    machine.send(call(U._replace(peer=T.peer, device="vti6"), "up"))
    with pytest.raises(Conflict, match=r"vti5: vti6 \(for u\) has local"):
        machine.send(call(T, "up"))


def test_ends_that_a_moved_device_holds_are_searched_elsewhere(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign(machine, name="office")
    monkeypatch.setattr("updown.kernel.netlink.dumps.links", lambda _netns="": [])
    with pytest.raises(Conflict, match="moved to another namespace"):
        machine.send(call(T, "up"))


def test_without_pyroute2_the_conflict_is_told_all_the_same(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_netns: str = "") -> list[Link]:
        raise UpdownError("pyroute2 is missing")

    foreign(machine, name="office")
    monkeypatch.setattr("updown.kernel.netlink.dumps.links", missing)
    with pytest.raises(Conflict, match=r"another device has local 198\.51\.100\.1") as conflict:
        machine.send(call(T, "up"))
    assert "pyroute2 is missing" in conflict.value.hint


@pytest.mark.parametrize("name", ["ip_vti0", "vti0"])
def test_the_fallback_device_is_recognised_by_identity_under_any_name(machine: Machine, name: str) -> None:
    machine.kernel.fallback(name)
    with pytest.raises(Conflict, match=f"^{name} is the kernel's fallback device"):
        machine.send(call(T._replace(device=name), "up"))


def test_a_physical_device_is_never_taken_for_a_tunnel(machine: Machine) -> None:
    before = machine.kernel.picture()
    with pytest.raises(Conflict, match="eth0 is not ours and has kind none, wanted vti"):
        machine.send(call(T._replace(device="eth0"), "up"))
    assert machine.kernel.picture() == before


OTHER_END = U._replace(me="198.51.100.9", shared="yes")


def test_a_shared_device_from_another_local_address_names_the_xfrm_interface(machine: Machine) -> None:
    machine.kernel.add_address(machine.kernel.named("eth0").ifindex, "198.51.100.9/24")
    machine.send(call(T._replace(shared="yes"), "up"))
    with pytest.raises(Conflict) as conflict:
        machine.send(call(OTHER_END, "up"))
    lines = folded("vti-updown: u: error: ", conflict.value.text)
    assert len(lines) == 1
    assert "XFRM interface" in lines[0]
    assert conflict.value.status == 3
    assert machine.kernel.named("vti5").local == WEST


def test_a_foreign_shared_device_with_another_local_address_names_the_xfrm_interface(machine: Machine) -> None:
    foreign(machine, remote="0.0.0.0")
    with pytest.raises(Conflict, match="XFRM interface"):
        machine.send(call(OTHER_END, "up"))


def test_another_connection_with_another_mark_on_the_same_device_is_a_conflict_that_names_it(machine: Machine) -> None:
    machine.send(call(T._replace(shared="yes"), "up"))
    with pytest.raises(Conflict, match="vti5 has key 5, wanted 6, for t"):
        machine.send(call(U._replace(shared="yes", mark_in="6/0xff", mark_out="6/0xff"), "up"))


# -- what we made follows


def test_our_device_follows_a_changed_mark_in_place(machine: Machine) -> None:
    machine.send(call(T, "up"))
    index = machine.kernel.named("vti5").ifindex
    machine.send(call(T._replace(mark_in="6/0xff", mark_out="6/0xff"), "up"))
    link = machine.kernel.named("vti5")
    assert (link.ifindex, link.ikey, link.okey) == (index, 6, 6)
    assert machine.routes() == {("10.2.0.0/24", "vti5")}


def test_our_device_that_nobody_claims_is_made_anew_to_fit(machine: Machine) -> None:
    """Between any and one remote the kernel changes nothing in place."""
    shared = T._replace(shared="yes")
    machine.send_all([*establish(shared), *withdraw(shared)])
    assert machine.kernel.named("vti5").remote == "0.0.0.0"
    machine.send_all(establish(T))
    assert machine.kernel.named("vti5").remote == T.peer
    assert machine.routes() == {("10.2.0.0/24", "vti5")}


def test_our_device_that_someone_deleted_is_made_again_with_everything_on_it(machine: Machine) -> None:
    shared = [T._replace(shared="yes"), U._replace(shared="yes")]
    machine.send_all([call(tunnel, "up") for tunnel in shared])
    machine.kernel.remove(machine.kernel.named("vti5").ifindex)
    machine.send(call(shared[1], "up"))
    assert machine.routes() == {("10.2.0.0/24", "vti5"), ("10.3.0.0/24", "vti5")}
    assert machine.addresses("vti5") == ["10.99.0.1/30"]


def test_our_device_that_someone_set_down_comes_up_with_its_routes(machine: Machine) -> None:
    machine.send(call(T, "up"))
    machine.kernel.set_link(machine.kernel.named("vti5").ifindex, up=False)
    machine.send(call(T, "up"))
    assert machine.kernel.named("vti5").up
    assert machine.routes() == {("10.2.0.0/24", "vti5")}


def test_a_device_is_known_by_its_alias_when_the_ledger_is_lost(machine: Machine) -> None:
    machine.send(call(T, "up"))
    for name in ("ledger",):
        (machine.folder / "net-1" / name).unlink()
    machine.send(call(T._replace(mark_in="6/0xff", mark_out="6/0xff"), "up"))
    assert machine.kernel.named("vti5").ikey == 6
    machine.send_all(withdraw(T))
    assert machine.devices() == set()


# -- several tunnels (promise P4)

ON_5 = Tunnel("a")
ON_6 = Tunnel("b", peer=THIRD, device="vti6", mark_in="6/0xff", mark_out="6/0xff", reqid=16392)


def test_the_first_of_two_tunnels_holds_a_prefix_and_the_second_is_told(machine: Machine) -> None:
    machine.send(call(ON_5, "up"))
    report = machine.send(call(ON_6, "up"))
    assert report.warnings == ("10.2.0.0/24 is held by a on vti5; ours waits. A metric orders the two",)
    assert machine.routes() == {("10.2.0.0/24", "vti5")}


@pytest.mark.parametrize("first", ["a", "b"])
def test_the_route_moves_over_when_the_first_goes(machine: Machine, first: str) -> None:
    one, two = (ON_5, ON_6) if first == "a" else (ON_6, ON_5)
    machine.send_all([call(one, "up"), call(two, "up")])
    machine.send_all(withdraw(one))
    assert machine.routes() == {("10.2.0.0/24", two.device)}
    machine.send_all(withdraw(two))
    assert machine.routes() == set()


def test_the_route_stays_when_the_second_goes(machine: Machine) -> None:
    machine.send_all([call(ON_5, "up"), call(ON_6, "up"), *withdraw(ON_6)])
    assert machine.routes() == {("10.2.0.0/24", "vti5")}


def test_the_route_moves_over_when_the_first_was_shared_and_its_device_stays(machine: Machine) -> None:
    shared = ON_5._replace(shared="yes")
    machine.send_all([call(shared, "up"), call(ON_6, "up"), *withdraw(shared)])
    assert machine.devices() == {"vti5", "vti6"}
    assert machine.routes() == {("10.2.0.0/24", "vti6")}


def test_a_metric_orders_two_tunnels_and_both_have_their_route(machine: Machine) -> None:
    report = machine.send_all([call(ON_5, "up"), call(ON_6._replace(metric="50"), "up")])[1]
    assert report.warnings == ()
    assert machine.routes() == {("10.2.0.0/24", "vti5"), ("10.2.0.0/24", "vti6")}
    path = machine.kernel.path("10.2.0.1")
    assert path is not None
    assert path.device == "vti5"


def test_two_connections_on_one_device_keep_it_until_both_are_gone(machine: Machine) -> None:
    machine.settings("[device vti5]\ndelete = last\n")
    shared = [T._replace(shared="yes"), U._replace(shared="yes")]
    machine.send_all([call(tunnel, "up") for tunnel in shared])
    machine.send_all(withdraw(shared[0]))
    assert machine.devices() == {"vti5"}
    assert machine.routes() == {("10.3.0.0/24", "vti5")}
    machine.send_all(withdraw(shared[1]))
    assert machine.devices() == set()


def test_the_second_connection_brings_its_own_address(machine: Machine) -> None:
    second = U._replace(shared="yes", address="10.99.1.1/30")
    machine.send_all([call(T._replace(shared="yes"), "up"), call(second, "up")])
    assert machine.addresses("vti5") == ["10.99.0.1/30", "10.99.1.1/30"]
    machine.send_all(withdraw(T._replace(shared="yes")))
    assert machine.addresses("vti5") == ["10.99.1.1/30"]
    assert machine.routes() == {("10.3.0.0/24", "vti5")}


def test_an_address_of_two_connections_goes_with_the_second(machine: Machine) -> None:
    second = U._replace(shared="yes", address=T.address)
    machine.send_all([call(T._replace(shared="yes"), "up"), call(second, "up")])
    machine.send_all(withdraw(T._replace(shared="yes")))
    assert machine.addresses("vti5") == [T.address]
    machine.send_all(withdraw(second))
    assert machine.addresses("vti5") == []


def test_removing_the_last_ipv4_address_keeps_the_other_connections_routes(machine: Machine) -> None:
    """The kernel flushes every IPv4 route of the device with it."""
    first, second = T._replace(shared="yes"), U._replace(shared="yes")
    machine.send_all([call(first, "up"), call(second, "up"), *withdraw(first)])
    assert machine.addresses("vti5") == []
    assert machine.routes() == {("10.3.0.0/24", "vti5")}


def test_removing_a_subnets_primary_address_keeps_the_secondary_one(machine: Machine) -> None:
    first = T._replace(shared="yes", address="10.99.0.1/24")
    second = U._replace(shared="yes", address="10.99.0.2/24")
    machine.send_all([call(first, "up"), call(second, "up"), *withdraw(first)])
    assert machine.addresses("vti5") == ["10.99.0.2/24"]
    assert machine.routes() == {("10.3.0.0/24", "vti5")}


# -- routing

ROUTED: dict[str, tuple[Tunnel, set[tuple[str, str]]]] = {
    "one prefix": (T, {("10.2.0.0/24", "vti5")}),
    "0/0 as halves, with the peer outside": (
        T._replace(theirs="0.0.0.0/0"),
        {("0.0.0.0/1", "vti5"), ("128.0.0.0/1", "vti5"), ("198.51.100.2/32", "eth0")},
    ),
    "::/0 as halves, with the peer outside": (
        SIX._replace(theirs="::/0"),
        {("::/1", "vti5"), ("8000::/1", "vti5"), ("2001:db8:0:1::2/128", "eth0")},
    ),
    "::/0 in IPv4 needs no way to the peer": (
        T._replace(mine="fd00:1::/64", theirs="::/0"),
        {("::/1", "vti5"), ("8000::/1", "vti5")},
    ),
    "a prefix that holds the peer": (
        T._replace(theirs="198.51.0.0/16"),
        {("198.51.0.0/16", "vti5"), ("198.51.100.2/32", "eth0")},
    ),
    "host to host": (T._replace(mine=f"{WEST}/32", theirs=f"{T.peer}/32"), set()),
    "a range": (T._replace(theirs="10.2.0.1-10.2.0.2"), {("10.2.0.1/32", "vti5"), ("10.2.0.2/32", "vti5")}),
    "a peer behind a gateway": (
        T._replace(peer="203.0.113.9", theirs="0.0.0.0/0", next_hop=GATEWAY),
        {("0.0.0.0/1", "vti5"), ("128.0.0.0/1", "vti5"), ("203.0.113.9/32", "eth0")},
    ),
    "vti-routing=no": (T._replace(routing="no"), set()),
    "vti-routing=no with a source address": (T._replace(routing="no", source="10.1.0.1"), set()),
    "vti-routing=no with an MTU": (T._replace(routing="no", mtu="1400"), set()),
    "vti-routing=no for everything": (T._replace(routing="no", theirs="0.0.0.0/0", source="10.1.0.1"), set()),
}


@pytest.mark.parametrize("case", ROUTED)
def test_the_routes_of_a_tunnel_are_these(machine: Machine, case: str) -> None:
    tunnel, wanted = ROUTED[case]
    machine.send_all(establish(tunnel))
    assert machine.routes() == wanted
    path = machine.kernel.path(tunnel.peer)
    assert path is not None
    assert path.device == "eth0", "ESP and IKE never loop into the device"


def test_a_route_carries_source_metric_mtu_and_our_mark(machine: Machine) -> None:
    machine.send(call(T._replace(source="10.1.0.1", metric="50", mtu="1400"), "up"))
    (route,) = (entry.route for entry in machine.kernel.table if entry.route.device == "vti5")
    assert route == Route("10.2.0.0/24", "vti5", metric=50, mtu=1400, source="10.1.0.1", protocol=OUR_PROTOCOL)
    assert "10.1.0.1/32" in machine.addresses("vti5")


def test_a_source_address_that_the_machine_has_is_not_added_again(machine: Machine) -> None:
    machine.kernel.physical("lan0", "10.1.0.1/24")
    machine.send(call(T._replace(source="10.1.0.1"), "up"))
    assert machine.addresses("vti5") == ["10.99.0.1/30"]
    assert machine.routes() == {("10.2.0.0/24", "vti5")}


@pytest.mark.parametrize(
    ("source", "first", "second"),
    [("10.77.0.1", "10.2.0.0/24", "10.3.0.0/24"), ("fd00:77::1", "fd00:2::/64", "fd00:3::/64")],
)
def test_a_source_address_of_two_tunnels_outlives_the_first(
    machine: Machine, source: str, first: str, second: str
) -> None:
    """Each device has it: with a device the kernel takes its addresses, and with an address the routes that prefer it."""
    both = Tunnel(mine="fd00:1::/64" if ":" in source else "10.1.0.0/24", source=source)
    one = both._replace(connection="one", device="vti1", mark_in="1", mark_out="1", theirs=first)
    other = both._replace(connection="other", me=THIRD, device="vti2", mark_in="2", mark_out="2", theirs=second)
    machine.send_all([*establish(one), *establish(other), *withdraw(one)])
    length = 128 if ":" in source else 32
    assert machine.devices() == {"vti2"}
    assert machine.addresses("vti2") == [f"{source}/{length}"]
    assert machine.routes() == {(second, "vti2")}
    (entry,) = [entry for entry in machine.kernel.table if entry.route.destination == second]
    assert entry.route.source == source


def test_a_source_of_the_other_family_is_not_the_routes_source(machine: Machine) -> None:
    machine.send(call(T._replace(theirs="fd00:2::/64", mine="fd00:1::/64", source="10.1.0.1"), "up"))
    (route,) = (entry.route for entry in machine.kernel.table if entry.route.device == "vti5")
    assert route.source == ""


def test_host_to_host_has_no_route_and_one_line_says_why(machine: Machine) -> None:
    tunnel = T._replace(mine=f"{WEST}/32", theirs=f"{T.peer}/32")
    report = machine.send(call(tunnel, "up"))
    assert report.remarks == (
        "198.51.100.2 is not routed into vti5, its IKE and ESP would loop: packets to it go outside",
    )
    assert machine.devices() == {"vti5"}


def test_host_to_host_in_a_table_of_its_own_has_its_route(machine: Machine) -> None:
    """Only what a rule leads there goes in; the peer itself stays outside by the main table."""
    machine.settings("[device vti5]\ntable = 100\nrule = fwmark 7\n")
    tunnel = T._replace(mine=f"{WEST}/32", theirs=f"{T.peer}/32")
    report = machine.send(call(tunnel, "up"))
    assert report.remarks == ()
    found = {
        (entry.route.destination, entry.route.table) for entry in machine.kernel.table if entry.route.protocol == 160
    }
    assert found == {("198.51.100.2/32", 100), ("198.51.100.2/32", 254)}
    assert machine.send(call(tunnel, "up")).operations == ()
    path = machine.kernel.path(T.peer)
    assert path is not None
    assert path.device == "eth0"
    machine.send_all(withdraw(tunnel))
    assert machine.routes() == set()


def test_the_way_to_the_peer_goes_with_the_last_tunnel_that_needs_it(machine: Machine) -> None:
    first = T._replace(theirs="0.0.0.0/0")
    second = T._replace(connection="u", theirs="198.51.0.0/16", mine="10.1.1.0/24", reqid=16392, address="")
    machine.send_all([call(first, "up"), call(second, "up"), *withdraw(first)])
    assert ("198.51.100.2/32", "eth0") in machine.routes()
    machine.send_all(withdraw(second))
    assert machine.routes() == set()


NESTED = Tunnel("n", peer="10.2.0.50", theirs="0.0.0.0/0", device="vti6", mark_in="6", mark_out="6", reqid=16400)


def test_a_peer_behind_another_tunnel_stays_there(machine: Machine) -> None:
    """A tunnel within a tunnel: the route to 10.2.0.0/24 means the peer, a default route would not."""
    machine.send_all([*establish(T), *establish(NESTED)])
    path = machine.kernel.path("10.2.0.50")
    assert path is not None
    assert path.device == "vti5"
    assert [report.operations for report in machine.send_all(establish(NESTED))] == [()] * 3
    machine.send_all([*withdraw(NESTED), *withdraw(T)])
    assert machine.routes() == set()
    assert machine.devices() == set()


@pytest.mark.parametrize("everything", ["0.0.0.0/0", "128.0.0.0/1"])
def test_a_peer_behind_another_tunnels_default_route_is_kept_outside_of_it(machine: Machine, everything: str) -> None:
    """That route means everything, and nobody says that one tunnel is to go within the other."""
    other = NESTED._replace(peer="203.0.113.9", theirs="203.0.0.0/8")
    machine.send_all([*establish(T._replace(theirs=everything)), *establish(other)])
    path = machine.kernel.path("203.0.113.9")
    assert path is not None
    assert path.device == "eth0"


def test_a_peer_behind_another_tunnel_stays_there_when_our_address_moves(machine: Machine) -> None:
    machine.send_all([*establish(T), *establish(NESTED)])
    machine.kernel.add_address(machine.kernel.named("eth0").ifindex, "198.51.100.7/24")
    there = NESTED._replace(me="198.51.100.7")
    machine.send_all([call(NESTED, "down", wishes=("UP",)), call(NESTED, "unroute", wishes=("UP",))])
    machine.send_all([call(there, "route", wishes=("UP",)), call(there, "up", wishes=("UP",))])
    path = machine.kernel.path("10.2.0.50")
    assert path is not None
    assert path.device == "vti5"


def test_the_administrators_own_way_to_the_peer_is_used_and_stays(machine: Machine) -> None:
    eth0 = machine.kernel.named("eth0").ifindex
    own = Route("198.51.100.2/32", "eth0", "198.51.100.9", protocol=4)
    machine.kernel.add_route(own, eth0)
    tunnel = T._replace(theirs="0.0.0.0/0")
    machine.send_all([*establish(tunnel), *withdraw(tunnel)])
    assert "198.51.100.2/32" in machine.kernel.routes_by("eth0")


FAR = T._replace(theirs="0.0.0.0/0", peer="203.0.113.9", next_hop=GATEWAY)


def test_without_a_way_to_the_peer_what_would_loop_waits(machine: Machine) -> None:
    """The half of 0.0.0.0/0 that the peer is in; with a way to it `up` again, or `reconcile`, brings the rest."""
    before = machine.kernel.table
    machine.kernel.table = []
    report = machine.send(call(FAR, "up"))
    assert report.warnings == (
        "no way to the peer 203.0.113.9 outside vti5: its packets would loop. Routes that hold it wait:"
        " add one to the peer, then run `vti-updown reconcile`",
    )
    assert machine.routes() == {("0.0.0.0/1", "vti5")}
    assert machine.send(call(FAR, "up")).operations == ()
    machine.kernel.table += before
    assert machine.send(call(FAR, "up")).warnings == ()
    assert machine.routes() == {("0.0.0.0/1", "vti5"), ("128.0.0.0/1", "vti5"), ("203.0.113.9/32", "eth0")}
    machine.send_all(withdraw(FAR))
    assert machine.routes() == set()


def test_a_way_to_the_peer_that_is_lost_takes_what_would_loop(machine: Machine) -> None:
    """The uplink went down, and with it the machine's default route and our route to the peer."""
    machine.send_all(establish(FAR))
    eth0 = machine.kernel.named("eth0").ifindex
    machine.kernel.table = [entry for entry in machine.kernel.table if entry.oif != eth0]
    machine.send(call(FAR, "up"))
    assert machine.routes() == {("0.0.0.0/1", "vti5")}
    assert machine.send(call(FAR, "up")).operations == ()
    machine.send_all(withdraw(FAR))
    assert machine.routes() == set()


def test_a_table_of_its_own_has_its_routes_whatever_the_way_to_the_peer(machine: Machine) -> None:
    """Its rules may be for others than the tunnel's own packets."""
    machine.settings("[device vti5]\ntable = 100\n")
    machine.kernel.table = []
    assert machine.send(call(FAR, "up")).warnings == (
        "no way to the peer 203.0.113.9 outside vti5: its packets would loop where a rule leads them there."
        " Add a route to the peer",
    )
    assert machine.routes() == {("0.0.0.0/1", "vti5"), ("128.0.0.0/1", "vti5")}


def test_a_route_that_would_loop_waits_for_a_way_that_another_tunnel_brings(machine: Machine) -> None:
    """Both want the prefix that the first one's peer is in: with the second up the peer is reached through it."""
    machine.kernel.table = [entry for entry in machine.kernel.table if entry.route.destination != "0.0.0.0/0"]
    first = FAR._replace(theirs="203.0.0.0/8")
    second = U._replace(theirs="203.0.0.0/8", device="vti6", mark_in="6", mark_out="6", me="198.51.100.9")
    machine.send_all(establish(first))
    assert machine.routes() == set()
    machine.send_all(establish(second))
    path = machine.kernel.path("203.0.113.9")
    assert path is not None
    assert path.device == "vti6"
    assert [report.operations for report in machine.send_all([*establish(first), *establish(second)])] == [()] * 6
    machine.send_all(withdraw(second))
    assert machine.routes() == set()


def test_a_route_of_someone_elses_is_never_replaced(machine: Machine) -> None:
    theirs = Route("10.2.0.0/24", "eth0", GATEWAY, protocol=4)
    machine.kernel.add_route(theirs, machine.kernel.named("eth0").ifindex)
    report = machine.send_all(establish(T))[-1]
    assert report.warnings == (
        "10.2.0.0/24 has a route dev eth0 that is not ours; it stays. Set a metric to have both",
    )
    assert machine.routes() == set()
    machine.send_all(withdraw(T))
    assert "10.2.0.0/24" in machine.kernel.routes_by("eth0")


def test_a_route_the_administrator_put_on_our_device_counts_and_stays_his(machine: Machine) -> None:
    shared = T._replace(shared="yes", address="")
    machine.send(call(shared, "prepare"))
    own = Route("10.2.0.0/24", "vti5", protocol=4)
    machine.kernel.add_route(own, machine.kernel.named("vti5").ifindex)
    assert machine.send(call(shared, "up")).warnings == ()
    machine.send_all(withdraw(shared))
    assert machine.kernel.routes_by("vti5") == {"10.2.0.0/24"}


def test_a_metric_and_a_table_of_the_settings_place_the_route(machine: Machine) -> None:
    machine.settings("[device vti5]\nmetric = 7\ntable = 100\n")
    machine.send(call(T, "up"))
    (route,) = (entry.route for entry in machine.kernel.table if entry.route.device == "vti5")
    assert (route.metric, route.table) == (7, 100)
    machine.send_all(withdraw(T))
    assert machine.routes() == set()


def test_routing_of_the_settings_counts_where_the_daemon_says_nothing(machine: Machine) -> None:
    machine.settings("[defaults]\ninterface = vti{mark}\nrouting = yes\naddress = 10.99.7.1/30\nmtu = 1390\n")
    machine.send(call(T._replace(device="", address=""), "up"))
    assert machine.routes() == {("10.2.0.0/24", "vti5")}
    assert machine.addresses("vti5") == ["10.99.7.1/30"]
    assert machine.kernel.named("vti5").mtu == 1390


def test_the_daemons_own_word_beats_the_settings(machine: Machine) -> None:
    machine.settings("[defaults]\ninterface = other\nrouting = yes\nshared = yes\n")
    machine.send(call(T._replace(routing="no"), "up"))
    assert machine.devices() == {"vti5"}
    assert machine.routes() == set()
    assert machine.kernel.named("vti5").remote == T.peer


def test_a_placeholder_without_a_value_means_no_device_and_one_line(machine: Machine) -> None:
    machine.settings("[defaults]\ninterface = vti{if_id}\n")
    report = machine.send(call(T._replace(device=""), "up"))
    assert report.remarks == ("no device: vti{if_id} needs a value this connection does not have",)


# -- pluto's own device


def test_plutos_own_device_is_used_and_never_touched(machine: Machine) -> None:
    machine.kernel.add_link(Link("ipsec1", "xfrm", if_id=1, up=True, mtu=1500))
    before = machine.kernel.picture()
    own = {"VTI_IFACE": "", "PLUTO_VIRT_INTERFACE": "ipsec1", "PLUTO_XFRMI_ROUTE": "yes"}
    calls: list[Environment] = [{**one, **own} for one in establish(T)]
    machine.send_all(calls)
    assert machine.routes() == {("10.2.0.0/24", "ipsec1")}
    machine.send_all([{**one, **own} for one in withdraw(T)])
    assert machine.kernel.picture() == before


@pytest.mark.parametrize(("if_id", "said"), [(0, "is not here"), (9, "if_id 9, wanted 1")], ids=["missing", "other"])
def test_plutos_device_that_cannot_be_used_is_a_warning(machine: Machine, if_id: int, said: str) -> None:
    if if_id:
        machine.kernel.add_link(Link("ipsec1", "xfrm", if_id=if_id, up=True, mtu=1500))
    own = {"VTI_IFACE": "", "PLUTO_VIRT_INTERFACE": "ipsec1", "PLUTO_XFRMI_ROUTE": "yes"}
    report = machine.send({**call(T, "up"), **own})
    assert [warning for warning in report.warnings if said in warning]
    assert report.operations == ()


# -- operations as text

MOVED = MADE._replace(local="198.51.100.9")
OPERATIONS: list[tuple[Operation, str]] = [
    (Operation("link down", MADE._replace(up=False), MADE._replace(up=True)), "ip link set vti5 down"),
    (Operation("link up", MADE._replace(up=True), MADE._replace(up=False)), "ip link set vti5 up"),
    (
        Operation("link state", MADE._replace(name="vti5@red", dormant=True), MADE),
        "ip -n red link set vti5 state dormant",
    ),
    (Operation("link state", MADE, MADE._replace(dormant=True)), "ip link set vti5 state up"),
    (
        Operation("link add", MADE),
        "ip link add vti5 type vti local 198.51.100.1 remote 198.51.100.2 key 5",
    ),
    (
        Operation("link add", MADE._replace(remote="0.0.0.0", ikey=21, okey=22, mtu=1400)),
        "ip link add vti5 mtu 1400 type vti local 198.51.100.1 remote any ikey 21 okey 22",
    ),
    (
        Operation("link add", Link("v6", "vti6", local=WEST6, remote=EAST6, ikey=1, okey=1)),
        "ip link add v6 type vti6 local 2001:db8:0:1::1 remote 2001:db8:0:1::2 key 1",
    ),
    (
        Operation("link change", MOVED, MADE),
        "ip link change vti5 type vti local 198.51.100.9 remote 198.51.100.2 key 5",
    ),
    (
        Operation("link set", MADE._replace(up=True, alias="vti-updown", mtu=1400), MADE),
        "ip link set vti5 mtu 1400 alias vti-updown up",
    ),
    (Operation("link set", MADE, MADE._replace(up=True)), "ip link set vti5 down"),
    (Operation("link delete", MADE), "ip link del vti5"),
    (Operation("address add", Address("vti5", "10.99.0.1/30")), "ip addr add 10.99.0.1/30 dev vti5"),
    (Operation("address delete", Address("vti5", "fd00::1/64")), "ip addr del fd00::1/64 dev vti5"),
    (
        Operation("route add", Route("10.2.0.0/24", "vti5", metric=50, mtu=1400, source="10.1.0.1")),
        "ip route add 10.2.0.0/24 dev vti5 proto 160 metric 50 mtu 1400 src 10.1.0.1",
    ),
    (
        Operation("route add", Route("198.51.100.2/32", "eth0", "198.51.100.254", table=100)),
        "ip route add 198.51.100.2/32 via 198.51.100.254 dev eth0 table 100 proto 160",
    ),
    (
        Operation("route add", Route("fd00:2::/64", "vti5", metric=1024)),
        "ip route add fd00:2::/64 dev vti5 proto 160",
    ),
    (Operation("route delete", Route("10.2.0.0/24", "vti5")), "ip route del 10.2.0.0/24 dev vti5 proto 160"),
    (Operation("route replace", Route("10.2.0.0/24", "vti6")), "ip route replace 10.2.0.0/24 dev vti6 proto 160"),
    (Operation("route prepend", Route("10.2.0.0/24", "vti6")), "ip route prepend 10.2.0.0/24 dev vti6 proto 160"),
    (
        Operation("rule add", Rule(4, "vti5", 100, 1600, "10.1.0.0/16", "eth1", 16, 255)),
        "ip rule add priority 1600 from 10.1.0.0/16 iif eth1 fwmark 0x10/0xff lookup 100 protocol 160",
    ),
    (
        Operation("rule delete", Rule(6, "vti5@red", 100, 1600, fwmark=5, fwmask=0xFFFFFFFF)),
        "ip -n red -6 rule del priority 1600 fwmark 0x5 lookup 100 protocol 160",
    ),
    (
        Operation("link add", Link("ipsec0", "xfrm", external=True)),
        "ip link add ipsec0 type xfrm external",
    ),
    (
        Operation("route add", Route("10.2.0.0/24", "ipsec0", if_id=42)),
        "ip route add 10.2.0.0/24 encap xfrm if_id 42 dev ipsec0 proto 160",
    ),
    (
        Operation("link add", MADE._replace(name="vti5@red")),
        "ip link add vti5 type vti local 198.51.100.1 remote 198.51.100.2 key 5 && ip link set vti5 netns red",
    ),
    (
        Operation("link set", MADE._replace(name="vti5@red", up=True, vrf="blue"), MADE._replace(name="vti5@red")),
        "ip -n red link set vti5 master blue up",
    ),
    (Operation("link delete", MADE._replace(name="vti5@red")), "ip -n red link del vti5"),
    (
        Operation("address add", Address("vti5@red", "10.0.0.1 peer 10.0.0.2/32")),
        "ip -n red addr add 10.0.0.1 peer 10.0.0.2/32 dev vti5",
    ),
    (
        Operation("route add", Route("10.2.0.0/24", "vti5@red", "10.0.0.2")),
        "ip -n red route add 10.2.0.0/24 via 10.0.0.2 dev vti5 proto 160",
    ),
    (
        Operation("sysctl", Sysctl("vti5@red", "net/ipv4/conf/vti5@red/rp_filter", "2")),
        "ip netns exec red sysctl -w net/ipv4/conf/vti5/rp_filter=2",
    ),
    (
        Operation("sysctl", Sysctl("vti5", "net/ipv4/conf/vti5/rp_filter", "2")),
        "sysctl -w net/ipv4/conf/vti5/rp_filter=2",
    ),
    (
        Operation("firewall add", Clamp("vti5", 1438)),
        "nft 'table inet vti-updown-vti5 { chain forward { type filter hook forward priority -150; policy accept; "
        'oifname "vti5" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu comment "leaving: route"; '
        'iifname "vti5" meta nfproto ipv4 tcp flags & (syn | rst) == syn tcp option maxseg size set 1398 '
        'comment "entering: mtu 1438"; '
        'iifname "vti5" meta nfproto ipv6 tcp flags & (syn | rst) == syn tcp option maxseg size set 1378 '
        'comment "entering: mtu 1438"; }; }\'',
    ),
    (
        Operation("firewall replace", Clamp("vti5"), Clamp("vti5", 1438)),
        "nft 'add table inet vti-updown-vti5; delete table inet vti-updown-vti5; "
        "table inet vti-updown-vti5 { chain forward { type filter hook forward priority -150; policy accept; "
        'oifname "vti5" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu comment "leaving: route"; '
        'iifname "vti5" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu comment "entering: route"; '
        "}; }'",
    ),
    (Operation("firewall delete", Clamp("vti5", 1438)), "nft delete table inet vti-updown-vti5"),
]


@pytest.mark.parametrize(("operation", "text"), OPERATIONS, ids=[text for _, text in OPERATIONS])
def test_an_operation_is_shown_as_the_command_that_would_do_it(operation: Operation, text: str) -> None:
    assert command(operation) == text


ACTIONS = (
    *("link add", "link delete", "link change", "link set", "link down", "link up", "link state"),
    *("address add", "address delete"),
    *("route add", "route prepend", "route delete", "route replace"),
    *("rule add", "rule delete", "sysctl", "firewall add", "firewall delete", "firewall replace"),
)


@pytest.mark.parametrize("action", ACTIONS)
def test_every_operation_has_its_command_in_the_table_above(action: str) -> None:
    assert action in {operation.action for operation, _ in OPERATIONS}


@pytest.mark.parametrize(("operation", "text"), OPERATIONS, ids=[text for _, text in OPERATIONS])
def test_undoing_twice_is_doing(operation: Operation, text: str) -> None:
    """Of a route put beside another one, to adding it where nothing else stands by then."""
    again = operation.undo().undo()
    if operation.action == "route prepend":
        operation, text = operation._replace(action="route add"), text.replace("prepend", "add")
    assert (again.action, again.subject) == (operation.action, operation.subject)
    assert command(again).split()[:4] == text.split()[:4]


@pytest.mark.parametrize("width", [40, 60, 74, 118])
def test_a_long_command_is_broken_at_blanks_and_loses_no_word(width: int) -> None:
    text = command(
        Operation(
            "route add", Route("2001:db8:aaaa:bbbb::/64", "fifteen-chars.x", "2001:db8::1", 100, 7, 1400, "2001:db8::2")
        )
    )
    lines = wrapped(text, width)
    assert all(len(line) <= width for line in lines)
    assert " ".join(line.rstrip("\\").strip() for line in lines) == text


def test_a_template_with_the_connection_gives_all_its_pairs_one_device(machine: Machine) -> None:
    """libreswan calls the pairs of left- and rightsubnets NAME/1x1, NAME/1x2, ..."""
    machine.settings("[connection office]\ninterface = {connection}\nrouting = yes\n")
    pair = Tunnel("office/1x1", device="", routing="", shared="")
    machine.send_all([call(pair, "up"), call(pair._replace(connection="office/1x2", theirs="10.4.0.0/24"), "up")])
    assert machine.devices() == {"office"}
    assert machine.routes() == {("10.2.0.0/24", "office"), ("10.4.0.0/24", "office")}


def test_a_route_that_cannot_be_replaced_stays(machine: Machine) -> None:
    """The old one goes first, since the kernel's own replace may hit another device's; it is put back."""
    machine.send_all([*establish(T), call(T._replace(mtu="1400"), "up"), call(T, "up")])
    machine.send(call(T._replace(mtu="1400"), "up"))  # now by the route alone: the device kept its MTU
    at = next(number for number, moment in enumerate(machine.moments) if moment.startswith("route add"))
    machine.send(call(T, "up"))
    machine.fails_at = (at, KernelError("route add 10.2.0.0/24: no", errno.EINVAL))
    report = machine.send(call(T._replace(mtu="1400"), "up"))
    assert machine.routes() == {("10.2.0.0/24", "vti5")}
    assert report.warnings == ("route add 10.2.0.0/24: no",)


def test_a_sysctl_that_cannot_be_read_is_taken_as_different(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("updown.kernel.sysctl.os.open", refuse)
    assert sysctl.read("net/ipv4/conf/vti5/forwarding") == ""


@pytest.mark.parametrize("release", [4, 5])
def test_a_source_address_that_is_the_devices_own_is_not_added_twice(machine: Machine, release: int) -> None:
    machine.send_all(establish(T._replace(source="10.99.0.1", release=release)))
    assert machine.addresses("vti5") == ["10.99.0.1/30"]


def test_a_connection_is_no_stranger_to_itself_after_a_restart_of_the_daemon(machine: Machine) -> None:
    """No `down` came, reqids begin anew, and the mark was changed meanwhile."""
    machine.send_all(establish(T))
    again = T._replace(reqid=16400, mark_in="6/0xff", mark_out="6/0xff")
    machine.send_all(establish(again))
    assert machine.kernel.named("vti5").okey == 6
    machine.send_all(withdraw(again))
    assert machine.devices() == set()
    assert machine.routes() == set()


def test_the_peers_own_route_goes_after_what_would_lead_it_into_the_device(machine: Machine) -> None:
    everything = T._replace(theirs="0.0.0.0/0", shared="yes", peer="203.0.113.9", next_hop=GATEWAY)
    machine.send_all(establish(everything))
    report = machine.send(call(everything, "down"))
    gone = [operation.subject.destination for operation in report.operations if isinstance(operation.subject, Route)]
    assert gone == ["0.0.0.0/1", "128.0.0.0/1", "203.0.113.9/32"]


@pytest.mark.parametrize("theirs", ["0.0.0.0/0", "10.2.0.0/24"])
def test_a_repeated_event_reads_no_whole_table(machine: Machine, theirs: str) -> None:
    tunnel = T._replace(theirs=theirs, peer="203.0.113.9", next_hop=GATEWAY)
    machine.send_all(establish(tunnel))
    machine.kernel.dumped.clear()
    machine.send(call(tunnel, "up"))
    assert machine.kernel.dumped == []


def test_two_connections_with_two_mtus_have_the_smaller_and_keep_it(machine: Machine) -> None:
    one, other = T._replace(mtu="1400"), T._replace(connection="u", theirs="10.3.0.0/24", reqid=16392, mtu="1300")
    for _ in range(2):
        machine.send_all([call(one, "up"), call(other, "up")])
        assert machine.kernel.named("vti5").mtu == 1300
    assert machine.send(call(one, "up")).operations == ()


PLUTOS_OWN = {"PLUTO_VIRT_INTERFACE": "ipsec1", "PLUTO_XFRMI_ROUTE": "yes"}


def test_plutos_own_device_does_not_take_the_default_route_by_accident(machine: Machine) -> None:
    """It sends PLUTO_XFRMI_ROUTE=yes for every ipsec-interface=; settings may ask for it all the same."""
    machine.kernel.add_link(Link("ipsec1", "xfrm", if_id=1, up=True))
    both = T._replace(mine="0.0.0.0/0", theirs="0.0.0.0/0", device="", routing="", shared="", address="")
    report = machine.send({**call(both, "up"), **PLUTOS_OWN})
    assert machine.routes() == set()
    assert "both ends are 0.0.0.0/0" in report.remarks[0]
    machine.settings("[connection t]\nrouting = yes\n")
    machine.send({**call(both, "up"), **PLUTOS_OWN})
    assert ("0.0.0.0/1", "ipsec1") in machine.routes()


def test_a_server_asked_for_from_two_of_its_addresses_is_told_of_the_other_way(machine: Machine) -> None:
    road = T._replace(kind="CK_INSTANCE", address="")
    machine.send(call(road, "up"))
    with pytest.raises(Conflict, match="XFRM interface"):
        machine.send(call(road._replace(me="192.0.2.7", peer=THIRD, reqid=16400), "up"))


@pytest.mark.parametrize(("name", "kind", "deletion"), [("lan0", "dummy", False), ("vti5", "vti6", True)])
def test_deletion_is_suggested_for_tunnel_devices_alone(machine: Machine, name: str, kind: str, deletion: bool) -> None:
    machine.kernel.add_link(Link(name, kind, local=WEST6 if deletion else "", remote=EAST6 if deletion else "", ikey=5))
    with pytest.raises(Conflict) as conflict:
        machine.send(call(T._replace(device=name), "up"))
    assert ("ip link del" in conflict.value.hint) == deletion


@pytest.mark.parametrize("none", ["0.0.0.0", "::"])
def test_a_source_address_that_is_none_is_none(machine: Machine, none: str) -> None:
    report = machine.send(call(T._replace(source=none), "up"))
    assert report.warnings == ()
    assert machine.routes() == {("10.2.0.0/24", "vti5")}


def test_the_host_route_to_a_peer_keeps_the_mtu_of_the_way_it_stands_before(machine: Machine) -> None:
    """Or ESP would go as if that way were as wide as its device."""
    eth0 = machine.kernel.named("eth0").ifindex
    (entry,) = [one for one in machine.kernel.table if one.route.destination == "0.0.0.0/0"]
    machine.kernel.add_route(entry.route._replace(mtu=1400), eth0, replace=True)
    machine.send_all(establish(T._replace(theirs="0.0.0.0/0", peer="203.0.113.9")))
    (route,) = [one.route for one in machine.kernel.table if one.route.destination == "203.0.113.9/32"]
    assert (route.device, route.mtu) == ("eth0", 1400)
