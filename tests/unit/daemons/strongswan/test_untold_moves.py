"""strongSwan's silent moves, and what its children are like that reconcile pairs with claims: of such things no call tells."""

import errno
from typing import Any

import pytest

from tests.kit.charon import Child, charon_call, charon_calls
from tests.kit.machine import Machine
from tests.kit.reconciling import reconcile_with
from updown.commands.probe import targets
from updown.commands.reconcile.decide import Evidence
from updown.commands.reconcile.report import Outcome
from updown.daemons.answer import ANSWERED, DaemonAnswer
from updown.daemons.answer import ChildSa as Told
from updown.ledger.file import open_ledger
from updown.ledger.liveness import receiving_devices
from updown.model.errors import KernelError
from updown.model.ipsec import Database
from updown.model.objects import Route
from updown.output.iproute2 import command

SETTINGS = "[connection c]\ninterface = tun5\nrouting = yes\n"
XFRM: Any = {"mark_in": "", "mark_out": "", "if_id_in": "42", "if_id_out": "42"}
KINDS = pytest.mark.parametrize("keys", [XFRM, {}], ids=["XFRM interface", "VTI"])
FAR = "203.0.113.2"
EVERYTHING = (("10.3.0.1/32", "0.0.0.0/0"),)
HALVES = {("0.0.0.0/1", "tun5"), ("128.0.0.0/1", "tun5")}


def told(child: Child, me: str = "", peer: str = "", **more: Any) -> Told:
    """What charon says of a child."""
    numbers = [text.partition("/")[0] for text in (child.mark_in, child.mark_out, child.if_id_in, child.if_id_out)]
    mark_in, mark_out, if_id_in, if_id_out = (int(text or 0) for text in numbers)
    return Told(
        "strongswan",
        child.name,
        me or child.me,
        peer or child.peer,
        spi_in=1,
        spi_out=2,
        reqid=child.reqid,
        unique_id=1,
        mark_in=mark_in,
        mark_out=mark_out,
        if_id_in=if_id_in,
        if_id_out=if_id_out,
        remote_ts=tuple(remote for _, remote in child.pairs),
        ids=(child.my_id, child.peer_id),
        wants_device=True,
    )._replace(**more)


def reconcile(machine: Machine, *children: Told) -> Outcome:
    facts = Evidence({"strongswan": DaemonAnswer(ANSWERED, since=1, children=children)}, Database())
    return reconcile_with(machine, facts)


def settled(machine: Machine, *children: Told) -> None:
    again = reconcile(machine, *children)
    assert (again.report.operations, again.report.warnings) == ((), ())


@KINDS
def test_a_peer_that_moved_has_its_way_outside_the_tunnel(machine: Machine, keys: Any) -> None:
    machine.settings(SETTINGS)
    child = Child("c", pairs=EVERYTHING, **keys)
    machine.send_all(charon_calls(child, "up"))
    moved = told(child, peer=FAR)
    reconcile(machine, moved)
    assert machine.routes() == HALVES | {(f"{FAR}/32", "eth0")}
    settled(machine, moved)


@KINDS
def test_a_peer_that_moved_into_the_remote_network_is_not_routed_into_the_tunnel(machine: Machine, keys: Any) -> None:
    machine.settings(SETTINGS)
    child = Child("c", pairs=(("10.1.0.0/24", "10.0.0.0/8"),), **keys)
    machine.send_all(charon_calls(child, "up"))
    moved = told(child, peer="10.200.0.9")
    reconcile(machine, moved)
    assert machine.routes() == {("10.0.0.0/8", "tun5"), ("10.200.0.9/32", "eth0")}
    settled(machine, moved)
    reconcile(machine, told(child))
    assert machine.routes() == {("10.0.0.0/8", "tun5")}


