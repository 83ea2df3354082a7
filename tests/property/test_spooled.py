"""Events that get no lock (promise P7) in random sequences: kept, applied by whoever has the lock next, in their order; none is
lost, wherever a process dies between writing, renaming, applying and removing."""

import random
import tempfile
from pathlib import Path
from typing import Optional

import pytest

from tests.kit.grammar_libreswan import Libreswan, Meddling, Reconcile
from tests.kit.grammar_strongswan import StrongSwan
from tests.kit.machine import SwiftMachine
from tests.kit.oracle import Call
from tests.kit.sequences import SEED, Daemon, Mishap, Run, Steps, Wrong, check, made_from
from tests.kit.spooled_machine import KEPT, SpooledMachine
from updown.model.errors import Conflict

DAEMONS = (Libreswan, StrongSwan)
SEQUENCES = 1_000
LOTS = 10


class Spooled(Run):
    """A sequence in which calls have to wait."""

    machine: SpooledMachine

    def new_machine(self, patch: pytest.MonkeyPatch) -> SwiftMachine:
        self.folder = tempfile.TemporaryDirectory(prefix="spooled-")
        self.queue: list[Call] = []
        return SpooledMachine(patch, Path(self.folder.name))

    def perform(self, steps: Steps) -> None:
        """All steps; in the end nothing waits."""
        super().perform(steps)
        self.flush()

    def flush(self) -> None:
        """Somebody takes the lock who has nothing else to do, as `vti-updown reconcile`."""
        if self.queue:
            self.log.append("   flush")
            with self.machine.opened():
                pass
            self.counted()
            self.compare()

    def counted(self) -> bool:
        """What waited counts now; whether there was anything."""
        queue, self.queue = self.queue, []
        for call in queue:
            for oracle in self.oracles:
                if not oracle.refuses(call):
                    oracle.happens(call)
        return bool(queue)

    def compare(self) -> None:
        super().compare()
        if self.machine.waiting():
            raise Wrong(f"still waiting: {self.machine.waiting()}")

    def meddle(self, doing: Meddling) -> None:
        self.flush()
        super().meddle(doing)

    def reconcile(self, doing: Reconcile, mishap: Optional[Mishap]) -> None:
        self.flush()
        super().reconcile(doing, mishap)

    def deliver(self, call: Call, mishap: Optional[Mishap], again: bool) -> bool:
        """A call that has to wait fails for its daemon, and counts when the next one has the lock."""
        behind = mishap is not None and mishap.kind == "kept behind"
        if mishap is None or mishap.kind not in KEPT or (behind and not self.queue):
            if mishap and mishap.kind == "refused":
                self.flush()
            return super().deliver(call, None if behind else mishap, again)
        self.log.append(f"   {call}  !! {mishap.kind} at {mishap.moment}")
        try:
            done, counts = self.machine.held_up(self.daemon.environment(call), mishap.kind, mishap.moment)
        except Conflict as error:
            if not any(oracle.refuses(call) for oracle in self.oracles):
                raise Wrong(f"it failed: {error}") from error
            done, counts = True, False
        self.log[-1] += f" -> counts {counts} ({', '.join(self.machine.moments)})"
        if counts:
            self.queue.append(call)
        if done:
            self.counted()
            self.compare()
        return done and counts

    def dies(self, call: Call, at: int) -> bool:
        self.counted()
        return super().dies(call, at)

    def succeeds(self, call: Call, refusal: Optional[int], unsure: bool = False) -> bool:
        return super().succeeds(call, refusal, self.counted() or unsure)


def with_waiting(daemon: Daemon, seed: str) -> Steps:
    """A random sequence where about every other thing has a call that waits."""
    chance = random.Random(seed)
    return tuple(
        step._replace(mishap=Mishap(chance.choice(KEPT), chance.choice((0, 0, 1, 2)), chance.randint(0, 8)))
        if chance.random() < 0.5
        else step
        for step in made_from(daemon, seed)
    )


@pytest.mark.parametrize("lot", range(LOTS))
@pytest.mark.parametrize("daemon", DAEMONS)
def test_random_sequences_with_events_that_wait(daemon: Daemon, lot: int) -> None:
    for number in range(lot, SEQUENCES, LOTS * len(DAEMONS)):
        seed = f"{SEED}/waiting/{number}"
        check(daemon, with_waiting(daemon, seed), seed, Spooled)
