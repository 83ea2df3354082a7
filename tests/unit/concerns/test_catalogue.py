"""A concern more is its own record, one line in the list and, for a part of the kernel that none touched before, one actor:
ledger, plan, renderer, `check` and the deletion handle it by that alone. Here: an address answered for on the inner side."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, NamedTuple, cast

import pytest

from tests.kit.machine import Machine, Tunnel, call, establish, withdraw
from updown.commands.check.facts import CheckFacts
from updown.commands.check.findings import find
from updown.commands.reconcile.orphans import find_orphans, remove_orphans
from updown.concerns import catalogue
from updown.concerns import device_request as asking
from updown.kernel.actors import ACTORS, Actor
from updown.kernel.netlink.rtnetlink import Netlink
from updown.model import values
from updown.model.concern import Concern, told_as, verb
from updown.model.ipsec import Database
from updown.model.operations import Operation, Reason
from updown.model.resources import Left
from updown.output.report import operation_json

T = Tunnel(address="10.99.0.1/30")


class Answered(NamedTuple):
    """A peer's network that this machine answers for."""

    device: str
    network: str


def wants(tunnel: asking.Tunnel) -> tuple[Answered, ...]:
    return tuple(Answered(tunnel.device, prefix) for prefix in values.network(tunnel.sa.peer_client).prefixes)


def diff(want: Answered, by: str, left: Left) -> list[Operation]:
    there = want in left.things.get("proxy", ())
    return [] if there else [Operation("proxy add", want, reason=Reason("reaches", by, want.network))]


def remove(asked: Answered, reason: Reason, left: Left) -> list[Operation]:
    return [Operation("proxy delete", asked, reason=reason)] if asked in left.things.get("proxy", ()) else []


def command(operation: Operation) -> str:
    return f"ip neigh {verb(operation)} proxy {operation.subject.network}"


PROXY: Any = Concern(
    "proxy",
    Answered,
    attrgetter("network"),
    wants,  # type: ignore[arg-type]  # its record is in no union of resources, which only type checkers read
    diff=diff,
    remove=remove,
    command=command,
    told=told_as(lambda answered: f"answer for {answered.network}"),
    owner="name",
)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> set[Answered]:
    """What the kernel answers for, with the concern in the list."""
    there: set[Answered] = set()

    def perform(operation: Operation, _netlink: object) -> None:
        (there.add if operation.verb == "add" else there.remove)(operation.subject)

    monkeypatch.setattr(catalogue, "CONCERNS", (*catalogue.CONCERNS, PROXY))
    monkeypatch.setitem(catalogue.BY_KIND, "proxy", PROXY)
    monkeypatch.setitem(catalogue.BY_RECORD, Answered, PROXY)
    monkeypatch.setitem(ACTORS, "proxy", Actor(perform, lambda *_: frozenset(there), lambda *_: list(there)))
    return there


def test_a_concern_more_is_done_kept_and_ended(machine: Machine, kernel: set[Answered]) -> None:
    reports = machine.send_all(establish(T))
    shown = [operation_json(one) for report in reports for one in report.operations]
    assert [one["command"] for one in shown if one["resource"] == "proxy"] == ["ip neigh add proxy 10.2.0.0/24"]
    assert kernel == {Answered("vti5", "10.2.0.0/24")}
    assert kernel in [kernel & set(claim.resources) for claim in machine.claims()]  # as the ledger gives them
    assert machine.send(call(T, "up")).operations == ()
    gone = [operation_json(one)["command"] for report in machine.send_all(withdraw(T)) for one in report.operations]
    assert "ip neigh del proxy 10.2.0.0/24" in gone
    assert kernel == set()


def test_an_event_that_finds_it_gone_puts_it_back(machine: Machine, kernel: set[Answered]) -> None:
    machine.send_all(establish(T))
    kernel.clear()
    again = machine.send(call(T, "up"))
    assert [operation_json(one)["command"] for one in again.operations] == ["ip neigh add proxy 10.2.0.0/24"]
    assert [one.undo().action for one in again.operations] == ["proxy delete"]
    assert kernel == {Answered("vti5", "10.2.0.0/24")}


def test_what_nobody_asks_for_is_removed(machine: Machine, kernel: set[Answered]) -> None:
    kernel.add(Answered("vti5", "10.77.0.0/24"))
    with machine.opened() as ledger:
        rest = find_orphans(ledger, cast(Netlink, machine.kernel), (), Database((), ()), set())
        remove_orphans(rest, ledger, cast(Netlink, machine.kernel), dry=False)
    assert kernel == set()


def test_check_tells_what_of_it_is_missing(machine: Machine, kernel: set[Answered]) -> None:
    machine.send_all(establish(T))
    kernel.clear()
    lost = machine.send(call(T, "up"), dry=True)
    facts = CheckFacts(True, tuple(machine.claims()), operations=lost.operations)
    assert [found.text for found in find(facts) if found.code == "proxy-missing"] == ["vti5: answer for 10.2.0.0/24 is missing"]
