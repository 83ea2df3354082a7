"""A change as a whole: what fails is undone, and a death is mended (promise P6)."""

import ast
import errno
from pathlib import Path
from typing import Callable

import pytest

from tests import TOP
from tests.kit.machine import Environment, Machine, Tunnel, call, establish
from tests.kit.starts import OTHER, SHARED, STARTS, changes_of, machine_after, state
from updown.model.errors import KernelError

NEXT: dict[str, Callable[[Environment], list[Environment]]] = {
    "the same call": lambda last: [last],
    "an unrelated tunnel": lambda last: [
        call(
            Tunnel(
                "z", peer="198.51.100.8", theirs="10.8.0.0/24", device="vti8", mark_in="8/0xff", mark_out="8/0xff", reqid=16400
            ),
            "up",
        ),
        last,
    ],
    "nothing but the end": lambda last: [{**last, "PLUTO_VERB": "down-client"}, {**last, "PLUTO_VERB": "unroute-client"}],
}
T = Tunnel(address="10.99.0.1/30")


def test_a_route_that_cannot_be_replaced_stays(machine: Machine) -> None:
    """The old one goes first, since the kernel's own replace may hit another device's; it is put back."""
    machine.send_all([*establish(T), call(T._replace(mtu="1400"), "up"), call(T, "up")])
    machine.send(call(T._replace(mtu="1400"), "up"))  # now by the route alone: the device kept its MTU
    at = next(number for number, moment in enumerate(machine.moments) if moment.startswith("route add"))
    machine.send(call(T, "up"))
    machine.fails_at = (at, KernelError("route add 10.2.0.0/24: no", errno.EINVAL))
    report = machine.send(call(T._replace(mtu="1400"), "up"))
    assert machine.routes() == {("10.2.0.0/24", "vti5")}
    assert report.warnings == ("route add 10.2.0.0/24: no",)


@pytest.mark.parametrize("case", STARTS)
@pytest.mark.parametrize("number", [errno.EINVAL, errno.EPERM], ids=["refused", "not permitted"])
def test_an_event_that_fails_leaves_kernel_and_ledger_as_before_and_succeeds_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, number: int
) -> None:
    """Whatever operation the kernel refuses: undone if it is fatal, told if not; the same event then comes to the same end."""
    before, last = STARTS[case]
    moments = changes_of(tmp_path, monkeypatch, case)
    wanted = None
    for at, moment in enumerate(moments):
        if moment.endswith("commit"):
            continue
        machine = Machine(tmp_path / str(at), monkeypatch)
        machine.send_all(before)
        start = state(machine)
        machine.fails_at = (at, KernelError(f"{moment}: no", number))
        try:
            report = machine.send(last)
            assert any(moment in warning for warning in report.warnings), f"{moment} failed without a word"
        except KernelError:
            machine.fails_at = None
            assert state(machine) == start, f"{moment} failed"
        machine.fails_at = None
        machine.send(last)
        assert machine.send(last).operations == ()
        wanted = wanted or state(machine_after(tmp_path / f"{at} wanted", monkeypatch, [*before, last]))
        assert state(machine) == wanted, f"{moment} failed, then all went well"


def test_an_event_that_fails_leaves_the_claims_in_their_order(machine: Machine) -> None:
    """The first to come holds what two want."""
    machine.send_all([*establish(SHARED), *establish(OTHER)])
    before = [claim.connection for claim in machine.claims()]
    machine.fails_at = (2, KernelError("no", errno.EPERM))
    with pytest.raises(KernelError):
        machine.send(call(SHARED, "down"))
    machine.fails_at = None
    assert [claim.connection for claim in machine.claims()] == before


@pytest.mark.parametrize("case", STARTS)
@pytest.mark.parametrize("after", NEXT)
def test_killed_at_any_instruction_the_next_event_ends_in_the_right_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, after: str
) -> None:
    before, last = STARTS[case]
    follow = NEXT[after](last)
    wanted = state(machine_after(tmp_path / "wanted", monkeypatch, [*before, last, *follow]))
    for at in range(len(changes_of(tmp_path, monkeypatch, case))):
        machine = Machine(tmp_path / str(at), monkeypatch)
        machine.send_all(before)
        assert machine.dies(last, at)
        moment = machine.moments[at]
        machine.send_all(follow)
        assert machine.unfinished() == [], f"killed at {moment}"
        assert state(machine) == wanted, f"killed at {moment}"


# -- no effect bypasses the loop


def importers(module: str) -> set[str]:
    """The modules of the library that import this one, or something of it."""
    found: set[str] = set()
    for path in (TOP / "updown").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                named = {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
            else:
                named = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            if module in named:
                found.add(str(path.relative_to(TOP / "updown")))
    return found


def test_no_effect_bypasses_the_loop() -> None:
    """Operations are carried out in one place, where what is unfinished is noted before and cleared after."""
    assert importers("updown.kernel.apply") == {"transaction.py"}


def test_nothing_that_is_served_knows_of_the_command_line() -> None:
    assert {name for name in importers("updown.commands.arguments") if not name.startswith("commands/")} == {"hook.py"}
