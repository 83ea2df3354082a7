"""The routes of a tunnel's selectors: which there are, what they carry, and where settings place them."""

import pytest

from tests.kit import field_cases
from tests.kit.charon import Child, charon_call
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


PORT = T._replace(protocol="6", peer_port="443")
EVERYWHERE = ("0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1")
ALONE = "the policy takes 10.1.0.0/24 6/0 to 10.2.0.0/24 6/443 alone: "
SELECTORS: dict[str, tuple[str, tuple[str, str], str, str]] = {  # settings, (protocol, port), theirs, what is said
    "a port": ("routing = yes", ("6", "443"), "10.2.0.0/24", "`route = 10.2.0.0/24` in settings routes all of it"),
    "a protocol": ("routing = yes", ("47", "0"), "10.2.0.0/24", "`route = 10.2.0.0/24` in settings routes all of it"),
    "one host": ("routing = yes", ("6", "443"), "10.2.0.9/32", "`route = 10.2.0.9/32` in settings routes all of it"),
    "IPv6": ("routing = yes", ("6", "443"), "fd00:2::/64", "`route = fd00:2::/64` in settings routes all of it"),
    "everything": ("routing = yes", ("6", "443"), "0.0.0.0/0", "name networks by `route` in settings"),
    "all of IPv6": ("routing = yes", ("17", "0"), "::/0", "name networks by `route` in settings"),
    "a whole protocol": ("routing = yes", ("0", "0"), "10.2.0.0/24", ""),
    "routed by `route`": ("routing = yes\nroute = 10.2.0.0/24", ("6", "443"), "10.2.0.0/24", ""),
    "all routed by `route`": ("routing = yes\nroute = default", ("6", "443"), "0.0.0.0/0", ""),
    "no routing": ("routing = no", ("6", "443"), "10.2.0.0/24", ""),
}


@pytest.mark.parametrize("case", SELECTORS)
def test_charons_selector_of_one_protocol_or_port_routes_nothing(machine: Machine, case: str) -> None:
    """As charon makes no route of its own for such a policy: one would be too wide."""
    text, (protocol, port), theirs, said = SELECTORS[case]
    machine.settings(f"[connection c]\ninterface = vti5\n{text}\n")
    mine = "fd00:1::/64" if ":" in theirs else "10.1.0.0/24"
    report = machine.send(charon_call(Child(pairs=((mine, theirs),)), "up", 1, 0, int(protocol), ("0", port)))
    routed = {destination for destination, device in machine.routes() if device == "vti5"}
    every = {"a whole protocol": {theirs}, "routed by `route`": {theirs}, "all routed by `route`": set(EVERYWHERE)}
    assert routed == every.get(case, set())
    assert machine.devices() == {"vti5"}
    assert report.warnings == ()
    (remark,) = report.remarks if said else ("",)
    assert remark.endswith(said) and bool(remark) == bool(said)


def test_the_case_of_the_field_says_how_a_route_is_asked_for(machine: Machine) -> None:
    machine.settings(field_cases.settings("09"))
    (environment,) = field_cases.calls("09")
    said = f"{ALONE}nothing routed into vti5; `route = 10.2.0.0/24` in settings routes all of it"
    assert machine.send(environment).remarks == (said,)
    assert machine.routes() == set()
    machine.settings(f"{field_cases.settings('09')}route = 10.2.0.0/24\n")
    assert machine.send(environment).remarks == ()
    assert machine.routes() == {("10.2.0.0/24", "vti5")}


def test_a_selector_of_one_port_beside_a_whole_one_leaves_its_route(machine: Machine) -> None:
    machine.settings("[connection c]\ninterface = vti5\nrouting = yes\n")
    child = Child(pairs=(("10.1.0.0/24", "10.2.0.0/24"),))
    machine.send(charon_call(child, "up"))
    machine.send(charon_call(child, "up", protocol=6, ports=("0", "443")))
    assert machine.routes() == {("10.2.0.0/24", "vti5")}
    machine.send(charon_call(child, "down"))
    assert machine.routes() == set()


@pytest.mark.parametrize(
    ("tunnel", "warning"),
    [
        (PORT, f"{ALONE}all else that is routed into vti5 for 10.2.0.0/24 goes nowhere. vti-routing=no makes no route"),
        (
            PORT._replace(peer_port="0", my_port="22"),
            "the policy takes 10.1.0.0/24 6/22 to 10.2.0.0/24 6/0 alone: all else that is routed into vti5 for 10.2.0.0/24 "
            "goes nowhere. vti-routing=no makes no route",
        ),
    ],
)
def test_vti_routing_routes_for_one_port_too_with_a_warning(machine: Machine, tunnel: Tunnel, warning: str) -> None:
    """As libreswan's own script does."""
    report = machine.send(call(tunnel, "up"))
    assert machine.routes() == {("10.2.0.0/24", "vti5")}
    assert [(one.kind, one) for one in report.warnings] == [("wider than its policy", warning)]
    assert report.remarks == ()


def test_one_port_of_the_peer_itself_is_not_routed_and_said_once(machine: Machine) -> None:
    l2tp = T._replace(mine=f"{WEST}/32", theirs=f"{T.peer}/32", protocol="17", my_port="1701", peer_port="1701")
    report = machine.send(call(l2tp, "up"))
    assert (machine.routes(), report.warnings) == (set(), ())
    assert report.remarks == ("198.51.100.2 is not routed into vti5, its IKE and ESP would loop: packets to it go outside",)


@pytest.mark.parametrize("theirs", ["0.0.0.0/0", "128.0.0.0/1", "0.0.0.0-255.255.255.255", "::/0"])
def test_vti_routing_makes_no_default_route_for_one_port(machine: Machine, theirs: str) -> None:
    mine = "fd00:1::/64" if ":" in theirs else "10.1.0.0/24"
    report = machine.send(call(PORT._replace(mine=mine, theirs=theirs), "up"))
    assert machine.routes() == set()
    assert report.remarks == (
        f"the policy takes {mine} 6/0 to {theirs} 6/443 alone: nothing routed into vti5; name networks by `route` in settings",
    )


def test_routing_of_the_settings_routes_nothing_for_one_port_in_libreswan_either(machine: Machine) -> None:
    machine.settings("[connection t]\ninterface = vti5\nrouting = yes\n")
    report = machine.send(call(PORT._replace(device=""), "up"))
    assert (machine.routes(), report.warnings) == (set(), ())
    assert report.remarks[0].endswith("`route = 10.2.0.0/24` in settings routes all of it")


def test_plutos_own_device_gets_the_route_for_one_port_with_a_warning(machine: Machine) -> None:
    machine.kernel.add_link(Link("ipsec1", "xfrm", if_id=1, up=True))
    own = PORT._replace(device="", routing="", shared="", address="")
    report = machine.send({**call(own, "up"), **PLUTOS_OWN})
    assert machine.routes() == {("10.2.0.0/24", "ipsec1")}
    assert report.warnings == (f"{ALONE}all else that is routed into ipsec1 for 10.2.0.0/24 goes nowhere",)
