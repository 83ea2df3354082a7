"""Events to try everything at that may go wrong: what was there before, and the one that is cut short."""

from pathlib import Path
from typing import Any

import pytest

from tests.kit.machine import EAST6, THIRD, WEST6, Environment, Machine, Tunnel, call, establish

FULL = Tunnel(peer="203.0.113.9", theirs="0.0.0.0/0", address="10.99.0.1/30", source="10.1.0.1", next_hop="198.51.100.254")
SHARED = Tunnel(shared="yes", address="10.99.0.1/30")
OTHER = Tunnel("u", peer=THIRD, theirs="10.3.0.0/24", shared="yes", address="10.99.1.1/30", reqid=16392)

STARTS: dict[str, tuple[list[Environment], Environment]] = {
    "making all": ([], call(FULL, "up")),
    "a second connection": (establish(SHARED), call(OTHER, "up")),
    "re-pointing": (establish(SHARED._replace(shared="no")), call(SHARED._replace(shared="no", peer=THIRD), "up")),
    "making anew": (establish(FULL), call(FULL._replace(me=WEST6, peer=EAST6), "up")),
    "taking all down": (establish(FULL), call(FULL, "down")),
    "taking one of two down": (establish(SHARED) + establish(OTHER), call(SHARED, "down")),
}


def state(machine: Machine) -> tuple[Any, ...]:
    """Kernel and ledger, but for what names a device by number."""
    claims = sorted((claim._replace(order=0) for claim in machine.claims()), key=lambda claim: claim.key)
    return machine.kernel.picture(indexes=False), claims, {name: bool(index) for name, index in machine.made().items()}


def changes_of(tmp: Path, patch: pytest.MonkeyPatch, case: str) -> list[str]:
    """The moments of an event that goes well."""
    before, last = STARTS[case]
    machine = Machine(tmp / "dry", patch)
    machine.send_all(before)
    machine.send(last)
    return machine.moments


def machine_after(folder: Path, patch: pytest.MonkeyPatch, calls: list[Environment]) -> Machine:
    """A machine after these calls."""
    machine = Machine(folder, patch)
    machine.send_all(calls)
    return machine
