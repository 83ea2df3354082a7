"""What happens under the lock, and between processes that want it."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import TOP
from tests.kit.charon import Child, charon_call
from tests.kit.machine import Machine, Tunnel, call
from tests.kit.waiting_events import is_kept
from updown import daemons
from updown.ledger import spool
from updown.ledger.file import open_ledger
from updown.model.errors import Locked
from updown.serve import serve_event

ROOT = TOP
WATCHED = """
import json, os, sys
root, state, settings, *files = sys.argv[1:]
sys.path.insert(0, root)
from updown import hook
ours = set(sys.modules)
from tests.kit import kernel_model
for name in set(sys.modules) - ours:  # what an event needs of these it has to import by itself
    if name not in ("tests", "tests.property", "tests.kit.kernel_model"):
        del sys.modules[name]
model = kernel_model.Kernel()
model.physical("eth0", "198.51.100.1/24")
held, seen = [False], []

def audit(name, arguments):
    if held[0] and name == "import":
        seen.append(f"import {arguments[0]}")
    elif held[0] and name == "open" and str(arguments[0]).endswith((".py", ".pyc", ".conf")):
        seen.append(f"open {arguments[0]}")

def watch():
    from updown import serve
    from updown.ledger import file as ledger_file
    from updown.ledger.store import Ledger
    from updown.kernel import nft, sysctl
    from updown.kernel import path_mtu
    from updown.model.ipsec import Sa, State
    take, close = ledger_file.take_lock, Ledger.close
    def taken(*arguments):
        lock = take(*arguments)
        held[0] = True
        seen.append("taken")
        return lock
    def closed(ledger):
        close(ledger)
        held[0] = False
    ledger_file.take_lock, Ledger.close = taken, closed
    serve.Netlink = lambda: model
    sysctl.read, sysctl.write = model.read_sysctl, model.write_sysctl
    nft.read_table, nft.put_table, nft.delete_table = model.table_of, model.put_table, model.remove_table
    path_mtu.outgoing_sa = lambda context: State("", "", 1, 1, Sa(50, 1, 4, "cbc(aes)", 16))

real = hook.run_hook
def run_hook(arguments, environ):
    from updown import daemons
    daemons.read(environ)  # as run_hook does before anything else
    import updown.serve
    watch()
    return real(arguments, environ)

hook.run_hook = run_hook
sys.addaudithook(audit)
sys.argv = ["vti-updown", "--state-dir", state, "--config", settings]
statuses = []
for file in files:
    with open(file) as opened:
        environment = json.load(opened)
    os.environb.clear()
    os.environb.update({name.encode(): value.encode() for name, value in environment.items()})
    statuses.append(hook.main())
