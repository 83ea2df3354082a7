"""Events that get no lock are kept durably: what a file of the spool is, and what lies there that is none."""

import errno
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.kit.hook_calls import called
from tests.kit.machine import Machine, call, establish
from tests.kit.waiting_events import ONE, TWO, held_up, is_kept, place, waiting
from updown.commands import clean, status
from updown.ledger import clock, spool
from updown.model.errors import Locked
from updown.output.lines import folded

pytestmark = pytest.mark.usefixtures("impatient")


def test_an_event_without_the_lock_is_kept_which_is_a_warning_that_says_by_whom_and_since_when(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], journalled: list[str]
) -> None:
    with machine.ledger():
        assert called(machine, call(ONE, "up"), monkeypatch) == 0
    out, err = capsys.readouterr()
    said = " ".join(out.split()).replace("vti-updown: t: warning: ", "")
    assert err == ""
    assert f"is held by pid {os.getpid()} since " in said
    assert "the event is kept" in said
    assert all(len(line) <= 120 for line in out.splitlines())
    assert journalled == []
    assert len(waiting(machine)) == 1
    assert machine.devices() == set()


@pytest.mark.parametrize(("seconds", "status"), [(29, 0), (30, 4), (3000, 4)])
def test_a_holder_that_stands_still_for_thirty_seconds_makes_it_status_4(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seconds: int, status: int
) -> None:
    """The event is kept all the same: what the daemon calls then is applied in its turn."""
    real = clock.now
    with machine.ledger():
        monkeypatch.setattr(clock, "now", lambda: real() + seconds)
        assert called(machine, call(ONE, "up"), monkeypatch) == status
        err = " ".join(capsys.readouterr().err.split())
        assert ("seems to hang" in err) == (status == 4)
    assert len(waiting(machine)) == 1


def test_holders_that_come_and_go_stand_not_still(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    real = clock.now
    with machine.ledger():
        pass
    monkeypatch.setattr(clock, "now", lambda: real() + 3000)
    with machine.ledger():
        assert is_kept(machine.serve(call(ONE, "up")))


@pytest.mark.parametrize("text", [b"", b"pid 1 since 01:02:03 ", b"\xff\x1b[2J\nx", b"x\n99999999999999999999"])
def test_a_holder_that_says_something_else_stands_not_still(machine: Machine, text: bytes) -> None:
    """An older release's, or none at all."""
    with machine.ledger():
        (machine.folder / "net-1" / "lock").write_bytes(text)
        report = machine.serve(call(ONE, "up"))
    assert is_kept(report)
    assert report.warnings[0].isprintable()


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
            machine.serve(call(ONE, "up"))
    assert error.value.status == 4
    assert "take the tunnel up or down again" in error.value.hint
    assert waiting(machine) == []
    assert list((machine.folder / "net-1" / "spool").iterdir()) == []


def test_a_word_that_nobody_took_is_removed(machine: Machine) -> None:
    machine.send(call(TWO, "up"))
    old = machine.folder / "net-1" / "spool-failed" / "7-1"
    old.parent.mkdir()
    abandon(old)
    held_up(machine, call(ONE._replace(device="eth0"), "up"))
    machine.serve(call(TWO, "up"))
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
    machine.serve(call(TWO._replace(device="vti6"), "up"))
    assert machine.kinds() == {("u", "sa")}
    assert unnamed.exists() == (not complete)


def test_a_writer_whose_file_was_taken_before_it_had_its_name(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody looks between writing and renaming."""
    machine.send(call(TWO, "up"))
    real = spool.write_file

    def write(path: str, data: bytes) -> None:
        real(path, data)
        spool.rename_complete(place(machine))

    monkeypatch.setattr(spool, "write_file", write)
    held_up(machine, call(ONE, "up"))
    machine.serve(call(TWO, "up"))
    assert machine.kinds() == {("t", "sa"), ("u", "sa")}
    assert waiting(machine) == []


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
    report = machine.serve(call(TWO, "up"))
    (aside,) = (machine.folder / "net-1" / "spool-aside").iterdir()
    assert f"{aside} lay in the spool and is no event" in report.warnings[0]
    assert machine.kinds() == {("t", "sa"), ("u", "sa")}
    assert waiting(machine) == []
    assert machine.serve(call(TWO, "up")).warnings == ()


def test_an_event_of_an_earlier_boot_is_set_aside(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    held_up(machine, call(ONE, "up"))
    monkeypatch.setattr("updown.ledger.clock.boot_id", lambda: "5a1e0000-0000-4000-8000-000000000002")
    report = machine.serve(call(TWO, "up"))
    (aside,) = (machine.folder / "net-1" / "spool-aside").iterdir()
    assert any(f"{aside} lay in the spool and is of an earlier boot" in text for text in report.warnings)
    assert machine.kinds() == {("u", "sa")}
    assert waiting(machine) == []


def test_a_file_that_is_being_written_is_left_alone(machine: Machine) -> None:
    held_up(machine, call(ONE, "up"))
    written = waiting(machine)[0].with_name(".7-7")
    written.write_text("half")
    machine.serve(call(TWO, "up"))
    assert written.exists()


def test_a_clock_that_is_set_makes_nobody_s_file_abandoned(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    held_up(machine, call(ONE, "up"))
    written = waiting(machine)[0].with_name(f".{spool.new_name()}")
    written.write_text("half")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    machine.serve(call(TWO, "up"))
    assert written.exists()


def test_a_spool_that_cannot_be_emptied_stops_no_event(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was applied and cannot be removed is applied again each time: nothing changes."""
    held_up(machine, call(ONE, "up"))

    def unlink(*_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", unlink)
        assert "Read-only file system; it waits" in machine.serve(call(TWO, "up")).warnings[0]
    assert machine.kinds() == {("t", "sa"), ("u", "sa")}
    assert machine.serve(call(TWO, "up")).operations == ()
    assert waiting(machine) == []


def test_status_tells_how_many_wait_and_applies_none(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    held_up(machine, call(ONE, "up"), call(TWO, "up"))
    assert status.run(machine.arguments) == 0
    assert "events that got no lock and wait: 2" in capsys.readouterr().out
    assert status.run(machine.arguments._replace(json=True)) == 0
    assert json.loads(capsys.readouterr().out)["waiting"] == 2
    assert machine.serve(call(ONE, "up"), dry=True).operations
    assert len(waiting(machine)) == 2


def test_clean_is_the_last_word(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    held_up(machine, call(ONE, "up"))
    assert clean.run(machine.arguments) == 0
    assert machine.devices() == set()
    assert waiting(machine) == []
    capsys.readouterr()


def test_no_line_about_a_kept_event_is_longer_than_120_bytes(machine: Machine) -> None:
    with machine.ledger():
        report = machine.serve(call(ONE._replace(connection="n" * 200), "up"))
    for text in report.warnings:
        assert all(len(line.encode()) <= 120 for line in folded("vti-updown: " + "n" * 30 + ": error: ", text))


def test_a_machine_where_nobody_waited_has_no_spool(machine: Machine) -> None:
    for environment in establish(ONE):
        machine.serve(environment)
    names: tuple[str, ...] = tuple(sorted(path.name for path in (machine.folder / "net-1").iterdir()))
    assert names == ("ledger", "lock")
