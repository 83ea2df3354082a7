"""Promises over random lives of strongSwan's IKE SAs: what is called is what charon calls (contracts, section 3), and what
must be there follows from the SAs that are up, never from the claims."""

from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.charon import Child, charon_calls
from tests.kit.machine import EAST, EAST6, THIRD, WEST, WEST6, Machine

PAIRS = {"east": (("10.1.0.0/24", "10.2.0.0/24"), ("10.1.0.0/24", "10.3.0.0/24")), "third": (("10.1.0.0/24", "10.4.0.0/24"),)}
ADDRESSES = {"east": (EAST, EAST6), "third": (THIRD, "2001:db8:0:1::3")}
KEPT, UNIQUE = "5", "%unique"


class Sa(NamedTuple):
    """An IKE SA with its child, as charon has it now."""

    unique_id: int
    peer: str
    mark: str
    six: bool

    def child(self, underlay: str = "eth0") -> Child:
        key = f"{self.mark}/0xffffffff"
        ends = (WEST6 if self.six else WEST, ADDRESSES[self.peer][self.six])
        return Child("c", *ends, "west", self.peer, PAIRS[self.peer], key, key, underlay=underlay, reqid=len(self.peer))


class Charon:
    """One charon: it tells the machine what the real one tells its hook, and knows what is up."""

    def __init__(self, machine: Machine, mark: str) -> None:
        self.machine = machine
        self.mark = mark
        self.numbers = 0
        self.marks = 0
        self.up: list[Sa] = []

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def initiate(self, peer: str, six: bool) -> None:
        """A new IKE SA, whether or not the peer has one."""
        mark = self.mark
        if mark == UNIQUE:
            self.marks += 1
            mark = str(self.marks)
        found = Sa(self.number(), peer, mark, six)
        self.up.append(found)
        self.machine.send_all(charon_calls(found.child(), "up", found.unique_id))

    def terminate(self, at: int) -> None:
        """Every pair of selectors gets its `down`; and, as charon up to 6.0.4 may do after a rekeying, once more."""
        gone = self.up.pop(at)
        self.machine.send_all(charon_calls(gone.child(), "down", gone.unique_id))
        self.machine.send_all(charon_calls(gone.child("unknown"), "down", gone.unique_id))

    def rekey(self, at: int) -> None:
        """The IKE SA is rekeyed: no call, but it has another number."""
        self.up[at] = self.up[at]._replace(unique_id=self.number())

    def move(self, at: int) -> None:
        """MOBIKE: no call."""
        self.up[at] = self.up[at]._replace(six=not self.up[at].six)

    def reauthenticate(self, at: int) -> None:
        """Make before break: the new one is up before the old one goes."""
        old = self.up[at]
        self.initiate(old.peer, old.six)
        self.terminate(at)

    def check(self) -> None:
        """The device is there while an SA is up, keyed for the newest; each SA's networks are routed into it, and no others."""
        machine = self.machine
        assert machine.devices() == ({"tun0"} if self.up else set())
        assert machine.routes() == {(theirs, "tun0") for sa in self.up for _, theirs in PAIRS[sa.peer]}
        held: dict[tuple[str, str], int] = {}
        for sa in self.up:
            for _, theirs in PAIRS[sa.peer]:
                held[sa.peer, theirs] = held.get((sa.peer, theirs), 0) + 1
        assert len(machine.claims()) == sum(held.values())
        if self.up:
            assert machine.kernel.named("tun0").okey == int(self.up[-1].mark)


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["initiate", "initiate", "terminate", "rekey", "move", "reauthenticate"]),
        st.integers(0, 3),
        st.booleans(),
    ),
    max_size=14,
)


def live(charon: Charon, actions: list[tuple[str, int, bool]], peers: tuple[str, ...]) -> None:
    """Carry the actions out, look after each, and end everything that is still up."""
    for action, at, six in actions:
        if action == "initiate":
            charon.initiate(peers[at % len(peers)], six)
        elif charon.up:
            getattr(charon, action)(at % len(charon.up))
        charon.check()
    while charon.up:
        charon.terminate(0)
        charon.check()
    assert charon.machine.made() == {} and charon.machine.unfinished() == []


@given(ACTIONS)
@settings(max_examples=25, deadline=None)
def test_the_device_of_one_peer_is_there_just_while_an_sa_is_up(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, int, bool]]
) -> None:
    for mark in (KEPT, UNIQUE):
        with pytest.MonkeyPatch.context() as patch:
            machine = Machine(Path(tmp_path_factory.mktemp("charon")), patch)
            machine.settings("[defaults]\ninterface = tun0\nrouting = yes\n")
            live(Charon(machine, mark), actions, ("east",))


@given(ACTIONS)
@settings(max_examples=25, deadline=None)
def test_a_shared_device_is_there_just_while_an_sa_of_any_peer_is_up(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, int, bool]]
) -> None:
    """All from one local address: a VTI has but one."""
    same = [(action, at, False) for action, at, _ in actions if action != "move"]
    with pytest.MonkeyPatch.context() as patch:
        machine = Machine(Path(tmp_path_factory.mktemp("charon")), patch)
        machine.settings("[defaults]\ninterface = tun0\nrouting = yes\nshared = yes\ndelete = last\n")
        live(Charon(machine, KEPT), same, ("east", "third"))
