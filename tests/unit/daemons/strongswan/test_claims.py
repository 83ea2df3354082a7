"""Claims by strongSwan, design section 6: what each order of its calls that was seen leaves, as tables of calls."""

import pytest

from tests.kit.charon import Child, charon_call, charon_calls
from tests.kit.machine import EAST, EAST6, THIRD, WEST, WEST6, Environment, Machine, call
from tests.kit.machine import Tunnel as LibreswanTunnel
from updown.model.errors import Conflict, Refused
from updown.model.objects import Link

SETTINGS = "[defaults]\ninterface = vti5\nrouting = yes\n"
C = Child()
TWO = C._replace(pairs=(("10.1.0.0/24", "10.2.0.0/24"), ("10.1.0.0/24", "10.3.0.0/24")))
HOST = C._replace(pairs=((f"{WEST}/32", f"{EAST}/32"),))
MOVED = C._replace(me=WEST6, peer=EAST6)
MOVED_HOST = MOVED._replace(pairs=((f"{WEST6}/128", f"{EAST6}/128"),))
WIDE = C._replace(pairs=(("10.1.0.0/24", "10.2.0.0/16"),))
NARROW = C._replace(pairs=(("10.1.0.0/24", "10.2.3.0/24"),))
SIX_INSIDE = C._replace(pairs=(("fd00:1::/64", "fd00:2::/64"),))
RANGE = C._replace(pairs=(("10.1.0.0/24", "10.2.0.0-10.2.1.9"),))
UNKNOWN = C._replace(underlay="unknown")


@pytest.fixture
def charon(machine: Machine) -> Machine:
    """A machine whose settings make vti5 and its routes."""
    machine.settings(SETTINGS)
    return machine


def up(child: Child, unique_id: int = 1, pair: int = 0, protocol: int = 0) -> Environment:
    return charon_call(child, "up", unique_id, pair, protocol)


def down(child: Child, unique_id: int = 1, pair: int = 0, protocol: int = 0) -> Environment:
    return charon_call(child, "down", unique_id, pair, protocol)


