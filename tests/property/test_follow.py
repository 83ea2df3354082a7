"""`link = follow`: a device of ours is up exactly while a claim of kind sa lives on it, in whatever order things happen.

Random sequences of both daemons' calls, with deaths and refusals, as in test_sequences.py; and that a look stays cheap.
"""

import random
from typing import ClassVar

import pytest

from tests.kit.grammar_libreswan import Libreswan
from tests.kit.grammar_strongswan import StrongSwan, StrongSwanOracle
from tests.kit.kernel_model import KEEP
from tests.kit.machine import Machine, SwiftMachine, Tunnel, call, establish, withdraw
from tests.kit.oracle import Follower, Oracle
from tests.kit.reconciling import reconcile, said
from tests.kit.sequences import SEED, Daemon, check, made_from
from updown.commands.status import run
from updown.model.claims import SA
from updown.model.objects import Link
from updown.model.resources import Device

SEQUENCES = 600
LOTS = 5
FOLLOW = "[device *]\nlink = follow\n"


class PlutoOracle(Follower, Oracle):
    pass


class CharonOracle(Follower, StrongSwanOracle):
    pass


class Pluto(Libreswan):
    """libreswan, whose devices follow."""

    oracle = PlutoOracle
    settings = Libreswan.settings + FOLLOW
    files: ClassVar[dict[str, str]] = {KEEP: "0"}


class Charon(StrongSwan):
    """strongSwan, likewise."""

    oracle = CharonOracle
    settings = StrongSwan.settings + FOLLOW
    files: ClassVar[dict[str, str]] = {KEEP: "0"}


@pytest.mark.parametrize("lot", range(LOTS))
@pytest.mark.parametrize("daemon", [Pluto, Charon])
def test_random_sequences(daemon: Daemon, lot: int) -> None:
    for number in range(lot, SEQUENCES, LOTS):
        check(daemon, made_from(daemon, f"{SEED}/follow/{number}"), f"seed {SEED}, sequence {number}")


