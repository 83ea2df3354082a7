"""`explain` and `replay`: events by hand."""

from pathlib import Path

import pytest

from tests.kit.hook_calls import called
from tests.kit.machine import Machine, call, establish
from tests.kit.starts import SHARED


def test_explain_gives_a_reason_for_each_command_and_the_claim(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(machine, call(SHARED, "up"), monkeypatch, "explain") == 0
    lines = capsys.readouterr().out.splitlines()
    commands = [line for line in lines if not line.lstrip().startswith("#")]
    assert len([line for line in lines if line.startswith("    # ")]) == len(commands) == 8
    assert any(line.startswith("# claim sa: ") for line in lines)
    assert machine.devices() == set()


@pytest.mark.parametrize("separator", ["\0", "\n"], ids=["NUL", "lines"])
def test_replay_runs_saved_environments_in_order(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, separator: str
) -> None:
    names = []
    for number, environment in enumerate(establish(SHARED)):
        name = tmp_path / f"{number}.env"
        name.write_text(separator.join(f"{key}={value}" for key, value in environment.items()))
        names.append(str(name))
    assert called(machine, {}, monkeypatch, "replay", "--dry-run", *names) == 0
    assert machine.devices() == set()
    alone = "# each was planned from the present state, as if those before it had not been"
    assert capsys.readouterr().out.splitlines()[-1] == alone
    assert called(machine, {}, monkeypatch, "replay", "--dry-run", names[0]) == 0
    assert alone not in capsys.readouterr().out
    assert called(machine, {}, monkeypatch, "replay", *names) == 0
    assert machine.routes() == {("10.2.0.0/24", "vti5")}
    said = capsys.readouterr().out
    assert "ip route add 10.2.0.0/24 dev vti5 proto 160" in said
    assert alone not in said
