"""Tunnels that outlive their security associations: on demand, and with a peer that starts again."""

from __future__ import annotations

import pytest

from tests.daemon.connections import PERMANENT, encrypted_ping, without_trace
from tests.daemon.gateway import Gateway
from tests.daemon.nodes import Ground, wait_for

pytestmark = pytest.mark.daemon


def test_device_and_route_survive_down_and_go_with_unroute(ground: Ground, west: Gateway, east: Gateway) -> None:
    for node in (east, west):
        node.add(t=PERMANENT)
        node.order("route", "t")
        assert node.device("vti5")
    assert west.routed_into("vti5") == {"10.2.0.0/24"}
    before = west.links()["vti5"]["ifindex"]
    west.ping("10.2.0.1", "10.1.0.1", count=1)  # the packet that asks for the tunnel may be lost
    wait_for(west.spis, "the tunnel that traffic asked for")
    wait_for(lambda: west.ping("10.2.0.1", "10.1.0.1", count=1), "an answer")
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    west.down("t")
    wait_for(lambda: not east.spis(), "east without a security association")
    for node, net in ((west, "10.2.0.0/24"), (east, "10.1.0.0/24")):
        assert node.device("vti5"), f"{node.name}: the device must stay to ask for the tunnel again"
        assert node.routed_into("vti5") == {net}
    assert west.links()["vti5"]["ifindex"] == before
    west.ping("10.2.0.1", "10.1.0.1", count=1)
    wait_for(lambda: west.ping("10.2.0.1", "10.1.0.1", count=1), "the tunnel to come back")
    west.down("t")
    wait_for(lambda: not east.spis(), "east without a security association")
    for node in (west, east):
        node.order("unroute", "t")
        without_trace(node)


def test_peer_killed_and_started_again(ground: Ground, west: Gateway, east: Gateway) -> None:
    """East's hook is told nothing when its daemon dies: what it had made is taken over by the next tunnel."""
    for node in (east, west):
        node.add(t=PERMANENT)
    west.up("t")
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    before = west.links()["vti5"]["ifindex"], east.links()["vti5"]["ifindex"]
    east.kill()
    assert east.device("vti5")
    east.start()
    east.add(t=PERMANENT)
    east.up("t")
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    assert (west.links()["vti5"]["ifindex"], east.links()["vti5"]["ifindex"]) == before
    began = len(west.logged())
    east.delete("t")
    without_trace(east)
    wait_for(lambda: "is supposed to remain up" in west.logged(began), "west's daemon wanting the tunnel back")
    assert west.device("vti5"), "west wishes the tunnel up: what will ask for it stays"
    assert west.routed_into("vti5") == {"10.2.0.0/24"}
    west.delete("t")
    without_trace(west)


def test_daemon_killed_while_up_and_a_new_one_without_the_connection(west: Gateway, east: Gateway) -> None:
    """Nobody tells the hook; `clean` takes away what is left."""
    for node in (east, west):
        node.add(t=PERMANENT)
    west.up("t")
    west.kill()
    west.start()
    assert west.device("vti5")
    west.hook("clean")
    without_trace(west)
    east.delete("t")
    without_trace(east)
