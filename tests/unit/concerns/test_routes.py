"""The routes of a tunnel's selectors: which there are, what they carry, and where settings place them."""

import pytest

from tests.kit.machine import EAST6, GATEWAY, WEST, WEST6, Machine, Tunnel, call, establish, withdraw
from updown.model.objects import OUR_PROTOCOL, Link, Route

T = Tunnel(address="10.99.0.1/30")
SIX = Tunnel(me=WEST6, peer=EAST6, mine="fd00:1::/64", theirs="fd00:2::/64")
ROUTED: dict[str, tuple[Tunnel, set[tuple[str, str]]]] = {
    "one prefix": (T, {("10.2.0.0/24", "vti5")}),
    "0/0 as halves, with the peer outside": (
        T._replace(theirs="0.0.0.0/0"),
        {("0.0.0.0/1", "vti5"), ("128.0.0.0/1", "vti5"), ("198.51.100.2/32", "eth0")},
    ),
    "::/0 as halves, with the peer outside": (
        SIX._replace(theirs="::/0"),
        {("::/1", "vti5"), ("8000::/1", "vti5"), ("2001:db8:0:1::2/128", "eth0")},
    ),
    "::/0 in IPv4 needs no way to the peer": (
        T._replace(mine="fd00:1::/64", theirs="::/0"),
        {("::/1", "vti5"), ("8000::/1", "vti5")},
    ),
    "a prefix that holds the peer": (
        T._replace(theirs="198.51.0.0/16"),
        {("198.51.0.0/16", "vti5"), ("198.51.100.2/32", "eth0")},
    ),
    "host to host": (T._replace(mine=f"{WEST}/32", theirs=f"{T.peer}/32"), set()),
    "a range": (T._replace(theirs="10.2.0.1-10.2.0.2"), {("10.2.0.1/32", "vti5"), ("10.2.0.2/32", "vti5")}),
    "a peer behind a gateway": (
        T._replace(peer="203.0.113.9", theirs="0.0.0.0/0", next_hop=GATEWAY),
        {("0.0.0.0/1", "vti5"), ("128.0.0.0/1", "vti5"), ("203.0.113.9/32", "eth0")},
    ),
    "vti-routing=no": (T._replace(routing="no"), set()),
    "vti-routing=no with a source address": (T._replace(routing="no", source="10.1.0.1"), set()),
    "vti-routing=no with an MTU": (T._replace(routing="no", mtu="1400"), set()),
    "vti-routing=no for everything": (T._replace(routing="no", theirs="0.0.0.0/0", source="10.1.0.1"), set()),
}


@pytest.mark.parametrize("case", ROUTED)
def test_the_routes_of_a_tunnel_are_these(machine: Machine, case: str) -> None:
    tunnel, wanted = ROUTED[case]
    machine.send_all(establish(tunnel))
    assert machine.routes() == wanted
    path = machine.kernel.path(tunnel.peer)
    assert path is not None
    assert path.device == "eth0", "ESP and IKE never loop into the device"


def test_a_route_carries_source_metric_mtu_and_our_mark(machine: Machine) -> None:
    machine.send(call(T._replace(source="10.1.0.1", metric="50", mtu="1400"), "up"))
    (route,) = (entry.route for entry in machine.kernel.table if entry.route.device == "vti5")
    assert route == Route("10.2.0.0/24", "vti5", metric=50, mtu=1400, source="10.1.0.1", protocol=OUR_PROTOCOL)
    assert "10.1.0.1/32" in machine.addresses("vti5")


def test_host_to_host_has_no_route_and_one_line_says_why(machine: Machine) -> None:
    tunnel = T._replace(mine=f"{WEST}/32", theirs=f"{T.peer}/32")
    report = machine.send(call(tunnel, "up"))
    assert report.remarks == ("198.51.100.2 is not routed into vti5, its IKE and ESP would loop: packets to it go outside",)
    assert machine.devices() == {"vti5"}


def test_host_to_host_in_a_table_of_its_own_has_its_route(machine: Machine) -> None:
    """Only what a rule leads there goes in; the peer itself stays outside by the main table."""
    machine.settings("[device vti5]\ntable = 100\nrule = fwmark 7\n")
    tunnel = T._replace(mine=f"{WEST}/32", theirs=f"{T.peer}/32")
    report = machine.send(call(tunnel, "up"))
    assert report.remarks == ()
    found = {(entry.route.destination, entry.route.table) for entry in machine.kernel.table if entry.route.protocol == 160}
    assert found == {("198.51.100.2/32", 100), ("198.51.100.2/32", 254)}
    assert machine.send(call(tunnel, "up")).operations == ()
    path = machine.kernel.path(T.peer)
    assert path is not None
    assert path.device == "eth0"
    machine.send_all(withdraw(tunnel))
    assert machine.routes() == set()


def test_a_metric_and_a_table_of_the_settings_place_the_route(machine: Machine) -> None:
    machine.settings("[device vti5]\nmetric = 7\ntable = 100\n")
    machine.send(call(T, "up"))
    (route,) = (entry.route for entry in machine.kernel.table if entry.route.device == "vti5")
    assert (route.metric, route.table) == (7, 100)
    machine.send_all(withdraw(T))
    assert machine.routes() == set()


def test_routing_of_the_settings_counts_where_the_daemon_says_nothing(machine: Machine) -> None:
    machine.settings("[defaults]\ninterface = vti{mark}\nrouting = yes\naddress = 10.99.7.1/30\nmtu = 1390\n")
    machine.send(call(T._replace(device="", address=""), "up"))
    assert machine.routes() == {("10.2.0.0/24", "vti5")}
    assert machine.addresses("vti5") == ["10.99.7.1/30"]
    assert machine.kernel.named("vti5").mtu == 1390


PLUTOS_OWN = {"PLUTO_VIRT_INTERFACE": "ipsec1", "PLUTO_XFRMI_ROUTE": "yes"}


def test_plutos_own_device_does_not_take_the_default_route_by_accident(machine: Machine) -> None:
    """It sends PLUTO_XFRMI_ROUTE=yes for every ipsec-interface=; settings may ask for it all the same."""
    machine.kernel.add_link(Link("ipsec1", "xfrm", if_id=1, up=True))
    both = T._replace(mine="0.0.0.0/0", theirs="0.0.0.0/0", device="", routing="", shared="", address="")
    report = machine.send({**call(both, "up"), **PLUTOS_OWN})
    assert machine.routes() == set()
    assert "both ends are 0.0.0.0/0" in report.remarks[0]
    machine.settings("[connection t]\nrouting = yes\n")
    machine.send({**call(both, "up"), **PLUTOS_OWN})
    assert ("0.0.0.0/1", "ipsec1") in machine.routes()
