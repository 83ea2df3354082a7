"""ipsec-interface= host to host: the peer's address goes into pluto's device, pluto's own packets, by their mark, past it."""

from __future__ import annotations

import pytest

from tests.kit import field_cases
from tests.kit.machine import EAST, EAST6, GATEWAY, WEST, WEST6, Environment, Machine, Tunnel, call, establish, withdraw
from updown.model.objects import Link, Route, Rule

IF_ID = 16384
MARK = f"{IF_ID}/0xffffffff"


def host(peer: str = EAST, me: str = WEST, mine: str = "", connection: str = "t", mark: str = MARK) -> Tunnel:
    """The connection, with the mark in a field that no call of this kind has."""
    full = 128 if ":" in me else 32
    return Tunnel(connection, me, peer, mine or f"{me}/{full}", f"{peer}/{full}", "", "", "", "", "", mtu=mark)


def own(tunnel: Tunnel, environment: Environment) -> Environment:
    """A call for pluto's own device."""
    rest = {name: value for name, value in environment.items() if name != "PLUTO_MTU"}
    more = {"PLUTO_VIRT_INTERFACE": "ipsec0", "PLUTO_XFRMI_ROUTE": "yes", "PLUTO_XFRMI_FWMARK": tunnel.mtu}
    return {**rest, **more, "VTI_IFACE": "", "VTI_ROUTING": "no", "VTI_SHARED": "no"}


def comes(machine: Machine, tunnel: Tunnel) -> None:
    for environment in establish(tunnel):
        assert machine.send(own(tunnel, environment)).warnings == ()


def goes(machine: Machine, tunnel: Tunnel) -> None:
    for environment in withdraw(tunnel):
        machine.send(own(tunnel, environment))


def way(machine: Machine, address: str, mark: int = 0) -> str:
    """The device that packets with a mark leave by."""
    seen = machine.kernel.match(address, mark=mark).route
    assert seen
    return machine.kernel.by_index[seen.oif].name


@pytest.fixture(autouse=True)
def plutos_device(machine: Machine) -> None:
    machine.kernel.add_link(Link("ipsec0", "xfrm", if_id=IF_ID, up=True, mtu=1500))


FAR, FAR6 = "203.0.113.7", "2001:db8:9::7"
HOSTS = {"on our link": (WEST, EAST), "behind a gateway": (WEST, FAR), "IPv6": (WEST6, EAST6), "IPv6 far": (WEST6, FAR6)}


@pytest.mark.parametrize("release", [4, 5])
@pytest.mark.parametrize("case", HOSTS)
def test_the_peer_is_reached_by_the_device_and_what_pluto_marks_past_it(machine: Machine, case: str, release: int) -> None:
    me, peer = HOSTS[case]
    tunnel = host(peer, me)._replace(release=release)
    before = machine.kernel.picture()
    comes(machine, tunnel)
    assert (way(machine, peer), way(machine, peer, IF_ID), way(machine, peer, 1)) == ("ipsec0", "eth0", "ipsec0")
    (rule,) = [one for one in machine.kernel.policy if not one.source_port]
    ports = {one.source_port for one in machine.kernel.policy if one != rule}
    assert ports == (set() if release == 5 else {500, 4500}), "4.10 does not mark IKE"
    six = ":" in peer
    length = 128 if six else 32
    assert rule == Rule(6 if six else 4, "", 50, 100, fwmark=IF_ID, fwmask=0xFFFFFFFF, destination=f"{peer}/{length}")
    (past,) = [entry.route for entry in machine.kernel.table if entry.route.table == 50]
    gateway = {FAR: GATEWAY, FAR6: "2001:db8:0:1::fe"}.get(peer, "")
    assert past._replace(metric=0) == Route(f"{peer}/{length}", "eth0", gateway, 50)
    again = [machine.send(own(tunnel, environment)).operations for environment in establish(tunnel)]
    assert again == [(), (), ()]
    goes(machine, tunnel)
    assert machine.kernel.picture() == before


def test_two_tunnels_to_a_peer_count_it_and_both_families_have_their_own(machine: Machine) -> None:
    machine.kernel.add_address(machine.kernel.named("eth0").ifindex, "10.1.0.1/24")
    first, second, six = host(), host(mine="10.1.0.0/24", connection="lan")._replace(reqid=16392), host(EAST6, WEST6, "", "six")
    six = six._replace(reqid=16396)
    before = machine.kernel.picture()
    for tunnel in (first, second, six):
        comes(machine, tunnel)
    assert {rule.family for rule in machine.kernel.policy} == {4, 6}
    machine.send(own(first, call(first, "down")))  # `unroute` comes once for all of one remote selector
    assert (way(machine, EAST), way(machine, EAST, IF_ID)) == ("ipsec0", "eth0")
    goes(machine, second)
    assert (way(machine, EAST), way(machine, EAST6), way(machine, EAST6, IF_ID)) == ("eth0", "ipsec0", "eth0")
    goes(machine, six)
    assert machine.kernel.picture() == before


def test_a_mark_of_the_administrators_is_the_rules(machine: Machine) -> None:
    comes(machine, host(mark="6/0xffffff"))
    (rule,) = machine.kernel.policy
    assert (rule.fwmark, rule.fwmask) == (6, 0xFFFFFF)


@pytest.mark.parametrize("mark", ["", "0/00000000"])
def test_without_a_mark_the_peer_stays_outside_and_a_line_says_so(machine: Machine, mark: str) -> None:
    tunnel = host(mark=mark)
    reports = [machine.send(own(tunnel, environment)) for environment in establish(tunnel)]
    assert way(machine, EAST) == "eth0"
    assert machine.kernel.policy == set()
    assert "198.51.100.2 is not routed into ipsec0" in " ".join(reports[-1].remarks)


def test_a_rule_and_a_route_that_were_there_before_stay(machine: Machine) -> None:
    """What libreswan's own script left, at another protocol."""
    eth0 = machine.kernel.named("eth0").ifindex
    theirs = Rule(4, "", 50, 100, fwmark=IF_ID, fwmask=0xFFFFFFFF, protocol=3, destination=f"{EAST}/32")
    machine.kernel.policy.add(theirs)
    machine.kernel.add_route(Route(f"{EAST}/32", "eth0", table=50, protocol=3), eth0)
    before = machine.kernel.picture()
    comes(machine, host())
    assert (way(machine, EAST), way(machine, EAST, IF_ID)) == ("ipsec0", "eth0")
    goes(machine, host())
    assert machine.kernel.picture() == before


def test_the_case_from_the_field(machine: Machine) -> None:
    (environment,) = field_cases.calls("17-host-to-host-ipsec-interface")
    report = machine.send(environment)
    assert report.remarks == report.warnings == ()
    assert (way(machine, EAST), way(machine, EAST, IF_ID)) == ("ipsec0", "eth0")
    assert call(host(), "up")["PLUTO_MTU"] == MARK, "own() takes it away"
