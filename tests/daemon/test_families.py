"""Inner and outer address family are independent; and a tunnel between the hosts themselves."""

from __future__ import annotations

import pytest

from tests.daemon.connections import EAST, EAST6, ENDS, ENDS6, NETS, NETS6, VTI5, WEST, WEST6, encrypted_ping, without_trace
from tests.daemon.gateway import Gateway
from tests.daemon.nodes import Ground, wait_for

pytestmark = pytest.mark.daemon

TRANSIT6 = {"leftvti": "fd00:99::1/64", "rightvti": "fd00:99::2/64"}


def gone(west: Gateway, east: Gateway, device: str = "vti5") -> None:
    for node in (west, east):
        node.delete("t")
        without_trace(node, device)


def test_ipv4_inside_ipv6_with_different_marks(ground: Ground, west: Gateway, east: Gateway) -> None:
    marks = {"mark-in": "49/0xffffffff", "mark-out": "50/0xffffffff"}
    for node in (east, west):
        node.add(t={**ENDS6, **NETS, **marks, "vti-interface": "vti49", "vti-routing": "yes"})
    west.up("t")
    made = {"kind": "vti6", "local": WEST6, "remote": EAST6, "ikey": 49, "okey": 50, "up": True}
    assert west.device("vti49") == made
    assert west.routed_into("vti49") == {"10.2.0.0/24"}
    wait_for(lambda: east.device("vti49") == {**made, "local": EAST6, "remote": WEST6}, "east's device")
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    west.down("t")
    gone(west, east, "vti49")


def test_ipv6_inside_ipv6(ground: Ground, west: Gateway, east: Gateway) -> None:
    for node in (east, west):
        node.add(t={**ENDS6, **NETS6, **VTI5, **TRANSIT6})
    west.up("t")
    made = {"kind": "vti6", "local": WEST6, "remote": EAST6, "ikey": 5, "okey": 5, "up": True}
    assert west.device("vti5") == made
    assert west.addresses("vti5") == {"fd00:99::1/64"}
    assert "fd00:2::/64" in west.routed_into("vti5")
    encrypted_ping(ground, west, "fd00:2::1", "fd00:1::1")
    west.rekey_child("t")
    encrypted_ping(ground, west, "fd00:2::1", "fd00:1::1")
    gone(west, east)


def test_ipv6_inside_ipv4(ground: Ground, west: Gateway, east: Gateway) -> None:
    for node in (east, west):
        node.add(t={**ENDS, **NETS6, **VTI5})
    west.up("t")
    assert west.device("vti5") == {"kind": "vti", "local": WEST, "remote": EAST, "ikey": 5, "okey": 5, "up": True}
    assert "fd00:2::/64" in west.routed_into("vti5")
    encrypted_ping(ground, west, "fd00:2::1", "fd00:1::1")
    gone(west, east)


@pytest.mark.parametrize("routing", ["yes", pytest.param("no", marks=pytest.mark.slow)])
def test_host_to_host_never_routes_the_peer_into_the_device(west: Gateway, east: Gateway, routing: str) -> None:
    """Or IKE and ESP themselves would be sent into the tunnel: rekeying shows that they are not."""
    for node in (east, west):
        node.add(t={**ENDS, **VTI5, "leftvti": "10.99.0.1/30", "rightvti": "10.99.0.2/30", "vti-routing": routing})
    west.up("t")
    wait_for(lambda: east.device("vti5"), "east's device")
    assert west.device("vti5")
    assert west.way_to(EAST)["dev"] == "eth0"
    assert west.routed_into("vti5") == set()
    west.rekey_ike("t")
    west.rekey_child("t")
    assert west.ping(EAST)
    gone(west, east)
