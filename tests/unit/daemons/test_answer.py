"""Which daemons run: seen from processes, told apart by name, network namespace and parent."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from updown.daemons.answer import end_address, in_other_netns, processes
from updown.ledger import clock

NAME = f"vtiud-{os.getpid()}"  # no daemon's, and no other run's: the tests may run beside both
SCRIPT = f"""
import os, sys, time
open("/proc/self/comm", "w").write({NAME!r})
if sys.argv[1] == "fork" and os.fork() == 0:
    time.sleep(60)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture(params=["alone", "fork"])
def daemon(request: pytest.FixtureRequest) -> Iterator[int]:
    """A process of that name, and one that forked."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, request.param], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process.pid
    os.killpg(process.pid, 9)
    process.stdout.close()
    process.wait()
    while processes((NAME,)):  # the one that was forked ends on its own
        time.sleep(0.01)


def test_a_daemon_is_found_once_with_the_time_of_its_start(daemon: int) -> None:
    found = processes((NAME, "another"))
    assert list(found) == [daemon]
    assert abs(found[daemon] - clock.now()) < 30


def test_nobody() -> None:
    assert processes((NAME,)) == {}


@pytest.mark.usefixtures("daemon")
def test_one_of_another_network_namespace_is_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("updown.daemons.answer.in_other_netns", lambda *_: True)
    assert processes((NAME,)) == {}


def test_a_namespace_we_may_not_see_may_be_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    home = os.stat("/proc/self/ns/net").st_ino
    assert not in_other_netns(os.getpid(), home)
    assert in_other_netns(os.getpid(), home + 1)

    def hidden(_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "stat", hidden)
    assert not in_other_netns(1, home)


@pytest.mark.parametrize(
    ("told", "wanted"), [("198.51.100.1", "198.51.100.1"), ("2001:DB8::1", "2001:db8::1"), ("%any", ""), ("", ""), (None, "")]
)
def test_ends(told: object, wanted: str) -> None:
    assert end_address(told) == wanted
