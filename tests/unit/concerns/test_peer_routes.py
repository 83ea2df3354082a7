"""The way to the peer: it stays outside the tunnel, or in the tunnel it is meant to go by, and nothing loops."""

import pytest

from tests.kit.machine import GATEWAY, THIRD, Machine, Tunnel, call, establish, withdraw
from updown.model.objects import Route

T = Tunnel(address="10.99.0.1/30")
U = Tunnel("u", peer=THIRD, theirs="10.3.0.0/24", reqid=16392)


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


def test_the_peers_own_route_goes_after_what_would_lead_it_into_the_device(machine: Machine) -> None:
    everything = T._replace(theirs="0.0.0.0/0", shared="yes", peer="203.0.113.9", next_hop=GATEWAY)
    machine.send_all(establish(everything))
    report = machine.send(call(everything, "down"))
    gone = [operation.subject.destination for operation in report.operations if isinstance(operation.subject, Route)]
    assert gone == ["0.0.0.0/1", "128.0.0.0/1", "203.0.113.9/32"]


def test_the_host_route_to_a_peer_keeps_the_mtu_of_the_way_it_stands_before(machine: Machine) -> None:
    """Or ESP would go as if that way were as wide as its device."""
    eth0 = machine.kernel.named("eth0").ifindex
    (entry,) = [one for one in machine.kernel.table if one.route.destination == "0.0.0.0/0"]
    machine.kernel.add_route(entry.route._replace(mtu=1400), eth0, replace=True)
    machine.send_all(establish(T._replace(theirs="0.0.0.0/0", peer="203.0.113.9")))
    (route,) = [one.route for one in machine.kernel.table if one.route.destination == "203.0.113.9/32"]
    assert (route.device, route.mtu) == ("eth0", 1400)
