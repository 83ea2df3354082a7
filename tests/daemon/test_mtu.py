"""`mtu = auto` with a live pluto: what it negotiates is what is counted."""

from __future__ import annotations

import pytest

from tests.daemon.connections import ENDS6, NETS, PERMANENT, VTI5, without_trace
from tests.daemon.edge import is_edge
from tests.daemon.endpoint import OURS
from tests.daemon.gateway import HOOK, Gateway
from tests.daemon.nodes import Ground, wait_for

pytestmark = pytest.mark.daemon

GCM = {"esp": "aes_gcm128-null"}
CBC = {"esp": "aes256-sha2_256"}
IN_UDP = {"encapsulation": "yes"}
TUNNELS = {
    "gcm": ({**PERMANENT, **GCM}, 1446),  # 1500 - 20 - 8 - 8 - 16 - 2
    "gcm in UDP": ({**PERMANENT, **GCM, **IN_UDP}, 1438),
    "cbc, sha256-128": ({**PERMANENT, **CBC}, 1438),  # 1500 - 20 - 8 - 16 - 16 = 1440, less 2
    "cbc in UDP": ({**PERMANENT, **CBC, **IN_UDP}, 1422),  # 1432, down to 1424, less 2
    "gcm over IPv6": ({**ENDS6, **NETS, **VTI5, **GCM}, 1426),
}


EACH_TIME = ("cbc in UDP",)  # and over IPv6 in kernel/test_mtu.py


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in EACH_TIME else [pytest.mark.slow]) for name in TUNNELS]
)
def test_auto_gives_the_edge(ground: Ground, west: Gateway, east: Gateway, name: str) -> None:
    """At both ends; rekeying changes nothing."""
    options, mtu = TUNNELS[name]
    for node in (east, west):
        config = node.folder / "vti-updown.conf"
        config.write_text("[connection t]\nmtu = auto\n")
        hook = f"{HOOK} --config {config}"
        node.add(t={**options, "leftupdown": hook, "rightupdown": hook})
    west.up("t")
    wait_for(lambda: east.routed_into("vti5") == {"10.1.0.0/24"}, "east's half of the tunnel")
    assert [node.links()["vti5"]["mtu"] for node in (west, east)] == [mtu, mtu]
    is_edge(ground, west, "10.2.0.1", mtu, source="10.1.0.1")
    is_edge(ground, east, "10.1.0.1", mtu, source="10.2.0.1")
    began = len(west.logged())
    west.rekey_child("t")
    west.up("t")
    assert west.hook_lines(began) == []
    is_edge(ground, west, "10.2.0.1", mtu, source="10.1.0.1")
    for node in (west, east):
        node.delete("t")
        without_trace(node)


def test_reconcile_counts_anew_where_the_underlay_became_narrower(ground: Ground, west: Gateway, east: Gateway) -> None:
    """No daemon tells of it; `check` does."""
    for node in (east, west):
        config = node.folder / "vti-updown.conf"
        config.write_text("[connection t]\nmtu = auto\n")
        hook = f"{HOOK} --config {config}"
        node.add(t={**PERMANENT, **GCM, "leftupdown": hook, "rightupdown": hook})
    west.up("t")
    wait_for(lambda: east.routed_into("vti5") == {"10.1.0.0/24"}, "east's half of the tunnel")
    west.ip("link set eth0 mtu 1400")
    try:
        told = west.run(*OURS.split(), "check", check=False)
        assert (told.returncode, "vti5 has mtu 1446, wanted 1346" in told.stdout) == (5, True), told.stdout + told.stderr
        assert west.reconcile()[0] == "# t: mtu vti5: eth0 1400 - IPv4 20 - ESP 8 - IV 8 - ICV 16 - trailer 2 = 1346"
        assert west.links()["vti5"]["mtu"] == 1346
        is_edge(ground, west, "10.2.0.1", 1346, source="10.1.0.1")
        assert west.reconcile() == ["# nothing to do"]
    finally:
        west.ip("link set eth0 mtu 1500")
    assert any("= 1446" in line for line in west.reconcile())
    assert west.links()["vti5"]["mtu"] == 1446
