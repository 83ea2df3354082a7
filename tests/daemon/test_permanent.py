"""One permanent tunnel with a device of its own: PSK, IKEv2, the same libreswan at both ends."""

from __future__ import annotations

from typing import Any

import pytest

from tests.daemon.connections import EAST, PERMANENT, WEST, encrypted_ping, without_device, without_trace
from tests.daemon.gateway import Gateway
from tests.daemon.nodes import Ground, wait_for

pytestmark = pytest.mark.daemon


@pytest.fixture
def tunnel(west: Gateway, east: Gateway) -> None:
    """The tunnel, up."""
    for node in (east, west):
        node.add(t=PERMANENT)
    west.up("t")
    wait_for(lambda: east.routed_into("vti5") == {"10.1.0.0/24"}, "east's half of the tunnel")


def everything(node: Gateway) -> tuple[Any, ...]:
    return node.device("vti5"), node.addresses("vti5"), node.routes("table", "all", "dev", "vti5"), node.claims()


@pytest.mark.usefixtures("tunnel")
def test_up_makes_device_address_and_route_and_traffic_is_encrypted(ground: Ground, west: Gateway, east: Gateway) -> None:
    assert west.device("vti5") == {"kind": "vti", "local": WEST, "remote": EAST, "ikey": 5, "okey": 5, "up": True}
    assert east.device("vti5") == {"kind": "vti", "local": EAST, "remote": WEST, "ikey": 5, "okey": 5, "up": True}
    assert west.addresses("vti5") == {"10.99.0.1/30"}
    assert east.addresses("vti5") == {"10.99.0.2/30"}
    assert west.routed_into("vti5") == {"10.2.0.0/24"}
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    encrypted_ping(ground, east, "10.1.0.1", "10.2.0.1")


@pytest.mark.slow
@pytest.mark.usefixtures("tunnel")
def test_what_the_kernel_sends_alone_can_be_chosen_by_the_device(ground: Ground, west: Gateway) -> None:
    """The routes, not the policies, lead into the tunnel: without the route nothing leaves encrypted."""
    west.run("ip", "route", "del", "10.2.0.0/24")
    ground.wire.seen()
    assert not west.ping("10.2.0.1", "10.1.0.1", count=1)
    assert ground.wire.seen().esp == 0


@pytest.mark.usefixtures("tunnel")
def test_down_takes_the_device_away_at_both_ends(west: Gateway, east: Gateway) -> None:
    west.down("t")
    assert west.device("vti5") is None
    without_device(east)
    for node in (west, east):
        assert node.our_routes() == []


@pytest.mark.usefixtures("tunnel")
def test_down_and_delete_leave_no_trace(west: Gateway, east: Gateway) -> None:
    west.down("t")
    for node in (west, east):
        node.delete("t")
        without_trace(node)


@pytest.mark.usefixtures("tunnel")
def test_delete_without_down_leaves_no_trace(west: Gateway, east: Gateway) -> None:
    west.delete("t")
    without_trace(west)
    without_device(east)


@pytest.mark.slow
@pytest.mark.usefixtures("tunnel")
def test_up_again_after_down(ground: Ground, west: Gateway) -> None:
    west.down("t")
    west.up("t")
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")


@pytest.mark.usefixtures("tunnel")
def test_rekeying_keeps_traffic_going_and_changes_nothing(ground: Ground, west: Gateway, east: Gateway) -> None:
    """Pluto itself may lose a packet per child it rekeys: the responder sends by the new SA before the other has it."""
    before = [everything(node) for node in (west, east)]
    ground.wire.seen()
    with west.pinging("10.2.0.1", "10.1.0.1") as ping:
        west.rekey_child("t")
        west.rekey_ike("t")
        east.rekey_child("t")
    assert len(ping.replies) > 5
    assert len(ping.lost) <= 2
    assert not ground.wire.seen().clear
    assert [everything(node) for node in (west, east)] == before


@pytest.mark.usefixtures("tunnel")
def test_a_second_up_changes_nothing(ground: Ground, west: Gateway) -> None:
    before = everything(west)
    west.up("t")
    assert everything(west) == before
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")


@pytest.mark.usefixtures("tunnel")
def test_shutting_the_daemon_down_leaves_no_trace(west: Gateway, east: Gateway) -> None:
    west.shut_down()
    without_trace(west)
    without_device(east)


def test_source_address(ground: Ground, west: Gateway, east: Gateway) -> None:
    """leftsourceip: what the gateway itself sends comes from that address, without being told."""
    for node in (east, west):
        node.add(t={**PERMANENT, "leftsourceip": "10.1.0.1", "rightsourceip": "10.2.0.1"})
    west.up("t")
    assert west.way_to("10.2.0.1")["prefsrc"] == "10.1.0.1"
    encrypted_ping(ground, west, "10.2.0.1", "")
    for node in (west, east):
        node.delete("t")
    without_trace(west)
    assert "10.1.0.1/24" in west.addresses("lan0")


def test_a_device_of_that_name_with_another_key_is_left_alone(west: Gateway, east: Gateway) -> None:
    """The tunnel is refused, and one line in the daemon's log names the device and both keys."""
    west.run("ip", "link", "add", "vti5", "type", "vti", "local", WEST, "remote", EAST, "key", "77")
    before = west.links()["vti5"], west.addresses("vti5"), west.routes("dev", "vti5")
    for node in (east, west):
        node.add(t=PERMANENT)
    began = len(west.logged())
    west.order("up", "t", "--asynchronous")

    def refused() -> bool:
        return any({"vti5", "77", "5"} <= set(words(line)) for line in west.hook_lines(began))

    wait_for(refused, "the line that names vti5, 77 and 5")
    wait_for(lambda: "exited with status 3" in west.logged(began), "the hook's exit status in the log")
    west.delete("t")
    assert (west.links()["vti5"], west.addresses("vti5"), west.routes("dev", "vti5")) == before
    assert west.claims() == []


def words(line: str) -> list[str]:
    return "".join(letter if letter.isalnum() else " " for letter in line).split()
