"""The ledger's store: no statement of an event reads a whole table, and what is remembered of taken SAs is forgotten."""

import pytest

from tests.kit.charon import Child, charon_call
from tests.kit.machine import NOW, WEST, Machine, call
from tests.kit.starts import FULL, OTHER, SHARED, STARTS
from updown import daemons, event
from updown.ledger import store
from updown.ledger.store import FORGET, TAKEN_FOR

CHILD = Child(me=WEST, peer="198.51.100.77", mark_in="77/0xff", mark_out="77/0xff")
MAY_SCAN = ("FROM unfinished",)
"""Empty but after a death: what a killed event left is read whole, since all of it has to be mended."""


@pytest.mark.parametrize("case", STARTS)
def test_no_statement_of_an_event_reads_a_whole_table(machine: Machine, case: str) -> None:
    before, last = STARTS[case]
    machine.settings("[connection c]\ninterface = vti77\nrouting = yes\n")
    machine.send_all(before)
    said: set[str] = set()
    with machine.ledger() as ledger:
        ledger.base.set_trace_callback(said.add)
        libreswan = (last, call(SHARED, "down"), call(OTHER, "unroute"), call(FULL, "prepare-route-up"))
        charon = [charon_call(CHILD, verb, number) for verb, number in (("up", 1), ("up", 2), ("down", 3), ("down", 2))]
        for environment in (*libreswan, *charon):
            context = daemons.read(environment)
            event.run(context, machine.lines, ledger, machine.kernel, NOW, False)  # type: ignore[arg-type]
        ledger.base.set_trace_callback(None)
        found: list[str] = []
        for statement in said:
            if statement.split()[0] not in ("SELECT", "DELETE", "INSERT", "UPDATE"):
                continue
            plan = [row[3] for row in ledger.base.execute(f"EXPLAIN QUERY PLAN {statement}")]
            if any(step.startswith("SCAN") and "CONSTANT" not in step for step in plan):
                found.append(f"{statement}: {plan}")
    assert len(said) > 10
    assert [text for text in found if not any(word in text for word in MAY_SCAN)] == []


def test_the_row_of_a_connection_on_a_device_is_found_by_an_index(machine: Machine) -> None:
    """However many claims the device has, and the connection."""
    with machine.ledger() as ledger:
        said: list[str] = []
        ledger.base.set_trace_callback(said.append)
        assert ledger.rule_on("road", "vti5") is None
        plan = [row[3] for row in ledger.base.execute(f"EXPLAIN QUERY PLAN {said[0]}")]
    assert any("INDEX claim_connection (connection=? AND device=?)" in step for step in plan), plan
    assert not any("TEMP B-TREE" in step for step in plan), plan


def test_taken_sas_are_forgotten_a_few_at_a_time(machine: Machine) -> None:
    """Thousands went down at once; ten minutes later no event pays for all of them, and in time they are gone."""
    with machine.ledger() as ledger:
        for number in range(100):
            ledger.note_ended(f"0x{number:x} 0x1", NOW)
        later = NOW + TAKEN_FOR + 1
        (before,) = ledger.base.execute("SELECT count(*) FROM taken").fetchone()
        ledger.note_ended("0xffff 0x1", later)
        (after,) = ledger.base.execute("SELECT count(*) FROM taken").fetchone()
        assert (before, after) == (100, 100 - FORGET + 1)
        for number in range(100):
            ledger.note_ended(f"0xf{number:x} 0x1", later)
        (last,) = ledger.base.execute("SELECT count(*) FROM taken").fetchone()
        assert last == 101
        assert not ledger.was_ended("0x1 0x1", later)
        assert ledger.was_ended("0xf1 0x1", later + TAKEN_FOR)
        assert not ledger.was_ended("0xf1 0x1", later + TAKEN_FOR + 1)


def test_refusals_remembered_for_a_day_are_bounded_in_number(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The latest stay; ends of SAs, which are remembered for minutes, are no refusals."""
    monkeypatch.setattr(store, "MOST_LONGER", 5)
    with machine.ledger() as ledger, ledger.transaction():
        ledger.note_ended("ended", NOW)
        for number in range(20):
            ledger.note_ended(f"refused {number}", NOW + number, event.REFUSED_FOR)
    with machine.ledger() as ledger:
        kept = ledger.column("SELECT spis FROM taken ORDER BY at")
        assert kept == ["ended", *(f"refused {number}" for number in range(15, 20))]
        assert ledger.was_ended("refused 19", NOW + event.REFUSED_FOR)