SEQUENCES: dict[str, tuple[list[Environment], set[int]]] = {
    "up is a claim": ([up(C)], {1}),
    "the same up is the same claim": ([up(C), up(C)], {1}),
    "down ends it": ([up(C), down(C)], set()),
    "the same up twice and one down": ([up(C), up(C), down(C)], set()),
    "down alone does nothing": ([down(C)], set()),
    "a second down does nothing": ([up(C), down(C), down(C)], set()),
    "IKE rekey: another UNIQUEID ends it": ([up(C), down(C, 2)], set()),
    "reauthentication, break before make": ([up(C, 1), down(C, 1), up(C, 2)], {2}),
    "reauthentication, make before break": ([up(C, 1), up(C, 2), down(C, 1)], {2}),
    "the newer one goes first": ([up(C, 1), up(C, 2), down(C, 2)], {1}),
    "an unknown UNIQUEID ends the oldest": ([up(C, 1), up(C, 2), down(C, 3)], {2}),
    "and then the next": ([up(C, 1), up(C, 2), down(C, 3), down(C, 4)], set()),
    "duplicates, the first IKE SA rekeyed": ([up(C, 1), up(C, 2), down(C, 3), down(C, 2)], set()),
    "duplicates, the second IKE SA rekeyed": ([up(C, 1), up(C, 2), down(C, 3), down(C, 1)], set()),
    "a down too many, after the child's own": ([up(C, 1), up(C, 2), down(C, 1), down(UNKNOWN, 1)], {2}),
    "a down too many under a new UNIQUEID": ([up(C, 1), down(UNKNOWN, 7)], {1}),
    "its own UNIQUEID counts without an interface": ([up(C, 1), down(UNKNOWN, 1)], set()),
    "a down that comes again": ([up(C, 1), up(C, 2), down(C, 1), down(C, 1)], {2}),
    "a down under a new UNIQUEID that comes again": ([up(C, 1), up(C, 2), down(C, 3), down(C, 3)], {2}),
    "down, up and down within one IKE SA": ([up(C, 1), down(C, 1), up(C, 1), down(C, 1)], set()),
    "a down too many, after the next up": ([up(C, 1), down(C, 1), up(C, 2), down(C, 1)], {2}),
    "a down too many under a rekeyed number": ([up(C, 9), down(C, 10), up(C, 11), down(C, 10)], {11}),
    "a charon that began anew gives a number that ended": ([up(C, 2), down(C, 2), up(C, 1), down(C, 2)], set()),
    "the same after its rekeying": ([up(C, 1), down(C, 2), up(C, 2), down(C, 2)], set()),
    "an interface of a strange name is not unknown": ([up(C, 1), down(C._replace(underlay="a/b"), 7)], set()),
    "MOBIKE to another family": ([up(C, 1), down(MOVED, 1)], set()),
    "MOBIKE and an IKE rekey": ([up(C, 1), down(MOVED, 2)], set()),
    "MOBIKE with dynamic selectors": ([up(HOST, 1), down(MOVED_HOST, 1)], set()),
    "MOBIKE with dynamic selectors and an IKE rekey": ([up(HOST, 1), down(MOVED_HOST, 2)], set()),
    "an address that is no end is not moved": (
        [up(C._replace(pairs=(("10.1.0.1/32", "10.2.0.0/24"),)), 1), down(HOST, 2)],
        {1},
    ),
    "another child's name": ([up(C, 1), down(C._replace(name="d"), 2)], {1}),
    "another mark": ([up(C, 1), down(C._replace(mark_in="6/0xffffffff"), 2)], {1}),
    "another mark, going out": ([up(C, 1), down(C._replace(mark_out="6/0xffffffff"), 2)], {1}),
    "another if_id, coming in": ([up(C, 1), down(C._replace(if_id_in="6"), 1)], {1}),
    "another if_id, going out": ([up(C, 1), down(C._replace(if_id_out="6"), 1)], {1}),
    "another peer's identity": ([up(C, 1), down(C._replace(peer_id="third"), 2)], {1}),
    "another identity of ours": ([up(C, 1), down(C._replace(my_id="w"), 2)], {1}),
    "another pair of selectors": ([up(TWO, 1), down(TWO, 1, pair=1)], {1}),
    "selectors that a rekeying narrowed": ([up(WIDE, 1), down(NARROW, 1)], set()),
    "selectors that a rekeying widened": ([up(NARROW, 1), down(WIDE, 1)], set()),
    "selectors of the other family": ([up(WIDE, 1), down(SIX_INSIDE, 1)], {1}),
    "selectors and number are others": ([up(WIDE, 1), down(NARROW, 2)], {1}),
    "narrowed selectors of one pair of several": ([up(WIDE, 1), up(C, 1), down(TWO, 1, pair=1)], {1}),
    "narrowed selectors, and a down too many": ([up(WIDE, 1), down(NARROW._replace(underlay="unknown"), 1)], {1}),
    "narrowed selectors of a range": ([up(RANGE, 1), down(C, 1)], set()),
    "another protocol": ([up(C, 1, protocol=1), down(C, 1, protocol=6)], {1}),
    "the reqid may be another": ([up(C, 1), down(C._replace(reqid=7), 1)], set()),
    "a daemon that began anew counts from 1": ([up(C, 1), up(C, 1), down(C, 1)], set()),
}


@pytest.mark.parametrize("case", SEQUENCES)
def test_a_sequence_of_calls_leaves_the_claims_of_these_ike_sas(charon: Machine, case: str) -> None:
    calls, wanted = SEQUENCES[case]
    charon.send_all(calls)
    assert {claim.sa.unique_id for claim in charon.claims()} == wanted
    assert charon.devices() == ({"vti5"} if wanted else set())
    assert bool(charon.routes()) == (bool(wanted) and case != "another protocol")  # which a route is too wide for


