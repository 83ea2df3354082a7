"""The executable with strongSwan's environment: what charon would log, and what `--dry-run` shows."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import TOP
from tests.kit.charon import Child, charon_call
from tests.kit.machine import Environment

HOOK = TOP / "hooks" / "vti-updown"


def dry_run(tmp_path: Path, environment: Environment, text: str, *more: str) -> "subprocess.CompletedProcess[str]":
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
