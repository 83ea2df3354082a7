"""Events that get no lock: kept durably, applied in order by whoever has the lock next, lost by no order of things (P7)."""

import errno
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.kit.charon import Child, charon_call
from tests.kit.kernel_model import Kill
from tests.kit.machine import THIRD, Environment, Machine, Tunnel, call, establish
from updown import event, hook
from updown.commands.arguments import Arguments
from updown.event import Report
from updown.kernel import journal
from updown.ledger import clock, spool
from updown.ledger.store import Ledger, LedgerError
from updown.model.errors import Conflict, Locked, Refused, StateError, UpdownError
from updown.output.lines import folded

ONE = Tunnel(shared="yes", address="10.99.0.1/30")
TWO = Tunnel("u", peer=THIRD, theirs="10.3.0.0/24", shared="yes", address="10.99.0.1/30", reqid=16392)


@pytest.fixture(autouse=True)
def impatient(tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the lock here: what counts is the order of things, which the tests arrange."""
    file = tmp_path / "impatient.conf"
    file.write_text("[defaults]\nlock_wait = 0\n")
    arguments = Arguments(state_dir=str(machine.folder), config=str(file))
    monkeypatch.setattr(Machine, "arguments", arguments)


@pytest.fixture
def journalled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What goes to the journal."""
    sent: list[str] = []
    monkeypatch.setattr(journal, "send", lambda lines, **_: sent.extend(lines))
    return sent


def live(machine: Machine, environment: Environment) -> Report:
    """An event as the hook runs it."""
    return machine.serve(environment)


def held_up(machine: Machine, *environments: Environment) -> None:
    """These events come while somebody holds the lock, and are kept."""
    with machine.ledger():
        for environment in environments:
            with pytest.raises(Locked, match="the event is kept"):
                live(machine, environment)


def place(machine: Machine) -> str:
    return str(machine.folder / "net-1")


def waiting(machine: Machine) -> list[Path]:
    """The files in the spool."""
    return [machine.folder / "net-1" / "spool" / name for name in spool.waiting_events(place(machine))]


def called(machine: Machine, environment: Environment, monkeypatch: pytest.MonkeyPatch) -> int:
    """The hook's main() in this environment."""
    monkeypatch.setattr(os, "environb", {name.encode(): value.encode() for name, value in environment.items()})
    words = ["--state-dir", machine.arguments.state_dir, "--config", machine.arguments.config]
    monkeypatch.setattr("sys.argv", ["vti-updown", *words])
    return hook.main()


# -- keeping


def test_an_event_without_the_lock_is_kept_and_says_by_whom_and_since_when(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], journalled: list[str]
) -> None:
    with machine.ledger():
        assert called(machine, call(ONE, "up"), monkeypatch) == 4
    out, err = capsys.readouterr()
    said = " ".join(err.split()).replace("vti-updown: t: error: ", "")
    assert out == ""
    assert f"is held by pid {os.getpid()} since " in said
    assert "the event is kept" in said
    assert all(len(line) <= 120 for line in err.splitlines())
    assert journalled == err.splitlines()
    assert len(waiting(machine)) == 1
    assert machine.devices() == set()


def test_what_is_kept_is_the_tables_variables_and_the_settings_file_for_root_alone(machine: Machine) -> None:
    environment = call(ONE, "up")
    held_up(machine, {**environment, "PATH": "/usr/bin", "SECRET": "x"})
    (file,) = waiting(machine)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    kept = spool.read_event(str(file))
    assert kept.environ == environment
    assert kept.config == machine.arguments.config
    assert sorted(file.read_bytes().split(b"\0"))[:1] == [b""]


def test_bytes_that_are_no_text_are_kept_as_they_are(machine: Machine) -> None:
    environment = call(ONE._replace(connection="t\udcff\n="), "up")
    held_up(machine, environment)
    (file,) = waiting(machine)
    assert spool.read_event(str(file)).environ == environment


