"""`vti-updown check` on a real kernel: each thing is broken on purpose, read in one line, and mended as that line says."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.calls import Node, ip, towards_peers
from tests.kit.charon import Child, charon_call
from tests.kit.machine import EAST, THIRD, WEST, Tunnel, establish

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("modules")]

KEY = ["aead", "rfc4106(gcm(aes))", "0x" + "11" * 20, "128"]
ALL = "net/ipv4/conf/all/rp_filter"


class CheckedNode(Node):
    """One with a tunnel that is in order, as far as the kernel can tell."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.config.write_text("[defaults]\nrp_filter = auto\n")

    def check(self, *words: str) -> list[dict[str, Any]]:
        """The findings; the status and the lines for people say the same."""
        said = self.run("check", "--json", *words)
        found: list[dict[str, Any]] = json.loads("".join(said.lines))["findings"]
        assert said.status == (5 if found else 0), said
        return found

    def only(self, *words: str) -> dict[str, Any]:
        """The one finding there is."""
        (found,) = self.check(*words)
        return found

    def clock(self, connection: str, since: int) -> None:
        """A claim is older than the time an event may take."""
        (path,) = self.state.glob("net-*/ledger")
        with sqlite3.connect(path) as base:
            base.execute("UPDATE claim SET since = ? WHERE connection = ?", (since, json.dumps(connection)))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[CheckedNode]:
    with towards_peers():
        write(ALL, "0")
        made = CheckedNode(tmp_path)
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
    """Do what a finding's line says."""
    subprocess.run(["sh", "-ec", command], check=True, capture_output=True)


def test_a_tunnel_in_order_is_one_line(node: CheckedNode) -> None:
    said = node.run("check")
    assert (said.status, said.lines) == (0, ("vti-updown check: nothing found (1 devices, 1 claims)",)), said


BROKEN = {
    ("device-missing", "vti5 is missing"): ["ip link del vti5"],
    ("address-missing", "vti5: address 10.99.0.1/30 is missing"): ["ip addr del 10.99.0.1/30 dev vti5"],
    ("route-missing", "vti5: route 10.2.0.0/24 is missing"): ["ip route del 10.2.0.0/24"],
    ("device-differs", "vti5 is down"): ["ip link set vti5 down"],
    ("device-differs", "vti5 lost its alias vti-updown"): ["ip link set vti5 alias ''"],
    ("device-differs", "vti5 has key 6, wanted 5"): [f"ip link change vti5 type vti local {WEST} remote {EAST} key 6"],
    ("sysctl-differs", "vti5: net/ipv4/conf/vti5/forwarding is 0, wanted 1"): ["sysctl -qw net.ipv4.conf.vti5.forwarding=0"],
    ("device-left-over", "vti8 is ours, and no claim asks for it"): [
        f"ip link add vti8 type vti local {WEST} remote {THIRD} key 8",
        "ip link set vti8 alias vti-updown",
    ],
}
"""What is said, first of all, of what was broken so."""


def test_what_claims_ask_for_is_read_in_a_line_and_mended_by_reconcile(node: CheckedNode) -> None:
    """Each in its turn on one machine, so what is mended is as good as it was."""
    for said, commands in BROKEN.items():
        for command in commands:
            mend(command)
        found = node.only()
        assert (found["code"], found["text"]) == said
        assert found["mend"].startswith("vti-updown reconcile  # ")
        node.run("reconcile")
    assert node.check() == []


def test_what_others_set_is_read_and_mended_as_it_says(node: CheckedNode) -> None:
    """A sysctl that stops a VTI, and charon's own route."""
    write("net/ipv4/conf/vti5/disable_xfrm", "1")
    found = node.only()
    assert found["text"].startswith("vti5: disable_xfrm is 1")
    mend(found["mend"])
    ip("route", "add", "10.2.0.0/24", "dev", "eth0", "table", "220")
    found = node.only()
    text = "table 220 has a route to 10.2.0.0/24 (dev eth0), which comes before 10.2.0.0/24 dev vti5"
    assert (found["code"], found["text"]) == ("charon-route", text)
    assert "install_routes = no" in found["mend"]


def test_strict_reverse_path_filters(node: CheckedNode) -> None:
    """Of the device; and of all, where 0 on the device does nothing."""
    node.config.write_text("[defaults]\nrp_filter = keep\n")
    node.run("reconcile")
    write("net/ipv4/conf/vti5/rp_filter", "1")
    found = node.only()
    assert found["code"] == "rp-filter-strict"
    assert found["text"].startswith("vti5: rp_filter is 1 (strict)")
    write("net/ipv4/conf/vti5/rp_filter", "0")
    write(ALL, "1")
    found = node.only()
    assert found["text"].startswith("vti5: all.rp_filter is 1 (strict)")
    mend(found["mend"])
    assert node.check() == []


def test_strict_reverse_path_filters_that_reconcile_mends(node: CheckedNode) -> None:
    """One finding, not one for what is wrong and one for what it does."""
    write(ALL, "1")
    assert node.only()["code"] == "sysctl-differs"
    node.run("reconcile")
    assert node.check() == []


