"""The ledger's file and its directory: for root alone, set aside where it is damaged, begun anew."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Callable

import pytest

from tests.kit.machine import Machine, call, establish
from tests.kit.starts import OTHER, SHARED
from updown.ledger.file import open_ledger
from updown.ledger.schema import VERSION
from updown.model.errors import UpdownError


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UpdownError, match="file: File exists") as error:
        open_ledger(str(tmp_path / "file"), "1")
    assert (error.value.status, bool(error.value.hint)) == (1, True)


def foreign(_: bytes) -> bytes:
    """Somebody's SQLite file, which says nothing of its version."""
    with TemporaryDirectory() as folder, closing(sqlite3.connect(f"{folder}/notes")) as base:
        base.execute("CREATE TABLE notes (text TEXT)")
        base.commit()
        return Path(folder, "notes").read_bytes()


def flipped(text: bytes) -> Callable[[bytes], bytes]:
    """The high bit of the third byte of `text` is another one, wherever it stands: no UTF-8 any more."""
    return lambda data: data.replace(text, text[:2] + bytes([text[2] ^ 0x80]) + text[3:])


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "another file": lambda _: b"hello" * 1000,
    "cut to 5000 bytes": lambda data: data[:5000],
    "cut to 50 bytes": lambda data: data[:50],
    "cut to 1 byte": lambda data: data[:1],
    "cut to nothing": lambda _: b"",
    "another version's": lambda data: (
        data[:60] + bytes([0, 0, 0, VERSION + 1]) + data[64:]
    ),  # user_version, sqlite.org/fileformat
    "another program's": foreign,
    "a flipped byte in a want": flipped(b"10.2.0.0/24"),
    "a flipped byte in a selector": flipped(b"10.1.0.0/24"),
    "a flipped byte in the name of a table": flipped(b"TABLE want"),
    "a flipped byte in the name of a column": flipped(b"position"),
    "a flipped byte in an index": flipped(b"routed"),
}
EMPTY = ("cut to 1 byte", "cut to nothing")


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_ledger_is_set_aside_and_the_event_served(machine: Machine, case: str) -> None:
    """Whatever part of the file is damaged; the devices are found again by their alias."""
    machine.send_all(establish(SHARED))
    ledger = machine.folder / "net-1" / "ledger"
    ledger.write_bytes(DAMAGED[case](ledger.read_bytes()))
    report = machine.serve(call(OTHER, "up"))
    assert ("10.3.0.0/24", "vti5") in machine.routes()
    assert [claim.connection for claim in machine.claims()] == ["u"]
    if case in EMPTY:
        assert report.warnings[0].startswith("the ledger was empty, cut off or never filled; begun anew. Tunnels")
    else:
        (aside,) = ledger.parent.glob("ledger.damaged-*")
        assert report.warnings[0].startswith("the ledger was damaged (")
        assert str(aside) in report.warnings[0]
    again = machine.serve(call(OTHER, "up"))
    assert (again.operations, again.warnings) == ((), ())


def test_a_ledger_that_is_missing_is_made_without_a_word(machine: Machine) -> None:
    """So it is at the first event since boot."""
    for name in ("ledger", "lock", ""):
        report = machine.serve(call(OTHER, "up"))
        assert report.warnings == ()
        if name:
            (machine.folder / "net-1" / name).unlink()


@pytest.mark.parametrize("case", DAMAGED)
def test_a_dry_run_tells_a_damaged_ledger_and_leaves_it(machine: Machine, case: str) -> None:
    machine.send_all(establish(SHARED))
    ledger = machine.folder / "net-1" / "ledger"
    ledger.write_bytes(DAMAGED[case](ledger.read_bytes()))
    before = ledger.read_bytes()
    report = machine.serve(call(OTHER, "up"), dry=True)
    assert ("was empty" if case in EMPTY else "cannot be read") in report.warnings[0]
    assert ledger.read_bytes() == before
    assert list(ledger.parent.glob("ledger.damaged-*")) == []


