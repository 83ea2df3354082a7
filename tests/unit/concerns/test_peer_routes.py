"""The way to the peer: it stays outside the tunnel, or in the tunnel it is meant to go by, and nothing loops."""

import pytest

from tests.kit import field_cases
from tests.kit.charon import Child, charon_call
from tests.kit.machine import GATEWAY, THIRD, WEST6, Machine, Tunnel, call, establish, withdraw
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
    machine.send_all([call(NESTED, "down", wishes=("UP",)), call(NESTED, "unroute", wishes=("UP",), mobike="yes")])
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


FAR6 = T._replace(me=WEST6, peer="2001:db8:9::9", mine="fd00:1::/64", theirs="::/0", address="")
UP = ("UP",)


def new_default(machine: Machine, gateway: str, device: str = "eth0", metric: int = 0) -> None:
    """`ip route replace default via GATEWAY dev DEVICE`, for the gateway's family; with a metric beside the one there is."""
    everything = "::/0" if ":" in gateway else "0.0.0.0/0"
    if not metric:
        machine.kernel.table = [entry for entry in machine.kernel.table if entry.route.destination != everything]
    default = Route(everything, device, gateway, metric=metric, protocol=3)
    machine.kernel.add_route(default, machine.kernel.named(device).ifindex)


def way_of(machine: Machine, peer: str) -> tuple[str, str]:
    """The device and the gateway by which packets to a peer leave."""
    path = machine.kernel.path(peer)
    assert path is not None
    return path.device, path.gateway


@pytest.mark.parametrize("verb", ["down", "prepare", "route", "up"])
@pytest.mark.parametrize(
    ("tunnel", "gateway"),
    [(FAR, "198.51.100.253"), (FAR6, "2001:db8:0:1::fd"), (FAR6, "fe80::fd")],
    ids=["4", "6", "link-local"],
)
def test_each_event_follows_another_gateway(machine: Machine, tunnel: Tunnel, gateway: str, verb: str) -> None:
    """A `down` too that comes once more, for a tunnel that waits already."""
    machine.send_all(establish(tunnel))
    _, way = way_of(machine, tunnel.peer)
    new_default(machine, gateway)
    machine.send(call(tunnel, verb, wishes=UP))
    assert way_of(machine, tunnel.peer) == ("eth0", gateway)
    assert machine.send(call(tunnel, verb, wishes=UP)).operations == ()
    new_default(machine, way)
    machine.send(call(tunnel, verb, wishes=UP))
    assert way_of(machine, tunnel.peer) == ("eth0", way)


@pytest.mark.parametrize("verb", ["down", "prepare", "route", "up"])
@pytest.mark.parametrize(("tunnel", "gateway"), [(FAR, "192.0.2.254"), (FAR6, "2001:db8:0:2::fe")], ids=["4", "6"])
@pytest.mark.parametrize("metric", [0, 50], ids=["instead", "before"])
def test_each_event_follows_a_default_route_by_another_device(
    machine: Machine, tunnel: Tunnel, gateway: str, metric: int, verb: str
) -> None:
    """Also one of a better metric, beside the one that was there."""
    machine.kernel.physical("wlan0", "192.0.2.7/24", "2001:db8:0:2::7/64")
    if metric:
        old = GATEWAY if tunnel == FAR else "2001:db8:0:1::fe"
        new_default(machine, old)
        machine.kernel.table = [entry._replace(route=entry.route._replace(metric=100)) for entry in machine.kernel.table]
    machine.send_all(establish(tunnel))
    new_default(machine, gateway, "wlan0", metric)
    machine.send(call(tunnel, verb, wishes=UP))
    assert way_of(machine, tunnel.peer) == ("wlan0", gateway)
    assert machine.send(call(tunnel, verb, wishes=UP)).operations == ()


@pytest.mark.parametrize("verb", ["down", "prepare", "route", "up"])
@pytest.mark.parametrize("tunnel", [FAR, FAR6], ids=["4", "6"])
def test_each_event_puts_a_way_back_that_went_with_its_uplink(machine: Machine, tunnel: Tunnel, verb: str) -> None:
    """The link was down for a moment: the machine's default route is back, ours is not, and IKE went into the tunnel."""
    machine.send_all(establish(tunnel))
    before = way_of(machine, tunnel.peer)
    host = f"{tunnel.peer}/{128 if tunnel == FAR6 else 32}"
    machine.kernel.table = [entry for entry in machine.kernel.table if entry.route.destination != host]
    assert way_of(machine, tunnel.peer)[0] == "vti5"
    machine.send(call(tunnel, verb, wishes=UP))
    assert way_of(machine, tunnel.peer) == before


