"""reconcile lets go of the lock where it has much to do, and what events did meanwhile counts."""

import fcntl
import os
import threading
from pathlib import Path
from typing import cast

import pytest

from tests.kit.machine import EAST, NOW, Machine, Tunnel, call, establish
from tests.kit.reconciling import reconcile_with
from updown import serve
from updown.commands.reconcile import pause
from updown.commands.reconcile.decide import GRACE, Evidence
from updown.commands.reconcile.pause import lock_yielder as turns_of
from updown.commands.reconcile.report import Outcome
from updown.commands.reconcile.run import reconcile_ledger
from updown.daemons.answer import ABSENT, ANSWERED, ChildSa, DaemonAnswer
from updown.kernel.netlink.rtnetlink import Netlink
from updown.ledger.file import connect, open_ledger
from updown.ledger.lock import take_lock
from updown.model.errors import Locked, StateError
from updown.model.ipsec import Database

FIRST = Tunnel()
SECOND = Tunnel("u", peer="198.51.100.3", theirs="10.3.0.0/24", device="vti7", mark_in="7/0xff", mark_out="7/0xff", reqid=16392)
GONE = Evidence({"libreswan": DaemonAnswer(ABSENT)}, Database())
MOVED = Evidence(
    {
        "libreswan": DaemonAnswer(
            ANSWERED, children=tuple(ChildSa("libreswan", one.connection, "198.51.100.9", one.peer) for one in (FIRST, SECOND))
        )
    },
    Database(),
)


def interrupted(machine: Machine, facts: Evidence, *calls: dict[str, str], at: int = 2) -> Outcome:
    """A reconcile in which these events come before the device, or the claim to be derived, of this number."""
    looks = 0

    def taken_over() -> bool:
        nonlocal looks
        looks += 1
        if looks == at:
            assert ledger.lock is not None
            fcntl.flock(ledger.lock, fcntl.LOCK_UN)
            machine.send_all(list(calls))
            fcntl.flock(ledger.lock, fcntl.LOCK_EX)
        return looks == at

    with machine.ledger() as ledger:
        kernel = cast(Netlink, machine.kernel)
        outcome = reconcile_ledger(ledger, kernel, lambda _: machine.lines, facts, NOW + GRACE, taken_over=taken_over)
    assert looks >= at
    return outcome


def test_a_claim_that_an_event_renewed_meanwhile_is_left_to_the_next_run(machine: Machine) -> None:
    machine.send_all(establish(FIRST) + establish(SECOND))
    outcome = interrupted(machine, GONE, call(SECOND, "up", spi=0x3000))
    assert [claim.connection for claim in machine.claims()] == ["u"]
    assert machine.routes() == {("10.3.0.0/24", "vti7")}
    assert [claim.connection for claim in outcome.report.claims] == ["t"]
    assert outcome.report.remarks[-1].endswith("claims left to the next run: 1")
    interrupted_by_none(machine)
    assert machine.claims() == []


def interrupted_by_none(machine: Machine) -> Outcome:
    """A reconcile with nothing in between."""
    return reconcile_with(machine, GONE)


@pytest.mark.parametrize("at", [2, 4])  # claims to be derived, and devices
def test_a_claim_that_an_event_ended_meanwhile_does_not_come_back(machine: Machine, at: int) -> None:
    """It was about to be written with other ends."""
    machine.kernel.physical("wlan0", "198.51.100.9/24")
    machine.send_all(establish(FIRST) + establish(SECOND))
    interrupted(machine, MOVED, call(SECOND, "down"), at=at)
    assert [(claim.connection, claim.sa.me) for claim in machine.claims()] == [("t", "198.51.100.9")]
    assert machine.kernel.named("vti5").local == "198.51.100.9"
    assert machine.kernel.named("vti5").remote == EAST
    assert machine.routes() == {("10.2.0.0/24", "vti5")}


def test_an_event_that_touched_no_claim_of_it_changes_nothing(machine: Machine) -> None:
    machine.send_all(establish(FIRST) + establish(SECOND))
    interrupted(machine, GONE, *establish(Tunnel("v", device="vti8", theirs="10.4.0.0/24", peer="198.51.100.4")))
    assert [claim.connection for claim in machine.claims()] == ["v"]
    assert machine.routes() == {("10.4.0.0/24", "vti8")}


def test_who_waits_has_the_lock_meanwhile_and_what_it_wrote_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pause, "HELD", 0.0)
    path = tmp_path / "net-1" / "ledger"
    with open_ledger(str(tmp_path), "1") as ledger:
        taken_over = turns_of(ledger, str(path))

        def event(writes: bool) -> None:
            lock = take_lock(str(path.with_name("lock")), 5)
            if writes:
                base = connect(str(path))
                base.execute("INSERT INTO taken VALUES ('0x1 0x2', 1)")
                base.close()
            os.close(lock)

        for writes in (False, True):
            other = threading.Thread(target=event, args=(writes,))
            other.start()
            assert taken_over() is writes
            other.join(timeout=0.01)
            assert not other.is_alive()


def test_a_ledger_that_another_process_set_aside_meanwhile_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pause, "HELD", 0.0)
    path = tmp_path / "net-1" / "ledger"
    with open_ledger(str(tmp_path), "1") as ledger:

        def set_aside(*_: object) -> None:
            os.rename(path, path.with_name("damaged"))
            path.touch()

        monkeypatch.setattr(pause, "yield_lock", set_aside)
        with pytest.raises(StateError, match="set it aside meanwhile"):
            turns_of(ledger, str(path))()
        assert ledger.lost


def test_without_the_lock_no_event_that_waits_is_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has the lock does that."""
    monkeypatch.setattr(pause, "HELD", 0.0)
    monkeypatch.setattr(pause, "AGAIN", 0.0)
    place = serve.StateDir(str(tmp_path), "1", cast(Netlink, None), {})
    drained: list[bool] = []
    monkeypatch.setattr(serve, "drain_spool", lambda *_, before=False: drained.append(before))
    monkeypatch.setattr("updown.ledger.lock.time.sleep", lambda _: taken.append(take_lock(f"{place.path}/lock", 0)))
    taken: list[int] = []
    with pytest.raises(Locked), serve.locked(place, 0, []) as ledger:
        turns_of(ledger, f"{place.path}/ledger")()
    assert drained == [True]
    os.close(taken[0])


def test_the_lock_is_kept_for_a_second_at_least(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pause, "yield_lock", None)  # to call it would fail
    with open_ledger(str(tmp_path), "1") as ledger:
        assert turns_of(ledger, str(tmp_path / "net-1" / "ledger"))() is False
