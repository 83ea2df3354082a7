"""Thousands of random sequences of what the daemons really call, with mishaps, against the oracle (sequences.py).

A failure names its seed, and prints the shortest sequence that fails, as a call of `check` for test_regressions.py.
VTI_UPDOWN_SEED=... takes another seed than the fixed one; --full takes a new one and ten times as many sequences.
"""

import os
import random
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.kit.grammar_libreswan import Connection, Libreswan
from tests.kit.grammar_strongswan import StrongSwan
from tests.kit.machine import SwiftMachine, Tunnel, call, establish, withdraw
from tests.kit.sequences import MISHAPS, SEED, Daemon, Mishap, Run, Step, check, made_from

DAEMONS = (Libreswan, StrongSwan)
SEQUENCES = 8_400  # with those of test_spooled.py and test_follow.py 10,000
LOTS = 10  # so that a run shows where it is


@pytest.mark.parametrize("lot", range(LOTS))
@pytest.mark.parametrize("daemon", DAEMONS)
def test_random_sequences(daemon: Daemon, lot: int) -> None:
    for number in range(lot, SEQUENCES, LOTS * len(DAEMONS)):
        check(daemon, made_from(daemon, f"{SEED}/{number}"), f"seed {SEED}, sequence {number}")


@pytest.mark.slow
@pytest.mark.parametrize("lot", range(LOTS))
@pytest.mark.parametrize("daemon", DAEMONS)
def test_many_more_random_sequences(daemon: Daemon, lot: int) -> None:
    seed = os.environ.get("VTI_UPDOWN_SEED") or str(random.SystemRandom().randrange(10**9))
    print(f"VTI_UPDOWN_SEED={seed}")
    for number in range(lot, 10 * SEQUENCES, LOTS * len(DAEMONS)):
        check(daemon, made_from(daemon, f"{seed}/{number}"), f"seed {seed}, sequence {number}")


TOLD = {
    Libreswan: "establish ipsec_route ipsec_down peer_deletes delete pending replace moves rekey fails_to_establish stray_down",
    StrongSwan: "initiate terminate rekey reauthenticate reauthenticate_first",
}
SILENT = {"pairs", "ports", "unfit", "unfit-4"}  # several pairs, or a failing hook: there `unroute` is omitted


@pytest.mark.parametrize("daemon", DAEMONS)
def test_reconcile_has_nothing_to_do_where_the_daemon_told_everything(daemon: Daemon) -> None:
    """At any moment between two things that happen."""
    chance = random.Random(SEED)
    names = [one.pairs[0].connection for one in cast(list[Connection], daemon.connections)]
    told = [number for number, name in enumerate(names) if name not in SILENT]
    for _ in range(100):
        who = chance.sample(told, 3)
        steps = [
            Step(thing, chance.choice(who), chance.random() < 0.6 or thing == "moves")  # and comes up there, which is told
            for thing in chance.choices(TOLD[daemon].split(), k=8)
        ]
        with pytest.MonkeyPatch.context() as patch:
            run = Run(daemon, patch)
            run.perform(tuple(one for step in steps for one in (step, Step("reconcile", step.who))))
            assert run.no_sa == run.runs == len(steps), "\n".join(run.log)
            run.machine.base.close()


def state_machine(daemon: Daemon) -> type[RuleBasedStateMachine]:
    """The same by hypothesis, which looks for other things than chance does, and keeps what it learns while it shrinks."""

    class Events(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.patch = pytest.MonkeyPatch()
            self.run = Run(daemon, self.patch)

        def teardown(self) -> None:
            self.run.machine.base.close()
            self.patch.undo()

        mishap = st.builds(Mishap, st.sampled_from(MISHAPS), st.integers(0, 5), st.integers(0, 25))

        @rule(
            thing=st.sampled_from(sorted(set(daemon.things))),
            who=st.integers(0, len(daemon.connections) - 1),
            initiator=st.booleans(),
            again=st.booleans(),
            mishap=st.one_of(st.none(), mishap),
        )
        def happens(self, thing: str, who: int, initiator: bool, again: bool, mishap: Mishap) -> None:
            self.run.perform((Step(thing, who, initiator, again, mishap),))

    return Events


def machine_of(daemon: Daemon, examples: int) -> Any:
    """A test case for pytest."""
    made = pytest.mark.filterwarnings("ignore")(state_machine(daemon).TestCase)
    made.settings = settings(
        max_examples=examples,
        stateful_step_count=20,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    return made


TestLibreswan = machine_of(Libreswan, 50)
TestStrongSwan = machine_of(StrongSwan, 20)


@pytest.mark.parametrize("shared", ["yes", "no"])
def test_an_event_asks_no_more_where_there_are_many_tunnels(monkeypatch: pytest.MonkeyPatch, shared: str) -> None:
    """Promise P9, as far as a count shows it: questions to the kernel and statements of the ledger. Not so where
    an address goes from a device of many: with the last one the kernel flushes everybody's routes."""
    assert cost(monkeypatch, shared, 200) == cost(monkeypatch, shared, 2)


def cost(patch: pytest.MonkeyPatch, shared: str, others: int) -> list[tuple[int, int]]:
    """What each event of one tunnel asks where there are others."""
    machine = SwiftMachine(patch)
    statements: list[str] = []
    machine.base.set_trace_callback(statements.append)
    for number in range(1, others + 1):
        key = 5 if shared == "yes" else 10 + number
        one = Tunnel(f"o{number}", peer=f"203.0.113.{number}", theirs=f"10.200.{number}.0/24", reqid=20000 + 4 * number)
        mark = f"{key}/0xffffffff"
        one = one._replace(shared=shared, device=f"vti{key}", mark_in=mark, mark_out=mark)
        machine.send_all(establish(one._replace(address="10.99.0.1/30")))
    counted: list[tuple[int, int]] = []
    last = Tunnel(shared=shared, address="10.99.0.1/30")
    for environment in [*establish(last), call(last, "down", wishes=("UP",)), call(last, "up"), *withdraw(last)]:
        asked, said = machine.kernel.asked, len(statements)
        machine.send(environment)
        counted.append((machine.kernel.asked - asked, len(statements) - said))
    return counted
