"""Every recorded call runs with --dry-run: in a clean environment, without root, status 0, no sign of a fault."""

from __future__ import annotations

import re

import pytest

from tests.kernel import expectations
from tests.kernel.expectations import Sequence
from tests.kit.dry_runs import dry_run
from tests.kit.machine import Machine
from tests.kit.played import differences
from tests.recordings import Recording, recordings
from updown import daemons


@pytest.mark.parametrize("recording", recordings("*libreswan*"), ids=str)
def test_every_recorded_call_runs_dry(recording: Recording, python: list[str]) -> None:
    """A plan for each call alone; for a first claim to a VTI it makes the device that the call names."""
    for call in recording.calls():
        plan = dry_run(python, call)
        device = call.environment["VTI_IFACE"]
        makes = bool(device) and not call.verb.startswith(("down", "unroute"))
        assert any(line.startswith(f"ip link add {device} ") for line in plan) == makes, f"{call.name}: {plan}"


def test_no_recorded_call_has_a_variable_that_we_wonder_at() -> None:
    calls = [call for recording in recordings("*libreswan*") for call in recording.calls()]
    assert len(calls) >= 1158
    assert [call.name for call in calls if daemons.read(call.environment).warnings] == []


def test_calls_made_by_hand_have_the_variables_of_recorded_ones() -> None:
    recorded = {frozenset(call.environment) for one in recordings("libreswan-*") for call in one.calls()}
    for recording in recordings("by-hand-libreswan"):
        for call in recording.calls():
            assert frozenset(call.environment) in recorded, f"{recording} {call.name}"
            assert call.verb == call.environment["PLUTO_VERB"]


def test_the_table_of_expectations_has_every_recorded_call_once() -> None:
    """Each recording has one sequence without a variant, which names all its calls, in order, by their verbs."""
    plain = [sequence for sequence in expectations.sequences() if not sequence.variant]
    assert sorted(sequence.recording for sequence in plain) == sorted(recordings())
    for sequence in plain:
        named = [(step.number, step.verb) for step in sequence.steps if step.number]
        assert named == [(call.number, _bare(call.verb)) for call in sequence.recording.calls()], str(sequence)


@pytest.mark.parametrize("sequence", [s for s in expectations.sequences() if "libreswan" in s.recording.version], ids=str)
def test_after_each_call_the_machine_holds_what_the_table_says(sequence: Sequence, machine: Machine) -> None:
    """As tests/kernel/test_recordings.py, where the real kernel is asked; here each call is sent once."""
    assert differences(machine, sequence) == []


@pytest.mark.parametrize("sequence", [s for s in expectations.sequences() if s.variant], ids=str)
def test_a_variant_of_the_table_fits_its_recording(sequence: Sequence) -> None:
    """A variant sends recorded calls, each once, and changes something about them."""
    calls = {call.number: _bare(call.verb) for call in sequence.recording.calls()}
    numbers = [step.number for step in sequence.steps if step.number]
    assert len(set(numbers)) == len(numbers)
    assert all(calls[step.number] == step.verb for step in sequence.steps if step.number)
    assert sequence.changes or not sequence.made or numbers != sorted(numbers)


def _bare(verb: str) -> str:
    return re.sub(r"-(client|host)(-v6)?$", "", verb)
