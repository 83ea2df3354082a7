"""Tunnels under stress: rekeying without end, a daemon killed under traffic, two daemons at once."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import pytest

from tests.daemon.connections import EAST, PERMANENT, WEST, encrypted_ping, without_trace
from tests.daemon.gateway import HOOK, Gateway
from tests.daemon.nodes import Ground, Node, wait_for

pytestmark = pytest.mark.daemon

REKEYING = 120.0  # seconds
SEED = 20261121


@contextmanager
def unchanged(node: Node, device: str) -> Iterator[None]:
    """The kernel tells of no change of the device, its addresses and its routes meanwhile."""
    with node.told(device) as lines:
        yield
    assert lines == [], f"{node.name}: {device} was touched"


def test_rekeying_for_two_minutes_touches_nothing(ground: Ground, west: Gateway, east: Gateway) -> None:
    """Child and IKE SAs, from both ends in turn, under a ping; the kernel sees no change of device, address or route.

    pluto itself may lose one packet for a child it rekeys: the responder sends by the new SA before the other end has it.
    """
    for node in (east, west):
        node.add(t=PERMANENT)
    west.up("t")
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    children = 0
    until = time.monotonic() + REKEYING
    with unchanged(west, "vti5"), unchanged(east, "vti5"), west.pinging("10.2.0.1", "10.1.0.1") as ping:
        while time.monotonic() < until:
            node = (west, east)[children % 2]
            node.rekey_child("t")
            children += 1
            node.rekey_ike("t")
            assert not ground.wire.seen().clear
    assert children >= 5
    assert len(ping.replies) > REKEYING
    assert len(ping.lost) <= children, f"{len(ping.lost)} of {max(ping.replies)} lost in {children} rekeyings"
    for node in (west, east):
        node.delete("t")
        without_trace(node)


def test_pluto_killed_and_restarted_under_traffic(ground: Ground, west: Gateway, east: Gateway) -> None:
    """The device stays as it is, nothing leaves in clear, and the same ping is answered again."""
    for node in (east, west):
        node.add(t=PERMANENT)
    west.up("t")
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    device = west.links()["vti5"]["ifindex"]
    with west.pinging("10.2.0.1", "10.1.0.1") as ping:
        for _ in range(2):
            west.kill()
            west.start()
            west.add(t=PERMANENT)
            west.up("t")
            wait_for(lambda: west.ping("10.2.0.1", "10.1.0.1", count=1), "an answer after the restart")
    assert not ground.wire.seen().clear
    assert max(ping.replies) - len(ping.lost) > 2
    assert west.links()["vti5"]["ifindex"] == device
    assert west.routed_into("vti5") == {"10.2.0.0/24"}
    west.delete("t")
    without_trace(west)
    east.delete("t")
    without_trace(east)


# -- two daemons, one state directory


def test_two_plutos_in_two_namespaces_with_one_state_directory(
    ground: Ground, west: Gateway, east: Gateway, tmp_path: Path
) -> None:
    """Both ends on one machine: the same names of connection, device and file, two ledgers."""
    state = tmp_path / "state"
    hook = f"{HOOK} --state-dir {state}"
    pairs = {
        f"t{number}": {
            **PERMANENT,
            "leftsubnet": f"10.1.{number}.0/24",
            "rightsubnet": f"10.2.{number}.0/24",
            "vti-shared": "yes",
            "leftupdown": hook,
            "rightupdown": hook,
        }
        for number in (0, 1)
    }
    for node in (east, west):
        node.add(**pairs)
    for name in pairs:
        west.ipsec("auto", "--asynchronous", "--up", name)
        east.ipsec("auto", "--asynchronous", "--up", name)
    wait_for(lambda: west.routed_into("vti5") == {"10.2.0.0/24", "10.2.1.0/24"}, "west's routes")
    wait_for(lambda: east.routed_into("vti5") == {"10.1.0.0/24", "10.1.1.0/24"}, "east's routes")
    encrypted_ping(ground, west, "10.2.1.1", "10.1.1.1")
    assert [node.links()["vti5"]["linkinfo"]["info_data"]["local"] for node in (west, east)] == [WEST, EAST]
    assert len(list(state.glob("net-*"))) == 2
    for name in pairs:
        west.delete(name)
    for name in pairs:
        east.delete(name)
    wait_for(lambda: west.our_routes() == east.our_routes() == [], "both without our routes")
    assert west.device("vti5"), "a shared device stays"
    assert east.device("vti5"), "a shared device stays"