@pytest.mark.parametrize("case", SEQUENCES)
def test_each_call_twice_leaves_the_same_claims(charon: Machine, case: str) -> None:
    calls, wanted = SEQUENCES[case]
    for environment in calls:
        charon.send(environment)
        assert charon.send(environment).operations == ()
    assert {claim.sa.unique_id for claim in charon.claims()} == wanted


def test_a_down_is_forgotten_after_ten_minutes(charon: Machine) -> None:
    """A charon that began anew counts from 1 again: its IKE SAs may have the numbers of others, long gone."""
    charon.send_all([up(C, 1), down(C, 2), up(C, 1)])
    charon.now += 601
    charon.send(down(C, 2))
    assert charon.claims() == []


def test_up_alone_builds_everything(charon: Machine) -> None:
    charon.settings(SETTINGS + "address = 10.99.0.1/30\n")
    charon.send(up(C._replace(virtual=("10.77.0.1",))))
    link = charon.kernel.named("vti5")
    assert (link.kind, link.local, link.remote, link.ikey, link.okey) == ("vti", WEST, EAST, 5, 5)
    assert (link.up, link.alias) == (True, "vti-updown")
    assert charon.addresses("vti5") == ["10.99.0.1/30", "10.77.0.1/32"]
    assert charon.routes() == {("10.2.0.0/24", "vti5")}
    assert charon.kernel.files["net/ipv4/conf/vti5/disable_policy"] == "1"
    assert charon.kernel.files["net/ipv4/conf/vti5/forwarding"] == "1"


def test_a_virtual_ip_that_charon_has_installed_is_left_alone(charon: Machine) -> None:
    index = charon.kernel.named("eth0").ifindex
    charon.kernel.add_address(index, "10.77.0.1/32")
    charon.send(up(C._replace(virtual=("10.77.0.1",))))
    assert charon.addresses("vti5") == []
    assert {entry.route.source for entry in charon.kernel.table if entry.route.protocol == 160} == {"10.77.0.1"}
    charon.send(down(C))
    assert "10.77.0.1/32" in charon.kernel.addresses(index)


def test_each_pair_is_a_claim_and_the_last_one_takes_the_device(charon: Machine) -> None:
    charon.send_all(charon_calls(TWO, "up"))
    assert charon.routes() == {("10.2.0.0/24", "vti5"), ("10.3.0.0/24", "vti5")}
    charon.send(down(TWO, 1, pair=0))
    assert charon.routes() == {("10.3.0.0/24", "vti5")}
    charon.send(down(TWO, 1, pair=1))
    assert charon.devices() == set()


def test_pairs_that_differ_only_by_protocol_share_the_route_that_settings_ask_for(charon: Machine) -> None:
    charon.settings(f"{SETTINGS}route = 10.2.0.0/24\n")
    charon.send_all([up(C, 1, protocol=1), charon_call(C, "up", 1, protocol=6, ports=("8000:8010", "0"))])
    assert len(charon.claims()) == 2
    charon.send(down(C, 2, protocol=1))
    assert charon.routes() == {("10.2.0.0/24", "vti5")}
    charon.send(charon_call(C, "down", 2, protocol=6, ports=("8000:8010", "0")))
    assert charon.devices() == set()


def changes_during(machine: Machine, environment: Environment) -> list[str]:
    """What a call changes in the kernel."""
    before = len(machine.kernel.changes)
    machine.send(environment)
    return machine.kernel.changes[before:]


def test_make_before_break_touches_neither_device_nor_route(charon: Machine) -> None:
    """charon: all `up`s of the new IKE SA come before the first `down` of the old one."""
    charon.send_all(charon_calls(TWO, "up", 1))
    index = charon.kernel.named("vti5").ifindex
    for environment in (*charon_calls(TWO, "up", 2), *charon_calls(TWO, "down", 1)):
        assert changes_during(charon, environment) == []
    assert charon.kernel.named("vti5").ifindex == index
    charon.send_all(charon_calls(TWO, "down", 2))
    assert charon.devices() == set() and charon.claims() == []