def test_a_half_tunnel_is_told_by_direction(node: CheckedNode) -> None:
    flush()
    ipsec("5", "7")
    found = [finding["text"] for finding in node.check()]
    assert found == ["vti5 takes in with key 5, but the IPsec policies (in) between its ends have mark 7"]
    flush()
    ipsec("8", "5")
    found = [finding["text"] for finding in node.check() if finding["code"] == "keys-differ"]
    assert found == ["vti5 sends with key 5, but the IPsec policies (out) between its ends have mark 8"]


def test_an_if_id_without_its_interface(node: CheckedNode) -> None:
    words = ["policy", "add", "src", "10.1.0.0/24", "dst", "10.8.0.0/24", "dir", "out", "if_id", "77"]
    ip("xfrm", *words, "tmpl", "src", WEST, "dst", THIRD, "proto", "esp", "mode", "tunnel")
    found = node.only()
    assert found["text"].startswith("IPsec policies have if_id 77, and no XFRM interface here has it")
    mend(found["mend"])
    assert node.check() == []


def test_the_stale_ends_of_a_vti(node: CheckedNode) -> None:
    """strongSwan's MOBIKE: the SAs have moved, and nobody told us."""
    flush()
    ipsec("5", peer=THIRD)
    found = node.only()
    assert found["code"] == "ends-moved"
    assert found["text"] == f"vti5 has ends {WEST} - {EAST}, its IPsec policies have {WEST} - {THIRD}"


def test_a_claim_with_no_tunnel(node: CheckedNode) -> None:
    flush()
    node.clock("t", -100)
    found = node.only()
    assert found["code"] == "claim-without-tunnel"
    assert found["text"].startswith("t: claim sa holds vti5, but pluto is not running, and the kernel has no IPsec policy")
    assert found["mend"] == "vti-updown reconcile"
    node.run("reconcile")
    assert node.check() == []


def test_a_device_for_one_peer_shadows_that_for_everyone(node: CheckedNode) -> None:
    wide = Tunnel("w", peer=THIRD, theirs="10.3.0.0/24", shared="yes", device="vti9", reqid=16392)
    wide = wide._replace(mark_in="9/0xff", mark_out="9/0xff")
    node.send(*establish(wide))
    ip("xfrm", "policy", "flush")
    ip("xfrm", "state", "flush")
    ipsec("5")
    assert not [finding for finding in node.check() if finding["code"] == "device-shadowed"]
    ip("link", "add", "narrow", "type", "vti", "local", WEST, "remote", THIRD, "key", "3")
    ip("link", "set", "narrow", "up")
    (found,) = [finding for finding in node.check() if finding["code"] == "device-shadowed"]
    assert found["text"].startswith(f"narrow (remote {THIRD}, key 3) takes in what vti9 (remote any, key 9) serves")
    mend(found["mend"])
    assert not [finding for finding in node.check() if finding["code"] == "device-shadowed"]


def test_the_fallback_device_s_name(node: CheckedNode) -> None:
    ip("link", "set", "ip_vti0", "name", "vti0")
    node.config.write_text("[connection c]\ninterface = vti0\n")
    found = node.only()
    assert found["code"] == "fallback-device"
    assert "vti0" in found["text"]
    assert f"{node.config}:2" in found["text"]


def test_settings_mistakes_of_all_files_at_once(node: CheckedNode) -> None:
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


def test_a_made_device_whose_section_was_changed(node: CheckedNode) -> None:
    text = f"[device made]\nlocal = {WEST}\nremote = {THIRD}\nmark = 3\n"
    node.config.write_text(text)
    assert node.run("make", "made").status == 0
    assert node.check() == []
    node.config.write_text(text + "mtu = 1400\n")
    found = node.only()
    assert (found["text"], found["mend"]) == ("[device made] was changed after `make` made it", "vti-updown make made")
    node.run("make", "made")
    assert node.check() == []
    node.config.write_text("")
    assert node.only()["mend"].startswith("vti-updown release made")


def test_without_root_it_says_so(node: CheckedNode) -> None:
    """As nobody, who may not read the ledger either."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            said = node.run("check", "--json")
            os.write(write_end, json.dumps([said.status, said.lines]).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as answer:
        status, lines = json.loads(answer.read())
    os.waitpid(child, 0)
    assert status == 5
    found = json.loads("".join(lines))["findings"]
    assert found[0]["text"] == "not run as root: ledger and IPsec policies are not seen"


def test_strongswan_s_child_in_order_is_no_finding(node: CheckedNode) -> None:
    """An XFRM interface by if_id, with its policies."""
    node.config.write_text("[connection c]\ninterface = ipsec7\nrouting = yes\n")
    pairs = (("10.1.0.0/24", "10.7.0.0/24"),)
    node.send(charon_call(Child(mark_in="", mark_out="", if_id_in="7", if_id_out="7", pairs=pairs), "up"))
    words = ["policy", "add", "src", "10.1.0.0/24", "dst", "10.7.0.0/24", "dir", "out", "if_id", "7"]
    ip("xfrm", *words, "tmpl", "src", WEST, "dst", EAST, "proto", "esp", "mode", "tunnel")
    assert node.check() == []
