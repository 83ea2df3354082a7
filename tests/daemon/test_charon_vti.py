"""strongSwan at both ends, VTIs by marks: swanctl and ipsec.conf's starter, both families, reauthentication."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from tests.daemon.charon import Charon
from tests.daemon.children import (
    IPSEC_SECRETS,
    MARK5,
    MOON,
    MOON_6,
    SUN,
    SUN_6,
    THIRD,
    UNIQUE,
    VTI,
    End,
    child,
    configuration,
    conn,
    connection,
    initiated,
    one_child,
)
from tests.daemon.connections import EAST, EAST6, WEST, WEST6, encrypted_ping, without_device, without_trace
from tests.daemon.endpoint import replaced
from tests.daemon.nodes import Ground, wait_for

pytestmark = pytest.mark.daemon

OTHER_MOON = End("moon.example", WEST, "10.1.1.0/24", "10.1.1.1")
OTHER_SUN = End("third.example", THIRD, "10.2.1.0/24", "10.2.1.1")


def test_a_mark_and_two_lines_of_settings_are_enough(ground: Ground, moon: Charon, sun: Charon) -> None:
    """Device, route and encrypted traffic both ways; all of it goes when the tunnel is terminated."""
    sun.load(VTI, one_child(SUN, MOON, **MARK5))
    moon.load(VTI, one_child(MOON, SUN, **MARK5))
    initiated(moon)
    assert moon.device("vti5") == {"kind": "vti", "local": WEST, "remote": EAST, "ikey": 5, "okey": 5, "up": True}
    assert sun.device("vti5") == {"kind": "vti", "local": EAST, "remote": WEST, "ikey": 5, "okey": 5, "up": True}
    assert moon.routed_into("vti5") == {SUN.net}
    assert sun.routed_into("vti5") == {MOON.net}
    encrypted_ping(ground, moon, SUN.host, MOON.host)
    encrypted_ping(ground, sun, MOON.host, SUN.host)
    moon.terminate("net")
    for node in (moon, sun):
        without_trace(node)


def test_a_second_peer_behind_the_mark_needs_a_shared_device(ground: Ground, moon: Charon, sun: Charon) -> None:
    """Without `shared = yes` it is refused by a line that says so; with it both have a route into the one device."""
    first = connection(SUN, MOON, {"net": child(SUN, MOON, **MARK5)})
    other = {"other": child(OTHER_SUN, OTHER_MOON, mark_in="7", mark_out="7")}
    sun.load(VTI, configuration({"t": first, "u": connection(OTHER_SUN, OTHER_MOON, other)}))
    first = connection(MOON, SUN, {"net": child(MOON, SUN, **MARK5)})
    other = {"other": child(OTHER_MOON, OTHER_SUN, **MARK5)}
    both = configuration({"t": first, "u": connection(OTHER_MOON, OTHER_SUN, other)})
    moon.load(VTI, both)
    initiated(moon)
    moon.initiate("other")
    wait_for(lambda: any("shared = yes" in line for line in moon.hook_lines()), "the line that says `shared = yes`")
    assert moon.routed_into("vti5") == {SUN.net}
    encrypted_ping(ground, moon, SUN.host, MOON.host)
    for name in ("net", "other"):
        moon.terminate(name)
    without_trace(moon)
    moon.settings(f"{VTI}shared = yes\n")
    initiated(moon)
    initiated(moon, "other", OTHER_SUN.net)
    assert moon.device("vti5") == {"kind": "vti", "local": WEST, "remote": "any", "ikey": 5, "okey": 5, "up": True}
    encrypted_ping(ground, moon, SUN.host, MOON.host)
    encrypted_ping(ground, moon, OTHER_SUN.host, OTHER_MOON.host)
    for name in ("net", "other"):
        moon.terminate(name)
    wait_for(lambda: not moon.our_routes(), "no route left")
    assert moon.device("vti5"), "a shared device stays"
    assert moon.claims() == []


def test_two_children_each_have_their_route_for_as_long_as_they_live(ground: Ground, moon: Charon, sun: Charon) -> None:
    """One mark, one device; rekeying of children and IKE SA changes nothing."""
    _two_children(moon, sun)
    for node in (moon, sun):
        assert len(node.routed_into("vti5")) == 2
    with moon.told("vti5") as of_moon, sun.told("vti5") as of_sun:
        moon.rekey_child("two")
        moon.rekey_ike("t")
    assert (of_moon, of_sun) == ([], [])
    moon.terminate("one")
    assert moon.routed_into("vti5") == {"10.2.1.0/24"}
    wait_for(lambda: sun.routed_into("vti5") == {"10.1.1.0/24"}, "one route gone at sun")
    encrypted_ping(ground, moon, "10.2.1.1", "10.1.1.1")
    moon.terminate("two")
    for node in (moon, sun):
        without_trace(node)


def _two_children(moon: Charon, sun: Charon) -> None:
    """Of one IKE SA and one mark, both up."""
    for node, (here, there) in ((sun, (SUN, MOON)), (moon, (MOON, SUN))):
        one = child(here, there, **MARK5)
        two = child(here, there, **MARK5, local_ts=_second(here.net), remote_ts=_second(there.net))
        node.load(VTI, configuration({"t": connection(here, there, {"one": one, "two": two})}))
    initiated(moon, "one")
    initiated(moon, "two", "10.2.1.0/24")


def _second(net: str) -> str:
    return net.replace(".0.0/24", ".1.0/24")


def test_reauthentication_break_before_make(ground: Ground, moon: Charon, sun: Charon) -> None:
    """The device goes with the old mark and comes with the new one, by its name; one ping goes on over both."""
    moon.configure(make_before_break="no")
    sun.load(VTI, one_child(SUN, MOON, **UNIQUE))
    moon.load(VTI, one_child(MOON, SUN, **UNIQUE))
    initiated(moon, device="vti1")
    encrypted_ping(ground, moon, SUN.host, MOON.host)
    unreachable = (f"route add unreachable {SUN.net} metric 9999", f"route add unreachable {MOON.net} metric 9999")
    with tempted(moon, SUN, unreachable[0]), tempted(sun, MOON, unreachable[1]):
        ping_over_reauthentication(ground, moon)
    for node in (moon, sun):
        assert node.device("vti1") is None
    moon.terminate("net")
    for node in (moon, sun):
        without_trace(node, "vti2")


@contextmanager
def tempted(node: Charon, there: End, *more: str) -> Iterator[None]:
    """A default route by the other gateway: what is not routed into the tunnel would leave in clear."""
    lines = (f"route add default via {there.address}", *more)
    node.ip(*lines)
    try:
        yield
    finally:
        node.ip(*(line.replace(" add ", " del ") for line in lines))


def ping_over_reauthentication(ground: Ground, moon: Charon) -> None:
    with moon.pinging(SUN.host, MOON.host) as ping:
        ping.goes_on()
        moon.rekey_ike("t", reauth=True)
        wait_for(lambda: moon.routed_into("vti2") == {SUN.net}, "the route into the new device")
        ping.goes_on()
    assert not ground.wire.seen().clear
    encrypted_ping(ground, moon, SUN.host, MOON.host)


def test_reauthentication_make_before_break(ground: Ground, moon: Charon, sun: Charon) -> None:
    """The device is re-keyed for the new SA and keeps name, index, address and route, although it is named by its mark."""
    moon.configure(make_before_break="yes")
    for node, (here, there), address in ((sun, (SUN, MOON), "10.99.0.2/30"), (moon, (MOON, SUN), "10.99.0.1/30")):
        node.load(f"{VTI}address = {address}\n", one_child(here, there, **UNIQUE))
    initiated(moon, device="vti1")
    encrypted_ping(ground, moon, SUN.host, MOON.host)
    with moon.told("vti1") as of_moon, sun.told("vti1") as of_sun, moon.pinging(SUN.host, MOON.host) as ping:
        ping.goes_on()
        with tempted(moon, SUN), tempted(sun, MOON):
            moon.rekey_ike("t", reauth=True)
            wait_for(lambda: len(sun.claims()) == 1, "the end of the old SA at sun")
            ping.goes_on()
    assert not ground.wire.seen().clear
    encrypted_ping(ground, moon, SUN.host, MOON.host)
    assert [line for line in of_moon + of_sun if "Deleted" in line] == []
    keys = [(device["ikey"], device["okey"]) for device in (moon.device("vti1"), sun.device("vti1")) if device]
    assert keys == [(1, 1), (2, 2)], "the initiator keeps its marks, the responder takes new ones"
    assert moon.addresses("vti1") == {"10.99.0.1/30"}
    assert sun.addresses("vti1") == {"10.99.0.2/30"}
    assert sun.routed_into("vti1") == {MOON.net}
    moon.terminate("net")
    for node in (moon, sun):
        without_trace(node, "vti1")


def test_three_reauthentications_as_this_release_does_them(ground: Ground, moon: Charon, sun: Charon) -> None:
    """Two children, nothing said of make before break: no by default up to 5.9, yes from 6.0 on."""
    _two_children(moon, sun)
    for _ in range(3):
        old = {(node, name): node.sas(name) for node in (moon, sun) for name in ("one", "two")}
        moon.rekey_ike("t", reauth=True)
        for (node, name), known in old.items():
            wait_for(partial(_replaced, node, name, known), f"{node.name}'s new child {name} alone")
        for node in (moon, sun):  # charon calls `up` when the child is there, and `down` before it goes
            wait_for(partial(_has_two_claims, node), f"{node.name}'s two claims")
        assert moon.routed_into("vti5") == {SUN.net, "10.2.1.0/24"}
        assert sun.routed_into("vti5") == {MOON.net, "10.1.1.0/24"}
        encrypted_ping(ground, moon, SUN.host, MOON.host)
        encrypted_ping(ground, moon, "10.2.1.1", "10.1.1.1")
    moon.terminate("one")
    assert moon.routed_into("vti5") == {"10.2.1.0/24"}
    moon.terminate("two")
    for node in (moon, sun):
        without_trace(node)


def _replaced(node: Charon, name: str, old: set[str]) -> bool:
    return replaced(old, node.sas(name))


def _has_two_claims(node: Charon) -> bool:
    return len(node.claims()) == 2


def test_over_ipv6_with_both_families_inside(ground: Ground, moon: Charon, sun: Charon) -> None:
    """A VTI6 for two children, one for IPv6 and one for IPv4."""
    for node, (here, there), nets in ((sun, (SUN_6, MOON_6), (SUN, MOON)), (moon, (MOON_6, SUN_6), (MOON, SUN))):
        four = child(here, there, **MARK5, local_ts=nets[0].net, remote_ts=nets[1].net)
        six = child(here, there, **MARK5)
        node.load(VTI, configuration({"t": connection(here, there, {"four": four, "six": six})}))
    initiated(moon, "six", SUN_6.net)
    assert moon.device("vti5") == {"kind": "vti6", "local": WEST6, "remote": EAST6, "ikey": 5, "okey": 5, "up": True}
    encrypted_ping(ground, moon, SUN_6.host, MOON_6.host)
    initiated(moon, "four")
    assert moon.routed_into("vti5") == {SUN_6.net, SUN.net}
    encrypted_ping(ground, moon, SUN.host, MOON.host)
    moon.terminate("six")
    assert moon.routed_into("vti5") == {SUN.net}
    encrypted_ping(ground, sun, MOON.host, SUN.host)
    moon.terminate("four")
    for node in (moon, sun):
        without_trace(node)


def test_the_same_by_ipsec_conf(ground: Ground, moon: Charon, sun: Charon) -> None:
    """The starter's conn has a mark and leftupdown; its end takes the tunnel down in good order."""
    for node, (here, there) in ((sun, (SUN, MOON)), (moon, (MOON, SUN))):
        node.write_ipsec_conf(VTI, IPSEC_SECRETS, {"net": conn(here, there, mark="5")})
        node.start(starter=True)
    moon.stroke("up", "net")
    wait_for(lambda: moon.routed_into("vti5") == {SUN.net}, "moon's route")
    assert moon.device("vti5") == {"kind": "vti", "local": WEST, "remote": EAST, "ikey": 5, "okey": 5, "up": True}
    encrypted_ping(ground, moon, SUN.host, MOON.host)
    moon.stroke("down", "net")
    without_device(sun)
    without_trace(moon)
    moon.stroke("up", "net")
    wait_for(lambda: moon.routed_into("vti5") == {SUN.net}, "moon's route")
    encrypted_ping(ground, moon, SUN.host, MOON.host)
    moon.shut_down()
    for node in (moon, sun):
        without_trace(node)