UNIQUE_OLD = TWO._replace(mark_in="1/0xffffffff", mark_out="1/0xffffffff")
UNIQUE_NEW = TWO._replace(mark_in="2/0xffffffff", mark_out="2/0xffffffff")


@pytest.mark.parametrize("interface", ["vti5", "vti{mark}"], ids=["a fixed name", "a name by its first mark"])
def test_a_vti_is_keyed_by_the_newest_sa_of_a_unique_mark(machine: Machine, interface: str) -> None:
    machine.settings(f"[defaults]\ninterface = {interface}\nrouting = yes\n")
    machine.send_all(charon_calls(UNIQUE_OLD, "up", 1))
    (name,) = machine.devices()
    index = machine.kernel.named(name).ifindex
    calls = [*charon_calls(UNIQUE_NEW, "up", 2), *charon_calls(UNIQUE_OLD, "down", 1)]
    for environment in calls:
        machine.send(environment)
        link = machine.kernel.named(name)
        assert (link.ifindex, link.ikey, link.okey) == (index, 2, 2)
        assert machine.devices() == {name}
        assert machine.routes() == {("10.2.0.0/24", name), ("10.3.0.0/24", name)}
    machine.send_all(charon_calls(UNIQUE_NEW, "down", 2))
    assert machine.devices() == set()


def test_a_vti_is_keyed_by_the_older_sa_again_where_the_newer_goes_first(charon: Machine) -> None:
    charon.send_all([up(UNIQUE_OLD, 1), up(UNIQUE_NEW, 2), down(UNIQUE_NEW, 2)])
    link = charon.kernel.named("vti5")
    assert (link.ikey, link.okey) == (1, 1)


def test_a_peer_that_comes_from_another_address_takes_the_device_along(charon: Machine) -> None:
    """No MOBIKE, a peer with a new address: its new IKE SA is up long before the old one times out."""
    there = C._replace(peer=THIRD)
    sibling = Child("d", pairs=(("10.1.0.0/24", "10.3.0.0/24"),))
    charon.send_all([up(C, 1), up(sibling, 1), up(there, 2)])
    assert charon.kernel.named("vti5").remote == THIRD
    charon.send_all([up(sibling._replace(peer=THIRD), 2), down(C, 1), down(sibling, 1)])
    assert charon.kernel.named("vti5").remote == THIRD
    assert charon.routes() == {("10.2.0.0/24", "vti5"), ("10.3.0.0/24", "vti5")}


def test_children_of_one_peer_with_different_marks_are_not_put_on_one_device(charon: Machine) -> None:
    charon.send(up(C, 1))
    with pytest.raises(Conflict, match="vti5 has key 5, wanted 6, for c"):
        charon.send(up(Child("d", mark_in="6/0xffffffff", mark_out="6/0xffffffff"), 1))


SECOND = C._replace(peer=THIRD, peer_id="third", pairs=(("10.1.0.0/24", "10.3.0.0/24"),))


def test_a_second_peer_behind_one_mark_is_told_of_shared(charon: Machine) -> None:
    charon.send(up(C, 1))
    with pytest.raises(Conflict) as conflict:
        charon.send(up(SECOND, 2))
    assert conflict.value.text == f"vti5 has remote {EAST}, wanted {THIRD}, for c"
    assert "`shared = yes`" in conflict.value.hint
    assert charon.routes() == {("10.2.0.0/24", "vti5")}


ROWS: dict[str, tuple[str, bool, set[str]]] = {
    "as it is": ("", False, set()),
    "shared": ("shared = yes\n", True, {"vti5"}),
    "template": ("template = yes\n", True, {"vti5"}),
    "template = auto": ("template = auto\n", False, set()),
    "shared, delete = last": ("shared = yes\ndelete = last\n", True, set()),
    "delete = never": ("delete = never\n", False, {"vti5"}),
}


