"""`vti-updown status`: devices and claims, for people and as JSON."""

import json
import shutil
import time

import pytest

from tests.kit.machine import NOW, Machine, call, establish
from tests.kit.starts import FULL, OTHER
from updown.commands.status import run
from updown.ledger import clock
from updown.model.errors import UpdownError
from updown.model.objects import Link

MADE = Link("vti5", "vti", local=FULL.me, remote=FULL.peer, ikey=5, okey=5, mtu=1480, up=True)


def test_status_shows_devices_and_claims(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    monkeypatch.setattr(clock, "booted", lambda: 1_700_000_000 - NOW)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    machine.send_all([*establish(FULL), call(OTHER._replace(device="vti7", mark_in="7/0xff"), "prepare", child=False)])
    assert run(machine.arguments) == 0
    assert capsys.readouterr().out.splitlines() == [
        "DEVICE  KIND  LOCAL         REMOTE       KEY IN/OUT  STATE  MADE BY     GOES        CLAIMS",
        "vti5    vti   198.51.100.1  203.0.113.9  5           up     vti-updown  last claim  1",
        "vti7    vti   198.51.100.1  any          7/5         up     vti-updown  stays       1",
        "",
        "CONNECTION  CLAIM  DEVICE  PEER          SELECTORS                    SINCE",
        "t           sa     vti5    203.0.113.9   10.1.0.0/24 <-> 0.0.0.0/0    2023-11-14 22:13:20",
        "u           trap   vti7    198.51.100.3  10.1.0.0/24 <-> 10.3.0.0/24  2023-11-14 22:13:20",
    ]


def test_status_tells_a_missing_device_and_one_that_is_someone_elses(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:

    machine.kernel.add_link(MADE)
    machine.send(call(FULL, "up"))
    machine.send(call(OTHER._replace(device="vti7"), "up"))
    machine.kernel.remove(machine.kernel.named("vti7").ifindex)
    assert run(machine.arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["vti5", "vti", FULL.me, FULL.peer, "5", "up", "someone", "else", "stays", "1"]
    assert lines[2].split() == ["vti7", "-", "-", "-", "-", "MISSING", "vti-updown", "stays", "1"]


def test_status_of_an_empty_machine_is_one_line(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:

    assert run(machine.arguments) == 0
    assert capsys.readouterr().out == "no devices, no claims\n"


def test_status_knows_our_devices_without_a_ledger(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """/run was emptied: the alias tells."""

    machine.send_all(establish(FULL))
    shutil.rmtree(machine.folder)
    assert run(machine.arguments) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert (row[0], row[-3], row[-1]) == ("vti5", "vti-updown", "0")


def test_status_as_json_carries_a_version_and_escapes_hostile_names(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    monkeypatch.setattr(clock, "booted", lambda: 1_700_000_000 - NOW)
    machine.send(call(FULL._replace(connection="t\x1b\udcff"), "up"))
    assert run(machine.arguments._replace(json=True)) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    found = json.loads(out)
    assert found["version"] == 1
    assert found["devices"][0]["name"] == "vti5"
    assert found["claims"][0]["connection"] == "t\x1b\udcff"
    assert found["claims"][0]["since"] == 1_700_000_000
    assert "route main 0.0.0.0/1 0" in found["claims"][0]["holds"]


def test_status_without_pyroute2_shows_what_the_ledger_knows(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    def missing(_netns: str = "") -> list[Link]:
        raise UpdownError("pyroute2 is missing")

    machine.send(call(FULL, "up"))
    monkeypatch.setattr("updown.kernel.netlink.dumps.links", missing)
    assert run(machine.arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("# pyroute2 is missing")
    assert lines[2].startswith("vti5 ")
