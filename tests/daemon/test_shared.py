"""Two connections to two gateways over one device (vti-shared=yes)."""

from __future__ import annotations

import pytest

from tests.daemon.connections import EAST, ENDS, NETS, VTI5, WEST, encrypted_ping, without_device, without_trace
from tests.daemon.gateway import Gateway
from tests.daemon.nodes import Ground

pytestmark = pytest.mark.daemon

THIRD = "198.51.100.3"
TO_EAST = {**VTI5, **ENDS, **NETS}
TO_THIRD = {**TO_EAST, "right": THIRD, "rightsubnet": "10.3.0.0/24"}
SHARED = {"vti-shared": "yes"}


@pytest.fixture(scope="module")
def third(ground: Ground) -> Gateway:
    node = ground.node(Gateway, "third", f"{THIRD}/24")
    node.lan("10.3.0.1/24")
    node.start()
    return node


def test_one_going_down_leaves_the_others_traffic_alone(ground: Ground, west: Gateway, east: Gateway, third: Gateway) -> None:
    west.add(t={**TO_EAST, **SHARED}, t3={**TO_THIRD, **SHARED})
    east.add(t=TO_EAST)
    third.add(t3=TO_THIRD)
    west.up("t")
    west.up("t3")
    shared = {"kind": "vti", "local": WEST, "remote": "any", "ikey": 5, "okey": 5, "up": True}
    assert west.device("vti5") == shared
    assert east.device("vti5") == {**shared, "local": EAST, "remote": WEST}
    assert west.routed_into("vti5") == {"10.2.0.0/24", "10.3.0.0/24"}
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    with west.pinging("10.3.0.1", "10.1.0.1") as ping:
        encrypted_ping(ground, west, "10.3.0.1", "10.1.0.1")
        west.down("t")
        without_device(east)
        assert west.routed_into("vti5") == {"10.3.0.0/24"}
        encrypted_ping(ground, west, "10.3.0.1", "10.1.0.1")
    assert ping.replies
    assert not ping.lost
    west.up("t")
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    west.delete("t3", "t")
    assert west.device("vti5") == shared, "a shared device stays when its last tunnel goes"
    assert west.our_routes() == []
    assert west.claims() == []
    for node, name in ((east, "t"), (third, "t3")):
        node.delete(name)
        without_trace(node)