@pytest.mark.parametrize("case", ROWS)
def test_the_row_of_the_deletion_table_comes_from_the_settings_alone(charon: Machine, case: str) -> None:
    text, any_remote, left = ROWS[case]
    charon.settings(SETTINGS + text)
    charon.send(up(C, 1))
    assert charon.kernel.named("vti5").remote == ("0.0.0.0" if any_remote else EAST)
    if any_remote:
        charon.send_all([up(SECOND, 2), down(SECOND, 2)])
        assert charon.routes() == {("10.2.0.0/24", "vti5")}
    charon.send(down(C, 1))
    assert charon.devices() == left
    assert charon.routes() == set()


XFRM = "[defaults]\ninterface = ipsec{if_id}\nrouting = yes\n"
X = C._replace(mark_in="", mark_out="", if_id_in="42", if_id_out="42")


def test_if_ids_alone_make_an_xfrm_interface(machine: Machine) -> None:
    machine.settings(XFRM)
    machine.send(up(X))
    link = machine.kernel.named("ipsec42")
    assert (link.kind, link.if_id, link.local, link.remote, link.up) == ("xfrm", 42, "", "", True)
    assert machine.routes() == {("10.2.0.0/24", "ipsec42")}
    assert machine.kernel.files["net/ipv4/conf/ipsec42/forwarding"] == "1"
    assert machine.kernel.files["net/ipv4/conf/ipsec42/disable_policy"] == "0", "its policy is checked by the stack alone"
    machine.send(down(X, 2))
    assert machine.devices() == set() and machine.claims() == []


KINDS: dict[str, tuple[Child, str, str]] = {
    "marks": (C, "", "vti"),
    "if_ids": (X, "", "xfrm"),
    "both": (X._replace(mark_in=C.mark_in, mark_out=C.mark_out), "", "vti"),
    "both and kind = xfrm": (X._replace(mark_in=C.mark_in, mark_out=C.mark_out), "kind = xfrm\n", "xfrm"),
    "both and kind = vti": (X._replace(mark_in=C.mark_in, mark_out=C.mark_out), "kind = vti\n", "vti"),
    "only going out": (X._replace(if_id_in=""), "", "xfrm"),
    "IPv6 outside, marks": (C._replace(me=WEST6, peer=EAST6), "", "vti6"),
    "IPv6 inside, marks": (C._replace(pairs=(("fd00:1::/64", "fd00:2::/64"),)), "", "vti"),
}


@pytest.mark.parametrize("case", KINDS)
def test_the_kind_follows_from_keys_and_settings(machine: Machine, case: str) -> None:
    child, text, kind = KINDS[case]
    machine.settings("[defaults]\ninterface = tun5\n" + text)
    machine.send(up(child))
    assert machine.kernel.named("tun5").kind == kind


def client(number: int, peer: str, by_mark: bool) -> Child:
    """A client of the pool, with a mark or an if_id of its own."""
    mark, if_id = (f"{number}/0xffffffff", "") if by_mark else ("", str(number))
    selectors = (("10.1.0.0/24", f"10.3.0.{number}/32"),)
    return C._replace(peer=peer, peer_id=peer, pairs=selectors, mark_in=mark, mark_out=mark, if_id_in=if_id, if_id_out=if_id)


@pytest.mark.parametrize(
    ("name", "said", "hint"),
    [
        ("ipsec0", "ipsec0 has if_id 1, wanted 2, for c", "put {if_id} into the name, and each client gets a device"),
        ("vti0", "vti0 has remote", "put {mark} into the name, and each client gets a device: `interface = vti{mark}`"),
    ],
)
def test_pool_clients_with_a_key_each_are_told_to_put_it_into_the_name(
    machine: Machine, name: str, said: str, hint: str
) -> None:
    machine.settings(f"[connection c]\ninterface = {name}\n")
    machine.send(up(client(1, EAST, name == "vti0"), 1))
    with pytest.raises(Conflict) as conflict:
        machine.send(up(client(2, THIRD, name == "vti0"), 2))
    assert conflict.value.text.startswith(said)
    assert conflict.value.hint.startswith(hint)


