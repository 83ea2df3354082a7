"""What failed last of each connection is remembered until something of it succeeds; `status` and `check` show it."""

import json
import os
from pathlib import Path
from typing import Callable

import pytest

from tests.kit.hook_calls import called
from tests.kit.kernel_model import Kernel
from tests.kit.machine import Environment, Machine, call
from tests.kit.waiting_events import ONE, TWO, held_up, place
from updown import event
from updown.commands import clean, status
from updown.commands.check.facts import CheckFacts, Mistake
from updown.commands.check.findings import find
from updown.ledger import clock, failures, spool
from updown.ledger.failures import Failure
from updown.model.errors import KernelError, Refused, UpdownError

pytestmark = pytest.mark.usefixtures("impatient")

TAKEN = ONE._replace(device="eth0")


def remembered(machine: Machine) -> list[tuple[str, str, int, str]]:
    """Connection, verb, status and kind of what is remembered."""
    return [(one.connection, one.verb, one.status, one.kind) for one in failures.failures(place(machine), clock.now())]


def fails(machine: Machine, environment: Environment) -> None:
    with pytest.raises(UpdownError):
        machine.serve(environment)


def broken_settings(machine: Machine, _patch: pytest.MonkeyPatch) -> None:
    Path(machine.arguments.config or "").write_text("[defaults]\nlock_wait = 0\nmtuu = 1\n")


def no_ledger(machine: Machine, _patch: pytest.MonkeyPatch) -> None:
    (machine.folder / "net-1").mkdir(parents=True)
    (machine.folder / "net-1" / "spool").write_text("")
    (machine.folder / "net-1" / "ledger").symlink_to("/proc/version")


def refusing_kernel(_machine: Machine, patch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise KernelError("no", 5)

    patch.setattr(Kernel, "add_link", refuse)


def defect(_machine: Machine, patch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("x")

    patch.setattr(event, "run", broken)


FAILING: dict[str, tuple[Environment, Callable[[Machine, pytest.MonkeyPatch], None], int, str]] = {
    "a conflict": (call(TAKEN, "up"), lambda *_: None, 3, "conflict"),
    "a mistake in the settings": (call(ONE, "up"), broken_settings, 2, "refused"),
    "a bad variable": ({**call(ONE, "up"), "VTI_IFACE": "x;y"}, lambda *_: None, 2, "refused"),
    "an unknown verb": ({**call(ONE, "up"), "PLUTO_VERB": "up-client-v9"}, lambda *_: None, 2, "refused"),
    "a ledger that cannot be opened": (call(ONE, "up"), no_ledger, 1, "state"),
    "a kernel that refuses": (call(ONE, "up"), refusing_kernel, 1, "kernel"),
    "a defect": (call(ONE, "up"), defect, 1, "defect"),
}


@pytest.mark.parametrize("case", FAILING)
def test_a_failure_is_remembered_wherever_the_event_failed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], journalled: list[str], case: str
) -> None:
    environment, breaks, number, kind = FAILING[case]
    breaks(machine, monkeypatch)
    before = clock.now()
    assert called(machine, environment, monkeypatch) == number
    said = " ".join(capsys.readouterr().err.split())
    (one,) = failures.failures(place(machine), clock.now())
    assert one[:2] == ("t", environment["PLUTO_VERB"])
    assert (one.status, one.kind) == (number, kind)
    assert before <= one.at <= clock.now()
    assert one.text.split()[0] in said
    del journalled


def test_it_is_kept_until_an_event_that_makes_succeeds(machine: Machine) -> None:
    """pluto sends `down` and `unroute` at once after an `up` that failed: these succeed, and nothing is mended."""
    fails(machine, call(TAKEN, "up"))
    machine.serve(call(TAKEN, "down"))
    machine.serve(call(TAKEN, "unroute", child=False))
    machine.serve(call(TWO, "up"))
    assert remembered(machine) == [("t", "up-client", 3, "conflict")]
    machine.serve(call(ONE, "prepare"))
    assert remembered(machine) == []


