"""What others made is used where it fits, told of where it does not, and never changed (promise P3)."""

from typing import cast

import pytest

from tests.kit.charon import Child, charon_call
from tests.kit.machine import EAST6, THIRD, WEST, WEST6, Environment, Machine, Tunnel, call, establish, withdraw
from updown.kernel.apply import Outcome, apply
from updown.kernel.netlink.rtnetlink import Netlink
from updown.model.errors import Conflict, UpdownError
from updown.model.objects import Link, Route
from updown.model.operations import Operation
from updown.output.lines import folded

T = Tunnel(address="10.99.0.1/30")
U = Tunnel("u", peer=THIRD, theirs="10.3.0.0/24", reqid=16392)
MADE = Link("vti5", "vti", local=WEST, remote=T.peer, ikey=5, okey=5)


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
    assert {path for path, value in machine.sysctls("vti5").items() if value != "0"} == {
        "ipv6 accept_ra",
        "ipv4 send_redirects",
        "ipv4 accept_redirects",
        "ipv6 accept_redirects",
    }
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


@pytest.mark.parametrize(
    ("holder", "owner"), [("u", "for u"), ("nobody", "not ours"), ("made", "ours"), ("renamed", "ours, renamed")]
)
def test_a_device_that_would_be_changed_to_ends_that_are_taken_names_the_holder(
    machine: Machine, holder: str, owner: str
) -> None:
    """As where it would be made: the tunnel moved to the peer that another device leads to."""
    own = T._replace(address="")
    machine.send_all(establish(own))
    if holder == "u":
        machine.send_all(establish(U._replace(device="vti6", mark_in="6/0xff", mark_out="6/0xff")))
    else:
        alias = "vti-updown" if holder == "renamed" else ""
        index = foreign(machine, name="vti6", remote=THIRD, ikey=6, okey=6, alias=alias).ifindex
    if holder == "made":
        with machine.ledger() as ledger:
            ledger.set_made("device vti6", index)
    before = machine.kernel.picture()
    with pytest.raises(Conflict) as error:
        machine.send(call(own._replace(peer=THIRD), "up"))
    assert error.value.status == 3
    assert error.value.text == f"vti5: vti6 ({owner}) has local {WEST} remote {THIRD} already"
    assert "delete the other" in error.value.hint
    assert machine.kernel.picture() == before
    assert [claim.sa.peer for claim in machine.claims() if claim.connection == "t"] == [T.peer]


def test_an_xfrm_interface_that_would_be_changed_to_an_if_id_that_is_taken_names_its_holder(machine: Machine) -> None:
    machine.kernel.add_link(Link("other", "xfrm", if_id=43))
    machine.settings("[connection c]\ninterface = ipsec42\n")
    machine.send(charon_call(Child(mark_in="", mark_out="", if_id_in="42", if_id_out="42"), "up"))
    with pytest.raises(Conflict, match=r"^ipsec42: other \(not ours\) has if_id 43 already$"):
        machine.send(charon_call(Child(mark_in="", mark_out="", if_id_in="43", if_id_out="43"), "up"))


def test_a_device_that_was_renamed_by_hand_is_known_by_its_alias_and_gets_its_name_again(machine: Machine) -> None:
    machine.send_all(establish(T))
    link = machine.kernel.named("vti5")
    machine.kernel.by_index[link.ifindex] = link._replace(name="office")
    with pytest.raises(Conflict, match=r"^vti5: office \(ours, renamed\) has local [\d.]+ remote [\d.]+ already$") as error:
        machine.send(call(T, "up"))
    assert "ip link set office name vti5" in error.value.hint
    machine.kernel.by_index[link.ifindex] = link._replace(up=False)
    machine.send(call(T, "up"))
    assert machine.kernel.named("vti5").up
    assert machine.devices() == {"vti5"}


def test_ends_that_a_moved_device_holds_are_searched_elsewhere(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_route_the_administrator_put_on_our_device_counts_and_stays_his(machine: Machine) -> None:
    shared = T._replace(shared="yes", address="")
    machine.send(call(shared, "prepare"))
    own = Route("10.2.0.0/24", "vti5", protocol=4)
    machine.kernel.add_route(own, machine.kernel.named("vti5").ifindex)
    assert machine.send(call(shared, "up")).warnings == ()
    machine.send_all(withdraw(shared))
    assert machine.kernel.routes_by("vti5") == {"10.2.0.0/24"}


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


TAKEN: dict[str, dict[str, object]] = {
    "another kind": {"kind": "dummy", "local": "", "remote": "", "ikey": 0, "okey": 0, "alias": ""},
    "another kind with our alias": {"kind": "dummy", "local": "", "remote": "", "ikey": 0, "okey": 0},
    "another key": {"ikey": 7, "okey": 7, "alias": ""},
    "other ends": {"remote": THIRD, "alias": ""},
    "an alias of its own": {"alias": "uplink"},
}


def taken(machine: Machine, case: str) -> None:
    """Somebody deleted our device and made one with its name and index."""
    ours = machine.kernel.named("vti5")
    assert ours.alias == "vti-updown"
    machine.kernel.by_index[ours.ifindex] = ours._replace(**TAKEN[case])  # type: ignore[arg-type]


@pytest.mark.parametrize("case", TAKEN)
def test_a_device_of_others_with_the_name_and_the_index_of_ours_stays(machine: Machine, case: str) -> None:
    machine.send_all(establish(T))
    taken(machine, case)
    theirs = machine.kernel.named("vti5")
    machine.send_all(withdraw(T))
    assert machine.kernel.named("vti5") == theirs
    assert machine.addresses("vti5") == ["10.99.0.1/30"], "it is theirs as well"
    assert machine.made() == {}
    assert machine.kinds() == set()


@pytest.mark.parametrize("command", ["clean", "reconcile"])
@pytest.mark.parametrize("case", TAKEN)
def test_no_command_takes_a_device_for_ours_by_name_and_index(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, case: str, command: str
) -> None:
    monkeypatch.setattr("updown.daemons.answer.processes", lambda _: {})
    machine.send_all(establish(T))
    taken(machine, case)
    theirs = machine.kernel.named("vti5")
    machine.command(command)
    assert machine.kernel.named("vti5") == theirs
    assert machine.addresses("vti5") == ["10.99.0.1/30"]


@pytest.mark.parametrize("change", [{"kind": "dummy", "alias": ""}, {"ifindex": 99}, {"alias": "uplink"}])
def test_one_that_comes_in_the_place_of_ours_in_this_moment_stays(machine: Machine, change: dict[str, object]) -> None:
    """After it was looked at, and before it is deleted."""
    machine.send_all(establish(T))
    ours = machine.kernel.named("vti5")
    theirs = ours._replace(**change)  # type: ignore[arg-type]
    del machine.kernel.by_index[ours.ifindex]
    machine.kernel.addressed[theirs.ifindex] = machine.kernel.addressed.pop(ours.ifindex)
    machine.kernel.by_index[theirs.ifindex] = theirs
    deletion = Operation("link delete", ours)
    assert apply((deletion,), cast(Netlink, machine.kernel), lambda _: "") == Outcome((), (), (), ())
    assert machine.kernel.named("vti5") == theirs
    machine.kernel.by_index[theirs.ifindex] = theirs._replace(**{name: getattr(ours, name) for name in ("kind", "alias")})
    assert apply((Operation("link delete", machine.kernel.named("vti5")),), cast(Netlink, machine.kernel), str).done
    assert machine.devices() == set()
