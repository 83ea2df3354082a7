"""`explain` and `replay`: events by hand."""

import json
import re
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
    assert len([line for line in lines if line.startswith("    # ")]) == len(commands) == 11
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


ACCOUNT = """[defaults]
mtu = 1400
mark = 5
[connection *]
mtu = 1401
interface = vti5
[connection gone-*]
mtu = 1500
metric = 9
[device vti5]
mtu = 1402
mark_out = 5
[device vti6]
mtu = 1403
[device vti7]
local = 198.51.100.1
mark = 7
[device vti8]
metric = 2
"""


def test_explain_names_the_lines_that_count_and_those_they_beat(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """And sections for what nobody knows: neither the event nor the ledger, nor `make`, which describes vti7."""
    conf = tmp_path / "f.conf"
    conf.write_text(ACCOUNT)
    for environment in establish(SHARED._replace(device="vti8", connection="u", mark_in="9", mark_out="9", me="198.51.100.9")):
        machine.send(environment)
    environment = call(SHARED, "up")
    assert called(machine, environment, monkeypatch, "--config", str(conf), "explain") == 0
    out = re.sub(r"\n# settings:  +", " ", capsys.readouterr().out).replace(str(conf), "f")  # what goes on in a next line
    said = [line for line in out.splitlines() if "settings: " in line]
    assert said == [
        "# settings: mark by f:3",
        "# settings: interface by f:6",
        "# settings: mtu by f:11, which beats f:2, f:5",
        "# settings: mark_out by f:12",
        "# settings: [connection gone-*] (f:8) is for nothing that is known here",
        "# settings: [device vti6] (f:14) is for nothing that is known here",
    ]
    assert called(machine, environment, monkeypatch, "--config", str(conf), "--json", "explain") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["settings"][2] == {"key": "mtu", "line": f"{conf}:11", "beaten": [f"{conf}:2", f"{conf}:5"]}
    assert told["idle_sections"] == [f"[connection gone-*] ({conf}:8)", f"[device vti6] ({conf}:14)"]


def test_explain_of_an_end_reads_no_broken_file(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    conf = tmp_path / "f.conf"
    conf.write_text("mtu = 5\n")
    machine.send_all(establish(SHARED))
    assert called(machine, call(SHARED, "down"), monkeypatch, "--config", str(conf), "explain") == 0
    assert "settings: " not in capsys.readouterr().out
