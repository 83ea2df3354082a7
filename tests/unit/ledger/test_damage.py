"""Every page of a ledger is damaged in turn, and other things stand in its place: no command fails over that."""

import copy
import os
import random
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.kit.charon import Child, charon_call
from tests.kit.commands import Command
from tests.kit.machine import Environment, Machine, Tunnel, call, establish
from tests.kit.starts import OTHER, SHARED
from updown import event, hook
from updown.ledger import damage
from updown.ledger.damage import verify
from updown.ledger.file import copy_ledger, open_ledger
from updown.ledger.store import LedgerError
from updown.model.errors import StateError

PAGE = 4096  # bytes, SQLite's default
TUNNELS = [
    Tunnel(
        f"c{number}",
        peer=f"198.51.100.{10 + number}",
        theirs=f"10.{number}.0.0/24",
        device=f"vti{number}",
        mark_in=f"{number}/0xff",
        mark_out=f"{number}/0xff",
        reqid=20000 + 4 * number,
        address="10.99.0.1/30",
    )
    for number in range(1, 9)
]

Pages = list[bytes]
DAMAGES: dict[str, Callable[[Pages, int], bytes]] = {
    "zeros": lambda pages, _: bytes(len(pages[0])),
    "noise at its head": lambda pages, at: random.Random(at).randbytes(16) + pages[at][16:],
    "zeros in its second half": lambda pages, at: pages[at][: PAGE // 2] + bytes(PAGE // 2),
    "flipped bits": lambda pages, at: bytes(b ^ (1 << n % 8 if n % 61 == 7 else 0) for n, b in enumerate(pages[at])),
    "another page": lambda pages, at: pages[(at + 1) % len(pages)],
}

COMMANDS: dict[str, tuple[tuple[str, ...], Environment]] = {
    "up": ((), call(TUNNELS[3], "up")),
    "down": ((), call(TUNNELS[4], "down")),
    "status": (("status",), {}),
    "check": (("check",), {}),
    "reconcile": (("reconcile",), {}),
    "clean": (("clean",), {}),
}


class Damaged:
    """A machine with tunnels whose ledger can be damaged, again and again."""

    def __init__(self, machine: Machine, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        self.machine, self.patch, self.capsys = machine, patch, capsys
        Command(machine, patch)
        for tunnel in TUNNELS:
            machine.send_all(establish(tunnel))
        machine.settings("[connection c]\ninterface = vti77\n")
        machine.send(charon_call(Child(mark_in="77/0xff", mark_out="77/0xff", peer="203.0.113.9"), "up"))
        self.good = shutil.copytree(machine.folder, tmp_path / "good")
        self.kernel = copy.deepcopy({name: value for name, value in vars(machine.kernel).items() if name != "fault"})
        self.ledger = machine.folder / "net-1" / "ledger"
        data = self.ledger.read_bytes()
        self.pages = [data[at : at + PAGE] for at in range(0, len(data), PAGE)]

    def restore(self) -> None:
        """All as it was."""
        shutil.rmtree(self.machine.folder)
        shutil.copytree(self.good, self.machine.folder)
        vars(self.machine.kernel).update(copy.deepcopy(self.kernel))

    def run(self, words: tuple[str, ...], environ: Environment) -> tuple[int, str]:
        """An invocation: its status, and what it printed."""
        with self.patch.context() as patch:
            patch.setattr("sys.argv", ["vti-updown", "--state-dir", str(self.machine.folder), *words])
            status = hook.invocation(environ)
        return status, "".join(self.capsys.readouterr())

    def works(self) -> bool:
        """Whether the next event is served."""
        again = call(TUNNELS[6], "up")
        return self.run((), again)[0] == 0 and "vti7" in self.machine.devices()


@pytest.fixture
def damaged(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, journalled: list[str]
) -> Damaged:
    del journalled
    return Damaged(machine, monkeypatch, capsys, tmp_path)


@pytest.mark.parametrize("case", DAMAGES)
def test_each_page_damaged_in_turn_stops_no_command(damaged: Damaged, case: str) -> None:
    assert len(damaged.pages) > 20
    wrong = []
    for at in range(len(damaged.pages)):
        bad = b"".join([*damaged.pages[:at], DAMAGES[case](damaged.pages, at), *damaged.pages[at + 1 :]])
        for name, (words, environ) in COMMANDS.items():
            damaged.restore()
            damaged.ledger.write_bytes(bad)
            status, said = damaged.run(words, environ)
            good = status == 0 if environ else status in (0, 1, 5)
            if not good or "defect" in said or "Traceback" in said or not said.replace("\n", "").isprintable():
                wrong.append((at, name, status, said[-300:]))
            elif name in ("reconcile", "clean") and b"".join(damaged.pages) != bad:
                with damaged.machine.ledger() as ledger:
                    verify(ledger)  # who reads all leaves a whole one
            if name not in ("status", "check") and not damaged.works():  # those write nothing
                wrong.append((at, f"after {name}", status, ""))
    assert wrong == []


def test_a_ledger_cut_after_each_page_stops_no_command(damaged: Damaged) -> None:
    for at in range(len(damaged.pages)):
        for name, (words, environ) in COMMANDS.items():
            damaged.restore()
            damaged.ledger.write_bytes(b"".join(damaged.pages[:at]))
            status, said = damaged.run(words, environ)
            assert (status if environ else 0) == 0, (at, name, said)
            assert "defect" not in said
            assert damaged.works(), (at, name)


@pytest.mark.parametrize("at", [*range(16, 24), *range(40, 72)])
def test_each_field_of_the_header_damaged_stops_no_command(damaged: Damaged, at: int) -> None:
    """Page size, write-ahead log, reserved bytes, schema format, text encoding (sqlite.org/fileformat2.html)."""
    for value in (0, 1, 2, 255):
        for words, environ in (COMMANDS["up"], COMMANDS["reconcile"]):
            damaged.restore()
            data = bytearray(damaged.ledger.read_bytes())
            data[at] = value
            damaged.ledger.write_bytes(data)
            status, said = damaged.run(words, environ)
            assert status in ((0,) if environ else (0, 1)), said
            assert "defect" not in said
            assert damaged.works()


def test_a_good_ledger_is_found_good(damaged: Damaged) -> None:
    with damaged.machine.ledger() as ledger:
        verify(ledger)
        assert len(list(ledger.claims())) == len(TUNNELS) + 1


SPOILT = {
    "a want that is another": """UPDATE want SET value = replace(value, '10.2.0.0/24', '10.2.9.0/24')""",
    "a want on another device": "UPDATE want SET device = 'vti6'",
    "a number that is text": "UPDATE made SET value = 'x' WHERE resource = 'device vti5'",
    "a number that is missing": "UPDATE carries SET claim = x'00'",
    "a probe that is text": "INSERT INTO probe VALUES ('vti5', 'x', 0)",
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_is_there_twice_and_differs_is_damage(machine: Machine, case: str) -> None:
    machine.send_all(establish(SHARED))
    with machine.ledger() as ledger:
        ledger.base.execute(SPOILT[case])
    with open_ledger(str(machine.folder), "1") as ledger, pytest.raises(LedgerError, match="malformed"):
        verify(ledger)
    with machine.opened() as ledger:
        assert "set aside as" in ledger.note
    assert copy_ledger(str(machine.folder), "1").note == ""


def test_what_fails_over_a_damaged_ledger_is_no_defect_and_the_event_is_served(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address that is none any more, in what a claim asks for: whatever that makes fail."""
    machine.send_all(establish(SHARED))
    with machine.ledger() as ledger:
        ledger.base.execute(SPOILT["a want that is another"])
    real = event.apply_event

    def fails(*_: Any) -> Any:
        monkeypatch.setattr(event, "apply_event", real)
        raise ValueError("10.2.x.0/24")

    monkeypatch.setattr(event, "apply_event", fails)
    report = machine.serve(call(SHARED, "up"))
    assert report.warnings[0].startswith("the ledger was damaged (malformed: claims and what they ask for differ)")
    monkeypatch.setattr(event, "apply_event", fails)
    with pytest.raises(ValueError, match=r"10\.2\.x"):  # and with a whole one it is a defect
        machine.serve(call(SHARED, "up"))


def device(path: Path) -> None:
    """A device file."""
    os.mknod(path, 0o020600, os.makedev(1, 5))  # /dev/zero, which never ends


IN_THE_WAY: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": lambda path: path.mkdir(),
    "a folder with a file": lambda path: shutil.copytree(Path(__file__).parent, path),
    "a device": device,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("name", ["ledger", "lock", "ledger-journal", "ledger-wal"])
@pytest.mark.parametrize("case", IN_THE_WAY)
def test_what_is_no_file_in_the_place_of_one_is_set_aside(damaged: Damaged, name: str, case: str) -> None:
    path = damaged.machine.folder / "net-1" / name
    for words, environ in COMMANDS.values():
        damaged.restore()
        path.unlink(missing_ok=True)
        try:
            IN_THE_WAY[case](path)
        except PermissionError:
            pytest.skip("no device files here")
        status, said = damaged.run(words, environ)
        assert status in ((0,) if environ else (0, 1, 5)), said
        assert "defect" not in said
        if environ:
            assert "aside" in said
        assert damaged.works()
        assert path.is_file() or not os.path.lexists(path)
        assert list(path.parent.glob("*.damaged-*"))


def test_two_that_find_a_pipe_in_the_lock_s_place_have_one_lock(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the second one's look and its hand the first has set the pipe aside and made the lock."""
    lock = machine.folder / "net-1" / "lock"
    lock.parent.mkdir(parents=True)
    os.mkfifo(lock)
    real = damage.no_file
    looks: list[object] = []

    def look(path: str) -> str:
        found = real(path)
        if path == str(lock) and not looks:
            looks.append(found)
            with machine.ledger():
                looks.append(lock.stat().st_ino)
        return found

    monkeypatch.setattr(damage, "no_file", look)
    with machine.ledger():
        assert looks == ["no file", lock.stat().st_ino]


@pytest.mark.parametrize("name", ["100%", "50%41", "what?", "a#b", "a b", "é", "?mode=memory", "%00"])
def test_a_state_directory_may_have_any_name(machine: Machine, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    machine.folder = machine.folder / name
    machine.send_all(establish(SHARED))
    copied = copy_ledger(str(machine.folder), "1")
    assert (copied.note, len(list(copied.claims()))) == ("", 1)
    assert machine.command("status") == 0
    assert "vti5" in capsys.readouterr().out
    assert len(list(copy_ledger("/" + str(machine.folder), "1").claims())) == 1


def test_two_ledgers_set_aside_in_one_second_have_two_names(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda *_: "20260102-030405")
    ledger = machine.folder / "net-1" / "ledger"
    machine.serve(call(OTHER, "up"))
    for number in range(3):
        ledger.write_bytes(b"no ledger %d" % number * 99)
        machine.serve(call(OTHER, "up"))
    aside = {path.name: path.read_bytes()[:11] for path in ledger.parent.glob("ledger.damaged-*")}
    stem = "ledger.damaged-20260102-030405"
    assert aside == {stem: b"no ledger 0", f"{stem}-2": b"no ledger 1", f"{stem}-3": b"no ledger 2"}


def test_a_journal_goes_aside_with_its_ledger(machine: Machine) -> None:
    """Else it would be played back into the new one."""
    machine.serve(call(OTHER, "up"))
    ledger = machine.folder / "net-1" / "ledger"
    os.mkfifo(ledger.with_name("ledger-journal"))
    machine.serve(call(OTHER, "up"))
    assert len(list(ledger.parent.glob("ledger.damaged-*-journal"))) == 1


def test_what_sqlite_says_of_a_damaged_name_is_escaped(machine: Machine) -> None:
    ledger = machine.folder / "net-1" / "ledger"
    machine.serve(call(OTHER, "up"))
    ledger.write_bytes(ledger.read_bytes().replace(b"want_place ON want", b"want_place ON w\x1bnt"))
    copied = copy_ledger(str(machine.folder), "1").note
    report = machine.serve(call(SHARED, "up"))
    for text in (copied, report.warnings[0]):
        assert "\x1b" not in text
        assert r"\x1b" in text


def test_an_error_that_is_no_damage_sets_nothing_aside(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.serve(call(OTHER, "up"))

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(event, "apply_event", full)
    with pytest.raises(StateError, match="full"):
        machine.serve(call(OTHER, "up"))
    assert sorted(path.name for path in (machine.folder / "net-1").iterdir()) == ["failed", "ledger", "lock"]
