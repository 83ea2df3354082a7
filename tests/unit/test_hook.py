"""The executable: its words, statuses and failures, what it imports, and strongSwan's environment."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import TOP
from tests.kit import field_cases
from tests.kit.charon import Child, charon_call
from tests.kit.hook_calls import called
from tests.kit.kernel_model import Kernel
from tests.kit.machine import Environment, Machine, call, establish
from tests.kit.starts import FULL, SHARED
from updown import hook, serve
from updown.commands import run
from updown.model.errors import Conflict, Locked, Refused, UpdownError
from updown.model.operations import Report

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
HOOK = TOP / "hooks" / "vti-updown"


def dry_run(tmp_path: Path, environment: Environment, text: str, *more: str) -> subprocess.CompletedProcess[str]:
    """The plan with these settings and an empty ledger; the environment is charon's and nothing else."""
    conf = tmp_path / "vti-updown.conf"
    conf.write_text(text)
    words = [sys.executable, "-I", str(HOOK), "--dry-run", "--config", str(conf), "--state-dir", str(tmp_path), *more]
    return subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


PLANS = {
    "a VTI": (
        Child(),
        "[connection c]\ninterface = vti5\nrouting = yes\n",
        [
            "ip link add vti5 type vti local 198.51.100.1 remote 198.51.100.2 key 5",
            "ip route add 10.2.0.0/24 dev vti5 proto 160",
        ],
    ),
    "a VTI with a key per direction": (
        Child(mark_in="33/0x000000ff", mark_out="34/0x000000ff"),
        "[defaults]\ninterface = vti{mark}\n",
        ["ip link add vti34 type vti local 198.51.100.1 remote 198.51.100.2 ikey 33 okey 34"],
    ),
    "an XFRM interface": (
        Child(mark_in="", mark_out="", if_id_in="42", if_id_out="42"),
        "[connection c]\ninterface = ipsec{if_id}\nrouting = yes\n",
        ["ip link add ipsec42 type xfrm if_id 42", "ip route add 10.2.0.0/24 dev ipsec42 proto 160"],
    ),
}


@pytest.mark.parametrize("case", PLANS)
def test_a_dry_run_shows_the_commands(case: str, tmp_path: Path) -> None:
    child, text, wanted = PLANS[case]
    done = dry_run(tmp_path, charon_call(child, "up"), text)
    assert (done.returncode, done.stderr) == (0, "")
    shown: list[str] = [line for line in done.stdout.splitlines() if line.startswith(("ip link add", "ip route"))]
    assert shown == wanted


def test_a_hostile_identity_reaches_no_output_as_it_is(tmp_path: Path) -> None:
    child = Child(name="c\x1b[2J", peer_id="$(reboot)\x1b]0;x\x07")
    done = dry_run(tmp_path, charon_call(child, "up"), "[defaults]\ninterface = vti5\n", "--verbose")
    assert done.returncode == 0
    assert (done.stdout + done.stderr).replace("\n", "").isprintable()


def test_a_bad_variable_ends_with_status_2_and_names_it(tmp_path: Path) -> None:
    environment = {**charon_call(Child(), "up"), "PLUTO_MARK_IN": "5/\x1b[2J"}
    done = dry_run(tmp_path, environment, "[defaults]\ninterface = vti5\n")
    assert done.returncode == 2
    assert done.stderr.startswith("vti-updown: c: error: PLUTO_MARK_IN=5/")
    assert "a mark such as 5/0xffffffff is expected" in done.stderr
    assert done.stderr.replace("\n", "").isprintable()
    assert all(len(line) <= 120 for line in done.stderr.splitlines())


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_is_a_status_and_printable_lines_of_at_most_120_bytes(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], journalled: list[str], case: str
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


CLOUD: dict[str, list[str]] = {  # the words of a cloud's guide, and the settings that take them
    "0 169.254.2.1/30 169.254.2.2/30": ["interface = vti0", "address = 169.254.2.1/30"],
    "169.254.2.1/30 169.254.2.2/30 0": ["interface = vti0", "address = 169.254.2.1/30"],
    "vti7 169.254.2.1/30 169.254.2.2/30": ["interface = vti7", "address = 169.254.2.1/30"],
    "169.254.2.1/30 vti7 169.254.2.2/30 100": ["interface = vti7", "address = 169.254.2.1/30"],
    "169.254.2.1 169.254.2.2": ["address = 169.254.2.1 peer 169.254.2.2"],
    "169.254.2.1/30": ["address = 169.254.2.1/30"],
    "fd00::1/126 fd00::2/126 3": ["interface = vti3", "address = fd00::1/126"],
    "3": ["interface = vti3"],
    "-ln Tunnel1 -ll 169.254.9.2/30 -lr 169.254.9.1/30 -m 100 -r 10.0.0.0/16": [
        "interface = Tunnel1",
        "address = 169.254.9.2/30",
        "route = 10.0.0.0/16",
    ],
}


