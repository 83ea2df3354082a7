"""libreswan at one end, strongSwan at the other, our hook at both."""

from __future__ import annotations

import pytest

from tests.daemon.charon import Charon
from tests.daemon.children import IPSEC, MARK5, MOON, SUN, VTI, initiated, one_child
from tests.daemon.connections import EAST, PERMANENT, WEST, encrypted_ping, without_device, without_trace
from tests.daemon.gateway import Gateway
from tests.daemon.nodes import Ground, wait_for

pytestmark = pytest.mark.daemon

LIBRESWAN = {**PERMANENT, "leftid": f"@{MOON.name}", "rightid": f"@{SUN.name}"}


def test_libreswan_begins_and_both_have_a_vti(ground: Ground, west: Gateway, sun: Charon) -> None:
    """Rekeying, from either end, touches neither; what libreswan takes down goes at both."""
    sun.load(VTI, one_child(SUN, MOON, **MARK5))
    west.add(t=LIBRESWAN)
    west.up("t")
    assert west.device("vti5") == {"kind": "vti", "local": WEST, "remote": EAST, "ikey": 5, "okey": 5, "up": True}
    assert sun.device("vti5") == {"kind": "vti", "local": EAST, "remote": WEST, "ikey": 5, "okey": 5, "up": True}
    assert west.routed_into("vti5") == {SUN.net}
    assert sun.routed_into("vti5") == {MOON.net}
    encrypted_ping(ground, west, SUN.host, MOON.host)
    with west.told("vti5") as of_west, sun.told("vti5") as of_sun:
        west.rekey_child("t")
        sun.rekey_child("net")
        sun.rekey_ike("t")
    assert (of_west, of_sun) == ([], [])
    encrypted_ping(ground, sun, MOON.host, SUN.host)
    west.delete("t")
    for node in (west, sun):
        without_trace(node)


def test_strongswan_begins_and_has_an_xfrm_interface(ground: Ground, west: Gateway, sun: Charon) -> None:
    """The device of one end is nothing the other knows of; what strongSwan takes down goes at both."""
    sun.load(IPSEC, one_child(SUN, MOON, if_id_in="42", if_id_out="42"))
    west.add(t=LIBRESWAN)
    initiated(sun, "net", MOON.net, "ipsec42")
    wait_for(lambda: west.routed_into("vti5") == {SUN.net}, "west's half of the tunnel")
    encrypted_ping(ground, sun, MOON.host, SUN.host)
    encrypted_ping(ground, west, SUN.host, MOON.host)
    sun.terminate("net")
    without_trace(sun, "ipsec42")
    without_device(west)
    west.delete("t")
    without_trace(west)
