"""`vti-updown clean`: everything of ours goes, and nothing else."""

import errno

import pytest

from tests.kit.hook_calls import called
from tests.kit.machine import Machine, establish, withdraw
from tests.kit.starts import FULL, OTHER, SHARED
from updown.model.errors import KernelError
from updown.model.objects import Link

MADE = Link("vti5", "vti", local=FULL.me, remote=FULL.peer, ikey=5, okey=5, mtu=1480, up=True)


def test_clean_removes_everything_of_ours_and_nothing_else(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.kernel.add_link(MADE._replace(name="theirs"))
    before = machine.kernel.picture(indexes=False)
    machine.send_all([*establish(SHARED), *establish(OTHER)])
    assert called(machine, {}, monkeypatch, "clean", "--dry-run") == 0
    assert machine.devices() == {"vti5", "theirs"}
    assert called(machine, {}, monkeypatch, "clean") == 0
    assert machine.kernel.picture(indexes=False) == before
    assert machine.claims() == []
    capsys.readouterr()


def test_clean_shows_each_command_once_and_does_just_those(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a device that claims hold, of one that is not ours but has routes and addresses of ours, and of one nobody holds."""
    machine.settings("[device vti5]\nmss = clamp\n[device vti7]\ndelete = never\n")
    machine.kernel.add_link(MADE._replace(name="vti6", remote="198.51.100.66", ikey=6, okey=6))
    foreign = OTHER._replace(device="vti6", mark_in="6/0xffffffff", mark_out="6/0xffffffff", peer="198.51.100.66", shared="no")
    lone = foreign._replace(connection="v", device="vti7", mark_in="7/0xff", mark_out="7/0xff", theirs="10.7.0.0/24")
    lone = lone._replace(peer="198.51.100.67", reqid=16404, address="10.77.0.1/30")
    for tunnel in (FULL, foreign, lone):
        machine.send_all(establish(tunnel))
    machine.send_all(withdraw(lone))
    assert machine.devices() == {"vti5", "vti6", "vti7"}
    called(machine, {}, monkeypatch, "clean", "--dry-run")
    shown = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert len(shown) == len(set(shown)) > 4
    assert called(machine, {}, monkeypatch, "clean") == 0
    done = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert machine.devices() == {"vti6"}
    assert done == shown
    assert machine.made() == {}


def test_a_clean_that_fails_leaves_the_claims_as_they_were(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their devices that stay by the table among them."""
    machine.send_all(establish(SHARED))
    before = machine.claims()

    def fault(_number: int, text: str) -> None:
        if text.startswith("link delete"):
            raise KernelError(f"{text}: no", errno.EBUSY)

    monkeypatch.setattr(machine.kernel, "fault", fault)
    assert called(machine, {}, monkeypatch, "clean") == 1
    assert machine.claims() == before
    capsys.readouterr()


def test_clean_finds_what_is_ours_without_a_ledger(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = machine.kernel.picture(indexes=False)
    machine.send_all(establish(FULL))
    (machine.folder / "net-1" / "ledger").unlink()
    assert called(machine, {}, monkeypatch, "clean") == 0
    assert machine.kernel.picture(indexes=False) == before
    capsys.readouterr()
