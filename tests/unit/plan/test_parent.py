"""The device below an XFRM interface, which `parent` asks for: pluto 5.2 takes no interface without one."""

from __future__ import annotations

import pytest

from tests.kit.charon import Child, charon_call
from tests.kit.machine import Machine
from updown.model.errors import Conflict, Refused
from updown.model.objects import OUR_ALIAS, Link
from updown.output.iproute2 import command

CHILD = Child(mark_in="", mark_out="", if_id_in="7", if_id_out="7")
NAMED = "[connection c]\ninterface = ipsec7\n"


def up(machine: Machine, settings: str) -> list[str]:
    """The tunnel comes up; the commands that make its device or take it away."""
    machine.settings(NAMED + settings)
    done = machine.send(charon_call(CHILD, "up")).operations
    return [line for line in map(command, done) if " link add " in line or " link del " in line]


def parent_of(machine: Machine, name: str) -> str:
    """The name of the device below; empty where there is none."""
    index = machine.kernel.named(name).parent
    return machine.kernel.by_index[index].name if index else ""


WANTED = {
    "none": ("", "", "ip link add ipsec7 type xfrm if_id 7"),
    "a name": ("parent = lo\n", "lo", "ip link add ipsec7 type xfrm dev lo if_id 7"),
    "the way to the peer": ("parent = auto\n", "eth0", "ip link add ipsec7 type xfrm dev eth0 if_id 7"),
}


@pytest.mark.parametrize(("settings", "below", "made"), WANTED.values(), ids=WANTED)
def test_an_interface_is_made_above_it(machine: Machine, settings: str, below: str, made: str) -> None:
    assert up(machine, settings) == [made]
    assert parent_of(machine, "ipsec7") == below


@pytest.mark.parametrize("settings", ["parent = lo\n", "parent = auto\n"])
def test_a_second_up_changes_nothing(machine: Machine, settings: str) -> None:
    up(machine, settings)
    assert machine.send(charon_call(CHILD, "up")).operations == ()


def test_where_no_way_leads_to_the_peer_it_is_lo(machine: Machine) -> None:
    machine.kernel.table.clear()
    machine.settings(NAMED + "parent = auto\n")
    machine.send(charon_call(CHILD._replace(peer="192.88.99.9"), "up"))
    assert parent_of(machine, "ipsec7") == "lo"


FOUND = {
    "it says none": ("", "eth0", "eth0"),
    "another, and auto": ("parent = auto\n", "lo", "lo"),
    "none, and auto": ("parent = auto\n", "", "eth0"),
    "another than the one named": ("parent = eth0\n", "lo", "eth0"),
}


@pytest.mark.parametrize(("settings", "there", "then"), FOUND.values(), ids=FOUND)
def test_one_of_ours_is_made_anew_only_where_the_settings_say_so(
    machine: Machine, settings: str, there: str, then: str
) -> None:
    kernel = machine.kernel
    index = kernel.named(there).ifindex if there else 0
    kernel.set_link(kernel.add_link(Link("ipsec7", "xfrm", if_id=7, parent=index)).ifindex, alias=OUR_ALIAS)
    done = up(machine, settings)
    assert parent_of(machine, "ipsec7") == then
    assert bool(done) == (there != then)


def test_a_claim_s_own_device_goes_to_the_one_that_edited_settings_name(machine: Machine) -> None:
    """What it asked for before is looked at too."""
    up(machine, "parent = auto\n")
    assert up(machine, "parent = lo\n") == ["ip link del ipsec7", "ip link add ipsec7 type xfrm dev lo if_id 7"]
    assert up(machine, "parent = auto\n") == []
    assert parent_of(machine, "ipsec7") == "lo"


def test_two_connections_on_one_interface_name_one_parent(machine: Machine) -> None:
    """Another is a conflict, as another if_id is; one that names none takes what is there."""
    sections = ("[connection c]\ninterface = ipsec7\nparent = eth0\n", "[connection d]\ninterface = ipsec7\nparent = lo\n")
    machine.settings("".join(sections))
    machine.send(charon_call(CHILD, "up"))
    other = CHILD._replace(name="d", reqid=2, pairs=(("10.1.0.0/24", "10.3.0.0/24"),))
    with pytest.raises(Conflict, match="ipsec7") as refusal:
        machine.send(charon_call(other, "up", 2))
    assert "parent eth0, wanted lo" in f"{refusal.value.text} {refusal.value.hint}"
    assert parent_of(machine, "ipsec7") == "eth0"
    machine.settings(sections[0] + "[connection d]\ninterface = ipsec7\n")
    machine.send(charon_call(other, "up", 2))
    assert parent_of(machine, "ipsec7") == "eth0"


def test_an_interface_is_not_its_own_parent(machine: Machine) -> None:
    with pytest.raises(Refused, match="parent = ipsec7 is the tunnel's interface itself"):
        up(machine, "parent = ipsec7\n")
    assert machine.devices() == set()


@pytest.mark.parametrize("settings", ["parent = lo\n", "parent = auto\n"])
def test_somebody_else_s_is_taken_as_it_is(machine: Machine, settings: str) -> None:
    machine.kernel.add_link(Link("ipsec7", "xfrm", if_id=7))
    assert up(machine, settings) == []
    assert parent_of(machine, "ipsec7") == ""


def test_one_that_is_not_there_is_told_with_what_to_do(machine: Machine) -> None:
    with pytest.raises(Conflict, match="ipsec7 has no parent eth9, for c: there is no such device") as refusal:
        up(machine, "parent = eth9\n")
    assert "`parent`" in refusal.value.hint
    assert machine.devices() == set()
