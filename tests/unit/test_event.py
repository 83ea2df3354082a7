"""An event as a whole: failures undone, deaths mended, the lock, the lines a daemon sees, and what people see."""

import errno
import json
import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable

import pytest

from tests import TOP
from tests.kit.kernel_model import Kernel
from tests.kit.machine import EAST6, NOW, THIRD, WEST6, Environment, Machine, Tunnel, call, establish, withdraw
from updown import daemons, hook
from updown.kernel import journal
from updown.ledger import clock
from updown.ledger.file import open_ledger
from updown.model.errors import Conflict, KernelError, Locked, Refused, UpdownError
from updown.model.objects import Link
from updown.output.lines import folded
from updown.output.report import hook_lines, plan_lines
from updown.serve import serve_event

FULL = Tunnel(
    peer="203.0.113.9", theirs="0.0.0.0/0", address="10.99.0.1/30", source="10.1.0.1", next_hop="198.51.100.254"
)
SHARED = Tunnel(shared="yes", address="10.99.0.1/30")
OTHER = Tunnel("u", peer=THIRD, theirs="10.3.0.0/24", shared="yes", address="10.99.1.1/30", reqid=16392)
LONG6 = Tunnel(
    "a-connection-with-a-very-long-name-indeed",
    me="2001:db8:1111:2222:3333:4444:5555:6666",
    peer="2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff",
    mine="2001:db8:1111:2222:3333:4444:5555:0/112",
    theirs="2001:db8:aaaa:bbbb:cccc:dddd:eeee:0/112",
    device="fifteen-chars.x",
    address="2001:db8:9999:9999:9999:9999:9999:9999/127",
    source="2001:db8:1111:2222:3333:4444:5555:7777",
    metric="4294967295",
    mtu="1400",
    mark_in="4294967294/0xffffffff",
    mark_out="4294967295/0xffffffff",
)
MADE = Link("vti5", "vti", local=FULL.me, remote=FULL.peer, ikey=5, okey=5, mtu=1480, up=True)


def state(machine: Machine) -> tuple[Any, ...]:
    """Kernel and ledger, but for what names a device by number."""
    claims = sorted((claim._replace(order=0) for claim in machine.claims()), key=lambda claim: claim.key)
    return machine.kernel.picture(indexes=False), claims, {name: bool(index) for name, index in machine.made().items()}


# -- failures

STARTS: dict[str, tuple[list[Environment], Environment]] = {
    "making all": ([], call(FULL, "up")),
    "a second connection": (establish(SHARED), call(OTHER, "up")),
    "re-pointing": (establish(SHARED._replace(shared="no")), call(SHARED._replace(shared="no", peer=THIRD), "up")),
    "making anew": (
        establish(FULL),
        call(FULL._replace(me=WEST6, peer=EAST6), "up"),
    ),
    "taking all down": (establish(FULL), call(FULL, "down")),
    "taking one of two down": (establish(SHARED) + establish(OTHER), call(SHARED, "down")),
}


def changes_of(tmp: Path, patch: pytest.MonkeyPatch, case: str) -> list[str]:
    """The moments of an event that goes well."""
    before, last = STARTS[case]
    machine = Machine(tmp / "dry", patch)
    machine.send_all(before)
    machine.send(last)
    return machine.moments


@pytest.mark.parametrize("case", STARTS)
@pytest.mark.parametrize("number", [errno.EINVAL, errno.EPERM], ids=["refused", "not permitted"])
def test_an_event_that_fails_leaves_kernel_and_ledger_as_before_and_succeeds_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, number: int
) -> None:
    """Whatever operation the kernel refuses: undone if it is fatal, told if not; the same event then comes to the same end."""
    before, last = STARTS[case]
    moments = changes_of(tmp_path, monkeypatch, case)
    wanted = None
    for at, moment in enumerate(moments):
        if moment.endswith("commit"):
            continue
        machine = Machine(tmp_path / str(at), monkeypatch)
        machine.send_all(before)
        start = state(machine)
        machine.fails_at = (at, KernelError(f"{moment}: no", number))
        try:
            report = machine.send(last)
            assert any(moment in warning for warning in report.warnings), f"{moment} failed without a word"
        except KernelError:
            machine.fails_at = None
            assert state(machine) == start, f"{moment} failed"
        machine.fails_at = None
        machine.send(last)
        assert machine.send(last).operations == ()
        wanted = wanted or state(run(tmp_path / f"{at} wanted", monkeypatch, [*before, last]))
        assert state(machine) == wanted, f"{moment} failed, then all went well"


