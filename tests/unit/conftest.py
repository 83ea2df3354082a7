"""Whoever waits for no lock, what a machine sends to the journal, and an interpreter without privileges."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import TOP
from tests.kit.machine import Machine
from updown.commands.arguments import Arguments
from updown.kernel import journal

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
MAY_READ = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
# That it starts does not say that it can read the clone: setpriv of Debian 13 has root's privileges until then.
WHERE = f"import os, sys; open({str(TOP / 'hooks/vti-updown')!r}).close(); print(os.__file__, sys.executable)"


@pytest.fixture
def journalled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What goes to the journal."""
    sent: list[str] = []
    monkeypatch.setattr(journal, "send", lambda lines, **_: sent.extend(lines))
    return sent


@pytest.fixture
def impatient(tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the lock here: what counts is the order of things, which the tests arrange."""
    file = tmp_path / "impatient.conf"
    file.write_text("[defaults]\nlock_wait = 0\n")
    arguments = Arguments(state_dir=str(machine.folder), config=str(file))
    monkeypatch.setattr(Machine, "arguments", arguments)


@pytest.fixture(scope="module")
def python(request: pytest.FixtureRequest) -> list[str]:
    """Our interpreter as a user without privileges; one below root's home needs leave to be read, and gets no more. Nothing
    with --fork: what a process of its own shows, one Python shows for all, and starting them takes a minute."""
    if request.config.getoption("--fork"):
        return []
    plain = [sys.executable, "-I"]
    if os.geteuid() != 0:
        return plain
    wanted = subprocess.run([*plain, "-c", WHERE], stdout=subprocess.PIPE, check=True).stdout
    for command in ([*NOBODY, *plain], [*NOBODY, *MAY_READ, *plain]):
        done = subprocess.run([*command, "-c", WHERE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if done.returncode == 0 and done.stdout == wanted:
            return command
    pytest.fail(f"{sys.executable} cannot be run by another user than root")
