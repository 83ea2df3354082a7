"""What charon tells nobody: an address that moves, a death by SIGKILL; and what it tells all at once: its shutdown."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sqlite3
import sys
import time
from pathlib import Path

import pytest

from tests import TOP
from tests.daemon.charon import Charon, Tree
from tests.daemon.children import IPSEC, MARK5, MOON, SUN, THIRD, VTI, child, configuration, connection, initiated, one_child
from tests.daemon.connections import EAST, WEST, encrypted_ping, without_device, without_trace
from tests.daemon.endpoint import OURS
from tests.daemon.nodes import Ground, wait_for
from updown.daemons.answer import ChildSa

pytestmark = pytest.mark.daemon

ELSEWHERE = "198.51.100.9"
NOTHING = ["# nothing to do"]
BY_NAME = "[connection vti]\ninterface = vti5\nrouting = yes\n[connection xfrm]\ninterface = ipsec42\nrouting = yes\n"


def test_a_vti_follows_a_move_by_reconcile_and_an_xfrm_interface_by_itself(ground: Ground, moon: Charon, sun: Charon) -> None:
    """MOBIKE. Moon loses its address and goes on from another one; nobody calls a hook, at either end."""
    for node, (here, there) in ((sun, (SUN, MOON)), (moon, (MOON, SUN))):
        more = {"local_ts": here.net.replace(".0.0/", ".1.0/"), "remote_ts": there.net.replace(".0.0/", ".1.0/")}
        children = {"vti": child(here, there, **MARK5), "xfrm": child(here, there, **more, if_id_in="42", if_id_out="42")}
        node.load(BY_NAME, configuration({"t": connection(here, there, children)}))
    initiated(moon, "vti")
    initiated(moon, "xfrm", "10.2.1.0/24", "ipsec42")
    moon.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/all/promote_secondaries")
    moon.addresses_on("eth0", f"{ELSEWHERE}/24")
    heard = [len(node.hook_lines()) for node in (moon, sun)]
    moon.ip(f"addr del {WEST}/24 dev eth0")
    try:
        wait_for(lambda: f"@ {ELSEWHERE}[" in sun.swanctl("--list-sas"), "sun's news of the move")
        wait_for(lambda: moon.ping("10.2.1.1", "10.1.1.1", count=1), "an answer by the XFRM interface")
        encrypted_ping(ground, moon, "10.2.1.1", "10.1.1.1")
        assert not moon.ping(SUN.host, MOON.host, count=1, patience=1), "a VTI with the old end carries nothing"
        ends = {"kind": "vti", "ikey": 5, "okey": 5, "up": True}
        assert moon.device("vti5") == {**ends, "local": WEST, "remote": EAST}
        for node in (moon, sun):
            node.reconcile()
        peer = far_end(moon)
        assert peer in (EAST, THIRD)
        assert moon.device("vti5") == {**ends, "local": ELSEWHERE, "remote": peer}
        assert sun.device("vti5") == {**ends, "local": peer, "remote": ELSEWHERE}
        encrypted_ping(ground, moon, SUN.host, MOON.host)
        assert [len(node.hook_lines()) for node in (moon, sun)] == heard
        assert moon.reconcile() == sun.reconcile() == NOTHING
        for name in ("vti", "xfrm"):
            moon.terminate(name)
        for node in (moon, sun):
            without_trace(node)
            without_device(node, "ipsec42")
    finally:
        moon.addresses_on("eth0", f"{WEST}/24")
        moon.ip(f"addr del {ELSEWHERE}/24 dev eth0")


def far_end(node: Charon) -> str:
    """Which of its peer's addresses charon moved to: of those that it was told it takes the first that answers."""
    (address,) = re.findall(r"remote .* @ ([0-9.]+)\[", node.swanctl("--list-sas"))
    return str(address)


def test_charon_killed_and_started_again(ground: Ground, moon: Charon, sun: Charon) -> None:
    """The next tunnel takes over what is there; where none comes, reconcile takes it away."""
    sun.load(VTI, one_child(SUN, MOON, **MARK5))
    moon.load(VTI, one_child(MOON, SUN, **MARK5))
    initiated(moon)
    encrypted_ping(ground, moon, SUN.host, MOON.host)
    before = moon.links()["vti5"]["ifindex"]
    moon.kill()
    moon.load(VTI, one_child(MOON, SUN, **MARK5))
    assert moon.routed_into("vti5") == {SUN.net}, "nobody told the hook"
    moon.initiate("net")
    wait_for(lambda: moon.ping(SUN.host, MOON.host, count=1), "an answer by the new tunnel")
    encrypted_ping(ground, moon, SUN.host, MOON.host)
    assert moon.links()["vti5"]["ifindex"] == before
    assert [len(node.claims()) for node in (moon, sun)] == [1, 1]
    assert moon.routed_into("vti5") == {SUN.net}
    assert sun.routed_into("vti5") == {MOON.net}
    moon.terminate("net")
    for node in (moon, sun):
        without_trace(node)
    initiated(moon)
    moon.let_claims_age()
    moon.kill()
    moon.load(VTI, one_child(MOON, SUN, **MARK5))
    assert "ip link del vti5" in moon.reconcile()
    without_trace(moon)
    initiated(moon)
    encrypted_ping(ground, moon, SUN.host, MOON.host)