def run(folder: Path, patch: pytest.MonkeyPatch, calls: list[Environment]) -> Machine:
    """A machine after these calls."""
    machine = Machine(folder, patch)
    machine.send_all(calls)
    return machine


def test_an_event_that_fails_leaves_the_claims_in_their_order(machine: Machine) -> None:
    """The first to come holds what two want."""
    machine.send_all([*establish(SHARED), *establish(OTHER)])
    before = [claim.connection for claim in machine.claims()]
    machine.fails_at = (2, KernelError("no", errno.EPERM))
    with pytest.raises(KernelError):
        machine.send(call(SHARED, "down"))
    machine.fails_at = None
    assert [claim.connection for claim in machine.claims()] == before


# -- deaths (promise P6)

NEXT: dict[str, Callable[[Environment], list[Environment]]] = {
    "the same call": lambda last: [last],
    "an unrelated tunnel": lambda last: [
        call(
            Tunnel(
                "z",
                peer="198.51.100.8",
                theirs="10.8.0.0/24",
                device="vti8",
                mark_in="8/0xff",
                mark_out="8/0xff",
                reqid=16400,
            ),
            "up",
        ),
        last,
    ],
    "nothing but the end": lambda last: [
        {**last, "PLUTO_VERB": "down-client"},
        {**last, "PLUTO_VERB": "unroute-client"},
    ],
}


@pytest.mark.parametrize("case", STARTS)
@pytest.mark.parametrize("after", NEXT)
def test_killed_at_any_instruction_the_next_event_ends_in_the_right_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, after: str
) -> None:
    before, last = STARTS[case]
    follow = NEXT[after](last)
    wanted = state(run(tmp_path / "wanted", monkeypatch, [*before, last, *follow]))
    for at in range(len(changes_of(tmp_path, monkeypatch, case))):
        machine = Machine(tmp_path / str(at), monkeypatch)
        machine.send_all(before)
        assert machine.dies(last, at)
        moment = machine.moments[at]
        machine.send_all(follow)
        assert machine.unfinished() == [], f"killed at {moment}"
        assert state(machine) == wanted, f"killed at {moment}"


# -- the ledger's place, and the lock


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


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UpdownError, match="file: File exists") as error:
        open_ledger(str(tmp_path / "file"), "1")
    assert (error.value.status, bool(error.value.hint)) == (1, True)


def foreign(_: bytes) -> bytes:
    """Somebody's SQLite file, which says nothing of its version."""
    with TemporaryDirectory() as folder, closing(sqlite3.connect(f"{folder}/notes")) as base:
        base.execute("CREATE TABLE notes (text TEXT)")
        base.commit()
        return Path(folder, "notes").read_bytes()


def flipped(text: bytes) -> Callable[[bytes], bytes]:
    """The high bit of the third byte of `text` is another one, wherever it stands: no UTF-8 any more."""
    return lambda data: data.replace(text, text[:2] + bytes([text[2] ^ 0x80]) + text[3:])


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "another file": lambda _: b"hello" * 1000,
    "cut to 5000 bytes": lambda data: data[:5000],
    "cut to 50 bytes": lambda data: data[:50],
    "cut to 1 byte": lambda data: data[:1],
    "cut to nothing": lambda _: b"",
    "another version's": lambda data: (
        data[:60] + bytes([0, 0, 0, 9]) + data[64:]
    ),  # user_version, sqlite.org/fileformat
    "another program's": foreign,
    "a flipped byte in a want": flipped(b"10.2.0.0/24"),
    "a flipped byte in a selector": flipped(b"10.1.0.0/24"),
    "a flipped byte in the name of a table": flipped(b"TABLE want"),
    "a flipped byte in the name of a column": flipped(b"position"),
    "a flipped byte in an index": flipped(b"routed"),
}
EMPTY = ("cut to 1 byte", "cut to nothing")


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_ledger_is_set_aside_and_the_event_served(machine: Machine, case: str) -> None:
    """Whatever part of the file is damaged; the devices are found again by their alias."""
    machine.send_all(establish(SHARED))
    ledger = machine.folder / "net-1" / "ledger"
    ledger.write_bytes(DAMAGED[case](ledger.read_bytes()))
    report = machine.serve(call(OTHER, "up"))
    assert ("10.3.0.0/24", "vti5") in machine.routes()
    assert [claim.connection for claim in machine.claims()] == ["u"]
    if case in EMPTY:
        assert report.warnings[0].startswith("the ledger was empty, cut off or never filled; begun anew. Tunnels")
    else:
        (aside,) = ledger.parent.glob("ledger.damaged-*")
        assert report.warnings[0].startswith("the ledger was damaged (")
        assert str(aside) in report.warnings[0]
    again = machine.serve(call(OTHER, "up"))
    assert (again.operations, again.warnings) == ((), ())


