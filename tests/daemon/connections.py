"""The connections the tests are made of, and what is true of a node once a tunnel is gone."""

from __future__ import annotations

from tests.daemon.endpoint import Endpoint
from tests.daemon.nodes import Ground, wait_for

WEST, EAST = "198.51.100.1", "198.51.100.2"
WEST6, EAST6 = "2001:db8:0:1::1", "2001:db8:0:1::2"
ENDS = {"left": WEST, "right": EAST}
ENDS6 = {"left": WEST6, "right": EAST6}
NETS = {"leftsubnet": "10.1.0.0/24", "rightsubnet": "10.2.0.0/24"}
NETS6 = {"leftsubnet": "fd00:1::/64", "rightsubnet": "fd00:2::/64"}
VTI5 = {"mark": "5/0xffffffff", "vti-interface": "vti5", "vti-routing": "yes"}
TRANSIT = {"leftvti": "10.99.0.1/30", "rightvti": "10.99.0.2/30"}
PERMANENT = {**ENDS, **NETS, **VTI5, **TRANSIT}


def encrypted_ping(ground: Ground, node: Endpoint, address: str, source: str, count: int = 2) -> None:
    """Every request is answered, ESP is seen for each of them both ways, and nothing in clear."""
    ground.wire.seen()
    assert node.ping(address, source, count), f"{node.name}: no answer from {address}"
    seen = ground.wire.seen()
    assert seen.esp >= 2 * count
    assert not seen.clear


def without_device(node: Endpoint, name: str = "vti5") -> None:
    """The device goes, soon: the peer's notification takes its time."""
    wait_for(lambda: node.device(name) is None, f"{name} gone from {node.name}")


def without_trace(node: Endpoint, device: str = "vti5") -> None:
    """No device, no route of ours, no claim."""
    without_device(node, device)
    assert node.our_routes() == []
    assert node.claims() == []