def test_a_state_directory_of_another_user_is_refused(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.folder.mkdir()
    real = os.stat(machine.folder)
    monkeypatch.setattr("updown.ledger.file.os.stat", lambda _: os.stat_result((*real[:4], 4711, *real[5:])))
    with pytest.raises(UpdownError, match="user 4711 may write it") as error:
        machine.ledger()
    monkeypatch.undo()
    assert "chown" in error.value.hint


@pytest.mark.parametrize("mode", [0o702, 0o777])
def test_a_state_directory_that_everybody_may_write_is_refused(machine: Machine, mode: int) -> None:
    machine.folder.mkdir()
    machine.folder.chmod(mode)
    with pytest.raises(UpdownError, match="everybody may write it") as error:
        machine.ledger()
    assert "chmod go-w" in error.value.hint


def test_the_ledger_is_for_root_alone(machine: Machine) -> None:
    machine.send(call(SHARED, "up"))
    assert machine.folder.stat().st_mode & 0o777 == 0o700
    assert (machine.folder / "net-1" / "lock").stat().st_mode & 0o777 == 0o600


def later_boot(monkeypatch: pytest.MonkeyPatch, boot: str = "5a1e0000-0000-4000-8000-000000000002") -> None:
    monkeypatch.setattr("updown.ledger.clock.boot_id", lambda: boot)


@pytest.mark.parametrize("verb", ["up", "down"])
def test_a_ledger_that_outlived_a_reboot_deletes_nothing_and_routes_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """With --state-dir on a disk. Name, index and even the namespace's cookie may be another's in the next boot."""
    machine.send_all(establish(SHARED))
    theirs = machine.kernel.named("vti5")
    machine.kernel.by_index[theirs.ifindex] = theirs._replace(alias="")
    machine.kernel.table = [entry for entry in machine.kernel.table if entry.route.protocol != 160]
    later_boot(monkeypatch)
    ledger = machine.folder / "net-1" / "ledger"
    aside = ledger.with_name("ledger.earlier-boot")
    note = f"the ledger was of an earlier boot, with 1 claims, which went with it; set aside as {aside}, begun anew"
    before = machine.kernel.picture()
    assert machine.serve(call(SHARED, "down")).warnings == (note,)
    assert machine.kernel.picture() == before
    assert (machine.claims(), machine.made(), machine.unfinished()) == ([], {}, [])
    machine.serve(call(SHARED, verb))
    assert len(machine.claims()) == (verb == "up")
    later_boot(monkeypatch, "5a1e0000-0000-4000-8000-000000000003")
    assert str(aside) in machine.serve(call(OTHER, "up")).warnings[0], "of all earlier boots one is kept"
    assert machine.serve(call(OTHER, "up")).warnings == ()


@pytest.mark.parametrize("command", [("clean",), ("reconcile",)])
def test_no_command_goes_by_a_ledger_that_outlived_a_reboot(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    machine.send_all(establish(SHARED))
    theirs = machine.kernel.named("vti5")
    machine.kernel.by_index[theirs.ifindex] = theirs._replace(alias="")
    machine.kernel.table = [entry for entry in machine.kernel.table if entry.route.protocol != 160]
    later_boot(monkeypatch)
    monkeypatch.setattr("updown.daemons.answer.processes", lambda _: {})
    before = machine.kernel.picture()
    assert machine.command(*command, "--dry-run") in (0, 1)
    assert "earlier boot" in capsys.readouterr().out
    assert machine.command(*command) == 1
    assert "of an earlier boot, with 1 claims" in " ".join(capsys.readouterr().out.replace("#  ", "").split())
    assert machine.kernel.picture() == before


@pytest.mark.parametrize(("before", "now"), [("", "5a1e"), ("5a1e", "")])
def test_where_the_kernel_does_not_say_which_boot_it_is_the_ledger_counts(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, before: str, now: str
) -> None:
    later_boot(monkeypatch, before)
    machine.send_all(establish(SHARED))
    later_boot(monkeypatch, now)
    assert machine.serve(call(OTHER, "up")).warnings == ()
    assert len(machine.claims()) == 2