@pytest.mark.parametrize("words", CLOUD)
def test_the_words_of_a_clouds_script_are_told_as_settings_that_work(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], journalled: list[str], words: str
) -> None:
    (environment,) = field_cases.calls("11")
    assert called(machine, environment, monkeypatch, *words.split()) == 2
    said = re.sub(r"\n\S+ \w+: \w+: +", " ", capsys.readouterr().err)
    assert f"error: {words}: another script's words on the command line, which are settings here" in said
    lines = re.findall("`([a-z]+ = [^`]+)`", said)
    assert lines == CLOUD[words]
    far = re.findall(r"; (\S+), the far end's, needs no line", said)
    assert far == [word for word in words.split() if word[:4] in ("169.", "fd00")][1:]
    named = [] if lines[0].startswith("interface") else ["interface = vti1"]
    machine.settings("\n".join(["[connection c]", *named, *lines]))
    machine.send(environment)
    assert len(machine.devices()) == 1
    del journalled


@pytest.mark.parametrize("words", ["x", "vti", "ip_vti0", "stauts", "0 -x", "10.9.0.3/30"])
def test_other_words_from_a_daemon_are_unknown(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], journalled: list[str], words: str
) -> None:
    assert called(machine, call(SHARED, "up"), monkeypatch, *words.split()) == 2
    assert f"unknown word '{words.split()[0]}' on the command line" in capsys.readouterr().err
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
    program = (
        f"import runpy, sys; sys.modules[{module!r}] = None; sys.flags.isolated or sys.exit(99);"
        f" sys.argv = [{str(HOOK)!r}, *{words!r}, '--state-dir', {str(tmp_path)!r}];"
        f" runpy.run_path({str(HOOK)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], env=call(FULL, "up"), capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"Python module {module} is missing" in " ".join(done.stderr.split())


def test_an_event_imports_nothing_slow(tmp_path: Path) -> None:
    """The daemon stands still meanwhile; each of these takes a hook from a twentieth to the fourfold of its time."""
    slow = {"argparse", "configparser", "dataclasses", "datetime", "inspect", "logging", "pyroute2", "socket", "typing"}

    def imported(*words: str) -> set[str]:
        command = [sys.executable, "-I", "-X", "importtime", *words]
        done = subprocess.run(command, env=call(FULL, "up"), check=True, capture_output=True, text=True)
        return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}

    event = imported(str(HOOK), "--dry-run", "--state-dir", str(tmp_path)) - imported("-c", "")
    assert "updown.event" in event
    assert event & slow == set()


def test_garbage_is_collected_but_not_sought_among_what_was_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []

    def serve_event(*_: object) -> Report:
        told.append(gc.isenabled())
        return Report("")

    def run_command(*_: object) -> int:
        told.append(gc.isenabled())
        return 0

    monkeypatch.setattr(serve, "serve_event", serve_event)
    monkeypatch.setattr(run, "run_command", run_command)
    try:
        for words in ([], ["status"]):
            gc.disable()  # as the executable does
            monkeypatch.setattr(sys, "argv", [str(HOOK), *words])
            assert hook.invocation(call(FULL, "up") if not words else {}) == 0
        assert told == [True, True]
        assert gc.get_freeze_count()
    finally:
        gc.unfreeze()
        gc.enable()


@pytest.mark.parametrize("closed", ["exec 2>&-; ", "exec 2>/dev/full; "], ids=["closed", "full"])
def test_an_error_that_nobody_takes_keeps_its_status(tmp_path: Path, closed: str) -> None:
    command = [sys.executable, "-I", str(HOOK), "--state-dir", str(tmp_path / "state")]
    done = subprocess.run(
        ["/bin/sh", "-c", f'{closed}exec "$@"', "sh", *command], env={"PLUTO_VERB": "dance"}, stdout=subprocess.PIPE
    )
    assert (done.returncode, done.stdout) == (2, b"")