def test_a_down_that_failed_is_forgotten_with_the_next_that_succeeds(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.serve(call(ONE, "up"))

    def refuse(*_: object) -> None:
        raise KernelError("no", 5)

    with monkeypatch.context() as patch:
        patch.setattr(event, "run", refuse)
        fails(machine, call(ONE, "down"))
    assert remembered(machine) == [("t", "down-client", 1, "kernel")]
    machine.serve(call(ONE, "down"))
    assert remembered(machine) == []


def test_the_last_failure_is_the_one_that_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    fails(machine, call(TAKEN, "up"))
    broken_settings(machine, monkeypatch)
    fails(machine, call(TAKEN, "prepare"))
    assert remembered(machine) == [("t", "prepare-client", 2, "refused")]


@pytest.mark.parametrize("mistake", [False, True], ids=["a conflict", "a mistake in its settings"])
def test_an_event_from_the_spool_is_remembered_with_the_time_when_it_came(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, mistake: bool
) -> None:
    held_up(machine, call(TAKEN, "up"))
    came = spool.arrival_time(spool.waiting_events(place(machine))[0])
    if mistake:
        broken_settings(machine, monkeypatch)
    monkeypatch.setattr(clock, "now", lambda: came + 500)
    machine.serve(call(TWO, "down"))
    (one,) = failures.failures(place(machine), came + 500)
    assert (one.connection, one.verb, one.at) == ("t", "up-client", came)
    assert one.kind == ("refused" if mistake else "conflict")


def test_a_success_from_the_spool_makes_up_for_a_failure(machine: Machine) -> None:
    fails(machine, call(TAKEN, "up"))
    held_up(machine, call(ONE, "up"))
    machine.serve(call(TWO, "up"))
    assert remembered(machine) == []


def test_a_dry_run_remembers_nothing_and_forgets_nothing(machine: Machine) -> None:
    with pytest.raises(UpdownError):
        machine.serve(call(TAKEN, "up"), dry=True)
    assert not machine.folder.exists()
    fails(machine, call(TAKEN, "up"))
    machine.serve(call(ONE, "up"), dry=True)
    assert len(remembered(machine)) == 1


def test_clean_forgets_failures_and_a_dry_run_of_it_does_not(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    fails(machine, call(TAKEN, "up"))
    clean.run(machine.arguments._replace(dry_run=True))
    assert len(remembered(machine)) == 1
    clean.run(machine.arguments)
    assert remembered(machine) == []
    assert not (machine.folder / "net-1" / "failed").exists()
    capsys.readouterr()


def test_status_shows_each(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    name = "t\x1b[2J"
    fails(machine, call(TAKEN._replace(connection=name), "up"))
    assert status.run(machine.arguments) == 0
    out = capsys.readouterr().out
    assert r"t\x1b[2J: up-client failed at 20" in out
    assert "(status 3, conflict)" in " ".join(out.split())
    assert "    hint: " in out
    assert "\x1b" not in out
    assert status.run(machine.arguments._replace(json=True)) == 0
    (one,) = json.loads(capsys.readouterr().out)["failures"]
    assert (one["connection"], one["verb"], one["status"], one["kind"]) == (name, "up-client", 3, "conflict")
    assert abs(one["at"] - clock.booted() - clock.now()) < 5


LOST = Failure("t", "up-client", 100, 3, "conflict", "vti5 is not ours", "delete it")


def test_check_finds_each_with_a_mend_and_a_mistake_in_the_settings_once() -> None:
    (found,) = (one for one in find(CheckFacts(failed=(LOST,), xfrm=None, root=True)) if one.code == "event-failed")
    assert found.subject == "t"
    assert "up-client failed at 1970-01-01 " in found.text
    assert "vti5 is not ours" in found.text
    assert found.mend == "delete it; then take t down and up"
    mistake = LOST._replace(text="f:2: unknown key x", kind="refused")
    known = (Mistake("f:2: unknown key x", "", "f:2"),)
    codes = [one.code for one in find(CheckFacts(failed=(mistake,), mistakes=known))]
    assert codes.count("settings-mistake") == 1
    assert "event-failed" not in codes


def test_what_is_remembered_is_bounded_in_number_and_age(tmp_path: Path) -> None:
    where = str(tmp_path / "state" / "net-1")
    for number in range(failures.MOST + 20):
        failures.remember(where, LOST._replace(connection=f"c{number}", at=number))
    kept = failures.failures(where, failures.MOST + 20)
    assert [one.connection for one in kept] == [f"c{number}" for number in range(20, failures.MOST + 20)]
    assert len(os.listdir(tmp_path / "state" / "net-1" / "failed")) == failures.MOST
    later = failures.MOST + 20 + failures.DAYS * 86400
    assert failures.failures(where, later) == []
    failures.remember(where, LOST._replace(at=later, text="x" * 100000))
    assert len(os.listdir(tmp_path / "state" / "net-1" / "failed")) == 1


FOREIGN: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: path.write_bytes(b""),
    "no JSON": lambda path: path.write_bytes(b"\xff{"),
    "another shape": lambda path: path.write_text('["t", "up", 1]'),
    "other types": lambda path: path.write_text('["t", "up", "1", 2, 3, 4, 5]'),
    "deep": lambda path: path.write_text("[" * 60000),
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "a link": lambda path: path.symlink_to("/etc/hostname"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_file_that_is_none_of_ours_is_no_failure_and_stops_nothing(machine: Machine, case: str) -> None:
    fails(machine, call(TAKEN, "up"))
    (file,) = (machine.folder / "net-1" / "failed").iterdir()
    file.unlink()
    FOREIGN[case](file)
    assert remembered(machine) == []
    fails(machine, call(TAKEN, "up"))
    machine.serve(call(ONE, "up"))


@pytest.mark.parametrize("name", ["../../x", "a/b", "n" * 3000, "t\udcff\n", ".", "\0"])
def test_no_name_of_a_connection_leaves_the_folder(tmp_path: Path, name: str) -> None:
    where = str(tmp_path / "state" / "net-1")
    failures.remember(where, LOST._replace(connection=name))
    assert [one.connection for one in failures.failures(where, 200)] == [name]
    failures.forget(where, name, "up")
    assert os.listdir(f"{where}/failed") == []


def test_a_state_directory_that_cannot_be_written_keeps_its_own_message(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.folder.write_text("")
    with pytest.raises(UpdownError, match="File exists"):
        machine.serve(call(ONE, "up"))
    broken_settings(machine, monkeypatch)
    with pytest.raises(Refused, match="unknown key"):
        machine.serve(call(ONE, "up"))
