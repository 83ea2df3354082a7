"""Two tunnels that share a prefix (`multipath = yes`), on a real kernel."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
from pathlib import Path

import pytest

from tests.kernel.calls import Said, fork, ip
from tests.kit.machine import THIRD, Tunnel, call
from updown.model.objects import HOP_GATEWAY

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("modules")]

PREFIXES = {"IPv4": ("10.1.0.0/24", "10.2.0.0/24"), "IPv6": ("fd00:1::/64", "fd00:2::/64")}


class Hub:
    """A gateway with two tunnels to one prefix."""

    def __init__(self, folder: Path, family: str) -> None:
        mine, self.prefix = PREFIXES[family]
        self.six = "-6" if family == "IPv6" else "-4"
        self.folder = folder
        self.a = Tunnel("a", mine=mine, theirs=self.prefix)
        self.b = Tunnel("b", peer=THIRD, mine=mine, theirs=self.prefix, device="vti6", mark_in="6", mark_out="6", reqid=16392)
        (folder / "conf").write_text("[defaults]\nmultipath = yes\n")

    def send(self, tunnel: Tunnel, *verbs: str) -> Said:
        for verb in verbs:
            arguments = ("--state-dir", str(self.folder / "state"), "--config", str(self.folder / "conf"))
            said = fork(*arguments, environment=call(tunnel, verb))
            assert said.status == 0, said
        return said

    def raw(self) -> object:
        return json.loads(ip("-j", self.six, "route", "show", self.prefix) or "[]")

    def hops(self) -> list[tuple[str, str]]:
        """Device and gateway of each hop."""
        found = self.raw()
        assert isinstance(found, list)
        assert len(found) < 2, found
        hops = [hop for route in found for hop in route.get("nexthops", [route])]
        assert {route["protocol"] for route in found} <= {"160"}
        return sorted((hop["dev"], hop.get("gateway", "")) for hop in hops)

    def devices(self) -> set[str]:
        return {device for device, _ in self.hops()}


@pytest.fixture(params=PREFIXES)
def hub(request: pytest.FixtureRequest, tmp_path: Path, namespace: None) -> Hub:  # noqa: ARG001
    ip(batch="link add eth0 type dummy\naddr add 198.51.100.1/24 dev eth0\nlink set eth0 up\n")
    return Hub(tmp_path, request.param)


def test_tunnels_join_leave_and_join_again(hub: Hub) -> None:
    via = HOP_GATEWAY if hub.six == "-6" else ""
    hub.send(hub.a, "prepare", "route", "up")
    assert hub.hops() == [("vti5", "")]
    hub.send(hub.b, "prepare", "route", "up")
    assert hub.hops() == [("vti5", via), ("vti6", via)]
    again = hub.send(hub.b, "up")
    assert not [line for line in again.lines if " route " in line], again
    hub.send(hub.a, "down", "unroute")
    assert hub.hops() == [("vti6", "")]
    hub.send(hub.a, "prepare", "route", "up")
    assert hub.hops() == [("vti5", via), ("vti6", via)]
    hub.send(hub.b, "down", "unroute")
    assert hub.hops() == [("vti5", "")]
    hub.send(hub.a, "down", "unroute")
    assert hub.hops() == []


def test_a_hop_comes_back_with_its_device(hub: Hub) -> None:
    hub.send(hub.a, "prepare", "route", "up")
    hub.send(hub.b, "prepare", "route", "up")
    ip("link", "set", "vti6", "down")
    hub.send(hub.b, "up")
    found = json.dumps(hub.raw())
    assert hub.devices() == {"vti5", "vti6"}
    assert "dead" not in found, found
    ip("link", "del", "vti6")
    hub.send(hub.b, "up")
    assert hub.devices() == {"vti5", "vti6"}
    assert "dead" not in json.dumps(hub.raw())


def test_packets_go_by_both(hub: Hub) -> None:
    """Without an SA the devices count them as errors: so far they came."""
    ip("addr", "add", "2001:db8:0:1::1/64", "dev", "eth0", "nodad")
    hub.send(hub.a, "prepare", "route", "up")
    hub.send(hub.b, "prepare", "route", "up")
    kind = socket.AF_INET6 if hub.six == "-6" else socket.AF_INET
    head = "fd00:2::" if hub.six == "-6" else "10.2.0."
    with socket.socket(kind, socket.SOCK_DGRAM) as out:
        for number in range(1, 65):
            with contextlib.suppress(OSError):
                out.sendto(b"x", (f"{head}{number}", 9))
    for device in ("vti5", "vti6"):
        (link,) = json.loads(ip("-j", "-s", "link", "show", device))
        assert link["stats64"]["tx"]["errors"] > 0, link["stats64"]


def test_a_device_that_follows_its_tunnels_takes_its_hop_along(hub: Hub) -> None:
    (hub.folder / "conf").write_text("[defaults]\nmultipath = yes\nlink = follow\ndelete = never\n")
    hub.send(hub.a, "prepare", "route", "up")
    hub.send(hub.b, "prepare", "route", "up")
    assert hub.devices() == {"vti5", "vti6"}
    hub.send(hub.b, "down")
    assert hub.hops() == [("vti5", "")]
    hub.send(hub.b, "up")
    assert hub.devices() == {"vti5", "vti6"}
    assert "dead" not in json.dumps(hub.raw())


def test_a_hop_outlives_the_last_address_of_its_device(hub: Hub) -> None:
    hub.a = hub.a._replace(shared="yes")
    other = Tunnel("c", theirs="10.4.0.0/24", shared="yes", address="10.99.0.1/30", reqid=16400)
    for tunnel in (hub.a, hub.b, other):
        hub.send(tunnel, "prepare", "route", "up")
    hub.send(other, "down", "unroute")
    assert hub.devices() == {"vti5", "vti6"}
    assert "dead" not in json.dumps(hub.raw())


@pytest.mark.parametrize("name", ["vti5", "vti6"])
def test_a_released_device_has_the_route_alone_and_keeps_it(hub: Hub, name: str) -> None:
    """It is the administrator's then: the other tunnel goes, and takes nothing from it."""
    hub.send(hub.a, "prepare", "route", "up")
    hub.send(hub.b, "prepare", "route", "up")
    said = fork("--state-dir", str(hub.folder / "state"), "release", name, environment={})
    assert said.status == 0, said
    found = hub.raw()
    hub.send(hub.b if name == "vti5" else hub.a, "down", "unroute")
    assert hub.raw() == found
    assert isinstance(found, list)
    assert [(route["dev"], route["protocol"], route.get("nexthops")) for route in found] == [(name, "static", None)]


def test_a_route_by_several_that_nobody_asks_for_is_left_over(hub: Hub) -> None:
    """The ledger was lost, and the devices are others' by now: what is ours on them goes."""
    hub.send(hub.a, "prepare", "route", "up")
    hub.send(hub.b, "prepare", "route", "up")
    for name in ("vti5", "vti6"):
        ip("link", "set", name, "alias", "")
    shutil.rmtree(hub.folder / "state")
    said = fork("--state-dir", str(hub.folder / "state"), "reconcile", environment={})
    assert said.status == 0, said
    assert hub.raw() == []
