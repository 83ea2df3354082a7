"""Events that got no lock are applied in order by whoever has it next; lost by no order of things (P7)."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kit.charon import Child, charon_call
from tests.kit.commands import Command
from tests.kit.hook_calls import called
from tests.kit.kernel_model import Kill
from tests.kit.machine import Environment, Machine, Tunnel, call
from tests.kit.waiting_events import ONE, TWO, held_up, is_kept, place, waiting
from updown import event
from updown.ledger import clock, spool
from updown.ledger.store import Ledger, LedgerError
from updown.model.context import Context
from updown.model.errors import Conflict, Refused, StateError, UpdownError
from updown.model.operations import Report

pytestmark = pytest.mark.usefixtures("impatient")


def test_the_next_event_applies_what_waits_before_its_own_work(machine: Machine, journalled: list[str]) -> None:
    held_up(machine, call(ONE, "prepare"), call(ONE, "route"), call(ONE, "up"))
    report = machine.serve(call(TWO, "up"))
    assert machine.routes() == {("10.2.0.0/24", "vti5"), ("10.3.0.0/24", "vti5")}
    assert [claim.connection for claim in machine.claims()] == ["t", "u"]
    assert waiting(machine) == []
    assert not any("10.2.0.0/24" in operation.reason for operation in report.operations)
    assert any(line.startswith("vti-updown: t: ip route add 10.2.0.0/24") for line in journalled)


def test_an_up_that_waits_comes_before_the_down_that_gets_the_lock(machine: Machine) -> None:
    held_up(machine, call(ONE._replace(shared="no"), "up"))
    machine.serve(call(ONE._replace(shared="no"), "down"))
    assert machine.claims() == []
    assert machine.devices() == set()


def test_many_wait_and_are_applied_in_the_order_of_their_arrival(machine: Machine) -> None:
    """Up, down, up, down, up of one tunnel: the last word is up."""
    own = ONE._replace(shared="no")
    held_up(machine, *(call(own, verb) for verb in ("up", "down", "up", "down", "up")))
    machine.serve(call(TWO._replace(device="vti6"), "up"))
    assert machine.kinds() == {("t", "sa"), ("u", "sa")}
    held_up(machine, *(call(own, verb) for verb in ("down", "up", "down")))
    machine.serve(call(TWO._replace(device="vti6"), "up"))
    assert machine.kinds() == {("u", "sa")}


def test_the_holder_applies_what_came_meanwhile_before_it_lets_go(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    real = event.run

    def run(context: Any, *rest: Any) -> Report:
        monkeypatch.setattr(event, "run", real)
        report = real(context, *rest)
        assert is_kept(machine.serve(call(TWO, "up")))
        return report

    left: list[int] = []
    real_close = Ledger.close

    def close(ledger: Ledger) -> None:
        left.append(len(waiting(machine)))
        real_close(ledger)

    monkeypatch.setattr(event, "run", run)
    monkeypatch.setattr(Ledger, "close", close)
    machine.serve(call(ONE, "up"))
    assert left == [0]
    assert machine.kinds() == {("t", "sa"), ("u", "sa")}


@pytest.mark.parametrize("fails", [False, True], ids=["served", "failed"])
def test_the_holder_looks_once_more_after_it_let_go(machine: Machine, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    """An event comes between the holder's last look and its unlocking."""
    real = Ledger.close

    def close(ledger: Ledger) -> None:
        monkeypatch.setattr(Ledger, "close", real)
        assert is_kept(machine.serve(call(TWO, "up")))
        real(ledger)

    monkeypatch.setattr(Ledger, "close", close)
    if fails:
        with pytest.raises(Conflict):
            machine.serve(call(ONE._replace(device="eth0"), "up"))
    else:
        machine.serve(call(ONE, "up"))
    assert waiting(machine) == []
    assert ("u", "sa") in machine.kinds()


