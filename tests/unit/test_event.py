"""What every event does, whatever the tunnel: all of it alone, nothing the second time, no trace in the end (P1, P2)."""

import pytest

from tests.kit.machine import EAST6, GATEWAY, WEST6, Machine, Tunnel, call, establish, withdraw

T = Tunnel(address="10.99.0.1/30")
SIX = Tunnel(me=WEST6, peer=EAST6, mine="fd00:1::/64", theirs="fd00:2::/64")
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


@pytest.mark.parametrize("case", TUNNELS)
def test_every_event_twice_does_nothing_the_second_time(machine: Machine, case: str) -> None:
    """Promise P1."""
    tunnel = TUNNELS[case]
    for environment in [*establish(tunnel), *withdraw(tunnel)]:
        machine.send(environment)
        again = machine.send(environment)
        assert again.operations == ()
        assert machine.unfinished() == []


@pytest.mark.parametrize("case", TUNNELS)
def test_a_tunnel_leaves_no_trace_but_a_device_that_stays_by_rule(machine: Machine, case: str) -> None:
    before = machine.kernel.picture(indexes=False)
    tunnel = TUNNELS[case]
    machine.send_all([*establish(tunnel), *withdraw(tunnel)])
    if case in ("shared", "instance"):
        assert machine.devices() == {"vti5"}
        assert machine.addresses("vti5") == []
        machine.kernel.remove(machine.kernel.named("vti5").ifindex)
    assert machine.kernel.picture(indexes=False) == before
    assert machine.claims() == []


@pytest.mark.parametrize("case", TUNNELS)
@pytest.mark.parametrize("verb", ["up", "route", "prepare-route-up"])
def test_up_alone_or_route_alone_builds_all(machine: Machine, case: str, verb: str) -> None:
    """Promise P2."""
    tunnel = TUNNELS[case]
    machine.send_all(establish(tunnel))
    whole = machine.kernel.picture(indexes=False)
    machine.send_all(withdraw(tunnel))
    for name in machine.devices():
        machine.kernel.remove(machine.kernel.named(name).ifindex)
    machine.now += 601
    machine.send(call(tunnel, verb))
    assert machine.kernel.picture(indexes=False) == whole


@pytest.mark.parametrize("theirs", ["0.0.0.0/0", "10.2.0.0/24"])
def test_a_repeated_event_reads_no_whole_table(machine: Machine, theirs: str) -> None:
    tunnel = T._replace(theirs=theirs, peer="203.0.113.9", next_hop=GATEWAY)
    machine.send_all(establish(tunnel))
    machine.kernel.dumped.clear()
    machine.send(call(tunnel, "up"))
    assert machine.kernel.dumped == []
