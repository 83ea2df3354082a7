"""`vti-updown check` on a real kernel: each thing is broken on purpose, read in one line, and mended as that line says."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from tests.kernel.calls import HOOK, Said, fork, ip, load_modules, private_namespace
from tests.property.charon import Child, charon_call
from tests.property.machine import EAST, THIRD, WEST, Environment, Tunnel, establish

pytestmark = pytest.mark.kernel

KEY = ["aead", "rfc4106(gcm(aes))", "0x" + "11" * 20, "128"]
ALL = "net/ipv4/conf/all/rp_filter"


@pytest.fixture(scope="module", autouse=True)
def modules() -> None:
    load_modules()


class Node:
    """A namespace with a tunnel that is in order, as far as the kernel can tell."""

    def __init__(self, folder: Path) -> None:
        self.state, self.config = folder / "state", folder / "vti-updown.conf"
        self.config.write_text("[defaults]\nrp_filter = auto\n")

    def run(self, *words: str, **environment: str) -> Said:
        return fork("--state-dir", str(self.state), "--config", str(self.config), *words, environment=environment)

    def send(self, *environments: Environment) -> None:
        for environment in environments:
            said = self.run(**environment)
            assert said.status == 0, said

    def check(self, *words: str) -> List[Dict[str, Any]]:
        """The findings; the status and the lines for people say the same."""
        said = self.run("check", "--json", *words)
        found: List[Dict[str, Any]] = json.loads("".join(said.lines))["findings"]
        assert said.status == (5 if found else 0), said
        return found

    def only(self, *words: str) -> Dict[str, Any]:
        """The one finding there is."""
        (found,) = self.check(*words)
        return found

    def clock(self, connection: str, since: int) -> None:
        """A claim is older than the time an event may take."""
        (path,) = self.state.glob("net-*/ledger")
        with sqlite3.connect(path) as base:
            base.execute("UPDATE claim SET since = ? WHERE connection = ?", (since, json.dumps(connection)))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with private_namespace():
        ip(
            batch=f"link set lo up\nlink add eth0 type dummy\nlink set eth0 up\naddr add {WEST}/24 dev eth0\n"
            "route add default via 198.51.100.254\n"
        )
        write(ALL, "0")
        made = Node(tmp_path)
        made.send(*establish(Tunnel(address="10.99.0.1/30")))
        ipsec("5")
        yield made


def write(path: str, value: str) -> None:
    Path("/proc/sys", path).write_text(value)


def ipsec(mark_out: str, mark_in: str = "", peer: str = EAST, theirs: str = "10.2.0.0/24") -> None:
    """What an IKE daemon puts into the kernel for a tunnel with these marks."""
    ends = {"out": (WEST, peer), "in": (peer, WEST), "fwd": (peer, WEST)}
    for way, (source, destination) in ends.items():
        selectors = ["10.1.0.0/24", theirs] if way == "out" else [theirs, "10.1.0.0/24"]
        mark = mark_out if way == "out" else mark_in or mark_out
        words = ["policy", "add", "src", selectors[0], "dst", selectors[1], "dir", way, "mark", mark]
        tunnel = ["src", source, "dst", destination, "proto", "esp", "reqid", "16389", "mode", "tunnel"]
        ip("xfrm", *words, "tmpl", *tunnel)
        if way != "fwd":
            spi = "0x1000" if way == "out" else "0x1001"
            ip("xfrm", "state", "add", *tunnel[:6], "spi", spi, *tunnel[6:], "mark", mark, *KEY)


def flush() -> None:
    ip("xfrm", "policy", "flush")
    ip("xfrm", "state", "flush")


def mend(command: str) -> None:
    """Do what a finding's line says, as far as it is a command."""
    subprocess.run(shlex.split(command), check=True, capture_output=True)


def test_a_tunnel_in_order_is_one_line(node: Node) -> None:
    said = node.run("check")
    assert (said.status, said.lines) == (0, ("vti-updown check: nothing found (1 devices, 1 claims)",)), said


