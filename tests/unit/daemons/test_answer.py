"""Which daemons run: seen from processes, told apart by name, network namespace and parent."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from updown.daemons.answer import CAP_NET_ADMIN, end_address, in_other_netns, processes
from updown.ledger import clock

NAME = f"vtiud-{os.getpid()}"  # no daemon's, and no other run's: the tests may run beside both
SCRIPT = """
import os, sys
name, forks, left = sys.argv[1:]
if name:
    open("/proc/self/comm", "w").write(name)
if left:
    import ctypes
    ctypes.CDLL(None).unshare(int(left)) and sys.exit("no unshare")
reading, writing = os.pipe()
if forks and os.fork() == 0:
    os.close(writing)
    os.read(reading, 1)  # until its parent has ended
    os._exit(0)
print("ready", flush=True)
sys.stdin.read()
"""
CLONE_NEWUSER = 0x10000000
PYTHON = Path("/usr/bin/python3")  # anyone can run it; the one that runs the tests may lie in root's home


def may_change_the_network() -> bool:
    lines = Path("/proc/self/status").read_text().splitlines()
    (rights,) = [int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")]
    return os.geteuid() == 0 and bool(rights & CAP_NET_ADMIN)


needs_root = pytest.mark.skipif(not may_change_the_network(), reason="a daemon runs as root, and so does its double")
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a copy of Python at a path; `comm` is a name that the process gives itself."""
    begun: list[subprocess.Popen[str]] = []

    def begin(path: Path, comm: str = "", forks: bool = False, left: int = 0, **more: object) -> subprocess.Popen[str]:
        if not path.exists():
            shutil.copy(PYTHON.resolve(), path)
        words = [str(path), "-ISc", SCRIPT, comm, "yes" if forks else "", str(left or "")]
        pipes: dict[str, object] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen(words, env={"PYTHONHOME": "/usr"}, **pipes, **more)  # type: ignore[call-overload]
        begun.append(process)
        said = process.stdout.readline()
        if left and said != "ready\n":
            pytest.skip("no user namespace is to be had here")
        assert said == "ready\n"
        return process  # type: ignore[no-any-return]

    yield begin
    for process in begun:
        process.communicate()


@pytest.fixture(params=[False, True], ids=["alone", "forked"])
def daemon(request: pytest.FixtureRequest, tmp_path: Path, start: Start) -> int:
    """A daemon of that name, and one that forked."""
    return start(tmp_path / NAME, forks=request.param).pid


@needs_root
def test_a_daemon_is_found_once_with_the_time_of_its_start(daemon: int) -> None:
    found = processes((NAME, "another"))
    assert list(found) == [daemon]
    assert abs(found[daemon] - clock.now()) < 30


def test_nobody() -> None:
    assert processes((NAME,)) == {}


@needs_root
def test_one_whose_executable_was_replaced_by_an_upgrade_is_found(tmp_path: Path, start: Start) -> None:
    process = start(tmp_path / NAME)
    (tmp_path / NAME).unlink()
    assert list(processes((NAME,))) == [process.pid]


@needs_root
def test_a_name_alone_is_no_daemon(tmp_path: Path, start: Start) -> None:
    """A process that calls itself so; one whose folder is called so; one whose executable has a longer name."""
    (tmp_path / NAME).mkdir()
    for path in (tmp_path / "other", tmp_path / NAME / "other", tmp_path / f"{NAME}-nm"):
        start(path, comm=NAME)
    assert processes((NAME,)) == {}


@needs_root
@pytest.mark.parametrize(
    ("owner", "mode", "changes"),
    [(65534, 0o755, {}), (0, 0o775, {}), (0, 0o757, {}), (0, 0o755, {"user": 65534}), (0, 0o755, {"left": CLONE_NEWUSER})],
    ids=["another's file", "its group may write", "anyone may write", "another's process", "in a user namespace of its own"],
)
def test_what_anyone_could_start_is_no_daemon(
    tmp_path: Path, start: Start, owner: int, mode: int, changes: dict[str, int]
) -> None:
    path = tmp_path / NAME
    shutil.copy(PYTHON.resolve(), path)
    os.chown(path, owner, owner)
    path.chmod(mode)
    for place in (tmp_path, *tmp_path.parents):
        if Path(tempfile.gettempdir()) in place.parents:
            place.chmod(0o755)
    start(path, **changes)
    assert processes((NAME,)) == {}


@needs_root
def test_where_the_executable_may_not_be_seen_the_name_has_to_do(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(tmp_path / "other", comm=NAME)

    def hidden(_: str) -> str:
        raise PermissionError

    monkeypatch.setattr(os, "readlink", hidden)
    assert list(processes((NAME,))) == [process.pid]


@needs_root
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
