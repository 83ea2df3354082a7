"""What several tunnels want: the first holds it, it moves over, and it goes with the last (promise P4)."""

import pytest

from tests.kit.machine import THIRD, Machine, Tunnel, call, withdraw

T = Tunnel(address="10.99.0.1/30")
U = Tunnel("u", peer=THIRD, theirs="10.3.0.0/24", reqid=16392)
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


def test_two_connections_with_two_mtus_have_the_smaller_and_keep_it(machine: Machine) -> None:
    one, other = T._replace(mtu="1400"), T._replace(connection="u", theirs="10.3.0.0/24", reqid=16392, mtu="1300")
    for _ in range(2):
        machine.send_all([call(one, "up"), call(other, "up")])
        assert machine.kernel.named("vti5").mtu == 1300
    assert machine.send(call(one, "up")).operations == ()