BROKEN = {
    "a missing device": (["ip link del vti5"], "resources", "vti5 is missing"),
    "a missing address": (["ip addr del 10.99.0.1/30 dev vti5"], "resources", "vti5: address 10.99.0.1/30 is missing"),
    "a missing route": (["ip route del 10.2.0.0/24"], "resources", "vti5: route 10.2.0.0/24 is missing"),
    "a lost alias": (["ip link set vti5 alias ''"], "resources", "vti5 lost its alias vti-updown"),
    "another key": (
        [f"ip link change vti5 type vti local {WEST} remote {EAST} key 6"],
        "resources",
        "vti5 has key 6, wanted 5",
    ),
    "another sysctl": (
        ["sysctl -qw net.ipv4.conf.vti5.forwarding=0"],
        "resources",
        "vti5: net/ipv4/conf/vti5/forwarding is 0, wanted 1",
    ),
    "disable_xfrm": (["sysctl -qw net.ipv4.conf.vti5.disable_xfrm=1"], "disable_xfrm", "vti5: disable_xfrm is 1"),
    "a left-over device": (
        [f"ip link add vti8 type vti local {WEST} remote {THIRD} key 8", "ip link set vti8 alias vti-updown"],
        "resources",
        "vti8 is ours, and no claim asks for it",
    ),
    "charon's own route": (
        ["ip route add 10.2.0.0/24 dev eth0 table 220"],
        "table 220",
        "table 220 has a route to 10.2.0.0/24 (dev eth0), which comes before 10.2.0.0/24 dev vti5",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_read_in_a_line(node: Node, case: str) -> None:
    commands, check, text = BROKEN[case]
    for command in commands:
        mend(command)
    found = [finding for finding in node.check() if finding["check"] == check]
    assert [finding["text"][: len(text)] for finding in found] == [text]
    assert all(finding["mend"] for finding in found)


@pytest.mark.parametrize("case", [name for name, (_, check, _) in BROKEN.items() if check == "resources"])
def test_reconcile_mends_what_claims_ask_for(node: Node, case: str) -> None:
    for command in BROKEN[case][0]:
        mend(command)
    assert node.check()
    node.run("reconcile")
    assert node.check() == []


def test_strict_reverse_path_filters(node: Node) -> None:
    """Of the device; and of all, where 0 on the device does nothing."""
    write("net/ipv4/conf/vti5/rp_filter", "1")
    found = {finding["check"]: finding for finding in node.check()}
    assert found["rp_filter"]["text"].startswith("vti5: rp_filter is 1 (strict)")
    write("net/ipv4/conf/vti5/rp_filter", "0")
    write(ALL, "1")
    found = {finding["check"]: finding for finding in node.check()}
    assert found["rp_filter"]["text"].startswith("vti5: all.rp_filter is 1 (strict)")
    mend(found["rp_filter"]["mend"].split(",")[0].replace("-w", "-qw"))
    assert node.check() == []


def test_a_half_tunnel_is_told_by_direction(node: Node) -> None:
    flush()
    ipsec("5", "7")
    found = [finding["text"] for finding in node.check()]
    assert found == [
        "vti5 takes in with key 5, but the IPsec policies (in) between its ends have mark 7",
        "vti5 takes in with key 5, but the IPsec SA 0x1001 has mark 7",
    ]
    flush()
    ipsec("8", "5")
    found = [finding["text"] for finding in node.check() if finding["check"] == "keys"]
    assert found == ["vti5 sends with key 5, but the IPsec policies (out) between its ends have mark 8"]


def test_an_if_id_without_its_interface(node: Node) -> None:
    words = ["policy", "add", "src", "10.1.0.0/24", "dst", "10.8.0.0/24", "dir", "out", "if_id", "77"]
    ip("xfrm", *words, "tmpl", "src", WEST, "dst", THIRD, "proto", "esp", "mode", "tunnel")
    found = node.only()
    assert found["text"].startswith("IPsec policies have if_id 77, and no XFRM interface here has it")
    mend(found["mend"].split(";")[0])
    assert node.check() == []


def test_the_stale_ends_of_a_vti(node: Node) -> None:
    """strongSwan's MOBIKE: the SAs have moved, and nobody told us."""
    flush()
    ipsec("5", peer=THIRD)
    found = node.only()
    assert found["check"] == "ends"
    assert found["text"] == f"vti5 has ends {WEST} - {EAST}, its IPsec policies have {WEST} - {THIRD}"


def test_a_claim_with_no_tunnel(node: Node) -> None:
    flush()
    node.clock("t", 1)
    found = node.only()
    assert found["check"] == "claims"
    assert found["text"].startswith(
        "t: claim sa holds vti5, but pluto is not running, and the kernel has no IPsec policy"
    )
    assert found["mend"] == "vti-updown reconcile"
    node.run("reconcile")
    assert node.check() == []


def test_a_device_for_one_peer_shadows_that_for_everyone(node: Node) -> None:
    wide = Tunnel("w", peer=THIRD, theirs="10.3.0.0/24", shared="yes", device="vti9", reqid=16392)
    wide = wide._replace(mark_in="9/0xff", mark_out="9/0xff")
    node.send(*establish(wide))
    ip("xfrm", "policy", "flush")
    ip("xfrm", "state", "flush")
    ipsec("5")
    assert not [finding for finding in node.check() if finding["check"] == "shadow"]
    ip("link", "add", "narrow", "type", "vti", "local", WEST, "remote", THIRD, "key", "3")
    ip("link", "set", "narrow", "up")
    (found,) = [finding for finding in node.check() if finding["check"] == "shadow"]
    assert found["text"].startswith(f"narrow (remote {THIRD}, key 3) takes in what vti9 (remote any, key 9) serves")
    mend(found["mend"].split(",")[0])
    assert not [finding for finding in node.check() if finding["check"] == "shadow"]


def test_the_fallback_device_s_name(node: Node) -> None:
    ip("link", "set", "ip_vti0", "name", "vti0")
    node.config.write_text("[connection c]\ninterface = vti0\n")
    found = node.only()
    assert found["check"] == "fallback"
    assert "vti0" in found["text"]
    assert f"{node.config}:2" in found["text"]


def test_settings_mistakes_of_all_files_at_once(node: Node) -> None:
    folder = node.config.parent / "conf.d"
    folder.mkdir()
    node.config.write_text("[defaults]\nmtuu = 1\n[device vti5]\nmark = %unique\n")
    (folder / "a.conf").write_text("[conection t]\n")
    for words in (("--settings",), ()):
        places = [finding["subject"] for finding in node.check(*words)]
        assert places == [f"{node.config}:2", f"{node.config}:4", f"{folder}/a.conf:1"]
    node.config.write_text("[defaults]\n")
    (folder / "a.conf").unlink()
    said = node.run("check", "--settings")
    assert (said.status, said.lines) == (0, ("vti-updown check: settings are in order (0 lines)",))


def test_a_made_device_whose_section_was_changed(node: Node) -> None:
    text = f"[device made]\nlocal = {WEST}\nremote = {THIRD}\nmark = 3\n"
    node.config.write_text(text)
    assert node.run("make", "made").status == 0
    assert node.check() == []
    node.config.write_text(text + "mtu = 1400\n")
    found = node.only()
    assert (found["text"], found["mend"]) == (
        "[device made] was changed after `make` made it",
        "vti-updown make made",
    )
    node.run("make", "made")
    assert node.check() == []
    node.config.write_text("")
    assert node.only()["mend"].startswith("vti-updown release made")


def test_without_root_it_says_so(node: Node) -> None:
    """As nobody, who may not read the ledger either."""
    os.chmod(node.config.parent, 0o755)
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "python3", "-I", str(HOOK), "check", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 5, done.stderr
    found = json.loads(done.stdout)["findings"]
    assert found[0]["text"] == "not run as root: ledger and IPsec policies are not seen"


def test_strongswan_s_child_in_order_is_no_finding(node: Node) -> None:
    """An XFRM interface by if_id, with its policies."""
    node.config.write_text("[connection c]\ninterface = ipsec7\nrouting = yes\n")
    pairs = (("10.1.0.0/24", "10.7.0.0/24"),)
    node.send(charon_call(Child(mark_in="", mark_out="", if_id_in="7", if_id_out="7", pairs=pairs), "up"))
    words = ["policy", "add", "src", "10.1.0.0/24", "dst", "10.7.0.0/24", "dir", "out", "if_id", "7"]
    ip("xfrm", *words, "tmpl", "src", WEST, "dst", EAST, "proto", "esp", "mode", "tunnel")
    assert node.check() == []
