"""State that cannot be written or read in the middle of an event: the message says what happened, and the next event ends
right (promise P6)."""

import errno
import multiprocessing
import os
import resource
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.kit.machine import THIRD, Environment, Machine, call, establish
from tests.kit.reconciling import reconcile_with
from tests.kit.starts import FULL, OTHER, SHARED, STARTS, machine_after, state
from updown import daemons, transaction
from updown.commands.reconcile.decide import Evidence
from updown.daemons.answer import ANSWERED, ChildSa, DaemonAnswer
from updown.ledger import file
from updown.ledger.store import Ledger
from updown.model.errors import KernelError, Notice, StateError, UpdownError
from updown.model.ipsec import Database

UP = ChildSa("libreswan", "u", OTHER.me, OTHER.peer)
PAGE = 512  # bytes: small ones, so that each event needs more of them


def small_pages(monkeypatch: pytest.MonkeyPatch, room: list[int]) -> None:
    """Ledgers that may grow by `room[0]` pages in each event, where there is such a number."""

    def connect(path: str) -> sqlite3.Connection:
        base = sqlite3.connect(path, timeout=5, isolation_level=None)
        base.execute(f"PRAGMA page_size = {PAGE}")
        base.execute("PRAGMA synchronous = OFF")
        if room:
            (pages,) = base.execute("PRAGMA page_count").fetchone()
            base.execute(f"PRAGMA max_page_count = {max(pages, 1) + room[0]}")
        return base

    monkeypatch.setattr(file, "connect", connect)


def timeless(picture: tuple[Any, ...]) -> tuple[Any, ...]:
    """Claims without the time since when they hold."""
    kernel, claims, made = picture
    return kernel, [claim._replace(since=0) for claim in claims], made


@pytest.mark.parametrize("case", STARTS)
def test_a_full_disk_at_any_write_is_told_and_the_next_event_ends_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """The ledger may grow by no page, by one, by two, ... until the event goes well."""
    before, last = STARTS[case]
    room: list[int] = []
    small_pages(monkeypatch, room)
    wanted = timeless(state(machine_after(tmp_path / "wanted", monkeypatch, [*before, last])))
    failed = 0
    for pages in range(200):
        machine = Machine(tmp_path / str(pages), monkeypatch)
        machine.send_all(before)
        start = state(machine)
        room[:] = [pages]
        try:
            report = machine.serve(last)
            full = [warning for warning in report.warnings if "could not be told" in warning]
        except StateError as error:
            full = [Notice("not done", error.text)]
            assert error.hint
            assert machine.kernel.picture(indexes=False) == start[0]
        room.clear()
        machine.serve(last)
        assert machine.unfinished() == []
        assert timeless(state(machine)) == wanted, f"room for {pages} pages"
        if not full:
            break
        assert "full" in full[0]
        failed += 1
    else:
        raise AssertionError("it never went well")
    assert failed or before, "what changes claims may find room in the pages there are"


def test_after_a_down_on_a_full_disk_what_the_hint_says_mends_it(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """No later event speaks of that tunnel; the next one of another changes nothing about it."""
    machine.send_all(establish(FULL))

    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    before = machine.kernel.picture()
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "begin", full)
        with pytest.raises(StateError, match="full") as error:
            machine.serve(call(FULL, "down"))
    assert "free space there (df shows it), then vti-updown reconcile" in error.value.hint
    assert machine.kernel.picture() == before
    machine.serve(call(OTHER._replace(device="vti6", mark_in="6/0xff", mark_out="6/0xff"), "up"))
    assert machine.kinds() == {("t", "sa"), ("u", "sa")}
    reconcile_with(machine, Evidence({"libreswan": DaemonAnswer(ANSWERED, children=(UP,))}, Database()))
    assert machine.kinds() == {("u", "sa")}
    assert machine.devices() == {"vti6"}


def limited(folder: str, size: int, environment: Environment, answer: Any) -> None:
    """A process whose files may not grow beyond `size` bytes sends an event."""
    machine = Machine(Path(folder), pytest.MonkeyPatch())
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        machine.serve(environment)
        answer.put(("", "", sorted(machine.devices())))
    except UpdownError as error:
        answer.put((error.text, error.hint, sorted(machine.devices())))


@pytest.mark.parametrize("size", [0, 2048, 5000, 40000])
def test_files_that_may_not_grow_fail_the_event_before_the_kernel_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """The real thing: write() fails in the journal, in the ledger, in a new one."""
    fork = multiprocessing.get_context("fork")
    answer = fork.Queue()
    worker = fork.Process(target=limited, args=(str(tmp_path), size, call(SHARED, "up"), answer))
    worker.start()
    text, hint, devices = answer.get(timeout=60)
    worker.join(60)
    assert "net-1" in text
    assert hint
    assert devices == []
    machine = Machine(tmp_path, monkeypatch)
    assert machine.serve(call(SHARED, "up")).operations
    assert machine.kinds() == {("t", "sa")}


