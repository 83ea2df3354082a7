"""An initiator that loses its address and goes on from another one (MOBIKE), to a server that takes anybody."""

from __future__ import annotations

import json

import pytest

from tests.daemon.connections import EAST, VTI5, WEST, encrypted_ping, without_trace
from tests.daemon.endpoint import OURS
from tests.daemon.gateway import Gateway
from tests.daemon.nodes import Ground, wait_for
from tests.daemon.words import words

pytestmark = pytest.mark.daemon

ELSEWHERE = "198.51.100.7"
IDS = {"leftid": "@west", "rightid": "@east"}
NETS = {"leftsubnet": "10.1.0.0/24", "rightsubnet": "10.2.0.0/24"}


ROAMING = {**VTI5, **IDS, **NETS, "left": "%defaultroute", "right": EAST, "mobike": "yes", "leftvti": "10.99.0.1/30"}


def two_addresses(west: Gateway) -> None:
    """A second address, which takes the place of the first once that goes."""
    west.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/all/promote_secondaries")
    west.run("ip", "-4", "addr", "flush", "dev", "eth0")
    west.addresses_on("eth0", f"{WEST}/24", f"{ELSEWHERE}/24")
    west.ip(f"route add default via {EAST}")


def roaming(ground: Ground, west: Gateway, east: Gateway) -> None:
    """The tunnel is up, of an initiator with two addresses."""
    two_addresses(west)
    east.add(t={**VTI5, **IDS, **NETS, "left": "%any", "right": EAST, "mobike": "yes"})
    west.add(t=ROAMING)
    west.up("t")
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")


def ends_by_reconcile(west: Gateway) -> None:
    """As soon as it is not under way any more."""
    wait_for(lambda: "ip link del vti5" in west.reconcile(), "the claim to be old enough for reconcile", patience=180)


def test_the_device_follows_and_traffic_goes_on(ground: Ground, west: Gateway, east: Gateway) -> None:
    """4.10 calls down, unroute, up, route, and shows nothing in `unroute` that tells a move from a delete: the device goes and
    is made again, with its address and route. The server's, without a remote end, needs nothing."""
    roaming(ground, west, east)
    device = west.device("vti5")
    assert device
    assert device["local"] == WEST
    west.ip(f"addr del {WEST}/24 dev eth0")
    wait_for(lambda: west.device("vti5") == {**device, "local": ELSEWHERE}, "the device with the new address")
    wait_for(lambda: west.ping("10.2.0.1", "10.1.0.1", count=1), "an answer from the new address")
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    assert west.addresses("vti5") == {"10.99.0.1/30"}
    assert west.routed_into("vti5") == {"10.2.0.0/24"}
    west.delete("t")
    without_trace(west)


def test_a_move_that_is_never_finished_lets_nothing_out_and_ends_by_reconcile(
    ground: Ground, west: Gateway, east: Gateway
) -> None:
    """5.2 calls down and `unroute` of a move; IKE then goes on from the address that is gone, and no hook is called again."""
    roaming(ground, west, east)
    device = west.device("vti5")
    west.ip(f"addr del {WEST}/24 dev eth0")
    wait_for(lambda: [claim["kind"] for claim in west.claims()] == ["revive"], "the move to begin")
    told = json.loads(west.run(*OURS.split(), "check", "--json", check=False).stdout)
    assert ("address-gone", "t") in {(found["code"], found["subject"]) for found in told["findings"]}
    ground.wire.seen()
    assert not west.ping("10.2.0.1", "10.1.0.1", count=1)
    assert not ground.wire.seen().clear
    assert west.device("vti5") == device
    assert west.routed_into("vti5") == {"10.2.0.0/24"}
    west.delete("t")
    assert west.device("vti5") == device, "no hook was called"
    ends_by_reconcile(west)
    without_trace(west)
    east.delete("t")
    wait_for(lambda: east.routed_into("vti5") == set(), "the end at east")


def test_what_only_waits_stays_where_pluto_has_it_until_pluto_looks(west: Gateway) -> None:
    """It does when it is told to listen: until then reconcile has nothing to do. 4.10 then calls `unroute`, as the connection
    is at home nowhere; 5.2 never does, not when that is deleted, and reconcile has to."""
    two_addresses(west)
    west.add(t=ROAMING)
    west.order("route", "t")
    device = west.device("vti5")
    assert device
    assert device["local"] == WEST
    west.ip(f"addr del {WEST}/24 dev eth0")
    assert west.reconcile() == ["# nothing to do"]
    assert west.device("vti5") == device
    west.ipsec("whack", "--listen")
    if not words().unroutes_homeless:
        assert west.device("vti5") == device
        west.delete("t")
        assert west.device("vti5") == device, "no hook was called"
        ends_by_reconcile(west)
    without_trace(west)
    west.add(t=ROAMING)
    west.order("route", "t")
    assert west.device("vti5") == {**device, "local": ELSEWHERE}
    west.delete("t")
    without_trace(west)
