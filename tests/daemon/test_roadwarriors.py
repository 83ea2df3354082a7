"""A server whose clients come from anywhere and share its one device; and what a client of its makes."""

from __future__ import annotations

from typing import Callable

import pytest

from tests.daemon.connections import VTI5, WEST, encrypted_ping, without_trace
from tests.daemon.gateway import Gateway
from tests.daemon.nodes import Ground, wait_for
from tests.daemon.words import words

pytestmark = pytest.mark.daemon

HUB = {**VTI5, "left": WEST, "leftid": "@hub", "right": "%any", "leftsubnet": "10.1.0.0/24", "narrowing": "yes"}
NARROWED = {**HUB, "rightsubnet": "10.0.0.0/8"}
LEASING = {**HUB, "rightaddresspool": "10.77.0.10-10.77.0.20", "modecfgdns": "10.1.0.53"}
ANYONE = {"kind": "vti", "local": WEST, "remote": "any", "ikey": 5, "okey": 5, "up": True}
Client = Callable[[int], Gateway]


@pytest.fixture(scope="module")
def hub(ground: Ground) -> Gateway:
    node = ground.node(Gateway, "hub", f"{WEST}/24")
    node.lan("10.1.0.1/24")
    node.start()
    return node


@pytest.fixture(scope="module")
def clients(ground: Ground) -> list[Gateway]:
    made = []
    for number in (1, 2):
        node = ground.node(Gateway, f"client{number}", f"198.51.100.1{number}/24")
        node.lan(f"10.1{number}.0.1/24")
        node.start()
        made.append(node)
    return made


def load_clients(clients: list[Gateway], **options: str) -> None:
    for number, node in enumerate(clients, 1):
        ends = {"left": f"198.51.100.1{number}", "leftid": f"@client{number}", "right": WEST, "rightid": "@hub"}
        nets = {"leftsubnet": f"10.1{number}.0.0/24", "rightsubnet": "10.1.0.0/24", "narrowing": "yes"}
        node.add(t={**VTI5, **ends, **nets, **options})


def test_a_device_for_all_and_a_route_for_each(ground: Ground, hub: Gateway, clients: list[Gateway]) -> None:
    """Without vti-shared: it stays when the last client has gone, as libreswan's rule has it."""
    first, second = clients
    hub.add(t=NARROWED)
    load_clients(clients)
    assert hub.device("vti5") is None
    first.up("t")
    assert hub.device("vti5") == ANYONE
    assert hub.routed_into("vti5") == {"10.11.0.0/24"}
    second.up("t")
    assert hub.device("vti5") == ANYONE
    assert hub.routed_into("vti5") == {"10.11.0.0/24", "10.12.0.0/24"}
    encrypted_ping(ground, first, "10.1.0.1", "10.11.0.1")
    encrypted_ping(ground, second, "10.1.0.1", "10.12.0.1")
    encrypted_ping(ground, hub, "10.12.0.1", "10.1.0.1")
    if words().keeps_narrowed:
        first.rekey_child("t")
    first.down("t")
    wait_for(lambda: hub.routed_into("vti5") == {"10.12.0.0/24"}, "the first client's route gone, the second's there")
    encrypted_ping(ground, second, "10.1.0.1", "10.12.0.1")
    first.up("t")
    encrypted_ping(ground, first, "10.1.0.1", "10.11.0.1")
    for client in clients:
        client.delete("t")
        without_trace(client)
    wait_for(lambda: hub.routed_into("vti5") == set(), "no client's route left")
    hub.delete("t")
    assert hub.device("vti5") == ANYONE
    assert hub.our_routes() == []
    assert hub.claims() == []


def test_a_device_made_beforehand_is_used_and_never_deleted(ground: Ground, hub: Gateway, clients: list[Gateway]) -> None:
    first, second = clients
    hub.ip(f"link add vti5 type vti local {WEST} remote 0.0.0.0 key 5", "link set vti5 mtu 1400 up")
    before = hub.links()["vti5"]
    hub.add(t=NARROWED)
    load_clients(clients)
    first.up("t")
    second.up("t")
    assert hub.routed_into("vti5") == {"10.11.0.0/24", "10.12.0.0/24"}
    encrypted_ping(ground, first, "10.1.0.1", "10.11.0.1")
    encrypted_ping(ground, second, "10.1.0.1", "10.12.0.1")
    for client in clients:
        client.delete("t")
    wait_for(lambda: hub.routed_into("vti5") == set(), "no client's route left")
    hub.delete("t")
    assert hub.links()["vti5"] == before
    assert hub.our_routes() == []
    assert hub.claims() == []


def test_leased_addresses(ground: Ground, hub: Gateway, clients: list[Gateway]) -> None:
    """A client puts the address it is given on its device for as long as the tunnel lives."""
    hub.add(t=LEASING)
    load_clients(clients, leftsubnet="0.0.0.0/0", leftmodecfgclient="yes")
    leases = []
    for client in clients:
        client.up("t")
        (lease,) = client.addresses("vti5")
        leases.append(lease.partition("/")[0])
        assert client.way_to("10.1.0.1")["dev"] == "vti5"
        assert client.way_to("10.1.0.1")["prefsrc"] == leases[-1]
        encrypted_ping(ground, client, "10.1.0.1", "")
    assert leases == ["10.77.0.10", "10.77.0.11"]
    assert hub.device("vti5") == ANYONE
    assert hub.routed_into("vti5") == set(leases)
    for client in clients:
        client.delete("t")
        without_trace(client)
    wait_for(lambda: hub.routed_into("vti5") == set(), "no client's route left")
