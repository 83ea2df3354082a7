"""One child SA for several pairs of selectors, which libreswan has from 5.0 on (leftsubnet=, rightsubnet= with commas)."""

from __future__ import annotations

import pytest

from tests.daemon.connections import ENDS, VTI5, encrypted_ping, without_device, without_trace
from tests.daemon.gateway import Gateway
from tests.daemon.nodes import Ground, wait_for

pytestmark = pytest.mark.daemon

TWO = {"leftsubnet": "10.1.0.0/24", "rightsubnet": "10.2.0.0/24,10.2.1.0/24"}
BOTH_FAMILIES = {"leftsubnet": "10.1.0.0/24,fd00:1::/64", "rightsubnet": "10.2.0.0/24,fd00:2::/64"}


def test_each_pair_has_a_route_and_a_claim(ground: Ground, west: Gateway, east: Gateway) -> None:
    """East, whose pairs have one remote network, never hears `unroute`: its `down`s are enough."""
    for node in (east, west):
        node.add(t={**ENDS, **VTI5, **TWO})
    west.up("t")
    assert west.routed_into("vti5") == {"10.2.0.0/24", "10.2.1.0/24"}
    assert len(west.claims()) == 2
    wait_for(lambda: east.routed_into("vti5") == {"10.1.0.0/24"}, "east's route")
    for address in ("10.2.0.1", "10.2.1.1"):
        encrypted_ping(ground, west, address, "10.1.0.1")
    west.rekey_child("t")
    for address in ("10.2.0.1", "10.2.1.1"):
        encrypted_ping(ground, west, address, "10.1.0.1")
    assert west.reconcile() == ["# nothing to do"]
    west.down("t")
    without_trace(west)
    without_device(east)
    assert east.claims() == []


def test_both_families_in_one_child_on_demand(ground: Ground, west: Gateway, east: Gateway) -> None:
    for node in (east, west):
        node.add(t={**ENDS, **VTI5, **BOTH_FAMILIES})
    west.order("route", "t")
    assert west.routed_into("vti5") == {"10.2.0.0/24", "fd00:2::/64"}
    assert {claim["kind"] for claim in west.claims()} == {"trap"}
    west.ping("fd00:2::1", "fd00:1::1", count=1)  # the packet that asks for the tunnel may be lost
    wait_for(west.spis, "the tunnel that traffic asked for")
    wait_for(lambda: west.ping("fd00:2::1", "fd00:1::1", count=1), "an answer")
    encrypted_ping(ground, west, "fd00:2::1", "fd00:1::1")
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    west.down("t")
    wait_for(lambda: not east.spis(), "east without a security association")
    assert west.routed_into("vti5") == {"10.2.0.0/24", "fd00:2::/64"}, "what asks for the tunnel stays"
    west.order("unroute", "t")
    without_trace(west)
    without_trace(east)