def test_the_start_script_in_contrib_ends_what_a_killed_charon_left(ground: Ground, moon: Charon, sun: Charon) -> None:
    """charon waits for it while it answers its questions."""
    script = Path(TOP, "contrib/strongswan/reconcile.conf").read_text()
    sun.load(VTI, one_child(SUN, MOON, **MARK5))
    moon.load(VTI, one_child(MOON, SUN, **MARK5))
    initiated(moon)
    moon.let_claims_age()
    moon.kill()
    assert moon.routed_into("vti5") == {SUN.net}
    file = moon.inner("/etc/strongswan.conf")
    plain = file.read_text()
    file.write_text(plain + script.replace("/usr/libexec/vti-updown", OURS))
    try:
        moon.load(VTI, one_child(MOON, SUN, **MARK5))
        wait_for(lambda: moon.device("vti5") is None, "the end of the device by reconcile")
        without_trace(moon)
        initiated(moon)
        encrypted_ping(ground, moon, SUN.host, MOON.host)
    finally:
        file.write_text(plain)


@pytest.mark.parametrize("count", [6, pytest.param(100, marks=pytest.mark.slow)])
def test_a_shutdown_with_many_tunnels_leaves_nothing(
    moon: Charon, sun: Charon, capsys: pytest.CaptureFixture[str], count: int
) -> None:
    """An interface and a route each; the starter would kill charon 8 seconds after it asked it to end."""
    everything = {**child(SUN, MOON), "local_ts": "10.2.0.0/16", "remote_ts": "10.1.0.0/16"}
    del everything["updown"]
    sun.load("", configuration({"t": connection(SUN, MOON, {"net": everything})}))
    children: Tree = {
        f"c{number}": child(
            MOON,
            SUN,
            local_ts=f"10.1.{number}.0/24",
            remote_ts=f"10.2.{number}.0/24",
            if_id_in=str(number),
            if_id_out=str(number),
            start_action="start",
        )
        for number in range(1, count + 1)
    }
    moon.load(IPSEC, configuration({"t": connection(MOON, SUN, children)}))
    wait_for(lambda: len(moon.our_routes()) == count, f"{count} tunnels", patience=60 + 5 * count)
    assert len([name for name in moon.links() if name.startswith("ipsec")]) == count
    began = time.monotonic()
    moon.shut_down()
    took = time.monotonic() - began
    assert [name for name in moon.links() if name.startswith("ipsec")] == []
    assert moon.our_routes() == []
    assert moon.claims() == []
    began = time.monotonic()
    moon.run("sh", "-c", f"for n in $(seq {count}); do {sys.executable} -I -c ''; done")
    bare = time.monotonic() - began
    with capsys.disabled():
        print(f"\nshutdown with {count} children: {took:.1f} s; {count} bare interpreters: {bare:.1f} s;", end=" ")
        print(f"ratio {took / bare:.1f}")


@pytest.mark.parametrize(
    ("mine", "theirs"), [("C=CH, O=Moon & Co, CN=moon", "sun@example.org"), ("moon.example", "C=CH, O=strongSwan, CN=sun")]
)
def test_vici_and_the_hook_write_identities_alike(moon: Charon, sun: Charon, mine: str, theirs: str) -> None:
    """By them reconcile tells clients apart that have one selector."""
    here, there = (end._replace(name=f'"{name}"') for end, name in ((MOON, mine), (SUN, theirs)))
    sun.load(VTI, one_child(there, here, **MARK5))
    moon.load(VTI, one_child(here, there, **MARK5))
    initiated(moon, "net")
    library = f"import json, sys; sys.path.insert(0, {str(TOP)!r}); from updown.daemons.strongswan import vici"
    for node, ids in ((moon, [mine, theirs]), (sun, [theirs, mine])):
        said = json.loads(node.run(sys.executable, "-I", "-c", f"{library}; print(json.dumps(vici.ask().children))").stdout)
        assert [list(ChildSa(*told).ids) for told in said] == [ids]
        assert [json.loads(group)[1:] for group in groups(node)] == [ids]
    moon.terminate("net")
    for node in (moon, sun):
        without_trace(node)


def groups(node: Charon) -> list[str]:
    """Of each claim, what the hook was told of both ends."""
    (path,) = node.inner("/run/vti-updown").glob("net-*/ledger")
    copy = shutil.copy(path, node.folder / "copy")
    with contextlib.closing(sqlite3.connect(copy)) as base:
        return [group for (group,) in base.execute("SELECT grp FROM claim")]