def test_an_event_kept_as_the_holder_lets_go_is_served_by_its_own_call(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And in the order of arrival: what waited before it comes first."""
    held_up(machine, call(TWO, "up"))
    holder = machine.ledger()
    real = spool.write_event

    def keep(*arguments: Any) -> None:
        real(*arguments)
        holder.close()

    monkeypatch.setattr(spool, "write_event", keep)
    assert called(machine, call(ONE, "up"), monkeypatch) == 0
    out, err = capsys.readouterr()
    assert "vti-updown: t: ip route add 10.2.0.0/24 dev vti5 proto 160" in out
    assert "10.3.0.0/24" not in out
    assert err == ""
    assert [claim.connection for claim in machine.claims()] == ["u", "t"]


def test_an_event_kept_as_the_holder_lets_go_fails_as_its_own(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.send(call(TWO, "up"))
    holder = machine.ledger()
    real = spool.write_event

    def keep(*arguments: Any) -> None:
        real(*arguments)
        holder.close()

    monkeypatch.setattr(spool, "write_event", keep)
    with pytest.raises(Conflict, match="eth0 is not ours"):
        machine.serve(call(ONE._replace(device="eth0"), "up"))
    assert waiting(machine) == []


def test_an_event_that_the_holder_applied_as_it_let_go_is_done(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    real = spool.write_event

    def keep(*arguments: Any) -> None:
        real(*arguments)
        holder.__exit__(None, None, None)

    holder = machine.opened()
    holder.__enter__()
    monkeypatch.setattr(spool, "write_event", keep)
    report = machine.serve(call(ONE, "up"))
    assert report.remarks == ("applied by the call that held the lock; see the journal",)
    assert machine.kinds() == {("t", "sa")}


@pytest.mark.parametrize("alive", [True, False], ids=["the caller asks", "the caller was killed"])
def test_an_event_that_failed_at_another_one_s_hands_fails_for_its_own_call(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    real = spool.write_event
    failed = machine.folder / "net-1" / "spool-failed"
    holder = machine.opened()
    holder.__enter__()

    def keep(*arguments: Any) -> None:
        real(*arguments)
        if not alive:
            monkeypatch.setattr(os.path, "exists", lambda path: "/proc/" not in path and os.path.lexists(path))
        holder.__exit__(None, None, None)
        if not alive:
            raise Kill

    monkeypatch.setattr(spool, "write_event", keep)
    with pytest.raises(UpdownError if alive else Kill) as error:
        machine.serve(call(ONE._replace(device="eth0"), "up"))
    if isinstance(error.value, UpdownError):
        assert error.value.text.startswith("eth0 is not ours")
        assert (error.value.status, bool(error.value.hint)) == (3, True)
    assert not failed.exists() or list(failed.iterdir()) == []
    assert waiting(machine) == []


def test_a_second_call_after_a_hung_holder_waits_no_longer_than_the_first(machine: Machine) -> None:
    """However many wait: each is kept and ends, and all of them are applied once the holder is gone."""
    tunnels = [
        Tunnel(f"c{number}", theirs=f"10.{number}.0.0/24", shared="yes", reqid=20000 + 4 * number) for number in range(20)
    ]
    held_up(machine, *(call(tunnel, "up") for tunnel in tunnels))
    machine.serve(call(ONE._replace(theirs="10.200.0.0/24"), "up"))
    assert len(machine.routes()) == 21


def test_a_kept_event_that_fails_is_told_and_gone(machine: Machine, journalled: list[str]) -> None:
    held_up(machine, call(ONE._replace(device="eth0"), "up"))
    report = machine.serve(call(TWO, "up"))
    assert report.warnings[0].startswith("up-client of t, applied late, failed: eth0 is not ours")
    assert any("eth0 is not ours" in line for line in journalled)
    assert machine.kinds() == {("u", "sa")}
    assert waiting(machine) == []


def test_a_joined_call_has_nothing_to_say_of_others(machine: Machine, journalled: list[str]) -> None:
    held_up(machine, call(ONE._replace(device="eth0"), "up"))
    assert machine.serve(call(TWO, "prepare-route-up")).warnings == ()
    assert any("eth0 is not ours" in line for line in journalled)


def test_a_defect_over_a_kept_event_does_not_come_again(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    held_up(machine, call(ONE, "up"))
    real = event.run

    def run(context: Any, *rest: Any) -> Report:
        if context.connection == "t":
            raise RuntimeError("x")
        return real(context, *rest)

    monkeypatch.setattr(event, "run", run)
    report = machine.serve(call(TWO, "up"))
    assert "up-client of t, applied late: defect: RuntimeError: x; see " in report.warnings[0]
    assert machine.serve(call(TWO, "up")).warnings == ()


def test_killed_while_it_drains_the_next_event_applies_it_again(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after the event's own work: the file goes last."""
    held_up(machine, call(ONE, "up"), call(TWO, "up"))
    real = event.run
    for before in (True, False):

        def run(*arguments: Any, before: bool = before) -> Report:
            if not before:
                real(*arguments)
            raise Kill

        monkeypatch.setattr(event, "run", run)
        with pytest.raises(Kill):
            machine.serve(call(TWO, "down"))
        assert len(waiting(machine)) == 2
    monkeypatch.setattr(event, "run", real)
    machine.serve(call(ONE, "up"))
    assert machine.routes() == {("10.2.0.0/24", "vti5"), ("10.3.0.0/24", "vti5")}
    assert waiting(machine) == []


def test_where_the_ledger_is_full_what_waits_goes_on_waiting(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    held_up(machine, call(ONE, "up"))

    def run(*_: Any) -> Report:
        raise LedgerError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(event, "run", run)
        with pytest.raises(StateError, match="full") as error:
            machine.serve(call(TWO, "up"))
    assert "free space" in error.value.hint
    assert len(waiting(machine)) == 2
    machine.serve(call(TWO, "route"))
    assert [claim.connection for claim in machine.claims()] == ["t", "u"]
    assert waiting(machine) == []


def test_no_event_overtakes_one_that_cannot_be_applied_yet(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The `up` waits since the disk is full in that moment: applied after the `down`, its claim would never end."""
    own = ONE._replace(shared="no")
    held_up(machine, call(own, "up"))
    real = event.run
    full = [True, True]

    def run(context: Any, *rest: Any) -> Report:
        if context.verb.makes and full.pop():
            raise LedgerError("database or disk is full")
        return real(context, *rest)

    monkeypatch.setattr(event, "run", run)
    with pytest.raises(StateError, match="full; it waits; this event is kept, and applied after it"):
        machine.serve(call(own, "down"))
    full.append(False)
    machine.serve(call(own, "unroute", child=False))
    assert machine.claims() == []
    assert machine.devices() == set()


def test_an_event_waits_no_longer_than_what_it_waits_for(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk was full in that moment only: what waited is applied, and the event after it."""
    held_up(machine, call(ONE, "up"))
    real = event.run
    full = [False, False, True]

    def run(*arguments: Any) -> Report:
        if full.pop():
            raise LedgerError("database or disk is full")
        return real(*arguments)

    monkeypatch.setattr(event, "run", run)
    assert machine.serve(call(TWO, "up")).operations
    assert [claim.connection for claim in machine.claims()] == ["t", "u"]


def test_the_settings_of_a_kept_event_are_its_own(machine: Machine, tmp_path: Path) -> None:
    other = tmp_path / "other.conf"
    other.write_text("[defaults]\nlock_wait = 0\nmtu = 1400\n")
    environment = call(ONE, "up")
    with machine.ledger():
        assert is_kept(machine.serve(environment, config=str(other)))
    machine.serve(call(TWO._replace(device="vti6", shared="no"), "up"))
    assert machine.kernel.named("vti5").mtu == 1400
    assert machine.kernel.named("vti6").mtu != 1400


def test_a_verb_that_ends_works_though_the_settings_of_what_waits_are_broken(machine: Machine) -> None:
    machine.send(call(TWO, "up"))
    held_up(machine, call(ONE, "up"))
    Path(machine.arguments.config or "").write_text("[defaults]\nlock_wait = 0\nmtuu = 1\n")
    report = machine.serve(call(TWO, "down"))
    assert "unknown key mtuu" in report.warnings[0]
    assert machine.claims() == []


def test_a_joined_verb_that_waited_does_nothing_where_its_sa_was_taken_down(machine: Machine) -> None:
    """`down` gets the lock while the joined verb waits for it: its claim would never end."""
    with machine.ledger():
        pass
    joined, down = call(ONE, "prepare-route-up"), call(ONE, "down")
    machine.now = clock.now()
    machine.send(down)
    held_up(machine, joined)
    machine.serve(call(TWO, "up"))
    assert machine.kinds() == {("u", "sa")}


def test_a_joined_verb_that_waited_for_hours_still_knows_that_its_sa_was_taken_down(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts for the ten minutes is when it came, not when it is applied."""
    monkeypatch.setattr(clock, "now", lambda: 7210)
    machine.now = 10
    machine.send(call(ONE, "down"))
    held_up(machine, call(ONE, "prepare-route-up"))
    (file,) = waiting(machine)
    file.rename(file.with_name(f"{15 * clock.NANOSECONDS:020d}-1"))
    machine.serve(call(TWO, "up"))
    assert machine.kinds() == {("u", "sa")}


@pytest.mark.parametrize("hours", [2, -2])  # by the time of day two hours later would be too late
def test_a_clock_that_is_set_changes_nothing_for_an_sa_that_was_taken_down(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    machine.serve(call(ONE, "down"))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600 * hours)
    machine.serve(call(ONE, "prepare-route-up"))
    assert machine.kinds() == set()


@pytest.mark.parametrize("kept", [False, True], ids=["served at once", "kept"])
def test_the_end_of_an_sa_whose_settings_could_not_be_read_ends_no_older_one(machine: Machine, kept: bool) -> None:
    """An administrator saved half a line; charon has both SAs."""
    file = Path(machine.arguments.config or "")
    good = file.read_text()
    file.write_text(f"{good}[defaults]\ninterface = vti5\n")
    machine.serve(charon_call(Child(), "up", 1))
    file.write_text(f"{good}[defaults]\ninterfac")
    if kept:
        with machine.ledger():
            spool.write_event(place(machine), spool.new_name(), charon_call(Child(), "up", 2), str(file))
    else:
        with pytest.raises(Refused):
            machine.serve(charon_call(Child(), "up", 2))
    machine.serve(charon_call(Child(), "down", 2))
    assert [claim.sa.unique_id for claim in machine.claims()] == [1]


def test_a_damaged_ledger_is_told_of_though_the_settings_cannot_be_read(machine: Machine, journalled: list[str]) -> None:
    """To the journal: the call has something else to say, and no later one knows of it."""
    machine.serve(call(ONE, "up"))
    ledger = machine.folder / "net-1" / "ledger"
    ledger.write_bytes(b"")
    Path(machine.arguments.config or "").write_text("[defaults]\ninterfac")
    with pytest.raises(Refused):
        machine.serve(call(ONE, "up"))
    assert any("the ledger was empty" in line for line in journalled)


def many(count: int) -> list[Environment]:
    """The `up`s of so many tunnels on one device."""
    tunnels = [
        Tunnel(f"c{number}", theirs=f"10.{number}.0.0/24", shared="yes", reqid=20000 + 4 * number) for number in range(count)
    ]
    return [call(tunnel, "up") for tunnel in tunnels]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each event takes a second; the connections served."""
    now, served = [1000.0], []
    real = event.run

    def run(context: Context, *rest: Any) -> Report:
        now[0] += 1
        served.append(context.connection)
        return real(context, *rest)

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(event, "run", run)
    return served


def test_a_call_serves_others_for_some_seconds_and_leaves_the_rest_to_the_next(machine: Machine, slow: list[str]) -> None:
    """Its own event comes after those that came before it, so it is kept; each call brings the spool on."""
    held_up(machine, *many(12))
    report = machine.serve(call(ONE._replace(theirs="10.200.0.0/24"), "up"))
    assert is_kept(report)
    assert "7 events wait yet" in report.warnings[0]
    assert slow == [f"c{number}" for number in range(5)]
    assert len(waiting(machine)) == 8
    assert is_kept(machine.serve(call(TWO, "up")))
    assert not is_kept(machine.serve(call(TWO, "route")))
    assert slow == [*(f"c{number}" for number in range(12)), "t", "u", "u"]
    assert waiting(machine) == []


def test_what_comes_while_a_call_is_at_work_is_served_for_some_seconds(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, slow: list[str], journalled: list[str]
) -> None:
    real = event.run

    def run(*arguments: Any) -> Report:
        monkeypatch.setattr(event, "run", real)
        report = real(*arguments)
        for environment in many(12):
            machine.serve(environment)
        return report

    monkeypatch.setattr(event, "run", run)
    assert machine.serve(call(TWO, "up")).warnings == ()
    assert slow == ["u", *(f"c{number}" for number in range(5))]
    assert len(waiting(machine)) == 7
    assert "7 events wait yet" in " ".join(journalled)


@pytest.mark.parametrize("words", [("reconcile",), ("clean",)], ids=str)
def test_what_people_type_applies_all_that_waits_and_lets_others_in_between(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    slow: list[str],
    words: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    Command(machine, monkeypatch)
    held_up(machine, *many(12))
    pauses: list[int] = []
    monkeypatch.setattr("updown.serve.time.sleep", lambda _: pauses.append(len(slow)))
    assert machine.command(*words) == 0
    assert waiting(machine) == []
    assert slow == [f"c{number}" for number in range(12)]
    assert [one for one in pauses if one < 12] == [5, 10]
    capsys.readouterr()


def test_a_ledger_set_aside_while_what_waits_is_applied_is_told(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Command(machine, monkeypatch)
    machine.serve(call(TWO, "up"))
    held_up(machine, call(ONE, "up"))
    (machine.folder / "net-1" / "ledger").write_bytes(b"hello" * 999)
    assert machine.command("clean") == 1
    assert "the ledger was damaged" in capsys.readouterr().out
    assert machine.devices() == set()
