"""A server whose clients come and go at random, are rekeyed and killed."""

from __future__ import annotations

import random
from functools import partial

import pytest

from tests.daemon.connections import VTI5, encrypted_ping, without_trace
from tests.daemon.gateway import HOOK, Gateway
from tests.daemon.nodes import Ground, wait_for
from tests.daemon.words import words

pytestmark = pytest.mark.daemon

SEED = 20261121
HUB = {
    **VTI5,
    "left": "198.51.100.8",
    "leftid": "@hub",
    "right": "%any",
    "leftsubnet": "10.1.0.0/24",
    "rightsubnet": "10.0.0.0/8",
    "narrowing": "yes",
}


@pytest.fixture(scope="module")
def hub(ground: Ground) -> Gateway:
    node = ground.node(Gateway, "hub", "198.51.100.8/24")
    node.lan("10.1.0.1/24")
    node.start()
    return node


@pytest.fixture(scope="module")
def clients(ground: Ground) -> list[Gateway]:
    made = []
    for number in (1, 2, 3):
        node = ground.node(Gateway, f"client{number}", f"198.51.100.1{number}/24")
        node.lan(f"10.1{number}.0.1/24")
        node.start()
        made.append(node)
    return made


def load(client: Gateway, number: int) -> None:
    ends = {"left": f"198.51.100.1{number}", "leftid": f"@client{number}", "right": "198.51.100.8", "rightid": "@hub"}
    nets = {"leftsubnet": f"10.1{number}.0.0/24", "rightsubnet": "10.1.0.0/24", "narrowing": "yes"}
    client.add(t={**VTI5, **ends, **nets})


@pytest.mark.parametrize("events", [30, pytest.param(100, marks=pytest.mark.slow)])
def test_three_clients_that_come_and_go_at_random(ground: Ground, hub: Gateway, clients: list[Gateway], events: int) -> None:
    """After each event the hub has exactly the live clients' routes; with delete = last its device while there is one."""
    config = hub.folder / "vti-updown.conf"
    config.write_text("[defaults]\ndelete = last\n")
    hub.add(t={**HUB, "leftupdown": f"{HOOK} --config {config}"})
    for number, client in enumerate(clients, 1):
        load(client, number)
    chosen = random.Random(SEED)
    things = ("down", "down", "rekey child", "rekey ike", "killed") if words().keeps_narrowed else ("down", "rekey ike")
    live: set[int] = set()
    story = []
    for _ in range(events):
        number = chosen.choice((1, 2, 3))
        what = chosen.choice(things) if number in live else "up"
        story.append(f"client{number} {what}")
        act(clients[number - 1], number, what)
        live = live - {number} if what == "down" else live | {number}
        routes = {f"10.1{one}.0.0/24" for one in live}
        wait_for(partial(holds, hub, routes), f"{routes}: {story}")
        assert not ground.wire.seen().clear, story
    for number in live:
        encrypted_ping(ground, clients[number - 1], "10.1.0.1", f"10.1{number}.0.1")
        clients[number - 1].down("t")
    wait_for(lambda: hub.device("vti5") is None, "the hub without its device")
    without_trace(hub)


def holds(hub: Gateway, routes: set[str]) -> bool:
    """Exactly these routes, the device only if there are any, and a claim for each."""
    there = hub.device("vti5") is not None
    return hub.routed_into("vti5") == routes and there == bool(routes) and len(hub.claims()) == len(routes)


def act(client: Gateway, number: int, what: str) -> None:
    if what == "up":
        client.up("t")
    elif what == "down":
        client.down("t")
    elif what == "rekey child":
        client.rekey_child("t")
    elif what == "rekey ike":
        client.rekey_ike("t")
    else:  # the hub is told by the client's next tunnel alone
        client.kill()
        client.start()
        load(client, number)
        client.up("t")
