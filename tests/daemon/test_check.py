"""`check` beside live daemons: what it finds is mended by the very command that it prints, and the tunnel carries again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.daemon.charon import Charon
from tests.daemon.children import IPSEC, MOON, SUN, one_child
from tests.daemon.connections import PERMANENT, encrypted_ping
from tests.daemon.endpoint import OURS, Endpoint
from tests.daemon.gateway import Gateway
from tests.daemon.nodes import PATH, Ground, wait_for

pytestmark = pytest.mark.daemon

ID42 = {"if_id_in": "42", "if_id_out": "42"}


def found(node: Endpoint) -> list[dict[str, Any]]:
    """What `check` finds, but for what was dropped while a test broke things."""
    said = json.loads(node.run(*OURS.split(), "check", "--json", check=False).stdout)
    return [finding for finding in said["findings"] if finding["code"] != "xfrm-stat"]


def only(node: Endpoint) -> dict[str, Any]:
    """The one thing that it finds."""
    (finding,) = found(node)
    return finding


def mend(node: Endpoint, finding: dict[str, Any]) -> None:
    """Run what a finding says as it stands."""
    node.run("env", f"PATH={PATH}", "sh", "-c", finding["mend"])


def test_pluto_has_a_tunnel_up_that_the_kernel_or_the_ledger_lost(ground: Ground, west: Gateway, east: Gateway) -> None:
    west.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    for node in (east, west):
        node.add(t=PERMANENT)
    west.up("t")
    wait_for(lambda: east.routed_into("vti5") == {"10.1.0.0/24"}, "east's half of the tunnel")
    assert found(west) == []
    west.run("ip", "xfrm", "state", "flush")
    finding = only(west)
    assert (finding["code"], finding["subject"]) == ("sa-missing", "t")
    mend(west, finding)
    wait_for(lambda: found(west) == [], "the tunnel anew")
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    west.run("rm", "-rf", "/run/vti-updown")
    finding = only(west)
    assert (finding["code"], finding["subject"]) == ("tunnel-uncounted", "t")
    mend(west, finding)
    wait_for(lambda: found(west) == [], "the tunnel counted")
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")


def test_pluto_calls_another_hook(west: Gateway, east: Gateway) -> None:
    """One that makes no device; the line to write is named."""
    east.add(t=PERMANENT)
    west.add(t={**PERMANENT, "leftupdown": "/bin/true", "rightupdown": "/bin/true"})
    west.up("t")
    finding = only(west)
    assert (finding["code"], finding["subject"]) == ("hook-not-called", "t")
    assert "write leftupdown=/usr/libexec/vti-updown into conn t of ipsec.conf" in finding["mend"]


def test_nobody_names_a_device_for_charon_s_child(ground: Ground, moon: Charon, sun: Charon) -> None:
    """It is up, without a device; the lines that are printed are what was missing."""
    moon.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    sun.load(IPSEC, one_child(SUN, MOON, **ID42))
    moon.load("[defaults]\n", one_child(MOON, SUN, **ID42))
    moon.initiate("net")
    finding = only(moon)
    assert (finding["code"], finding["subject"]) == ("no-interface", "net")
    mend(moon, finding)
    wait_for(lambda: found(moon) == [], "the child, with its device")
    assert moon.routed_into("ipsec42") == {SUN.net}
    encrypted_ping(ground, moon, SUN.host, MOON.host)
    moon.run("ip", "xfrm", "policy", "flush")
    finding = only(moon)
    assert (finding["code"], finding["subject"]) == ("policy-missing", "net")
    mend(moon, finding)
    wait_for(lambda: found(moon) == [], "the child anew")
    encrypted_ping(ground, moon, SUN.host, MOON.host)
