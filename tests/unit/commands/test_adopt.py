"""`vti-updown adopt` and `release`: a device of others becomes ours, and one of ours nobody's."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from tests.kit.commands import Command
from tests.kit.kernel_model import Kill
from tests.kit.machine import EAST, THIRD, WEST, Machine, Tunnel, call, establish, withdraw
from tests.kit.reconciling import child, foreign, reconcile, said
from updown.model.errors import KernelError, Refused, UpdownError
from updown.model.objects import OUR_ALIAS, Link

T = Tunnel()
U = T._replace(connection="u", mine="10.1.1.0/24", theirs="10.3.0.0/24", reqid=16392)


def test_an_adopted_device_goes_by_the_table(machine: Machine, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    machine.kernel.add_link(Link("vti5", "vti", local=WEST, remote=EAST, ikey=5, okey=5, up=True))
    machine.send_all(establish(T))
    assert machine.kernel.named("vti5").alias == ""
    assert command("adopt", "vti5", "--dry-run") == 0
    assert machine.kernel.named("vti5").alias == ""
    assert command("adopt", "vti5") == 0
    assert "ip link set vti5 alias vti-updown" in capsys.readouterr().out
    assert machine.made()["device vti5"] == machine.kernel.named("vti5").ifindex
    assert command("adopt", "vti5") == 0
    assert "ours already" in capsys.readouterr().out
    machine.send_all(withdraw(T))
    assert machine.devices() == set()


def test_a_released_device_keeps_everything_and_is_not_ours(
    machine: Machine, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.send_all(establish(T._replace(address="10.99.0.1/30", source="10.1.0.1")))
    assert command("release", "vti5") == 0
    assert "ip link set vti5 alias ''" in capsys.readouterr().out
    assert machine.kernel.named("vti5").alias == ""
    assert machine.made() == {}
    assert machine.routes() == set()
    assert machine.kernel.routes_by("vti5") == {"10.2.0.0/24"}
    assert machine.kinds() == {("t", "sa")}
    before = machine.kernel.picture()
    reconcile(machine, said(child(T)))
    assert machine.kernel.picture() == before
    machine.send_all(withdraw(T))
    reconcile(machine, said())
    assert machine.kernel.picture() == before
    assert machine.claims() == []


def to_take_over(machine: Machine, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    """A device of others for adopt, one of ours for release; commits count as moments."""
    monkeypatch.setattr("updown.serve.open_ledger", lambda *_: machine.ledger())
    if word == "adopt":
        machine.kernel.add_link(Link("vti5", "vti", local=WEST, remote=EAST, ikey=5, okey=5, up=True))
    machine.send_all(establish(T._replace(address="10.99.0.1/30")))


@pytest.mark.parametrize("word", ["adopt", "release"])
@pytest.mark.parametrize("what", ["the disk is full", "the kernel refuses"])
def test_what_cannot_be_taken_over_or_let_go_of_stays_as_it_was(
    machine: Machine, command: Command, monkeypatch: pytest.MonkeyPatch, word: str, what: str
) -> None:
    to_take_over(machine, monkeypatch, word)
    before = machine.kernel.picture(), machine.made()
    full = sqlite3.OperationalError("database or disk is full")
    machine.moments = []
    machine.fails_at = (0, full) if what == "the disk is full" else (2, KernelError("no", 1))
    with pytest.raises(UpdownError):
        command(word, "vti5")
    machine.fails_at = None
    assert (machine.kernel.picture(), machine.made()) == before
    assert machine.unfinished() == []


Ownership = tuple[str, bool, set[tuple[str, str]], list[str]]

STEPS = {"adopt": 5, "release": 6}
"""Before and after two commits, and before each change of the kernel between them."""


def killed_over_it(machine: Machine, command: Command, word: str, moment: int) -> None:
    """`adopt vti5` or `release vti5`, whose process dies at this moment."""
    machine.moments, machine.dies_at = [], moment
    with pytest.raises(Kill):
        command(word, "vti5")
    machine.dies_at, machine.dead = None, False
    machine.revive()


def ownership(machine: Machine) -> Ownership:
    """The alias of vti5, whether the ledger says it is ours, our routes into it, and what is unfinished."""
    routes = {(prefix, name) for prefix, name in machine.routes() if name == "vti5"}
    return machine.kernel.named("vti5").alias, "device vti5" in machine.made(), routes, machine.unfinished()


OURS: Ownership = (OUR_ALIAS, True, {("10.2.0.0/24", "vti5")}, [])
NOT_OURS: Ownership = ("", False, set(), [])


@pytest.mark.parametrize(("word", "moment"), [(word, moment) for word in STEPS for moment in range(STEPS[word])])
def test_one_who_is_killed_over_it_can_be_called_again(
    machine: Machine, command: Command, monkeypatch: pytest.MonkeyPatch, word: str, moment: int
) -> None:
    to_take_over(machine, monkeypatch, word)
    killed_over_it(machine, command, word, moment)
    complete = (word, moment) == ("release", STEPS[word] - 1)
    with pytest.raises(Refused, match="not ours") if complete else contextlib.nullcontext():
        assert command(word, "vti5") == 0
    assert ownership(machine) == (OURS if word == "adopt" else NOT_OURS)


@pytest.mark.parametrize("moment", range(1, STEPS["release"]))
def test_a_release_that_was_cut_off_is_finished_before_clean_looks_for_what_is_ours(
    machine: Machine, command: Command, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    to_take_over(machine, monkeypatch, "release")
    killed_over_it(machine, command, "release", moment)
    assert command("clean") == 0
    assert ownership(machine) == NOT_OURS


@pytest.mark.parametrize("held", [True, False], ids=["held", "held by nobody"])
@pytest.mark.parametrize(("word", "moment"), [(word, moment) for word in STEPS for moment in range(STEPS[word])])
def test_one_who_is_killed_over_it_is_finished_by_the_next_event(
    machine: Machine, command: Command, monkeypatch: pytest.MonkeyPatch, word: str, moment: int, held: bool
) -> None:
    machine.settings("[defaults]\ndelete = never\n")
    to_take_over(machine, monkeypatch, word)
    if not held:
        machine.send_all(withdraw(T._replace(address="10.99.0.1/30")))
        if word == "release":
            moment -= 1 if moment > 2 else 0  # there is no route
    before = ownership(machine)
    killed_over_it(machine, command, word, moment)
    machine.send_all(establish(U._replace(device="vti6", mark_in="6/0xff", mark_out="6/0xff", peer=THIRD)))
    after = OURS if word == "adopt" else NOT_OURS
    if not held:
        after = (*after[:2], set(), [])
    assert ownership(machine) == (after if moment else before)


def test_what_took_the_place_of_a_device_that_was_being_adopted_is_not_ours(
    machine: Machine, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_take_over(machine, monkeypatch, "adopt")
    machine.send_all(withdraw(T._replace(address="10.99.0.1/30")))
    killed_over_it(machine, command, "adopt", 2)
    machine.kernel.delete_link(machine.kernel.named("vti5").ifindex)
    machine.kernel.add_link(Link("vti5", "vti", local=WEST, remote=EAST, ikey=5, okey=5, up=True))
    machine.send_all(establish(U._replace(device="vti6", mark_in="6/0xff", mark_out="6/0xff", peer=THIRD)))
    assert ownership(machine) == NOT_OURS


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("adopt", "vti7"), "vti7: no such device here"),
        (("release", "vti7"), "vti7: no such device here"),
        (("adopt", "eth0"), "eth0 is no tunnel device of ours (hardware)"),
        (("adopt", "ip_vti0"), "ip_vti0 is the kernel's fallback device (local any, remote any)"),
        (("release", "vti8"), "vti8 is not ours: nothing to release"),
        (("release", "eth0"), "eth0 is not ours: nothing to release"),
        (("adopt", "../x"), "../x: a device name is letters, digits, _ . - and begins with a letter or digit"),
        (("adopt",), "adopt needs the name of one device"),
        (("release", "a", "b"), "release needs the name of one device"),
    ],
)
def test_what_cannot_be_adopted_or_released(machine: Machine, command: Command, words: tuple[str, ...], text: str) -> None:
    machine.kernel.fallback()
    foreign(machine, alias="")
    before = machine.kernel.picture()
    with pytest.raises(Refused) as caught:
        command(*words)
    assert caught.value.text == text
    assert caught.value.hint
    assert max(len(caught.value.text), len(caught.value.hint)) <= 120
    assert machine.kernel.picture() == before


def test_the_daemon_s_own_device_is_not_adopted(machine: Machine, command: Command) -> None:
    machine.kernel.add_link(Link("ipsec1", "xfrm", if_id=1, up=True))
    environment = call(T._replace(device=""), "up")
    machine.send({**environment, "PLUTO_VIRT_INTERFACE": "ipsec1", "PLUTO_XFRMI_ROUTE": "yes"})
    with pytest.raises(Refused, match="the IKE daemon's own"):
        command("adopt", "ipsec1")
