"""Two tunnels to two endpoints of one network, both daemons: packets go by the one that lives, and back (docs/placement.md).

The examples contrib/libreswan/cloud.conf and contrib/strongswan/cloud as they are, but for addresses and the hook."""

from __future__ import annotations

import json
import re

import pytest

from tests import TOP
from tests.daemon.charon import Charon
from tests.daemon.children import End, child, configuration, connection
from tests.daemon.connections import EAST, WEST, encrypted_ping
from tests.daemon.endpoint import HOOK, WORTHLESS
from tests.daemon.gateway import Gateway
from tests.daemon.nodes import Ground, Node, wait_for

pytestmark = pytest.mark.daemon

THIRD = "198.51.100.3"
CLOUDS = {"203.0.113.1": EAST, "203.0.113.2": THIRD}
BEHIND, HERE = "10.0.5.5", "10.1.0.1"
INSTALLED = "/usr/libexec/vti-updown"
FOR_ALL = {
    "leftsubnet": "0.0.0.0/0",
    "rightsubnet": "0.0.0.0/0",
    "right": WEST,
    "mark": "7/0xffffffff",
    "vti-interface": "vti7",
}


def moved(path: str) -> str:
    """An example with the addresses of this ground."""
    text = (TOP / path).read_text()
    for theirs, ours in CLOUDS.items():
        text = text.replace(theirs, ours)
    return text


def way(node: Node) -> str:
    """The device by which packets to the cloud leave; empty where there is no way."""
    said = node.run("ip", "-j", "route", "get", BEHIND, check=False).stdout
    return str(json.loads(said)[0]["dev"]) if said.strip() else ""


def goes_by(ground: Ground, node: Gateway | Charon, device: str) -> None:
    """Soon, by the tunnel's far end that has an answer, and never in clear."""
    wait_for(lambda: way(node) == device, f"packets by {device}", patience=180)
    wait_for(lambda: node.ping(BEHIND, HERE, count=1, patience=2), f"an answer by {device}")
    encrypted_ping(ground, node, BEHIND, HERE)


def cloud(ground: Ground, name: str, address: str) -> Gateway:
    """One endpoint; the network behind it is that of the other one too."""
    node = ground.node(Gateway, name, f"{address}/24")
    node.lan(f"{BEHIND}/24")
    node.start()
    return node


def served(node: Gateway, address: str) -> None:
    """An endpoint waits for the gateway, and sends back by its device."""
    node.add(t={**FOR_ALL, "left": address, "vti-routing": "no"})
    node.run("ip", "link", "del", "vti7", check=False)


def sends_back(node: Gateway) -> None:
    """As soon as its device is there."""
    wait_for(lambda: node.device("vti7"), f"{node.name}'s device")
    node.run("ip", "route", "replace", "10.1.0.0/16", "dev", "vti7")


def test_libreswan(ground: Ground, west: Gateway) -> None:
    """A peer that deletes its tunnel, and one that is not there any more."""
    ends = [cloud(ground, "cloud1", EAST), cloud(ground, "cloud2", THIRD)]
    for node, address in zip(ends, (EAST, THIRD)):
        served(node, address)
    text = moved("contrib/libreswan/cloud.conf")
    settings = west.folder / "vti-updown.conf"
    said = re.findall(r"^#     (\[.*\]|\w+ = .*)$", text, re.MULTILINE)
    settings.write_text("\n".join(line for line in said if not line.startswith("probe")) + "\n")
    assert "metric = 100" in said
    west.add()
    quick = text.replace("dpddelay=10", "dpddelay=2").replace("dpdtimeout=30", "dpdtimeout=6\n    retransmit-timeout=20s")
    quick = quick.replace("authby=secret", "authby=secret\n    ike=aes_gcm128-sha2_256;dh19\n    esp=aes_gcm128-null")
    with open(west.folder / "ipsec.conf", "a") as conf:
        conf.write("\n" + quick.replace(INSTALLED, f'"{HOOK} --config {settings}"'))
    for number, node in enumerate(ends, 1):
        west.order("add", f"cloud{number}")
        west.up(f"cloud{number}", check=False)
        sends_back(node)
    try:
        goes_by(ground, west, "vti1")
        ends[0].delete("t")
        goes_by(ground, west, "vti2")
        assert "ip route del 10.0.0.0/16 dev vti1 proto 160 metric 100" in "\n".join(west.hook_lines())
        served(ends[0], EAST)
        west.up("cloud1", check=False)
        sends_back(ends[0])
        goes_by(ground, west, "vti1")
        ends[0].ip("link set eth0 down")
        goes_by(ground, west, "vti2")
    finally:
        for number in (1, 2):
            west.order("delete", f"cloud{number}", check=False)


def test_strongswan(ground: Ground, moon: Charon) -> None:
    """A peer that is not there any more, and comes back; and one that is up by IKE alone, as `probe` finds out."""
    here = End(WEST, WEST, "0.0.0.0/0", HERE)
    ends: list[Charon] = []
    for name, address, far in (("sun1", EAST, "169.254.10.1"), ("sun2", THIRD, "169.254.11.1")):
        node = ground.node(Charon, name, f"{address}/24")
        node.lay_over()
        node.lan(f"{BEHIND}/24")
        net = child(End(address, address, "0.0.0.0/0", BEHIND), here, mark_in="7", mark_out="7")
        of = connection(End(address, address, "", ""), here, {"net": net}, mobike="no")
        node.load(f"[connection *]\ninterface = vti7\nroute = 10.1.0.0/16\naddress = {far}/30\n", configuration({"t": of}))
        ends.append(node)
    text = moved("contrib/strongswan/cloud/swanctl.conf").replace(INSTALLED, f'"{HOOK}"').replace("change this", WORTHLESS)
    text = text.replace("version = 2", "version = 2\n        proposals = aes128gcm16-prfsha256-ecp256")
    text = text.replace("dpd_delay = 10s", "dpd_delay = 2s")
    moon.configure(retransmit_timeout="4", retransmit_tries="2")
    moon.load(
        moved("contrib/strongswan/cloud/vti-updown.conf"), text.replace("local_ts", "esp_proposals = aes128gcm16\n local_ts")
    )
    goes_by(ground, moon, "vti1")
    ends[0].ip("link set eth0 down")
    goes_by(ground, moon, "vti2")
    ends[0].ip("link set eth0 up")
    goes_by(ground, moon, "vti1")
    ends[0].ip("link set vti7 down")
    for _ in range(3):
        moon.hook("probe")
    goes_by(ground, moon, "vti2")
    assert moon.status()["withdrawn"][0]["connection"] == "cloud1"
    ends[0].ip("link set vti7 up", "route replace 10.1.0.0/16 dev vti7")
    moon.hook("probe")
    goes_by(ground, moon, "vti1")
