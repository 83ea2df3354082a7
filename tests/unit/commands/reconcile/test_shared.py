"""reconcile and release where something is shared: selectors of two clients, a table of two tunnels, a route of two devices."""

from __future__ import annotations

import errno
import shutil
from typing import cast

import pytest

from tests.kit.charon import Child as Charon
from tests.kit.charon import charon_calls
from tests.kit.machine import THIRD, Machine, Tunnel, call, establish, withdraw
from tests.kit.reconciling import child, database, reconcile, reconcile_with, said
from updown.commands.adopt import release
from updown.commands.reconcile.decide import Evidence
from updown.daemons.answer import ChildSa
from updown.kernel.netlink.rtnetlink import Netlink
from updown.model.errors import KernelError
from updown.model.ipsec import Database
from updown.model.objects import OUR_PROTOCOL
from updown.plan.ownership import STATIC

T = Tunnel()
U = Tunnel("u", peer=THIRD, device="vti6", mark_in="6/0xff", mark_out="6/0xff", reqid=16400)
CLIENTS = "[defaults]\ninterface = tun0\nrouting = yes\nshared = yes\ndelete = last\n"
FIRST = Charon("net", peer_id="p1", peer="203.0.113.1")
SECOND = Charon("net", peer_id="p2", peer="203.0.113.2")


def charons(machine: Machine, *children: tuple[Charon, int]) -> None:
    """reconcile, where charon has these children, by IKE SAs with these numbers."""
    told = [
        ChildSa("strongswan", one.name, one.me, one.peer, unique_id=number, mark_in=5, mark_out=5, wants_device=True)._replace(
            remote_ts=(one.pairs[0][1],), ids=(one.my_id, one.peer_id)
        )
        for one, number in children
    ]
    reconcile_with(machine, Evidence({"strongswan": said(*told)}, Database()))


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("alive", [FIRST, SECOND], ids=["the older", "the newer"])
def test_of_two_clients_with_one_selector_the_one_with_the_identity_lives(machine: Machine, alive: Charon, number: int) -> None:
    """A pool gave the lease to another, or charon was killed and counts from 1 again: the number does not say who it is."""
    machine.settings(CLIENTS)
    machine.send_all(charon_calls(FIRST, "up", 1) + charon_calls(SECOND, "up", 2))
    charons(machine, (alive, number))
    assert [claim.sa.peer for claim in machine.claims()] == [alive.peer]
    machine.send_all(charon_calls(alive, "down", number))
    assert machine.claims() == []
    assert machine.devices() == set()


def test_identities_that_charon_writes_otherwise_cost_no_live_tunnel(machine: Machine) -> None:
    """vici and the hook's variables are two texts of one identity."""
    machine.settings(CLIENTS)
    machine.send_all(charon_calls(FIRST, "up", 1))
    charons(machine, (FIRST._replace(peer_id="CN=p1"), 1))
    assert [claim.sa.peer for claim in machine.claims()] == [FIRST.peer]


def test_two_clients_with_one_selector_and_one_number_of_two_charons_are_two(machine: Machine) -> None:
    """The first one's charon was killed, and knows nothing of it any more."""
    machine.settings(CLIENTS)
    machine.send_all(charon_calls(FIRST, "up", 1) + charon_calls(SECOND, "up", 1))
    charons(machine, (SECOND, 1))
    assert [claim.sa.peer for claim in machine.claims()] == [SECOND.peer]


def test_a_lost_ledger_costs_no_live_tunnel_its_rule(machine: Machine) -> None:
    """Traffic finds the tunnel's table by it; the rule of a tunnel that is gone goes."""
    machine.settings("[connection t]\ntable = 77\nrule = from 10.1.0.0/24\n[connection u]\ntable = 78\nrule = iif lan0\n")
    machine.send_all(establish(T) + establish(U))
    shutil.rmtree(machine.folder)
    reconcile(machine, said(child(T)), database(T))
    assert {rule.table for rule in machine.kernel.rules(4) if rule.protocol == OUR_PROTOCOL} == {77}
    assert machine.devices() == {"vti5"}
    reconcile(machine, said())
    assert [rule for rule in machine.kernel.rules(4) if rule.protocol == OUR_PROTOCOL] == []


@pytest.mark.parametrize("name", ["vti5", "vti6"])
def test_a_released_device_keeps_the_route_that_it_shares(machine: Machine, name: str) -> None:
    """By itself: two of one prefix and metric there cannot be, and with the other device the kernel would take all of it."""
    machine.settings("[defaults]\nmultipath = yes\n")
    machine.send_all(establish(T) + establish(U))
    with machine.ledger() as ledger:
        report = release(name, ledger, cast(Netlink, machine.kernel), False)
    assert f"by {name} alone, no more by others too: 10.2.0.0/24; a metric orders it and theirs" in report.remarks
    machine.send_all(withdraw(T if name == "vti6" else U))
    (left,) = [route for route in machine.kernel.routes(4) if route.destination == "10.2.0.0/24"]
    assert left.protocol == STATIC
    assert (left.oif, left.hops) == (machine.kernel.named(name).ifindex, ())


