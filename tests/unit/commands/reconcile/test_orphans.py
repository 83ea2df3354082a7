"""What is ours and no claim asks for goes, and what others made or the settings keep stays; also after a lost ledger."""

from __future__ import annotations

import shutil

import pytest

from tests.kit.machine import EAST, WEST, Machine, Tunnel, establish, withdraw
from tests.kit.reconciling import child, database, foreign, reconcile, said, settled
from updown.commands.reconcile.report import outcome_lines
from updown.model.objects import Route

T = Tunnel()
SHARED = T._replace(shared="yes", device="vti9", mark_in="9/0xffffffff", mark_out="9/0xffffffff")


def test_a_device_of_ours_that_no_claim_asks_for_goes(machine: Machine) -> None:
    foreign(machine)
    outcome = reconcile(machine, said())
    assert machine.devices() == set()
    assert [operation.reason.code for operation in outcome.report.operations] == ["orphan"]


def test_one_that_serves_several_peers_stays_but_its_routes_go(machine: Machine) -> None:
    machine.send_all(establish(SHARED) + withdraw(SHARED))
    assert machine.devices() == {"vti9"}
    index = machine.kernel.named("vti9").ifindex
    machine.kernel.add_route(Route("10.8.0.0/24", "vti9"), index)
    machine.kernel.add_route(Route("10.7.0.0/24", "vti9", protocol=4), index)
    reconcile(machine, said())
    assert machine.devices() == {"vti9"}
    assert machine.kernel.routes_by("vti9") == {"10.7.0.0/24"}
    settled(machine, said())


@pytest.mark.parametrize(
    ("settings", "stays"),
    [
        ("", False),
        ("[device vti8]\ndelete = never", True),
        ("[defaults]\ndelete = never", True),
        ("[connection t]\ndelete = never", True),
        ("[connection t]\ndelete = last", False),
    ],
)
def test_settings_may_keep_a_left_over(machine: Machine, settings: str, stays: bool) -> None:
    foreign(machine)
    machine.settings(settings)
    reconcile(machine, said())
    assert machine.devices() == ({"vti8"} if stays else set())


def test_delete_last_takes_a_shared_left_over(machine: Machine) -> None:
    foreign(machine, remote="0.0.0.0")
    machine.settings("[device vti8]\ndelete = last")
    reconcile(machine, said())
    assert machine.devices() == set()


def test_what_others_made_is_left(machine: Machine) -> None:
    foreign(machine, alias="")
    machine.kernel.fallback()
    eth0 = machine.kernel.named("eth0").ifindex
    machine.kernel.add_route(Route("10.9.0.0/24", "eth0", protocol=4), eth0)
    reconcile(machine, said())
    assert machine.devices() == {"vti8", "ip_vti0"}
    assert machine.kernel.routes_by("vti8") == set()  # that route had our number
    assert "10.9.0.0/24" in machine.kernel.routes_by("eth0")


@pytest.mark.parametrize("lost", ["", "DELETE FROM made"])
def test_a_lost_ledger_costs_no_live_tunnel(machine: Machine, lost: str) -> None:
    machine.send_all(establish(T._replace(address="10.99.0.1/30")))
    before = machine.kernel.picture()
    with machine.ledger() as ledger:
        ledger.base.executescript(f"DELETE FROM claim; DELETE FROM want; {lost}")
    outcome = reconcile(machine, said(child(T)), database(T))
    assert machine.kernel.picture() == before
    assert [line for line in outcome.report.remarks if line.startswith("vti5 is ours and no claim holds it, but")]
    assert outcome.report.warnings == (f"pluto has t up ({WEST} - {EAST}) and no claim counts it; take it down and up again",)
    reconcile(machine, said())
    assert machine.devices() == set()


