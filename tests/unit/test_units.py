"""The commands in contrib's units and in charon's start-scripts are ones that we take."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from updown.arguments import Arguments, parse

CONTRIB = Path(__file__).resolve().parents[2] / "contrib"
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
                "ExecStopPost": Arguments("reconcile"),
            },
        ),
        ("systemd/vti-updown-reconcile.service", {"ExecStart": Arguments("reconcile", verbose=True)}),
        ("strongswan/reconcile.conf", {"vti-updown": Arguments("reconcile")}),
    ],
)
def test_each_command_is_known(name: str, wanted: dict[str, Arguments]) -> None:
    assert commands(name) == wanted


def test_a_failure_of_ours_never_keeps_the_daemon_from_running() -> None:
    lines = (CONTRIB / "systemd/vti-updown.conf").read_text().splitlines()
    assert all(line.split("=", 1)[1].startswith("-") for line in lines if line.startswith("Exec"))
