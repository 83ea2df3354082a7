"""pluto and charon on one gateway: their random sequences in turn, with one ledger, and a reconcile that asks both."""

import re
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple, Optional, cast

import pytest

from tests.kit.grammar_libreswan import FOREIGN, Doings, Libreswan, Reconcile
from tests.kit.grammar_strongswan import SETTINGS, StrongSwan
from tests.kit.machine import Environment
from tests.kit.oracle import Alive, Call, Device, Hold, Key, Oracle, RouteSeen, Truth, World
from tests.kit.sequences import SEED, Daemon, Run, check, made_from
from tests.kit.witnesses import facts
from updown.commands.reconcile.decide import Evidence
from updown.model.ipsec import Database

SEQUENCES = 1000
LOTS = 4


class Truths(NamedTuple):
    """What there is of both."""

    pluto: Truth
    charon: Truth

    @property
    def up(self) -> tuple[Alive, ...]:
        return self.pluto.up + self.charon.up

    @property
    def open(self) -> frozenset[str]:
        return self.pluto.open


class BothOracle(Oracle):
    """One for each daemon: nothing that one of them has is the other's."""

    def __init__(self, world: World, parts: Optional[tuple[Oracle, Oracle]] = None) -> None:
        self.world = world
        self.pluto, self.charon = parts or (Libreswan.oracle(world), StrongSwan.oracle(world))

    def of(self, call: Any) -> Oracle:
        return self.pluto if isinstance(call, Call) else self.charon

    def copy(self) -> "BothOracle":
        return BothOracle(self.world, (self.pluto.copy(), self.charon.copy()))

    def same(self, other: Oracle) -> bool:
        assert isinstance(other, BothOracle)
        return self.pluto.same(other.pluto) and self.charon.same(other.charon)

    @property
    def held(self) -> dict[Key, Hold]:  # type: ignore[override]
        return {**self.pluto.held, **{("charon", *key): hold for key, hold in self.charon.held.items()}}

    def refuses(self, call: Any) -> bool:
        return self.of(call).refuses(call)

    def happens(self, call: Any) -> None:
        self.of(call).happens(call)

    def fails(self, call: Any) -> None:
        self.of(call).fails(call)

    def learns(self, truth: Any) -> None:
        self.pluto.learns(truth.pluto)
        self.charon.learns(truth.charon)

    def loses(self, device: str) -> None:
        self.pluto.loses(device)
        self.charon.loses(device)

    def restarts(self) -> None:
        """Whichever daemon: neither oracle is told anything by it."""

    def roams(self, old: str, new: str) -> None:
        self.pluto.roams(old, new)

    def devices(self) -> dict[str, Device]:
        return {**self.pluto.devices(), **self.charon.devices()}

    def is_up(self, device: str) -> bool:
        return self.pluto.is_up(device) and self.charon.is_up(device)

    def addresses(self, device: str) -> set[str]:
        return self.pluto.addresses(device) | self.charon.addresses(device)

    def routes(self, more: Iterable[RouteSeen] = ()) -> set[RouteSeen]:  # noqa: ARG002
        return self.pluto.routes(self.charon.living_ways()) | self.charon.routes(self.pluto.living_ways())

    def sources(self, seen: RouteSeen) -> set[str]:
        return self.pluto.sources(seen) | self.charon.sources(seen)


class Both:
    """Both daemons; a thing is a number, and means for each of them another one."""

    oracle = BothOracle
    connections: ClassVar[tuple[Any, ...]] = (*Libreswan.connections, *StrongSwan.connections)
    together: ClassVar[tuple[tuple[int, ...], ...]] = tuple(
        (*one, *(number + len(Libreswan.connections) for number in other))
        for one in Libreswan.together
        for other in StrongSwan.together
    )
    world = FOREIGN
    files: ClassVar[dict[str, str]] = {}
    settings = re.sub(r"(interface = \S+)", r"\1\nrouting = yes", SETTINGS.replace("[defaults]\nrouting = yes\n", ""))
    things = tuple(str(number) for number in range(120))

    def __init__(self) -> None:
        self.pluto, self.charon = Libreswan(), StrongSwan()

    def environment(self, call: Any) -> Environment:
        return (self.pluto if isinstance(call, Call) else self.charon).environment(call)

    def thing(self, what: str, who: int, initiator: bool) -> Doings:
        """What the daemon of this connection does then; a reconcile is told of both."""
        first = len(Libreswan.connections)
        daemon: Any = self.pluto if who < first else self.charon
        doings = daemon.thing(daemon.things[int(what) % len(daemon.things)], who if who < first else who - first, initiator)
        try:
            doing = next(doings)
            while True:
                if isinstance(doing, Reconcile):
                    doing = Reconcile("both", cast(Truth, self.truths()))
                doing = doings.send((yield doing))
        except StopIteration:
            return

    def truths(self) -> Truths:
        (charons,) = self.charon.reconcile()
        assert isinstance(charons, Reconcile)
        return Truths(self.pluto.truth(), charons.truth)


class BothRun(Run):
    """The witnesses are two."""

    def witnesses(self, doing: Reconcile) -> Evidence:
        truths = cast(Truths, doing.truth)
        one, two = facts("libreswan", truths.pluto, self.since), facts("strongswan", truths.charon, self.since)
        assert one.xfrm
        assert two.xfrm
        both = Database(one.xfrm.policies + two.xfrm.policies, one.xfrm.states + two.xfrm.states)
        return Evidence({**one.said, **two.said}, both)


@pytest.mark.parametrize("lot", range(LOTS))
def test_random_sequences(lot: int) -> None:
    daemon = cast(Daemon, Both)
    for number in range(lot, SEQUENCES, LOTS):
        check(daemon, made_from(daemon, f"{SEED}/both/{number}"), f"seed {SEED}, sequence {number}", BothRun)