@KINDS
def test_our_own_move_to_another_device_leaves_the_routes_and_finds_the_way(machine: Machine, keys: Any) -> None:
    machine.settings(SETTINGS)
    child = Child("c", pairs=EVERYTHING, peer=FAR, **keys)
    machine.send_all(charon_calls(child, "up"))
    kernel = machine.kernel
    eth0 = kernel.named("eth0").ifindex
    wwan0 = kernel.physical("wwan0", "192.0.2.7/24")
    kernel.set_link(eth0, up=False)
    for address in list(kernel.addresses(eth0)):
        kernel.delete_address(eth0, address)
    kernel.add_route(Route("0.0.0.0/0", "wwan0", "192.0.2.254", protocol=3), wwan0)
    moved = told(child, me="192.0.2.7")
    outcome = reconcile(machine, moved)
    assert outcome.report.warnings == ()
    assert machine.routes() == HALVES | {(f"{FAR}/32", "wwan0")}
    settled(machine, moved)


@KINDS
def test_two_sas_of_one_child_in_one_ike_sa_each_back_their_claim(machine: Machine, keys: Any) -> None:
    """IKEv1's quick modes, or a peer that makes an SA for each pair; and a rekeyed one beside its narrower successor."""
    machine.settings(SETTINGS)
    pairs = (("10.1.0.0/24", "10.2.0.0/24"), ("10.1.0.0/24", "10.3.0.0/24"))
    one, other = (Child("c", pairs=(pair,), reqid=number, **keys) for number, pair in enumerate(pairs, 1))
    machine.send_all([charon_call(one, "up"), charon_call(other, "up")])
    both = {("10.2.0.0/24", "tun5"), ("10.3.0.0/24", "tun5")}
    whole = told(Child("c", pairs=pairs, **keys))
    for answer in ((told(one), told(other)), (told(other), told(one)), (whole, told(one))):
        assert reconcile(machine, *answer).decision.ended == ()
        assert machine.routes() == both
    assert len(reconcile(machine, told(other)).decision.ended) == 1
    assert machine.routes() == {("10.3.0.0/24", "tun5")}


def test_kind_and_external_count_in_a_device_s_own_section(machine: Machine) -> None:
    machine.settings("[connection c]\ninterface = ipsec0\n[device ipsec0]\nkind = xfrm\n")
    machine.send(charon_call(Child("c", if_id_in="42", if_id_out="42"), "up"))
    assert (machine.kernel.named("ipsec0").kind, machine.kernel.named("ipsec0").if_id) == ("xfrm", 42)
    machine.settings("[connection d]\ninterface = ipsec9\n[device ipsec9]\nexternal = yes\n")
    machine.send(charon_call(Child("d", mark_in="", mark_out="", if_id_in="1", if_id_out="2"), "up"))
    assert machine.kernel.named("ipsec9").external


def test_a_pair_of_interfaces_is_probed_by_the_one_it_sends_by(machine: Machine) -> None:
    """What leaves by one comes back by the other."""
    machine.settings("[defaults]\ninterface = ipsec{if_id}\nprobe = 10.6.106.2\n")
    two = Child("two", mark_in="", mark_out="", if_id_in="1", if_id_out="2")
    machine.send_all(charon_calls(two, "up") + charon_calls(Child("one", **XFRM), "up"))
    with open_ledger(str(machine.folder), "1") as ledger:
        assert targets(ledger, lambda _: machine.lines) == dict.fromkeys(("ipsec2", "ipsec42"), "10.6.106.2")
        assert receiving_devices(ledger) == {"ipsec2": ("ipsec1",), "ipsec42": ("ipsec42",)}


def test_of_several_that_send_by_one_interface_each_is_heard(machine: Machine) -> None:
    machine.settings("[defaults]\ninterface = ipsec{if_id}\nprobe = 10.6.106.2\nshared = yes\n")
    for name, coming in (("a", "2"), ("b", "1"), ("c", "3")):
        machine.send(charon_call(Child(name, mark_in="", mark_out="", if_id_in=coming, if_id_out="2"), "up"))
    with open_ledger(str(machine.folder), "1") as ledger:
        assert targets(ledger, lambda _: machine.lines) == {"ipsec2": "10.6.106.2"}
        assert receiving_devices(ledger) == {"ipsec2": ("ipsec1", "ipsec2", "ipsec3")}


