"""reconcile beside a real pluto: killed, stopped, restarted, silent, or simply up."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.daemon.connections import EAST, PERMANENT, WEST, encrypted_ping, without_trace
from tests.daemon.gateway import Gateway
from tests.daemon.nodes import Ground, wait_for

pytestmark = pytest.mark.daemon

THIRD = "198.51.100.77"
SWAPPED = {
    "leftsubnet": "10.2.0.0/24",
    "rightsubnet": "10.1.0.0/24",
    "leftid": "@east",
    "rightid": "@west",
    "leftvti": "10.99.0.2/30",
    "rightvti": "10.99.0.1/30",
}
NOTHING = ["# nothing to do"]


@pytest.fixture
def tunnel(west: Gateway, east: Gateway) -> None:
    """The tunnel, up."""
    for node in (east, west):
        node.add(t=PERMANENT)
    west.up("t")
    wait_for(lambda: east.routed_into("vti5") == {"10.1.0.0/24"}, "east's half of the tunnel")


def everything(node: Gateway) -> tuple[Any, ...]:
    return node.device("vti5"), node.addresses("vti5"), node.routes("table", "all", "dev", "vti5"), node.claims()


def reconcile(node: Gateway, *words: str, status: int = 0) -> list[str]:
    return node.reconcile(*words, status=status)


def flush(node: Gateway) -> None:
    """What ipsec.service does when pluto ended otherwise than with --leave-state (its ExecStopPost)."""
    node.run("ip", "xfrm", "policy", "flush")
    node.run("ip", "xfrm", "state", "flush")


def left_over(node: Gateway) -> None:
    """A device as a hook leaves it that was killed, and whose ledger is lost."""
    node.ip(
        f"link add vti8 type vti local {WEST if node.name == 'west' else EAST} remote {THIRD} key 8",
        "link set vti8 up alias vti-updown",
        "route add 10.8.0.0/24 dev vti8 proto 160",
    )


@pytest.mark.usefixtures("tunnel")
def test_a_tunnel_that_is_up_is_left_as_it_is(ground: Ground, west: Gateway, east: Gateway) -> None:
    for node in (west, east):
        before = everything(node)
        assert reconcile(node) == NOTHING
        assert everything(node) == before
    west.rekey_child("t")
    assert reconcile(west) == NOTHING
    west.rekey_ike("t")
    assert reconcile(west) == NOTHING
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")


@pytest.mark.usefixtures("tunnel")
def test_what_was_lost_behind_our_back_is_put_back(ground: Ground, west: Gateway) -> None:
    before = everything(west)
    west.run("ip", "route", "del", "10.2.0.0/24")
    assert not west.ping("10.2.0.1", "10.1.0.1", count=1)
    reconcile(west)
    assert everything(west) == before
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    west.run("ip", "link", "set", "vti5", "down")
    reconcile(west)
    assert everything(west) == before
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    west.run("ip", "link", "del", "vti5")
    said = reconcile(west)
    assert [line for line in said if line.startswith("ip link add vti5")]
    assert everything(west) == before
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    assert reconcile(west) == NOTHING


def test_on_demand_is_left_as_it_is(west: Gateway, east: Gateway) -> None:
    for node in (east, west):
        node.add(t=PERMANENT)
    west.order("route", "t")
    assert [claim["kind"] for claim in west.claims()] == ["trap"]
    before = everything(west)
    assert reconcile(west) == NOTHING
    assert everything(west) == before
    west.run("ip", "route", "del", "10.2.0.0/24")
    reconcile(west)
    assert everything(west) == before


@pytest.mark.slow
def test_a_template_s_instance_is_known_by_its_reqid(ground: Ground, west: Gateway, east: Gateway) -> None:
    """After a rekey nothing else of it is what the claim knows, and the template has the same name."""
    west.add(t={**PERMANENT, "right": "%any", "rightid": "@east", "leftid": "@west"})
    east.add(t={**PERMANENT, "left": EAST, "right": WEST, **SWAPPED})
    east.up("t")
    wait_for(lambda: west.routed_into("vti5") == {"10.2.0.0/24"}, "west's half of the tunnel")
    before = everything(west)
    east.rekey_child("t")
    assert reconcile(west) == NOTHING
    assert everything(west) == before
    west.run("ip", "route", "del", "10.2.0.0/24")
    reconcile(west)
    assert everything(west) == before
    encrypted_ping(ground, east, "10.1.0.1", "10.2.0.1")


@pytest.mark.slow
@pytest.mark.usefixtures("tunnel")
def test_after_sigkill_the_kernel_decides_and_before_a_start_what_it_lost_goes(west: Gateway) -> None:
    left_over(west)
    west.kill()
    before = everything(west)
    said = reconcile(west)
    assert said[-1] == "# pluto is not running here: the kernel's IPsec policies and states decide"
    assert "ip link del vti8" in said
    assert everything(west) == before
    flush(west)
    said = reconcile(west, "--before-start", "--dry-run")
    assert everything(west) == before
    assert said == reconcile(west, "--before-start")
    assert "pluto is not running, and the kernel has no IPsec" in said[0]
    without_trace(west)
    assert west.device("vti8") is None


@pytest.mark.usefixtures("tunnel")
def test_a_pluto_that_was_killed_and_started_knows_nothing_of_its_tunnels(ground: Ground, west: Gateway) -> None:
    """It flushes the kernel's states and policies itself, and says so when it is asked: no grace for an earlier one's."""
    west.let_claims_age()
    west.kill()
    west.start()
    said = reconcile(west)
    assert said[0].endswith("ends: pluto has no child SA of it")
    without_trace(west)
    west.add(t=PERMANENT)
    west.up("t")
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")


@pytest.mark.usefixtures("tunnel")
def test_leave_state_keeps_the_tunnel(ground: Ground, west: Gateway) -> None:
    before = everything(west)
    west.run("/usr/libexec/ipsec/whack", "--shutdown", "--leave-state", check=False)
    wait_for(lambda: west.run("test", "-e", "/run/pluto/pluto.ctl", check=False).returncode, "the end of pluto")
    assert reconcile(west, "--before-start")[-1].startswith("# pluto is not running here")
    assert everything(west) == before
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")


@pytest.fixture
def stopped(west: Gateway) -> Iterator[int]:
    """West's pluto does nothing, by its pid file."""
    pid = int(west.run("cat", "/run/pluto/pluto.pid").stdout)
    os.kill(pid, signal.SIGSTOP)
    yield pid
    os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
@pytest.mark.usefixtures("tunnel", "stopped")
def test_a_silent_pluto_is_not_waited_for_and_nothing_is_guessed(ground: Ground, west: Gateway) -> None:
    before = everything(west)
    west.run("ip", "route", "del", "10.2.0.0/24")
    began = time.monotonic()
    said = reconcile(west, "--before-start", status=1)
    assert time.monotonic() - began < 15
    assert any("pluto runs but says nothing" in line for line in said)
    assert everything(west) == before
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")


@pytest.mark.slow
@pytest.mark.usefixtures("tunnel")
def test_a_device_another_script_left_is_adopted_and_goes_with_its_tunnel(west: Gateway, east: Gateway) -> None:
    west.hook("release", "vti5")
    west.down("t")
    assert west.device("vti5") is not None
    assert west.routed_into("vti5") == {"10.2.0.0/24"}
    west.up("t")
    west.hook("adopt", "vti5")
    west.down("t")
    assert west.device("vti5") is None
    del east
