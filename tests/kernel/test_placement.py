"""Devices in other network namespaces and in VRFs, policy rules and static routes, on a real kernel."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.calls import Said, command, fork, ip
from tests.kit.charon import Child, charon_call
from tests.kit.machine import EAST6, WEST6
from updown.kernel.netlink.rtnetlink import Netlink
from updown.model.objects import Link

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("modules")]

VTI = Child()
VTI6 = Child(me=WEST6, peer=EAST6, pairs=(("fd00:1::/64", "fd00:2::/64"),))
XFRM = Child(mark_in="", mark_out="", if_id_in="42", if_id_out="42")
LINK_LOCAL = "fe80::1/64"
BASE = "[connection *]\ninterface = tun5\nrouting = yes\n"


class Gateway:
    """The hook's own namespace, another one beside it, and calls with settings."""

    def __init__(self, folder: Path, red: str) -> None:
        self.folder = folder
        self.red = red
        self.state = folder / "state"
        self.config = folder / "vti-updown.conf"

    def settings(self, text: str) -> None:
        self.config.write_text(text.replace("RED", self.red))

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("--state-dir", str(self.state), "--config", str(self.config))

    def send(self, child: Child, verb: str, unique_id: int = 1) -> Said:
        return fork(*self.arguments, environment=charon_call(child, verb, unique_id))

    def does(self, *words: str) -> Said:
        return fork(*self.arguments, *words, environment={"PATH": os.environ["PATH"]})

    def links(self, netns: str = "") -> set[str]:
        """The tunnel devices there, but for the kernel's own."""
        found = self.json("link", "show", netns=netns)
        kinds = {link["ifname"]: link.get("linkinfo", {}).get("info_kind", "") for link in found}
        return {name for name, kind in kinds.items() if kind in ("vti", "vti6", "xfrm") and "_vti0" not in name}

    def json(self, *words: str, netns: str = "") -> Any:
        return json.loads(ip(*(["-n", netns] if netns else []), "-d", "-j", *words) or "[]")

    def routes(self, netns: str = "", table: str = "main") -> set[tuple[str, str]]:
        """Our routes: destination and device."""
        found: list[Any] = []
        for six in ("-4", "-6"):
            found += self.json(six, "route", "show", "table", table, "proto", "160", netns=netns)
        return {(route["dst"], route["dev"]) for route in found}

    def addresses(self, device: str, netns: str = "") -> set[str]:
        (found,) = self.json("addr", "show", "dev", device, netns=netns)
        return {f"{one['local']}/{one['prefixlen']}" for one in found["addr_info"]}


@pytest.fixture
def gateway(tmp_path: Path, namespace: None) -> Iterator[Gateway]:  # noqa: ARG001
    red = f"red-{os.getpid()}"
    ip(batch="link add eth0 type dummy\naddr add 198.51.100.1/24 dev eth0\nlink set eth0 up\n")
    ip(batch=f"addr add {WEST6}/64 dev eth0 nodad\nroute add default via 198.51.100.254\n")
    ip("netns", "add", red)
    try:
        yield Gateway(tmp_path, red)
    finally:
        ip("netns", "del", red)


