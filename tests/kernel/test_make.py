"""`vti-updown make` on a real kernel: devices before any tunnel, of every kind, and what is in their way."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.calls import Node, fork, ip, towards_peers
from tests.kit.machine import EAST, EAST6, THIRD, WEST, WEST6, Tunnel, establish, withdraw

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("modules")]

FOUR = f"[device vti5]\nlocal = {WEST}\nremote = {EAST}\nmark = 0x5\naddress = 10.99.0.1/30 fd00:99::1/127\nmtu = 1400\n"
WIDE = f"[device wide]\nlocal = {WEST}\nmark_in = 7\nmark_out = 8/0xffffffff\nlink = follow\n"
SIX = f"[device vti6]\nlocal = {WEST6}\nremote = {EAST6}\nmark = 6\n"
XFRM = "[device ipsec9]\nif_id = 9\naddress = 10.9.0.1/31\nrp_filter = 2\n"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with towards_peers(f"addr add {WEST6}/64 dev eth0 nodad\n"):
        yield Node(tmp_path)


def device(name: str) -> dict[str, Any]:
    """A device as `ip` shows it."""
    found: list[dict[str, Any]] = json.loads(ip("-j", "-d", "addr", "show", "dev", name))
    return found[0]


def addresses(name: str) -> list[str]:
    return [f"{a['local']}/{a['prefixlen']}" for a in device(name)["addr_info"] if not a["local"].startswith("fe80")]


@pytest.mark.parametrize(("default", "said", "wanted"), [("1", "", "1"), ("2", "", "0"), ("1", "forwarding = no\n", "0")])
def test_no_router_advertisement_makes_a_tunnel_the_default_route(node: Node, default: str, said: str, wanted: str) -> None:
    Path("/proc/sys/net/ipv6/conf/default/accept_ra").write_text(default)
    node.config.write_text(FOUR + said + XFRM + said)
    assert node.run("make", "--boot").status == 0
    for name in ("vti5", "ipsec9"):
        assert Path(f"/proc/sys/net/ipv6/conf/{name}/accept_ra").read_text() == f"{wanted}\n"
    assert [line for line in node.run("make", "--boot").lines if not line.startswith("#")] == []


def test_boot_makes_each_kind_and_a_second_time_finds_nothing_to_do(node: Node) -> None:
    node.config.write_text(FOUR + WIDE + SIX + XFRM + "[device later]\ndelete = never\n")
    said = node.run("make", "--boot")
    assert said.status == 0, said
    assert "# later is not made: a VTI needs `local` and `mark` (an XFRM interface `if_id`)" in said.lines
    four, wide, six, xfrm = (device(name) for name in ("vti5", "wide", "vti6", "ipsec9"))
    data = four["linkinfo"]["info_data"]
    assert (data["local"], data["remote"], data["ikey"], data["okey"]) == (WEST, EAST, "0.0.0.5", "0.0.0.5")
    assert (four["mtu"], four["ifalias"], addresses("vti5")) == (1400, "vti-updown", ["10.99.0.1/30", "fd00:99::1/127"])
    data = wide["linkinfo"]["info_data"]
    assert (data["remote"], data["ikey"], data["okey"]) == ("any", "0.0.0.7", "0.0.0.8")
    assert ["UP" in each["flags"] for each in (four, wide, six, xfrm)] == [True, False, True, True]
    assert (six["linkinfo"]["info_kind"], xfrm["linkinfo"]["info_data"]["if_id"]) == ("vti6", "0x9")
    assert Path("/proc/sys/net/ipv4/conf/ipsec9/rp_filter").read_text() == "2\n"
    before = ip("-d", "addr")
    again = node.run("make", "--boot")
    assert [line for line in again.lines if not line.startswith("#")] == []
    assert ip("-d", "addr") == before


def test_a_tunnel_uses_it_and_leaves_it(node: Node) -> None:
    """The device, its index, addresses and the administrator's own route outlive three tunnels."""
    node.config.write_text(FOUR)
    assert node.run("make", "vti5").status == 0
    ip("route", "add", "10.77.0.0/16", "dev", "vti5")
    before = ip("-d", "addr", "show", "dev", "vti5")
    for _ in range(3):
        node.send(*establish(Tunnel()))
        assert "10.2.0.0/24" in ip("route", "show", "dev", "vti5")
        node.send(*withdraw(Tunnel()))
        assert ip("-d", "addr", "show", "dev", "vti5") == before
        assert "10.2.0.0/24" not in ip("route", "show", "dev", "vti5")
    assert "10.77.0.0/16" in ip("route", "show", "dev", "vti5")
    said = node.run("clean")
    assert said.status == 0, said
    assert "vti5" not in ip("link")


def test_a_device_in_the_way_is_a_conflict_that_says_how_to_mend_it(node: Node) -> None:
    """The name, and the two ends under another name."""
    ip("link", "add", "vti5", "type", "vti", "local", WEST, "remote", EAST, "key", "77")
    node.config.write_text(FOUR)
    before = ip("-d", "link")
    said = node.run("make", "vti5")
    assert (said.status, ip("-d", "link")) == (3, before)
    assert "error: vti5 is not ours and has key 77, wanted 5" in said.lines[0]
    assert "ip link del vti5" in said.lines[1]
    node.config.write_text(FOUR.replace("[device vti5]", "[device other]"))
    said = node.run("make", "other")
    assert (said.status, ip("-d", "link")) == (3, before)
    assert "other: vti5 (not ours) has local" in said.lines[0]


