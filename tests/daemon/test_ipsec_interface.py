"""libreswan's own XFRM interface (ipsec-interface=): pluto makes and deletes it, our hook gives it routes and, with 4.10, its
address; neither undoes the other's work."""

from __future__ import annotations

import pytest

from tests.daemon.connections import EAST, EAST6, ENDS, ENDS6, NETS, WEST, WEST6, encrypted_ping
from tests.daemon.gateway import Gateway
from tests.daemon.nodes import Ground, wait_for

pytestmark = pytest.mark.daemon

SOURCE = "10.1.0.77"  # which only the hook puts anywhere; ipsec.conf of Debian's 4.10 has no interface-ip=
OWN = {**ENDS, **NETS, "ipsec-interface": "7", "leftsourceip": SOURCE}


def without_our_routes(node: Gateway) -> None:
    wait_for(lambda: not node.our_routes(), f"no route of ours in {node.name}")


def test_pluto_makes_the_device_and_the_hook_what_is_on_it(ground: Ground, west: Gateway, east: Gateway) -> None:
    for node in (east, west):
        node.add(t=OWN)
    west.up("t")
    link = west.links()["ipsec7"]
    assert link["linkinfo"]["info_kind"] == "xfrm"
    assert "ifalias" not in link, "it is pluto's"
    assert west.addresses("ipsec7") == {f"{SOURCE}/32"}
    assert west.routed_into("ipsec7") == {"10.2.0.0/24"}
    wait_for(lambda: east.routed_into("ipsec7") == {"10.1.0.0/24"}, "east's route")
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    assert not [line for line in west.hook_lines() if "warning" in line or "error" in line]
    west.down("t")
    for node in (west, east):
        node.delete("t")
        without_our_routes(node)
        assert node.claims() == []
        assert node.addresses("ipsec7") == set()
    assert "not ours" not in " ".join(west.hook_lines())


def test_a_device_that_pluto_does_not_manage_is_used_and_stays(ground: Ground, west: Gateway, east: Gateway) -> None:
    """Made by the administrator beforehand: pluto uses it, and neither deletes it."""
    west.ip("link add ipsec7 type xfrm if_id 7", "link set ipsec7 up", "addr add 10.98.0.1/30 dev ipsec7")
    for node in (east, west):
        node.add(t=OWN)
    west.up("t")
    assert west.addresses("ipsec7") == {"10.98.0.1/30", f"{SOURCE}/32"}
    assert west.routed_into("ipsec7") == {"10.2.0.0/24"}
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    for node in (west, east):
        node.delete("t")
    without_our_routes(west)
    assert west.addresses("ipsec7") == {"10.98.0.1/30"}
    assert "ipsec7" in west.links()


def past(node: Gateway) -> set[str]:
    """Our rules for pluto's own packets: of each family one for the mark, and, as 4.10 does not mark IKE, one a port."""
    return {line for six in ("-4", "-6") for line in node.run("ip", six, "rule").stdout.splitlines() if "lookup 50" in line}


def test_host_to_host_is_encrypted_and_ike_goes_past_the_device(ground: Ground, west: Gateway, east: Gateway) -> None:
    """The peer's address goes into the interface; packets counted on the wire, over new keys of the child and of IKE."""
    four, six = {**ENDS, "ipsec-interface": "7"}, {**ENDS6, "ipsec-interface": "7"}
    for node in (east, west):
        node.add(t=four, six=six)
    west.up("t")
    assert west.routed_into("ipsec7") == {EAST}
    wait_for(lambda: bool(past(east)), "east's rule")
    encrypted_ping(ground, west, EAST, WEST)
    west.rekey_child("t")
    encrypted_ping(ground, west, EAST, WEST)
    west.rekey_ike("t")
    assert ground.wire.seen().ike
    encrypted_ping(ground, west, EAST, WEST)
    west.up("six")
    wait_for(lambda: len(past(east)) == 6, "east's rule for IPv6")
    encrypted_ping(ground, west, EAST6, WEST6)
    assert len(past(west)) == 6
    assert not [line for line in west.hook_lines() if "warning" in line or "error" in line]
    west.down("six")
    west.delete("six")
    assert len(past(west)) == 3
    encrypted_ping(ground, west, EAST, WEST)
    west.down("t")
    for node in (west, east):
        node.delete("t")
        without_our_routes(node)
        assert node.claims() == []
        assert not past(node)
    ground.wire.seen()
    assert west.ping(EAST, WEST, count=1)
    assert not ground.wire.seen().esp
