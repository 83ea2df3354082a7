"""`link = follow` and `probe` on a real kernel: what a link down flushes comes back, and far ends that fall silent."""

from __future__ import annotations

import fcntl
import json
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.calls import Node, ip, private_namespace, towards_peers
from tests.kit.charon import Child, charon_call
from tests.kit.machine import EAST, WEST, Environment, Tunnel, call, establish, withdraw

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("modules")]

FOLLOW = "[device *]\nlink = follow\n"
ONE = Tunnel(shared="yes", address="10.99.0.1/30")
TWO = Tunnel("u", theirs="10.3.0.0/24", shared="yes", reqid=16392)


class ProbedNode(Node):
    """One that may have a far namespace."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.inside: list[str] = []  # what begins a command in the far namespace

    def send(self, *environments: Environment) -> list[str]:
        """Nothing is to be mended."""
        lines = super().send(*environments)
        assert not any("warning" in line for line in lines), lines
        return lines


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ProbedNode]:
    with towards_peers():
        made = ProbedNode(tmp_path)
        made.config.write_text(FOLLOW)
        yield made


def is_up(name: str) -> bool:
    return "UP" in json.loads(ip("-j", "link", "show", "dev", name))[0]["flags"]


def addresses(name: str) -> set[str]:
    (found,) = json.loads(ip("-j", "addr", "show", "dev", name))
    return {f"{a['local']}/{a['prefixlen']}" for a in found["addr_info"]}


def routes(name: str) -> set[str]:
    """Destinations of our routes through a device, of both families."""
    found: set[str] = set()
    for family in ("-4", "-6"):
        text = ip("-j", "-N", family, "route", "show", "table", "all", "proto", "160") or "[]"
        found |= {route["dst"] for route in json.loads(text) if route["dev"] == name}
    return found


def test_down_with_the_last_tunnel_and_back_with_all_that_the_kernel_took(node: ProbedNode) -> None:
    """IPv4 and IPv6 routes, an IPv6 address that is kept, and a link-local one that is not."""
    node.config.write_text(FOLLOW + "[connection t]\naddress = fd00:99::1/127 fe80::1/64\n")
    six = ONE._replace(mine="fd00:1::/64", theirs="fd00:2::/64")
    node.send(*establish(ONE), *establish(six), *establish(TWO))
    own = {"10.99.0.1/30", "fd00:99::1/127", "fe80::1/64"}
    all_routes = {"10.2.0.0/24", "10.3.0.0/24", "fd00:2::/64"}
    assert (is_up("vti5"), addresses("vti5") & own, routes("vti5")) == (True, own, all_routes)
    node.send(call(TWO, "down", wishes=("UP",)), call(six, "down", wishes=("UP",)))
    assert (is_up("vti5"), routes("vti5")) == (True, all_routes)
    said = node.send(call(ONE, "down", wishes=("UP",)))
    assert [line.rpartition(": ")[2] for line in said] == ["ip link set vti5 down"]
    assert (is_up("vti5"), routes("vti5")) == (False, set())
    assert addresses("vti5") & own == {"10.99.0.1/30", "fd00:99::1/127"}
    node.send(call(TWO, "up"))
    assert (is_up("vti5"), addresses("vti5") & own, routes("vti5")) == (True, own, all_routes)


def test_reconcile_respects_it(node: ProbedNode) -> None:
    """A device that somebody set up is set down, one that is down stays, and a second run does nothing."""
    node.send(call(TWO, "route", child=False))
    assert not is_up("vti5")
    said = node.run("reconcile", "--dry-run")
    assert not [line for line in said.lines if line.startswith("ip ")], said
    ip("link", "set", "vti5", "up")
    node.run("reconcile")
    assert not is_up("vti5")


def test_a_shared_device_with_no_claim_is_down(node: ProbedNode) -> None:
    node.send(*establish(ONE), *withdraw(ONE))
    assert not is_up("vti5")
    node.send(*establish(ONE))
    assert is_up("vti5")


def test_a_made_device_follows(node: ProbedNode) -> None:
    """Made for a routing daemon, it is there and down before the tunnel, with its addresses."""
    node.config.write_text(
        f"[device ipsec7]\nif_id = 7\nlink = follow\naddress = 10.9.0.1/31 fe80::1/64\n"
        f"[connection c]\ninterface = ipsec7\n[device vti5]\nlocal = {WEST}\nmark = 5\nlink = follow\n"
    )
    assert node.run("make", "--boot").status == 0
    assert (is_up("ipsec7"), is_up("vti5")) == (False, False)
    child = Child(mark_in="", mark_out="", if_id_in="7", if_id_out="7")
    node.send(charon_call(child, "up"))
    assert is_up("ipsec7")
    assert {"10.9.0.1/31", "fe80::1/64"} <= addresses("ipsec7")
    node.send(charon_call(child, "up", unique_id=2), charon_call(child, "down"))
    assert is_up("ipsec7")
    node.send(charon_call(child, "down", unique_id=2))
    assert (is_up("ipsec7"), is_up("vti5")) == (False, False)


# -- probes, between two namespaces with real ESP

KEY = ["aead", "rfc4106(gcm(aes))", "0x" + "11" * 20, "128"]


@pytest.fixture
def two(tmp_path: Path) -> Iterator[ProbedNode]:
    """This node, and another one behind a veth pair, with SAs and policies for mark 5 between them."""
    with private_namespace():
        ip("link", "set", "lo", "up")
        process = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE)
        assert process.stdout
        process.stdout.readline()
        try:
            inside = ["nsenter", "--net", "--target", str(process.pid)]
            ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth1", "netns", str(process.pid))
            ip("addr", "add", f"{WEST}/24", "dev", "eth0")
            ip("link", "set", "eth0", "up")
            for line in (
                f"addr add {EAST}/24 dev eth1",
                "link set lo up",
                "link set eth1 up",
                f"link add vti5 type vti local {EAST} remote {WEST} key 5",
                "addr add 10.6.106.2/30 dev vti5",
                "addr add fd00:6::2/127 dev vti5 nodad",
                "link set vti5 up",
            ):
                subprocess.run([*inside, "ip", *line.split()], check=True)
            ipsec([], WEST, EAST)
            ipsec(inside, EAST, WEST)
            node = ProbedNode(tmp_path)
            node.config.write_text("[device vti5]\naddress = 10.6.106.1/30 fd00:6::3/127\nprobe = 10.6.106.2\nlink = follow\n")
            node.inside = inside
            yield node
        finally:
            process.kill()
            process.wait()


EVERYTHING = (("0.0.0.0/0", "0.0.0.0/0"), ("::/0", "::/0"))
NETS = (("10.1.0.0/24", "10.2.0.0/24"), ("fd00:1::/64", "fd00:2::/64"))


def ipsec(inside: list[str], me: str, peer: str) -> None:
    """States of both directions, and policies for everything with mark 5."""
    for source, destination in ((me, peer), (peer, me)):
        ends = ["src", source, "dst", destination, "proto", "esp", "spi", "0x100" if source == WEST else "0x200"]
        words = ["xfrm", "state", "add", *ends, "reqid", "1", "mode", "tunnel", "flag", "af-unspec", "mark", "5", *KEY]
        subprocess.run([*inside, "ip", *words], check=True)
    policies(inside, me, peer, EVERYTHING)


def policies(inside: list[str], me: str, peer: str, pairs: tuple[tuple[str, str], ...]) -> None:
    """Of both directions, with mark 5, for these networks of WEST's and of EAST's; no others."""
    subprocess.run([*inside, "ip", "xfrm", "policy", "flush"], check=True)
    for source, destination in ((me, peer), (peer, me)):
        for west, east in pairs:
            ends = ["src", west if source == WEST else east, "dst", east if source == WEST else west]
            way = "out" if source == me else "in"
            tunnel = ["tmpl", "src", source, "dst", destination, "proto", "esp", "reqid", "1", "mode", "tunnel"]
            words = ["xfrm", "policy", "add", *ends, "dir", way, "mark", "5", *tunnel]
            subprocess.run([*inside, "ip", *words], check=True)


def until_answered(address: str) -> None:
    """Pings until an answer comes: a link that was down needs its time."""
    ping = ["ping", "-q", "-c", "1", "-W", "1", address]
    for _ in range(60):
        if subprocess.run(ping, check=False, stdout=subprocess.DEVNULL).returncode == 0:
            return
    raise AssertionError(f"{address} never answers")


def state(name: str) -> tuple[str, bool]:
    """A device's operational state, and whether it is RUNNING for who reads SIOCGIFFLAGS or netlink's flags."""
    (link,) = json.loads(ip("-j", "link", "show", "dev", name))
    with socket.socket() as channel:
        answer = fcntl.ioctl(channel, 0x8913, struct.pack("16sH22x", name.encode(), 0))  # SIOCGIFFLAGS
    return link["operstate"], bool(struct.unpack_from("16xH", answer)[0] & 0x40)


def test_a_dormant_device_is_set_down_awake_and_made_anew_dormant(two: ProbedNode) -> None:
    """The kernel does not tell the state of a device that is down, but keeps it."""
    shared = Tunnel(shared="yes")
    two.send(*establish(shared))
    subprocess.run([*two.inside, "ip", "link", "set", "vti5", "down"], check=True)
    for _ in range(3):
        probe(two)
    assert state("vti5") == ("DORMANT", False)
    ip("link", "del", "vti5")
    said = two.run(**call(shared, "up"))
    assert said.status == 0, said
    assert state("vti5") == ("DORMANT", False)
    two.send(call(shared, "down", wishes=("UP",)))
    assert is_up("vti5") is False
    ip("link", "set", "vti5", "up")
    assert state("vti5") == ("UP", True)


def probe(node: ProbedNode) -> list[dict[str, Any]]:
    """What one run of `vti-updown probe` has to say of each device."""
    said = node.run("probe", "--json")
    assert said.status == 0, said
    answers: list[dict[str, Any]] = json.loads("".join(said.lines))["probes"]
    return answers


SECOND = Tunnel("u", peer="198.51.100.3", device="vti7", mark_in="7/0xff", mark_out="7/0xff", reqid=16392)


@pytest.mark.parametrize("address", ["10.6.106.2", "fd00:6::2"])
def test_routes_leave_a_device_whose_far_end_is_silent_and_come_back(two: ProbedNode, address: str) -> None:
    """Through real ESP. The link stays up, so that the far end can answer again."""
    two.config.write_text(two.config.read_text().replace("probe = 10.6.106.2", f"probe = {address}"))
    two.send(*establish(Tunnel(shared="no")), *establish(SECOND._replace(metric="200")))
    (first,) = probe(two)
    assert (first["far"], first["missed"]) == (address, 0)
    assert routes("vti5") == {"10.2.0.0/24"}
    subprocess.run([*two.inside, "ip", "link", "set", "eth1", "down"], check=True)
    for missed in (1, 2):
        (one,) = probe(two)
        assert one["missed"] == missed
        assert routes("vti5") == {"10.2.0.0/24"}
    probe(two)
    assert (routes("vti5"), routes("vti7"), is_up("vti5")) == (set(), {"10.2.0.0/24"}, True)
    assert state("vti5") == ("DORMANT", False)
    said = two.run(**call(Tunnel(), "up"))
    assert [line for line in said.lines if "the far end of vti5 does not answer" in line], said
    assert routes("vti5") == set()
    subprocess.run([*two.inside, "ip", "link", "set", "eth1", "up"], check=True)
    until_answered(EAST)
    (back,) = probe(two)
    assert back["missed"] == 0
    assert routes("vti5") == {"10.2.0.0/24"}
    assert state("vti5") == ("UP", True)
    probe(two)
    assert state("vti5") == ("UP", True)


def test_a_silent_tunnel_that_waits_has_nothing_back_before_an_sa_and_an_answer(two: ProbedNode) -> None:
    """Though its link, which follows, is up as soon as there is an SA."""
    subprocess.run([*two.inside, "ip", "link", "set", "vti5", "down"], check=True)
    one = Tunnel(shared="yes")
    two.send(*establish(one))
    for _ in range(3):
        probe(two)
    assert (routes("vti5"), state("vti5")) == ({"10.2.0.0/24"}, ("DORMANT", False)), "it stays where no other tunnel lives"
    two.send(call(one, "down", wishes=("UP",)))
    subprocess.run([*two.inside, "ip", "link", "set", "vti5", "up"], check=True)
    assert (probe(two), routes("vti5"), is_up("vti5")) == ([], set(), False)
    two.send(call(one, "up"))
    assert (routes("vti5"), state("vti5")) == ({"10.2.0.0/24"}, ("DORMANT", False)), "as no other tunnel lives"
    assert [one["missed"] for one in probe(two)] == [0]
    assert (routes("vti5"), state("vti5")) == ({"10.2.0.0/24"}, ("UP", True))


def test_a_new_tunnel_on_the_device_and_clean_know_nothing_of_it(two: ProbedNode) -> None:
    subprocess.run([*two.inside, "ip", "link", "set", "vti5", "down"], check=True)
    one = Tunnel(shared="yes")
    for end in (lambda: two.send(*withdraw(one)), lambda: two.run("clean")):
        two.send(*establish(one))
        for _ in range(3):
            probe(two)
        assert state("vti5") == ("DORMANT", False)
        end()
        two.send(*establish(one))
        assert (routes("vti5"), state("vti5")[1]) == ({"10.2.0.0/24"}, True)


BLUE = "ip link add blue type vrf table 10; ip link set blue up"


@pytest.mark.parametrize(("place", "made"), [("vrf = blue", BLUE), ("netns = red", "ip netns add red")])
def test_a_placed_device_is_asked_where_it_is(two: ProbedNode, place: str, made: str) -> None:
    """The sockets are of its namespace, or hear what came into its VRF."""
    name = "vti5@red" if "netns" in place else "vti5"
    subprocess.run(["sh", "-e", "-c", made], check=True)
    try:
        two.config.write_text(two.config.read_text() + place + "\n")
        two.send(*establish(Tunnel(shared="no")))
        found = [probe(two)]
        subprocess.run([*two.inside, "ip", "link", "set", "vti5", "down"], check=True)
        found += [probe(two)]
        assert [(one["device"], one["missed"]) for (one,) in found] == [(name, 0), (name, 1)]
        two.run("clean")
    finally:
        subprocess.run(["ip", "netns", "del", "red"], check=False)


DROPS = "{ type filter hook output priority 0; policy drop; }"
FAR = {4: ("10.2.0.1", "10.2.0.0/24"), 6: ("fd00:2::1", "fd00:2::/64")}


@pytest.fixture
def bare(two: ProbedNode) -> ProbedNode:
    """The same, with policies for networks behind the two alone, and devices without any address."""
    lines = "addr flush dev vti5\naddr add 10.2.0.1/32 dev lo\naddr add fd00:2::1/128 dev lo\n"
    lines += "route add 10.1.0.0/24 dev vti5\nroute add fd00:1::/64 dev vti5\n"
    subprocess.run([*two.inside, "ip", "-batch", "-"], input=lines, text=True, check=True)
    ip("link", "add", "lan0", "type", "dummy")
    ip(batch="link set lan0 up\naddr add 10.1.0.1/24 dev lan0\naddr add fd00:1::1/64 dev lan0 nodad\n")
    ip("-6", "route", "add", "default", "via", "fd00:1::fe")
    policies([], WEST, EAST, NETS)
    policies(two.inside, EAST, WEST, NETS)
    return two


@pytest.mark.parametrize("family", [4, 6])
def test_a_device_without_an_address_is_asked_by_one_that_the_tunnel_takes(bare: ProbedNode, family: int) -> None:
    """A healthy tunnel is not cut off, and a silent one comes back, though no route leads into it then."""
    far, network = FAR[family]
    mine = "10.1.0.0/24" if family == 4 else "fd00:1::/64"
    bare.config.write_text(f"[device vti5]\nprobe = {far}\n")
    bare.send(*establish(Tunnel(mine=mine, theirs=network)))
    bare.send(*establish(SECOND._replace(mine=mine, theirs=network, metric="200")))
    assert not [address for address in addresses("vti5") if not address.startswith("fe80:")]
    assert [one["missed"] for _ in range(4) for one in probe(bare)] == [0, 0, 0, 0]
    assert routes("vti5") == {network}
    subprocess.run([*bare.inside, "ip", "link", "set", "vti5", "down"], check=True)
    assert [one["missed"] for _ in range(3) for one in probe(bare)] == [1, 2, 3]
    assert routes("vti5") == set()
    lines = "link set vti5 up\nroute replace 10.1.0.0/24 dev vti5\nroute replace fd00:1::/64 dev vti5\n"
    subprocess.run([*bare.inside, "ip", "-batch", "-"], input=lines, text=True, check=True)
    assert [one["missed"] for one in probe(bare)] == [0]
    assert routes("vti5") == {network}


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ("ip addr del 10.1.0.1/24 dev lan0", "no address of this machine is in 10.1.0.0/24"),
        ("ip link set vti5 down", "the device is down"),
        (f"nft add table ip t; nft add chain ip t o '{DROPS}'", "Operation not permitted"),
    ],
)
def test_what_cannot_be_sent_is_no_miss(bare: ProbedNode, spoil: str, why: str) -> None:
    bare.config.write_text("[device vti5]\nprobe = 10.2.0.1\n")
    bare.send(*establish(Tunnel()))
    assert [one["missed"] for one in probe(bare)] == [0]
    subprocess.run(["sh", "-e", "-c", spoil], check=True)
    for _ in range(4):
        said = bare.run("probe", "--json")
        assert said.status == 1, said
        answer = json.loads("".join(said.lines))
        assert [(one["missed"], one["why"]) for one in answer["probes"]] == [(0, f"cannot be asked ({why})")]
        assert [one["kind"] for one in answer["warnings"]] == ["not probed"]


def test_a_dead_far_end_gives_the_route_to_the_other_tunnel(two: ProbedNode) -> None:
    """Two devices, one prefix: traffic takes the second while the first is silent."""
    subprocess.run([*two.inside, "ip", "link", "set", "vti5", "down"], check=True)
    two.send(*establish(Tunnel()))
    for environment in establish(SECOND):
        assert two.run(**environment).status == 0
    assert (routes("vti5"), routes("vti7")) == ({"10.2.0.0/24"}, set())
    for _ in range(3):
        probe(two)
    assert (routes("vti5"), routes("vti7")) == (set(), {"10.2.0.0/24"})