KINDS = {"vti": (VTI, "10.2.0.0/24"), "vti6": (VTI6, "fd00:2::/64"), "xfrm": (XFRM, "10.2.0.0/24")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_lives_in_its_namespace_and_is_deleted_from_there(gateway: Gateway, kind: str) -> None:
    child, destination = KINDS[kind]
    gateway.settings(BASE + f"netns = RED\nmtu = 1400\naddress = 10.6.106.1/30, {LINK_LOCAL}\n")
    said = gateway.send(child, "up")
    assert said.status == 0, said
    (link,) = gateway.json("link", "show", "dev", "tun5", netns=gateway.red)
    assert (link["linkinfo"]["info_kind"], link["mtu"], link["ifalias"]) == (kind, 1400, "vti-updown")
    assert "UP" in link["flags"]
    assert gateway.addresses("tun5", gateway.red) == {"10.6.106.1/30", LINK_LOCAL}
    assert gateway.routes(gateway.red) == {(destination, "tun5")}
    assert (gateway.links(), gateway.routes()) == (set(), set())
    forwarding = ip("netns", "exec", gateway.red, "sysctl", "-n", "net.ipv4.conf.tun5.forwarding")
    assert forwarding.strip() == "1"

    again = gateway.send(child, "up")
    assert not [line for line in again.lines if " ip " in line or "sysctl" in line], again
    said = gateway.send(child, "down")
    assert said.status == 0, said
    assert gateway.links(gateway.red) == set()
    gateway.settings(BASE)
    assert gateway.send(child, "up").status == 0, "its identity is free again"


def test_name_addresses_and_namespace_have_the_tunnels_values(gateway: Gateway) -> None:
    gateway.settings("[connection red-*]\ninterface = ipsec{if_id:x}\nnetns = {connection}\naddress = 10.99.{if_id}.1/30\n")
    child = XFRM._replace(name=gateway.red)
    said = gateway.send(child, "up")
    assert said.status == 0, said
    assert "10.99.42.1/30" in gateway.addresses("ipsec2a", gateway.red)  # beside the kernel's link-local one
    assert not [line for line in gateway.send(child, "up").lines if " ip " in line]
    gateway.send(child, "down")
    assert gateway.links(gateway.red) == set()


def test_no_redirects_go_into_a_device_of_ours(gateway: Gateway) -> None:
    gateway.settings(BASE)
    gateway.send(VTI, "up")
    files = [f"/proc/sys/net/{name}" for name in ("ipv4/conf/tun5/send_redirects", "ipv4/conf/tun5/accept_redirects")]
    assert [Path(file).read_text() for file in (*files, "/proc/sys/net/ipv6/conf/tun5/accept_redirects")] == ["0\n"] * 3


def test_a_device_can_do_multicast_where_settings_say_so(gateway: Gateway) -> None:
    for child in (VTI, XFRM, VTI6):
        gateway.settings(BASE + "multicast = yes\n")
        assert gateway.send(child, "up").status == 0
        assert "MULTICAST" in gateway.json("link", "show", "dev", "tun5")[0]["flags"]
        assert not [line for line in gateway.send(child, "up").lines if " ip " in line]
        ip("link", "set", "tun5", "multicast", "off")
        gateway.send(child, "up")
        assert "MULTICAST" in gateway.json("link", "show", "dev", "tun5")[0]["flags"]
        gateway.settings(BASE + "multicast = no\n")
        gateway.send(child, "up")
        assert "MULTICAST" not in gateway.json("link", "show", "dev", "tun5")[0]["flags"]
        gateway.send(child, "down")


def test_make_before_break_leaves_device_addresses_and_routes_where_they_are(gateway: Gateway) -> None:
    gateway.settings(BASE + "netns = RED\naddress = 10.6.106.1/30\n")
    gateway.send(XFRM, "up", 1)
    index = gateway.json("link", "show", "dev", "tun5", netns=gateway.red)[0]["ifindex"]
    gateway.send(XFRM, "up", 2)
    gateway.send(XFRM, "down", 1)
    assert gateway.json("link", "show", "dev", "tun5", netns=gateway.red)[0]["ifindex"] == index
    assert gateway.routes(gateway.red) == {("10.2.0.0/24", "tun5")}
    gateway.send(XFRM, "down", 2)
    assert gateway.links(gateway.red) == set()


@pytest.mark.parametrize(("kind", "in_place"), [("vti", True), ("vti6", False)])
def test_a_new_mark_reaches_a_moved_device(gateway: Gateway, kind: str, in_place: bool) -> None:
    """A VTI6 is made anew: Linux 6.1 would put a changed one among the tunnels of the namespace it is in."""
    child, destination = KINDS[kind]
    gateway.settings(BASE + "netns = RED\naddress = fe80::1/64\n")
    gateway.send(child, "up", 1)
    (before,) = gateway.json("link", "show", "dev", "tun5", netns=gateway.red)
    said = gateway.send(child._replace(mark_in="9/0xffffffff", mark_out="9/0xffffffff"), "up", 2)
    assert said.status == 0, said
    (after,) = gateway.json("link", "show", "dev", "tun5", netns=gateway.red)
    assert after["linkinfo"]["info_data"]["ikey"] == "0.0.0.9"
    assert (after["ifindex"] == before["ifindex"]) is in_place or not in_place
    assert gateway.routes(gateway.red) == {(destination, "tun5")}
    assert LINK_LOCAL in gateway.addresses("tun5", gateway.red)


def test_a_namespace_that_is_not_there_is_named(gateway: Gateway) -> None:
    gateway.settings(BASE + "netns = nowhere\n")
    said = gateway.send(VTI, "up")
    assert said.status == 1
    assert "vti-updown: c: error: network namespace nowhere does not exist" in said.lines
    assert gateway.links() == set()
    assert "no devices, no claims" in gateway.does("status").lines
    for more in ("", "vrf = blue\n"):
        gateway.settings(BASE + "netns = nowhere\n" + more)
        said = fork(*gateway.arguments, "--dry-run", environment=charon_call(VTI, "up"))
        assert said.status == 1, said
        assert "vti-updown: c: error: network namespace nowhere does not exist" in said.lines


def test_a_vrf_that_is_not_in_the_namespace_is_named_with_the_command_for_there(gateway: Gateway) -> None:
    gateway.settings(BASE + "netns = RED\nvrf = blue\n")
    said = gateway.send(VTI, "up")
    assert said.status == 1, said
    assert f"vrf blue@{gateway.red}: there is no VRF of that name" in " ".join(said.lines)
    assert f"ip -n {gateway.red} link add blue type vrf table NUMBER" in " ".join(said.lines)


def test_a_namespace_that_went_took_the_device_along(gateway: Gateway) -> None:
    gateway.settings(BASE + "netns = RED\n")
    gateway.send(VTI, "up")
    ip("netns", "del", gateway.red)
    try:
        said = gateway.send(VTI, "down")
        assert said.status == 0, said
        assert "no devices, no claims" in gateway.does("status").lines
    finally:
        ip("netns", "add", gateway.red)
    assert gateway.send(VTI, "up").status == 0


def test_names_that_are_taken_here_or_there_are_conflicts(gateway: Gateway) -> None:
    gateway.settings(BASE + "netns = RED\n")
    ip("link", "add", "tun5", "type", "dummy")
    said = gateway.send(VTI, "up")
    assert said.status == 3, said
    assert "tun5 exists here, where tun5@" in " ".join(said.lines)
    ip("link", "del", "tun5")
    ip("-n", gateway.red, "link", "add", "tun5", "type", "dummy")
    said = gateway.send(VTI, "up")
    assert said.status == 3, said
    assert "is not ours and has kind dummy, wanted vti" in " ".join(said.lines)
    assert gateway.links() == set(), "nothing half made is left here"


def test_the_holder_of_an_identity_is_found_in_another_namespace(gateway: Gateway) -> None:
    ip("link", "add", "office", "type", "vti", "local", VTI.me, "remote", VTI.peer, "key", "7")
    ip("link", "set", "office", "netns", gateway.red)
    gateway.settings(BASE)
    said = gateway.send(VTI, "up")
    assert said.status == 3, said
    assert f"office@{gateway.red}" in " ".join(said.lines)


def test_a_device_that_a_killed_call_left_on_its_way_is_made_again(gateway: Gateway) -> None:
    alias = f"vti-updown to {gateway.red}"
    with Netlink() as netlink:
        netlink.add_link(Link("tun5", "vti", local=VTI.me, remote=VTI.peer, ikey=5, okey=5, alias=alias))
    gateway.settings(BASE + "netns = RED\n")
    assert gateway.send(VTI, "up").status == 0
    assert (gateway.links(), gateway.links(gateway.red)) == (set(), {"tun5"})


def test_without_the_right_to_enter_it_the_message_says_whose_lack_it_is(gateway: Gateway) -> None:
    gateway.settings(BASE + "netns = RED\n")
    words = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", *command(*gateway.arguments)]
    done = subprocess.run(words, env=charon_call(VTI, "up"), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert f"network namespace {gateway.red} may not be entered" in done.stderr
    assert "worker" in done.stderr
    assert gateway.links() == set()


def test_clean_and_reconcile_look_into_the_namespaces_of_the_ledger(gateway: Gateway) -> None:
    gateway.settings(BASE + "netns = RED\nrule = fwmark 5\ntable = 100\n")
    gateway.send(VTI, "up")
    said = gateway.does("status")
    assert f"tun5@{gateway.red}" in "\n".join(said.lines), said
    said = gateway.does("clean")
    assert said.status == 0, said
    assert gateway.links(gateway.red) == set()
    assert [rule for rule in gateway.json("rule", "show", netns=gateway.red) if rule.get("protocol") == "160"] == []


def test_a_left_over_in_a_namespace_of_the_settings_is_removed(gateway: Gateway) -> None:
    gateway.settings(BASE + "netns = RED\n")
    gateway.send(VTI, "up")
    subprocess.run(["rm", "-r", str(gateway.state)], check=True)
    said = gateway.does("reconcile")
    assert said.status == 0, said
    assert gateway.links(gateway.red) == set()


# -- VRFs


def test_a_device_belongs_to_its_vrf_and_its_routes_are_in_that_table(gateway: Gateway) -> None:
    ip(batch="link add blue type vrf table 1000\nlink set blue up\n")
    gateway.settings(BASE + "vrf = blue\naddress = 10.6.106.1/30, fd00:9::1/64\nroute = fd00:8::/64\n")
    said = gateway.send(VTI, "up")
    assert said.status == 0, said
    assert gateway.json("link", "show", "dev", "tun5")[0]["master"] == "blue"
    assert gateway.routes(table="1000") == {("10.2.0.0/24", "tun5"), ("fd00:8::/64", "tun5")}
    assert gateway.addresses("tun5") >= {"10.6.106.1/30", "fd00:9::1/64"}
    assert gateway.routes() == set()
    assert not [line for line in gateway.send(VTI, "up").lines if " ip " in line]
    gateway.send(VTI, "down")
    assert (gateway.links(), gateway.routes(table="1000")) == (set(), set())


def test_a_device_that_someone_took_out_of_its_vrf_is_put_back_with_its_routes(gateway: Gateway) -> None:
    ip(batch="link add blue type vrf table 1000\nlink set blue up\n")
    gateway.settings(BASE + "vrf = blue\naddress = 10.6.106.1/30\n")
    gateway.send(VTI, "up")
    ip("link", "set", "tun5", "nomaster")
    gateway.send(VTI, "up")
    assert gateway.json("link", "show", "dev", "tun5")[0]["master"] == "blue"
    assert gateway.routes(table="1000") == {("10.2.0.0/24", "tun5")}


def test_a_vrf_inside_a_namespace(gateway: Gateway) -> None:
    ip("-n", gateway.red, "link", "add", "blue", "type", "vrf", "table", "77")
    gateway.settings(BASE + "netns = RED\nvrf = blue\n")
    said = gateway.send(XFRM, "up")
    assert said.status == 0, said
    assert gateway.json("link", "show", "dev", "tun5", netns=gateway.red)[0]["master"] == "blue"
    assert gateway.routes(gateway.red, "77") == {("10.2.0.0/24", "tun5")}


def test_a_vrf_that_is_not_there_is_named_with_the_command_that_makes_it(gateway: Gateway) -> None:
    gateway.settings(BASE + "vrf = blue\n")
    said = gateway.send(VTI, "up")
    assert said.status == 1, said
    assert "vrf blue: there is no VRF of that name" in " ".join(said.lines)
    assert "ip link add blue type vrf table NUMBER" in " ".join(said.lines)
    assert gateway.links() == set()


# -- rules, routes and addresses


def test_rules_of_both_families_lead_to_the_table_and_go(gateway: Gateway) -> None:
    gateway.settings(
        BASE + "table = 100\nrule = fwmark 0x5/0xff, from fd00:1::/64 iif eth0 priority 900, not to 10.77.0.1 priority 1601\n"
    )
    before = (ip("-4", "rule"), ip("-6", "rule"))
    said = gateway.send(VTI, "up")
    assert said.status == 0, said
    (four, turned) = [rule for rule in gateway.json("-4", "rule", "show") if rule.get("protocol") == "160"]
    assert (turned["priority"], turned["dst"], "not" in turned) == (1601, "10.77.0.1", True)
    (six,) = [rule for rule in gateway.json("-6", "rule", "show") if rule.get("protocol") == "160"]
    assert (four["priority"], four["fwmark"], four["fwmask"], four["table"]) == (1600, "0x5", "0xff", "100")
    assert (six["priority"], six["src"], six["srclen"], six["iif"]) == (900, "fd00:1::", 64, "eth0")
    assert not [line for line in gateway.send(VTI, "up").lines if " rule " in line]
    gateway.send(VTI, "down")
    assert (ip("-4", "rule"), ip("-6", "rule")) == before


def test_addresses_of_every_kind_and_a_static_route_by_a_gateway(gateway: Gateway) -> None:
    transit = (
        "10.6.106.1/30, 10.6.107.0/31, 10.6.108.1 peer 10.6.108.2, fd00:7::/127, fe80::1/64, 169.254.2.1/30 peer 169.254.2.2/30"
    )
    gateway.settings(
        BASE + f"address = {transit}\nroute = 10.9.0.0/16 via 10.6.106.2, fd00:9::/48 via fe80::2, 10.8.0.0/16 src 10.6.106.1\n"
    )
    said = gateway.send(VTI, "up")
    assert said.status == 0, said
    assert not [line for line in said.lines if "warning" in line], said
    (found,) = gateway.json("addr", "show", "dev", "tun5")
    seen = {(one["local"], one.get("address"), one["prefixlen"]) for one in found["addr_info"]}
    assert seen == {
        ("10.6.106.1", None, 30),
        ("10.6.107.0", None, 31),
        ("10.6.108.1", "10.6.108.2", 32),
        ("fd00:7::", None, 127),
        ("fe80::1", None, 64),
        ("169.254.2.1", "169.254.2.2", 30),
    }
    routed = {"10.2.0.0/24", "10.8.0.0/16", "10.9.0.0/16", "fd00:9::/48"}
    assert gateway.routes() == {(network, "tun5") for network in routed}
    (sourced,) = gateway.json("route", "show", "10.8.0.0/16")
    assert sourced["prefsrc"] == "10.6.106.1"
    again = gateway.send(VTI, "up")
    assert not [line for line in again.lines if " ip " in line or "sysctl" in line], again
    gateway.send(VTI, "down")
    assert gateway.links() == set()


# -- one XFRM interface for all if_ids


def test_an_external_interface_serves_every_if_id_and_each_route_tells_its_own(gateway: Gateway) -> None:
    """Two children with if_ids of their own share it; each route goes with its child, the interface with the last."""
    gateway.settings("[connection *]\ninterface = ipsec0\nkind = xfrm\nexternal = yes\nrouting = yes\n")
    other = XFRM._replace(name="d", if_id_in="43", if_id_out="43", pairs=(("10.1.0.0/24", "10.4.0.0/24"),), reqid=2)
    for child in (XFRM, other):
        said = gateway.send(child, "up")
        assert said.status == 0, said
    (link,) = gateway.json("link", "show", "dev", "ipsec0")
    assert link["linkinfo"]["info_data"].get("external") is True, link
    shown = {route["dst"]: route["if_id"] for route in gateway.json("route", "show", "dev", "ipsec0")}
    assert shown == {"10.2.0.0/24": 42, "10.4.0.0/24": 43}
    assert not [line for line in gateway.send(other, "up").lines if " ip " in line]
    assert "external" in "\n".join(gateway.does("status").lines)
    gateway.send(XFRM, "down")
    assert gateway.routes() == {("10.4.0.0/24", "ipsec0")}
    gateway.send(other, "down")
    assert gateway.links() == set()