@pytest.mark.parametrize("number", [errno.EBUSY, errno.ENOBUFS, errno.EIO], ids=lambda number: errno.errorcode[number])
def test_what_the_kernel_refuses_for_now_is_undone_and_done_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """At each operation of an event that re-points a device with all that hangs on it."""
    before, last = STARTS["making anew"]
    wanted = state(machine_after(tmp_path / "wanted", monkeypatch, [*before, last]))
    for at in range(60):
        machine = Machine(tmp_path / str(at), monkeypatch)
        machine.send_all(before)
        start = state(machine)
        machine.fails_at = (at, KernelError("no", number))
        machine.moments = []
        context = daemons.read(last)
        with machine.ledger() as ledger:
            moment = ""
            try:
                from updown import event

                event.run(context, machine.lines, ledger, machine.kernel, machine.now, False)  # type: ignore[arg-type]
            except KernelError:
                moment = machine.moments[at]
        over = len(machine.moments) <= at
        machine.fails_at = None
        if moment and not moment.endswith("commit"):
            assert state(machine) == start, moment
        machine.send(last)
        assert state(machine) == wanted, moment
        if over:
            return
    raise AssertionError("too many operations")


def test_a_ledger_that_fails_while_an_event_is_undone_says_both(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel refused, and the disk was full as the claims were to be written back."""
    machine.send_all(establish(OTHER))
    before = machine.kernel.picture()

    def fault(_number: int, text: str) -> None:
        if text.startswith("link set"):
            raise KernelError(f"{text}: no", errno.EIO)

    def restore(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    own = FULL._replace(device="vti6", mark_in="6/0xff", mark_out="6/0xff", address="")
    with monkeypatch.context() as patch:
        patch.setattr(transaction, "roll_back", restore)
        patch.setattr(machine.kernel, "fault", fault)
        with pytest.raises(StateError, match=r"vti6: no; undone, but the ledger could not be told \(.*full\)") as error:
            machine.serve(call(own, "up"))
    assert "next event" in error.value.hint
    assert machine.devices() == {"vti5"}
    machine.serve(call(own, "down"))
    assert machine.kinds() == {("u", "sa")}
    assert machine.unfinished() == []
    assert machine.kernel.picture() == before


SPOILT: dict[str, str] = {
    "no JSON in a want": "UPDATE want SET value = 'x'",
    "a want of another kind": """UPDATE want SET value = '["moon", 1]'""",
    "a want of another shape": """UPDATE want SET value = '["device", 1]'""",
    "a number for a want": "UPDATE want SET value = '7'",
    "no JSON in a claim": "UPDATE claim SET sa = '{'",
    "a claim of another shape": "UPDATE claim SET sa = '[1]'",
    "a claim without a row": "UPDATE claim SET row = 'null'",
    "a bad note": "INSERT INTO unfinished VALUES ('device x', 'x', 'x')",
    "a note of another shape": """INSERT INTO unfinished VALUES ('device x', '"t"', '["route"]')""",
    "a missing table": "DROP TABLE want",
    "a missing column": "ALTER TABLE claim RENAME COLUMN row TO line",
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_ledger_with_foreign_content_is_set_aside_and_the_event_served(machine: Machine, case: str) -> None:
    machine.send_all(establish(SHARED))
    path = machine.folder / "net-1" / "ledger"
    base = sqlite3.connect(path)
    base.execute(SPOILT[case])
    base.commit()
    base.close()
    report = machine.serve(call(SHARED._replace(peer=THIRD), "up"))
    assert report.warnings[0].startswith("the ledger was damaged (")
    assert list(path.parent.glob("ledger.damaged-*"))
    assert machine.kinds() == {("t", "sa")}
    assert machine.serve(call(SHARED._replace(peer=THIRD), "up")).operations == ()


@pytest.mark.parametrize("step", ["makedirs", "open"])
def test_a_state_directory_that_cannot_be_written_is_named(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    real = getattr(os, step)

    def refuse(path: Any, *rest: Any, **more: Any) -> Any:
        if str(path).startswith(str(machine.folder)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, step, refuse)
        with pytest.raises(StateError, match="Read-only file system") as error:
            machine.serve(call(SHARED, "up"))
    assert "make it writable" in error.value.hint
    assert machine.devices() == set()
    machine.serve(call(SHARED, "up"))
    assert machine.devices() == {"vti5"}