@pytest.mark.parametrize("lot", range(LOTS))
def test_the_claims_themselves_say_what_is_up(lot: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the oracle: what the ledger's claims say, and what the kernel shows."""
    chance = random.Random(f"{SEED}/claims/{lot}")
    machine = SwiftMachine(monkeypatch)
    machine.kernel.files[KEEP] = "0"
    machine.settings(FOLLOW)
    seen = set()
    tunnels = [
        Tunnel(f"t{number}", theirs=f"10.{number}.0.0/24", shared="yes", reqid=16388 + 4 * number, address="fd00::1/64")
        for number in range(2)
    ]
    for _ in range(120):
        one = chance.choice(tunnels)
        kind = chance.choice(("up", "route", "trap", "down", "down", "revive", "revive", "unroute"))
        wishes = ("UP",) if kind == "revive" else ()
        verb = {"trap": "route", "revive": "down"}.get(kind, kind)
        machine.send(call(one, verb, child=kind != "trap", wishes=wishes))
        claims = machine.claims()
        wanted = any(claim.kind == SA for claim in claims)
        link = machine.kernel.link("vti5")
        if link is None:
            assert not claims
            continue
        assert link.up == wanted
        seen.add((wanted, bool(claims)))
        holds = {claim.sa.peer_client for claim in claims if claim.routed}
        assert machine.routes() == ({(route, "vti5") for route in holds} if wanted else set())
        assert ("fd00::1/64" in machine.addresses("vti5")) == any(
            isinstance(want, Device) for claim in claims for want in claim.resources
        )
    assert seen == {(True, True), (False, True), (False, False)}


def test_a_look_costs_the_same_with_hundreds_of_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps in SQLite and questions to the kernel, of the event that sets the device down and of those that leave it down."""
    assert cost(monkeypatch, 400) == cost(monkeypatch, 20)


def cost(patch: pytest.MonkeyPatch, others: int) -> list[int]:
    """What a tunnel's `down` with the wish to come back, where others wait too, and a trap's call cost."""
    machine = SwiftMachine(patch)
    machine.settings(FOLLOW)
    machine.send_all(establish(Tunnel("last", shared="yes")))
    for number in range(others):
        one = Tunnel(
            f"o{number}", theirs=f"10.{100 + number // 250}.{number % 250}.0/24", shared="yes", reqid=20000 + 4 * number
        )
        machine.send(call(one, "route", child=False))
    counted: list[int] = []
    steps = [0]
    machine.base.set_progress_handler(lambda: steps.__setitem__(0, steps[0] + 1) or 0, 20)
    for environment in (
        call(Tunnel("last", shared="yes"), "down", wishes=("UP",)),
        call(Tunnel("more", theirs="10.99.0.0/24", shared="yes", reqid=16396), "route", child=False),
        call(Tunnel("more", theirs="10.99.0.0/24", shared="yes", reqid=16396), "unroute", child=False),
    ):
        asked = machine.kernel.asked
        machine.send(environment)
        counted.append(machine.kernel.asked - asked)
    assert not machine.kernel.named("vti5").up
    counted.append(round(steps[0] / 20))
    return counted


# Single steps


def test_a_device_without_a_tunnel_is_made_down(machine: Machine) -> None:
    machine.settings(FOLLOW)
    reports = machine.send_all([call(Tunnel(), verb, child=False) for verb in ("prepare", "route")])
    assert [report.warnings for report in reports] == [(), ()]
    link = machine.kernel.named("vti5")
    assert (link.up, link.alias) == (False, "vti-updown")
    assert machine.routes() == set()


def test_what_the_kernel_took_comes_back(machine: Machine) -> None:
    """Both families, a link-local address that keep_addr_on_down does not keep, and nothing said twice."""
    machine.kernel.files[KEEP] = "0"
    machine.settings(FOLLOW + "[connection t]\naddress = fe80::1/64 fd00:99::1/127\n")
    one = Tunnel(shared="yes", address="10.99.0.1/30")
    machine.send_all(establish(one))
    assert machine.kernel.files["net/ipv6/conf/vti5/keep_addr_on_down"] == "1"
    machine.send(call(one, "down", wishes=("UP",)))
    assert machine.addresses("vti5") == ["10.99.0.1/30", "fd00:99::1/127"]
    assert not machine.kernel.named("vti5").up
    assert machine.send(call(one, "down", wishes=("UP",))).operations == ()
    assert reconcile(machine, said(held=("t",))).report.operations == ()
    report = machine.send(call(one, "up"))
    assert report.warnings == ()
    assert set(machine.addresses("vti5")) == {"fe80::1/64", "fd00:99::1/127", "10.99.0.1/30"}
    assert machine.routes() == {("10.2.0.0/24", "vti5")}
    assert machine.kernel.named("vti5").up


def test_a_shared_device_that_stays_is_set_down_with_its_last_claim(machine: Machine) -> None:
    machine.settings(FOLLOW)
    one = Tunnel(shared="yes")
    machine.send_all(establish(one) + withdraw(one))
    assert machine.claims() == []
    assert not machine.kernel.named("vti5").up
    machine.send_all(establish(one))
    assert machine.kernel.named("vti5").up


def test_reconcile_sets_down_what_somebody_set_up(machine: Machine) -> None:
    """With claims that wait, and with none at all; and then it has nothing more to do."""
    machine.settings(FOLLOW)
    one = Tunnel(shared="yes")
    machine.send_all([*establish(one), call(one, "down", wishes=("UP",))])
    for _ in range(2):
        machine.kernel.set_link(machine.kernel.named("vti5").ifindex, up=True)
        reconcile(machine, said(held=("t",)))
        assert not machine.kernel.named("vti5").up
        assert reconcile(machine, said(held=("t",))).report.operations == ()
        machine.send_all(withdraw(one))
    assert machine.claims() == []


def test_a_route_of_the_same_metric_moves_to_the_tunnel_that_is_up(machine: Machine) -> None:
    """Two tunnels, one prefix: while the first waits, the second has it; then it goes back."""
    machine.settings(FOLLOW)
    first = Tunnel(shared="yes")
    second = Tunnel(
        "u", peer="198.51.100.3", device="vti6", mark_in="6/0xff", mark_out="6/0xff", me="198.51.100.9", reqid=16392
    )
    machine.send_all(establish(first) + establish(second))
    assert machine.routes() == {("10.2.0.0/24", "vti5")}
    machine.send(call(first, "down", wishes=("UP",)))
    assert machine.routes() == {("10.2.0.0/24", "vti6")}
    machine.send(call(first, "up"))
    assert machine.routes() == {("10.2.0.0/24", "vti5")}
    machine.send(call(second, "down", wishes=("UP",)))
    assert machine.routes() == {("10.2.0.0/24", "vti5")}


def test_nothing_is_put_back_on_a_device_that_is_set_down(machine: Machine) -> None:
    """With the last address the kernel takes the routes of those that wait; they come with the next tunnel."""
    machine.settings(FOLLOW)
    one = Tunnel(shared="yes", address="10.99.0.1/30")
    other = Tunnel("u", theirs="10.3.0.0/24", shared="yes", reqid=16392)
    machine.send_all([*establish(one), call(other, "route", child=False)])
    report = machine.send(call(one, "down"))
    assert [operation.action for operation in report.operations] == ["route delete", "address delete", "link down"]
    machine.send(call(other, "up"))
    assert machine.routes() == {("10.3.0.0/24", "vti5")}


def test_status_says_that_it_is_down_on_purpose(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.settings(FOLLOW)
    one = Tunnel(shared="yes")
    machine.send_all([*establish(one), call(one, "down", wishes=("UP",))])
    run(machine.arguments)
    assert capsys.readouterr().out.splitlines()[1].split()[5] == "idle"
    machine.kernel.set_link(machine.kernel.named("vti5").ifindex, up=True)
    run(machine.arguments)
    assert capsys.readouterr().out.splitlines()[1].split()[5] == "up"
    machine.send(call(one, "up"))
    machine.kernel.set_link(machine.kernel.named("vti5").ifindex, up=False)
    run(machine.arguments)
    assert capsys.readouterr().out.splitlines()[1].split()[5] == "DOWN"


def test_keep_is_the_default_and_leaves_it_up(machine: Machine) -> None:
    one = Tunnel(shared="yes")
    machine.send_all([*establish(one), call(one, "down", wishes=("UP",))])
    assert machine.kernel.named("vti5").up
    assert machine.routes() == {("10.2.0.0/24", "vti5")}


def test_a_device_of_others_is_not_set_down(machine: Machine) -> None:
    made = machine.kernel.add_link(Link("vti5", "vti", local="198.51.100.1", remote="198.51.100.2", ikey=5, okey=5))
    machine.kernel.set_link(made.ifindex, up=True)
    machine.settings(FOLLOW)
    machine.send_all([*establish(Tunnel()), call(Tunnel(), "down", wishes=("UP",))])
    assert machine.kernel.named("vti5").up
