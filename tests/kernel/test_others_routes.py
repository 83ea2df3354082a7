"""Somebody else's routes to a tunnel's network, and pluto's own device host to host, on a real kernel."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.calls import Said, fork, ip
from tests.kit import field_cases
from tests.kit.machine import EAST, EAST6, WEST6, Environment, Tunnel, establish, withdraw

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("modules")]

T = Tunnel()
SIX = Tunnel(me=WEST6, peer=EAST6, mine="fd00:1::/64", theirs="fd00:2::/64")
GATEWAY, GATEWAY6 = "198.51.100.254", "2001:db8:0:1::fe"


class Node:
    """A machine with an uplink, and calls of the hook on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "vti-updown.conf"
        self.config.write_text("")

    def does(self, *words: str, environment: Environment | None = None) -> Said:
        arguments = ("--state-dir", str(self.folder / "state"), "--config", str(self.config), *words)
        return fork(*arguments, environment=environment or {"PATH": os.environ["PATH"]})

    def send(self, *environments: Environment) -> str:
        """Everything that the hook says, in one line."""
        said = [self.does(environment=environment) for environment in environments]
        assert {one.status for one in said} == {0}
        return " ".join(line.removeprefix("vti-updown: t:") for one in said for line in one.lines)

    def way(self, address: str, *more: str) -> str:
        (found,) = json.loads(ip("-j", "route", "get", address, *more))
        return str(found["dev"])

    def picture(self) -> Any:
        """Every route and rule, and the devices."""
        shown = [json.loads(ip("-j", "-N", six, *words)) for six in ("-4", "-6") for words in (ROUTES, ("rule", "show"))]
        return [sorted(json.dumps(one, sort_keys=True) for one in each) for each in shown]


ROUTES = ("route", "show", "table", "all")


@pytest.fixture
def node(tmp_path: Path, namespace: None) -> Iterator[Node]:  # noqa: ARG001
    ip(batch="link add eth0 type dummy\naddr add 198.51.100.1/24 dev eth0\nlink set eth0 up\n")
    ip(batch=f"addr add {WEST6}/64 dev eth0 nodad\nroute add default via {GATEWAY}\nroute add default via {GATEWAY6}\n")
    yield Node(tmp_path)


PASSED: dict[str, tuple[Tunnel, str, str]] = {
    "no metric": (T, f"10.2.0.0/24 via {GATEWAY}", "10.2.0.200"),
    "a metric of ours": (T._replace(metric="10"), f"10.2.0.0/24 via {GATEWAY}", "10.2.0.1"),
    "on-link": (T, "10.2.0.0/24 dev eth0", "10.2.0.1"),
    "a black hole": (T, "blackhole 10.2.0.0/24", "10.2.0.1"),
    "one address": (T._replace(theirs="10.2.0.9/32"), f"10.2.0.9/32 via {GATEWAY}", "10.2.0.9"),
    "two addresses": (T._replace(theirs="10.2.0.8/31"), f"10.2.0.8/31 via {GATEWAY}", "10.2.0.9"),
    "IPv6": (SIX, f"fd00:2::/64 via {GATEWAY6}", "fd00:2::1"),
    "IPv6, a better metric": (SIX, f"fd00:2::/64 via {GATEWAY6} metric 7", "fd00:2::1"),
    "IPv6, one address": (SIX._replace(theirs="fd00:2::9/128"), f"fd00:2::9/128 via {GATEWAY6}", "fd00:2::9"),
}


@pytest.mark.parametrize("case", PASSED)
def test_ours_goes_before_it_and_it_counts_again_when_ours_goes(node: Node, case: str) -> None:
    tunnel, theirs, address = PASSED[case]
    ip("route", "add", *theirs.split())
    before = node.picture()
    said = node.send(*establish(tunnel))
    assert f"{tunnel.theirs} has a route" in said
    assert "warning" not in said
    assert node.way(address) == "vti5"
    assert node.send(*establish(tunnel)) == ""
    assert "way" not in {finding["kind"] for finding in json.loads(node.does("check", "--json").lines[0])["findings"]}
    node.send(*withdraw(tunnel))
    assert node.picture() == before


LEAVES: dict[str, tuple[Tunnel, str, str]] = {
    "the metrics say so": (T._replace(metric="10"), f"route add 10.2.0.0/24 via {GATEWAY} metric 5", "10.2.0.1"),
    "a device's own network": (T, "addr add 10.2.0.254/24 dev eth0", "10.2.0.1"),
    "a rule": (T, f"route add 10.0.0.0/8 via {GATEWAY} table 77\nrule add lookup 77 priority 500", "10.2.0.1"),
    "IPv6, the metrics say so": (SIX._replace(metric="2000"), f"route add fd00:2::/64 via {GATEWAY6}", "fd00:2::1"),
}


