"""The commands in contrib's units and in charon's start-scripts are ones that we take."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import TOP
from updown.commands.arguments import Arguments, parse

CONTRIB = TOP / "contrib"
COMMAND = re.compile(r"^\s*(\S+?)\s*=\s*-?/usr/libexec/vti-updown (.*)$", re.MULTILINE)


def commands(name: str) -> dict[str, Arguments]:
    found = COMMAND.findall((CONTRIB / name).read_text())
    assert found, f"{name} runs nothing of ours"
    return {key: parse(words.split(), False) for key, words in found}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (
            "systemd/vti-updown.conf",
            {
                "ExecStartPre": Arguments("reconcile", before_start=True),
                "ExecStartPost": Arguments("reconcile"),
                "ExecStopPost": Arguments("reconcile", before_start=True),
            },
        ),
        ("systemd/vti-updown-reconcile.service", {"ExecStart": Arguments("reconcile", verbose=True)}),
        ("systemd/vti-updown-make.service", {"ExecStart": Arguments("make", boot=True)}),
        ("systemd/vti-updown-probe.service", {"ExecStart": Arguments("probe")}),
        ("strongswan/reconcile.conf", {"vti-updown": Arguments("reconcile")}),
    ],
)
def test_each_command_is_known(name: str, wanted: dict[str, Arguments]) -> None:
    assert commands(name) == wanted


def test_a_failure_of_ours_never_keeps_the_daemon_from_running() -> None:
    lines = (CONTRIB / "systemd/vti-updown.conf").read_text().splitlines()
    assert all(line.split("=", 1)[1].startswith("-") for line in lines if line.startswith("Exec"))


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """systemd-analyze finds nothing, cycles of the order among them; the hook is replaced by a program that is there."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze here")
    for path in CONTRIB.glob("systemd/*.service"):
        (tmp_path / path.name).write_text(path.read_text().replace("/usr/libexec/vti-updown", "/bin/true"))
    for path in CONTRIB.glob("systemd/*.timer"):
        shutil.copy(path, tmp_path)
    wanted = tmp_path / "multi-user.target.wants"
    wanted.mkdir()
    (wanted / "vti-updown-make.service").symlink_to("../vti-updown-make.service")
    names = sorted(path.name for path in tmp_path.glob("vti-updown-*"))
    assert len(names) == 5
    beside = [name for name in ("nftables.service", "ipsec.service") if Path("/lib/systemd/system", name).exists()]
    done = subprocess.run(
        ["systemd-analyze", "verify", *names, *beside, "multi-user.target"],
        capture_output=True,
        text=True,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if "vti-updown" in line or "cycle" in line]
    assert (done.returncode, said) == (0, []), done.stderr


def test_devices_are_made_before_what_needs_them() -> None:
    """A firewall that names them, and daemons."""
    text = (CONTRIB / "systemd/vti-updown-make.service").read_text()
    before = " ".join(re.findall(r"^Before=(.*)$", text, re.MULTILINE)).split()
    assert {"network-pre.target", "nftables.service", "ipsec.service", "strongswan.service"} <= set(before)
    assert "DefaultDependencies=no" in text
