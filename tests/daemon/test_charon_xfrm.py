"""strongSwan at both ends, XFRM interfaces by if_id: unique ones, clients with addresses from a pool, trap policies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.daemon.charon import Charon, Tree
from tests.daemon.children import IPSEC, MARK5, MOON, SUN, End, child, configuration, connection, initiated, one_child
from tests.daemon.connections import EAST, WEST, encrypted_ping, without_device, without_trace
from tests.daemon.nodes import Ground, wait_for

pytestmark = pytest.mark.daemon

ID42 = {"if_id_in": "42", "if_id_out": "42"}
UNIQUE_ID = {"if_id_in": "%unique", "if_id_out": "%unique"}
CAROL = End("carol.example", "198.51.100.11", "dynamic", "")
ANYONE = End("%any", "%any", "dynamic", "")
BOTH = {"moon": "10.1.0.0/24,fd00:1::/64", "sun": "10.2.0.0/24,fd00:2::/64"}


@pytest.fixture(scope="module")
def carol(ground: Ground) -> Charon:
    """A client from anywhere."""
    node = ground.node(Charon, "carol", f"{CAROL.address}/24")
    node.lay_over()
    return node


def if_ids(node: Charon) -> dict[str, int]:
    """The XFRM interfaces of a node."""
    infos = {name: link.get("linkinfo", {}) for name, link in node.links().items()}
    return {name: int(info["info_data"]["if_id"], 0) for name, info in infos.items() if info.get("info_kind") == "xfrm"}


def test_an_if_id_and_two_lines_of_settings_are_enough(ground: Ground, moon: Charon, sun: Charon) -> None:
    """One interface for both families of one child; all of it goes when the tunnel is terminated."""
    sun.load(IPSEC, one_child(SUN, MOON, **ID42, local_ts=BOTH["sun"], remote_ts=BOTH["moon"]))
    moon.load(IPSEC, one_child(MOON, SUN, **ID42, local_ts=BOTH["moon"], remote_ts=BOTH["sun"]))
    initiated(moon, "net", "fd00:2::/64", "ipsec42")
    for node, routes in ((moon, {SUN.net, "fd00:2::/64"}), (sun, {MOON.net, "fd00:1::/64"})):
        assert if_ids(node) == {"ipsec42": 42}
        assert node.routed_into("ipsec42") == routes
    encrypted_ping(ground, moon, SUN.host, MOON.host)
    encrypted_ping(ground, moon, "fd00:2::1", "fd00:1::1")
    encrypted_ping(ground, sun, MOON.host, SUN.host)
    moon.terminate("net")
    for node in (moon, sun):
        without_trace(node, "ipsec42")


def test_different_if_ids_make_an_interface_to_send_by_and_one_to_receive_by(ground: Ground, moon: Charon, sun: Charon) -> None:
    """Routes lead into the first; what arrives is counted on the second, an answer to `probe` too; both go. Neither has an
    address."""
    sun.load(IPSEC, one_child(SUN, MOON, **ID42))
    probed = f"[device ipsec44]\nprobe = {SUN.host}\n"
    moon.load(IPSEC + probed, one_child(MOON, SUN, if_id_in="43", if_id_out="44"))
    initiated(moon, device="ipsec44")
    assert if_ids(moon) == {"ipsec43": 43, "ipsec44": 44}
    assert moon.routed_into("ipsec43") == set()
    encrypted_ping(ground, moon, SUN.host, MOON.host)
    encrypted_ping(ground, sun, MOON.host, SUN.host)
    assert [_packets(moon, name) for name in ("ipsec43", "ipsec44")] == [(4, 0), (0, 4)]
    assert probe(moon) == [{"device": "ipsec44", "far": SUN.host, "missed": 0, "why": ""}]
    sun.run("ip", "route", "add", "blackhole", MOON.host)
    assert [answer["missed"] for _ in range(3) for answer in probe(moon)] == [1, 2, 3]
    assert moon.links()["ipsec44"]["operstate"] == "DORMANT"
    assert moon.routed_into("ipsec44") == {SUN.net}, "as no other tunnel lives"
    sun.run("ip", "route", "del", "blackhole", MOON.host)
    assert [answer["missed"] for answer in probe(moon)] == [0]
    assert moon.links()["ipsec44"]["operstate"] != "DORMANT"
    assert moon.routed_into("ipsec44") == {SUN.net}
    moon.terminate("net")
    for name in ("ipsec43", "ipsec44"):
        without_trace(moon, name)


def probe(node: Charon) -> list[dict[str, Any]]:
    """What one run of it says of each device."""
    found: list[dict[str, Any]] = json.loads(node.hook("probe", "--json"))["probes"]
    return found


def _packets(node: Charon, name: str) -> tuple[int, int]:
    """Received and sent by an interface."""
    counts = node.run("cat", *(f"/sys/class/net/{name}/statistics/{way}_packets" for way in ("rx", "tx"))).stdout
    received, sent = map(int, counts.split())
    return received, sent


def test_unique_if_ids_and_make_before_break(ground: Ground, moon: Charon, sun: Charon) -> None:
    """The new SA has an interface of its own beside the old one; the route moves to it and the ping goes on."""
    moon.configure(make_before_break="yes")
    sun.load(IPSEC, one_child(SUN, MOON, **UNIQUE_ID))
    moon.load(IPSEC, one_child(MOON, SUN, **UNIQUE_ID))
    initiated(moon, device="ipsec1")
    encrypted_ping(ground, moon, SUN.host, MOON.host)
    with moon.pinging(SUN.host, MOON.host) as ping:
        ping.goes_on()
        moon.rekey_ike("t", reauth=True)
        for node in (moon, sun):
            without_device(node, "ipsec1")
        ping.goes_on()
    assert not ground.wire.seen().clear
    assert if_ids(moon) == if_ids(sun) == {"ipsec2": 2}
    assert moon.routed_into("ipsec2") == {SUN.net}
    assert sun.routed_into("ipsec2") == {MOON.net}
    encrypted_ping(ground, moon, SUN.host, MOON.host)
    moon.terminate("net")
    for node in (moon, sun):
        without_trace(node, "ipsec2")


def test_clients_of_a_pool_each_have_an_interface_at_the_server(
    ground: Ground, moon: Charon, sun: Charon, carol: Charon
) -> None:
    """It comes and goes with its client; the client has the assigned address on its own interface."""
    server = connection(MOON, ANYONE, {"net": child(MOON, ANYONE, **UNIQUE_ID)}, pools="clients")
    moon.load(IPSEC, configuration({"t": server}, pools={"clients": {"addrs": "10.77.0.0/24"}}))
    clients = ((sun, SUN, "10.77.0.1"), (carol, CAROL, "10.77.0.2"))
    for node, end, lease in clients:
        node.configure(install_virtual_ip="no")
        its: Tree = {"net": child(end, MOON, **ID42, local_ts="dynamic")}
        node.load(IPSEC, configuration({"t": connection(end, MOON, its, vips="0.0.0.0")}))
        initiated(node, "net", MOON.net, "ipsec42")
        assert node.addresses("ipsec42") == {f"{lease}/32"}
        encrypted_ping(ground, node, MOON.host, "")
    assert if_ids(moon) == {"ipsec1": 1, "ipsec2": 2}
    assert [moon.routed_into(f"ipsec{number}") for number in (1, 2)] == [{"10.77.0.1"}, {"10.77.0.2"}]
    sun.terminate("net")
    without_trace(sun, "ipsec42")
    without_device(moon, "ipsec1")
    encrypted_ping(ground, moon, "10.77.0.2", MOON.host)
    carol.terminate("net")
    without_trace(carol, "ipsec42")
    without_trace(moon, "ipsec2")


@pytest.mark.parametrize(
    ("name", "made", "keys"),
    [
        pytest.param("ipsec42", "type xfrm if_id 42", ID42, marks=pytest.mark.slow),
        ("vti5", f"type vti local {WEST} remote {EAST} key 5", MARK5),
    ],
)
def test_a_trap_policy_behind_a_device_made_beforehand(
    ground: Ground, moon: Charon, sun: Charon, name: str, made: str, keys: Mapping[str, str]
) -> None:
    """The first packet asks for the tunnel; the hook uses the device as it is and leaves it when the tunnel goes."""
    settings = f"[connection *]\ninterface = {name}\nrouting = yes\n"
    beforehand: Sequence[str] = (f"link add {name} {made}", f"link set {name} up")
    moon.ip(*beforehand, f"route add {SUN.net} dev {name}")
    before = moon.links()[name]["ifindex"]
    sun.load(settings, one_child(SUN, MOON, **keys))
    moon.load(settings, one_child(MOON, SUN, **keys, start_action="trap"))
    assert moon.claims() == [], "charon tells nothing of a trap"
    for _ in range(2):
        moon.ping(SUN.host, MOON.host, count=1, patience=1)  # the packet that asks for the tunnel may be lost
        wait_for(lambda: len(moon.claims()) == 1, "the tunnel that traffic asked for")
        encrypted_ping(ground, moon, SUN.host, MOON.host)
        moon.terminate("net")
        without_device(sun, name)
        wait_for(lambda: moon.claims() == [], "the end of the tunnel")
        assert moon.links()[name]["ifindex"] == before
        assert moon.routed_into(name) == {SUN.net}


def test_a_trap_policy_behind_a_device_that_make_made(ground: Ground, moon: Charon, sun: Charon) -> None:
    """From settings alone, before charon starts: device and route are there for the first packet, and stay for the next."""
    settings = "[connection *]\ninterface = ipsec42\nrouting = yes\n"
    described = f"{settings}[device ipsec42]\nkind = xfrm\nif_id = 42\nroute = {SUN.net}\n"
    sun.load(settings, one_child(SUN, MOON, **ID42))
    moon.settings(described)
    moon.hook("make", "ipsec42")
    assert moon.routed_into("ipsec42") == {SUN.net}
    before = moon.links()["ipsec42"]["ifindex"]
    moon.load(described, one_child(MOON, SUN, **ID42, start_action="trap"))
    for _ in range(2):
        assert [claim["kind"] for claim in moon.claims()] == ["made"]
        moon.ping(SUN.host, MOON.host, count=1, patience=1)  # the packet that asks for the tunnel may be lost
        wait_for(lambda: len(moon.claims()) == 2, "the tunnel that traffic asked for")
        encrypted_ping(ground, moon, SUN.host, MOON.host)
        moon.terminate("net")
        wait_for(lambda: len(moon.claims()) == 1, "the end of the tunnel")
        assert moon.links()["ipsec42"]["ifindex"] == before
        assert moon.routed_into("ipsec42") == {SUN.net}
    moon.hook("release", "ipsec42")
    moon.ip("link del ipsec42")
