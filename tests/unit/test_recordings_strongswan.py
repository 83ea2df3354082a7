"""Every call that a live strongSwan made: it runs with --dry-run, and played in order it leaves what its tunnels hold."""

from __future__ import annotations

from typing import Dict, FrozenSet, List, NamedTuple, Optional, Tuple

import pytest

from tests.property.machine import Machine
from tests.recordings import Recording, recordings
from tests.unit.test_recordings import dry_run, python
from updown import daemons

__all__ = ["python"]  # the fixture

RECORDINGS = recordings("strongswan-*")
SETTINGS = "[defaults]\ninterface = tun0\nrouting = yes\nshared = yes\ndelete = last\n"


def by_name(name: str) -> Recording:
    """The recording of `SCENARIO/NODE`."""
    (found,) = [one for one in RECORDINGS if f"{one.scenario}/{one.node}" == name]
    return found


def test_all_recordings_are_here() -> None:
    assert len({recording.scenario for recording in RECORDINGS}) == 28
    assert sum(len(recording.calls()) for recording in RECORDINGS) == 271


@pytest.mark.parametrize("recording", RECORDINGS, ids=str)
def test_every_recorded_call_runs_dry(recording: Recording, python: List[str]) -> None:
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
        assert (context.my_id, context.peer_id) == (
            call.environment["PLUTO_MY_ID"],
            call.environment["PLUTO_PEER_ID"],
        )


OPEN: Dict[str, Tuple[str, ...]] = {"peer-down/east": ("003-up-client",)}
"""Where the recording ends with tunnels that are up: east's charon was killed then."""

DEVICELESS = ("policy-only", "host-host", "transport")
"""Scenarios without marks and if_ids."""


@pytest.mark.parametrize("recording", RECORDINGS, ids=str)
def test_played_in_order_it_ends_with_nothing_where_each_up_has_its_down(
    recording: Recording, machine: Machine
) -> None:
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


class Step(NamedTuple):
    """After call `number` these routes lead into the device, and so many claims are held; None: no device."""

    number: int
    routes: Optional[FrozenSet[str]]
    claims: int


def step(number: int, claims: int, *routes: str) -> Step:
    return Step(number, frozenset(routes) if claims else None, claims)


A, B, V6 = "10.2.0.0/24", "10.2.1.0/24", "fd00:2::/64"
HALVES = ("0.0.0.0/1", "128.0.0.0/1")
STEPS: Dict[str, Tuple[Step, ...]] = {
    "vti-mark/west": (step(1, 1, A), step(2, 0), step(3, 1, A), step(4, 0)),
    "if-id/west": (step(1, 1, A), step(2, 0), step(3, 1, A), step(4, 0)),
    "reauth/west": (step(1, 1, A), step(2, 0), step(3, 1, A), step(4, 0)),
    "reauth-mbb/west": (step(1, 1, A), step(2, 2, A), step(3, 1, A), step(4, 0)),
    "reauth-mbb-vip/west": (step(1, 1, A), step(2, 2, A), step(3, 1, A), step(4, 0)),
    "proto-port/west": (step(1, 1, A), step(2, 2, A), step(3, 1, A), step(4, 0), step(5, 1, A), step(6, 2, A)),
    "two-children/west": (step(1, 1, A), step(2, 2, A, B), step(3, 1, B), step(4, 0)),
    "multi-ts/west": (
        step(1, 1, A),
        step(2, 2, A, B),
        step(4, 4, A, B),
        step(5, 5, A, B, V6),
        step(6, 4, A, B, V6),
        step(7, 3, A, B, V6),
        step(8, 2, B, V6),
        step(9, 1, V6),
        step(10, 0),
    ),
    "mobike/west": (step(1, 1, A), step(2, 0)),
    "peer-down/east": (step(1, 1, "10.1.0.0/24"), step(2, 0), step(3, 1, "10.1.0.0/24")),
    "default-route/west": (
        step(1, 1, *HALVES),
        step(2, 2, *HALVES, "::/1", "8000::/1"),
        step(3, 1, "::/1", "8000::/1"),
        step(4, 0),
    ),
    "roadwarriors/hub": (
        step(1, 1, "10.11.0.0/24"),
        step(2, 2, "10.11.0.0/24", "10.12.0.0/24"),
        step(3, 1, "10.12.0.0/24"),
        step(4, 2, "10.11.0.0/24", "10.12.0.0/24"),
        step(5, 1, "10.11.0.0/24"),
        step(6, 0),
    ),
    "pool/hub": (
        step(2, 2, "10.77.0.1/32", "fd00:77::1/128"),
        step(4, 4, "10.77.0.1/32", "fd00:77::1/128", "10.77.0.2/32", "fd00:77::2/128"),
        step(6, 2, "10.77.0.2/32", "fd00:77::2/128"),
        step(10, 2, "10.77.0.2/32", "fd00:77::2/128"),
        step(12, 0),
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_after_each_call_the_device_holds_these_routes(name: str, machine: Machine) -> None:
    """By hand: what the tunnels that are up at that moment need."""
    machine.settings(SETTINGS)
    wanted = {one.number: one for one in STEPS[name]}
    for call in by_name(name).calls():
        machine.send(call.environment)
        if call.number in wanted:
            step = wanted[call.number]
            assert machine.devices() == (set() if step.routes is None else {"tun0"}), call.name
            into = {destination for destination, device in machine.routes() if device == "tun0"}
            assert into == (step.routes or set()), call.name
            assert len(machine.claims()) == step.claims, call.name


KEYS: Dict[str, Tuple[str, Tuple[Tuple[str, int, int, int], ...]]] = {
    "vti-mark-in-out/west": ("tun0", (("tun0", 33, 34, 0),)),
    "mark-unique/west": ("vti{mark}", (("vti1", 1, 1, 0),)),
    "mark-unique/east": ("vti{mark}", (("vti2", 1, 2, 0),)),
    "if-id-conn/east": ("ipsec{if_id}", (("ipsec42", 0, 0, 42),)),
    "if-id-unique/west": ("ipsec{if_id}", (("ipsec1", 0, 0, 1),)),
    "if-id-unique/east": ("ipsec{if_id}", (("ipsec1", 0, 0, 1), ("ipsec2", 0, 0, 2))),
    "ipv6/west": ("vti6.{mark}", (("vti6.5", 5, 5, 0),)),
    "starter-vti/west": ("{connection}", (("t", 5, 5, 0),)),
}


@pytest.mark.parametrize("name", KEYS)
def test_the_first_call_makes_a_device_of_this_name_and_these_keys(name: str, machine: Machine) -> None:
    interface, wanted = KEYS[name]
    machine.settings(f"[defaults]\ninterface = {interface}\n")
    machine.send(by_name(name).calls()[0].environment)
    links = [machine.kernel.named(device) for device in machine.devices()]
    assert sorted((link.name, link.ikey, link.okey, link.if_id) for link in links) == list(wanted)


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
