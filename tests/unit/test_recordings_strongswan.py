"""Every call that a live strongSwan made: it runs with --dry-run, and played in order it leaves what its tunnels hold."""

from __future__ import annotations

import pytest

from tests.kernel import expectations
from tests.kernel.expectations import Sequence
from tests.kit.dry_runs import dry_run
from tests.kit.machine import Machine
from tests.kit.played import differences
from tests.recordings import Recording, recordings
from updown import daemons
from updown.model.errors import Conflict

RECORDINGS = recordings("strongswan-*")
SETTINGS = "[defaults]\ninterface = tun0\nrouting = yes\nshared = yes\ndelete = last\n"


def by_name(name: str) -> Recording:
    """The recording of `SCENARIO/NODE`."""
    (found,) = [one for one in RECORDINGS if f"{one.scenario}/{one.node}" == name]
    return found


@pytest.mark.parametrize(("version", "scenarios", "calls"), [("5.9.8", 28, 271), ("6.0.1", 10, 86)])
def test_all_recordings_are_here(version: str, scenarios: int, calls: int) -> None:
    found = recordings(f"strongswan-{version}")
    assert len({recording.scenario for recording in found}) == scenarios
    assert sum(len(recording.calls()) for recording in found) == calls


@pytest.mark.parametrize("recording", RECORDINGS, ids=str)
def test_every_recorded_call_runs_dry(recording: Recording, python: list[str]) -> None:
    """Without settings there is no device: one line says so, and a `down` has nothing to do."""
    for call in recording.calls():
        said = "nothing to do" if call.verb.startswith("down") else "no device: no setting `interface`"
        plan = dry_run(python, call)
        assert len(plan) == 1 and said in plan[0], f"{call.name}: {plan}"


@pytest.mark.parametrize("recording", RECORDINGS, ids=str)
def test_every_recorded_call_is_read_without_a_warning(recording: Recording) -> None:
    for call in recording.calls():
        context = daemons.read(call.environment)
        assert (context.daemon, context.warnings) == ("strongswan", ())
        assert context.verb.text == call.verb
        assert (context.my_id, context.peer_id) == (call.environment["PLUTO_MY_ID"], call.environment["PLUTO_PEER_ID"])


OPEN: dict[str, tuple[str, ...]] = {"peer-down/east": ("003-up-client",)}
"""Where the recording ends with tunnels that are up: east's charon was killed then."""

DEVICELESS = ("policy-only", "host-host", "transport")
"""Scenarios without marks and if_ids."""


@pytest.mark.parametrize("recording", RECORDINGS, ids=str)
def test_played_in_order_it_ends_with_nothing_where_each_up_has_its_down(recording: Recording, machine: Machine) -> None:
    machine.kernel.fallback()
    before = machine.kernel.picture(indexes=False)
    name = f"{recording.scenario}/{recording.node}"
    machine.settings(SETTINGS.replace("tun0", "x{if_id}") if recording.scenario == "if-id-unique" else SETTINGS)
    most = 0
    for call in recording.calls():
        machine.send(call.environment)
        most = max(most, len(machine.claims()))
        if call.verb.startswith("up"):
            assert bool(machine.devices() - {"ip_vti0"}) == (recording.scenario not in DEVICELESS), call.name
    assert bool(most) == (recording.scenario not in DEVICELESS)
    assert len(machine.claims()) == len(OPEN.get(name, ()))
    assert machine.unfinished() == []
    if name not in OPEN:
        assert machine.kernel.picture(indexes=False) == before
        assert machine.made() == {}


@pytest.mark.parametrize("recording", RECORDINGS, ids=str)
def test_each_call_sent_again_changes_nothing(recording: Recording, machine: Machine) -> None:
    """P1, also where two IKE SAs of one child are up."""
    machine.settings(SETTINGS.replace("tun0", "x{if_id}") if recording.scenario == "if-id-unique" else SETTINGS)
    for call in recording.calls():
        machine.send(call.environment)
        held = machine.claims()
        assert machine.send(call.environment).operations == (), call.name
        assert [claim.key for claim in machine.claims()] == [claim.key for claim in held], call.name


TABLE = [sequence for sequence in expectations.sequences() if "strongswan" in sequence.recording.version]


@pytest.mark.parametrize("sequence", TABLE, ids=str)
def test_after_each_call_the_machine_holds_what_the_table_says(sequence: Sequence, machine: Machine) -> None:
    """As tests/kernel/test_recordings.py, where the real kernel is asked; here each call is sent once."""
    assert differences(machine, sequence) == []


def test_the_refusal_of_a_second_peer_behind_one_mark_says_what_it_needs(machine: Machine) -> None:
    machine.settings("[connection *]\ninterface = vti{mark}\nrouting = yes\n")
    first, second, *_ = by_name("roadwarriors/hub").calls()
    machine.send(first.environment)
    with pytest.raises(Conflict) as refused:
        machine.send(second.environment)
    assert str(refused.value) == "vti5 has remote 198.51.100.11, wanted 198.51.100.12, for c"
    assert "several peers behind one mark need `shared = yes`" in refused.value.hint


def test_calls_made_by_hand_have_the_variables_of_recorded_ones() -> None:
    """Marks and if_ids aside, which belong to the child's configuration."""
    ours = ("PLUTO_MARK_", "PLUTO_IF_ID_")

    def names(recording: Recording) -> set[frozenset[str]]:
        found = (call.environment for call in recording.calls())
        return {frozenset(name for name in one if not name.startswith(ours)) for one in found}

    recorded = set().union(*map(names, RECORDINGS))
    made = recordings("by-hand-strongswan")
    assert len(made) > 20
    for recording in made:
        assert names(recording) <= recorded, str(recording)
        for call in recording.calls():
            assert call.verb == call.environment["PLUTO_VERB"]


@pytest.mark.parametrize("name", ["reauth-mbb/west", "reauth-mbb/east", "reauth-mbb-vip/west", "reauth-mbb-vip/east"])
def test_make_before_break_changes_nothing_in_the_kernel(name: str, machine: Machine) -> None:
    """Calls 2 and 3: up of the new IKE SA, down of the old one."""
    machine.settings("[defaults]\ninterface = tun0\nrouting = yes\n")
    first, second, third, last = by_name(name).calls()
    machine.send(first.environment)
    before = len(machine.kernel.changes)
    machine.send_all([second.environment, third.environment])
    assert machine.kernel.changes[before:] == []
    machine.send(last.environment)
    assert machine.devices() == set()
