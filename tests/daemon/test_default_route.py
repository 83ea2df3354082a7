"""Everything into the tunnel: 0.0.0.0/0, with the routing left to the administrator and with the hook's."""

from __future__ import annotations

import pytest

from tests.daemon.connections import ENDS, PERMANENT, encrypted_ping, without_device, without_trace
from tests.daemon.gateway import Gateway
from tests.daemon.nodes import Ground, Node, wait_for

pytestmark = pytest.mark.daemon

FAR_WEST, FAR_EAST = "192.0.2.1", "203.0.113.1"
BEYOND = "192.88.99.7"


def test_with_routing_off_only_the_administrators_routes_lead_there(ground: Ground, west: Gateway, east: Gateway) -> None:
    everything = {"leftsubnet": "0.0.0.0/0", "rightsubnet": "0.0.0.0/0", "vti-routing": "no"}
    for node in (east, west):
        node.add(t={**PERMANENT, **everything})
    west.up("t")
    wait_for(lambda: east.device("vti5"), "east's device")
    for node in (west, east):
        assert node.routed_into("vti5") == set()
        assert node.our_routes() == []
    encrypted_ping(ground, west, "10.99.0.2", "10.99.0.1")
    west.run("ip", "route", "add", "10.2.0.0/16", "dev", "vti5")
    east.run("ip", "route", "add", "10.1.0.0/16", "dev", "vti5")
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    west.rekey_ike("t")
    west.down("t")
    assert west.device("vti5") is None
    without_device(east)


@pytest.fixture(scope="module")
def router(ground: Ground) -> Node:
    node = ground.node(Node, "router", "192.0.2.254/24", "203.0.113.254/24")
    node.ip("link set eth0 up")
    return node


@pytest.fixture(scope="module")
def far_west(ground: Ground, router: Node) -> Gateway:
    """Reaches its peer by a default route only, like most gateways."""
    assert router.holder.poll() is None
    node = ground.node(Gateway, "farwest", f"{FAR_WEST}/24")
    node.ip("route add default via 192.0.2.254")
    node.lan("10.1.0.1/24")
    node.start()
    return node


@pytest.fixture(scope="module")
def far_east(ground: Ground, router: Node) -> Gateway:
    assert router.holder.poll() is None
    node = ground.node(Gateway, "fareast", f"{FAR_EAST}/24")
    node.ip("route add default via 203.0.113.254")
    node.lan("10.2.0.1/24", f"{BEYOND}/32")
    node.start()
    return node


def test_halves_lead_there_and_the_peer_stays_reachable(ground: Ground, far_west: Gateway, far_east: Gateway) -> None:
    """The default route itself stays; IKE and ESP go on taking it, or rekeying and the ping would fail."""
    connection = {**PERMANENT, **ENDS, "left": FAR_WEST, "right": FAR_EAST, "rightsubnet": "0.0.0.0/0"}
    hops = {"leftnexthop": "192.0.2.254", "rightnexthop": "203.0.113.254"}
    for node in (far_east, far_west):
        node.add(t={**connection, **hops})
    before = far_west.routes("default")
    far_west.up("t")
    assert far_west.routed_into("vti5") == {"0.0.0.0/1", "128.0.0.0/1"}
    assert far_west.routes("default") == before
    assert far_west.way_to(FAR_EAST)["dev"] == "eth0"
    assert far_west.way_to(BEYOND)["dev"] == "vti5"
    encrypted_ping(ground, far_west, BEYOND, "10.1.0.1")
    far_west.rekey_ike("t")
    far_west.rekey_child("t")
    encrypted_ping(ground, far_west, BEYOND, "10.1.0.1")
    far_west.delete("t")
    without_trace(far_west)
    assert far_west.routes("default") == before
    assert far_west.way_to(FAR_EAST)["gateway"] == "192.0.2.254"
    without_device(far_east)


def test_a_gateway_that_moves_and_an_uplink_that_flaps_cut_the_tunnel_off_only_until_pluto_notices(
    ground: Ground, router: Node, far_west: Gateway, far_east: Gateway
) -> None:
    """The host route to the peer leads to the gateway that is gone, or went with the link, so that IKE goes into the tunnel:
    the `down` of a peer that is taken for dead puts it right, and pluto brings the tunnel back by it."""
    dpd = {"dpddelay": "2", "dpdtimeout": "6", "dpdaction": "restart", "retransmit-timeout": "20s"}
    connection = {**PERMANENT, **ENDS, "left": FAR_WEST, "right": FAR_EAST, "rightsubnet": "0.0.0.0/0"}
    hops = {"leftnexthop": "192.0.2.254", "rightnexthop": "203.0.113.254"}
    far_east.add(t={**connection, **hops})
    far_west.add(t={**connection, **hops, **dpd})
    far_west.up("t")
    encrypted_ping(ground, far_west, BEYOND, "10.1.0.1")
    try:
        router.ip("addr del 192.0.2.254/24 dev eth0", "addr add 192.0.2.253/24 dev eth0")
        far_west.ip("route replace default via 192.0.2.253")
        assert far_west.way_to(FAR_EAST)["gateway"] == "192.0.2.254"
        wait_for(lambda: far_west.way_to(FAR_EAST)["gateway"] == "192.0.2.253", "the way by the new gateway", patience=180)
        wait_for(lambda: far_west.ping(BEYOND, "10.1.0.1", count=1), "an answer by it", patience=180)
        encrypted_ping(ground, far_west, BEYOND, "10.1.0.1")
        far_west.ip("link set eth0 down", "link set eth0 up", "route add default via 192.0.2.253")
        assert far_west.way_to(FAR_EAST)["dev"] == "vti5"
        wait_for(lambda: far_west.way_to(FAR_EAST)["dev"] == "eth0", "the way outside", patience=180)
        wait_for(lambda: far_west.ping(BEYOND, "10.1.0.1", count=1), "an answer after the flap", patience=180)
        encrypted_ping(ground, far_west, BEYOND, "10.1.0.1")
        far_west.delete("t")
        without_trace(far_west)
    finally:
        router.ip("addr del 192.0.2.253/24 dev eth0", "addr add 192.0.2.254/24 dev eth0")
        far_west.ip("route replace default via 192.0.2.254")