@pytest.mark.parametrize("case", LEAVES)
def test_what_leaves_outside_is_told_by_the_event_and_by_check(node: Node, case: str) -> None:
    tunnel, theirs, address = LEAVES[case]
    ip(batch=f"{theirs}\n")
    before = node.picture()
    said = node.send(*establish(tunnel))
    assert f"warning: packets to {tunnel.theirs} leave outside of vti5, in clear" in " ".join(said.split())
    assert node.way(address) == "eth0"
    (found,) = [one for one in json.loads(node.does("check", "--json").lines[0])["findings"] if one["code"] == "route-not-ours"]
    assert found["text"].startswith(f"packets to {tunnel.theirs} leave outside of vti5, in clear")
    node.send(*withdraw(tunnel))
    assert node.picture() == before


@pytest.mark.parametrize("file", ["vti-updown.conf", "with-metric.conf"])
def test_the_case_from_the_field_goes_into_the_tunnel(node: Node, file: str) -> None:
    node.config.write_text(field_cases.settings("16-foreign-route-metric-0", file))
    ip(batch=f"addr add {EAST}/24 dev eth0\nroute add 10.1.0.0/24 via {GATEWAY}\n")
    node.send(*field_cases.calls("16-foreign-route-metric-0"))
    assert node.way("10.1.0.1") == "vti5"


def test_two_tunnels_one_after_the_other_stand_before_it(node: Node) -> None:
    second = Tunnel("u", peer="198.51.100.3", device="vti6", mark_in="6", mark_out="6", reqid=16392)
    for theirs in ("10.2.0.0/24", "10.2.0.9/32"):
        ip("route", "add", theirs, "via", GATEWAY)
        before = node.picture()
        first, then = T._replace(theirs=theirs), second._replace(theirs=theirs)
        node.send(*establish(first), *establish(then))
        assert node.way("10.2.0.9") == "vti5"
        node.send(*withdraw(first))
        assert node.way("10.2.0.9") == "vti6"
        node.send(*withdraw(then))
        assert node.picture() == before
        ip("route", "del", theirs)


def test_what_a_dhcp_client_puts_in_its_place_reconcile_passes(node: Node) -> None:
    node.send(*establish(T))
    ip("route", "replace", "10.2.0.0/24", "via", GATEWAY)
    assert node.way("10.2.0.1") == "eth0"
    node.send(*establish(T))
    assert node.way("10.2.0.1") == "vti5"


MARKED = ("mark", "16384")


def test_plutos_peer_goes_into_its_device_and_what_it_marks_past_it(node: Node) -> None:
    ip(batch="link add ipsec0 type xfrm if_id 16384\nlink set ipsec0 up\n")
    before = node.picture()
    (environment,) = field_cases.calls("17-host-to-host-ipsec-interface")
    node.send(environment)
    assert (node.way(EAST), node.way(EAST, *MARKED)) == ("ipsec0", "eth0")
    assert node.send(environment) == ""
    six = {**environment, "PLUTO_CONNECTION": "six", "PLUTO_ME": WEST6, "PLUTO_PEER": EAST6, "PLUTO_CLIENT_FAMILY": "ipv6"}
    six.update(PLUTO_MY_CLIENT=f"{WEST6}/128", PLUTO_PEER_CLIENT=f"{EAST6}/128", PLUTO_VERB="up-host-v6")
    node.send(six)
    assert (node.way(EAST6), node.way(EAST6, *MARKED)) == ("ipsec0", "eth0")
    for one, suffix in ((environment, "host"), (six, "host-v6")):
        plain = one["PLUTO_CONN_POLICY"].removesuffix("+UP")
        node.send(*({**one, "PLUTO_VERB": f"{verb}-{suffix}", "PLUTO_CONN_POLICY": plain} for verb in ("down", "unroute")))
    assert node.picture() == before


def test_a_second_connection_goes_with_the_shutdown_of_5_2(node: Node) -> None:
    before = node.picture()
    node.send(*field_cases.calls("18-unroute-at-shutdown-5.2"))
    assert node.picture() == before
    assert "vti5" not in ip("link", "show")


def test_a_device_that_was_moved_is_named_and_comes_back_by_the_mend(node: Node) -> None:
    red = f"red-{os.getpid()}"
    ip("netns", "add", red)
    try:
        node.send(*establish(T))
        ip("link", "set", "vti5", "netns", red)
        (found,) = json.loads(node.does("check", "--json").lines[0])["findings"]
        assert (found["code"], found["subject"]) == ("device-moved", "vti5")
        assert found["mend"].startswith(f"ip -n {red} link del vti5; vti-updown reconcile")
        refused = node.does(environment=establish(T)[-1])
        assert refused.status == 3
        assert f"moved into the network namespace {red}" in " ".join(refused.lines)
        ip("-n", red, "link", "del", "vti5")
        node.send(*establish(T))
        assert node.way("10.2.0.1") == "vti5"
    finally:
        ip("netns", "del", red)