def test_a_kept_event_is_on_the_disk_before_it_has_its_name(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written elsewhere, synced, renamed, and the folders synced: after a power cut it is whole or not there."""
    done: list[str] = []
    real: dict[str, Callable[..., Any]] = {"fsync": os.fsync, "rename": os.rename}

    def fsync(file: int) -> None:
        done.append(f"fsync {os.readlink(f'/proc/self/fd/{file}')}")
        real["fsync"](file)

    def rename(old: str, new: str) -> None:
        done.append(f"rename {new}")
        real["rename"](old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    machine.send(call(TWO, "up"))
    spool.write_event(place(machine), "7-1", call(ONE, "up"), "")
    folder = f"{place(machine)}/spool"
    assert done == [f"fsync {folder}/.7-1", f"rename {folder}/7-1", f"fsync {folder}", f"fsync {place(machine)}"]


@pytest.mark.parametrize("step", ["open", "write", "fsync", "rename"])
def test_where_the_spool_cannot_be_written_the_event_is_lost_and_that_is_said(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    machine.send(call(TWO, "up"))
    real = getattr(os, step)

    def full(what: Any, *rest: Any, **more: Any) -> Any:
        if step == "open" and "/spool/" not in str(what):
            return real(what, *rest, **more)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with machine.ledger(), monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(Locked, match="this event is lost, it could not be kept: No space left") as error:
            live(machine, call(ONE, "up"))
    assert error.value.status == 4
    assert "take the tunnel up or down again" in error.value.hint
    assert waiting(machine) == []
    assert list((machine.folder / "net-1" / "spool").iterdir()) == []


# -- who applies it


def test_the_next_event_applies_what_waits_before_its_own_work(machine: Machine, journalled: list[str]) -> None:
    held_up(machine, call(ONE, "prepare"), call(ONE, "route"), call(ONE, "up"))
    report = live(machine, call(TWO, "up"))
    assert machine.routes() == {("10.2.0.0/24", "vti5"), ("10.3.0.0/24", "vti5")}
    assert [claim.connection for claim in machine.claims()] == ["t", "u"]
    assert waiting(machine) == []
    assert not any("10.2.0.0/24" in operation.reason for operation in report.operations)
    assert any(line.startswith("vti-updown: t: ip route add 10.2.0.0/24") for line in journalled)


def test_an_up_that_waits_comes_before_the_down_that_gets_the_lock(machine: Machine) -> None:
    held_up(machine, call(ONE._replace(shared="no"), "up"))
    live(machine, call(ONE._replace(shared="no"), "down"))
    assert machine.claims() == []
    assert machine.devices() == set()


def test_many_wait_and_are_applied_in_the_order_of_their_arrival(machine: Machine) -> None:
    """Up, down, up, down, up of one tunnel: the last word is up."""
    own = ONE._replace(shared="no")
    held_up(machine, *(call(own, verb) for verb in ("up", "down", "up", "down", "up")))
    live(machine, call(TWO._replace(device="vti6"), "up"))
    assert machine.kinds() == {("t", "sa"), ("u", "sa")}
    held_up(machine, *(call(own, verb) for verb in ("down", "up", "down")))
    live(machine, call(TWO._replace(device="vti6"), "up"))
    assert machine.kinds() == {("u", "sa")}


def test_the_holder_applies_what_came_meanwhile_before_it_lets_go(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = event.run

    def run(context: Any, *rest: Any) -> Report:
        monkeypatch.setattr(event, "run", real)
        report = real(context, *rest)
        with pytest.raises(Locked):
            live(machine, call(TWO, "up"))
        return report

    left: list[int] = []
    real_close = Ledger.close

    def close(ledger: Ledger) -> None:
        left.append(len(waiting(machine)))
        real_close(ledger)

    monkeypatch.setattr(event, "run", run)
    monkeypatch.setattr(Ledger, "close", close)
    live(machine, call(ONE, "up"))
    assert left == [0]
    assert machine.kinds() == {("t", "sa"), ("u", "sa")}


@pytest.mark.parametrize("fails", [False, True], ids=["served", "failed"])
def test_the_holder_looks_once_more_after_it_let_go(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """An event comes between the holder's last look and its unlocking."""
    real = Ledger.close

    def close(ledger: Ledger) -> None:
        monkeypatch.setattr(Ledger, "close", real)
        with pytest.raises(Locked):
            live(machine, call(TWO, "up"))
        real(ledger)

    monkeypatch.setattr(Ledger, "close", close)
    if fails:
        with pytest.raises(Conflict):
            live(machine, call(ONE._replace(device="eth0"), "up"))
    else:
        live(machine, call(ONE, "up"))
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


def test_an_event_kept_as_the_holder_lets_go_fails_as_its_own(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.send(call(TWO, "up"))
    holder = machine.ledger()
    real = spool.write_event

    def keep(*arguments: Any) -> None:
        real(*arguments)
        holder.close()

    monkeypatch.setattr(spool, "write_event", keep)
    with pytest.raises(Conflict, match="eth0 is not ours"):
        live(machine, call(ONE._replace(device="eth0"), "up"))
    assert waiting(machine) == []


def test_an_event_that_the_holder_applied_as_it_let_go_is_done(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = spool.write_event

    def keep(*arguments: Any) -> None:
        real(*arguments)
        holder.__exit__(None, None, None)

    holder = machine.opened()
    holder.__enter__()
    monkeypatch.setattr(spool, "write_event", keep)
    report = live(machine, call(ONE, "up"))
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
        live(machine, call(ONE._replace(device="eth0"), "up"))
    if isinstance(error.value, UpdownError):
        assert error.value.text.startswith("eth0 is not ours")
        assert (error.value.status, bool(error.value.hint)) == (3, True)
    assert not failed.exists() or list(failed.iterdir()) == []
    assert waiting(machine) == []


def test_a_word_that_nobody_took_is_removed(machine: Machine) -> None:
    machine.send(call(TWO, "up"))
    old = machine.folder / "net-1" / "spool-failed" / "7-1"
    old.parent.mkdir()
    abandon(old)
    held_up(machine, call(ONE._replace(device="eth0"), "up"))
    live(machine, call(TWO, "up"))
    assert not old.exists()


@pytest.mark.parametrize("complete", [True, False])
def test_a_writer_that_was_killed_over_its_file(machine: Machine, complete: bool) -> None:
    """Complete, though it has not its name: it is an event, and takes its place before those that came later."""
    own = ONE._replace(shared="no")
    held_up(machine, call(own, "up"), call(own, "down"))
    first, _ = waiting(machine)
    unnamed = first.rename(first.with_name(f".{first.name}"))
    if not complete:
        unnamed.write_bytes(unnamed.read_bytes()[:-9])
    machine.now = clock.now()
    live(machine, call(TWO._replace(device="vti6"), "up"))
    assert machine.kinds() == {("u", "sa")}
    assert unnamed.exists() == (not complete)


def test_a_writer_whose_file_was_taken_before_it_had_its_name(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody looks between writing and renaming."""
    machine.send(call(TWO, "up"))
    real = spool.write_file

    def write(path: str, data: bytes) -> None:
        real(path, data)
        spool.rename_complete(place(machine))

    monkeypatch.setattr(spool, "write_file", write)
    held_up(machine, call(ONE, "up"))
    live(machine, call(TWO, "up"))
    assert machine.kinds() == {("t", "sa"), ("u", "sa")}
    assert waiting(machine) == []


def test_a_second_call_after_a_hung_holder_waits_no_longer_than_the_first(machine: Machine) -> None:
    """However many wait: each is kept and ends, and all of them are applied once the holder is gone."""
    tunnels = [
        Tunnel(f"c{number}", theirs=f"10.{number}.0.0/24", shared="yes", reqid=20000 + 4 * number)
        for number in range(20)
    ]
    held_up(machine, *(call(tunnel, "up") for tunnel in tunnels))
    live(machine, call(ONE._replace(theirs="10.200.0.0/24"), "up"))
    assert len(machine.routes()) == 21


# -- what goes wrong with it


def test_a_kept_event_that_fails_is_told_and_gone(machine: Machine, journalled: list[str]) -> None:
    held_up(machine, call(ONE._replace(device="eth0"), "up"))
    report = live(machine, call(TWO, "up"))
    assert report.warnings[0].startswith("up-client of t, applied late, failed: eth0 is not ours")
    assert any("eth0 is not ours" in line for line in journalled)
    assert machine.kinds() == {("u", "sa")}
    assert waiting(machine) == []


def test_a_joined_call_has_nothing_to_say_of_others(machine: Machine, journalled: list[str]) -> None:
    held_up(machine, call(ONE._replace(device="eth0"), "up"))
    assert live(machine, call(TWO, "prepare-route-up")).warnings == ()
    assert any("eth0 is not ours" in line for line in journalled)


def abandon(path: Path) -> None:
    """A file whose writer died over it, long ago."""
    path.write_text("half")
    os.utime(path, (1, 1))


FOREIGN: dict[str, Callable[[Path], Any]] = {
    "a text": lambda path: path.write_text("hello"),
    "an empty one": lambda path: path.write_bytes(b""),
    "a folder": lambda path: path.mkdir(),
    "a link": lambda path: path.symlink_to("00"),
    "a pipe": lambda path: os.mkfifo(path),
    "a part of one": lambda path: path.write_bytes(path.with_name("00").read_bytes()[:-30]),
    "a huge one": lambda path: path.write_bytes(b"x" * spool.LARGEST + b"\0" + spool.END),
    "one whose writer died": lambda path: abandon(path.with_name(".x")),
    "an event without a time": lambda path: shutil.copy(path.with_name("00"), path.with_name("one")),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_no_event_is_set_aside_with_a_message(machine: Machine, case: str) -> None:
    held_up(machine, call(ONE, "up"))
    (file,) = waiting(machine)
    file = file.rename(file.with_name("00"))
    FOREIGN[case](file.with_name("01"))
    report = live(machine, call(TWO, "up"))
    (aside,) = (machine.folder / "net-1" / "spool-aside").iterdir()
    assert f"{aside} lay in the spool and is no event" in report.warnings[0]
    assert machine.kinds() == {("t", "sa"), ("u", "sa")}
    assert waiting(machine) == []
    assert live(machine, call(TWO, "up")).warnings == ()


def test_a_file_that_is_being_written_is_left_alone(machine: Machine) -> None:
    held_up(machine, call(ONE, "up"))
    written = waiting(machine)[0].with_name(".7-7")
    written.write_text("half")
    live(machine, call(TWO, "up"))
    assert written.exists()


def test_a_clock_that_is_set_makes_nobody_s_file_abandoned(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    held_up(machine, call(ONE, "up"))
    written = waiting(machine)[0].with_name(f".{spool.new_name()}")
    written.write_text("half")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    live(machine, call(TWO, "up"))
    assert written.exists()


def test_a_defect_over_a_kept_event_does_not_come_again(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    held_up(machine, call(ONE, "up"))
    real = event.run

    def run(context: Any, *rest: Any) -> Report:
        if context.connection == "t":
            raise RuntimeError("x")
        return real(context, *rest)

    monkeypatch.setattr(event, "run", run)
    report = live(machine, call(TWO, "up"))
    assert "up-client of t, applied late: defect: RuntimeError: x; see " in report.warnings[0]
    assert live(machine, call(TWO, "up")).warnings == ()


def test_killed_while_it_drains_the_next_event_applies_it_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
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
            live(machine, call(TWO, "down"))
        assert len(waiting(machine)) == 2
    monkeypatch.setattr(event, "run", real)
    live(machine, call(ONE, "up"))
    assert machine.routes() == {("10.2.0.0/24", "vti5"), ("10.3.0.0/24", "vti5")}
    assert waiting(machine) == []


def test_where_the_ledger_is_full_what_waits_goes_on_waiting(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    held_up(machine, call(ONE, "up"))

    def run(*_: Any) -> Report:
        raise LedgerError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(event, "run", run)
        with pytest.raises(StateError, match="full") as error:
            live(machine, call(TWO, "up"))
    assert "free space" in error.value.hint
    assert len(waiting(machine)) == 2
    live(machine, call(TWO, "route"))
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
        live(machine, call(own, "down"))
    full.append(False)
    live(machine, call(own, "unroute", child=False))
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
    assert live(machine, call(TWO, "up")).operations
    assert [claim.connection for claim in machine.claims()] == ["t", "u"]


def test_a_spool_that_cannot_be_emptied_stops_no_event(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was applied and cannot be removed is applied again each time: nothing changes."""
    held_up(machine, call(ONE, "up"))

    def unlink(*_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", unlink)
        assert "Read-only file system; it waits" in live(machine, call(TWO, "up")).warnings[0]
    assert machine.kinds() == {("t", "sa"), ("u", "sa")}
    assert live(machine, call(TWO, "up")).operations == ()
    assert waiting(machine) == []


def test_the_settings_of_a_kept_event_are_its_own(machine: Machine, tmp_path: Path) -> None:
    other = tmp_path / "other.conf"
    other.write_text("[defaults]\nlock_wait = 0\nmtu = 1400\n")
    environment = call(ONE, "up")
    with machine.ledger(), pytest.raises(Locked):
        machine.serve(environment, config=str(other))
    live(machine, call(TWO._replace(device="vti6", shared="no"), "up"))
    assert machine.kernel.named("vti5").mtu == 1400
    assert machine.kernel.named("vti6").mtu != 1400


def test_a_verb_that_ends_works_though_the_settings_of_what_waits_are_broken(machine: Machine) -> None:
    machine.send(call(TWO, "up"))
    held_up(machine, call(ONE, "up"))
    Path(machine.arguments.config or "").write_text("[defaults]\nlock_wait = 0\nmtuu = 1\n")
    report = live(machine, call(TWO, "down"))
    assert "unknown key mtuu" in report.warnings[0]
    assert machine.claims() == []


# -- async calls that come late


def test_a_joined_verb_that_waited_does_nothing_where_its_sa_was_taken_down(machine: Machine) -> None:
    """`down` gets the lock while the joined verb waits for it: its claim would never end."""
    with machine.ledger():
        pass
    joined, down = call(ONE, "prepare-route-up"), call(ONE, "down")
    machine.now = clock.now()
    machine.send(down)
    held_up(machine, joined)
    live(machine, call(TWO, "up"))
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
    live(machine, call(TWO, "up"))
    assert machine.kinds() == {("u", "sa")}


@pytest.mark.parametrize("hours", [2, -2])  # by the time of day two hours later would be too late
def test_a_clock_that_is_set_changes_nothing_for_an_sa_that_was_taken_down(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    live(machine, call(ONE, "down"))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600 * hours)
    live(machine, call(ONE, "prepare-route-up"))
    assert machine.kinds() == set()


@pytest.mark.parametrize("kept", [False, True], ids=["served at once", "kept"])
def test_the_end_of_an_sa_whose_settings_could_not_be_read_ends_no_older_one(machine: Machine, kept: bool) -> None:
    """An administrator saved half a line; charon has both SAs."""
    file = Path(machine.arguments.config or "")
    good = file.read_text()
    file.write_text(f"{good}[defaults]\ninterface = vti5\n")
    live(machine, charon_call(Child(), "up", 1))
    file.write_text(f"{good}[defaults]\ninterfac")
    if kept:
        with machine.ledger():
            spool.write_event(place(machine), spool.new_name(), charon_call(Child(), "up", 2), str(file))
    else:
        with pytest.raises(Refused):
            live(machine, charon_call(Child(), "up", 2))
    live(machine, charon_call(Child(), "down", 2))
    assert [claim.about.unique_id for claim in machine.claims()] == [1]


def test_a_damaged_ledger_is_told_of_though_the_settings_cannot_be_read(
    machine: Machine, journalled: list[str]
) -> None:
    """To the journal: the call has something else to say, and no later one knows of it."""
    live(machine, call(ONE, "up"))
    ledger = machine.folder / "net-1" / "ledger"
    ledger.write_bytes(b"")
    Path(machine.arguments.config or "").write_text("[defaults]\ninterfac")
    with pytest.raises(Refused):
        live(machine, call(ONE, "up"))
    assert any("the ledger was empty" in line for line in journalled)


# -- who does not drain


def test_status_tells_how_many_wait_and_applies_none(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    from updown.commands.status import run

    held_up(machine, call(ONE, "up"), call(TWO, "up"))
    assert run(machine.arguments) == 0
    assert "events that got no lock and wait: 2" in capsys.readouterr().out
    assert run(machine.arguments._replace(json=True)) == 0
    assert json.loads(capsys.readouterr().out)["waiting"] == 2
    assert machine.serve(call(ONE, "up"), dry=True).operations
    assert len(waiting(machine)) == 2


def test_clean_is_the_last_word(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    from updown.commands.clean import run

    held_up(machine, call(ONE, "up"))
    assert run(machine.arguments) == 0
    assert machine.devices() == set()
    assert waiting(machine) == []
    capsys.readouterr()


def test_no_line_about_a_kept_event_is_longer_than_120_bytes(machine: Machine) -> None:
    with machine.ledger(), pytest.raises(UpdownError) as error:
        live(machine, call(ONE._replace(connection="n" * 200), "up"))
    for text in (error.value.text, error.value.hint):
        assert all(len(line.encode()) <= 120 for line in folded("vti-updown: " + "n" * 30 + ": error: ", text))


def test_a_machine_where_nobody_waited_has_no_spool(machine: Machine) -> None:
    for environment in establish(ONE):
        live(machine, environment)
    names: tuple[str, ...] = tuple(sorted(path.name for path in (machine.folder / "net-1").iterdir()))
    assert names == ("ledger", "lock")
