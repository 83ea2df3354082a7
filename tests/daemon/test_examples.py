"""The files below contrib/libreswan are what they say: libreswan takes them, and they do what their comments promise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import TOP
from tests.daemon.connections import EAST, VTI5, WEST, encrypted_ping
from tests.daemon.gateway import HOOK, Gateway
from tests.daemon.nodes import Ground, wait_for
from tests.daemon.words import words

pytestmark = pytest.mark.daemon

EXAMPLES = sorted((TOP / "contrib/libreswan").glob("*.conf"))
INSTALLED = "/usr/libexec/vti-updown"
THIRD = "198.51.100.3"


def connections(path: Path) -> list[str]:
    """The names of a file's connections; those that others include by also= are none."""
    text = path.read_text()
    included = re.findall(r"^ *also=(\S+)", text, re.MULTILINE)
    return [name for name in re.findall(r"^conn (\S+)", text, re.MULTILINE) if name not in included]


def load(node: Gateway, path: Path) -> None:
    """Load an example as it is, but for the place of the hook."""
    node.add()
    with open(node.folder / "ipsec.conf", "a") as conf:
        conf.write("\n" + path.read_text().replace(INSTALLED, f'"{HOOK}"'))
    for name in connections(path):
        node.order("add", name)


@pytest.fixture(autouse=True)
def unloaded(west: Gateway, east: Gateway) -> Iterator[None]:
    """What load() loaded is taken out again."""
    yield
    for path in EXAMPLES:
        for node in (west, east):
            for name in connections(path):
                node.order("delete", name, check=False)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_libreswan_reads_the_file_without_a_complaint(west: Gateway, path: Path) -> None:
    """But for words that a newer one needs no more."""
    conf = west.folder / "checked.conf"
    conf.write_text(f"config setup\n\n{path.read_text()}")
    said = west.run("ipsec", "addconn", "--config", str(conf), "--checkconfig")
    warned = [line for key in words().obsolete for line in path.read_text().splitlines() if line.strip().startswith(f"{key}=")]
    lines = (said.stdout + said.stderr).splitlines()
    assert [line.partition("warning: obsolete keyword ignored: ")[2] for line in lines] == [line.strip() for line in warned]
    assert connections(path)
    assert f"updown={INSTALLED}" in path.read_text()


def test_permanent(ground: Ground, west: Gateway, east: Gateway) -> None:
    """The same file at both ends; what is routed by hand goes through the tunnel, and the hook routes nothing."""
    path = TOP / "contrib/libreswan/permanent.conf"
    for node in (east, west):
        load(node, path)
    west.up("routed-vpn")
    keys = {"kind": "vti", "ikey": 5, "okey": 5, "up": True}
    assert west.device("vti01") == {**keys, "local": WEST, "remote": EAST}
    wait_for(lambda: east.addresses("vti01") == {"10.99.0.2/30"}, "east's address")
    assert west.addresses("vti01") == {"10.99.0.1/30"}
    for node in (west, east):
        assert node.our_routes() == []
        node.run("ip", "route", "add", "10.0.0.0/8", "dev", "vti01")
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    encrypted_ping(ground, west, "10.99.0.2", "")
    west.down("routed-vpn")
    assert west.device("vti01") is None
    wait_for(lambda: east.device("vti01") is None, "vti01 gone from east")


def roadwarrior(ground: Ground, number: int) -> Gateway:
    node = ground.node(Gateway, f"warrior{number}", f"198.51.100.2{number}/24")
    node.start()
    return node


@pytest.fixture(scope="module")
def warriors(ground: Ground) -> list[Gateway]:
    return [roadwarrior(ground, number) for number in (1, 2)]


def call_in(node: Gateway, number: int) -> str:
    """A client of the server comes; the address it is given."""
    ends = {"left": f"198.51.100.2{number}", "leftid": f"@warrior{number}", "right": WEST, "rightid": "@server"}
    nets = {"leftsubnet": "0.0.0.0/0", "leftmodecfgclient": "yes", "rightsubnet": "10.1.0.0/24", "narrowing": "yes"}
    node.add(t={**VTI5, **ends, **nets})
    node.up("t")
    (lease,) = node.addresses("vti5")
    return lease.partition("/")[0]


@pytest.mark.slow
@pytest.mark.parametrize("beforehand", [False, True], ids=["device on demand", "device beforehand"])
def test_roadwarriors(ground: Ground, west: Gateway, warriors: list[Gateway], beforehand: bool) -> None:
    """Also with the device that vti02.service makes before the firewall."""
    if beforehand:
        folder = TOP / "contrib/libreswan"
        commands = re.findall("^ExecStart=(.*)$", (folder / "vti02.service").read_text(), re.MULTILINE)
        comments = re.findall("^#     (ip link .*)$", (folder / "roadwarriors.conf").read_text(), re.MULTILINE)
        assert [command.replace("/usr/sbin/", "") for command in commands] == comments
        for command in commands:
            west.run(*command.split())
    load(west, TOP / "contrib/libreswan/roadwarriors.conf")
    leases = {call_in(node, number) for number, node in enumerate(warriors, 1)}
    assert west.device("vti02") == {"kind": "vti", "local": WEST, "remote": "any", "ikey": 12, "okey": 12, "up": True}
    assert west.routed_into("vti02") == leases
    for lease in leases:
        encrypted_ping(ground, west, lease, "10.1.0.1")
    (row,) = west.status()["devices"]
    assert (row["made_by"], row["goes"]) == ("someone else" if beforehand else "vti-updown", "stays")
    for node in warriors:
        node.delete("t")
    wait_for(lambda: west.routed_into("vti02") == set(), "no client's route left")
    assert west.device("vti02") is not None
    assert west.claims() == []


@pytest.mark.slow
def test_shared(ground: Ground, west: Gateway, east: Gateway) -> None:
    third = ground.node(Gateway, "third", f"{THIRD}/24")
    third.lan("10.3.0.1/24")
    third.start()
    ends = {"left": WEST, "leftsubnet": "10.1.0.0/24"}
    east.add(t={**VTI5, **ends, "right": EAST, "rightsubnet": "10.2.0.0/24"})
    third.add(t={**VTI5, **ends, "right": THIRD, "rightsubnet": "10.3.0.0/24"})
    load(west, TOP / "contrib/libreswan/shared.conf")
    west.up("west")
    west.up("east")
    shared = {"kind": "vti", "local": WEST, "remote": "any", "ikey": 10, "okey": 10, "up": True}
    assert west.device("vti01") == shared
    assert west.routed_into("vti01") == {"10.2.0.0/24", "10.3.0.0/24"}
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    encrypted_ping(ground, west, "10.3.0.1", "10.1.0.1")
    west.down("west")
    assert west.routed_into("vti01") == {"10.3.0.0/24"}
    west.down("east")
    assert west.device("vti01") == shared, "a shared device stays when its last tunnel goes"
    assert west.our_routes() == []