def test_peers_from_several_addresses_share_an_xfrm_interface_until_the_last_goes(machine: Machine) -> None:
    machine.settings(XFRM)
    other = X._replace(me=WEST6, peer=EAST6, peer_id="third", pairs=(("10.1.0.0/24", "10.3.0.0/24"),))
    machine.send_all([up(X, 1), up(other, 2)])
    assert machine.routes() == {("10.2.0.0/24", "ipsec42"), ("10.3.0.0/24", "ipsec42")}
    machine.send(down(X, 1))
    assert machine.routes() == {("10.3.0.0/24", "ipsec42")}
    machine.send(down(other, 2))
    assert machine.devices() == set()


def test_an_xfrm_interface_follows_a_unique_if_id_in_place(machine: Machine) -> None:
    machine.settings("[defaults]\ninterface = ipsec0\nrouting = yes\n")
    new = X._replace(if_id_in="43", if_id_out="43")
    machine.send(up(X, 1))
    index = machine.kernel.named("ipsec0").ifindex
    machine.send_all([up(new, 2), down(X, 1)])
    assert (machine.kernel.named("ipsec0").ifindex, machine.kernel.named("ipsec0").if_id) == (index, 43)
    assert machine.routes() == {("10.2.0.0/24", "ipsec0")}


def test_an_xfrm_interface_named_by_a_unique_if_id_hands_its_route_over(machine: Machine) -> None:
    machine.settings(XFRM)
    new = X._replace(if_id_in="43", if_id_out="43")
    machine.send(up(X, 1))
    report = machine.send(up(new, 2))
    assert report.warnings == (), "that it waits for its predecessor is no news"
    assert machine.devices() == {"ipsec42", "ipsec43"}
    machine.send(down(X, 1))
    assert machine.devices() == {"ipsec43"}
    assert machine.routes() == {("10.2.0.0/24", "ipsec43")}


APART = X._replace(if_id_in="1", if_id_out="2")


def test_two_if_ids_make_two_interfaces_and_the_outgoing_one_has_the_route(machine: Machine) -> None:
    machine.settings(XFRM + "address = 10.99.0.1/30\n")
    machine.send(up(APART))
    assert {name: machine.kernel.named(name).if_id for name in machine.devices()} == {"ipsec1": 1, "ipsec2": 2}
    assert machine.kernel.named("ipsec1").up
    assert machine.routes() == {("10.2.0.0/24", "ipsec2")}
    assert (machine.addresses("ipsec1"), machine.addresses("ipsec2")) == ([], ["10.99.0.1/30"])
    assert machine.kernel.files["net/ipv4/conf/ipsec1/forwarding"] == "1"
    machine.send(down(APART))
    assert machine.devices() == set()


@pytest.mark.parametrize("name", ["ipsec0", "in{if_id_in}"])
def test_two_if_ids_under_one_name_are_refused(machine: Machine, name: str) -> None:
    machine.settings(f"[defaults]\ninterface = {name}\n")
    with pytest.raises(Refused, match="if_id_in 1 and if_id_out 2 need two devices"):
        machine.send(up(APART))
    assert machine.devices() == set()


NO_DEVICE: dict[str, tuple[Child, str, str]] = {
    "no interface": (C, "", "no device: no setting `interface` for this connection, the child's name"),
    "no mark for its name": (X, "interface = vti{mark}\n", "no device: vti{mark} needs a value this connection does not have"),
    "one mark": (
        C._replace(mark_in=""),
        "interface = vti5\n",
        "no device: vti5 needs marks as its keys; set mark_in and mark_out",
    ),
    "neither": (
        C._replace(mark_in="", mark_out=""),
        "interface = vti5\n",
        "no device: vti5 needs marks as its keys; set mark_in and mark_out",
    ),
    "only coming in": (
        X._replace(if_id_out=""),
        "interface = ipsec5\n",
        "no device: ipsec5 needs an if_id; set if_id_out (and if_id_in)",
    ),
    "kind = xfrm and marks": (
        C,
        "interface = ipsec5\nkind = xfrm\n",
        "no device: ipsec5 needs an if_id; set if_id_out (and if_id_in)",
    ),
}


