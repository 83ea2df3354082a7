"""The ways of a tunnel's packets on a real kernel: to the peer, from this machine itself, and never into the tunnel itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.calls import Node, ip, towards_peers
from tests.kit.charon import Child, charon_call
from tests.kit.machine import WEST6, Tunnel, call, establish

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("modules")]

FULL = Tunnel(peer="203.0.113.9", theirs="0.0.0.0/0", next_hop="198.51.100.254")
FULL6 = FULL._replace(me=WEST6, peer="2001:db8:9::9", mine="fd00:1::/64", theirs="::/0")
GATEWAYS = {
    FULL: ("198.51.100.254", "198.51.100.253", "192.0.2.254"),
    FULL6: ("2001:db8:0:1::fe", "2001:db8:0:1::fd", "2001:db8:0:2::fe"),
}
MACHINE = f"""\
addr add {WEST6}/64 dev eth0 nodad
link add lan0 type dummy
link set lan0 up
addr add 10.1.0.1/24 dev lan0
addr add fd00:1::5/64 dev lan0 nodad
link add wlan0 type dummy
link set wlan0 up
addr add 192.0.2.7/24 dev wlan0
addr add 2001:db8:0:2::7/64 dev wlan0 nodad
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A machine with an uplink, another one, and a network behind it."""
    with towards_peers():
        ip(batch=MACHINE)
        defaults = [f"route replace default via {each[0]} dev eth0" for each in GATEWAYS.values()]
        ip(batch="\n".join(defaults) + "\n")
        made = Node(tmp_path)
        made.config.write_text("")
        yield made


def way(address: str) -> dict[str, Any]:
    """How the kernel sends a packet of this machine."""
    (found,) = json.loads(ip("-j", "route", "get", address))
    return dict(found)


@pytest.mark.parametrize("verb", ["down", "prepare", "route", "up"])
@pytest.mark.parametrize("tunnel", [FULL, FULL6], ids=["4", "6"])
def test_each_event_follows_the_machines_way_to_the_peer(node: Node, tunnel: Tunnel, verb: str) -> None:
    """Another gateway, another device, one of a better metric beside it; and none, where it stays."""
    first, second, third = GATEWAYS[tunnel]
    node.send(*establish(tunnel))
    assert (way(tunnel.peer)["dev"], way(tunnel.peer)["gateway"]) == ("eth0", first)
    six = "-6" if tunnel == FULL6 else "-4"
    for command, device, gateway in (
        (f"route replace default via {second} dev eth0", "eth0", second),
        (f"route del default via {second} dev eth0", "eth0", second),
        (f"route add default via {third} dev wlan0 metric 600", "wlan0", third),
        (f"route add default via {first} dev eth0 metric 100", "eth0", first),
    ):
        ip(six, *command.split())
        node.send(call(tunnel, verb, wishes=("UP",)))
        assert (way(tunnel.peer)["dev"], way(tunnel.peer)["gateway"]) == (device, gateway), command
    ip("link", "set", "eth0", "down")
    ip("link", "set", "eth0", "up")
    if tunnel == FULL6:
        ip("addr", "replace", f"{WEST6}/64", "dev", "eth0", "nodad")
    ip(six, "route", "add", "default", "via", first, "dev", "eth0", "metric", "100")
    node.send(call(tunnel, verb, wishes=("UP",)))
    assert (way(tunnel.peer)["dev"], way(tunnel.peer)["gateway"]) == ("eth0", first)


def test_a_way_by_a_table_of_its_own_stays(node: Node) -> None:
    """The main table's default route leads elsewhere, and no packet looks there: the first answer was by all the rules."""
    ip("route", "add", "default", "via", "192.0.2.254", "dev", "wlan0", "table", "100")
    ip("rule", "add", "suppress_prefixlength", "0", "lookup", "main", "priority", "100")
    ip("rule", "add", "lookup", "100", "priority", "200")
    node.send(*establish(FULL))
    assert way(FULL.peer)["dev"] == "wlan0"
    node.send(*establish(FULL))
    assert way(FULL.peer)["dev"] == "wlan0"


