"""On a real kernel: a full disk, things in the place of ledger and lock, taken ends; and what status and check say then."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.kernel.calls import Node, ip, towards_peers
from tests.kit.charon import Child, charon_call
from tests.kit.machine import THIRD, Environment, Tunnel, call, establish

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("modules")]

T = Tunnel()
U = Tunnel("u", peer=THIRD, theirs="10.3.0.0/24", device="vti6", mark_in="6/0xff", mark_out="6/0xff", reqid=16392)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with towards_peers():
        made = Node(tmp_path)
        made.config.write_text("[defaults]\nlock_wait = 1\n[connection c]\ninterface = ipsec9\n")
        yield made


@pytest.fixture
def small(node: Node) -> Iterator[Node]:
    """The state directory is a file system of its own with room for little."""
    node.state.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k,mode=0700", "tmpfs", str(node.state)], check=True)
    yield node
    subprocess.run(["umount", "-l", str(node.state)], check=True)


def devices() -> set[str]:
    return {link["ifname"] for link in json.loads(ip("-j", "link", "show"))} - {"lo", "eth0"} - fallbacks()


def fallbacks() -> set[str]:
    """Of modules that a test loaded: the kernel makes one in each namespace."""
    return {"ip_vti0", "ip6_vti0", "ip6tnl0", "tunl0", "sit0"}


def older(node: Node) -> None:
    """All claims are older than the time an event may take."""
    (path,) = node.state.glob("net-*/ledger")
    with sqlite3.connect(path) as base:
        base.execute("UPDATE claim SET since = 0")


def fill(folder: Path) -> Path:
    """Nothing more can be written there."""
    path = folder / "filling"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return path


def failures(node: Node) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads("".join(node.run("status", "--json").lines))["failures"]
    return found


def test_a_down_on_a_full_disk_says_what_mends_it_and_that_does(small: Node) -> None:
    small.send(*establish(T))
    older(small)
    filling = fill(small.state)
    said = small.run(**call(T, "down"))
    assert said.status == 1
    told = " ".join(" ".join(said.lines).split())
    assert "full" in told
    assert "vti-updown reconcile" in told.replace("vti-updown: t: hint: ", "")
    assert devices() == {"vti5"}
    filling.unlink()
    assert small.run("reconcile").status == 0
    assert devices() == set()


IN_THE_WAY: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a device": lambda path: os.mknod(path, 0o020600, os.makedev(1, 5)),
}


@pytest.mark.parametrize("case", IN_THE_WAY)
def test_what_is_no_file_in_their_places_is_set_aside(node: Node, case: str) -> None:
    node.send(*establish(T))
    (place,) = node.state.glob("net-*")
    for name in ("ledger", "lock", "ledger-journal"):
        (place / name).unlink(missing_ok=True)
        IN_THE_WAY[case](place / name)
        node.send(call(T, "up"))
        assert node.run("status").status == 0
        assert node.run("reconcile").status in (0, 1)
        assert list(place.glob(f"{'ledger' if 'ledger' in name else name}.damaged-*"))
    assert node.run("clean").status == 0
    assert devices() == set()


MOVES: dict[str, tuple[list[Environment], Environment, str, str]] = {
    "a VTI": ([*establish(T), *establish(U)], call(T._replace(peer=THIRD), "up"), "vti5: vti6 (for u) has local", "t"),
    "an XFRM interface": (
        [charon_call(Child(mark_in="", mark_out="", if_id_in="42", if_id_out="42"), "up")],
        charon_call(Child(mark_in="", mark_out="", if_id_in="43", if_id_out="43"), "up"),
        "ipsec9: other (not ours) has if_id 43 already",
        "c",
    ),
}


@pytest.mark.parametrize("case", MOVES)
def test_a_change_to_ends_that_are_taken_is_a_conflict_and_remembered(node: Node, case: str) -> None:
    before, last, said, connection = MOVES[case]
    ip("link", "add", "other", "type", "xfrm", "if_id", "43")
    node.send(*before)
    there = devices()
    answer = node.run(**last)
    assert answer.status == 3, answer
    assert said in " ".join(" ".join(answer.lines).split())
    assert devices() == there
    (one,) = failures(node)
    assert (one["connection"], one["status"], one["kind"]) == (connection, 3, "conflict")
    found = json.loads("".join(node.run("check", "--json").lines))["findings"]
    assert [finding["subject"] for finding in found if finding["code"] == "event-failed"] == [connection]
    ip("link", "del", "other" if connection == "c" else "vti6")
    node.send(last)
    assert failures(node) == []


def test_a_device_renamed_by_hand_gets_its_name_again_as_the_hint_says(node: Node) -> None:
    node.send(*establish(T))
    ip("link", "set", "vti5", "down")
    ip("link", "set", "vti5", "name", "office")
    answer = node.run(**call(T, "up"))
    told = " ".join(" ".join(answer.lines).replace("vti-updown: t: hint:", "").split())
    assert answer.status == 3, answer
    assert "office (ours, renamed)" in told
    command = told.partition("again by: ")[2].partition("; else")[0]
    subprocess.run(command, shell=True, check=True)
    node.send(call(T, "up"))
    assert devices() == {"vti5"}
