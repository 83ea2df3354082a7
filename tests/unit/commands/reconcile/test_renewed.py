"""`reconcile` counts `mtu = auto` anew: a rekeying, a move or a NAT tells no hook."""

from __future__ import annotations

from typing import cast

import pytest

from tests.kit.charon import Child as CharonChild
from tests.kit.charon import charon_call
from tests.kit.machine import EAST, WEST, Machine, Tunnel, call, establish
from tests.kit.outgoing_sa import CBC, GCM, Sas
from tests.kit.reconciling import LATER, child, database, reconcile_with, said
from updown.commands.reconcile.decide import Evidence
from updown.commands.reconcile.report import Outcome, outcome_json, outcome_lines
from updown.concerns.mtu import TRANSPORT
from updown.daemons.answer import ANSWERED, ChildSa, DaemonAnswer
from updown.kernel import path_mtu
from updown.model.ipsec import Database, Key, Sa, State
from updown.model.objects import Route
from updown.output.report import operation_json

T = Tunnel()
SPI = 0x1001
TUNNELS = {"IPv4 inside": (T, 1446, 1438), "IPv6 inside": (T._replace(mine="fd00:1::/64", theirs="fd00:2::/64"), 1446, 1438)}


@pytest.fixture
def sas(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Sas:
    return Sas(machine, monkeypatch)


def reconcile(machine: Machine, sa: Sa, tunnel: Tunnel = T, now: int = LATER, dry: bool = False) -> Outcome:
    """With one child whose outgoing SA is this."""
    word = said(child(tunnel, spi_out=SPI))
    there = database(tunnel)
    there = there._replace(states=(*there.states, State(WEST, EAST, SPI, 1, sa)))
    facts = Evidence({"libreswan": word}, there)
    return reconcile_with(machine, facts, now, dry)


def sizes(machine: Machine, tunnel: Tunnel) -> tuple[int, list[int]]:
    routes = [entry.route for entry in machine.kernel.table if entry.route.destination == tunnel.theirs]
    return machine.kernel.named("vti5").mtu, [route.mtu for route in routes]


@pytest.mark.parametrize("name", TUNNELS)
def test_other_algorithms_after_a_rekeying_give_another_size(machine: Machine, sas: Sas, name: str) -> None:
    tunnel, before, after = TUNNELS[name]
    machine.settings("[defaults]\nmtu = auto\n")
    machine.send_all(establish(tunnel))
    assert sizes(machine, tunnel) == (before, [before])
    assert outcome_lines(reconcile(machine, GCM, tunnel), False) == ["# nothing to do"]
    outcome = reconcile(machine, CBC, tunnel)
    assert sizes(machine, tunnel) == (after, [after])
    text = "mtu vti5: eth0 1500 - IPv4 20 - ESP 8 - IV 16 - ICV 16 - trailer 2 = 1438"
    assert outcome_lines(outcome, False)[0] == f"# t: {text}"
    assert outcome_lines(reconcile(machine, CBC, tunnel), False) == ["# nothing to do"]
    sas.use(CBC)
    assert machine.send(call(tunnel, "up")).operations == (), "the next event counts the same"


def test_an_edit_to_auto_is_told_with_the_sum(machine: Machine, sas: Sas) -> None:
    del sas
    machine.settings("[defaults]\nmtu = 1400\n")
    machine.send_all(establish(T))
    machine.settings("[defaults]\nmtu = auto\n")
    ((_, edits),) = reconcile(machine, GCM).decision.edited
    assert [edit.text for edit in edits] == [
        "mtu vti5: size 1400 -> size 1446 (vti-updown.conf:2)",
        "route 10.2.0.0/24: mtu 1400 -> mtu 1446 (vti-updown.conf:2)",
    ]
    assert sizes(machine, T) == (1446, [1446])


def test_a_dry_run_shows_it_and_changes_nothing(machine: Machine, sas: Sas) -> None:
    del sas
    machine.settings("[defaults]\nmtu = auto\n")
    machine.send_all(establish(T))
    outcome = reconcile(machine, CBC, dry=True)
    commands = [operation_json(operation)["command"] for operation in outcome.report.operations]
    assert commands == ["ip link set vti5 mtu 1438", "ip route replace 10.2.0.0/24 dev vti5 proto 160 mtu 1438"]
    assert sizes(machine, T) == (1446, [1446])
    (told,) = cast("list[dict[str, object]]", outcome_json(outcome, 0)["claims_recounted"])
    assert told["connection"] == "t"


def test_a_narrower_underlay_counts(machine: Machine, sas: Sas) -> None:
    del sas
    machine.settings("[defaults]\nmtu = auto\n")
    machine.send_all(establish(T))
    eth0 = machine.kernel.named("eth0")
    machine.kernel.by_index[eth0.ifindex] = eth0._replace(mtu=1400)
    reconcile(machine, GCM)
    assert sizes(machine, T) == (1346, [1346])


UNTOUCHED = {
    "a number in the settings": ("[defaults]\nmtu = 1400\n", T, CBC, 1400),
    "an algorithm that is not known": ("[defaults]\nmtu = auto\n", T, GCM._replace(cipher="rot13"), 1446),
    "no SA in the kernel": ("[defaults]\nmtu = auto\n", T._replace(peer="198.51.100.77"), CBC, 1446),
}


@pytest.mark.parametrize("name", UNTOUCHED)
def test_it_stays_as_it_is(machine: Machine, sas: Sas, name: str) -> None:
    del sas
    text, tunnel, sa, size = UNTOUCHED[name]
    machine.settings(text)
    machine.send_all(establish(tunnel))
    assert outcome_lines(reconcile(machine, sa, tunnel), False) == ["# nothing to do"]
    assert sizes(machine, tunnel) == (size, [size])


def test_a_route_with_a_size_of_its_own_keeps_it(machine: Machine, sas: Sas) -> None:
    """libreswan's mtu= is for the routes."""
    del sas
    machine.settings("[defaults]\nmtu = auto\n")
    tunnel = T._replace(mtu="1300")
    machine.send_all(establish(tunnel))
    reconcile(machine, CBC, tunnel)
    assert sizes(machine, tunnel) == (1438, [1300])
    assert Route("10.2.0.0/24", "vti5", mtu=1300) in [want for claim in machine.claims() for want in claim.resources]


def test_settings_that_ask_for_it_by_now_are_served(machine: Machine, sas: Sas) -> None:
    del sas
    machine.settings("[defaults]\nmtu = 1400\n")
    machine.send_all(establish(T))
    machine.settings("[defaults]\nmtu = auto\n")
    reconcile(machine, GCM)
    assert sizes(machine, T) == (1446, [1446])
    machine.settings("[defaults]\nmtu = 1300\n")
    reconcile(machine, GCM)
    assert sizes(machine, T) == (1300, [1300])


@pytest.mark.parametrize(("compressed", "size"), [(True, 1446), (False, 1466)])
def test_ipcomp_over_an_xfrm_interface_counts_as_it_did(
    machine: Machine, sas: Sas, monkeypatch: pytest.MonkeyPatch, compressed: bool, size: int
) -> None:
    """Its ESP is in transport mode, as that of a tunnel without it is not."""
    below = GCM._replace(mode=TRANSPORT)
    sas.use(below)
    outgoing = State(WEST, EAST, SPI, 1, below, Key(if_id=42))
    monkeypatch.setattr(path_mtu, "outgoing_sa", lambda _: outgoing)
    machine.settings("[connection c]\ninterface = ipsec42\nrouting = yes\nmtu = auto\n")
    one = CharonChild("c", mark_in="", mark_out="", if_id_in="42", if_id_out="42")
    mode = {"PLUTO_IPCOMP": "1"} if compressed else {"PLUTO_MODE": "transport"}
    machine.send({**charon_call(one, "up"), **mode})
    assert machine.kernel.named("ipsec42").mtu == size
    told = ChildSa("strongswan", "c", one.me, one.peer, 1, SPI, 1, 1, if_id_in=42, if_id_out=42, remote_ts=("10.2.0.0/24",))
    facts = Evidence({"strongswan": DaemonAnswer(ANSWERED, children=(told,))}, Database(states=(outgoing,)))
    outcome = reconcile_with(machine, facts)
    assert outcome.report.operations == ()
    assert machine.kernel.named("ipsec42").mtu == size
