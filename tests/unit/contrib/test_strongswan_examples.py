"""The examples below contrib/strongswan fit together: each child's settings make the device that the comments promise."""

import re

import pytest

from tests import TOP
from tests.kit.charon import Child, charon_calls
from tests.kit.machine import EAST, THIRD, WEST, Machine
from tests.kit.settings_text import parse
from updown.ledger.liveness import MISSES, set_missed_probes

FOLDER = TOP / "contrib" / "strongswan"
EXAMPLES = sorted(path.parent.name for path in FOLDER.glob("*/swanctl.conf"))
SUBNETS = (("10.1.0.0/24", "10.2.0.0/24"),)
EVERYTHING = (("0.0.0.0/0", "0.0.0.0/0"), ("::/0", "::/0"))


def children(name: str) -> dict[str, str]:
    """Each child of a swanctl.conf by its name: what stands in its braces."""
    text = (FOLDER / name / "swanctl.conf").read_text()
    inside = re.findall(r"children \{(.*?)\n        \}", text, re.DOTALL)
    return {child: body for block in inside for child, body in re.findall(r"(\w+) \{(.*?)\n            \}", block, re.DOTALL)}


def value(body: str, key: str) -> str:
    """What a child says for a key, or nothing."""
    found = re.search(rf"^ *{key} = (.*)$", body, re.MULTILINE)
    return found[1] if found else ""


def child(name: str, connection: str, pairs: tuple[tuple[str, str], ...], peer: str = EAST, peer_id: str = "east") -> Child:
    """The child as charon would tell of it."""
    body = children(name)[connection]
    marks = [f"{found}/0xffffffff" if found else "" for found in (value(body, "mark_in"), value(body, "mark_out"))]
    ids = (value(body, "if_id_in"), value(body, "if_id_out"))
    return Child(connection, WEST, peer, "west", peer_id, pairs, marks[0], marks[1], *ids)


def loaded(machine: Machine, name: str) -> Machine:
    """The machine with an example's settings."""
    machine.settings((FOLDER / name / "vti-updown.conf").read_text())
    return machine


def test_there_is_one_for_each_kind() -> None:
    assert EXAMPLES == ["cloud", "vti", "xfrm"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_section_of_the_settings_is_a_child_and_each_child_runs_the_hook(name: str) -> None:
    lines = parse((FOLDER / name / "vti-updown.conf").read_text(), "vti-updown.conf")
    named = {line.pattern for line in lines if line.kind == "connection"} - {"cloud*"}
    assert named == set(children(name)) == ({"cloud1", "cloud2"} if name == "cloud" else {"net", "clients"})
    for body in children(name).values():
        assert value(body, "updown") == "/usr/libexec/vti-updown"


def test_the_vti_of_the_permanent_tunnel_comes_and_goes_with_it(machine: Machine) -> None:
    loaded(machine, "vti")
    net = child("vti", "net", SUBNETS)
    machine.send_all(charon_calls(net, "up"))
    link = machine.kernel.named("vti01")
    assert (link.kind, link.local, link.remote, link.ikey, link.okey) == ("vti", WEST, net.peer, 5, 5)
    assert machine.addresses("vti01") == ["10.99.0.1/30"]
    assert machine.routes() == {("10.2.0.0/24", "vti01")}
    machine.send_all(charon_calls(net, "down"))
    assert machine.devices() == set()


CLIENTS = {"vti": ("vti02", {"vti02"}), "xfrm": ("ipsec43", set())}


@pytest.mark.parametrize("name", CLIENTS)
def test_two_road_warriors_share_a_device_and_have_a_route_each(name: str, machine: Machine) -> None:
    device, left = CLIENTS[name]
    loaded(machine, name)
    one = child(name, "clients", (("10.1.0.0/24", "10.0.1.1/32"),), EAST, "one")
    two = child(name, "clients", (("10.1.0.0/24", "10.0.1.2/32"),), THIRD, "two")
    machine.send_all([*charon_calls(one, "up", 1), *charon_calls(two, "up", 2)])
    assert machine.devices() == {device}
    assert machine.routes() == {("10.0.1.1/32", device), ("10.0.1.2/32", device)}
    machine.send_all(charon_calls(one, "down", 1))
    assert machine.routes() == {("10.0.1.2/32", device)}
    machine.send_all(charon_calls(two, "down", 2))
    assert machine.devices() == left
    assert machine.routes() == set()


def test_the_xfrm_interface_of_the_permanent_tunnel_stays_and_is_routed_by_hand(machine: Machine) -> None:
    loaded(machine, "xfrm")
    net = child("xfrm", "net", EVERYTHING)
    machine.send_all(charon_calls(net, "up"))
    link = machine.kernel.named("ipsec42")
    assert (link.kind, link.if_id, link.up) == ("xfrm", 42, True)
    assert machine.addresses("ipsec42") == ["10.99.0.1/30", "fd00:99::1/64"]
    assert machine.routes() == set()
    machine.send_all(charon_calls(net, "down"))
    assert machine.devices() == {"ipsec42"}
    assert machine.addresses("ipsec42") == []


def test_the_second_tunnel_to_the_cloud_has_the_way_while_the_first_does_not_answer(machine: Machine) -> None:
    loaded(machine, "cloud")
    ends = {"cloud1": "203.0.113.1", "cloud2": "203.0.113.2"}
    both = {name: child("cloud", name, EVERYTHING[:1], peer, peer) for name, peer in ends.items()}
    for one in both.values():
        machine.send_all(charon_calls(one, "up"))
    assert machine.devices() == {"vti1", "vti2"}
    assert machine.kernel.path("10.0.5.5").device == "vti1"  # type: ignore[union-attr]
    with machine.ledger() as ledger, ledger.transaction():
        set_missed_probes(ledger, "vti1", MISSES, machine.now)
    machine.send_all(charon_calls(both["cloud2"], "up"))
    assert machine.kernel.path("10.0.5.5").device == "vti2"  # type: ignore[union-attr]
    machine.send_all(charon_calls(both["cloud2"], "down"))
    assert machine.kernel.path("10.0.5.5").device == "vti1"  # type: ignore[union-attr]