def test_settings_beat_the_connection_but_not_its_keys(node: Node) -> None:
    node.config.write_text("[device vti5]\nremote = any\n")
    node.send(*establish(Tunnel()))
    assert device("vti5")["linkinfo"]["info_data"]["remote"] == "any"
    node.send(*withdraw(Tunnel()))
    node.config.write_text("[device vti5]\nmark = 6\n")
    said = node.run(**establish(Tunnel())[0])
    assert said.status == 2
    assert "vti5: mark_in = 6 in the settings, but 5 in the tunnel: nothing would pass" in said.lines[0]
    assert "vti5" not in ip("link")


def test_killed_anywhere_the_next_one_makes_it(node: Node) -> None:
    """The kernel ends the process at ever later moments, up to the one at which it was done."""
    node.config.write_text(FOUR + XFRM)
    began = time.monotonic()
    assert node.run("make", "--boot").status == 0
    whole = time.monotonic() - began
    wanted = (addresses("vti5"), addresses("ipsec9"), device("vti5")["linkinfo"], device("ipsec9")["linkinfo"])
    assert node.run("clean").status == 0
    for part in (0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9):
        words = ("--state-dir", str(node.state), "--config", str(node.config), "make", "--boot")
        fork(*words, environment={}, lives=whole * part)
        said = node.run("make", "--boot")
        assert said.status == 0, said
        found = (addresses("vti5"), addresses("ipsec9"), device("vti5")["linkinfo"], device("ipsec9")["linkinfo"])
        assert found == wanted
        assert node.run("clean").status == 0
        assert "vti5" not in ip("link")
        assert "ipsec9" not in ip("link")


def test_released_it_stays_when_tunnels_go(node: Node) -> None:
    node.config.write_text(FOUR.replace(f"remote = {EAST}", f"remote = {THIRD}"))
    node.run("make", "vti5")
    assert node.run("release", "vti5").status == 0
    assert json.loads("".join(node.run("status", "--json").lines))["claims"] == []
    assert "ifalias" not in device("vti5")


def test_made_in_another_namespace_with_its_routes_and_rules(node: Node) -> None:
    """What [device] says of place, routes and rules is made before any tunnel too; `check` reads it there."""
    red = f"red{os.getpid()}"
    ip("netns", "add", red)
    try:
        node.config.write_text(
            FOUR + f"netns = {red}\nroute = 10.77.0.0/16, fd00:77::/48\ntable = 77\nrule = fwmark 9\nlink = follow\n"
        )
        assert node.run("make", "vti5").status == 0
        (link,) = json.loads(ip("-n", red, "-j", "addr", "show", "dev", "vti5"))
        assert "UP" not in link["flags"]
        assert {"10.99.0.1", "fd00:99::1"} <= {address["local"] for address in link["addr_info"]}
        assert "lookup 77" in ip("-n", red, "rule")
        assert "lookup 77" in ip("-n", red, "-6", "rule")
        assert [line for line in node.run("make", "vti5").lines if not line.startswith("#")] == []
        node.send(*establish(Tunnel(address="10.99.0.5/30")))
        shown = ip("-n", red, "route", "show", "table", "77") + ip("-n", red, "-6", "route", "show", "table", "77")
        assert {line.split()[0] for line in shown.splitlines()} == {"10.77.0.0/16", "fd00:77::/48", "10.2.0.0/24"}
        ip("-n", red, "addr", "del", "10.99.0.1/30", "dev", "vti5")
        found = json.loads("".join(node.run("check", "--json").lines))["findings"]
        assert f"vti5@{red}: address 10.99.0.1/30 is missing" in [finding["text"] for finding in found]
        node.run("reconcile")
        node.send(*withdraw(Tunnel(address="10.99.0.5/30")))
        (link,) = json.loads(ip("-n", red, "-j", "addr", "show", "dev", "vti5"))
        assert "UP" not in link["flags"]
        assert {"10.99.0.1", "fd00:99::1"} <= {address["local"] for address in link["addr_info"]}
        assert node.run("clean").status == 0
        assert "vti5" not in ip("-n", red, "link")
    finally:
        ip("netns", "del", red)


def test_an_xfrm_interface_stands_above_the_device_that_is_asked_for(node: Node) -> None:
    """pluto 5.2 takes no interface without one."""
    said = [("ipsec7", 7, "parent = eth0"), ("ipsec8", 8, "parent = auto"), ("ipsec9", 9, "parent = lo"), ("ipsec10", 10, "")]
    node.config.write_text("".join(f"[device {name}]\nif_id = {number}\n{line}\n" for name, number, line in said))
    made = node.run("make", "--boot").lines
    assert "ip link add ipsec7 type xfrm dev eth0 if_id 7" in made
    assert [device(name).get("link") for name, _, _ in said] == ["eth0", "eth0", "lo", None]
    assert [line for line in node.run("make", "--boot").lines if not line.startswith("#")] == []
    index = device("ipsec9")["ifindex"]
    node.config.write_text("[device ipsec8]\nif_id = 8\nparent = lo\n[device ipsec9]\nif_id = 9\nparent = auto\n")
    node.run("make", "--boot")
    assert [device(name).get("link") for name in ("ipsec8", "ipsec9")] == ["lo", "lo"]
    assert device("ipsec9")["ifindex"] == index
