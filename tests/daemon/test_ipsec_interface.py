"""libreswan's own XFRM interface (ipsec-interface=): pluto makes and deletes it, our hook gives it routes and, with 4.10, its
address; neither undoes the other's work."""

from __future__ import annotations

import pytest

from tests.daemon.connections import EAST, EAST6, ENDS, ENDS6, NETS, WEST, WEST6, encrypted_ping
from tests.daemon.gateway import HOOK, Gateway
from tests.daemon.nodes import Ground, wait_for
from tests.daemon.words import words

pytestmark = pytest.mark.daemon

SOURCE = "10.1.0.77"  # which only the hook puts anywhere; ipsec.conf of Debian's 4.10 has no interface-ip=
OWN = {**ENDS, **NETS, "ipsec-interface": "7", "leftsourceip": SOURCE}


def without_our_routes(node: Gateway) -> None:
    wait_for(lambda: not node.our_routes(), f"no route of ours in {node.name}")


def test_pluto_makes_the_device_and_the_hook_what_is_on_it(ground: Ground, west: Gateway, east: Gateway) -> None:
    began = len(west.logged())
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
    assert not [line for line in west.hook_lines(began) if "warning" in line or "error" in line]
    west.down("t")
    for node in (west, east):
        node.delete("t")
        without_our_routes(node)
        assert node.claims() == []
        assert node.addresses("ipsec7") == set()
    assert "not ours" not in " ".join(west.hook_lines(began))


def test_with_an_address_of_its_own_and_a_metric(ground: Ground, west: Gateway, east: Gateway) -> None:
    """interface-ip=: from 5.0 on pluto puts it there and takes it away, and the hook leaves it alone."""
    its = {"leftinterface-ip": "10.98.0.1/30", "rightinterface-ip": "10.98.0.2/30", "metric": "55"}
    for node in (east, west):
        node.add(t={**ENDS, **NETS, "ipsec-interface": "yes", **its})
    west.up("t")
    assert west.addresses("ipsec1") == {"10.98.0.1/30"}
    (route,) = west.our_routes()
    assert (route["dst"], route["dev"], route["metric"]) == ("10.2.0.0/24", "ipsec1", 55)
    wait_for(lambda: east.routed_into("ipsec1") == {"10.1.0.0/24"}, "east's route")
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    west.rekey_child("t")
    assert west.addresses("ipsec1") == {"10.98.0.1/30"}
    west.down("t")
    without_our_routes(west)
    assert west.addresses("ipsec1") == set()
    west.up("t")
    assert west.addresses("ipsec1") == {"10.98.0.1/30"}
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    for node in (west, east):
        node.delete("t")
        without_our_routes(node)
        assert node.claims() == []


def test_a_device_made_beforehand_is_used_and_stays(ground: Ground, west: Gateway, east: Gateway) -> None:
    """By the administrator: pluto uses it, and neither deletes it. From 5.0 on it has to be on top of a device."""
    west.ip("link add ipsec7 type xfrm dev eth0 if_id 7", "link set ipsec7 up", "addr add 10.98.0.1/30 dev ipsec7")
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


@pytest.mark.parametrize(("parent", "device"), [("eth0", "eth0"), ("auto", "lo")])
def test_a_device_that_make_made_on_a_parent_is_taken_by_pluto(
    ground: Ground, west: Gateway, east: Gateway, parent: str, device: str
) -> None:
    """From 5.0 on pluto refuses one without a parent; it stays ours, with its address, when the tunnel is gone. Here no default
    route leads anywhere."""
    settings = west.folder / "made.conf"
    settings.write_text(f"[device ipsec7]\nkind = xfrm\nif_id = 7\nparent = {parent}\naddress = 10.98.0.1/30\n")
    hook = f"{HOOK} --config {settings}"
    west.hook("--config", str(settings), "make", "ipsec7")
    before = west.links()["ipsec7"]
    assert before["link"] == device
    for node in (east, west):
        node.add(t={**ENDS, **NETS, "ipsec-interface": "7", **({"leftupdown": hook} if node is west else {})})
    west.up("t")
    assert west.routed_into("ipsec7") == {"10.2.0.0/24"}
    wait_for(lambda: east.routed_into("ipsec7") == {"10.1.0.0/24"}, "east's route")
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    for node in (west, east):
        node.delete("t")
    without_our_routes(west)
    assert west.links()["ipsec7"] == before
    assert west.addresses("ipsec7") == {"10.98.0.1/30"}
    assert [claim["kind"] for claim in west.claims()] == ["made"]


def test_a_device_that_pluto_does_not_manage_is_used_and_stays(ground: Ground, west: Gateway, east: Gateway) -> None:
    """ipsec-interface-managed=no: pluto never looks at it. Where it is missing, the hook warns."""
    west.set_up(**{"ipsec-interface-managed": "no"})
    began = len(west.logged())
    for node in (east, west):
        node.add(t={**ENDS, **NETS, "ipsec-interface": "7"})
    west.up("t")
    assert "ipsec7" not in west.links()
    assert any("ipsec7" in line and "warning" in line for line in west.hook_lines(began))
    assert west.our_routes() == []
    west.down("t")
    west.ip("link add ipsec7 type xfrm if_id 7", "link set ipsec7 up", "addr add 10.98.0.1/30 dev ipsec7")
    west.up("t")
    assert west.routed_into("ipsec7") == {"10.2.0.0/24"}
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    west.rekey_child("t")
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    west.delete("t")
    without_our_routes(west)
    assert west.addresses("ipsec7") == {"10.98.0.1/30"}
    assert west.claims() == []


def past(node: Gateway) -> set[str]:
    """Our rules for pluto's own packets: of each family one for the mark, and, as 4.10 does not mark IKE, one a port."""
    return {line for six in ("-4", "-6") for line in node.run("ip", six, "rule").stdout.splitlines() if "lookup 50" in line}


def test_host_to_host_is_encrypted_and_ike_goes_past_the_device(ground: Ground, west: Gateway, east: Gateway) -> None:
    """The peer's address goes into the interface; packets counted on the wire, over new keys of the child and of IKE."""
    four, six = {**ENDS, "ipsec-interface": "7"}, {**ENDS6, "ipsec-interface": "7"}
    rules = 1 if words().marks_ike else 3
    began = len(west.logged())
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
    wait_for(lambda: len(past(east)) == 2 * rules, "east's rule for IPv6")
    encrypted_ping(ground, west, EAST6, WEST6)
    assert len(past(west)) == 2 * rules
    assert not [line for line in west.hook_lines(began) if "warning" in line or "error" in line]
    west.down("six")
    west.delete("six")
    assert len(past(west)) == rules
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