@pytest.mark.parametrize("case", NO_DEVICE)
def test_why_there_is_no_device_is_one_line(machine: Machine, case: str) -> None:
    child, text, said = NO_DEVICE[case]
    machine.settings("[defaults]\n" + text)
    report = machine.send(up(child))
    assert report.remarks == (said,)
    assert machine.devices() == set() and machine.claims() == []


def test_a_device_of_this_if_id_that_is_not_ours_is_named(machine: Machine) -> None:
    for name, if_id in (("first", 7), ("other", 42)):
        machine.kernel.add_link(Link(name, "xfrm", if_id=if_id))
    machine.settings(XFRM)
    with pytest.raises(Conflict, match=r"^ipsec42: other \(not ours\) has if_id 42 already$"):
        machine.send(up(X))


def test_an_xfrm_interface_of_ours_keeps_the_device_below_it(machine: Machine) -> None:
    """The kernel refuses every change of it, and so one that leaves it out."""
    machine.kernel.add_link(Link("ipsec0", "xfrm", if_id=41, up=True, parent=1, alias="vti-updown"))
    machine.settings("[defaults]\ninterface = ipsec0\n")
    machine.send(up(X))
    link = machine.kernel.named("ipsec0")
    assert (link.if_id, link.parent) == (42, 1)


def test_an_xfrm_interface_made_beforehand_is_used_and_stays(machine: Machine) -> None:
    machine.kernel.add_link(Link("ipsec42", "xfrm", if_id=42, up=True, parent=1))
    machine.settings(XFRM)
    machine.send(up(X))
    assert machine.routes() == {("10.2.0.0/24", "ipsec42")}
    machine.send(down(X))
    assert machine.devices() == {"ipsec42"} and machine.routes() == set()


def test_kind_does_not_touch_what_libreswan_names(machine: Machine) -> None:
    machine.settings("[defaults]\nkind = xfrm\n")
    machine.send(call(LibreswanTunnel(), "up"))
    assert machine.kernel.named("vti5").kind == "vti"


def test_a_call_that_dies_at_any_moment_is_made_up_for_by_the_next(charon: Machine) -> None:
    """P6 at make-before-break: whenever the new SA's call dies, the old one's `down` leaves the new SA's state."""
    moment = 0
    while True:
        charon.send(up(UNIQUE_OLD, 1))
        if not charon.dies(up(UNIQUE_NEW, 2), moment):
            break
        charon.send_all([up(UNIQUE_NEW, 2), down(UNIQUE_OLD, 1)])
        link = charon.kernel.named("vti5")
        assert (link.ikey, link.okey, link.up) == (2, 2, True), charon.moments[moment]
        assert charon.routes() == {("10.2.0.0/24", "vti5")}
        charon.send(down(UNIQUE_NEW, 2))
        assert charon.devices() == set() and charon.claims() == [] and charon.unfinished() == []
        moment += 1
    assert moment > 2


def test_a_killed_charons_claim_that_is_renewed_is_the_latest(machine: Machine) -> None:
    """Numbers begin at 1 again, and one of them meets its stale claim."""
    machine.settings("[defaults]\ninterface = vti5\n")

    def sa(number: int) -> Child:
        return Child("c", mark_in=f"{number}/0xffffffff", mark_out=f"{number}/0xffffffff")

    machine.send_all(charon_calls(sa(2), "up", 2))
    machine.send_all(charon_calls(sa(1), "up", 1) + charon_calls(sa(2), "up", 2))
    assert [claim.sa.unique_id for claim in machine.claims()] == [1, 2]
    machine.send_all(charon_calls(sa(3), "up", 3) + charon_calls(sa(3), "down", 3))
    assert machine.kernel.named("vti5").okey == 2
    before = machine.claims()
    assert [report.operations for report in machine.send_all(charon_calls(sa(2), "up", 2))] == [()]
    assert machine.claims() == before