@pytest.mark.parametrize(
    ("tunnel", "far", "source"),
    [
        (Tunnel(), "10.2.0.1", "10.1.0.1"),
        (Tunnel(address="10.99.0.1/30"), "10.2.0.1", "10.1.0.1"),
        (Tunnel(mine="10.0.0.0/12"), "10.32.0.1", "10.1.0.1"),
        (Tunnel(mine="fd00:1::/64", theirs="fd00:2::/64"), "fd00:2::1", "fd00:1::5"),
        (Tunnel(mine="fd00::/31", theirs="fd02::/64", address="fd00:99::1/64"), "fd02::1", "fd00:1::5"),  # wider
    ],
)
def test_what_this_machine_sends_comes_from_within_the_selector(node: Node, tunnel: Tunnel, far: str, source: str) -> None:
    tunnel = tunnel._replace(theirs="10.32.0.0/24") if far == "10.32.0.1" else tunnel
    node.send(*establish(tunnel))
    (route,) = json.loads(ip("-j", "-6" if ":" in far else "-4", "route", "show", "dev", "vti5", "proto", "160"))
    assert route.get("prefsrc", "") == source
    assert way(far)["dev"] == "vti5"
    assert not source or way(far)["prefsrc"] == source


def test_a_route_whose_address_went_comes_back_with_the_tunnels_next_event(node: Node) -> None:
    node.send(*establish(Tunnel()))
    ip("addr", "del", "10.1.0.1/24", "dev", "lan0")
    assert way("10.2.0.1")["dev"] == "eth0", "the kernel took it along"
    node.send(call(Tunnel(), "down", wishes=("UP",)))
    assert way("10.2.0.1")["dev"] == "vti5"
    ip("addr", "add", "10.1.0.2/24", "dev", "lan0")
    node.send(call(Tunnel(), "up"))
    assert (way("10.2.0.1")["dev"], way("10.2.0.1")["prefsrc"]) == ("vti5", "10.1.0.2")


def test_a_source_of_ones_own_is_put_on_the_device(node: Node) -> None:
    node.config.write_text("[connection t]\nsource = 10.1.0.9\n")
    node.send(*establish(Tunnel()))
    assert way("10.2.0.1")["prefsrc"] == "10.1.0.9"
    assert "10.1.0.9/32" in ip("addr", "show", "dev", "vti5")


@pytest.mark.parametrize("kind", ["vti", "xfrm"])
@pytest.mark.parametrize(
    ("me", "peer"),
    [("10.99.0.1", "10.99.0.2"), ("198.51.100.1", "10.99.0.2"), ("10.1.0.1", "10.2.0.1")],
    ids=["device", "far", "networks"],
)
def test_no_end_is_taken_into_the_tunnel_itself(node: Node, kind: str, me: str, peer: str) -> None:
    node.config.write_text("[connection c]\ninterface = tun5\nrouting = yes\naddress = 10.99.0.1/30\n")
    outside = Child(mark_in="", mark_out="", if_id_in="5", if_id_out="5") if kind == "xfrm" else Child()
    node.send(charon_call(outside, "up", 1))
    links, routes = ip("-d", "link", "show", "dev", "tun5"), ip("route", "show", "proto", "160")
    inside = outside._replace(me=me, peer=peer)
    said = node.run(**charon_call(inside, "up", 2))
    assert said.status == 2, said
    assert any("itself" in line for line in said.lines)
    assert any("mobike = no" in line for line in said.lines)
    assert (ip("-d", "link", "show", "dev", "tun5"), ip("route", "show", "proto", "160")) == (links, routes)
    node.send(charon_call(inside, "down", 1))
    assert "tun5" not in ip("link", "show")
