"""`vti-updown clean`: everything of ours goes, and nothing else."""

import pytest

from tests.kit.hook_calls import called
from tests.kit.machine import Machine, establish
from tests.kit.starts import FULL, OTHER, SHARED
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


def test_clean_finds_what_is_ours_without_a_ledger(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = machine.kernel.picture(indexes=False)
    machine.send_all(establish(FULL))
    (machine.folder / "net-1" / "ledger").unlink()
    assert called(machine, {}, monkeypatch, "clean") == 0
    assert machine.kernel.picture(indexes=False) == before
    capsys.readouterr()
