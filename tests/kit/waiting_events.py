"""Events that come while somebody holds the lock, and what of them lies in the spool."""

from pathlib import Path

from tests.kit.machine import THIRD, Environment, Machine, Tunnel
from updown.ledger import spool
from updown.model.operations import Report

ONE = Tunnel(shared="yes", address="10.99.0.1/30")
TWO = Tunnel("u", peer=THIRD, theirs="10.3.0.0/24", shared="yes", address="10.99.0.1/30", reqid=16392)


def held_up(machine: Machine, *environments: Environment) -> None:
    """These events come while somebody holds the lock, and are kept."""
    with machine.ledger():
        for environment in environments:
            assert is_kept(machine.serve(environment))


def is_kept(report: Report) -> bool:
    """Whether a call's event waits in the spool now."""
    return [warning.kind for warning in report.warnings] == ["kept"] and "event is kept" in report.warnings[0]


def place(machine: Machine) -> str:
    return str(machine.folder / "net-1")


def waiting(machine: Machine) -> list[Path]:
    """The files in the spool."""
    return [machine.folder / "net-1" / "spool" / name for name in spool.waiting_events(place(machine))]