def test_a_ledger_that_is_missing_is_made_without_a_word(machine: Machine) -> None:
    """So it is at the first event since boot."""
    for name in ("ledger", "lock", ""):
        report = machine.serve(call(OTHER, "up"))
        assert report.warnings == ()
        if name:
            (machine.folder / "net-1" / name).unlink()


@pytest.mark.parametrize("case", DAMAGED)
def test_a_dry_run_tells_a_damaged_ledger_and_leaves_it(machine: Machine, case: str) -> None:
    machine.send_all(establish(SHARED))
    ledger = machine.folder / "net-1" / "ledger"
    ledger.write_bytes(DAMAGED[case](ledger.read_bytes()))
    before = ledger.read_bytes()
    report = machine.serve(call(OTHER, "up"), dry=True)
    assert ("was empty" if case in EMPTY else "cannot be read") in report.warnings[0]
    assert ledger.read_bytes() == before
    assert list(ledger.parent.glob("ledger.damaged-*")) == []


def test_a_state_directory_of_another_user_is_refused(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.folder.mkdir()
    real = os.stat(machine.folder)
    monkeypatch.setattr("os.stat", lambda _: os.stat_result((*real[:4], 4711, *real[5:])))
    with pytest.raises(UpdownError, match="belongs to user 4711") as error:
        machine.ledger()
    assert "chown" in error.value.hint


def test_the_ledger_is_for_root_alone(machine: Machine) -> None:
    machine.send(call(SHARED, "up"))
    assert machine.folder.stat().st_mode & 0o777 == 0o700
    assert (machine.folder / "net-1" / "lock").stat().st_mode & 0o777 == 0o600


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


# -- dry runs


@pytest.mark.parametrize("case", STARTS)
def test_a_dry_run_shows_the_plan_and_changes_nothing(machine: Machine, case: str) -> None:
    before, last = STARTS[case]
    machine.send_all(before)
    files = {path: path.read_bytes() for path in machine.folder.rglob("*") if path.is_file()}
    start = machine.kernel.picture()
    report = machine.serve(last, dry=True)
    assert machine.kernel.picture() == start
    assert {path: path.read_bytes() for path in machine.folder.rglob("*") if path.is_file()} == files
    assert machine.send(last).operations == report.operations


@pytest.mark.usefixtures("machine")
def test_a_dry_run_needs_no_state_directory(tmp_path: Path) -> None:
    environment = call(FULL, "up")
    assert serve_event(daemons.read(environment), environment, str(tmp_path / "nowhere"), dry=True).operations
    assert not (tmp_path / "nowhere").exists()


# -- the lines


@pytest.mark.parametrize("release", [4, 5])
def test_no_line_for_the_daemon_is_longer_than_120_bytes(machine: Machine, release: int) -> None:
    machine.kernel.physical("eth1", f"{LONG6.me}/64")
    tunnel = LONG6._replace(release=release)
    for environment in [*establish(tunnel), *withdraw(tunnel)]:
        lines = hook_lines(machine.send(environment))
        assert all(len(line.encode()) <= 120 for line in lines), lines
        assert all(line.startswith("vti-updown: a-connection-with-a-very-lo...: ") for line in lines)


def test_no_line_of_an_ipv6_conflict_is_longer_than_120_bytes(machine: Machine) -> None:
    machine.kernel.add_link(
        Link(LONG6.device, "vti6", local=LONG6.me, remote=LONG6.peer[:-1] + "0", ikey=1, okey=2, mtu=1400, up=True)
    )
    with pytest.raises(Conflict) as conflict:
        machine.send(call(LONG6, "up"))
    lines = [*folded("vti-updown: " + "n" * 30 + ": error: ", conflict.value.text), *folded("x: ", conflict.value.hint)]
    assert all(len(line.encode()) <= 120 for line in lines)
    assert "remote" in conflict.value.text


@pytest.fixture
def journalled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What goes to the journal."""
    sent: list[str] = []
    monkeypatch.setattr(journal, "send", lambda lines, **_: sent.extend(lines))
    return sent


def called(machine: Machine, environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The hook's main() in this environment."""
    monkeypatch.setattr(
        os, "environb", {name.encode(): value.encode("utf-8", "surrogateescape") for name, value in environment.items()}
    )
    monkeypatch.setattr("sys.argv", ["vti-updown", "--state-dir", str(machine.folder), *words])
    return hook.main()


@pytest.mark.parametrize("verb", ["prepare-route-up", "prepare-up"])
def test_a_joined_verb_prints_nothing_and_the_journal_has_the_lines(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    journalled: list[str],
    verb: str,
) -> None:
    assert called(machine, call(SHARED, verb), monkeypatch) == 0
    assert capsys.readouterr() == ("", "")
    assert any("ip link add vti5" in line for line in journalled)


def test_the_hook_prints_one_line_an_effect(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], journalled: list[str]
) -> None:
    assert called(machine, call(SHARED, "prepare"), monkeypatch) == 0
    assert capsys.readouterr().out.splitlines() == [
        "vti-updown: t: ip link add vti5 type vti local 198.51.100.1 remote any key 5",
        "vti-updown: t: sysctl -w net/ipv4/conf/vti5/disable_policy=1",
        "vti-updown: t: sysctl -w net/ipv4/conf/vti5/forwarding=1",
        "vti-updown: t: sysctl -w net/ipv6/conf/vti5/disable_policy=1",
        "vti-updown: t: sysctl -w net/ipv6/conf/vti5/forwarding=1",
        "vti-updown: t: ip addr add 10.99.0.1/30 dev vti5",
        "vti-updown: t: ip link set vti5 alias vti-updown up",
    ]
    assert called(machine, call(SHARED, "prepare"), monkeypatch) == 0
    assert capsys.readouterr() == ("", "")
    del journalled


