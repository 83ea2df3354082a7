"""Somebody else's route to a tunnel's network: ours goes before it and leaves it as it is, or it is told where packets go."""

from typing import NamedTuple

import pytest

from tests.kit import field_cases
from tests.kit.machine import EAST, EAST6, GATEWAY, THIRD, WEST6, Machine, Tunnel, call, establish, withdraw
from updown.model.objects import Route, Rule

T = Tunnel()
SIX = Tunnel(me=WEST6, peer=EAST6, mine="fd00:1::/64", theirs="fd00:2::/64")
STATIC = 4


class Situation(NamedTuple):
    """A tunnel, the machine's own route to where it leads, and an address there; `leaves`: words of the warning."""

    tunnel: Tunnel
    theirs: Route
    address: str
    leaves: tuple[str, ...] = ()


def by_eth0(destination: str, metric: int = 0, protocol: int = STATIC, gateway: str = GATEWAY) -> Route:
    """A route by the uplink."""
    return Route(destination, "eth0", gateway, metric=metric, protocol=protocol)


def six(destination: str, metric: int = 1024, protocol: int = STATIC) -> Route:
    """The same of IPv6."""
    return by_eth0(destination, metric, protocol, "2001:db8:0:1::fe")


HOST, HOST6 = "10.2.0.9/32", "fd00:2::9/128"

PASSED = {
    "no metric": Situation(T, by_eth0("10.2.0.0/24"), "10.2.0.1"),
    "no metric, the other half": Situation(T, by_eth0("10.2.0.0/24"), "10.2.0.200"),
    "ours has a metric, and none is below 0": Situation(T._replace(metric="10"), by_eth0("10.2.0.0/24"), "10.2.0.1"),
    "one address": Situation(T._replace(theirs=HOST), by_eth0(HOST), "10.2.0.9"),
    "two addresses": Situation(T._replace(theirs="10.2.0.8/31"), by_eth0("10.2.0.8/31"), "10.2.0.9"),
    "on-link, without a gateway": Situation(T, by_eth0("10.2.0.0/24", gateway=""), "10.2.0.1"),
    "a routing daemon's": Situation(T, by_eth0("10.2.0.0/24", protocol=12), "10.2.0.1"),
    "IPv6": Situation(SIX, six("fd00:2::/64"), "fd00:2::1"),
    "IPv6, a better metric than the kernel's own": Situation(SIX, six("fd00:2::/64", 20), "fd00:2::1"),
    "IPv6, one address": Situation(SIX._replace(theirs=HOST6), six(HOST6), "fd00:2::9"),
}

LEAVES = {
    "the metrics that both have say so": Situation(
        T._replace(metric="10"), by_eth0("10.2.0.0/24", 5), "10.2.0.1", ("metric 5", "metric below 5, or none")
    ),
    "IPv6, the same": Situation(
        SIX._replace(metric="2000"), six("fd00:2::/64"), "fd00:2::1", ("metric 1024", "metric below 1024, or none")
    ),
    "one address, and ours has a metric": Situation(
        T._replace(theirs=HOST, metric="10"), by_eth0(HOST), "10.2.0.9", ("leave out the metric of ours",)
    ),
    "IPv6, one address at a metric that is as good": Situation(
        SIX._replace(theirs=HOST6), six(HOST6, 20), "fd00:2::9", ("metric 20", "Delete it")
    ),
    "a half of everything": Situation(
        T._replace(theirs="128.0.0.0/1"),
        by_eth0("128.0.0.0/1"),
        "192.0.2.1",
        ("Delete it (ip route del 128.0.0.0/1 dev eth0 metric 0), or set `table` and `rule`",),
    ),
}


def way(machine: Machine, address: str) -> str:
    """The device that packets to an address leave by."""
    path = machine.kernel.path(address)
    return path.device if path else ""


def add(machine: Machine, route: Route) -> None:
    """The administrator's own."""
    machine.kernel.add_route(route, machine.kernel.named("eth0").ifindex)


@pytest.mark.parametrize("release", [4, 5])
@pytest.mark.parametrize("case", PASSED)
def test_ours_goes_before_it_and_it_counts_again_when_ours_goes(machine: Machine, case: str, release: int) -> None:
    tunnel, theirs, address, _ = PASSED[case]
    tunnel = tunnel._replace(release=release)
    add(machine, theirs)
    before = machine.kernel.picture()
    reports = machine.send_all(establish(tunnel))
    assert way(machine, address) == "vti5"
    assert theirs in [entry.route for entry in machine.kernel.table]
    (line,) = [line for report in reports for line in report.remarks]
    assert f"{theirs.destination} has a route dev eth0 that is not ours: ours goes before it" in line
    assert [warning for report in reports for warning in report.warnings] == []
    again = machine.send_all(establish(tunnel))
    assert [one for report in again for one in (*report.operations, *report.remarks)] == []
    machine.send_all(withdraw(tunnel))
    assert machine.kernel.picture() == before


