"""Source addresses on the device: added where the machine lacks them, and named by the routes."""

import pytest

from tests.kit.charon import Child, charon_call
from tests.kit.machine import EAST, Machine, Tunnel, call, establish
from updown.model.errors import Refused

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


@pytest.mark.parametrize("address", [f"{EAST}/32", f"{EAST}/24", f"10.0.0.1/24 {EAST} peer 10.0.1.2"])
def test_the_peers_outer_address_in_settings_is_refused_with_its_line(machine: Machine, address: str) -> None:
    machine.settings(f"[connection t]\nmtu = 1400\naddress = {address}\n")
    with pytest.raises(Refused, match=r"^vti-updown.conf:3: address = .* has the peer's outer address$"):
        machine.send(call(T, "prepare"))
    assert (machine.devices(), machine.claims()) == (set(), [])
    machine.settings("")
    machine.send_all(establish(T))
    assert machine.devices() == {"vti5"}


def test_an_assigned_address_that_no_host_can_have_leaves_nothing_half_made(machine: Machine) -> None:
    machine.settings("[connection c]\ninterface = vti5\nrouting = yes\n")
    report = machine.send(charon_call(Child(virtual=("224.0.0.9", EAST)), "up"))
    assert (machine.addresses("vti5"), machine.routes()) == ([], {("10.2.0.0/24", "vti5")})
    assert {warning.partition("=")[0] for warning in report.warnings} == {
        "PLUTO_MY_SOURCEIP",
        "PLUTO_MY_SOURCEIP4_1",
        "PLUTO_MY_SOURCEIP4_2",
    }
