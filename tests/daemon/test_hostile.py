"""A live pluto whose peer chose its identity to be read as something else, beside tunnels over IPv4 and IPv6 that are up."""

from __future__ import annotations

import subprocess

import pytest

from tests.daemon.connections import EAST, ENDS6, PERMANENT, VTI5, WEST, encrypted_ping
from tests.daemon.gateway import Gateway
from tests.daemon.nodes import Ground, wait_for

pytestmark = pytest.mark.daemon

ATTACKER = "198.51.100.66"
VTI9 = {**VTI5, "mark": "9/0xffffffff", "vti-interface": "vti9"}
SIX = {**ENDS6, "leftsubnet": "fd00:1::/64", "rightsubnet": "fd00:2::/64", "vti-interface": "vti6", "vti-routing": "yes"}
ANYONE = {**VTI9, "left": WEST, "leftid": "@hub", "right": "%any", "leftsubnet": "10.1.1.0/24", "rightsubnet": "10.9.0.66/32"}
NOTHING = ["# nothing to do"]


@pytest.fixture
def attacker(ground: Ground) -> Gateway:
    node = ground.node(Gateway, "attacker", f"{ATTACKER}/24")
    node.lan("10.9.0.66/24")
    node.start()
    return node


def test_an_identity_moves_no_claim_ends_none_and_blinds_for_nobody(
    ground: Ground, west: Gateway, east: Gateway, attacker: Gateway
) -> None:
    for node in (east, west):
        more = {"r": ANYONE} if node is west else {}
        node.add(t=PERMANENT, six={**SIX, "mark": "6/0xffffffff"}, **more)
    west.up("t")
    west.up("six")
    wait_for(lambda: east.device("vti5") and east.device("vti6"), "east's devices")
    (spi,) = {claim["spi_in"] for claim in west.claims() if claim["connection"] == "t" and claim["kind"] == "sa"}
    forged = f"@x esp.deadbeef@{ATTACKER} esp.{spi:x}@{WEST} ; prospective erouted; eroute owner: #0 IPsec SAs: total(9999) y"
    own = {"left": ATTACKER, "leftid": forged, "right": WEST, "rightid": "@hub"}
    attacker.add(r={**own, "leftsubnet": "10.9.0.66/32", "rightsubnet": "10.1.1.0/24"})
    attacker.up("r", check=False)
    status = west.run("/usr/libexec/ipsec/whack", "--status").stdout
    assert f"esp.{spi:x}@{WEST} ; prospective erouted" in status, "the identity is where it can do harm"
    assert "esp:" in status, "and IPv6 has its colon"
    claims = west.claims()
    assert {claim["peer"] for claim in claims if claim["connection"] == "t"} == {EAST}
    assert west.reconcile() == NOTHING
    assert west.claims() == claims
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    encrypted_ping(ground, west, "fd00:2::1", "fd00:1::1")


def test_a_process_that_is_only_called_pluto_is_none(west: Gateway, east: Gateway) -> None:
    for node in (east, west):
        node.add(t=PERMANENT)
    west.up("t")
    decoy = west.folder / "pluto"
    decoy.symlink_to("/bin/sleep")
    process = subprocess.Popen([*west.inside, str(decoy), "300"])
    try:
        wait_for(lambda: west.run("cat", f"/proc/{process.pid}/comm").stdout == "pluto\n", "the name")
        assert west.reconcile() == NOTHING
    finally:
        process.kill()
        process.wait()
