"""What the kernel takes along with a removed device or address is put back where another tunnel needs it."""

import pytest

from tests.kit.machine import THIRD, Machine, Tunnel, call, establish, withdraw

T = Tunnel(address="10.99.0.1/30")
U = Tunnel("u", peer=THIRD, theirs="10.3.0.0/24", reqid=16392)


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


@pytest.mark.parametrize(
    ("source", "first", "second"), [("10.77.0.1", "10.2.0.0/24", "10.3.0.0/24"), ("fd00:77::1", "fd00:2::/64", "fd00:3::/64")]
)
def test_a_source_address_of_two_tunnels_outlives_the_first(machine: Machine, source: str, first: str, second: str) -> None:
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