def test_a_sibling_that_waits_where_the_settings_name_the_device_ends_with_the_next_reconcile(machine: Machine) -> None:
    """Our address moved, and the last `unroute` for both comes from the new one: nothing in it names the device."""
    machine.settings("[defaults]\ninterface = vti5\nrouting = yes\nshared = yes\ndelete = last\n")
    one = T._replace(device="", routing="", shared="")
    other = one._replace(connection="s", reqid=16400)
    machine.send_all(establish(one) + establish(other))
    machine.send(call(other, "down", wishes=("UP",)))
    machine.send(call(one, "down"))
    machine.send(call(one._replace(me="198.51.100.9"), "unroute", child=False))
    assert machine.kinds() == {("s", "revive")}
    reconcile(machine, said())
    assert machine.claims() == []
    assert machine.devices() == set()


@pytest.mark.parametrize("ids", [("", ""), ("west", "CN=x")], ids=["not told", "in another form"])
def test_one_child_of_an_unknown_identity_backs_one_claim(machine: Machine, ids: tuple[str, str]) -> None:
    """The newest of those that it may be."""
    machine.settings(CLIENTS)
    machine.send_all(charon_calls(FIRST, "up", 1) + charon_calls(SECOND, "up", 2))
    charons(machine, (SECOND._replace(my_id=ids[0], peer_id=ids[1]), 2))
    assert [claim.sa.peer for claim in machine.claims()] == [SECOND.peer]


@pytest.mark.parametrize("networks", [("10.1.0.0/24", "10.2.0.0/24"), ("fd00:1::/64", "fd00:2::/64")], ids=["4", "6"])
@pytest.mark.parametrize("lives", ["vti5", "vti6"])
def test_a_lost_ledger_costs_no_live_tunnel_the_route_that_it_shares(
    machine: Machine, lives: str, networks: tuple[str, str]
) -> None:
    """Nor its rule: the tunnel that is gone is one hop of several."""
    machine.settings("[defaults]\nmultipath = yes\ntable = 77\nrule = from 10.1.0.0/24\n")
    one, other = (tunnel._replace(mine=networks[0], theirs=networks[1]) for tunnel in (T, U))
    machine.send_all(establish(one) + establish(other))
    shutil.rmtree(machine.folder)
    alive = one if lives == "vti5" else other
    reconcile(machine, said(child(alive)), database(alive))
    assert machine.devices() == {lives}
    assert machine.routes() == {(networks[1], lives)}
    assert [rule.table for rule in machine.kernel.rules(4) if rule.protocol == OUR_PROTOCOL] == [77]
    again = reconcile(machine, said(child(alive)), database(alive))
    assert again.report.operations == ()


def test_a_shared_route_that_cannot_be_changed_is_told_and_keeps_nothing_else_from_its_due(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.settings("[defaults]\nmultipath = yes\n")
    third = U._replace(connection="v", peer="198.51.100.9", device="vti7", theirs="10.7.0.0/24", reqid=16408)
    machine.send_all([*establish(T), *establish(U), *establish(third._replace(mark_in="7/0xff", mark_out="7/0xff"))])
    shutil.rmtree(machine.folder)

    def refuse(*_: object) -> None:
        raise KernelError("route delete 10.2.0.0/24: Operation not permitted", errno.EPERM)

    real = machine.kernel.delete_route
    monkeypatch.setattr(machine.kernel, "delete_route", refuse)
    outcome = reconcile(machine, said(child(U)), database(U))
    monkeypatch.setattr(machine.kernel, "delete_route", real)
    assert "route delete 10.2.0.0/24: Operation not permitted" in outcome.report.warnings
    assert "vti7" not in machine.devices()


def test_a_lost_ledger_costs_no_live_tunnel_the_rule_to_a_table_that_others_fill(machine: Machine) -> None:
    machine.settings("[defaults]\ntable = 77\nrouting = no\nrule = from 10.1.0.0/24\n")
    machine.send_all(establish(T._replace(routing="no")))
    shutil.rmtree(machine.folder)
    reconcile(machine, said(child(T)), database(T))
    assert [rule.table for rule in machine.kernel.rules(4) if rule.protocol == OUR_PROTOCOL] == [77]


def test_a_released_device_has_the_route_alone_whatever_the_others_are_called_by_now(machine: Machine) -> None:
    machine.settings("[defaults]\nmultipath = yes\n")
    machine.send_all(establish(T) + establish(U))
    first = machine.kernel.named("vti5")
    machine.kernel.by_index[first.ifindex] = first._replace(name="zz5")
    with machine.ledger() as ledger:
        report = release("vti6", ledger, cast(Netlink, machine.kernel), False)
    assert report.warnings == ()
    (left,) = [route for route in machine.kernel.routes(4) if route.destination == "10.2.0.0/24"]
    assert (left.protocol, left.oif) == (STATIC, machine.kernel.named("vti6").ifindex)