def test_a_second_tunnel_to_one_prefix_is_warned_on_an_external_interface_too(machine: Machine) -> None:
    """The device is the same; the if_id is not."""
    machine.settings("[defaults]\ninterface = ipsec0\nexternal = yes\nshared = yes\nrouting = yes\n")
    one, two = (Child(name, **{**XFRM, "if_id_in": number, "if_id_out": number}) for name, number in ("a1", "b2"))
    reports = machine.send_all([charon_call(one, "up"), charon_call(two, "up"), charon_call(one, "up")])
    waits = "10.2.0.0/24 is held by a on ipsec0, if_id 1; ours waits. A metric orders the two"
    assert [report.warnings for report in reports] == [(), (waits,), ()]


def test_a_route_of_ipv6_with_a_gateway_is_not_put_beside_another(machine: Machine) -> None:
    """The kernel would make one of the two, by both interfaces."""
    own = "address = 10.99.0.1/30, fd00:99::1/64\nroute = 10.55.0.0/24 via 10.99.0.2, fd00:55::/64 via fd00:99::2\n"
    machine.settings(f"[defaults]\ninterface = ipsec{{if_id}}\nrouting = yes\n{own}")
    old, new = (Child("c", **{**XFRM, "if_id_in": n, "if_id_out": n}) for n in ("1", "2"))
    machine.send_all([charon_call(old, "up", 1), charon_call(new, "up", 2)])
    done = [command(operation) for operation in machine.send(charon_call(old, "down", 1)).operations]
    assert "ip route prepend 10.55.0.0/24 via 10.99.0.2 dev ipsec2 proto 160" in done
    assert done.index("ip link del ipsec1") < done.index("ip route add fd00:55::/64 via fd00:99::2 dev ipsec2 proto 160")


def test_a_route_that_could_not_be_put_beside_the_old_one_is_tried_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one went with its interface."""
    machine.settings("[defaults]\ninterface = ipsec{if_id}\nrouting = yes\n")
    old, new = (Child("c", **{**XFRM, "if_id_in": n, "if_id_out": n}) for n in ("1", "2"))
    machine.send_all([charon_call(old, "up", 1), charon_call(new, "up", 2)])
    real = machine.kernel.add_route

    def add_route(*arguments: Any, **more: Any) -> None:
        if more.get("beside"):
            raise KernelError("route prepend 10.2.0.0/24: no", errno.ENOMEM)
        real(*arguments, **more)

    monkeypatch.setattr(machine.kernel, "add_route", add_route)
    report = machine.send(charon_call(old, "down", 1))
    assert report.warnings == ("route prepend 10.2.0.0/24: no",)
    assert machine.unfinished() != []
    machine.send(charon_call(new, "up", 2))
    assert machine.routes() == {("10.2.0.0/24", "ipsec2")}
    assert machine.unfinished() == []


@pytest.mark.parametrize("source", ["", "10.3.0.1"], ids=["", "with a virtual IP"])
def test_a_route_is_handed_over_before_its_device_is_deleted(machine: Machine, source: str) -> None:
    """Make-before-break with unique if_ids: the deletion takes long."""
    machine.settings("[defaults]\ninterface = ipsec{if_id}\nrouting = yes\n")
    virtual = (source,) if source else ()
    old, new = (Child("c", **{**XFRM, "if_id_in": n, "if_id_out": n}, virtual=virtual) for n in ("1", "2"))
    machine.send_all([charon_call(old, "up", 1), charon_call(new, "up", 2)])
    done = [command(operation) for operation in machine.send(charon_call(old, "down", 1)).operations]
    replaced = "ip route prepend 10.2.0.0/24 dev ipsec2 proto 160" + (f" src {source}" if source else "")
    assert [line for line in done if "route" in line or "link" in line] == [replaced, "ip link del ipsec1"]
    assert machine.routes() == {("10.2.0.0/24", "ipsec2")}
