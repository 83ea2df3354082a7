"""contrib/systemd at work: a real systemd, the distribution's ipsec.service and our drop-in; pluto killed, hung, stopped."""

from __future__ import annotations

import time

import pytest

from tests.daemon.connections import PERMANENT, WEST, encrypted_ping, without_trace
from tests.daemon.gateway import Gateway
from tests.daemon.managed import Managed
from tests.daemon.nodes import Ground, wait_for
from tests.daemon.words import words
from updown.commands.reconcile.decide import GRACE

pytestmark = pytest.mark.daemon


@pytest.fixture(scope="module")
def node(ground: Ground) -> Managed:
    made = ground.node(Managed, "managed", f"{WEST}/24")
    made.lan("10.1.0.1/24")
    return made


@pytest.fixture
def west(node: Managed, east: Gateway) -> Managed:
    """With the tunnel up."""
    node.start()
    for one in (east, node):
        one.add(t=PERMANENT)
    node.up("t")
    wait_for(lambda: east.routed_into("vti5"), "east's half of the tunnel")
    return node


@pytest.mark.parametrize("signal", ["KILL", "STOP"])
def test_a_pluto_that_was_killed_or_hangs_is_started_again_on_clean_ground(
    ground: Ground, west: Managed, east: Gateway, signal: str
) -> None:
    """One that was stopped is killed by systemd's watchdog. Where the unit flushes IPsec, what it had is gone before the next
    one starts, though the claim is young: whatever was under way was killed with it. Else the next pluto flushes it."""
    before, heard = west.restarts, len(west.logged())
    (claim,) = west.claims()
    west.signal(signal)
    assert time.time() - claim["since"] < GRACE - 20, "too slow a machine to see a young claim"
    wait_for(lambda: west.restarts > before and west.is_active(), "another pluto")
    said = west.logged()[heard:]
    assert "left alone" not in said, said
    if words().flushes:  # the first has something to do, so that the one before the start has not
        assert said.index("ends: pluto is not running") < said.index("# nothing to do"), said
    else:
        assert "ends: pluto has no child SA of it" in said, said
    without_trace(west)
    east.delete("t")
    for one in (east, west):
        one.add(t=PERMANENT)
    west.up("t")
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")


def test_the_unit_stopped_leaves_nothing(west: Managed) -> None:
    west.systemctl("stop", "ipsec")
    without_trace(west)


def test_a_tunnel_left_up_on_purpose_stays_until_the_next_start(ground: Ground, west: Managed) -> None:
    """`ipsec whack --shutdown --leave-state`: systemd neither flushes nor starts it again."""
    device = west.device("vti5")
    west.ipsec("whack", "--shutdown", "--leave-state")
    wait_for(lambda: not west.is_active(), "the end of pluto")
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    assert device
    assert west.device("vti5") == device
    assert [claim["kind"] for claim in west.claims()] == ["sa"]
    west.let_claims_age()
    west.systemctl("start", "ipsec")
    without_trace(west)


def test_the_timers_reconcile_puts_back_what_was_lost(ground: Ground, west: Managed) -> None:
    west.ip("route del 10.2.0.0/24 dev vti5")
    west.systemctl("start", "vti-updown-reconcile")
    assert west.routed_into("vti5") == {"10.2.0.0/24"}
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")


def test_a_described_device_is_there_before_pluto(west: Managed) -> None:
    west.systemctl("stop", "ipsec")
    (west.folder / "settings/vti-updown.conf").write_text(f"[device vti9]\nlocal = {WEST}\nmark = 9\naddress = 10.99.9.1/30\n")
    west.systemctl("start", "vti-updown-make")
    assert west.addresses("vti9") == {"10.99.9.1/30"}
    west.systemctl("start", "ipsec")
    assert west.addresses("vti9") == {"10.99.9.1/30"}