FAILURES: dict[str, tuple[dict[str, str], int, str]] = {
    "an unknown verb": ({"PLUTO_VERB": "fly-client"}, 2, "error: PLUTO_VERB: unknown verb 'fly-client'"),
    "a hostile verb": ({"PLUTO_VERB": "\x1b[2J" + "x" * 3000}, 2, "error: PLUTO_VERB: unknown verb"),
    "a path as device": ({"VTI_IFACE": "../x"}, 2, "error: VTI_IFACE=../x: a device name is"),
    "a bad mark": ({"CONNMARK_IN": "5/zz"}, 2, "error: CONNMARK_IN=5/zz: a mark such as"),
    "a conflict": ({"VTI_IFACE": "eth0"}, 3, "error: eth0 is not ours and has kind none, wanted vti"),
    "a hostile connection": (
        {"PLUTO_CONNECTION": "\x1b]0;x\x07\udcff" * 40, "VTI_IFACE": "x;reboot"},
        2,
        "error: VTI_IFACE=x;reboot: a device name",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_is_a_status_and_printable_lines_of_at_most_120_bytes(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    journalled: list[str],
    case: str,
) -> None:
    changes, status, said = FAILURES[case]
    before = machine.kernel.picture()
    assert called(machine, {**call(SHARED, "up"), **changes}, monkeypatch) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "Traceback" not in err
    assert all(len(line) <= 120 and line.isascii() and line.isprintable() for line in err.splitlines())
    assert machine.kernel.picture() == before
    assert journalled == err.splitlines()


def test_a_defect_of_ours_is_one_line_and_no_traceback(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], journalled: list[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("\x1b[2J")

    monkeypatch.setattr(Kernel, "link", broken)
    assert called(machine, call(SHARED, "up"), monkeypatch) == 1
    err = capsys.readouterr().err
    assert "error: defect at " in err
    assert "Traceback" not in err
    assert "\x1b" not in err
    assert any("Traceback" in line for line in journalled)


def test_a_verb_that_asks_for_nothing_is_done(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(machine, {**call(SHARED, "up"), "PLUTO_VERB": "disconnectNM-client"}, monkeypatch) == 0
    assert capsys.readouterr() == ("", "")


def test_a_broken_settings_file_keeps_no_tunnel_alive(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.conf"
    broken.write_text("[defaults]\nmtuu = 1\n")
    machine.send_all(establish(FULL))
    words = ("--config", str(broken))
    assert called(machine, call(FULL, "prepare"), monkeypatch, *words) == 2
    assert "broken.conf:2: unknown key mtuu; did you mean mtu?" in capsys.readouterr().err.replace(
        "\nvti-updown: t: error:  ", ""
    )
    assert called(machine, call(FULL, "down"), monkeypatch, *words) == 0
    assert machine.devices() == set()


# -- for people


def test_status_shows_devices_and_claims(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from updown.commands.status import run

    monkeypatch.setattr(clock, "booted", lambda: 1_700_000_000 - NOW)
    monkeypatch.setenv("TZ", "UTC")
    import time

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
    from updown.commands.status import run

    machine.kernel.add_link(MADE)
    machine.send(call(FULL, "up"))
    machine.send(call(OTHER._replace(device="vti7"), "up"))
    machine.kernel.remove(machine.kernel.named("vti7").ifindex)
    assert run(machine.arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["vti5", "vti", FULL.me, FULL.peer, "5", "up", "someone", "else", "stays", "1"]
    assert lines[2].split() == ["vti7", "-", "-", "-", "-", "MISSING", "vti-updown", "stays", "1"]


def test_status_of_an_empty_machine_is_one_line(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    from updown.commands.status import run

    assert run(machine.arguments) == 0
    assert capsys.readouterr().out == "no devices, no claims\n"


def test_status_knows_our_devices_without_a_ledger(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """/run was emptied: the alias tells."""
    from updown.commands.status import run

    machine.send_all(establish(FULL))
    shutil.rmtree(machine.folder)
    assert run(machine.arguments) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert (row[0], row[-3], row[-1]) == ("vti5", "vti-updown", "0")


def test_status_as_json_carries_a_version_and_escapes_hostile_names(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from updown.commands.status import run

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
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    separator: str,
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


def test_clean_shows_each_command_once_and_does_just_those(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a device that claims hold, of one that is not ours but has routes and addresses of ours, and of one nobody holds."""
    machine.settings("[device vti5]\nmss = clamp\n[device vti7]\ndelete = never\n")
    machine.kernel.add_link(MADE._replace(name="vti6", remote="198.51.100.66", ikey=6, okey=6))
    foreign = OTHER._replace(
        device="vti6", mark_in="6/0xffffffff", mark_out="6/0xffffffff", peer="198.51.100.66", shared="no"
    )
    lone = foreign._replace(connection="v", device="vti7", mark_in="7/0xff", mark_out="7/0xff", theirs="10.7.0.0/24")
    lone = lone._replace(peer="198.51.100.67", reqid=16404, address="10.77.0.1/30")
    for tunnel in (FULL, foreign, lone):
        machine.send_all(establish(tunnel))
    machine.send_all(withdraw(lone))
    assert machine.devices() == {"vti5", "vti6", "vti7"}
    called(machine, {}, monkeypatch, "clean", "--dry-run")
    shown = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert len(shown) == len(set(shown)) > 4
    assert called(machine, {}, monkeypatch, "clean") == 0
    done = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert machine.devices() == {"vti6"}
    assert done == shown
    assert machine.made() == {}


def test_a_clean_that_fails_leaves_the_claims_as_they_were(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their devices that stay by the table among them."""
    machine.send_all(establish(SHARED))
    before = machine.claims()

    def fault(_number: int, text: str) -> None:
        if text.startswith("link delete"):
            raise KernelError(f"{text}: no", errno.EBUSY)

    monkeypatch.setattr(machine.kernel, "fault", fault)
    assert called(machine, {}, monkeypatch, "clean") == 1
    assert machine.claims() == before
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


def test_nothing_to_do_says_so(machine: Machine) -> None:
    assert plan_lines(machine.send(call(SHARED, "down")), reasons=False) == ["# nothing to do"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["frobnicate"], "unknown word 'frobnicate'"),
        (["stauts"], "did you mean status?"),
        (["--configg"], "did you mean --config?"),
        (["--config"], "--config needs a path"),
        (["replay"], "replay needs at least one saved environment"),
        (["capture"], "capture is not served by this release"),
        ([], "PLUTO_VERB is not set"),
        (["--config", "/nowhere", "--dry-run"], "PLUTO_VERB is not set"),
    ],
)
def test_wrong_usage_is_status_2_and_says_what_is_wrong(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    journalled: list[str],
    words: list[str],
    said: str,
) -> None:
    assert called(machine, {}, monkeypatch, *words) == 2
    assert said in capsys.readouterr().err
    del journalled


@pytest.mark.parametrize(
    "words", [["custom"], ["--route", "yes"], ["--route=yes"], ["--iproute", "metric 5"], ["custom", "--route", "no"]]
)
def test_the_stock_scripts_words_are_taken_without_effect(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert called(machine, call(SHARED._replace(routing="no"), "up"), monkeypatch, *words) == 0
    assert machine.devices() == {"vti5"}
    assert machine.routes() == set()
    capsys.readouterr()


def test_refusals_and_conflicts_have_their_own_status() -> None:
    statuses = {kind.__name__: kind.status for kind in (UpdownError, Refused, Conflict, Locked)}
    assert statuses == {"UpdownError": 1, "Refused": 2, "Conflict": 3, "Locked": 4}


@pytest.mark.parametrize("module", ["_sqlite3", "ipaddress"])
@pytest.mark.parametrize("words", [[], ["--dry-run"], ["status"]], ids=str)
def test_a_missing_module_is_named_in_one_line(tmp_path: Path, module: str, words: list[str]) -> None:
    """A Python that was built or packaged without it."""
    hook = TOP / "hooks" / "vti-updown"
    program = (
        f"import runpy, sys; sys.modules[{module!r}] = None; sys.flags.isolated or sys.exit(99);"
        f" sys.argv = [{str(hook)!r}, *{words!r}, '--state-dir', {str(tmp_path)!r}];"
        f" runpy.run_path({str(hook)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], env=call(FULL, "up"), capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"Python module {module} is missing" in " ".join(done.stderr.split())


def test_an_event_imports_nothing_slow(tmp_path: Path) -> None:
    """The daemon stands still meanwhile; each of these takes a hook from a twentieth to the fourfold of its time."""
    slow = {"argparse", "configparser", "dataclasses", "datetime", "inspect", "logging", "pyroute2", "socket", "typing"}
    hook = TOP / "hooks" / "vti-updown"

    def imported(*words: str) -> set[str]:
        command = [sys.executable, "-I", "-X", "importtime", *words]
        done = subprocess.run(command, env=call(FULL, "up"), check=True, capture_output=True, text=True)
        return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}

    event = imported(str(hook), "--dry-run", "--state-dir", str(tmp_path)) - imported("-c", "")
    assert "updown.event" in event
    assert event & slow == set()


@pytest.mark.parametrize("closed", ["exec 2>&-; ", "exec 2>/dev/full; "], ids=["closed", "full"])
def test_an_error_that_nobody_takes_keeps_its_status(tmp_path: Path, closed: str) -> None:
    hook = TOP / "hooks" / "vti-updown"
    command = [sys.executable, "-I", str(hook), "--state-dir", str(tmp_path / "state")]
    done = subprocess.run(
        ["/bin/sh", "-c", f'{closed}exec "$@"', "sh", *command], env={"PLUTO_VERB": "dance"}, stdout=subprocess.PIPE
    )
    assert (done.returncode, done.stdout) == (2, b"")


def test_status_without_pyroute2_shows_what_the_ledger_knows(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from updown.commands.status import run

    def missing(_netns: str = "") -> list[Link]:
        raise UpdownError("pyroute2 is missing")

    machine.send(call(FULL, "up"))
    monkeypatch.setattr("updown.kernel.netlink.dumps.links", missing)
    assert run(machine.arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("# pyroute2 is missing")
    assert lines[2].startswith("vti5 ")


def test_what_is_escaped_is_not_escaped_again() -> None:
    assert folded("", "\\xff \x1b") == ["\\xff \\x1b"]
