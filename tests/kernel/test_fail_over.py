"""Who lives has the way, on a real kernel: where packets to a prefix of two tunnels go (`ip route get`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from tests.kernel.calls import Said, fork, ip, listening
from tests.kit import field_cases
from tests.kit.machine import Environment

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("modules")]

CASE = "01-failover-metric-revive"
SETTINGS = {
    "a metric each": "[connection *]\nroute = {prefix}\n[connection cloud1]\nmetric = 100\n[connection cloud2]\nmetric = 200\n",
    "one metric": "[connection cloud*]\nroute = {prefix}\n",
    "a hop each": "[connection cloud*]\nroute = {prefix}\nmultipath = yes\n",
    "a wider prefix": "[connection cloud1]\nroute = {prefix}\n[connection cloud2]\nroute = {wider}\nmetric = 7\n",
    "a default route": "[connection cloud1]\nroute = {prefix}\n[connection cloud2]\nroute = default\n",
}
PREFIXES = {"IPv4": ("10.0.0.0/16", "10.0.0.0/8", "10.0.5.5"), "IPv6": ("fd00:5::/32", "fd00::/16", "fd00:5::5")}


class Cloud:
    """A gateway with two tunnels to a cloud; `behind` is an address there."""

    def __init__(self, folder: Path, settings: str, family: str) -> None:
        prefix, wider, self.behind = PREFIXES[family]
        self.folder = folder
        (folder / "conf").write_text(settings.format(prefix=prefix, wider=wider))
        prepare, route, up, *others = field_cases.calls(CASE)
        self.calls = {1: (prepare, route, up), 2: tuple(others[:3])}

    def run(self, *words: str, environment: Environment | None = None) -> Said:
        arguments = ("--state-dir", str(self.folder / "state"), "--config", str(self.folder / "conf"), *words)
        said = fork(*arguments, environment=environment or {})
        assert said.status == 0, said
        return said

    def comes(self, number: int) -> None:
        for environment in self.calls[number]:
            self.run(environment=environment)

    def ends(self, number: int, wish: bool = True) -> Said:
        """Its peer is found dead; with the `wish` pluto brings the tunnel back."""
        last = {**self.calls[number][2], "PLUTO_VERB": "down-client"}
        if not wish:
            last["PLUTO_CONN_POLICY"] = last["PLUTO_CONN_POLICY"].replace("+UP", "")
        return self.run(environment=last)

    def way(self) -> str:
        """The device by which a packet leaves."""
        found = json.loads(ip("-j", "route", "get", self.behind))
        return str(found[0]["dev"])

    def routes(self) -> set[str]:
        """The devices of our routes."""
        found: set[str] = set()
        for family in ("-4", "-6"):
            for route in json.loads(ip("-j", "-N", family, "route", "show", "proto", "160") or "[]"):
                found |= {hop["dev"] for hop in route.get("nexthops", [route])}
        return found - {"eth0"}


Make = Callable[[str, str], Cloud]


@pytest.fixture
def cloud(tmp_path: Path, namespace: None) -> Iterator[Make]:  # noqa: ARG001
    ip(batch="link add eth0 type dummy\nlink set eth0 up\naddr add 198.51.100.1/24 dev eth0\n")
    ip("addr", "add", "2001:db8::1/64", "dev", "eth0", "nodad")
    ip("route", "add", "default", "via", "198.51.100.254")
    ip("-6", "route", "add", "default", "via", "2001:db8::fe")
    yield lambda settings, family: Cloud(tmp_path, settings, family)


@pytest.mark.parametrize("family", PREFIXES)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_packets_go_by_the_tunnel_that_lives(cloud: Make, settings: str, family: str) -> None:
    one = cloud(settings, family)
    one.comes(1)
    one.comes(2)
    before = one.routes()
    one.ends(1)
    assert (one.way(), one.routes()) == ("vti2", {"vti2"})
    with listening() as is_changed:
        one.ends(1)
        assert not is_changed()
    one.comes(1)
    assert one.routes() == before
    one.ends(2)
    assert one.way() == "vti1"  # what only the wider prefix of the other is for stays with that
    one.ends(1)
    assert one.routes() == before, "nothing leaves in clear where both wait"
    one.comes(2)
    assert one.way() == "vti2"


@pytest.mark.parametrize("family", PREFIXES)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_the_waiting_one_has_the_way_again_when_the_living_one_goes(cloud: Make, settings: str, family: str) -> None:
    one = cloud(settings, family)
    one.comes(1)
    one.comes(2)
    one.ends(1)
    said = one.ends(2, wish=False)
    assert (one.way(), one.routes()) == ("vti1", {"vti1"}), said


def test_reconcile_and_status_say_the_same(cloud: Make) -> None:
    one = cloud(SETTINGS["a metric each"], "IPv4")
    one.comes(1)
    one.comes(2)
    one.ends(1)
    status = one.run("status")
    assert (
        "# 10.0.0.0/16 metric 100 of cloud1 (vti1) is withdrawn: cloud1 waits for its peer; cloud2 on vti2 lives"
        in status.lines
    )
    ip("route", "add", "10.0.0.0/16", "dev", "vti1", "proto", "160", "metric", "100")
    said = one.run(environment=one.calls[2][2])
    assert [line.rpartition(": ")[2] for line in said.lines] == ["ip route del 10.0.0.0/16 dev vti1 proto 160 metric 100"]
    assert one.way() == "vti2"