@pytest.mark.parametrize("case", LEAVES)
def test_what_leaves_outside_of_the_tunnel_is_told_with_what_helps(machine: Machine, case: str) -> None:
    tunnel, theirs, address, words = LEAVES[case]
    add(machine, theirs)
    before = machine.kernel.picture()
    (warning,) = machine.send_all(establish(tunnel))[-1].warnings
    assert way(machine, address) == "eth0"
    assert warning.startswith(f"packets to {theirs.destination} leave outside of vti5, in clear: ")
    assert [word for word in words if word not in warning] == []
    machine.send_all(withdraw(tunnel))
    assert machine.kernel.picture() == before


def test_a_devices_own_network_stays_its_own(machine: Machine) -> None:
    machine.kernel.physical("lan0", "10.2.0.1/24")
    (warning,) = machine.send_all(establish(T))[-1].warnings
    assert way(machine, "10.2.0.9") == "lan0"
    assert "leave outside of vti5, in clear: it is the network of dev lan0 itself" in warning


def test_a_policy_rule_that_leads_elsewhere_is_told(machine: Machine) -> None:
    machine.kernel.policy.add(Rule(4, "", 220, 220, protocol=3))
    add(machine, by_eth0("10.0.0.0/8")._replace(table=220))
    (warning,) = machine.send_all(establish(T))[-1].warnings
    assert way(machine, "10.2.0.1") == "eth0"
    assert "leave outside of vti5, in clear: a policy rule leads them to table 220, dev eth0" in warning


@pytest.mark.parametrize("metric", ["", "10"])
def test_one_that_comes_later_is_passed_by_the_next_event_and_ours_is_whole_again_without_it(
    machine: Machine, metric: str
) -> None:
    tunnel = T._replace(metric=metric)
    machine.send_all(establish(tunnel))
    whole = machine.kernel.picture()
    eth0, theirs = machine.kernel.named("eth0").ifindex, by_eth0("10.2.0.0/24")
    machine.kernel.add_route(theirs, eth0, replace=True)  # what a DHCP client does
    machine.send(call(tunnel, "up"))
    assert way(machine, "10.2.0.1") == "vti5"
    machine.kernel.delete_route(theirs, eth0)
    machine.send(call(tunnel, "up"))
    assert machine.kernel.picture() == whole


def test_a_tunnel_of_a_half_has_its_own_route_before_during_and_after(machine: Machine) -> None:
    half = Tunnel("half", peer=THIRD, theirs="10.2.0.0/25", device="vti6", mark_in="6", mark_out="6", reqid=16392)
    add(machine, by_eth0("10.2.0.0/24"))
    machine.send_all(establish(T))
    machine.send_all(establish(half))
    assert (way(machine, "10.2.0.1"), way(machine, "10.2.0.200")) == ("vti6", "vti5")
    machine.send_all(withdraw(half))
    assert (way(machine, "10.2.0.1"), way(machine, "10.2.0.200")) == ("vti5", "vti5")


@pytest.mark.parametrize("theirs", ["10.2.0.0/24", HOST])
def test_the_second_tunnel_takes_over_before_it_too(machine: Machine, theirs: str) -> None:
    first = T._replace(theirs=theirs)
    second = Tunnel("u", peer=THIRD, theirs=theirs, device="vti6", mark_in="6", mark_out="6", reqid=16392)
    add(machine, by_eth0(theirs))
    before = machine.kernel.picture()
    machine.send_all([*establish(first), *establish(second)])
    assert way(machine, "10.2.0.9") == "vti5"
    machine.send_all(withdraw(first))
    assert way(machine, "10.2.0.9") == "vti6"
    machine.send_all(withdraw(second))
    assert machine.kernel.picture(indexes=False) == before or machine.routes() == set()


@pytest.mark.parametrize("file", ["vti-updown.conf", "with-metric.conf"])
def test_the_case_from_the_field_goes_into_the_tunnel(machine: Machine, file: str) -> None:
    machine.settings(field_cases.settings("16-foreign-route-metric-0", file))
    machine.kernel.add_address(machine.kernel.named("eth0").ifindex, f"{EAST}/24")
    add(machine, by_eth0("10.1.0.0/24"))
    (environment,) = field_cases.calls("16-foreign-route-metric-0")
    machine.send(environment)
    assert way(machine, "10.1.0.1") == "vti5"


def test_everything_in_halves_is_before_the_machines_default_route_as_ever(machine: Machine) -> None:
    machine.send_all(establish(T._replace(theirs="0.0.0.0/0")))
    assert machine.routes() >= {("0.0.0.0/1", "vti5"), ("128.0.0.0/1", "vti5")}
    assert not [entry for entry in machine.kernel.table if entry.route.metric >= 160_000]
