"""A dry run shows the plan of an event and changes nothing."""

from pathlib import Path

import pytest

from tests.kit.machine import Machine, call
from tests.kit.starts import FULL, STARTS
from updown import daemons
from updown.serve import serve_event


@pytest.mark.parametrize("case", STARTS)
def test_a_dry_run_shows_the_plan_and_changes_nothing(machine: Machine, case: str) -> None:
    before, last = STARTS[case]
    machine.send_all(before)
    files = {path: path.read_bytes() for path in machine.folder.rglob("*") if path.is_file()}
    start = machine.kernel.picture()
    report = machine.serve(last, dry=True)
    assert machine.kernel.picture() == start
    assert {path: path.read_bytes() for path in machine.folder.rglob("*") if path.is_file()} == files
    assert machine.send(last).operations == report.operations


@pytest.mark.usefixtures("machine")
def test_a_dry_run_needs_no_state_directory(tmp_path: Path) -> None:
    environment = call(FULL, "up")
    assert serve_event(daemons.read(environment), environment, str(tmp_path / "nowhere"), dry=True).operations
    assert not (tmp_path / "nowhere").exists()