def test_the_gateway_of_the_field_case_is_followed_at_down(machine: Machine) -> None:
    *calls, down, _prepare, _route, _up = field_cases.calls("04")
    machine.send_all(calls)
    new_default(machine, "198.51.100.253")
    machine.send(down)
    assert way_of(machine, "203.0.113.9") == ("eth0", "198.51.100.253")
    machine.send_all(field_cases.calls("04")[4:])
    assert way_of(machine, "203.0.113.9") == ("eth0", "198.51.100.253")


def test_charons_down_puts_the_way_back_for_the_sa_that_is_left(machine: Machine) -> None:
    """Reauthentication, make before break: one of two claims ends."""
    machine.settings("[connection c]\ninterface = vti5\nrouting = yes\n")
    child = Child(peer="203.0.113.9", pairs=(("10.1.0.0/24", "0.0.0.0/0"),))
    machine.send_all([charon_call(child, "up", 1), charon_call(child, "up", 2)])
    new_default(machine, "198.51.100.253")
    machine.send(charon_call(child, "down", 1))
    assert way_of(machine, "203.0.113.9") == ("eth0", "198.51.100.253")


def test_two_tunnels_to_one_peer_follow_together(machine: Machine) -> None:
    """Neither's device is a way for the other, though its routes are narrower than a default route."""
    other = U._replace(peer=FAR.peer, theirs="203.0.0.0/16", device="vti6", mark_in="6", mark_out="6", me="198.51.100.9")
    machine.send_all([*establish(FAR), *establish(other)])
    new_default(machine, "198.51.100.253")
    machine.send(call(other, "down", wishes=UP))
    assert way_of(machine, FAR.peer) == ("eth0", "198.51.100.253")
    machine.kernel.table = [entry for entry in machine.kernel.table if entry.route.destination != "203.0.113.9/32"]
    machine.send(call(FAR, "down", wishes=UP))
    assert way_of(machine, FAR.peer) == ("eth0", "198.51.100.253")
    machine.send_all([*withdraw(FAR), *withdraw(other)])
    assert machine.routes() == set()


@pytest.mark.parametrize("verb", ["down", "prepare", "route", "up"])
def test_where_the_machines_routes_lead_nowhere_the_way_stays(machine: Machine, verb: str) -> None:
    machine.send_all(establish(FAR))
    machine.kernel.table = [entry for entry in machine.kernel.table if entry.route.destination != "0.0.0.0/0"]
    report = machine.send(call(FAR, verb, wishes=UP))
    assert (report.operations, report.warnings) == ((), ())
    assert way_of(machine, FAR.peer) == ("eth0", GATEWAY)


def test_an_event_looks_at_the_way_to_no_other_tunnels_peer(machine: Machine) -> None:
    other = U._replace(peer="203.0.113.77", theirs="203.0.113.64/26", device="vti6", mark_in="6", mark_out="6")
    machine.send_all([*establish(FAR), *establish(other)])
    new_default(machine, "198.51.100.253")
    machine.send(call(FAR, "down", wishes=UP))
    assert way_of(machine, other.peer) == ("eth0", GATEWAY)


@pytest.mark.parametrize("uplink", ["eth0", "wlan0"])
def test_one_of_several_uplinks_at_once_stays_the_way(machine: Machine, uplink: str) -> None:
    """A default route of two hops: the kernel has chosen one for the peer, and that one still counts."""
    machine.kernel.physical("wlan0", "192.0.2.7/24")
    machine.send_all(establish(FAR))
    eth0, wlan0 = (machine.kernel.named(name).ifindex for name in ("eth0", "wlan0"))
    for entry in [one for one in machine.kernel.table if one.route.destination in ("0.0.0.0/0", "203.0.113.9/32")]:
        machine.kernel.table.remove(entry)
    machine.kernel.add_route(Route("0.0.0.0/0", "eth0", protocol=3), eth0, hops=(wlan0,))
    machine.kernel.add_route(Route("203.0.113.9/32", uplink), machine.kernel.named(uplink).ifindex)
    assert machine.send(call(FAR, "up")).operations == ()


def test_a_default_route_that_an_administrator_set_into_a_tunnel_is_no_way(machine: Machine) -> None:
    machine.send_all(establish(FAR))
    machine.send(call(U._replace(device="vti9", mark_in="9", mark_out="9"), "up"))
    for metric, name in enumerate(("vti5", "vti9"), 7):
        machine.kernel.add_route(Route("128.0.0.0/1", name, metric=metric, protocol=4), machine.kernel.named(name).ifindex)
    machine.kernel.table = [
        entry._replace(route=entry.route._replace(metric=100)) if entry.route.destination == "0.0.0.0/0" else entry
        for entry in machine.kernel.table
    ]
    report = machine.send(call(FAR, "up"))
    assert (report.operations, report.warnings) == ((), ())