@pytest.mark.parametrize("shared", [False, True], ids=["", "shared, delete = last"])
def test_after_a_lost_ledger_one_tunnel_takes_nothing_from_the_others_on_its_device(machine: Machine, shared: bool) -> None:
    """Their claims are unknown until they come up again: the kernel's policies tell of them."""
    machine.settings("[defaults]\ndelete = last\n" if shared else "")
    one = T._replace(shared="yes") if shared else T
    other = one._replace(connection="u", theirs="10.3.0.0/24", reqid=16392)
    both = said(child(one), child(other))
    machine.kernel.ipsec = database(one, other).policies
    machine.send_all(establish(one) + establish(other))
    shutil.rmtree(machine.folder)
    reconcile(machine, both, database(one, other))
    machine.send_all(establish(one))
    reconcile(machine, both, database(one, other))
    assert ("10.3.0.0/24", "vti5") in machine.routes()
    reports = machine.send_all(withdraw(one))
    assert machine.devices() == {"vti5"}
    assert machine.routes() == {("10.3.0.0/24", "vti5")}
    told = [text for report in reports for text in report.warnings]
    assert [text for text in told if text.startswith("vti5 stays: the ledger was lost once")]
    machine.kernel.ipsec = ()
    reconcile(machine, said(), database())
    assert machine.devices() == set()


def test_after_a_lost_ledger_the_only_tunnel_takes_its_device_along(machine: Machine) -> None:
    machine.kernel.ipsec = database(T).policies
    machine.send_all(establish(T))
    shutil.rmtree(machine.folder)
    machine.send_all(establish(T))
    machine.send_all(withdraw(T))
    assert machine.devices() == set()


def test_an_address_of_ours_on_a_device_that_stays_goes(machine: Machine) -> None:
    machine.send_all(establish(SHARED._replace(address="10.99.0.1/30")))
    with machine.ledger() as ledger:
        ledger.base.executescript("DELETE FROM claim; DELETE FROM want")
    reconcile(machine, said())
    assert machine.addresses("vti9") == []
    assert machine.made().keys() == {"device vti9"}


def test_a_way_to_a_peer_stays_with_its_tunnel_and_goes_without(machine: Machine) -> None:
    full = T._replace(theirs="0.0.0.0/0", mine="0.0.0.0/0", next_hop="198.51.100.254", peer="203.0.113.9")
    machine.send_all(establish(full))
    assert ("203.0.113.9/32", "eth0") in machine.routes()
    settled(machine, said(child(full)), database(full))
    with machine.ledger() as ledger:
        ledger.base.executescript("DELETE FROM claim; DELETE FROM want")
    reconcile(machine, said())
    assert machine.routes() == set()


def test_the_way_to_a_peer_follows_the_machines_own_default_route(machine: Machine) -> None:
    """Another gateway by DHCP; while there is none at all, the way stays as it was."""
    full = T._replace(theirs="0.0.0.0/0", mine="0.0.0.0/0", next_hop="198.51.100.254", peer="203.0.113.9")
    machine.send_all(establish(full))
    eth0 = machine.kernel.named("eth0").ifindex
    machine.kernel.delete_route(Route("0.0.0.0/0", "eth0", "198.51.100.254", protocol=3), eth0)
    settled(machine, said(child(full)), database(full))
    machine.kernel.add_route(Route("0.0.0.0/0", "eth0", "198.51.100.253", protocol=3), eth0)
    dry = reconcile(machine, said(child(full)), database(full), dry=True)
    outcome = reconcile(machine, said(child(full)), database(full))
    for one in (dry, outcome):
        assert outcome_lines(one, False) == ["ip route replace 203.0.113.9/32 via 198.51.100.253 dev eth0 proto 160"]
    path = machine.kernel.path("203.0.113.9")
    assert path is not None
    assert path.gateway == "198.51.100.253"
    settled(machine, said(child(full)), database(full))


def test_a_device_that_is_gone_is_forgotten(machine: Machine) -> None:
    machine.send_all(establish(SHARED) + withdraw(SHARED))
    machine.kernel.remove(machine.kernel.named("vti9").ifindex)
    reconcile(machine, said())
    assert machine.made() == {}
