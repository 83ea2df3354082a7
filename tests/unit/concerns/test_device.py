"""The tunnel device: its kind, ends, keys and name, and how ours follows what the daemon wants."""

from tests.kit.machine import EAST6, THIRD, WEST, WEST6, Machine, Tunnel, call, establish, withdraw
from updown.model.objects import OUR_ALIAS, Link

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


def test_the_device_has_both_ends_both_keys_our_alias_and_is_up(machine: Machine) -> None:
    machine.send(call(T._replace(mark_in="21/0xffffffff", mark_out="22/0xffffffff"), "prepare"))
    link = machine.kernel.named("vti5")
    assert link._replace(ifindex=0, mtu=0) == MADE._replace(ikey=21, okey=22, up=True, alias=OUR_ALIAS)


def test_an_ipv6_outer_address_makes_a_vti6(machine: Machine) -> None:
    machine.send(call(TUNNELS["IPv4 in IPv6"], "up"))
    link = machine.kernel.named("vti5")
    assert (link.kind, link.local, link.remote, link.ikey, link.okey) == ("vti6", WEST6, EAST6, 49, 50)
    assert machine.routes() == {("10.2.0.0/24", "vti5")}


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


def test_a_template_with_the_connection_gives_all_its_pairs_one_device(machine: Machine) -> None:
    """libreswan calls the pairs of left- and rightsubnets NAME/1x1, NAME/1x2, ..."""
    machine.settings("[connection office]\ninterface = {connection}\nrouting = yes\n")
    pair = Tunnel("office/1x1", device="", routing="", shared="")
    machine.send_all([call(pair, "up"), call(pair._replace(connection="office/1x2", theirs="10.4.0.0/24"), "up")])
    assert machine.devices() == {"office"}
    assert machine.routes() == {("10.2.0.0/24", "office"), ("10.4.0.0/24", "office")}


def test_a_connection_is_no_stranger_to_itself_after_a_restart_of_the_daemon(machine: Machine) -> None:
    """No `down` came, reqids begin anew, and the mark was changed meanwhile."""
    machine.send_all(establish(T))
    again = T._replace(reqid=16400, mark_in="6/0xff", mark_out="6/0xff")
    machine.send_all(establish(again))
    assert machine.kernel.named("vti5").okey == 6
    machine.send_all(withdraw(again))
    assert machine.devices() == set()
    assert machine.routes() == set()