print(json.dumps([statuses, seen]))
"""


@pytest.mark.parametrize("kept", [False, True], ids=["nothing waits", "one waits"])
@pytest.mark.parametrize("verb", ["prepare", "route", "up", "prepare-route-up", "down", "unroute"])
def test_nothing_is_imported_or_read_while_the_lock_is_held(tmp_path: Path, verb: str, kept: bool) -> None:
    """In a fresh interpreter, with settings that need all there is: patterns, each concern, IPv4 and IPv6."""
    settings = tmp_path / "s.conf"
    settings.write_text(
        "[defaults]\nlock_wait = 1\nmtu = auto\n[connection t*]\naddress = 10.9.0.1/24\n[device v*]\nmss = clamp\n"
    )
    tunnel = Tunnel(theirs="0.0.0.0/0", peer="203.0.113.9", source="10.1.0.1", next_hop="198.51.100.254", shared="yes")
    file = tmp_path / "event"
    file.write_text(json.dumps(call(tunnel, verb)))
    if kept:
        place = tmp_path / "state" / "net-1"
        place.mkdir(parents=True)
        environment = call(tunnel._replace(connection="u", theirs="10.7.0.0/24"), "up")
        spool.write_event(str(place), spool.new_name(), environment, str(settings))
    words = [sys.executable, "-I", "-S", "-c", WATCHED, str(ROOT), str(tmp_path / "state"), str(settings), str(file)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    statuses, seen = json.loads(done.stdout.splitlines()[-1])
    assert statuses == [0], done.stderr
    assert seen == ["taken"]
    if kept:
        assert spool.waiting_events(str(tmp_path / "state" / "net-1")) == []


@pytest.mark.parametrize("verb", ["up", "down"])
def test_nor_for_strongswan(tmp_path: Path, verb: str) -> None:
    settings, file = tmp_path / "s.conf", tmp_path / "event"
    settings.write_text("[connection *]\ninterface = vti{mark}\nrouting = yes\n")
    file.write_text(json.dumps(charon_call(Child(), verb)))
    words = [sys.executable, "-I", "-S", "-c", WATCHED, str(ROOT), str(tmp_path / "state"), str(settings), str(file)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(done.stdout.splitlines()[-1]) == [[0], ["taken"]], done.stderr


TUNNELS = [
    Tunnel(f"c{number}", peer=f"198.51.100.{10 + number}", theirs=f"10.{number}.0.0/24", shared="yes", reqid=20000 + 4 * number)
    for number in range(1, 9)
]


def send_some(folder: str, tunnel: Tunnel, verbs: list[str], start: Any, results: Any) -> None:
    """One process: the events of one tunnel, at once with those of the others, none waiting for the lock."""
    machine = Machine(Path(folder) / tunnel.connection, pytest.MonkeyPatch())
    start.wait()
    statuses = []
    for verb in verbs:
        environment = call(tunnel, verb)
        report = serve_event(daemons.read(environment), environment, f"{folder}/state", f"{folder}/settings")
        statuses.append(int(is_kept(report)))
    results.put((tunnel.connection, statuses))
    del machine


def at_once(folder: Path, verbs: list[str], wait: str) -> dict[str, list[int]]:
    """Of the events of eight tunnels, sent by eight processes at once, which were kept; all end well."""
    (folder / "settings").write_text(f"[defaults]\nlock_wait = {wait}\n")
    fork = multiprocessing.get_context("fork")
    start, results = fork.Barrier(len(TUNNELS)), fork.Queue()
    workers = [fork.Process(target=send_some, args=(str(folder), tunnel, verbs, start, results)) for tunnel in TUNNELS]
    for worker in workers:
        worker.start()
    found = dict(results.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    return found


def claims(folder: Path) -> list[str]:
    with open_ledger(str(folder / "state"), "1") as ledger:
        return sorted(claim.connection for claim in ledger.claims())


@pytest.mark.parametrize("wait", ["0", "0.001", "5"])
def test_eight_processes_at_once_lose_no_event(tmp_path: Path, wait: str) -> None:
    """Promise P7: all eight claims, then none; nothing waits when the last of them has ended, whether it was kept or not."""
    place = str(tmp_path / "state" / "net-1")
    for _ in range(5):
        at_once(tmp_path, ["prepare", "route", "up"], wait)
        assert spool.waiting_events(place) == []
        assert claims(tmp_path) == sorted(tunnel.connection for tunnel in TUNNELS)
        at_once(tmp_path, ["down", "unroute"], wait)
        assert spool.waiting_events(place) == []
        assert claims(tmp_path) == []


def test_events_kept_behind_a_stopped_holder_are_applied_when_it_dies(tmp_path: Path) -> None:
    """A real process that holds the lock and hangs; eight others, none of which waits; then SIGKILL."""
    (tmp_path / "state").mkdir()
    ready, told = os.pipe()
    holder = os.fork()
    if not holder:
        open_ledger(str(tmp_path / "state"), "1")
        os.write(told, b"x")
        signal.pause()
    try:
        assert os.read(ready, 1) == b"x"
        found = at_once(tmp_path, ["prepare", "route", "up"], "0")
        assert set(map(tuple, found.values())) == {(1, 1, 1)}
        assert len(spool.waiting_events(str(tmp_path / "state" / "net-1"))) == 24
    finally:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
    at_once(tmp_path, ["up"], "5")
    assert spool.waiting_events(str(tmp_path / "state" / "net-1")) == []
    assert claims(tmp_path) == sorted(tunnel.connection for tunnel in TUNNELS)


def test_a_held_lock_is_status_4_and_names_its_holder(machine: Machine) -> None:
    with machine.ledger(), pytest.raises(Locked, match=f"held by pid {os.getpid()} since") as locked:
        machine.ledger()
    assert locked.value.status == 4
    assert locked.value.hint


def test_a_lock_ends_with_its_holder(machine: Machine) -> None:
    with machine.ledger():
        pass
    with machine.ledger():
        pass


def work(folder: str, name: str, count: int) -> None:
    """One process of several: makes and drops tunnels of its own on one ledger, with a kernel of its own."""
    patch = pytest.MonkeyPatch()
    machine = Machine(Path(folder), patch)
    machine.folder = Path(folder)
    for number in range(count):
        tunnel = Tunnel(
            f"{name}{number}",
            peer=f"203.0.{len(name)}.{number + 1}",
            theirs=f"10.{number}.0.0/24",
            device=f"{name}{number}",
            reqid=20000 + 4 * number,
        )
        context_calls = [call(tunnel, "up")] if number % 2 else [call(tunnel, "up"), call(tunnel, "down")]
        for environment in context_calls:
            for _ in range(200):
                try:
                    machine.send(environment)
                    break
                except Locked:
                    continue
            else:
                raise AssertionError("never got the lock")


def test_two_processes_at_once_lose_no_claim(tmp_path: Path) -> None:
    """Promise P7: as if one after the other."""
    folder = str(tmp_path / "state")
    spawn = multiprocessing.get_context("fork")
    workers = [spawn.Process(target=work, args=(folder, name, 10)) for name in ("a", "bb")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    with open_ledger(folder, "1") as ledger:
        assert sorted(claim.connection for claim in ledger.claims()) == sorted(
            f"{name}{number}" for name in ("a", "bb") for number in range(1, 10, 2)
        )
