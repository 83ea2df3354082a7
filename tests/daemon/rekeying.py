"""Keys replaced again and again, while a ping goes on and the kernel is asked whether anybody touched the device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.daemon.charon import Charon
from tests.daemon.connections import encrypted_ping
from tests.daemon.gateway import Gateway
from tests.daemon.nodes import Ground, Node, wait_for

REKEYING = 120.0  # seconds


@contextmanager
def unchanged(node: Node, device: str) -> Iterator[None]:
    """The kernel tells of no change of the device, its addresses and its routes meanwhile."""
    with node.told(device) as lines:
        yield
    assert lines == [], f"{node.name}: {device} was touched"


class Rekeyed(NamedTuple):
    """How often, how many requests of a ping got no answer meanwhile, and why the kernels dropped packets."""

    children: int
    lost: int
    dropped: dict[str, int]


def rekeyed(ground: Ground, west: Gateway | Charon, east: Gateway | Charon, seconds: float, child: str = "t") -> Rekeyed:
    """Replace child and IKE SA of connection t, from both ends in turn, under a ping; nothing leaves in clear."""
    wait_for(lambda: west.ping("10.2.0.1", "10.1.0.1", count=1), "a tunnel that is up at both ends")
    encrypted_ping(ground, west, "10.2.0.1", "10.1.0.1")
    before = [node.dropped() for node in (west, east)]
    children = 0
    until = time.monotonic() + seconds
    with west.pinging("10.2.0.1", "10.1.0.1") as ping:
        while time.monotonic() < until:
            node = (west, east)[children % 2]
            node.rekey_child(child)
            children += 1
            node.rekey_ike("t")
            assert not ground.wire.seen().clear
    assert children >= 5
    assert len(ping.replies) > seconds
    after = [node.dropped() for node in (west, east)]
    dropped = {name: sum(now[name] - was[name] for was, now in zip(before, after)) for name in after[0]}
    return Rekeyed(children, len(ping.lost), {name: count for name, count in dropped.items() if count})
