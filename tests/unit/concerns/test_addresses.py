"""Source addresses on the device: added where the machine lacks them, and named by the routes."""

import pytest

from tests.kit.machine import Machine, Tunnel, call, establish

T = Tunnel(address="10.99.0.1/30")


def test_a_source_address_that_the_machine_has_is_not_added_again(machine: Machine) -> None:
    machine.kernel.physical("lan0", "10.1.0.1/24")
    machine.send(call(T._replace(source="10.1.0.1"), "up"))
    assert machine.addresses("vti5") == ["10.99.0.1/30"]
    assert machine.routes() == {("10.2.0.0/24", "vti5")}


def test_a_source_of_the_other_family_is_not_the_routes_source(machine: Machine) -> None:
    machine.send(call(T._replace(theirs="fd00:2::/64", mine="fd00:1::/64", source="10.1.0.1"), "up"))
    (route,) = (entry.route for entry in machine.kernel.table if entry.route.device == "vti5")
    assert route.source == ""


@pytest.mark.parametrize("release", [4, 5])
def test_a_source_address_that_is_the_devices_own_is_not_added_twice(machine: Machine, release: int) -> None:
    machine.send_all(establish(T._replace(source="10.99.0.1", release=release)))
    assert machine.addresses("vti5") == ["10.99.0.1/30"]


@pytest.mark.parametrize("none", ["0.0.0.0", "::"])
def test_a_source_address_that_is_none_is_none(machine: Machine, none: str) -> None:
    report = machine.send(call(T._replace(source=none), "up"))
    assert report.warnings == ()
    assert machine.routes() == {("10.2.0.0/24", "vti5")}
